"""Dependencies: who waits for what, who waits in vain, whom a restart carries with it, and in which order all ends."""

from __future__ import annotations

from typing import Any

import pytest
from support.fleet_driver import (
    HEALTH,
    SIGKILL,
    SIGTERM,
    App,
    checks,
    completed,
    following,
    healthy,
    process,
    signals,
    spawns,
)

from procreaper.core.events import SendSignal, Shutdown, Spawn, Start, StartCheck, State
from procreaper.core.fleet import LAUNCHES_AT_ONCE
from procreaper.core.lifecycle import OUT_OF_REACH_AFTER
from procreaper.core.plan import Dependency, Process, Watch, When


class TestWaiting:
    def test_a_process_waits_until_its_dependency_is_started(self) -> None:
        app = App(process("web", "db"), process("db"))
        assert spawns(app.tell(Start(("web", "db")))) == ["db"]
        assert (app.state("web"), app.reason("web")) == (State.PENDING, "waiting for db")
        assert spawns(app.spawned("db")) == ["web"]

    def test_or_until_it_is_healthy(self) -> None:
        app = App(process("db", health=HEALTH), process("web", healthy("db")))
        app.tell(Start(("db", "web")))
        assert checks(app.spawned("db")) == ["db"]
        app.checked("db", "refused")
        assert (app.state("web"), app.reason("web")) == (State.PENDING, "waiting for db")
        app.tick(0.5)
        assert spawns(app.checked("db")) == ["web"]

    def test_or_has_completed(self) -> None:
        app = App(process("migrate", oneshot=True, stop_all=When.ON_FAILURE), process("web", completed("migrate")))
        app.start()
        assert app.states == {"migrate": "running", "web": "pending"}
        assert spawns(app.exited("migrate", 0)) == ["web"]

    def test_started_is_enough_where_that_is_what_is_named_even_of_a_process_with_a_check(self) -> None:
        app = App(process("db", health=HEALTH), process("web", "db"))
        app.tell(Start(("db", "web")))
        assert [type(action) for action in app.spawned("db")] == [StartCheck, Spawn]

    def test_completed_counts_as_started(self) -> None:
        app = App(process("setup", stop_all=When.NEVER), process("web", "setup")).start("setup")
        app.exited("setup", 0)
        assert spawns(app.tell(Start(("web",)))) == ["web"]

    def test_it_waits_for_all_and_names_those_that_are_missing(self) -> None:
        app = App(process("db"), process("mail", health=HEALTH), process("web", "db", healthy("mail")))
        app.tell(Start(("db", "mail", "web")))
        assert app.reason("web") == "waiting for db, mail"
        app.spawned("db")
        assert app.reason("web") == "waiting for mail"
        app.spawned("mail")
        assert spawns(app.checked("mail")) == ["web"]

    def test_a_chain_starts_link_by_link(self) -> None:
        app = App(process("web", "api"), process("api", "db"), process("db"))
        assert spawns(app.tell(Start(("web", "api", "db")))) == ["db"]
        assert spawns(app.spawned("db")) == ["api"]
        assert spawns(app.spawned("api")) == ["web"]

    def test_a_retry_of_the_dependency_is_waited_for(self) -> None:
        app = App(process("db", restart=When.ALWAYS), process("web", healthy("db")))
        app.start()
        app.exited("db", 1)
        assert (app.state("web"), app.reason("web")) == (State.PENDING, "waiting for db")

    def test_a_dependency_that_is_not_part_of_the_app_is_not_waited_for(self) -> None:
        app = App(process("web", "ghost"))
        assert spawns(app.tell(Start(("web",)))) == ["web"]

    @pytest.mark.parametrize("by_hand", [False, True], ids=["not started", "stopped"])
    def test_one_that_nobody_wants_is_waited_for_and_the_reason_tells_why_it_takes_so_long(self, by_hand: bool) -> None:
        app = App(process("db"), process("web", "db"))
        if by_hand:
            app.start("db")
            app.stop("db")
            app.exited("db", 0)
        assert app.tell(Start(("web",))) == ()
        assert app.reason("web") == f"waiting for db, which is {'stopped' if by_hand else 'not started'}"
        assert not app.fleet.finished
        assert spawns(app.tell(Start(("db",)))) == ["db"]
        assert spawns(app.spawned("db")) == ["web"]

    def test_one_whose_wait_is_over_but_for_which_there_is_no_room_yet_says_so(self) -> None:
        others = [process(f"other.{number}") for number in range(LAUNCHES_AT_ONCE)]
        app = App(process("db"), *others, process("web", "db"))
        app.tell(Start(("db", "web")))
        app.tell(Start(tuple(other.name for other in others)))
        app.spawned("db")
        assert (app.state("web"), app.reason("web")) == (State.PENDING, "about to start")

    def test_a_stop_while_it_waits_takes_effect_at_once(self) -> None:
        app = App(process("db"), process("web", "db"))
        app.tell(Start(("db", "web")))
        assert app.stop("web") == ()
        assert app.spawned("db") == ()
        assert app.states == {"db": "running", "web": "stopped"}


