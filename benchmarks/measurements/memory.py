"""Measure the memory of a manager with idle children.

The proportional set size (PSS) divides a page among the processes that share it: pages that a manager in Python shares
with other Python processes on the machine count less. Helpers are processes of the manager, not of its children.
"""

from functools import partial

import processes
from measurement import Case, Column, Sample, Settings, Table, show_memory
from peers import Peer
from session import Session

COUNTS = (1, 100)
SETTLE_SECONDS = 0.5


def tables(settings: Settings) -> list[Table]:
    """Return the table of one child and a hundred."""
    del settings
    cases = tuple(Case(f"{count} idle", (_own(count), _all(count)), partial(measure, count)) for count in COUNTS)
    columns = tuple(Column(label, show_memory) for case in cases for label in case.columns)
    return [Table("memory", "Memory (PSS) beside idle children", columns, cases)]


def _own(count: int) -> str:
    return f"{count}, manager"


def _all(count: int) -> str:
    return f"{count}, with helpers"


def measure(count: int, peer: Peer) -> Sample:
    """Take one sample."""
    session = Session(peer)
    session.add_sleepers(count)
    with session:
        session.wait_ready()
        session.rest(SETTLE_SECONDS)
        family = session.family()
        return Sample({_own(count): processes.memory(family[:1]), _all(count): processes.memory(family)})
