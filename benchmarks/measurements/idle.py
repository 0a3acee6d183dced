"""Measure wake-ups and processor time of a manager while nothing happens."""

import time

import processes
from measurement import Case, Column, Sample, Settings, Table, show_count, show_share
from peers import Peer
from session import Session

CHILDREN = 10
SETTLE_SECONDS = 1.0
SECONDS = 2.0
OWN, ALL = "wake-ups a second, manager", "wake-ups a second, with helpers"
TIME = "processor time, with helpers"


def tables(settings: Settings) -> list[Table]:
    """Return the table of wake-ups and processor time; a wake-up is a voluntary context switch of any thread."""
    del settings
    columns = (Column(OWN, show_count), Column(ALL, show_count), Column(TIME, show_share))
    title = f"Idle: {CHILDREN} children that do nothing, over {SECONDS:g} s"
    return [Table("idle", title, columns, (Case("idle", (OWN, ALL, TIME), measure),))]


def measure(peer: Peer) -> Sample:
    """Take one sample."""
    session = Session(peer)
    session.add_sleepers(CHILDREN)
    with session:
        session.wait_ready()
        session.rest(SETTLE_SECONDS)
        family = session.family()
        before = time.monotonic()
        own, everyone = processes.usage(family[:1]), processes.usage(family)
        # No reading meanwhile: an idle manager writes nothing, and the pipe has room.
        time.sleep(SECONDS)
        seconds = time.monotonic() - before
        own, everyone = processes.usage(family[:1]) - own, processes.usage(family) - everyone
    return Sample({OWN: own.switches / seconds, ALL: everyone.switches / seconds, TIME: everyone.processor / seconds})