STUBBORN = process("db", health=HEALTH, restart=When.ALWAYS)


def web_up_and_db_stopped(**fields: Any) -> App:
    app = App(process("db"), process("web", "db", **fields)).start()
    app.stop("db")
    app.exited("db", -SIGTERM)
    return app


class TestAfterTheFirstTime:
    """A process that was up starts again without its dependencies; what is not up waits for them."""

    def test_a_restart_waits_for_no_dependency_that_was_stopped(self) -> None:
        app = web_up_and_db_stopped()
        app.restart("web")
        assert spawns(app.exited("web", -SIGTERM)) == ["web"]

    def test_neither_does_a_retry_after_a_crash(self) -> None:
        app = web_up_and_db_stopped(restart=When.ALWAYS)
        app.exited("web", 1)
        assert spawns(app.tick(2.0)) == ["web"]

    def test_nor_one_of_which_the_files_have_changed(self) -> None:
        app = web_up_and_db_stopped(watch=Watch("/", ("app",), debounce=0.1))
        app.changed("web")
        app.tick(app.now + 0.1)
        assert spawns(app.exited("web", -SIGTERM)) == ["web"]

    def test_nor_one_with_new_settings(self) -> None:
        app = web_up_and_db_stopped()
        app.reload(process("db"), process("web", "db")._replace(command="another"))
        assert spawns(app.exited("web", -SIGTERM)) == ["web"]

    def test_nor_one_that_failed_for_good_and_is_started_again(self) -> None:
        app = web_up_and_db_stopped(stop_all=When.NEVER)
        app.exited("web", 1)
        assert spawns(app.restart("web")) == ["web"]

    def test_the_condition_does_not_matter_either(self) -> None:
        app = App(STUBBORN, process("web", healthy("db"))).start()
        assert spawns(app.checked("db")) == ["web"]
        app.answer()
        app.exited("db", 1)
        app.restart("web")
        assert spawns(app.exited("web", -SIGTERM)) == ["web"]

    def test_one_that_never_came_up_waits(self) -> None:
        app = App(process("db"), process("web", "db", health=HEALTH, restart=When.ALWAYS)).start()
        app.stop("db")
        app.exited("db", -SIGTERM)
        app.exited("web", 1)
        assert app.tick(2.0) == ()
        assert app.reason("web") == "waiting for db, which is stopped"
        assert app.fleet.members["web"].waits_for == ("db",)

    def test_a_oneshot_has_been_up_once_it_has_completed(self) -> None:
        app = App(process("db"), process("migrate", "db", oneshot=True, restart=When.ON_FAILURE, stop_all=When.NEVER))
        app.start()
        app.stop("db")
        app.exited("db", -SIGTERM)
        app.exited("migrate", 1)
        assert app.tick(2.0) == ()
        app.start("db")
        app.exited("migrate", 0)
        app.stop("db")
        app.exited("db", -SIGTERM)
        assert spawns(app.restart("migrate")) == ["migrate"]

    def test_one_that_was_stopped_waits_when_it_is_started_again(self) -> None:
        app = web_up_and_db_stopped()
        app.stop("web")
        app.exited("web", -SIGTERM)
        assert app.restart("web") == ()
        assert app.reason("web") == "waiting for db, which is stopped"

    def test_what_restarts_together_starts_in_order(self) -> None:
        app = App(process("db", health=HEALTH), process("web", healthy("db"))).start()
        app.checked("db")
        app.answer()
        app.restart("db", "web")
        assert signals(app.exited("web", -SIGTERM)) == {"db": SIGTERM}
        assert spawns(app.exited("db", -SIGTERM)) == ["db"]
        app.answer()
        assert spawns(app.checked("db")) == ["web"]

    def test_so_does_what_the_same_files_restart(self) -> None:
        watch = Watch("/", ("app",), debounce=0.1)
        app = App(process("db", watch=watch), process("web", "db", watch=watch)).start()
        app.changed("db", "web")
        app.tick(app.now + 0.1)
        app.exited("web", -SIGTERM)
        assert spawns(app.exited("db", -SIGTERM)) == ["db"]
        assert spawns(app.spawned("db")) == ["web"]

    @pytest.mark.parametrize("order", [("db", "web"), ("web", "db")])
    def test_a_restart_waits_for_a_dependency_whose_restart_is_under_way(self, order: tuple[str, str]) -> None:
        app = App(process("db"), process("web", "db")).start()
        for name in order:
            app.restart(name)
        assert spawns(tuple(a for a in app.exited("web", -SIGTERM) if isinstance(a, Spawn))) == []
        assert spawns(app.exited("db", -SIGTERM)) == ["db"]
        assert spawns(app.spawned("db")) == ["web"]

    def test_a_new_dependency_is_waited_for_by_the_first_run_that_needs_it(self) -> None:
        app = App(process("db"), process("web")).start("web")
        app.reload(process("db"), process("web", "db")._replace(command="another"), names=("web",))
        assert app.exited("web", -SIGTERM) == ()
        assert app.reason("web") == "waiting for db, which is not started"


