"""How long a manager takes to end a hundred children that end at once when asked to.

From SIGTERM to the manager until it is gone; whoever is left behind then is told in a note.
"""

import time

import processes
from measurement import Case, Column, Sample, Settings, Table, show_seconds
from peers import Peer
from session import SampleError, Session

CHILDREN = 100
SETTLE_SECONDS = 0.5
LIMIT_SECONDS = 15.0
MOURNING_SECONDS = 0.3
STOP = f"{CHILDREN} children"


def tables(settings: Settings) -> list[Table]:
    """Return the table of one column."""
    del settings
    case = Case(f"stop {STOP}", (STOP,), measure)
    return [Table("stop", "Stop: from SIGTERM until the manager has ended", (Column(STOP, show_seconds),), (case,))]


def measure(peer: Peer) -> Sample:
    """Take one sample."""
    session = Session(peer)
    session.add_sleepers(CHILDREN)
    with session:
        session.wait_ready()
        session.rest(SETTLE_SECONDS)
        seconds = session.terminate(LIMIT_SECONDS)
        if seconds is None:
            raise SampleError(f"did not end within {LIMIT_SECONDS:g} s of SIGTERM")
        time.sleep(MOURNING_SECONDS)
        left = processes.children_alive()
    return Sample({STOP: seconds}, {STOP: f"left {left} of {CHILDREN} children running"} if left else {})
