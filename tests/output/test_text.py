"""Notices as text: honcho's layout, every byte of a child, and one open line at most."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.core.events import (
    Exit,
    Message,
    Notice,
    Output,
    Removed,
    RunBegan,
    RunEnded,
    SignalSent,
    State,
    Transition,
)
from procreaper.output.text import Style, TextFormat

PLAIN = Style(timestamps=False)
BARE = Style(prefix=False)
SCREEN = Style(timestamps=False, terminal=True)


def text_format(*names: str, style: Style = PLAIN, filtered: tuple[str, ...] = ()) -> TextFormat:
    def clock(seconds: float) -> str:
        return f"00:00:{int(seconds):02}"

    def signal_name(number: int) -> str:
        return {9: "SIGKILL", 15: "SIGTERM"}[number]

    return TextFormat(names, style, clock=clock, signal_name=signal_name, filtered=filtered)


def rendered(text: TextFormat, *notices: Notice) -> bytes:
    return b"".join(map(text.render, notices)) + text.finish()


def said(name: str, data: bytes, time: float = 0.0) -> Output:
    return Output(time, name, data)


@pytest.mark.parametrize(
    ("notice", "line"),
    [
        (said("web.1", b"hello\n"), b"web.1  | hello\n"),
        (RunBegan(0.0, "web.1", 42), b"system | web.1 started (pid=42)\n"),
        (RunEnded(0.0, "web.1", 42, Exit(code=0), "exited"), b"system | web.1 stopped (rc=0)\n"),
        (RunEnded(0.0, "web.1", 42, Exit(), "ended"), b"system | web.1 stopped (rc=unknown)\n"),
        (Removed(0.0, "web.1"), b"system | web.1 removed\n"),
        (RunEnded(0.0, "web.1", 42, Exit(signal=15), "killed"), b"system | web.1 stopped (rc=-15)\n"),
        (
            RunEnded(0.0, "web.1", None, Exit(code=127), "no such file"),
            b"system | web.1 could not be started: no such file\n",
        ),
        (SignalSent(0.0, "web.1", 42, 9), b"system | sending SIGKILL to web.1 (pid 42)\n"),
        (
            SignalSent(0.0, "web.1", 42, 9, leftovers=True),
            b"system | sending SIGKILL to what web.1 left running (process group 42)\n",
        ),
        (Message(0.0, "SIGINT received"), b"system | SIGINT received\n"),
        (Message(0.0, "a\nb"), b"system | a\nsystem | b\n"),
        # A file's name may be any bytes.
        (Message(0.0, "\udcff is no text"), b"system | \xff is no text\n"),
        (Transition(0.0, "web.1", State.STARTING, State.RUNNING, "running"), b""),
    ],
)
def test_every_notice_has_the_words_of_honcho(notice: Notice, line: bytes) -> None:
    assert rendered(text_format("web.1"), notice) == line


@pytest.mark.parametrize(
    ("style", "line"),
    [
        (Style(), b"00:00:07 web.1  | hello\n"),
        (Style(colour=True), b"\x1b[0m\x1b[36m00:00:07 web.1  | \x1b[0mhello\n"),
        (Style(colour=True, timestamps=False), b"\x1b[0m\x1b[36mweb.1  | \x1b[0mhello\n"),
        (Style(timestamps=False), b"web.1  | hello\n"),
        (Style(prefix=False), b"hello\n"),
        (Style(prefix=False, colour=True), b"hello\n"),
    ],
)
def test_the_style_decides_what_stands_before_a_line(style: Style, line: bytes) -> None:
    assert rendered(text_format("web.1", style=style), said("web.1", b"hello\n", 7.9)) == line


def test_the_time_is_that_of_the_notice_also_within_a_flow() -> None:
    text = text_format("web.1", "db.1", style=Style())
    out = rendered(
        text, said("web.1", b"a\n", 1.1), said("db.1", b"b\n", 1.9), said("web.1", b"c\n", 2.0), said("web.1", b"d\n")
    )
    assert [line[:8] for line in out.splitlines()] == [b"00:00:01", b"00:00:01", b"00:00:02", b"00:00:00"]


def test_each_process_has_the_colour_that_honcho_gives_it() -> None:
    names = [f"p.{number}" for number in range(14)]
    text = text_format(*names, style=Style(colour=True, timestamps=False))
    colours = [re.findall(rb"\[([\d;]+)m", text.render(said(name, b"x\n")))[1].decode() for name in names]
    plain = ["36", "33", "32", "35", "31", "34"]
    assert colours == [*plain, *(f"{colour};1" for colour in plain), "36", "33"]


def test_the_systems_own_lines_have_no_colour() -> None:
    text = text_format("web.1", style=Style(colour=True, timestamps=False))
    assert rendered(text, Message(0.0, "hello")) == b"\x1b[0msystem | hello\n"


@pytest.mark.parametrize(
    ("names", "width"), [(("a.1",), 6), (("frontend.10", "a.1"), 11), ((), 6), (("é.1",), 6)], ids=str
)
def test_all_prefixes_are_as_wide_as_the_longest(names: tuple[str, ...], width: int) -> None:
    text = text_format(*names)
    for notice in (Message(0.0, "x"), *(said(name, b"x\n") for name in names)):
        assert rendered(text, notice).decode().index(" | ") == width


@pytest.mark.parametrize(
    ("style", "notices", "out"),
    [
        # A line that was flushed goes on without a new prefix.
        (PLAIN, [said("a.1", b"one "), said("a.1", b"two\n")], b"a.1    | one two\n"),
        (PLAIN, [said("a.1", b"one "), said("a.1", b"two\nthree\n")], b"a.1    | one two\na.1    | three\n"),
        # Output of another process ends it.
        (
            PLAIN,
            [said("a.1", b"half"), said("b.1", b"whole\n"), said("a.1", b" rest\n")],
            b"a.1    | half\nb.1    | whole\na.1    |  rest\n",
        ),
        (PLAIN, [said("a.1", b"half"), said("b.1", b"other half")], b"a.1    | half\nb.1    | other half\n"),
        (PLAIN, [said("a.1", b"half"), Message(0.0, "news")], b"a.1    | half\nsystem | news\n"),
        # What is still open at the end is ended.
        (PLAIN, [said("a.1", b"half")], b"a.1    | half\n"),
        (PLAIN, [said("a.1", b"one\nhalf"), said("a.1", b"\n")], b"a.1    | one\na.1    | half\n"),
        # What says nothing ends nothing.
        (
            PLAIN,
            [
                said("a.1", b"half"),
                Transition(0.0, "b.1", State.STARTING, State.RUNNING, "running"),
                said("a.1", b" rest\n"),
            ],
            b"a.1    | half rest\n",
        ),
        (BARE, [said("a.1", b"one "), said("a.1", b"two\n"), said("b.1", b"\n")], b"one two\n\n"),
        (BARE, [said("a.1", b"half"), said("b.1", b"x\n")], b"half\nx\n"),
        # Empty lines are lines.
        (PLAIN, [said("a.1", b"\n\n")], b"a.1    | \na.1    | \n"),
        # In a file a return is a byte like any other.
        (PLAIN, [said("a.1", b"1%\r2%\r\n")], b"a.1    | 1%\r2%\r\n"),
        # On a screen it goes back to the beginning, where the prefix is.
        (SCREEN, [said("a.1", b"1%\r2%\n")], b"a.1    | 1%\ra.1    | 2%\n"),
        (
            SCREEN,
            [said("a.1", b"1%\r"), said("a.1", b"2%\r"), said("a.1", b"3%\n")],
            b"a.1    | 1%\ra.1    | 2%\ra.1    | 3%\n",
        ),
        (SCREEN, [said("a.1", b"1%\r"), said("a.1", b"\n")], b"a.1    | 1%\ra.1    | \n"),
        (SCREEN, [said("a.1", b"one\r\ntwo\r\r\n")], b"a.1    | one\r\na.1    | two\r\r\n"),
        (SCREEN, [said("a.1", b"1%\r"), said("b.1", b"x\n")], b"a.1    | 1%\r\nb.1    | x\n"),
    ],
)
def test_at_most_one_line_is_open_at_a_time(style: Style, notices: list[Notice], out: bytes) -> None:
    assert rendered(text_format("a.1", "b.1", style=style), *notices) == out


@pytest.mark.parametrize(
    ("style", "margin"), [(Style(), 18), (PLAIN, 9), (BARE, 0), (Style(colour=True), 18), (Style(prefix=False), 0)]
)
def test_the_margin_is_as_wide_as_a_prefix_is_on_the_screen(style: Style, margin: int) -> None:
    text = text_format("web.1", style=style)
    assert text.margin == margin
    assert re.sub(rb"\x1b\[[\d;]*m", b"", text.render(said("web.1", b"x\n"))).index(b"x") == margin


@pytest.mark.parametrize(
    ("notices", "out"),
    [
        # Only one that has a terminal of its own is filtered.
        ([said("a.1", b"\x1b[2Jx\n"), said("b.1", b"\x1b[2Jx\n")], b"a.1    | x\nb.1    | \x1b[2Jx\n"),
        # What cannot be seen begins no line, and comes with what follows.
        ([said("a.1", b"\x1b[?25l\x1b[0m"), said("b.1", b"x\n")], b"b.1    | x\n"),
        (
            [said("a.1", b"\x1b[31m"), said("b.1", b"x\n"), said("a.1", b"y\n")],
            b"b.1    | x\na.1    | \x1b[31my\x1b[0m\n",
        ),
        ([said("a.1", b"\x1b[?25l"), said("a.1", b"\x1b[2J")], b""),
        # Within a line it does.
        ([said("a.1", b"half"), said("a.1", b"\x1b[0m"), said("a.1", b"\n")], b"a.1    | half\x1b[0m\n"),
        # A spinner, as node's readline draws it.
        (
            [said("a.1", b"1%"), said("a.1", b"\x1b[2K\x1b[1G2%"), said("a.1", b"\x1b[2K\x1b[1Gdone\n")],
            b"a.1    | 1%\ra.1    | \x1b[K2%\ra.1    | \x1b[Kdone\n",
        ),
        # Another process ends the line, and with it the colour: no prefix resets it where there are no colours.
        (
            [said("a.1", b"\x1b[31;8mhalf"), said("b.1", b"x\n"), said("a.1", b"rest\n")],
            b"a.1    | \x1b[31;8mhalf\x1b[0m\nb.1    | x\na.1    | rest\n",
        ),
        ([said("a.1", b"\x1b[7mhalf")], b"a.1    | \x1b[7mhalf\x1b[0m\n"),
        # A sequence in pieces, with another process's line in between.
        ([said("a.1", b"\x1b]0;"), said("b.1", b"x\n"), said("a.1", b"EVIL\x07y\n")], b"b.1    | x\na.1    | y\n"),
        # What a run that was killed left unfinished swallows nothing of the next run.
        (
            [said("a.1", b"\x1bP"), RunBegan(0.0, "a.1", 2, pty=True), said("a.1", b"y\n")],
            b"system | a.1 started (pid=2)\na.1    | y\n",
        ),
        # A new picture of the whole screen.
        ([said("a.1", b"one\ntwo"), said("a.1", b"\x1b[Hone\n")], b"a.1    | one\na.1    | two\na.1    | one\n"),
    ],
)
def test_who_has_a_terminal_does_not_get_at_the_screen(notices: list[Notice], out: bytes) -> None:
    assert rendered(text_format("a.1", "b.1", style=SCREEN, filtered=("a.1",)), *notices) == out


pieces = st.lists(st.tuples(st.sampled_from(["a.1", "b.1"]), st.text("xy\r\n", min_size=1, max_size=6)), max_size=12)


@given(pieces, st.booleans())
def test_no_byte_of_a_process_is_lost_or_moved_to_another(said_by: list[tuple[str, str]], colour: bool) -> None:
    style = Style(colour=colour, timestamps=False)
    out = rendered(text_format("a.1", "b.1", style=style), *(said(name, data.encode()) for name, data in said_by))
    lines = re.sub(rb"\x1b\[[\d;]*m", b"", out).split(b"\n")
    assert lines.pop() == b""
    for name in ("a.1", "b.1"):
        its = [line.partition(b" | ")[2] for line in lines if line.startswith(name.encode())]
        # The line ends are ours where a line was interrupted.
        assert b"".join(its).decode() == "".join(data for who, data in said_by if who == name).replace("\n", "")
    assert all(line.startswith((b"a.1    | ", b"b.1    | ")) for line in lines)


def test_a_process_that_comes_later_gets_a_label_and_a_colour_of_its_own() -> None:
    text = text_format("a", style=Style(colour=True, timestamps=False))
    first, second = text.render(said("a", b"1\n")), text.render(said("b", b"2\n"))
    assert first == b"\x1b[0m\x1b[36ma      | \x1b[0m1\n"
    assert second == b"\x1b[0m\x1b[33mb      | \x1b[0m2\n"


def test_a_longer_name_that_comes_later_widens_the_prefix_of_all() -> None:
    text = text_format("a")
    margin = text.margin
    assert rendered(text, said("worker.10", b"1\n"), said("a", b"2\n")) == b"worker.10 | 1\na         | 2\n"
    assert text.margin == margin + len("worker.10") - len("system")


def test_a_process_that_comes_later_is_tamed_if_it_has_a_terminal() -> None:
    text = text_format("a")
    assert rendered(text, RunBegan(0.0, "b", 1, pty=True), said("b", b"\x1b[2Jx\n")).endswith(b"b      | x\n")


def test_all_processes_are_filtered_on_request() -> None:
    text = TextFormat(("a",), PLAIN, clock=lambda _: "", signal_name=str, filter_all=True)
    later = RunBegan(0.0, "b", 1, pty=False)
    assert rendered(text, said("a", b"\x1b]0;x\x07y\n"), later, said("b", b"\x1b[2Jz\n")) == (
        b"a      | y\nsystem | b started (pid=1)\nb      | z\n"
    )


def test_checks_that_go_on_after_a_pause_are_not_called_a_recovery() -> None:
    healthy = Transition(0.0, "web", State.HEALTHY, State.HEALTHY, "healthy")
    paused = "checks paused: a client is attached"
    text = text_format("web")
    assert text.render(healthy._replace(reason=paused)) == b"system | web: checks paused: a client is attached\n"
    assert text.render(healthy._replace(reason_before=paused)) == b"system | web: checks go on\n"
    assert text.render(healthy) == b"system | web: healthy again\n"
