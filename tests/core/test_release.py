"""Processes that live on when the app ends: let go, not stopped; and the end of one that an earlier app had started."""

from __future__ import annotations

import pytest
from support.fleet_driver import HEALTH, SIGKILL, SIGTERM, App, announced, process, signals, spawns, without_words

from procreaper.core.events import (
    Action,
    CancelCheck,
    ChildExited,
    Exit,
    GroupEnded,
    Release,
    SendSignal,
    Shutdown,
    Spawned,
    Start,
    State,
)
from procreaper.core.plan import Process, When
from procreaper.core.transitions import describe

QUIT, CTRL_C = Shutdown(0), Shutdown(130, insistent=True)
DB = process("db")._replace(detached=True)


def app_of(*others: Process) -> App:
    return App(DB, *others).start()


def test_the_end_of_the_app_lets_it_go_and_the_app_waits_no_longer_for_it() -> None:
    app = app_of()
    pid = app.fleet.members["db"].pid
    actions = app.tell(QUIT)
    assert without_words(actions) == (Release("db", 1),)
    assert announced(actions) == [f"db: keeps running without procreaper (pid {pid})"]
    assert (app.state("db"), app.verdict) == (State.STOPPED, 0)


def test_others_are_stopped_meanwhile_and_those_on_which_it_depends_do_not_wait_for_it() -> None:
    app = App(process("net"), process("db", "net")._replace(detached=True), process("web")).start()
    app.answer()
    actions = without_words(app.tell(QUIT))
    assert actions[0] == Release("db", 1)
    assert signals(actions[1:]) == {"net": SIGTERM, "web": SIGTERM}


def test_whoever_insists_does_not_kill_it() -> None:
    app = app_of(process("web"))
    app.tell(CTRL_C)
    assert signals(app.tell(CTRL_C)) == {"web": SIGKILL}


def test_one_that_is_being_spawned_is_let_go_once_it_is_there() -> None:
    app = App(DB)
    app.tell(Start(("db",)))
    assert app.tell(CTRL_C) == ()
    assert app.tell(CTRL_C) == ()
    assert app.verdict is None
    assert without_words(app.tell(Spawned("db", 1, 7))) == (Release("db", 1),)
    assert app.verdict == 130


def test_one_that_could_not_be_spawned_then_is_just_not_there() -> None:
    app = App(DB)
    app.tell(Start(("db",)))
    app.tell(QUIT)
    app.not_spawned("db")
    assert app.verdict == 0


def test_what_happens_to_it_afterwards_does_not_matter() -> None:
    app = app_of(process("web"))
    app.tell(QUIT)
    before = app.fleet
    assert app.tell(ChildExited("db", 1, Exit(code=1), leftovers=True)) == ()
    assert app.tell(GroupEnded("db", 1)) == ()
    assert app.fleet == before


def test_a_check_under_way_is_cancelled() -> None:
    app = App(process("db", health=HEALTH)._replace(detached=True)).start()
    assert set(without_words(app.tell(QUIT))) == {CancelCheck("db", 1), Release("db", 1)}


@pytest.mark.parametrize("how", ["stop", "restart", "removal"])
def test_when_somebody_asks_for_its_end_it_ends_like_any_other(how: str) -> None:
    app = app_of(process("web"))
    match how:
        case "stop":
            actions = app.stop("db")
        case "restart":
            actions = app.restart("db")
        case _:
            actions = app.reload(process("web"))
    assert signals(actions) == {"db": SIGTERM}
    assert not any(isinstance(action, Release) for action in app.tell(QUIT))
    assert app.state("db") is State.STOPPING
    app.exited("web", 0)
    app.exited("db", 0)
    assert app.verdict == 0


def test_the_end_of_another_that_ends_the_app_lets_it_go_too() -> None:
    app = app_of(process("web", stop_all=When.ALWAYS))
    assert without_words(app.exited("web", 3)) == (Release("db", 1),)
    assert app.verdict == 3


def test_an_app_of_nothing_else_goes_on_as_long_as_it_runs() -> None:
    app = App(DB._replace(stop_all=When.NEVER)).start()
    assert app.verdict is None
    app.exited("db", 0)
    assert app.verdict == 0


def test_one_that_is_to_be_detached_has_to_be_started_anew_before_it_lives_on() -> None:
    app = App(process("db")).start()
    assert signals(app.reload(DB)) == {"db": SIGTERM}
    assert spawns(app.exited("db", -15)) == ["db"]
    app.answer()
    assert without_words(app.tell(QUIT)) == (Release("db", 1 + 1),)


class TestAnEndThatNobodyKnows:
    def adopted(self, *, success_codes: frozenset[int] = frozenset({0}), restart: When = When.NEVER) -> App:
        app = App(process("db", success_codes=success_codes, restart=restart)._replace(detached=True)).start()
        app.tell(ChildExited("db", 1, Exit(), leftovers=False))
        return app

    def test_it_is_a_failure_whatever_counts_as_success(self) -> None:
        assert self.adopted(success_codes=frozenset({0, 1})).state("db") is State.FAILED

    def test_it_is_told_in_words(self) -> None:
        app = self.adopted()
        assert app.reason("db") == "ended; how is not known, because an earlier procreaper started it"
        assert describe(Exit()) == app.reason("db")

    def test_the_app_ends_with_a_failure(self) -> None:
        assert self.adopted().verdict == 1

    def test_it_is_tried_again_where_the_policy_says_so(self) -> None:
        assert self.adopted(restart=When.ON_FAILURE).state("db") is State.RESTARTING

    def test_a_stop_by_hand_is_none(self) -> None:
        app = App(DB).start()
        app.stop("db")
        app.tell(ChildExited("db", 1, Exit(), leftovers=False))
        assert app.state("db") is State.STOPPED

    def test_a_known_end_is_known(self) -> None:
        assert Exit(code=0).known
        assert Exit(signal=9).known
        assert not Exit().known


def test_nobody_is_told_to_end_by_letting_go() -> None:
    app = App(DB, process("one")._replace(detached=True)).start()
    actions: tuple[Action, ...] = app.tell(QUIT)
    assert not any(isinstance(action, SendSignal) for action in actions)
    assert app.fleet.finished
