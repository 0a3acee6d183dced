"""The wait for the outcome of a request: the rules of the command alone, without an app."""

from __future__ import annotations

import msgspec
import pytest

from procreaper.cli.commands.change import REPORT_WAIT_AFTER, Waiting
from procreaper.core.outcome import CONFIRMED_AFTER, Goal
from procreaper.remote.api.protocol import ProcessStatus, RemovedNotice, StatusNotice


def process(state: str = "running", run: int = 2, *, up: bool = True) -> ProcessStatus:
    return ProcessStatus("web.1", "web", state, "because", run, 7, 0, 0, 0.0, 0.0, None, up)


def told(found: ProcessStatus) -> StatusNotice:
    return StatusNotice(0.0, found)


@pytest.mark.parametrize("state", ["running", "healthy"])
def test_process_counts_as_up_after_a_moment(state: str) -> None:
    waiting = Waiting({"web.1": (Goal.RESTARTED, 1)}, [process(state)])
    assert waiting.check(10.0) == []
    assert waiting.deadline == 10.0 + CONFIRMED_AFTER
    assert waiting.check(10.0 + CONFIRMED_AFTER) == ["web.1"]
    assert waiting.describe("web.1") == "web.1 restarted (pid 7)"


def test_completed_process_counts_at_once() -> None:
    waiting = Waiting({"web.1": (Goal.UP, 1)}, [process("completed")])
    assert waiting.check(10.0) == ["web.1"]


def test_process_that_dies_within_the_moment_was_never_up() -> None:
    waiting = Waiting({"web.1": (Goal.RESTARTED, 1)}, [process()])
    waiting.check(10.0)
    waiting.take(told(process("failed", up=False)))
    assert waiting.check(10.1) == ["web.1"]
    assert waiting.describe("web.1") == "web.1 was not restarted: failed: because"


def test_moment_of_an_earlier_run_sets_no_deadline() -> None:
    waiting = Waiting({"web.1": (Goal.RESTARTED, 1)}, [process()])
    waiting.check(10.0)
    waiting.take(told(process("starting", run=3, up=False)))
    assert waiting.check(10.1) == []
    assert waiting.deadline is None
    assert waiting.progress() == "web.1 starting: because"


def test_removed_process_reaches_its_goal() -> None:
    waiting = Waiting({"web.1": (Goal.REMOVED, 1)}, [process()])
    assert waiting.check(0.0) == []
    waiting.take(RemovedNotice(0.0, "web.1"))
    assert waiting.check(0.0) == ["web.1"]
    assert waiting.describe("web.1") == "web.1 removed"


def test_reason_that_begins_with_the_state_is_printed_once() -> None:
    stopping = msgspec.structs.replace(process("stopping", up=False), reason="stopping")
    assert Waiting({"web.1": (Goal.STOPPED, 2)}, [stopping]).progress() == "web.1 stopping"


def pending(name: str, *waits_for: str) -> ProcessStatus:
    return ProcessStatus(name, "web", "pending", "waiting", 1, None, 0, 0, 0.0, None, None, False, waits_for=waits_for)


def dependency(state: str, reason: str, run: int = 1) -> ProcessStatus:
    return ProcessStatus("db.1", "db", state, reason, run, None, 0, 0, 0.0, None, None, False)


@pytest.mark.parametrize("goal", [Goal.UP, Goal.RESTARTED])
def test_stopped_dependency_ends_the_wait(goal: Goal) -> None:
    waiting = Waiting({"web.1": (goal, 1)}, [pending("web.1", "db.1"), dependency("stopped", "stopped")])
    assert waiting.check(0.0) == ["web.1"]
    assert waiting.outcomes["web.1"].obstacle == "it waits for db.1, which is stopped"
    assert waiting.remedy("web.1") == "it starts as soon as db.1 is up; `procreaper up db.1` starts that"


def test_failed_dependency_ends_the_wait() -> None:
    goals = {"db.1": (Goal.UP, 1), "web.1": (Goal.UP, 1)}
    waiting = Waiting(goals, [pending("web.1", "db.1"), dependency("starting", "waiting for its check")])
    assert waiting.check(0.0) == []
    waiting.take(told(dependency("restarting", "not healthy within 1 s; retry 1 in 2.0 s", run=2)))
    assert waiting.check(0.0) == ["db.1", "web.1"]
    assert waiting.remedy("web.1").endswith("`procreaper logs db.1` shows what that wrote")


def test_long_wait_for_a_dependency_is_reported_once() -> None:
    waiting = Waiting({"web.1": (Goal.UP, 1)}, [pending("web.1", "db.1"), dependency("starting", "waiting for it")])
    waiting.check(10.0)
    assert waiting.deadline == 10.0 + REPORT_WAIT_AFTER
    assert waiting.long_waits() == []
    waiting.check(10.0 + REPORT_WAIT_AFTER)
    assert waiting.long_waits() == ["web.1 waits for db.1, which is starting: waiting for it"]
    waiting.check(20.0)
    assert (waiting.long_waits(), waiting.deadline) == ([], None)
