r"""The ready line in the output of a process: found in any pieces, through colours, in bounded memory and time."""

from __future__ import annotations

import re
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.core.events import Event, LogMatched, Notice, Output, OutputBegan
from procreaper.output.plain_text import one_phrase, without_escapes
from procreaper.runtime.health.log import (
    EDGE,
    LONGEST_LINE,
    MAX_TIMEOUTS,
    LogWatcher,
    strip_leading_wildcard,
    watch_for_ready_line,
)

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
def test_ready_line_is_found_in_any_pieces(pattern: str, data: bytes, matched: bool) -> None:
    assert watch(pattern, data) is matched
    assert watch(pattern, *byte_by_byte(data)) is matched


@pytest.mark.parametrize("pattern", ["port 80$", r"port 80\Z", "port 80(?!8)"])
def test_pattern_about_the_end_of_a_line_waits_for_it(pattern: str) -> None:
    assert not watch(pattern, b"port 80")
    assert not watch(pattern, b"port 80", b"80\n")
    assert watch(pattern, b"port 80", b"\n")


def test_match_is_final() -> None:
    watcher = LogWatcher("ready")
    assert not watcher.feed(b"")
    assert watcher.feed(b"ready\n")
    assert watcher.feed(b"gone\n")
    assert watcher.feed(b"")


words = st.text(st.sampled_from(list("ab\n\r\x1b[31m;]\x07ü\0")), max_size=40).map(str.encode)


@given(words, st.lists(st.integers(0, 60), max_size=8), st.sampled_from(["ab", "^a", "b$", "ü", "a.?b", "^b*$"]))
def test_cuts_do_not_matter_after_the_lines_have_ended(data: bytes, cuts: list[int], pattern: str) -> None:
    data += b"\n"
    watcher, position = LogWatcher(pattern), 0
    for cut in sorted(cuts):
        watcher.feed(data[position:cut])
        position = max(position, cut)
    text = without_escapes(data.decode())
    lines = [line.rstrip("\r") for line in text.split("\n")[:-1]]
    whole = any(re.search(pattern, line) for line in lines)
    # An unfinished line may match before the rest of it comes. So pieces can only find more.
    assert watcher.feed(data[position:]) or not whole
    assert LogWatcher(pattern).feed(data) is whole


