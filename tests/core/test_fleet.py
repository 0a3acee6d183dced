"""Between processes: who starts when, whose end ends the app, and with which exit code."""

from __future__ import annotations

import pytest
from support.fleet_driver import (
    HEALTH,
    SIGKILL,
    SIGTERM,
    App,
    announced,
    completed,
    following,
    healthy,
    process,
    signals,
    spawns,
    without_words,
)

from procreaper.core import fleet
from procreaper.core.events import (
    Action,
    CancelPreparation,
    ChildExited,
    Event,
    Exit,
    GroupEnded,
    Restart,
    SendSignal,
    Shutdown,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    StartHook,
    State,
    Stop,
)
from procreaper.core.fleet import LAUNCHES_AT_ONCE, LEFT_SOMETHING_BEHIND
from procreaper.core.lifecycle import OUT_OF_REACH_AFTER
from procreaper.core.plan import Dependency, Hooks, Process, Watch, When
from procreaper.core.state import Phase

INT, TERM = 130, 143


class TestStarting:
    def test_before_anything_is_asked_nothing_runs(self) -> None:
        app = App(process("db"), process("web"))
        assert list(app.fleet.members) == ["db", "web"]
        assert [process_state.state for process_state in app.fleet.members.values()] == [State.STOPPED, State.STOPPED]
        assert fleet.deadline(app.fleet) is None
        assert app.fleet.finished, "what nobody wants keeps no app"

    def test_launches_follow_the_order_of_the_plan_and_not_of_the_request(self) -> None:
        app = App(process("db"), process("web"), process("mail"))
        assert spawns(app.tell(Start(("mail", "web", "db")))) == ["db", "web", "mail"]

    def test_only_the_named_ones_start(self) -> None:
        app = App(process("db"), process("web"), process("mail"))
        assert spawns(app.tell(Start(("web",)))) == ["web"]

    def test_only_a_few_launches_are_under_way_at_once(self) -> None:
        names = tuple(f"web.{number}" for number in range(1, LAUNCHES_AT_ONCE + 4))
        app = App(*map(process, names))
        assert spawns(app.tell(Start(names))) == list(names[:LAUNCHES_AT_ONCE])
        assert app.state(names[-1]) is State.PENDING
        later = [*spawns(app.spawned("web.2")), *spawns(app.spawned("web.1")), *spawns(app.spawned("web.4"))]
        assert later == list(names[LAUNCHES_AT_ONCE:])
        assert spawns(app.spawned("web.3")) == []

    def test_a_failed_spawn_makes_room_for_the_next_launch(self) -> None:
        names = tuple(f"web.{number}" for number in range(1, LAUNCHES_AT_ONCE + 2))
        app = App(*(process(name, stop_all=When.NEVER) for name in names))
        app.tell(Start(names))
        assert spawns(app.tell(SpawnFailed("web.1", 1, "no such file", 127, permanent=True))) == [names[-1]]

    def test_a_child_that_is_asked_to_end_while_it_is_spawned_still_takes_up_room(self) -> None:
        names = tuple(f"web.{number}" for number in range(1, LAUNCHES_AT_ONCE + 2))
        app = App(*map(process, names))
        app.tell(Start(names))
        assert app.tell(Stop(("web.1",))) == ()
        assert [type(action) for action in app.spawned("web.1")] == [SendSignal, Spawn]

    def test_stop_of_a_process_that_waits_for_its_launch_means_that_it_never_starts(self) -> None:
        names = tuple(f"web.{number}" for number in range(1, LAUNCHES_AT_ONCE + 2))
        app = App(*map(process, names))
        app.tell(Start(names))
        assert app.tell(Stop((names[-1],))) == ()
        assert all(app.spawned(name) == () for name in names[:-1])
        assert app.state(names[-1]) is State.STOPPED

    def test_retries_that_are_due_together_are_launched_in_order(self) -> None:
        app = App(process("db", restart=When.ALWAYS), process("web", restart=When.ALWAYS)).start()
        app.exited("web", 1)
        app.exited("db", 1)
        assert spawns(app.tick(2.0)) == ["db", "web"]

    def test_one_request_reaches_all_it_names(self) -> None:
        app = App(process("db"), process("web"), process("mail")).start()
        assert signals(app.tell(Restart(("web", "db")))) == {"db": SIGTERM, "web": SIGTERM}
        assert spawns(app.exited("db", 0)) == ["db"]

    @pytest.mark.parametrize("request_", [Stop(("web", "web")), Restart(("web", "web"))], ids=["stop", "restart"])
    def test_a_name_said_twice_counts_once(self, request_: Event) -> None:
        app = App(process("web")).start()
        assert list(app.tell(request_)) == [SendSignal("web", 1, app.fleet.members["web"].pid or 0, SIGTERM)]


