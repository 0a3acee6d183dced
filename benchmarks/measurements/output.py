"""Measure how many 100-byte lines a manager passes on per second, whether all arrive, and their processor time.

The clock runs from the opening of the gate, when every producer has built its lines, to the last byte at the reader. It
excludes the start of the manager and of the producers. Each line is checked: whole, once, in order, under the prefix of
its own process. A fast manager gets a million lines, a slow one the number that it passes on in about a second.

The processor time per line is the figure that other work on the machine disturbs least.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import processes
import verification
from measurement import Case, Column, Sample, Settings, Table, show_rate, show_seconds
from peers import Peer
from session import SampleError, Session

from measurements import flood

SINKS = {"pipe": "a pipe", "file": "a file", "terminal": "a pseudo-terminal"}
PRODUCERS = (1, 4, 16)
COST = "processor time for a million lines"
# The sink and the number of producers for which the cost is reported.
COSTED = ("pipe", 4)
# A prefix, its colours and the carriage return of a terminal must fit beside the 100 bytes of a line.
CAPACITY_PER_LINE = 220
CAPACITY_FOR_MESSAGES = 1 << 20
FIRST_LINES = 20_000
FIRST_SECONDS = 0.2
COLLECT_SECONDS = 40.0


def tables(settings: Settings) -> list[Table]:
    """Return a table for each sink, and the one of memory under the same load."""
    producers = (4,) if settings.quick else PRODUCERS
    rates = Rates(settings)
    return [*(_table(sink, producers, rates) for sink in SINKS), flood.table(settings)]


def _table(sink: str, producers: tuple[int, ...], rates: "Rates") -> Table:
    cases = tuple(Throughput(sink, count, rates).case() for count in producers)
    columns = tuple(
        Column(label, show_seconds if label == COST else show_rate) for case in cases for label in case.columns
    )
    # The cost comes last.
    columns = tuple(sorted(columns, key=lambda column: column.label == COST))
    return Table("output", f"Output to {SINKS[sink]}, lines per second", columns, cases)


@dataclass(frozen=True, slots=True)
class Rates:
    """The lines per second of each peer in its last run; they determine the number of lines of its next run."""

    settings: Settings
    known: dict[str, float] = field(default_factory=dict)

    def lines(self, peer: Peer) -> int:
        """Return the number of lines that keeps a peer busy for as long as a run should take."""
        most = self.settings.most_lines
        return min(most, max(FIRST_LINES, int(self.known[peer.name] * self.settings.seconds)))


@dataclass(frozen=True, slots=True)
class Passed:
    """The result of a run with a known number of lines."""

    seconds: float
    verdict: verification.Verdict
    total: int
    processor: float

    @property
    def rate(self) -> float:
        """Whole lines per second."""
        return self.verdict.whole / self.seconds


class Throughput:
    """One column; each peer gets the same number of lines in all of its runs."""

    def __init__(self, sink: str, producers: int, rates: Rates) -> None:
        self.sink = sink
        self.names = [f"p{number:02}" for number in range(1, producers + 1)]
        self.column = "1 producer" if producers == 1 else f"{producers} producers"
        self.costed = (sink, producers) == COSTED
        self.rates = rates
        self.lines: dict[str, int] = {}

    def case(self) -> Case:
        """Return the case that takes the samples."""
        columns = (self.column, COST) if self.costed else (self.column,)
        return Case(f"to {SINKS[self.sink]}, {self.column}", columns, self.measure)

    def measure(self, peer: Peer) -> Sample:
        """Take one sample. Before the first sample of a peer, shorter runs find its rate."""
        if peer.name not in self.rates.known:
            self._find_rate(peer)
        passed = self._run(peer, self.lines.setdefault(peer.name, self.rates.lines(peer)))
        self.rates.known[peer.name] = passed.rate
        values = {self.column: passed.rate}
        if self.costed:
            values[COST] = passed.processor / passed.verdict.whole * 1e6
        faults = str(passed.verdict)
        return Sample(values, {self.column: f"of {passed.total:,} lines: {faults}"} if faults else {})

    def _find_rate(self, peer: Peer) -> None:
        lines = FIRST_LINES
        most = self.rates.settings.most_lines
        while (passed := self._run(peer, lines)).seconds < FIRST_SECONDS and lines < most:
            lines = min(most, lines * 5)
        self.rates.known[peer.name] = passed.rate

    def _run(self, peer: Peer, lines: int) -> Passed:
        counts: Mapping[str, int] = dict.fromkeys(self.names, lines // len(self.names))
        total = sum(counts.values())
        session = Session(peer, self.sink)
        for name, count in counts.items():
            session.add_producer(name, "lines", count)
        with session:
            session.wait_ready()
            session.sink.prepare(CAPACITY_PER_LINE * total + CAPACITY_FOR_MESSAGES)
            family = session.family()
            before = processes.usage(family)
            start = session.open_gate()
            finished = partial(verification.last_lines_present, counts=counts)
            collected = session.sink.collect(finished, COLLECT_SECONDS)
            used = processes.usage(family) - before
        verdict = verification.verify(
            collected.data, collected.length, counts, keeps_lines=peer.keeps_lines, prefixes=peer.prefixes
        )
        if not verdict.whole:
            raise SampleError("no whole line arrived")
        return Passed(collected.last - start, verdict, total, used.processor)
