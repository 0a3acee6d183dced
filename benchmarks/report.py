"""The results as markdown: a table for each measurement, medians, ratios, spreads and notes.

It knows neither processes nor clocks.
"""

import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from measurement import Column, Sample, Table
from peers import REFERENCE, Peer

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
NOTHING = "-"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


class Figure(NamedTuple):
    """The place of a figure in the report."""

    title: str
    peer: str
    column: str


@dataclass(slots=True)
class Results:
    """The results so far: the values of each figure in order, and its notes with their counts."""

    values: dict[Figure, list[float]] = field(default_factory=lambda: defaultdict(list))
    notes: dict[Figure, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, table: Table, peer: Peer, sample: Sample) -> None:
        """Keep the figures of one run."""
        for column, value in sample.values.items():
            self.values[Figure(table.title, peer.name, column)].append(value)
        for column, note in sample.notes.items():
            self.note(Figure(table.title, peer.name, column), note)

    def note(self, figure: Figure, note: str) -> None:
        """Add a note to a figure, and count it."""
        notes = self.notes[figure]
        notes[note] = notes.get(note, 0) + 1

    def median(self, figure: Figure) -> float | None:
        """Return the median of a figure, if there is one."""
        values = self.values.get(figure)
        return statistics.median(values) if values else None


def render(tables: Sequence[Table], peers: Sequence[Peer], results: Results) -> str:
    """Return all tables, one below the other."""
    return "\n\n".join(_table(table, peers, results) for table in tables) + "\n"


def _table(table: Table, peers: Sequence[Peer], results: Results) -> str:
    notes: list[str] = []
    rows = [
        [peer.name, *(_cell(table, peer, column, results, notes) for column in table.columns)]
        for peer in peers
        if table.measurement not in peer.unfit
    ]
    head = ["", *(column.label for column in table.columns)]
    lines = [f"### {table.title}", "", *_grid(head, rows)]
    absent = [f"{peer.name} ({peer.unfit[table.measurement]})" for peer in peers if table.measurement in peer.unfit]
    if absent:
        notes.append(f"Not measured: {', '.join(absent)}.")
    if notes:
        lines += ["", "<br>\n".join(notes)]
    return "\n".join(lines)


def _grid(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table, aligned so that it also reads well as plain text."""
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in (head, *rows)]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return [lines[0], rule, *lines[1:]]


def _cell(table: Table, peer: Peer, column: Column, results: Results, notes: list[str]) -> str:
    """Return the median, the ratio to the reference, the spread, and the number of the note; add it to `notes`."""
    figure = Figure(table.title, peer.name, column.label)
    mark = ""
    if said := results.notes.get(figure):
        number = str(len(notes) + 1).translate(SUPERSCRIPTS)
        notes.append(f"{number} {peer.name}: {'; '.join(summarise(said))}.")
        mark = f" {number}"
    median = results.median(figure)
    if median is None:
        return NOTHING + mark
    parts = [column.show(median)]
    reference = results.median(figure._replace(peer=REFERENCE))
    if reference and peer.name != REFERENCE:
        parts.append(f"{show_ratio(median / reference)} x")
    values = results.values[figure]
    if len(values) > 1:
        parts.append(f"{column.show(min(values))} - {column.show(max(values))}")
    return " · ".join(parts) + mark


def summarise(said: Mapping[str, int]) -> list[str]:
    """Merge the notes that differ only in their numbers; show the range of each number, and the count."""
    alike: dict[str, list[str]] = defaultdict(list)
    for note in said:
        alike[NUMBER.sub("#", note)].append(note)
    summary = []
    for notes in alike.values():
        ranges = [_range(numbers) for numbers in zip(*map(NUMBER.findall, notes), strict=True)]
        between = NUMBER.split(notes[0])
        note = "".join(itertools.chain(*itertools.zip_longest(between, ranges, fillvalue="")))
        times = sum(said[one] for one in notes)
        summary.append(f"{note} ({times} times)" if times > 1 else note)
    return summary


def _range(numbers: Sequence[str]) -> str:
    ordered = sorted(set(numbers), key=lambda number: float(number.replace(",", "")))
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} - {ordered[-1]}"


def show_ratio(ratio: float) -> str:
    """Show a ratio with its significant digits."""
    if ratio >= 10:
        return f"{ratio:.0f}"
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.1g}"
