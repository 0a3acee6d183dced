"""Measure how long a manager takes to stop a hundred children that end at once on a signal.

The time runs from SIGTERM to the manager until the manager has ended, and until the last child has. A note reports
children that are left behind.
"""

from measurement import Case, Column, Sample, Settings, Table, show_seconds
from peers import Peer
from session import SampleError, Session

CHILDREN = 100
SETTLE_SECONDS = 0.5
LIMIT_SECONDS = 15.0
MANAGER, LAST = "the manager has ended", "the last child has ended"


def tables(settings: Settings) -> list[Table]:
    """Return the table of both ends."""
    del settings
    case = Case(f"stop {CHILDREN} children", (MANAGER, LAST), measure)
    columns = (Column(MANAGER, show_seconds), Column(LAST, show_seconds))
    return [Table("stop", f"Stop {CHILDREN} children: from SIGTERM to the manager until", columns, (case,))]


def measure(peer: Peer) -> Sample:
    """Take one sample."""
    session = Session(peer)
    session.add_sleepers(CHILDREN)
    with session:
        session.wait_ready()
        session.rest(SETTLE_SECONDS)
        ended = session.terminate(LIMIT_SECONDS)
    if ended.manager is None:
        raise SampleError(f"did not end within {LIMIT_SECONDS:g} s of SIGTERM")
    values = {MANAGER: ended.manager}
    if ended.children is None:
        return Sample(values, {LAST: f"left {ended.left} of {CHILDREN} children running"})
    return Sample(values | {LAST: ended.children})
