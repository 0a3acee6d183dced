"""Verify that every line arrived whole, once, and in the order of its producer."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import producer

# A manager may reset colours at the end of a line, and a terminal puts a carriage return before each newline.
AFTER_A_LINE = rb"(?:\x1b\[[0-9;]*m)*\r*$"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of lines by result; all but `whole` should be 0. A damaged line does not also count as lost."""

    whole: int
    lost: int = 0
    repeated: int = 0
    disordered: int = 0
    damaged: int = 0

    def __str__(self) -> str:
        """Return the faults as a phrase; empty if there are none."""
        faults = {
            "lost": self.lost,
            "repeated": self.repeated,
            "out of order": self.disordered,
            "damaged": self.damaged,
        }
        return ", ".join(f"{count:,} {fault}" for fault, count in faults.items() if count)


def last_lines_present(data: bytearray, length: int, counts: Mapping[str, int]) -> bool:
    """Return whether the last line of every producer has arrived."""
    return all(data.rfind(producer.line(name, count - 1)[:-1], 0, length) >= 0 for name, count in counts.items())


def verify(data: bytearray, length: int, counts: Mapping[str, int], *, keeps_lines: bool, prefixes: bool) -> Verdict:
    """Compare the output with the expected lines: `counts` maps each producer to its number of lines, from 0."""
    expected = sum(counts.values())
    marks = data.count(producer.MARK, 0, length)
    if not keeps_lines:
        return Verdict(whole=marks, lost=max(0, expected - marks))
    numbers: dict[bytes, list[bytes]] = {name.encode(): [] for name in counts}
    matched = 0
    for name, number in _pattern(counts, prefixes=prefixes).findall(memoryview(data)[:length]):
        numbers[name].append(number)
        matched += 1
    verdict = Verdict(whole=0, damaged=marks - matched)
    for name, count in counts.items():
        verdict = _sum(verdict, _judge(numbers[name.encode()], count))
    return replace(verdict, lost=max(0, verdict.lost - verdict.damaged))


def _pattern(counts: Mapping[str, int], *, prefixes: bool) -> re.Pattern[bytes]:
    """Return the pattern of a whole line, from its prefix to its end, with the groups name and number."""
    names = b"|".join(re.escape(name.encode()) for name in counts)
    (filling,) = {producer.filling(name) for name in counts}
    start = rb"^[^@\n]*?(%s)[^@\n]*@\1" if prefixes else rb"^[^@\n]*@(%s)"
    return re.compile(start % names + rb" (\d{9}) " + re.escape(filling) + AFTER_A_LINE, re.MULTILINE)


def _judge(numbers: list[bytes], count: int) -> Verdict:
    """Judge the lines of one producer."""
    wanted = [b"%09d" % number for number in range(count)]
    if numbers == wanted:
        return Verdict(whole=count)
    seen = Counter(numbers)
    known = sum(1 for number in wanted if number in seen)
    disordered = sum(1 for before, after in itertools.pairwise(numbers) if after < before)
    return Verdict(whole=known, lost=count - known, repeated=len(numbers) - len(seen), disordered=disordered)


def _sum(left: Verdict, right: Verdict) -> Verdict:
    return Verdict(
        left.whole + right.whole,
        left.lost + right.lost,
        left.repeated + right.repeated,
        left.disordered + right.disordered,
        left.damaged + right.damaged,
    )
