"""How many lines of 100 bytes a manager passes on in a second, and whether all of them arrive.

The clock runs from the opening of the gate, when every producer has its lines ready, to the last byte at the reader:
neither the start of the manager nor that of the producers is in it. Each line is checked: whole, once, in order, under
the prefix of its own process. A fast manager gets a million lines, a slow one as many as it manages in a few seconds.
"""

from collections.abc import Mapping
from functools import partial

import verification
from measurement import Case, Column, Sample, Settings, Table, show_rate
from peers import Peer
from session import SampleError, Session

from measurements import flood

SINKS = {"pipe": "a pipe", "file": "a file", "terminal": "a pseudo-terminal"}
PRODUCERS = (1, 4, 16)
# A prefix, its colours and the carriage return of a terminal must fit beside the 100 bytes of a line.
CAPACITY_PER_LINE = 220
CAPACITY_FOR_MESSAGES = 1 << 20
FIRST_LINES = 20_000
FIRST_SECONDS = 0.2
COLLECT_SECONDS = 40.0


def tables(settings: Settings) -> list[Table]:
    """Return a table for each sink, and the one of memory under the same load."""
    producers = (4,) if settings.quick else PRODUCERS
    throughput = [
        Table(
            "output",
            f"Output to {name}, lines per second",
            tuple(Column(_label(count), show_rate) for count in producers),
            tuple(
                Case(f"to {name}, {_label(count)}", (_label(count),), Throughput(settings, sink, count).measure)
                for count in producers
            ),
        )
        for sink, name in SINKS.items()
    ]
    return [*throughput, flood.table(settings)]


def _label(count: int) -> str:
    return "1 producer" if count == 1 else f"{count} producers"


class Throughput:
    """One column: it remembers how fast each peer was, to choose the number of lines."""

    def __init__(self, settings: Settings, sink: str, producers: int) -> None:
        self.settings = settings
        self.sink = sink
        self.names = [f"p{number:02}" for number in range(1, producers + 1)]
        self.column = _label(producers)
        self.lines: dict[str, int] = {}

    def measure(self, peer: Peer) -> Sample:
        """Take one sample; the first of a peer is preceded by shorter ones that find its number of lines."""
        if peer.name not in self.lines:
            self.lines[peer.name] = self._fitting(peer)
        seconds, verdict, total = self._run(peer, self.lines[peer.name])
        if not verdict.whole:
            raise SampleError("no whole line arrived")
        faults = str(verdict)
        notes = {self.column: f"of {total:,} lines: {faults}"} if faults else {}
        return Sample({self.column: verdict.whole / seconds}, notes)

    def _fitting(self, peer: Peer) -> int:
        lines = FIRST_LINES
        while True:
            seconds, verdict, _ = self._run(peer, lines)
            if not verdict.whole:
                raise SampleError("no whole line arrived")
            if lines == self.settings.most_lines or seconds >= FIRST_SECONDS:
                wanted = int(verdict.whole / seconds * self.settings.seconds)
                return min(self.settings.most_lines, max(FIRST_LINES, wanted))
            lines = min(self.settings.most_lines, lines * 5)

    def _run(self, peer: Peer, lines: int) -> tuple[float, verification.Verdict, int]:
        counts: Mapping[str, int] = dict.fromkeys(self.names, lines // len(self.names))
        total = sum(counts.values())
        session = Session(peer, self.sink)
        for name, count in counts.items():
            session.add_producer(name, "lines", count)
        with session:
            session.wait_ready()
            capacity = CAPACITY_PER_LINE * total + CAPACITY_FOR_MESSAGES
            session.sink.prepare(capacity)
            start = session.open_gate()
            finished = partial(verification.last_lines_present, counts=counts)
            collected = session.sink.collect(finished, COLLECT_SECONDS)
        verdict = verification.verify(
            collected.data, collected.length, counts, keeps_lines=peer.keeps_lines, prefixes=peer.prefixes
        )
        return collected.last - start, verdict, total