class TestUnknownNames:
    @pytest.mark.parametrize(
        "event",
        [
            Start(("ghost",)),
            Stop(("ghost",)),
            Restart(("ghost",)),
            Start(()),
            Spawned("ghost", 1, 1),
            SpawnFailed("ghost", 1, "no memory", 126, permanent=True),
            ChildExited("ghost", 1, Exit(code=1), leftovers=False),
            GroupEnded("ghost", 1),
        ],
        ids=lambda event: type(event).__name__,
    )
    def test_an_unknown_name_changes_nothing(self, event: Event) -> None:
        app = App(process("db"), process("web")).start("db")
        before = app.fleet
        assert app.tell(event) == ()
        assert app.fleet == before

    def test_the_known_ones_beside_an_unknown_name_are_served(self) -> None:
        app = App(process("web"))
        assert spawns(app.tell(Start(("ghost", "web")))) == ["web"]


class TestDeadline:
    def test_it_is_the_earliest_of_all(self) -> None:
        app = App(process("db", timeout=9.0), process("web", timeout=3.0), process("mail")).start()
        app.tell(Stop(("db",)))
        assert fleet.deadline(app.fleet) == 9.0
        app.tell(Stop(("web",)))
        assert fleet.deadline(app.fleet) == 3.0
        app.exited("web", 0)
        assert fleet.deadline(app.fleet) == 9.0
        app.exited("db", 0)
        assert fleet.deadline(app.fleet) is None

    def test_a_tick_serves_all_that_is_due_and_nothing_else(self) -> None:
        app = App(process("db", timeout=9.0), process("web", timeout=3.0), process("mail", timeout=4.0)).start()
        app.tell(Shutdown(0))
        assert app.tick(2.9) == ()
        assert signals(app.tick(4.0)) == {"web": SIGKILL, "mail": SIGKILL}
        assert fleet.deadline(app.fleet) == 4.0 + OUT_OF_REACH_AFTER

    def test_after_a_tick_nothing_is_due_any_more(self) -> None:
        app = App(process("web", timeout=0.0)).start()
        app.tell(Stop(("web",)))
        assert fleet.deadline(app.fleet) == 0.0
        assert signals(app.tick(0.0)) == {"web": SIGKILL}
        assert fleet.deadline(app.fleet) == OUT_OF_REACH_AFTER
        assert app.tick(OUT_OF_REACH_AFTER) == ()
        assert fleet.deadline(app.fleet) is None


class TestStopAll:
    @pytest.mark.parametrize(
        ("stop_all", "returncode", "stops"),
        [
            (When.ALWAYS, 0, True),
            (When.ALWAYS, 1, True),
            (When.ALWAYS, -SIGKILL, True),
            (When.ON_FAILURE, 0, False),
            (When.ON_FAILURE, 1, True),
            (When.ON_FAILURE, -SIGKILL, True),
            (When.NEVER, 0, False),
            (When.NEVER, 1, False),
            (When.NEVER, -SIGKILL, False),
        ],
    )
    def test_the_end_of_one_process_ends_the_app_as_its_word_says(
        self, stop_all: When, returncode: int, stops: bool
    ) -> None:
        app = App(process("db"), process("web", stop_all=stop_all), process("mail")).start()
        assert signals(app.exited("web", returncode)) == ({"db": SIGTERM, "mail": SIGTERM} if stops else {})
        assert app.fleet.shutting_down is stops
        assert not app.fleet.finished

    def test_a_retry_is_not_yet_the_end(self) -> None:
        app = App(process("db"), process("web", restart=When.ON_FAILURE, max_retries=1)).start()
        assert app.exited("web", 3) == ()
        assert not app.fleet.shutting_down
        app.tick(2.0)
        app.spawned("web")
        assert signals(app.exited("web", 4)) == {"db": SIGTERM}
        app.exited("db", 0)
        assert app.verdict == 4

    def test_a_spawn_that_can_never_succeed_ends_the_app(self) -> None:
        app = App(process("db"), process("web"))
        app.start("db")
        app.tell(Start(("web",)))
        assert signals(app.tell(SpawnFailed("web", 1, "no such file", 127, permanent=True))) == {"db": SIGTERM}
        app.exited("db", 0)
        assert app.verdict == 127

    def test_the_app_starts_to_end_while_the_leftovers_of_its_cause_still_live(self) -> None:
        app = App(process("db"), process("web")).start()
        assert signals(app.exited("web", 2, leftovers=True)) == {"web": SIGTERM, "db": SIGTERM}
        app.exited("db", 0)
        assert app.verdict is None
        app.group_ended("web")
        assert app.state("web") is State.FAILED
        assert app.verdict == 2

    def test_what_waits_is_stopped_and_what_is_being_spawned_is_signalled_later(self) -> None:
        names = tuple(f"web.{number}" for number in range(1, LAUNCHES_AT_ONCE + 2))
        app = App(process("db"), process("mail", restart=When.ALWAYS), *map(process, names)).start("db", "mail")
        app.exited("mail", 1)
        app.tell(Start(names))
        assert app.exited("db", 1) == ()
        assert [app.state(name) for name in ("db", "mail", names[0], names[-1])] == [
            State.FAILED,
            State.STOPPED,
            State.STOPPING,
            State.STOPPED,
        ]
        for name in names[:-1]:
            assert signals(app.spawned(name)) == {name: SIGTERM}
            assert app.verdict is None
            app.exited(name, -SIGTERM)
        assert app.verdict == 1

    @pytest.mark.parametrize("request_", [Start(("web",)), Restart(("web", "db"))], ids=["start", "restart"])
    def test_once_the_app_ends_nothing_starts_any_more(self, request_: Event) -> None:
        app = App(process("db"), process("web")).start("db")
        app.tell(Shutdown(0))
        assert app.tell(request_) == ()
        assert app.exited("db", 0) == ()
        assert app.tell(request_) == ()
        assert app.verdict == 0

    def test_a_restart_under_way_is_given_up_when_the_app_ends(self) -> None:
        app = App(process("web")).start()
        app.tell(Restart(("web",)))
        assert app.tell(Shutdown(0)) == ()
        assert app.exited("web", -SIGTERM) == ()
        assert (app.state("web"), app.verdict) == (State.STOPPED, 0)


