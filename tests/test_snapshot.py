"""What is told of a process at one moment."""

import pytest

from procreaper.changes import Pace
from procreaper.events import State
from procreaper.life import Lifecycle
from procreaper.plan import Process
from procreaper.snapshot import UNWATCHED, take

PROCESS = Process("web.1", "serve")


@pytest.mark.parametrize("state", [State.RUNNING, State.HEALTHY])
def test_of_one_whose_watch_is_suspended_it_is_said(state: State) -> None:
    life = Lifecycle(PROCESS, state=state, reason="", pace=Pace(suspended=True))
    assert take(life, None).reason == UNWATCHED
    assert take(life._replace(pace=Pace()), None).reason == ""


def test_why_it_is_not_up_comes_first() -> None:
    life = Lifecycle(PROCESS, state=State.RESTARTING, reason="exited with code 1", pace=Pace(suspended=True))
    assert take(life, None).reason == "exited with code 1"
