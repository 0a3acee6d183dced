"""The status of a process at one moment."""

import pytest

from procreaper.core.events import State
from procreaper.core.plan import Process
from procreaper.core.state import Change, ProcessState, RestartThrottle
from procreaper.core.status import status_of

PROCESS = Process("web.1", "serve")
SUSPENDED = RestartThrottle(suspended="x.log")


@pytest.mark.parametrize("state", [State.RUNNING, State.HEALTHY])
def test_a_suspended_watch_is_named_with_its_file(state: State) -> None:
    process_state = ProcessState(PROCESS, state=state, reason="", throttle=SUSPENDED)
    assert status_of(process_state, None).reason == "watch suspended: x.log changed right after every start"
    assert status_of(process_state._replace(throttle=RestartThrottle()), None).reason == ""


def test_a_change_that_waits_for_a_calm_is_named() -> None:
    change = Change("x.log", frozenset({"x.log", "y.log"}), since=0.0, due=4.0, calm=4.0)
    process_state = ProcessState(PROCESS, state=State.RUNNING, reason="", change=change)
    assert status_of(process_state, None).reason == "x.log and 1 other changed; waiting until no file changes"
    assert status_of(process_state._replace(change=change._replace(calm=0.0)), None).reason == ""


def test_the_reason_why_a_process_is_not_up_comes_first() -> None:
    process_state = ProcessState(PROCESS, state=State.RESTARTING, reason="exited with code 1", throttle=SUSPENDED)
    assert status_of(process_state, None).reason == "exited with code 1"
