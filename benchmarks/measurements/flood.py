"""Measure the memory of a manager under a flood that its reader consumes.

Measuring memory disturbs the throughput, so throughput has separate runs.
"""

import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass

import processes
import producer
from measurement import Case, Column, Sample, Settings, Table, show_memory
from peers import Peer
from session import SampleError, Session

PRODUCERS = 4
LOOK_SECONDS = 0.1
MOST_MEMORY = 3 << 30
OWN, ALL = "manager, peak", "with helpers, peak"


@dataclass(frozen=True, slots=True)
class Endured:
    """The peak memory of a manager under a flood, in bytes, and the number of lines read."""

    own: int
    all: int
    lines: int


def table(settings: Settings) -> Table:
    """Return the table of memory."""

    def measure(peer: Peer) -> Sample:
        with flooded(peer, settings.stall) as session:
            endured = endure(session, settings.stall, reading=True)
        if not endured.lines:
            raise SampleError("no line arrived")
        return Sample({OWN: endured.own, ALL: endured.all})

    columns = (Column(OWN, show_memory), Column(ALL, show_memory))
    title = f"Memory (PSS) under a flood of {PRODUCERS} producers into a pipe for {settings.stall:g} s"
    return Table("output", title, columns, (Case("memory under a flood", (OWN, ALL), measure),))


def flooded(peer: Peer, seconds: float) -> Session:
    """Return a session, not yet entered, whose producers write endlessly once the gate is open."""
    session = Session(peer)
    for number in range(1, PRODUCERS + 1):
        # The producers must outlast the measurement.
        session.add_producer(f"p{number:02}", "flood", int(seconds) + 60)
    return session


def endure(session: Session, seconds: float, *, reading: bool) -> Endured:
    """Open the gate and measure the manager for some seconds, while the reader reads or stalls."""
    session.wait_ready()
    family = session.family()
    own = everyone = lines = 0
    start = look = session.open_gate()
    poll = select.poll()
    if reading and session.sink.reader is not None:
        poll.register(session.sink.reader, select.POLLIN)
    while (now := time.monotonic()) < start + seconds:
        if now >= look:
            if session.ended():
                raise SampleError(f"ended under the flood{session.last_words()}")
            mine = processes.memory(family[:1])
            own = max(own, mine)
            everyone = max(everyone, mine + processes.memory(family[1:]))
            if everyone > MOST_MEMORY:
                raise SampleError(f"more than {MOST_MEMORY >> 30} GiB of memory")
            look = time.monotonic() + LOOK_SECONDS
        if poll.poll(max(0.0, look - time.monotonic()) * 1000) and session.sink.reader is not None:
            with suppress(BlockingIOError):
                lines += os.read(session.sink.reader, 1 << 20).count(producer.MARK)
    return Endured(own, everyone, lines)
