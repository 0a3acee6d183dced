"""The modes of a terminal, as they follow from the output to it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.runtime.terminal.modes import RESET, Modes, Written, strip_mode_changes, strip_queries

VIM = b"\x1b[?1049h\x1b[22;0;0t\x1b[>4;2m\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[1;24r\x1b[?12h\x1b[?25l~"
VIM_ENDS = b"\x1b[?2004l\x1b[>4;m\x1b[23;0;0t\x1b[?1l\x1b>\x1b[?25h\x1b[?1004l\x1b[r\x1b[?1049l"


PIECES = st.sampled_from(
    [b"\x1b", b"[", b"?", b"1049", b"25", b"1", b";", b"h", b"l", b"r", b"c", b"=", b"(", b"0", b"u", b">", b"m", b" q"]
)


def feed(*data: bytes) -> Modes:
    modes = Modes()
    for piece in data:
        modes.feed(piece)
    return modes


@pytest.mark.parametrize(
    ("written", "entering", "leaving"),
    [
        (b"", b"", b""),
        (b"text\r\n\x1b[31mred\x1b[0m\x1b[2J\x1b[H\x1b[K\x1b]0;title\x07", b"", b""),
        (b"\x1b[?1049h", b"\x1b[?1049h\x1b[2J\x1b[H", b"\x1b[?1049l"),
        (b"\x1b[?47h", b"\x1b[?47h\x1b[2J\x1b[H", b"\x1b[?47l"),
        (b"\x1b[?1047h\x1b[?1047l", b"", b""),
        (b"\x1b[?25l", b"\x1b[?25l", b"\x1b[?25h"),
        (b"\x1b[?25h\x1b[?7h", b"", b""),
        (b"\x1b[?7l", b"\x1b[?7l", b"\x1b[?7h"),
        (b"\x1b[?2004h", b"\x1b[?2004h", b"\x1b[?2004l"),
        (b"\x1b[?1000;1006h", b"\x1b[?1000h\x1b[?1006h", b"\x1b[?1000l\x1b[?1006l"),
        (b"\x1b[?1;25h", b"\x1b[?1h", b"\x1b[?1l"),
        (b"\x1b[?1h\x1b=", b"\x1b[?1h\x1b=", b"\x1b[?1l\x1b>"),
        (b"\x1b[?66h", b"\x1b=", b"\x1b>"),
        (b"\x1b=\x1b>", b"", b""),
        (b"\x1b[4h", b"\x1b[4h", b"\x1b[4l"),
        (b"\x1b[2;20r", b"\x1b7\x1b[2;20r\x1b8", b"\x1b7\x1b[r\x1b8"),
        (b"\x1b[2;20r\x1b[r", b"", b""),
        (b"\x1b[2;20r\x1b[0;0r", b"", b""),
        (b"\x1b[5 q", b"\x1b[5 q", b"\x1b[0 q"),
        (b"\x1b[5 q\x1b[0 q", b"", b""),
        (b"\x1b[>4;2m", b"\x1b[>4;2m", b"\x1b[>4m"),
        (b"\x1b[>4;2m\x1b[>4;0m", b"", b""),
        (b"\x1b[>4;2m\x1b[>4m", b"", b""),
        (b"\x1b[>4;2m\x1b[>4n", b"", b""),
        (b"\x1b[>1u", b"\x1b[>1u", b"\x1b[<1u"),
        (b"\x1b[>1u\x1b[>5u\x1b[<u", b"\x1b[>1u", b"\x1b[<1u"),
        (b"\x1b[>1u\x1b[<9u", b"", b""),
        (b"\x1b(0", b"\x1b(0", b"\x1b(B"),
        (b"\x1b(0\x1b(B", b"", b""),
        # Modes that need no restoring, and sequences that are not about modes.
        (b"\x1b[?12h\x1b[?3h\x1b[?9999h\x1b[20h", b"", b""),
        (b"\x1b[?1049h\x1b[?25l\x1b[5 q\x1bc", b"", b""),
        (b"\x1b[?1049h\x1b[?25l\x1b[!p", b"\x1b[?1049h\x1b[2J\x1b[H", b"\x1b[?1049l"),
        (VIM + VIM_ENDS, b"", b""),
    ],
)
def test_sequences_that_enter_and_leave_the_modes(written: bytes, entering: bytes, leaving: bytes) -> None:
    modes = feed(written)
    assert (modes.enter_sequence(), modes.leave_sequence()) == (entering, leaving)


@given(st.binary(max_size=4), st.lists(PIECES, max_size=20).map(b"".join))
def test_reset_leads_back_from_any_modes(before: bytes, data: bytes) -> None:
    assert feed(before, data, RESET).leave_sequence() == b""
    assert feed(before, VIM, data, RESET).leave_sequence() == b""


def test_alternate_screen_is_entered_first_and_left_last() -> None:
    assert feed(VIM).leave_sequence().endswith(b"\x1b[?1049l")
    assert feed(VIM).enter_sequence().startswith(b"\x1b[?1049h")


@given(st.lists(st.integers(0, len(VIM)), max_size=6).map(sorted))
def test_sequence_may_be_cut_anywhere(cuts: list[int]) -> None:
    edges = [0, *cuts, len(VIM)]
    modes = feed(*(VIM[start:end] for start, end in itertools.pairwise(edges)))
    assert modes.enter_sequence() == feed(VIM).enter_sequence()


@given(st.lists(PIECES, max_size=20).map(b"".join))
def test_entering_and_leaving_restores_the_default_modes(data: bytes) -> None:
    modes = feed(data)
    assert feed(modes.enter_sequence()).enter_sequence() == modes.enter_sequence()
    assert feed(modes.enter_sequence(), modes.leave_sequence()).enter_sequence() == b""


@given(st.lists(st.lists(PIECES, max_size=8).map(b"".join)))
def test_only_changes_of_the_screen_are_removed(data: list[bytes]) -> None:
    modes = Modes()
    written = [modes.feed(piece) for piece in data]
    if b"1049" not in b"".join(data):
        assert b"".join(piece.main for piece in written) + modes.take_unfinished() == b"".join(data)


def test_output_is_split_by_screen() -> None:
    modes = Modes()
    assert modes.feed(b"main\n") == Written(b"main\n", b"")
    assert modes.feed(b"more\x1b[?1049hdrawn\x1b[?1049lagain\x1b[?10") == Written(b"moreagain", b"drawn")
    assert modes.feed(b"49hdrawn") == Written(b"", b"drawn")
    assert modes.is_alternate
    assert modes.feed(b"no escape") == Written(b"", b"no escape")
    assert modes.feed(b"\x1b[?1049l") == Written(b"", b"")
    assert not modes.is_alternate


@pytest.mark.parametrize(
    "question",
    [
        *(b"\x1b[6n", b"\x1b[5n", b"\x1b[?6n", b"\x1b[c", b"\x1b[0c", b"\x1b[>c", b"\x1b[=c", b"\x1bZ", b"\x1b[>q"),
        *(b"\x1b[>0q", b"\x1b[?2026$p", b"\x1b[4$p", b"\x1b[?u", b"\x1b[?4m", b"\x1b[18t", b"\x1b[14t", b"\x05"),
        *(b"\x1b]11;?\x1b\\", b"\x1b]10;?\x07", b"\x1b]4;1;?\x07", b"\x1bP+q544e\x1b\\", b"\x1bP$qm\x1b\\"),
    ],
)
def test_queries_are_removed(question: bytes) -> None:
    assert strip_queries(b"before\x1b[31m" + question + b"after") == b"before\x1b[31mafter"


def test_invisible_changes_of_modes_are_removed() -> None:
    assert strip_mode_changes(VIM) == b"\x1b[22;0;0t\x1b[1;24r~"
    assert strip_mode_changes(b"\x1b[6n\x1b[H\x1b(0q\x1b(B\x1b[4hx\x1b[4l") == b"\x1b[H\x1b(0q\x1b(B\x1b[4hx\x1b[4l"


@pytest.mark.parametrize("data", [b"text", b"\x1b[31m\x1b[2J\x1b[5;7H\x1b[22;0;0t\x1b[5 q\x1b]0;title\x07\x1b[?25l"])
def test_output_without_queries_stays_unchanged(data: bytes) -> None:
    assert strip_queries(data) == data
