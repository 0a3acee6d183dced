"""Measure the time from the spawn of a manager until the first words of its children have come out of it.

Each child is `echo ...; exec sleep 1000`; the output goes into a pipe. A warm-up before the measurement writes the byte
code of managers in Python, and fills the file cache.
"""

import os
import select
import time
from functools import partial

from measurement import Case, Column, Sample, Settings, Table, show_seconds
from peers import Peer
from session import SampleError, Session

WORDS = b"benchmark-ready"
LIMIT_SECONDS = 30.0
REPEAT = 3
FIRST = "100 processes, the first"


def tables(settings: Settings) -> list[Table]:
    """Return the table of one, ten and a hundred processes."""
    counts = (1, 100) if settings.quick else (1, 10, 100)
    cases = tuple(
        Case(
            _label(count),
            (FIRST, _label(count)) if count == 100 else (_label(count),),
            partial(measure, count),
            repeat=REPEAT,
        )
        for count in counts
    )
    columns = tuple(Column(label, show_seconds) for case in cases for label in case.columns)
    return [Table("start", "Start: from the spawn of the manager until its children have printed", columns, cases)]


def _label(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes, all"


def measure(count: int, peer: Peer) -> Sample:
    """Take one sample."""
    session = Session(peer)
    session.add_sleepers(count, through_output=True)
    with session:
        first, last = wait_for_words(session, count)
    return Sample({FIRST: first, _label(count): last} if count == 100 else {_label(count): last})


def wait_for_words(session: Session, count: int) -> tuple[float, float]:
    """Return the seconds from the spawn to the words of the first child, and to those of the last."""
    reader = session.sink.reader
    if reader is None:
        raise SampleError("there is no pipe to read")
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    read = b""
    first = 0.0
    while (now := time.monotonic()) < session.spawned + LIMIT_SECONDS:
        try:
            chunk = os.read(reader, 65536)
        except BlockingIOError:
            poll.poll((session.spawned + LIMIT_SECONDS - now) * 1000)
            continue
        now = time.monotonic()
        if not chunk:
            break
        read += chunk
        found = read.count(WORDS)
        if found and not first:
            first = now - session.spawned
        if found >= count:
            return first, now - session.spawned
    # A manager that gave up prints the reason in a line without the words of a child.
    other = [line for line in read.decode("utf-8", "replace").splitlines() if WORDS.decode() not in line]
    reason = session.last_words() or "".join(f"; its first stop: {line}" for line in other if "stopped" in line)[:200]
    raise SampleError(f"{read.count(WORDS)} of {count} children printed their words{reason}")
