r"""The line that tells readiness: found in any pieces, through colours, in bounded memory and time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.health.escapes import one_phrase, without_escapes
from procreaper.health.log import LONGEST_LINE, LogWatcher

READY = "ready to accept connections"


def watch(pattern: str, *pieces: bytes) -> bool:
    watcher = LogWatcher(pattern)
    for piece in pieces:
        matched = watcher.feed(piece)
    return matched


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize(
    ("pattern", "data", "matched"),
    [
        (READY, b"LOG: starting\nLOG: database is ready to accept connections\n", True),
        (READY, b"LOG: starting\nLOG: database is ready\nto accept connections\n", False),
        (r"listening on \S+:\d+", b"INFO listening on 127.0.0.1:8000\n", True),
        ("^ready", b"not ready\n", False),
        ("^ready", b"not\nready\n", True),
        ("ready$", b"ready\r\n", True),
        ("ready$", b"ready.\r\n", False),
        (r"ready\Z", b"is ready\n", True),
        ("> $", b"mysql> \n", True),
        ("ready>", b"ready> ", True),
        ("", b"x", True),
        ("^$", b"\n", True),
        ("^$", b"x\n", False),
        ("ready", b"\x1b[32mre\x1b[1mady\x1b[0m\n", True),
        ("^ready$", b"\x1b[32;1mready\x1b[0m\x1b[K\r\n", True),
        ("^link$", b"\x1b]8;;http://localhost\x1b\\link\x1b]8;;\x07\n", True),
        ("31", b"\x1b[31mready\x1b[0m\n", False),
        ("31", b"ready\x1b[31", False),
        ("ready", b"\xff\xferea\x00dy\nready\xe2\x82\n", True),
        ("ümlaut", "ein ümlaut\n".encode(), True),
        ("a\ufffdb", b"a\xffb\n", True),
        ("(?s)a.*b", b"a\nb\n", False),
        (r"a\sb", b"a\nb\n", False),
        (r"cost: \$5", b"cost: $5", True),
    ],
)
def test_what_is_ready_at_once_is_so_in_any_pieces(pattern: str, data: bytes, matched: bool) -> None:
    assert watch(pattern, data) is matched
    assert watch(pattern, *byte_by_byte(data)) is matched


@pytest.mark.parametrize("pattern", ["port 80$", r"port 80\Z", "port 80(?!8)"])
def test_what_a_pattern_says_about_the_end_is_not_decided_before_it(pattern: str) -> None:
    assert not watch(pattern, b"port 80")
    assert not watch(pattern, b"port 80", b"80\n")
    assert watch(pattern, b"port 80", b"\n")


def test_once_it_has_matched_it_stays_so() -> None:
    watcher = LogWatcher("ready")
    assert not watcher.feed(b"")
    assert watcher.feed(b"ready\n")
    assert watcher.feed(b"gone\n")
    assert watcher.feed(b"")


words = st.text(st.sampled_from(list("ab\n\r\x1b[31m;]\x07ü\0")), max_size=40).map(str.encode)


@given(words, st.lists(st.integers(0, 60), max_size=8), st.sampled_from(["ab", "^a", "b$", "ü", "a.?b", "^b*$"]))
def test_the_cuts_do_not_matter_once_the_lines_have_ended(data: bytes, cuts: list[int], pattern: str) -> None:
    data += b"\n"
    watcher, position = LogWatcher(pattern), 0
    for cut in sorted(cuts):
        watcher.feed(data[position:cut])
        position = max(position, cut)
    text = without_escapes(data.decode())
    lines = [line.rstrip("\r") for line in text.split("\n")[:-1]]
    whole = any(re.search(pattern, line) for line in lines)
    # A line that goes on may have matched before it did, so that pieces can only find more.
    assert watcher.feed(data[position:]) or not whole
    assert LogWatcher(pattern).feed(data) is whole


@pytest.mark.parametrize("size", [1, 100, 70_000, 1_000_000])
def test_what_is_held_of_a_line_without_end_is_bounded(size: int) -> None:
    watcher = LogWatcher("ready")
    for _ in range(max(3, 200_000 // size)):
        assert not watcher.feed(b"\xff" * size)
        assert len(watcher._held) <= LONGEST_LINE


@pytest.mark.parametrize("before", [LONGEST_LINE - 3, LONGEST_LINE, 3 * LONGEST_LINE])
@pytest.mark.parametrize("piece", [1, 1000, 10**9])
def test_in_a_line_longer_than_what_is_held_it_is_found(before: int, piece: int) -> None:
    data = b"x" * before + b"ready" + b"y" * before + b"\n"
    assert watch("ready", *(data[i : i + piece] for i in range(0, len(data), piece)))
    assert not watch("^ready", *(data[i : i + piece] for i in range(0, len(data), piece)))
    assert not watch("ready$", *(data[i : i + piece] for i in range(0, len(data), piece)))
    assert watch("y$", *(data[i : i + piece] for i in range(0, len(data), piece)))


def test_where_a_line_was_shortened_is_not_where_it_begins() -> None:
    # Half of what is held is kept; it begins with the word.
    data = b"x" * LONGEST_LINE + b"ready".ljust(LONGEST_LINE // 2, b"y")
    assert not watch("^ready", data, b"y")
    assert not watch("^ready", data, b"y\n")
    assert watch("^ready", data, b"y\nready\n")


def test_a_long_line_without_end_is_searched_again_after_some_more_pieces() -> None:
    watcher = LogWatcher("ready")
    assert not any(watcher.feed(b"x") for _ in range(50_000))
    watcher.feed(b"ready")
    assert any(watcher.feed(b"x") for _ in range(100))


def test_a_line_that_comes_byte_by_byte_is_not_searched_once_for_each() -> None:
    # In processor time, because the machine may be busy; were each byte to cost a whole search, it would be minutes.
    began = time.process_time()
    watch(r"read+y \d", *byte_by_byte(b"ready " * 50_000))
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("  a \t\r\n b  ", "a b"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b(Bcharset\x1b=keypad", "charsetkeypad"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1bPdevice\x1b\\after", "after"),
        ("half\x1b[3", "half"),
        ("half\x1b", "half"),
        ("half\x1b]0;title", "half"),
        ("\x9b31m", "31m"),
    ],
)
def test_readable(text: str, shown: str) -> None:
    assert one_phrase(text) == shown