class TestStopByHand:
    def test_it_stops_exactly_the_named_ones(self) -> None:
        app = App(process("db"), process("web"), process("mail")).start()
        assert signals(app.tell(Stop(("web", "mail")))) == {"web": SIGTERM, "mail": SIGTERM}
        assert app.state("db") is State.RUNNING

    @pytest.mark.parametrize("stop_all", When)
    @pytest.mark.parametrize("returncode", [0, 1, -SIGTERM])
    def test_it_never_ends_the_app_even_when_nothing_is_left_running(self, stop_all: When, returncode: int) -> None:
        app = App(process("db", stop_all=stop_all), process("web", stop_all=stop_all)).start()
        app.tell(Stop(("db", "web")))
        assert app.exited("db", returncode) == ()
        assert app.exited("web", returncode) == ()
        assert not app.fleet.shutting_down
        assert not app.fleet.finished
        assert spawns(app.tell(Start(("web",)))) == ["web"]

    def test_a_process_stopped_by_hand_keeps_the_app_when_the_others_end_by_themselves(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web", stop_all=When.NEVER)).start()
        app.tell(Stop(("db",)))
        app.exited("db", 0)
        app.exited("web", 0)
        assert not app.fleet.finished
        app.tell(Shutdown(0))
        assert app.verdict == 0

    def test_a_restart_by_hand_never_ends_the_app(self) -> None:
        app = App(process("web")).start()
        app.tell(Restart(("web",)))
        assert spawns(app.exited("web", 1)) == ["web"]
        assert not app.fleet.shutting_down
        assert app.fleet.first_failure is None


class TestExitCode:
    @pytest.mark.parametrize(
        ("returncode", "code"), [(0, 0), (1, 1), (42, 42), (143, 143), (-SIGTERM, 143), (-SIGKILL, 137), (127, 127)]
    )
    def test_it_is_that_of_the_process_whose_end_stopped_the_app(self, returncode: int, code: int) -> None:
        app = App(process("db"), process("web")).start()
        app.exited("web", returncode)
        app.exited("db", 7)
        assert app.verdict == code

    @pytest.mark.parametrize(("returncode", "success_code"), [(3, 3), (143, 143), (-SIGTERM, 143)])
    def test_it_is_0_for_a_success_code(self, returncode: int, success_code: int) -> None:
        app = App(process("web", success_codes=frozenset({0, success_code}))).start()
        app.exited("web", returncode)
        assert app.verdict == 0

    @pytest.mark.parametrize(
        ("ends", "code"),
        [
            ([("db", 0), ("web", 0), ("mail", 0)], 0),
            ([("db", 0), ("web", 3), ("mail", 4)], 3),
            ([("mail", 4), ("web", 3), ("db", 0)], 4),
            ([("mail", -SIGKILL), ("web", 3), ("db", 0)], 137),
        ],
    )
    def test_when_all_ended_by_themselves_it_is_that_of_the_first_that_failed(
        self, ends: list[tuple[str, int]], code: int
    ) -> None:
        app = App(*(process(name, stop_all=When.NEVER) for name in ("db", "web", "mail"))).start()
        for name, returncode in ends:
            assert app.verdict is None
            app.exited(name, returncode)
        assert not app.fleet.shutting_down
        assert app.verdict == code

    @pytest.mark.parametrize(
        ("returncode", "success_codes", "code"),
        [(0, {0}, 0), (143, {0, 143}, 0), (-SIGTERM, {0, 143}, 0), (0, {143}, 0), (1, {0}, 1)],
    )
    def test_after_one_retry_too_many_it_is_0_only_for_a_success_code(
        self, returncode: int, success_codes: set[int], code: int
    ) -> None:
        web = process("web", restart=When.ALWAYS, max_retries=1, success_codes=frozenset(success_codes))
        app = App(web).start()
        app.exited("web", returncode)
        app.tick(2.0)
        app.answer()
        app.exited("web", returncode)
        assert (app.state("web"), app.verdict) == (State.FAILED, code)

    def test_one_success_too_many_does_not_hide_a_later_failure(self) -> None:
        web = process("web", restart=When.ALWAYS, max_retries=1, stop_all=When.NEVER)
        app = App(web, process("db", stop_all=When.NEVER)).start()
        app.exited("web", 0)
        app.tick(2.0)
        app.answer()
        app.exited("web", 0)
        app.exited("db", 3)
        assert app.verdict == 3

    def test_a_failure_that_a_retry_mended_does_not_count(self) -> None:
        app = App(process("web", restart=When.ON_FAILURE, stop_all=When.NEVER)).start()
        app.exited("web", 5)
        app.tick(2.0)
        app.spawned("web")
        app.exited("web", 0)
        assert app.verdict == 0

    def test_a_failure_that_did_not_stop_the_app_does_not_hide_the_cause(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web")).start()
        app.exited("db", 5)
        app.exited("web", 0)
        assert app.verdict == 0

    @pytest.mark.parametrize("code", [INT, TERM])
    def test_after_a_signal_it_is_that_of_the_signal_whatever_the_children_say(self, code: int) -> None:
        app = App(process("db"), process("web")).start()
        assert signals(app.tell(Shutdown(code, insistent=True))) == {"db": SIGTERM, "web": SIGTERM}
        app.exited("db", 1)
        app.exited("web", -SIGTERM)
        assert app.verdict == code

    def test_after_quit_it_is_0(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web")).start()
        app.exited("db", 5)
        app.tell(Shutdown(0))
        app.exited("web", 1)
        assert app.verdict == 0

    def test_the_first_cause_wins_over_a_later_signal(self) -> None:
        app = App(process("db"), process("web")).start()
        app.exited("web", 3)
        app.tell(Shutdown(INT, insistent=True))
        app.tell(Shutdown(INT, insistent=True))
        app.exited("db", -SIGKILL)
        assert app.verdict == 3

    def test_a_success_that_stopped_the_app_wins_over_a_later_signal(self) -> None:
        app = App(process("db"), process("web")).start()
        app.exited("web", 0)
        app.tell(Shutdown(TERM, insistent=True))
        app.exited("db", 0)
        assert app.verdict == 0

    def test_the_first_signal_wins_over_a_later_one_and_over_a_crash(self) -> None:
        app = App(process("db"), process("web")).start()
        app.tell(Shutdown(INT, insistent=True))
        app.exited("web", 1)
        app.tell(Shutdown(TERM, insistent=True))
        app.exited("db", 1)
        assert app.verdict == INT

    def test_a_survivor_of_sigkill_lets_the_app_end_but_not_well(self) -> None:
        app = App(process("db"), process("web")).start()
        app.tell(Shutdown(0))
        app.exited("web", 0)
        assert signals(app.tick(5.0)) == {"db": SIGKILL}
        assert app.verdict is None
        app.tick(5.0 + OUT_OF_REACH_AFTER)
        assert app.verdict == LEFT_SOMETHING_BEHIND == 1
        assert app.fleet.members["db"].phase is Phase.ALIVE

    def test_a_survivor_does_not_hide_the_first_cause(self) -> None:
        app = App(process("db"), process("web")).start()
        app.exited("web", 3)
        app.tick(5.0)
        app.tick(10.0)
        assert app.verdict == 3

    def test_a_survivor_that_dies_in_time_is_forgiven(self) -> None:
        app = App(process("db"), process("web")).start()
        app.tell(Shutdown(0))
        app.tick(5.0)
        app.tick(10.0)
        app.exited("db", -SIGKILL)
        app.exited("web", -SIGKILL)
        assert app.verdict == 0

    def test_a_survivor_keeps_an_app_that_is_not_asked_to_end(self) -> None:
        app = App(process("web", stop_all=When.NEVER)).start()
        app.exited("web", 0, leftovers=True)
        app.tick(5.0)
        app.tick(10.0)
        assert app.fleet.members["web"].out_of_reach
        assert not app.fleet.finished


class TestShutdown:
    def test_of_an_app_that_never_started_ends_at_once(self) -> None:
        app = App(process("db"), process("web"))
        assert app.tell(Shutdown(TERM, insistent=True)) == ()
        assert app.verdict == TERM

    def test_the_second_signal_kills_at_once(self) -> None:
        app = App(process("db"), process("web")).start()
        app.tell(Shutdown(INT, insistent=True))
        app.exited("web", 0)
        assert signals(app.tell(Shutdown(INT, insistent=True))) == {"db": SIGKILL}

    def test_the_second_signal_kills_what_is_only_just_being_spawned(self) -> None:
        app = App(process("web"))
        app.tell(Start(("web",)))
        app.tell(Shutdown(INT, insistent=True))
        assert app.tell(Shutdown(INT, insistent=True)) == ()
        assert signals(app.spawned("web")) == {"web": SIGKILL}

    def test_a_third_signal_adds_nothing(self) -> None:
        app = App(process("web")).start()
        for _ in range(2):
            app.tell(Shutdown(INT, insistent=True))
        assert app.tell(Shutdown(INT, insistent=True)) == ()

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (Shutdown(0), Shutdown(0)),
            (Shutdown(0), Shutdown(INT, insistent=True)),
            (Shutdown(INT, insistent=True), Shutdown(0)),
        ],
        ids=["quit, quit", "quit, signal", "signal, quit"],
    )
    def test_it_takes_two_signals_to_kill(self, first: Shutdown, second: Shutdown) -> None:
        app = App(process("web")).start()
        assert signals(app.tell(first)) == {"web": SIGTERM}
        assert app.tell(second) == ()

    def test_a_quit_between_two_signals_does_not_make_them_one(self) -> None:
        app = App(process("web")).start()
        app.tell(Shutdown(INT, insistent=True))
        app.tell(Shutdown(0))
        assert signals(app.tell(Shutdown(INT, insistent=True))) == {"web": SIGKILL}

    def test_a_crash_that_ends_the_app_does_not_count_as_the_first_signal(self) -> None:
        app = App(process("db"), process("web")).start()
        app.exited("web", 1)
        assert app.tell(Shutdown(INT, insistent=True)) == ()
        assert signals(app.tell(Shutdown(INT, insistent=True))) == {"db": SIGKILL}

    def test_what_is_being_stopped_already_is_not_signalled_twice(self) -> None:
        app = App(process("db"), process("web")).start()
        app.tell(Stop(("db",)))
        assert signals(app.tell(Shutdown(0))) == {"web": SIGTERM}

    def test_it_is_finished_only_when_every_group_is_gone(self) -> None:
        app = App(process("db"), process("web")).start()
        app.tell(Shutdown(0))
        app.exited("db", 0)
        app.exited("web", 0, leftovers=True)
        assert app.verdict is None
        app.group_ended("web")
        assert app.verdict == 0


class TestFinished:
    def test_an_app_whose_processes_all_ended_by_themselves_is_finished(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web", stop_all=When.ON_FAILURE)).start()
        app.exited("db", 1)
        assert not app.fleet.finished
        app.exited("web", 0)
        assert app.fleet.finished

    def test_a_retry_that_waits_keeps_the_app(self) -> None:
        app = App(process("web", restart=When.ALWAYS, stop_all=When.NEVER)).start()
        app.exited("web", 0)
        assert app.state("web") is State.RESTARTING
        assert not app.fleet.finished

    def test_a_stale_fact_of_what_ended_changes_nothing(self) -> None:
        app = App(process("db"), process("web", stop_all=When.NEVER)).start()
        app.exited("web", 3)
        before = app.fleet
        assert app.exited("web", 4) == ()
        assert app.fleet == before

    def test_a_process_that_was_never_asked_for_does_not_keep_the_app(self) -> None:
        app = App(process("web", stop_all=When.NEVER), process("console")).start("web")
        app.exited("web", 0)
        assert app.verdict == 0
        assert app.reason("console") == "not started"

    def test_one_that_was_asked_for_later_does(self) -> None:
        app = App(process("web", stop_all=When.NEVER), process("console")).start("web")
        app.start("console")
        app.exited("web", 0)
        assert app.verdict is None
        app.exited("console", 0)
        assert app.verdict == 0

    def test_an_app_of_which_nothing_was_asked_for_is_over(self) -> None:
        app = App(process("console"))
        app.tell(Start(()))
        assert app.verdict == 0

    def test_stop_of_what_was_never_asked_for_does_not_make_it_keep_the_app(self) -> None:
        app = App(process("web", stop_all=When.NEVER), process("console")).start("web")
        app.stop("console")
        app.exited("web", 0)
        assert app.verdict == 0


class TestHealthAndTheApp:
    def test_a_start_that_takes_too_long_ends_the_app_with_124(self) -> None:
        app = App(process("db"), process("web", health=HEALTH)).start()
        app.checked("web", "refused")
        app.now = 60.0
        app.tick(60.0)
        assert app.states == {"db": "running", "web": "stopping"}
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}
        app.exited("db", 0)
        assert app.verdict == 124

    def test_unhealthy_once_too_often_ends_it_with_1_whatever_the_child_says(self) -> None:
        app = App(process("web", health=HEALTH, restart=When.ON_FAILURE, max_retries=0)).start()
        app.checked("web")
        for number in range(1, 4):
            app.tick(10.0 * number)
            app.checked("web", "refused")
        app.exited("web", 0)
        assert (app.state("web"), app.verdict) == (State.FAILED, 1)


class TestOneshot:
    def test_it_may_end_well_without_ending_the_app(self) -> None:
        app = App(process("setup", oneshot=True, stop_all=When.ON_FAILURE), process("web")).start()
        assert app.exited("setup", 0) == ()
        assert app.states == {"setup": "completed", "web": "running"}

    def test_its_failure_ends_the_app(self) -> None:
        app = App(process("setup", oneshot=True, stop_all=When.ON_FAILURE), process("web")).start()
        assert signals(app.exited("setup", 4)) == {"web": SIGTERM}
        app.exited("web", 0)
        assert app.verdict == 4


HOOKS = Hooks("it is up", "once more", "it failed")


class TestHooks:
    def hooks(self, app: App) -> list[tuple[str, int | None, int]]:
        """The hooks that the last event runs: command, exit code and retries."""
        return [
            (action.command, action.exit_code, action.retries)
            for action in app.actions
            if isinstance(action, StartHook) and action.name == "web"
        ]

    def test_up_for_a_process_without_a_check_is_started(self) -> None:
        app = App(process("web", hooks=HOOKS))
        app.tell(Start(("web",)))
        assert self.hooks(app) == []
        app.spawned("web")
        assert self.hooks(app) == [("it is up", None, 0)]

    def test_up_for_one_with_a_check_is_healthy_and_that_once_a_run(self) -> None:
        app = App(process("web", hooks=HOOKS, health=HEALTH))
        app.tell(Start(("web",)))
        app.spawned("web")
        assert self.hooks(app) == []
        app.checked("web")
        assert self.hooks(app) == [("it is up", None, 0)]
        for number in range(1, 4):
            app.tick(10.0 * number)
            app.checked("web", "refused")
            assert self.hooks(app) == []
        assert app.state("web") is State.UNHEALTHY
        app.tick(40.0)
        app.checked("web")
        assert (app.state("web"), self.hooks(app)) == (State.HEALTHY, [])

    def test_up_for_a_oneshot_is_completed(self) -> None:
        app = App(process("web", hooks=HOOKS, oneshot=True, health=HEALTH)).start()
        app.checked("web")
        assert self.hooks(app) == []
        app.exited("web", 0)
        assert self.hooks(app) == [("it is up", 0, 0)]

    def test_each_retry_is_announced_and_the_first_is_number_1(self) -> None:
        app = App(process("web", hooks=HOOKS, restart=When.ON_FAILURE, max_retries=2)).start()
        app.exited("web", 3)
        assert self.hooks(app) == [("once more", 3, 1)]
        app.tick(2.0)
        app.answer()
        app.exited("web", -SIGKILL)
        assert self.hooks(app) == [("once more", 137, 2)]
        app.tick(6.0)
        app.spawned("web")
        assert self.hooks(app) == [("it is up", None, 2)]
        app.exited("web", 5)
        assert self.hooks(app) == [("it failed", 5, 2)]

    def test_a_retry_of_a_failed_spawn_too(self) -> None:
        app = App(process("web", hooks=HOOKS, restart=When.ALWAYS))
        app.tell(Start(("web",)))
        app.not_spawned("web", permanent=False)
        assert self.hooks(app) == [("once more", 127, 1)]

    @pytest.mark.parametrize("leftovers", [False, True])
    def test_failed_is_announced_when_nothing_of_it_is_left(self, leftovers: bool) -> None:
        app = App(process("web", hooks=HOOKS, stop_all=When.NEVER)).start()
        app.exited("web", 1, leftovers=leftovers)
        if leftovers:
            assert self.hooks(app) == []
            app.group_ended("web")
        assert self.hooks(app) == [("it failed", 1, 0)]

    def test_a_start_that_took_too_long_is_announced_with_its_code(self) -> None:
        app = App(process("web", hooks=HOOKS, health=HEALTH)).start()
        app.tick(60.0)
        app.exited("web", -SIGTERM)
        assert self.hooks(app) == [("it failed", 124, 0)]

    def test_what_somebody_asked_for_is_no_retry_and_no_failure(self) -> None:
        app = App(process("web", hooks=HOOKS, restart=When.ALWAYS)).start()
        app.restart("web")
        app.exited("web", 1)
        assert self.hooks(app) == []
        app.spawned("web")
        assert self.hooks(app) == [("it is up", None, 0)]
        app.stop("web")
        app.exited("web", 1)
        assert self.hooks(app) == []

    def test_a_retry_that_the_end_of_the_app_prevents_is_not_announced(self) -> None:
        app = App(process("web", hooks=HOOKS, restart=When.ALWAYS), process("db")).start()
        app.exited("web", 1, leftovers=True)
        app.exited("db", 0)
        app.group_ended("web")
        assert (app.state("web"), self.hooks(app)) == (State.STOPPED, [])

    def test_skipped_is_no_failure_of_its_own(self) -> None:
        app = App(process("db", health=HEALTH), process("web", healthy("db"), hooks=HOOKS)).start()
        app.exited("db", 1)
        assert (app.state("web"), self.hooks(app)) == (State.SKIPPED, [])

    def test_a_hook_that_is_not_there_is_not_run(self) -> None:
        app = App(process("web", hooks=Hooks(on_fail="it failed"), restart=When.ON_FAILURE, max_retries=1)).start()
        assert self.hooks(app) == []
        app.exited("web", 1)
        assert self.hooks(app) == []
        app.tick(2.0)
        app.answer()
        app.exited("web", 1)
        assert self.hooks(app) == [("it failed", 1, 1)]


WATCH = Watch("/srv", ("app",), debounce=0.05)


def watched(name: str, *depends_on: str | Dependency, watch: Watch = WATCH, oneshot: bool = False) -> Process:
    return process(name, *depends_on, watch=watch, oneshot=oneshot, stop_all=When.NEVER)


def change(app: App, *names: str) -> tuple[Action, ...]:
    """A file of these changes, and then nothing for as long as it takes."""
    assert app.changed(*names) == ()
    return app.tick(app.now + 0.05)


class TestChangedFiles:
    def test_who_is_concerned_is_restarted_and_nobody_else(self) -> None:
        app = App(watched("db"), watched("web"), process("mail")).start()
        actions = change(app, "web")
        assert announced(actions) == ["web: app.py changed; restarting"]
        assert signals(without_words(actions)) == {"web": SIGTERM}

    def test_a_file_of_all_restarts_all_together(self) -> None:
        app = App(watched("db"), watched("web")).start()
        assert signals(without_words(change(app, "db", "web"))) == {"db": SIGTERM, "web": SIGTERM}

    def test_dependants_run_on_unless_their_edge_says_restart(self) -> None:
        app = App(watched("db"), process("web", "db"), process("mail", following("db"))).start()
        actions = change(app, "db")
        assert signals(without_words(actions)) == {"mail": SIGTERM}
        assert signals(app.exited("mail", -SIGTERM)) == {"db": SIGTERM}
        assert spawns(app.exited("db", -SIGTERM)) == ["db"]
        assert spawns(app.spawned("db")) == ["mail"]
        assert app.state("web") is State.RUNNING

    def test_a_dependant_that_follows_and_is_concerned_itself_restarts_once(self) -> None:
        app = App(watched("db"), watched("web", following("db"))).start()
        actions = change(app, "db", "web")
        assert announced(actions) == ["db: app.py changed; restarting", "web: app.py changed; restarting"]
        app.exited("web", -SIGTERM)
        app.exited("db", -SIGTERM)
        app.spawned("db")
        app.spawned("web")
        assert (app.run("db"), app.run("web"), fleet.deadline(app.fleet)) == (2, 2, None)

    def test_following_does_not_resume_a_suspended_watch(self) -> None:
        app = App(process("db"), watched("web", following("db"))).start()
        web = app.fleet.members["web"]
        suspended = web._replace(throttle=web.throttle._replace(suspended="x.log"))
        app.fleet = app.fleet._replace(members={**app.fleet.members, "web": suspended})
        app.restart("db")
        assert app.fleet.members["web"].throttle.suspended
        app.restart("web")
        assert not app.fleet.members["web"].throttle.suspended

    def test_what_nobody_asked_for_is_not_started(self) -> None:
        app = App(watched("web"), watched("console")).start("web")
        assert change(app, "console") == ()
        assert app.state("console") is State.STOPPED

    def test_what_waits_for_its_dependency_goes_on_waiting(self) -> None:
        app = App(process("db", health=HEALTH), watched("web", healthy("db"))).start()
        assert change(app, "web") == ()
        assert spawns(app.checked("db")) == ["web"]

    def test_names_that_nobody_knows_are_ignored(self) -> None:
        app = App(watched("web")).start()
        assert app.changed("ghost") == ()


class TestTheEndOfAnAppThatWaitsForChanges:
    @pytest.mark.parametrize("returncode", [0, 1])
    def test_it_does_not_end_by_itself(self, returncode: int) -> None:
        app = App(watched("web"), process("mail", stop_all=When.NEVER)).start()
        app.exited("mail", returncode)
        app.exited("web", returncode)
        assert app.verdict is None
        assert spawns(without_words(change(app, "web"))) == ["web"]

    def test_a_watched_process_that_nobody_asked_for_keeps_no_app(self) -> None:
        app = App(watched("console"), process("web", stop_all=When.NEVER)).start("web")
        app.exited("web", 3)
        assert app.verdict == 3

    def test_restarts_by_change_end_no_app_whatever_it_says_of_its_end(self) -> None:
        app = App(process("web", watch=WATCH, stop_all=When.ALWAYS)).start()
        change(app, "web")
        assert spawns(app.exited("web", 1)) == ["web"]
        assert not app.fleet.shutting_down

    def test_a_change_during_the_shutdown_starts_nothing(self) -> None:
        app = App(watched("web")).start()
        app.changed("web")
        app.tell(Shutdown(130))
        assert app.changed("web") == ()
        assert app.tick(1.0) == ()
        app.exited("web", -SIGTERM)
        assert app.verdict == 130

    def test_the_shutdown_ends_a_preparation(self) -> None:
        app = App(watched("web", watch=WATCH._replace(run="make"))).start()
        change(app, "web")
        assert CancelPreparation("web") in app.tell(Shutdown(130))

    def test_the_reason_of_a_failure_that_ends_the_app_promises_no_new_start(self) -> None:
        app = App(process("web", watch=WATCH, stop_all=When.ALWAYS)).start()
        app.exited("web", 4)
        assert (app.reason("web"), app.verdict) == ("exited with code 4", 4)


class TestSkippedAndFoundAgain:
    """What was not started because of a dependency starts after all, when that begins anew."""

    def skipped(self) -> App:
        app = App(watched("db", oneshot=True), process("web", completed("db")), process("mail", "web")).start()
        app.exited("db", 1)
        assert app.states == {"db": "failed", "web": "skipped", "mail": "skipped"}
        return app

    def test_by_a_change(self) -> None:
        app = self.skipped()
        assert spawns(without_words(change(app, "db"))) == ["db"]
        assert app.states == {"db": "starting", "web": "pending", "mail": "pending"}
        app.spawned("db")
        assert spawns(app.exited("db", 0)) == ["web"]
        assert spawns(app.spawned("web")) == ["mail"]

    @pytest.mark.parametrize("request_", [Start(("db",)), Restart(("db",))])
    def test_by_hand(self, request_: Event) -> None:
        app = self.skipped()
        app.tell(request_)
        assert app.states == {"db": "starting", "web": "pending", "mail": "pending"}

    def test_not_if_it_fails_again(self) -> None:
        app = self.skipped()
        change(app, "db")
        app.spawned("db")
        app.exited("db", 1)
        assert app.states == {"db": "failed", "web": "skipped", "mail": "skipped"}

    def test_not_if_somebody_has_stopped_it_meanwhile(self) -> None:
        app = self.skipped()
        app.stop("web")
        change(app, "db")
        assert app.states == {"db": "starting", "web": "skipped", "mail": "skipped"}

    def test_its_own_files_are_no_reason_to_wait_again_in_vain(self) -> None:
        app = App(process("db", stop_all=When.NEVER, oneshot=True), watched("web", completed("db"))).start()
        app.exited("db", 1)
        assert change(app, "web") == ()
        assert (app.state("web"), fleet.deadline(app.fleet)) == (State.SKIPPED, None)
