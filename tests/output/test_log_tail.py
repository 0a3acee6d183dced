"""The last lines of a log and of its older parts, and what is appended."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from procreaper.output import log_tail as tails
from procreaper.output.log_tail import RotatedLog


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "web.log"


def write(log: Path, *parts: bytes) -> None:
    """The parts of a log, the oldest first."""
    for number, part in enumerate(reversed(parts)):
        (log.with_name(f"web.log.{number}") if number else log).write_bytes(part)


def last(log: Path, lines: int | None) -> bytes:
    with RotatedLog(str(log)) as tail:
        return b"".join(tail.last_lines(lines))


def test_the_last_lines_are_found_over_all_parts(log: Path) -> None:
    write(log, b"a\nb\n", b"c\n", b"d\ne\n")
    lines = [b"a\n", b"b\n", b"c\n", b"d\n", b"e\n"]
    for count in range(8):
        assert last(log, count) == b"".join(lines[5 - min(count, 5) :])
    assert last(log, None) == b"".join(lines)


@pytest.mark.parametrize(
    ("parts", "lines", "expected"),
    [
        ([b""], 3, b""),
        ([b"", b""], None, b""),
        ([b"a\n", b""], 1, b"a\n"),
        ([b"a\nb"], 1, b"b"),
        ([b"a\nb"], 2, b"a\nb"),
        # One that is longer than a file was torn.
        ([b"a\nbb", b"bb\nc\n"], 2, b"bbbb\nc\n"),
        ([b"\n\n\n"], 2, b"\n\n"),
    ],
)
def test_a_line_is_whole_wherever_it_was_cut(log: Path, parts: Sequence[bytes], lines: int, expected: bytes) -> None:
    write(log, *parts)
    assert last(log, lines) == expected


def test_it_does_not_matter_how_much_is_read_at_once(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(3)
    data = b"".join(b"x" * generator.randrange(9) + b"\n" for _ in range(100))
    write(log, data[:200], data[200:])
    expected = [last(log, count) for count in range(102)]
    for block in (1, 2, 3, 7):
        monkeypatch.setattr(tails, "BLOCK", block)
        assert [last(log, count) for count in range(102)] == expected
    assert expected[50] == b"".join(data.splitlines(keepends=True)[-50:])


def test_the_last_lines_before_a_place_are_found_in_any_part(log: Path) -> None:
    write(log, b"a\nb\n", b"c\nd\n", b"e\n")
    found = log.with_name("web.log.1").stat()
    for lines, expected in ((1, b"c\n"), (2, b"b\nc\n"), (None, b"a\nb\nc\n")):
        with RotatedLog(str(log)) as tail:
            assert b"".join(tail.last_lines(lines, (found.st_dev, found.st_ino, 2))) == expected
    with RotatedLog(str(log)) as tail:
        assert list(tail.last_lines(1, (found.st_dev, 0, 2))) == []


def test_a_log_that_is_not_there_is_an_error(log: Path) -> None:
    with RotatedLog(str(log)) as tail, pytest.raises(FileNotFoundError):
        list(tail.last_lines(1))


def test_what_is_appended_is_read_once_and_in_order(log: Path) -> None:
    write(log, b"old\n", b"one\ntw")
    with RotatedLog(str(log)) as tail:
        seen = [*tail.last_lines(1)]
        with open(log, "ab") as file:
            for piece in (b"o\n", b"three\n"):
                file.write(piece)
                file.flush()
                seen += tail.grown()
        # It is rotated, with something in it that was not seen.
        with open(log, "ab") as file:
            file.write(b"four\n")
        os.replace(log, log.with_name("web.log.1"))
        seen += tail.grown()
        log.write_bytes(b"five\n")
        seen += tail.grown()
        # It is cut off.
        log.write_bytes(b"6\n")
        seen += tail.grown()
        assert b"".join(seen) == b"two\nthree\nfour\nfive\n6\n"
        assert list(tail.grown()) == []