@pytest.mark.parametrize("size", [1, 100, 70_000, 1_000_000])
def test_kept_part_of_an_endless_line_is_bounded(size: int) -> None:
    watcher = LogWatcher("ready")
    for _ in range(max(3, 200_000 // size)):
        assert not watcher.feed(b"\xff" * size)
        assert len(watcher._unfinished) <= LONGEST_LINE


@pytest.mark.parametrize("size", [EDGE - 5, EDGE, LONGEST_LINE, 3 * LONGEST_LINE])
@pytest.mark.parametrize("piece", [1, 1000, 10**9])
def test_pattern_means_the_same_at_the_edges_of_a_long_line(size: int, piece: int) -> None:
    data = b"first" + b"x" * size + b"last\r\n"
    for pattern in ("^first", "first", "last$", "^first.*last$", ".*last", "^.*last", "x$|t$"):
        assert watch(pattern, *(data[i : i + piece] for i in range(0, len(data), piece))), pattern
    for pattern in ("^x", "^last", "first$", "x$", "^first$"):
        assert not watch(pattern, *(data[i : i + piece] for i in range(0, len(data), piece))), pattern


@pytest.mark.parametrize("piece", [1, 1000])
def test_match_in_the_middle_of_a_long_line_is_found_as_it_comes(piece: int) -> None:
    data = b"x" * LONGEST_LINE + b"ready" + b"y" * LONGEST_LINE + b"\n"
    assert watch("ready", *(data[i : i + piece] for i in range(0, len(data), piece)))


def test_cut_of_a_line_is_neither_its_beginning_nor_its_end() -> None:
    data = b"x" * LONGEST_LINE + b"ready".ljust(EDGE, b"y")
    assert not watch("^ready", data, b"y")
    assert not watch("^ready", data, b"y\n")
    assert not watch("x$", data, b"y\n")
    assert watch("^ready", data, b"y\nready\n")


@pytest.mark.parametrize(
    ("pattern", "rest"),
    [
        (".*ready.*", "ready.*"),
        ("^.*ready", "ready"),
        (".*?ready", "ready"),
        (".*.*?ready", "ready"),
        (".*+ready", ".*+ready"),
        (".+ready", ".+ready"),
        ("(.*)ready", "(.*)ready"),
        (r"\.*ready", r"\.*ready"),
        (".*ready|up", "ready|up"),
        (".*|up", ".*|up"),
        (".*", ".*"),
        ("ready", "ready"),
    ],
)
def test_leading_wildcard_is_dropped(pattern: str, rest: str) -> None:
    assert strip_leading_wildcard(pattern) == rest


beginnings = st.text(st.sampled_from(list(".*?+^|ab$")), max_size=8)


@given(beginnings, st.text(st.sampled_from(list("ab")), max_size=6))
def test_dropped_wildcard_changes_no_match(pattern: str, line: str) -> None:
    try:
        whole = re.compile(pattern)
    except re.error:
        return
    assert (re.search(strip_leading_wildcard(pattern), line) is None) is (whole.search(line) is None)


SLOW = r"(\w+\s?)+ready"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_slow_search_skips_the_line(end: bytes) -> None:
    # Without a limit, this search takes a week. The limit is in processor time, because the machine may be busy.
    began = time.process_time()
    watcher = LogWatcher(SLOW)
    assert not watcher.feed(b"a" * 40 + end)
    assert (watcher.timeouts, watcher.has_given_up) == (1, False)
    assert watcher.feed(b" ready\nis ready\n")
    assert time.process_time() - began < 2
    assert signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_search_ends_for_good_after_too_many_slow_lines() -> None:
    began = time.process_time()
    watcher = LogWatcher(SLOW)
    assert not any(watcher.feed(b"a" * 40 + b"\n") for _ in range(1000))
    assert (watcher.timeouts, watcher.has_given_up) == (MAX_TIMEOUTS, True)
    assert not watcher.feed(b"is ready\n")
    assert time.process_time() - began < 10


@pytest.mark.parametrize("pattern", [".*ready.*", r"\S+ ready", "a.*a.*b", SLOW])
def test_line_of_a_megabyte_costs_no_more_than_a_short_one(pattern: str) -> None:
    began = time.process_time()
    watcher = LogWatcher(pattern)
    assert not watcher.feed(b"a" * 1_000_000 + b"\n")
    assert watcher.feed(b"server ready b aab\n")
    assert time.process_time() - began < 2


def test_timer_of_the_surrounding_program_is_not_touched() -> None:
    def own(*_: object) -> None: ...

    before = signal.signal(signal.SIGVTALRM, own)
    try:
        assert watch("rea+dy", b"ready\n")
        assert signal.getsignal(signal.SIGVTALRM) is own
    finally:
        signal.signal(signal.SIGVTALRM, before)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
    try:
        assert watch("rea+dy", b"ready\n")
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def test_first_output_match_and_slow_pattern_are_reported() -> None:
    posted: list[Event] = []
    said: list[str] = []
    passed: list[Notice] = []
    publish = watch_for_ready_line(
        SLOW, "web.1", 3, posted.append, said.append, lambda notice: passed.append(notice) is None
    )
    notices = [Output(0.0, "web.1", b"a" * 40 + b"\n"), Output(0.0, "web.1", b"a" * 41 + b"\n")]
    assert all(publish(notice) for notice in notices)
    assert passed == notices
    assert posted == [OutputBegan("web.1", 3)]
    assert publish(Output(0.0, "web.1", b"is ready\n"))
    assert publish(Output(0.0, "web.1", b"is ready\n"))
    assert posted == [OutputBegan("web.1", 3), LogMatched("web.1", 3)]
    assert [text.split(";")[0] for text in said] == [
        "web.1: the pattern of its health check takes more than 0.1 s on a line, so procreaper skips that line"
    ]


def test_long_unfinished_line_is_searched_again_after_more_pieces() -> None:
    watcher = LogWatcher("ready")
    assert not any(watcher.feed(b"x") for _ in range(50_000))
    watcher.feed(b"ready")
    assert any(watcher.feed(b"x") for _ in range(100))


def test_line_that_comes_byte_by_byte_is_not_searched_for_each_byte() -> None:
    # In processor time, because the machine may be busy. A search for each byte would take minutes.
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
def test_escape_sequences_are_removed_from_a_phrase(text: str, shown: str) -> None:
    assert one_phrase(text) == shown
