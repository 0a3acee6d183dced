"""A new plan for an app that runs: who comes, who goes, who is restarted, and what is taken over in place."""

from __future__ import annotations

import pytest
from support.fleet_driver import (
    CHECK,
    HEALTH,
    SIGINT,
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

from procreaper.core import fleet
from procreaper.core.checks import Health, LogCheck
from procreaper.core.events import (
    CancelCheck,
    CancelPreparation,
    CheckFinished,
    ChildExited,
    Exit,
    PreparationEnded,
    RunPreparation,
    RunStopCommand,
    SendSignal,
    Shutdown,
    Spawn,
    Start,
    StartCheck,
    StartHook,
    State,
)
from procreaper.core.plan import Backoff, Dependency, Hooks, Plan, Process, StopPolicy, Watch, When
from procreaper.core.state import RestartThrottle

WEB, DB = process("web"), process("db")
OTHER_WEB = WEB._replace(command="run it")
WATCHED = process("web", watch=Watch("/", ("app",), debounce=1.0))


class TestComing:
    def test_what_is_new_is_started(self) -> None:
        app = App(DB).start()
        assert spawns(app.reload(DB, WEB)) == ["web"]
        assert list(app.fleet.members) == ["db", "web"]

    def test_what_is_new_and_does_not_start_by_itself_is_not_started(self) -> None:
        app = App(DB).start()
        assert app.reload(DB, WEB, names=("db",)) == ()
        assert app.states == {"db": "running", "web": "stopped"}

    def test_what_is_new_waits_for_what_it_depends_on(self) -> None:
        app = App(process("web")).start()
        assert spawns(app.reload(process("db"), process("web"), process("job", "db"))) == ["db"]
        assert app.reason("job") == "waiting for db"

    def test_the_members_are_in_the_order_of_the_new_plan_and_those_that_leave_last(self) -> None:
        app = App(process("old"), DB, WEB).start()
        app.reload(WEB, process("new"), DB)
        assert list(app.fleet.members) == ["web", "new", "db", "old"]


class TestGoing:
    def test_what_is_removed_is_told_to_end_and_a_member_until_nothing_of_it_is_left(self) -> None:
        app = App(DB, WEB).start()
        assert signals(app.reload(DB)) == {"web": SIGTERM}
        app.exited("web", -15, leftovers=True)
        assert app.fleet.leaving == {"web"}
        app.group_ended("web")
        assert list(app.fleet.members) == ["db"]
        assert not app.fleet.leaving

    def test_what_does_not_run_is_gone_at_once(self) -> None:
        app = App(DB, WEB).start("db")
        assert app.reload(DB) == ()
        assert list(app.fleet.members) == ["db"]

    def test_what_depends_on_it_and_is_removed_too_ends_first(self) -> None:
        app = App(DB, process("web", "db"), process("mail")).start()
        app.answer()
        assert signals(app.reload(process("mail"))) == {"web": SIGTERM}
        assert app.reason("db") == "stops after web"
        assert signals(app.exited("web", 0)) == {"db": SIGTERM}

    def test_who_depends_on_something_through_what_is_gone_ends_before_it_all_the_same(self) -> None:
        job = process("job", "db", oneshot=True, stop_all=When.NEVER)
        app = App(DB, job, process("web", completed("job"))).start()
        app.answer().exited("job", 0)
        app.answer()
        assert signals(app.reload(DB._replace(command="run it"))) == {"web": SIGTERM}
        assert app.reload(DB._replace(command="run that")) == ()
        assert app.reason("db") == "stops after web"
        assert signals(app.exited("web", -15)) == {"db": SIGTERM}

    def test_its_end_ends_no_app_though_all_others_of_its_kind_do(self) -> None:
        app = App(process("web", stop_all=When.ALWAYS), DB).start()
        app.reload(DB)
        app.exited("web", 1)
        assert not app.fleet.shutting_down
        assert app.fleet.first_failure is None

    def test_an_end_of_its_own_that_came_first_ends_no_app_either(self) -> None:
        health = Health(check=CHECK, start_timeout=2.0)
        app = App(process("web", stop_all=When.ALWAYS, health=health), DB).start()
        app.tick(2.0)
        assert app.state("web") is State.STOPPING
        app.reload(DB)
        app.exited("web", -15)
        assert not app.fleet.shutting_down

    def test_requests_do_not_bring_it_back(self) -> None:
        app = App(DB, WEB).start()
        app.reload(DB)
        assert app.tell(Start(("web",))) == ()
        assert app.restart("web") == ()
        assert app.exited("web", -15) == ()
        assert list(app.fleet.members) == ["db"]

    def test_one_that_cannot_be_killed_stays_a_member_and_is_told_of_at_the_end(self) -> None:
        app = App(DB, WEB).start()
        app.reload(DB)
        assert signals(app.tick(5.0)) == {"web": SIGKILL}
        app.tick(10.0)
        app.tell(Shutdown(0))
        app.exited("db", -15)
        assert app.verdict == fleet.LEFT_SOMETHING_BEHIND

    def test_one_that_comes_back_before_it_is_gone_runs_anew_with_the_new_settings(self) -> None:
        app = App(DB, WEB).start()
        app.reload(DB)
        assert app.reload(DB, OTHER_WEB) == ()
        assert spawns(app.exited("web", -15)) == ["web"]
        assert app.fleet.members["web"].process == OTHER_WEB
        assert not app.fleet.leaving

    def test_one_that_comes_back_and_does_not_start_by_itself_is_only_stopped(self) -> None:
        app = App(DB, WEB).start()
        app.reload(DB)
        app.reload(DB, OTHER_WEB, names=("db",))
        assert app.exited("web", -15) == ()
        assert app.states == {"db": "running", "web": "stopped"}

    def test_its_dependants_that_stay_do_not_wait_for_it(self) -> None:
        app = App(DB, process("web", "db")).start("db")
        app.reload(process("web"))
        app.exited("db", -15)
        assert spawns(app.tell(Start(("web",)))) == ["web"]


class TestWithNothingLeft:
    def test_an_app_of_which_everything_was_removed_stays(self) -> None:
        app = App(WEB).start()
        app.reload()
        app.exited("web", -15)
        assert app.fleet.members == {}
        assert app.verdict is None
        app.tell(Shutdown(0))
        assert app.verdict == 0

    def test_so_does_one_whose_others_have_ended_by_themselves(self) -> None:
        app = App(WEB, process("job", oneshot=True, stop_all=When.NEVER)).start()
        app.exited("job", 0)
        app.reload(process("job", oneshot=True, stop_all=When.NEVER))
        app.exited("web", -15)
        assert app.verdict is None

    def test_what_comes_back_counts_like_any_other(self) -> None:
        web = process("web", stop_all=When.NEVER)
        app = App(web).start()
        app.reload()
        app.exited("web", -15)
        app.reload(web)
        app.answer().exited("web", 3)
        assert app.verdict == 3

    def test_no_number_of_a_run_is_used_again(self) -> None:
        app = App(DB, WEB).start()
        app.reload(DB)
        app.exited("web", -15)
        app.reload(DB, WEB)
        assert app.run("web") == 2
        assert app.tell(ChildExited("web", 1, Exit(code=0), leftovers=False)) == ()

    def test_what_comes_back_waits_for_its_dependencies_as_if_it_were_new(self) -> None:
        job = process("job", oneshot=True, stop_all=When.NEVER)
        web = process("web", completed("job"))
        app = App(job, web).start()
        app.exited("job", 0)
        app.answer()
        app.reload(job)
        app.exited("web", -15)
        app.restart("job")
        app.answer()
        app.exited("job", 1)
        app.reload(job, web)
        assert app.state("web") is State.SKIPPED

    def test_what_had_ended_by_itself_keeps_no_app(self) -> None:
        app = App(process("job", stop_all=When.NEVER), process("web", stop_all=When.NEVER)).start()
        app.exited("job", 0)
        app.reload(process("web", stop_all=When.NEVER))
        app.exited("web", 0)
        assert app.verdict == 0

    def test_what_was_never_asked_for_keeps_no_app(self) -> None:
        app = App(DB, process("web", stop_all=When.NEVER)).start("web")
        app.reload(process("web", stop_all=When.NEVER))
        app.exited("web", 0)
        assert app.verdict == 0


class TestARestart:
    @pytest.mark.parametrize(
        "changes",
        [{"command": "run it"}, {"env": {"A": "1"}}, {"cwd": "/srv"}, {"pty": True}, {"detached": True}],
    )
    def test_what_the_child_itself_has_needs_one(self, changes: dict[str, object]) -> None:
        app = App(WEB).start()
        assert signals(app.reload(WEB._replace(**changes))) == {"web": SIGTERM}  # type: ignore[arg-type]
        assert spawns(app.exited("web", -15)) == ["web"]

    def test_the_back_off_is_skipped_and_the_retries_are_forgotten(self) -> None:
        app = App(process("web", restart=When.ON_FAILURE)).start()
        app.exited("web", 1)
        assert app.state("web") is State.RESTARTING
        assert spawns(app.reload(process("web", restart=When.ON_FAILURE)._replace(command="run it"))) == ["web"]
        assert app.fleet.members["web"].retries == 0

    def test_the_old_run_is_ended_as_it_was_to_be_ended_when_it_began(self) -> None:
        app = App(process("web", stop=StopPolicy(SIGINT, 9.0))).start()
        other = process("web", stop=StopPolicy(SIGTERM, 1.0))._replace(command="run it")
        assert signals(app.reload(other)) == {"web": SIGINT}
        assert fleet.deadline(app.fleet) == 9.0
        app.exited("web", -2)
        app.answer()
        assert signals(app.stop("web")) == {"web": SIGTERM}

    def test_with_a_stop_command_too(self) -> None:
        app = App(process("web", stop=StopPolicy(SIGTERM, 5.0, command="bye"))).start()
        (action,) = app.reload(process("web")._replace(command="run it"))
        assert isinstance(action, RunStopCommand)
        process_state = app.fleet.members["web"]
        assert process_state.spawned_with is not None
        assert process_state.spawned_with.stop.command == "bye"

    @pytest.mark.parametrize("returncode", [0, 1])
    def test_what_has_ended_starts_anew(self, returncode: int) -> None:
        app = App(process("web", stop_all=When.NEVER), DB).start()
        app.exited("web", returncode)
        assert spawns(app.reload(process("web", stop_all=When.NEVER)._replace(command="run it"), DB)) == ["web"]

    def test_what_was_stopped_by_hand_keeps_still_with_its_new_settings(self) -> None:
        app = App(WEB, DB).start()
        app.stop("web")
        assert app.reload(OTHER_WEB, DB) == ()
        assert app.exited("web", -15) == ()
        assert app.state("web") is State.STOPPED
        assert spawns(app.tell(Start(("web",)))) == ["web"]
        assert app.fleet.members["web"].process == OTHER_WEB

    def test_what_was_never_asked_for_keeps_still(self) -> None:
        app = App(WEB, DB).start("db")
        assert app.reload(OTHER_WEB, DB) == ()

    def test_what_is_being_spawned_is_ended_and_spawned_anew(self) -> None:
        app = App(WEB)
        app.tell(Start(("web",)))
        assert app.reload(OTHER_WEB) == ()
        assert signals(app.spawned("web")) == {"web": SIGTERM}
        assert spawns(app.exited("web", -15)) == ["web"]

    def test_who_follows_its_restarts_follows_this_one(self) -> None:
        app = App(DB, process("web", following("db"))).start()
        app.answer()
        assert signals(app.reload(DB._replace(command="run it"), process("web", following("db")))) == {"web": SIGTERM}
        assert app.reason("db") == "stops after web"

    def test_it_is_no_failure_and_ends_no_app(self) -> None:
        app = App(process("web", stop_all=When.ALWAYS)).start()
        app.reload(OTHER_WEB)
        app.exited("web", 1)
        assert not app.fleet.shutting_down
        assert app.fleet.first_failure is None


class TestInPlace:
    def test_a_plan_that_is_the_same_changes_nothing(self) -> None:
        app = App(DB, process("web", "db")).start()
        before = app.fleet.members
        assert app.reload(process("db"), process("web", "db")) == ()
        assert app.fleet.members == before

    @pytest.mark.parametrize(
        "changes",
        [
            {"restart": When.ALWAYS},
            {"backoff": Backoff(9.0)},
            {"hooks": Hooks("say")},
            {"stop_all": When.NEVER},
            {"stop": StopPolicy(2, 1.0)},
            {"depends_on": (Dependency("db"),)},
            {"quiet": True},
            {"success_codes": frozenset({7})},
            {"watch": Watch("/", ("src",))},
        ],
    )
    def test_other_settings_are_taken_over_without_a_restart(self, changes: dict[str, object]) -> None:
        app = App(DB, WEB).start()
        run = app.run("web")
        other = WEB._replace(**changes)  # type: ignore[arg-type]
        assert app.reload(DB, other) == ()
        assert app.fleet.members["web"].process == other
        assert (app.state("web"), app.run("web")) == (State.RUNNING, run)

    def test_the_next_end_is_judged_by_the_new_policy(self) -> None:
        app = App(process("web", stop_all=When.ALWAYS), DB).start()
        app.reload(process("web", restart=When.ON_FAILURE), DB)
        app.exited("web", 1)
        assert app.state("web") is State.RESTARTING

    def test_an_end_of_which_the_consequences_are_drawn_has_no_new_ones(self) -> None:
        app = App(process("web", stop_all=When.NEVER), DB).start()
        app.exited("web", 1)
        app.reload(process("web", stop_all=When.ALWAYS), DB)
        app.stop("web")
        assert not app.fleet.shutting_down

    def test_a_dependency_that_was_removed_is_not_waited_for(self) -> None:
        app = App(DB, process("web", "db")).start("web")
        assert app.reason("web") == "waiting for db, which is not started"
        assert spawns(app.reload(DB, process("web"))) == ["web"]

    def test_what_was_skipped_for_it_starts(self) -> None:
        job = process("job", oneshot=True, stop_all=When.NEVER)
        app = App(job, process("web", completed("job"))).start()
        app.exited("job", 1)
        assert app.state("web") is State.SKIPPED
        assert spawns(app.reload(job, process("web"))) == ["web"]

    def test_the_order_of_stopping_is_that_of_the_new_dependencies(self) -> None:
        app = App(DB, WEB).start()
        app.reload(DB, process("web", "db"))
        assert signals(app.tell(Shutdown(0))) == {"web": SIGTERM}

    def test_during_a_shutdown_nothing_changes(self) -> None:
        app = App(DB, WEB).start()
        app.tell(Shutdown(0))
        before = app.fleet
        assert app.reload(OTHER_WEB) == ()
        assert app.fleet is before


class TestHealth:
    def test_one_that_is_added_makes_it_up_when_it_has_passed(self) -> None:
        app = App(WEB).start()
        assert checks(app.reload(process("web", health=HEALTH))) == ["web"]
        assert app.state("web") is State.STARTING
        app.checked("web")
        assert app.state("web") is State.HEALTHY

    def test_one_that_is_removed_leaves_it_running(self) -> None:
        app = App(process("web", health=HEALTH)).start()
        assert app.reload(WEB) == (CancelCheck("web", 1),)
        assert (app.state("web"), app.reason("web")) == (State.RUNNING, "running")
        assert app.checked("web", "refused") == ()

    def test_another_one_begins_anew_and_the_check_under_way_is_cancelled(self) -> None:
        app = App(process("web", health=HEALTH)).start()
        app.checked("web")
        app.tick(10.0)
        other = Health(check=CHECK, start_timeout=3.0)
        assert app.reload(process("web", health=other)) == (CancelCheck("web", 1), StartCheck("web", 1))
        assert app.state("web") is State.STARTING
        assert fleet.deadline(app.fleet) == 13.0

    def test_its_hook_is_run_once_for_each_run(self) -> None:
        hooks = Hooks("is up")
        app = App(process("web", hooks=hooks)).start()
        app.reload(process("web", hooks=hooks, health=HEALTH))
        assert not any(isinstance(action, StartHook) for action in app.checked("web"))

    def test_a_line_that_has_come_is_not_waited_for_again(self) -> None:
        log = LogCheck("ready")
        app = App(process("web", health=Health(log=log))).start()
        app.matched("web")
        assert app.reload(process("web", health=Health(log=log, start_timeout=1.0))) == ()
        assert app.state("web") is State.HEALTHY
        assert fleet.deadline(app.fleet) is None

    def test_who_follows_its_restarts_does_not_take_this_for_one(self) -> None:
        db = process("db", health=HEALTH)
        web = process("web", healthy("db", restart=True))
        app = App(db, web).start()
        app.checked("db")
        app.answer()
        assert checks(app.reload(process("db", health=Health(check=CHECK, interval=1.0)), web)) == ["db"]
        assert app.state("web") is State.RUNNING

    def test_a_policy_that_restarts_what_is_unhealthy_does_so_at_once(self) -> None:
        health = Health(check=CHECK, retries=1)
        app = App(process("web", health=health)).start()
        app.checked("web")
        app.tick(10.0)
        app.checked("web", "refused")
        assert app.state("web") is State.UNHEALTHY
        assert signals(app.reload(process("web", health=health, restart=When.ALWAYS))) == {"web": SIGTERM}


class TestFiles:
    def test_what_has_changed_waits_for_the_new_quiet(self) -> None:
        app = App(WATCHED).start()
        app.changed("web")
        app.reload(process("web", watch=Watch("/", ("src",), debounce=7.0)))
        assert fleet.deadline(app.fleet) == 7.0

    @pytest.mark.parametrize("new", [WATCHED, WATCHED._replace(quiet=True)], ids=["the same", "another setting"])
    def test_a_suspended_watch_counts_again(self, new: Process) -> None:
        app = App(WATCHED).start()
        web = app.fleet.members["web"]._replace(throttle=RestartThrottle(suspended="x.log"))
        app.fleet = app.fleet._replace(members={"web": web})
        app.changed("web")
        assert fleet.deadline(app.fleet) is None
        app.reload(new)
        app.changed("web")
        assert fleet.deadline(app.fleet) == 1.0

    def test_without_a_watch_it_does_not_matter_any_more(self) -> None:
        app = App(WATCHED).start()
        app.changed("web")
        app.reload(WEB)
        assert fleet.deadline(app.fleet) is None

    def test_without_a_watch_the_preparation_is_cancelled(self) -> None:
        app = App(process("web", watch=Watch("/", ("app",), debounce=0.0, run="make"))).start()
        app.changed("web")
        assert any(isinstance(action, RunPreparation) for action in app.tick(0.0))
        assert app.reload(WEB) == (CancelPreparation("web"),)
        assert app.tell(PreparationEnded("web", succeeded=True)) == ()
        assert app.state("web") is State.RUNNING

    def test_a_preparation_that_nobody_needs_any_more_is_good_for_a_restart_all_the_same(self) -> None:
        app = App(process("web", watch=Watch("/", ("app",), debounce=0.0, run="make"))).start()
        app.changed("web")
        app.tick(0.0)
        app.reload(process("web", watch=Watch("/", ("app",), debounce=0.0)))
        sent = [
            action for action in app.tell(PreparationEnded("web", succeeded=True)) if isinstance(action, SendSignal)
        ]
        assert [action.signal for action in sent] == [SIGTERM]

    @pytest.mark.parametrize(
        ("before", "after"), [(WEB, WATCHED), (WATCHED, WEB)], ids=["a watch comes", "a watch goes"]
    )
    def test_whether_a_change_starts_it_again_is_said_of_what_has_ended(self, before: Process, after: Process) -> None:
        app = App(before._replace(stop_all=When.NEVER), DB).start()
        app.exited("web", 1)
        app.reload(after._replace(stop_all=When.NEVER), DB)
        until = "; starts again when its files change" if after.watch else ""
        assert app.reason("web") == f"exited with code 1{until}"


def test_a_plan_names_those_that_start_only_where_they_are_new() -> None:
    app = App(DB, WEB).start("db")
    assert app.tell(Start(())) == ()
    assert app.reload(DB, WEB, names=("web", "db")) == ()
    assert app.state("web") is State.STOPPED


def test_facts_of_one_that_is_gone_are_ignored() -> None:
    app = App(DB, WEB).start()
    app.reload(DB)
    app.exited("web", -15)
    assert app.tell(CheckFinished("web", 1)) == ()
    assert app.tell(ChildExited("web", 1, Exit(code=0), leftovers=False)) == ()
    assert app.fleet == fleet.step(app.fleet, CheckFinished("web", 1), 0.0)[0]
    assert not any(isinstance(action, Spawn) for action in app.actions)
    assert fleet.begin(Plan((DB,))).members.keys() == app.fleet.members.keys()
