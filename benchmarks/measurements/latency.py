"""Measure the time of a line from the child that writes it to the reader of the manager's output.

A child writes a line with the monotonic time every 10 ms. All processes share this clock, so the reader subtracts. The
child runs alone, and beside a child that floods, whose lines the reader discards. On two cores, the flood, the manager,
the reader and the ticking child compete: the row `cat` shows the limit of the machine.
"""

import os
import select
import time

from measurement import Case, Column, Sample, Settings, Table, show_seconds
from peers import Peer
from producer import TICK_SECONDS
from session import SampleError, Session
from sinks import READ_BYTES

TICKER, FLOOD = "tick", "p01"
SKIPPED = 10
WAIT_SECONDS = 5.0
PERCENTILES = (50, 99)


def tables(settings: Settings) -> list[Table]:
    """Return the table with the percentiles of both situations."""
    situations = ("idle", "beside a flood")
    columns = tuple(Column(_label(part, name), show_seconds) for name in situations for part in PERCENTILES)
    ticks = SKIPPED + (50 if settings.quick else 150)

    def case(situation: str) -> Case:
        def measure(peer: Peer) -> Sample:
            return _measure(peer, situation, ticks, beside_flood=situation != "idle")

        return Case(situation, tuple(_label(part, situation) for part in PERCENTILES), measure)

    title = "Latency of a line into a pipe"
    return [Table("latency", title, columns, tuple(case(situation) for situation in situations))]


def _label(part: int, situation: str) -> str:
    return f"{situation}, p{part}"


def _measure(peer: Peer, situation: str, ticks: int, *, beside_flood: bool) -> Sample:
    session = Session(peer)
    session.add_producer(TICKER, "ticks", ticks)
    if beside_flood:
        session.add_producer(FLOOD, "flood", 120)
    with session:
        session.wait_ready()
        start = session.open_gate()
        delays = read_ticks(session, ticks, start + ticks * TICK_SECONDS + WAIT_SECONDS)
    # Skip the first lines: the flood has not fully started.
    arrived = sorted(delay for number, delay in delays.items() if number >= SKIPPED)
    missing = ticks - SKIPPED - len(arrived)
    if not arrived:
        raise SampleError("no line arrived")
    arrived += [WAIT_SECONDS] * missing
    values = {_label(part, situation): arrived[(len(arrived) - 1) * part // 100] for part in PERCENTILES}
    note = f"{missing} of {len(arrived)} lines had not arrived after {WAIT_SECONDS:g} s and count as that long"
    return Sample(values, {_label(99, situation): note} if missing else {})


def read_ticks(session: Session, ticks: int, deadline: float) -> dict[int, float]:
    """Return the delay in seconds of each tick by its number. Discard all other lines."""
    mark = f"@{TICKER} ".encode()
    reader = session.sink.reader
    if reader is None:
        raise SampleError("there is no pipe to read")
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    delays: dict[int, float] = {}
    rest = b""
    while len(delays) < ticks and (left := deadline - time.monotonic()) > 0:
        try:
            chunk = os.read(reader, READ_BYTES)
        except BlockingIOError:
            poll.poll(left * 1000)
            continue
        now = time.monotonic_ns()
        if not chunk:
            break
        chunk = rest + chunk
        end = chunk.rfind(b"\n") + 1
        place = chunk.find(mark, 0, end)
        while place >= 0:
            number, written = chunk[place + len(mark) : chunk.index(b".", place)].split()
            delays.setdefault(int(number), (now - int(written)) / 1e9)
            place = chunk.find(mark, place + len(mark), end)
        rest = chunk[end:]
    return delays