class TestLostCauses:
    @pytest.mark.parametrize(
        ("returncode", "reason"), [(1, "db failed: exited with code 1"), (-SIGKILL, "db failed: killed by SIGKILL")]
    )
    def test_what_never_started_is_skipped_and_names_the_cause(self, returncode: int, reason: str) -> None:
        app = App(process("db", health=HEALTH, stop_all=When.NEVER), process("web", healthy("db")))
        app.start()
        assert app.exited("db", returncode)[1:] == ()
        assert (app.state("web"), app.reason("web")) == (State.SKIPPED, reason)
        assert app.verdict == (1 if returncode == 1 else 137)

    def test_so_is_what_depends_on_that(self) -> None:
        app = App(process("web", "api"), process("api", completed("db")), process("db", stop_all=When.NEVER)).start()
        app.exited("db", 1)
        assert app.states == {"web": "skipped", "api": "skipped", "db": "failed"}
        assert app.reason("web") == "api skipped: db failed: exited with code 1"

    def test_it_is_skipped_before_stop_all_ends_the_app(self) -> None:
        app = App(process("db"), process("web", completed("db")), process("mail", "db")).start()
        assert signals(app.exited("db", 3)) == {"mail": SIGTERM}
        assert (app.state("web"), app.reason("web")) == (State.SKIPPED, "db failed: exited with code 3")
        app.exited("mail", 0)
        assert app.verdict == 3

    def test_it_is_skipped_when_the_retries_are_used_up_and_not_before(self) -> None:
        db = process("db", restart=When.ON_FAILURE, max_retries=1, health=HEALTH, stop_all=When.NEVER)
        app = App(db, process("web", healthy("db"))).start()
        app.exited("db", 1)
        assert app.state("web") is State.PENDING
        app.tick(2.0)
        app.answer()
        app.exited("db", 1)
        assert app.reason("web") == "db failed: exited with code 1; gave up after 1 retry"

    def test_a_dependency_that_completes_without_ever_being_healthy_is_a_lost_cause(self) -> None:
        app = App(process("db", health=HEALTH, stop_all=When.NEVER), process("web", healthy("db"))).start()
        app.exited("db", 0)
        assert (app.reason("web"), app.verdict) == ("db completed: exited with code 0", 1)

    def test_one_that_cannot_be_spawned_is_a_lost_cause(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web", "db"))
        app.tell(Start(("db", "web")))
        app.not_spawned("db")
        assert (app.reason("web"), app.verdict) == ("db failed: no such file", 127)

    def test_one_that_is_stopped_by_hand_is_not(self) -> None:
        app = App(process("db", health=HEALTH), process("web", healthy("db"))).start()
        app.stop("db")
        app.exited("db", 1)
        assert app.states == {"db": "stopped", "web": "pending"}

    def test_what_ran_before_is_not_skipped_but_runs_without_it(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web", "db", restart=When.ALWAYS)).start()
        app.exited("web", 1)
        app.exited("db", 1)
        assert app.state("web") is State.RESTARTING
        assert spawns(app.tick(2.0)) == ["web"]

    def test_it_runs_on_when_a_dependency_fails(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web", "db", following("db"))).start()
        assert app.exited("db", 1) == ()
        assert app.states == {"db": "failed", "web": "running"}

    def test_started_by_hand_while_its_cause_is_lost_it_is_skipped_again(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web", completed("db"))).start()
        app.exited("db", 1)
        assert app.tell(Start(("web",))) == ()
        assert app.state("web") is State.SKIPPED

    def test_started_by_hand_together_with_its_cause_it_waits(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web", completed("db"), stop_all=When.NEVER)).start()
        app.exited("db", 1)
        app.start("web", "db")
        assert spawns(app.exited("db", 0)) == ["web"]

    def test_in_an_app_that_ends_nothing_is_skipped(self) -> None:
        app = App(process("db", health=HEALTH), process("web", healthy("db"))).start()
        app.tell(Shutdown(0))
        app.exited("db", 1)
        assert (app.states, app.verdict) == ({"db": "stopped", "web": "stopped"}, 0)


DIAMOND = (
    process("web", following("api"), following("worker")),
    process("api", following("db")),
    process("worker", following("db")),
    process("db", restart=When.ALWAYS),
)


class TestRestarting:
    def test_nothing_happens_to_dependants_when_a_dependency_restarts(self) -> None:
        app = App(process("db", restart=When.ALWAYS), process("web", "db")).start()
        assert app.exited("db", 1) == ()
        app.tick(2.0)
        assert app.spawned("db") == ()
        app.restart("db")
        assert app.states == {"db": "stopping", "web": "running"}

    def test_where_the_edge_says_so_they_stop_first_and_start_last(self) -> None:
        app = App(process("db"), process("web", following("db"))).start()
        assert signals(app.restart("db")) == {"web": SIGTERM}
        assert app.reason("db") == "stops after web"
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}
        assert app.reason("db") == "stopping"
        assert (app.state("web"), app.reason("web")) == (State.PENDING, "waiting for db")
        assert spawns(app.exited("db", 0)) == ["db"]
        assert spawns(app.spawned("db")) == ["web"]
        assert app.fleet.first_failure is None

    def test_a_crash_of_the_dependency_restarts_them_too(self) -> None:
        app = App(process("db", restart=When.ON_FAILURE), process("web", following("db"))).start()
        assert signals(app.exited("db", 1)) == {"web": SIGTERM}
        app.exited("web", -SIGTERM)
        assert app.states == {"db": "restarting", "web": "pending"}
        assert spawns(app.tick(2.0)) == ["db"]
        assert spawns(app.spawned("db")) == ["web"]

    def test_while_its_leftovers_end_too(self) -> None:
        app = App(process("db", restart=When.ON_FAILURE), process("web", following("db"))).start()
        assert signals(app.exited("db", 1, leftovers=True)) == {"web": SIGTERM}
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}

    def test_a_dependency_that_became_unhealthy_restarts_them(self) -> None:
        db = process("db", health=HEALTH, restart=When.ALWAYS)
        app = App(db, process("web", healthy("db", restart=True))).start()
        app.checked("db")
        app.answer()
        for number in range(1, 4):
            app.tick(10.0 * number)
            app.checked("db", "refused")
        assert signals(app.actions) == {"web": SIGTERM}
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}
        assert app.reason("db") == "unhealthy: refused"
        app.exited("db", 0)
        assert app.reason("db") == "unhealthy: refused; retry 1 in 2.0 s"

    def unhealthy(self) -> App:
        app = App(process("db", health=HEALTH), process("web", healthy("db", restart=True))).start()
        app.checked("db")
        app.answer()
        for number in range(1, 4):
            app.tick(10.0 * number)
            assert app.checked("db", "refused") == ()
        return app

    def test_one_that_is_only_marked_as_unhealthy_does_not(self) -> None:
        assert self.unhealthy().states == {"db": "unhealthy", "web": "running"}

    def test_but_its_restart_does(self) -> None:
        assert signals(self.unhealthy().restart("db")) == {"web": SIGTERM}

    def test_a_oneshot_that_runs_again_restarts_them(self) -> None:
        setup = process("setup", oneshot=True, stop_all=When.ON_FAILURE)
        app = App(setup, process("web", completed("setup", restart=True))).start()
        app.exited("setup", 0)
        app.answer()
        assert [type(action) for action in app.restart("setup")] == [SendSignal, Spawn]
        app.spawned("setup")
        app.exited("web", 0)
        assert app.state("web") is State.PENDING
        assert spawns(app.exited("setup", 0)) == ["web"]

    def test_a_chain_stops_from_its_top_and_starts_from_its_foot(self) -> None:
        app = App(process("web", following("api")), process("api", following("db")), process("db")).start()
        assert signals(app.restart("db")) == {"web": SIGTERM}
        assert app.reason("db") == "stops after api, web"
        assert signals(app.exited("web", 0)) == {"api": SIGTERM}
        assert signals(app.exited("api", 0)) == {"db": SIGTERM}
        assert spawns(app.exited("db", 0)) == ["db"]
        assert spawns(app.spawned("db")) == ["api"]
        assert spawns(app.spawned("api")) == ["web"]

    def test_an_edge_that_does_not_say_so_ends_the_chain(self) -> None:
        app = App(process("web", "api"), process("api", following("db")), process("db")).start()
        assert signals(app.restart("db")) == {"api": SIGTERM}
        app.exited("api", 0)
        app.exited("db", 0)
        app.answer()
        assert app.states == {"web": "running", "api": "running", "db": "running"}
        assert (app.run("web"), app.run("api"), app.run("db")) == (1, 2, 2)

    def test_a_diamond_stops_and_starts_in_order_and_everything_once(self) -> None:
        app = App(*DIAMOND).start()
        assert signals(app.restart("db")) == {"web": SIGTERM}
        assert signals(app.exited("web", 0)) == {"api": SIGTERM, "worker": SIGTERM}
        assert app.exited("worker", 0) == ()
        assert signals(app.exited("api", 0)) == {"db": SIGTERM}
        assert spawns(app.exited("db", 0)) == ["db"]
        assert spawns(app.spawned("db")) == ["api", "worker"]
        assert app.spawned("worker") == ()
        assert spawns(app.spawned("api")) == ["web"]
        app.spawned("web")
        assert {app.run(name) for name in app.states} == {2}

    def test_a_diamond_one_side_of_which_is_stopped_by_hand_meanwhile_waits_for_it(self) -> None:
        app = App(*DIAMOND).start()
        app.restart("db")
        app.stop("worker")
        for name in ("web", "api", "worker", "db"):
            app.exited(name, 0)
        app.answer()
        assert app.states == {"web": "pending", "api": "running", "worker": "stopped", "db": "running"}
        assert app.reason("web") == "waiting for worker, which is stopped"
        app.start("worker")
        assert app.state("web") is State.RUNNING

    def test_of_what_is_only_just_being_spawned_too(self) -> None:
        app = App(process("db"), process("web", following("db"))).start("db")
        app.tell(Start(("web",)))
        assert app.restart("db") == ()
        assert signals(app.spawned("web")) == {"web": SIGTERM}
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}

    def test_a_dependant_that_waits_out_its_own_back_off_is_left_to_it(self) -> None:
        app = App(process("db"), process("web", following("db"), restart=When.ALWAYS)).start()
        app.exited("web", 1)
        assert signals(app.restart("db")) == {"db": SIGTERM}
        assert app.tick(2.0) == ()
        assert (app.state("web"), app.reason("web")) == (State.PENDING, "waiting for db")

    def test_a_dependency_that_fails_for_good_meanwhile_is_not_waited_for(self) -> None:
        app = App(process("db", stop_all=When.NEVER), process("web", following("db"))).start()
        app.restart("db")
        app.exited("web", 0)
        app.exited("db", 0)
        assert spawns(app.not_spawned("db")) == ["web"]

    def test_a_later_stop_of_the_dependant_beats_it(self) -> None:
        app = App(process("db"), process("web", following("db"))).start()
        app.restart("db")
        app.stop("web")
        app.exited("web", 0)
        app.exited("db", 0)
        app.answer()
        assert app.states == {"db": "running", "web": "stopped"}

    def test_a_stop_by_hand_and_a_later_start_of_the_dependency_are_no_restart(self) -> None:
        app = App(process("db"), process("web", following("db"))).start()
        assert signals(app.stop("db")) == {"db": SIGTERM}
        app.exited("db", 0)
        app.start("db")
        assert (app.state("web"), app.run("web")) == (State.RUNNING, 1)


class TestStopping:
    def test_the_app_stops_dependants_first_and_independent_ones_together(self) -> None:
        app = App(process("db"), process("api", "db"), process("web", "api"), process("mail")).start()
        assert signals(app.tell(Shutdown(0))) == {"web": SIGTERM, "mail": SIGTERM}
        assert (app.reason("db"), app.reason("api"), app.reason("web")) == (
            "stops after api, web",
            "stops after web",
            "stopping",
        )
        assert signals(app.exited("web", 0)) == {"api": SIGTERM}
        assert signals(app.exited("api", 0)) == {"db": SIGTERM}
        assert app.reason("db") == "stopping"
        app.exited("db", 0)
        assert app.verdict is None
        app.exited("mail", 0)
        assert app.verdict == 0

    def test_it_waits_for_the_whole_group_of_a_dependant(self) -> None:
        app = App(process("db"), process("web", "db")).start()
        app.tell(Shutdown(0))
        assert app.exited("web", 0, leftovers=True) == ()
        assert signals(app.group_ended("web")) == {"db": SIGTERM}

    def test_it_waits_for_a_dependant_that_is_only_just_being_spawned(self) -> None:
        app = App(process("db"), process("web", "db")).start("db")
        app.tell(Start(("web",)))
        assert app.tell(Shutdown(0)) == ()
        assert app.reason("db") == "stops after web"
        assert signals(app.spawned("web")) == {"web": SIGTERM}
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}

    def test_a_dependant_that_could_not_be_spawned_is_not_waited_for(self) -> None:
        app = App(process("db"), process("web", "db")).start("db")
        app.tell(Start(("web",)))
        app.tell(Shutdown(0))
        assert signals(app.not_spawned("web")) == {"db": SIGTERM}

    @pytest.mark.parametrize("dependant", ["ended", "never started", "in its back-off"])
    def test_a_dependant_that_does_not_run_is_not_waited_for(self, dependant: str) -> None:
        app = App(process("db"), process("web", "db", restart=When.ON_FAILURE, stop_all=When.NEVER))
        app.start("db")
        if dependant != "never started":
            app.start("web")
            app.exited("web", 0 if dependant == "ended" else 1)
        assert signals(app.tell(Shutdown(0))) == {"db": SIGTERM}

    def test_a_deaf_dependant_is_killed_first(self) -> None:
        app = App(process("db"), process("web", "db")).start()
        app.tell(Shutdown(0))
        assert signals(app.tick(5.0)) == {"web": SIGKILL}
        assert signals(app.exited("web", -SIGKILL)) == {"db": SIGTERM}

    def test_a_dependant_that_is_out_of_reach_is_waited_for_no_longer(self) -> None:
        app = App(process("db"), process("web", "db")).start()
        app.tell(Shutdown(0))
        app.tick(5.0)
        assert signals(app.tick(5.0 + OUT_OF_REACH_AFTER)) == {"db": SIGTERM}
        app.exited("db", 0)
        assert app.verdict == 1

    def test_each_has_its_own_time_from_when_it_is_told(self) -> None:
        app = App(process("db", timeout=3.0), process("web", "db", timeout=7.0)).start()
        app.tell(Shutdown(0))
        app.now = 6.0
        app.exited("web", 0)
        assert app.tick(8.9) == ()
        assert signals(app.tick(9.0)) == {"db": SIGKILL}

    def test_a_crash_of_the_dependency_does_not_hurry_the_others(self) -> None:
        app = App(process("db"), process("api", "db"), process("web", "api")).start()
        assert signals(app.exited("db", 1)) == {"web": SIGTERM}
        assert signals(app.exited("web", 0)) == {"api": SIGTERM}

    def test_leftovers_of_a_crash_are_told_after_the_dependants(self) -> None:
        app = App(process("db"), process("web", "db")).start()
        assert signals(app.exited("db", 1, leftovers=True)) == {"web": SIGTERM}
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}
        app.group_ended("db")
        assert (app.reason("db"), app.verdict) == ("exited with code 1", 1)

    def test_a_dependency_that_ends_before_it_is_told_to_is_stopped(self) -> None:
        app = App(process("db"), process("web", "db")).start()
        app.tell(Shutdown(130))
        assert app.exited("db", 1) == ()
        app.exited("web", 0)
        assert (app.states, app.verdict) == ({"db": "stopped", "web": "stopped"}, 130)

    def test_the_second_signal_kills_all_at_once_in_no_order(self) -> None:
        app = App(process("db"), process("web", "db")).start()
        app.tell(Shutdown(130, insistent=True))
        assert signals(app.tell(Shutdown(130, insistent=True))) == {"db": SIGKILL, "web": SIGKILL}
        assert app.reason("db") == "stopping"

    def test_stop_by_hand_leaves_dependants_and_the_app_alone(self) -> None:
        app = App(process("db"), process("web", "db"), process("api", following("db"))).start()
        assert signals(app.stop("db")) == {"db": SIGTERM}
        assert app.exited("db", 0) == ()
        assert app.states == {"db": "stopped", "web": "running", "api": "running"}
        assert not app.fleet.finished

    def test_of_several_stopped_by_hand_dependants_are_first(self) -> None:
        app = App(process("db"), process("api", "db"), process("web", "api")).start()
        assert signals(app.stop("db", "web")) == {"web": SIGTERM}
        assert app.reason("db") == "stops after web"
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}
        assert app.state("api") is State.RUNNING

    def test_one_that_is_told_already_is_not_held_back_by_a_dependant_that_is_stopped_later(self) -> None:
        app = App(process("db"), process("web", "db")).start()
        app.stop("db")
        assert signals(app.stop("web")) == {"web": SIGTERM}
        assert signals(app.tick(5.0)) == {"db": SIGKILL, "web": SIGKILL}

    def test_a_restart_waits_for_a_dependant_that_happens_to_be_ending(self) -> None:
        app = App(process("db"), process("web", "db")).start()
        app.stop("web")
        assert app.restart("db") == ()
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}
        assert spawns(app.exited("db", 0)) == ["db"]
        assert app.state("web") is State.STOPPED


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        ((process("db"), process("web", Dependency("db"))), ("web",)),
        ((process("a"), process("b", "a"), process("c", "b")), ("c", "a")),
    ],
)
def test_what_is_asked_for_alone_starts_alone(plan: tuple[Process, ...], names: tuple[str, ...]) -> None:
    """Whoever asks says what is needed besides; the rules start what is named and nothing else."""
    app = App(*plan).start(*names)
    assert {name for name, state in app.states.items() if state == "stopped"} == set(app.states) - set(names)
