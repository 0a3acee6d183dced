"""Measure a manager while the reader of its output stalls under a flood of four producers.

There are two kinds of runs. In the first, the flood is endless: nothing is read while the memory of the
manager is measured, and while it then gets SIGTERM. In the second, the lines are counted: the reader stalls, reads on,
and no line may be missing.
"""

import time
from functools import partial

import verification
from measurement import Case, Column, Sample, Settings, Table, show_count, show_memory, show_seconds
from peers import Peer
from session import Session

from measurements import flood

TERM_SECONDS = 7.0
COLLECT_SECONDS = 40.0
CAPACITY_PER_LINE = 220
OWN, ALL = "manager, peak", "with helpers, peak"
TERM, LAST = "SIGTERM until the end", "until the last child's"
LOST = "lines lost or damaged"


def tables(settings: Settings) -> list[Table]:
    """Return the table of memory, obedience and losses."""
    columns = (
        Column(OWN, show_memory),
        Column(ALL, show_memory),
        Column(TERM, show_seconds),
        Column(LAST, show_seconds),
        Column(LOST, show_count),
    )
    cases = (
        Case("stalled, SIGTERM", (OWN, ALL, TERM, LAST), partial(_terminate, settings)),
        Case("stalled, reads on", (LOST,), partial(_read_on, settings)),
    )
    title = f"Stalled reader: nobody reads for {settings.stall:g} s under a flood of {flood.PRODUCERS} producers"
    return [Table("stalled", title, columns, cases)]


def _terminate(settings: Settings, peer: Peer) -> Sample:
    with flood.flooded(peer, settings.stall) as session:
        endured = flood.endure(session, settings.stall, reading=False)
        values: dict[str, float] = {OWN: endured.own, ALL: endured.all}
        ended = session.terminate(TERM_SECONDS, reading=False)
    notes: dict[str, str] = {}
    if ended.manager is None:
        notes[TERM] = f"did not end within {TERM_SECONDS:g} s of SIGTERM while nobody read"
    else:
        values[TERM] = ended.manager
    if ended.children is None:
        notes[LAST] = f"{ended.left} of {flood.PRODUCERS} children went on running"
    else:
        values[LAST] = ended.children
    return Sample(values, notes)


def _read_on(settings: Settings, peer: Peer) -> Sample:
    # More than any buffer should hold, little enough for a slow manager to be done within the limit.
    counts = {f"p{number:02}": 10_000 if settings.quick else 25_000 for number in range(1, flood.PRODUCERS + 1)}
    total = sum(counts.values())
    session = Session(peer)
    for name, count in counts.items():
        session.add_producer(name, "lines", count)
    with session:
        session.wait_ready()
        session.sink.prepare(total * CAPACITY_PER_LINE)
        session.open_gate()
        time.sleep(settings.stall)
        finished = partial(verification.last_lines_present, counts=counts)
        collected = session.sink.collect(finished, COLLECT_SECONDS)
    verdict = verification.verify(
        collected.data, collected.length, counts, keeps_lines=peer.keeps_lines, prefixes=peer.prefixes
    )
    faults = str(verdict)
    notes = {LOST: f"of {total:,} lines: {faults}"} if faults else {}
    return Sample({LOST: verdict.lost + verdict.repeated + verdict.disordered + verdict.damaged}, notes)
