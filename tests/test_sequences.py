"""What a program that has a terminal of its own may do to the screen that it shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.sequences import harmless, is_invisible


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain\n",
        b"no \xff\xfe utf-8, nul \0, bell \x07, back\x08\x08, tab\t\n",
        b"\x1b[31mred\x1b[0m \x1b[1;38;5;208mbold\x1b[m \x1b[38:2::1:2:3mtrue\n",
        b"\x1b]8;id=1;https://example.org/\x1b\\link\x1b]8;;\x1b\\\n",
        b"\x1b]8;;https://example.org/\x07link\x1b]8;;\x07\n",
        b"10%\r20%\x1b[K\r30%\x1b[0K\n",
        b"a\x1b[2Cb\x1b[3Dc\n",
        b"one\r\ntwo\r\n",
        b"\n" * 9,
        b"\x1b",
        b"\x1b[",
        b"cut \x1b[38;5",
        b"\x1b]0;never ended\n",
    ],
)
def test_what_harms_nobody_is_left_as_it_is(data: bytes) -> None:
    assert harmless(data) == data


@pytest.mark.parametrize(
    "sequence",
    [
        *(b"\x1b[2J", b"\x1b[3J", b"\x1b[J", b"\x1b[0J", b"\x1bc", b"\x1b[!p"),
        *(b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?47h", b"\x1b[?25l", b"\x1b[?2004h", b"\x1b[?1000h", b"\x1b[4l"),
        *(b"\x1b[A", b"\x1b[3A", b"\x1b[B", b"\x1b[E", b"\x1b[2F", b"\x1b[5;7H", b"\x1b[5;7f", b"\x1b[12d"),
        *(b"\x1b[s", b"\x1b[u", b"\x1b7", b"\x1b8", b"\x1bM", b"\x1bD", b"\x1bE", b"\x1b[1;10r", b"\x1b[2S", b"\x1b[T"),
        *(b"\x1b[L", b"\x1b[2M", b"\x1b[@", b"\x1b[P", b"\x1b[1K", b"\x1b=", b"\x1b>", b"\x1b(B", b"\x1b(0", b"\x1b#8"),
        # Questions, whose answers would be typed into our shell.
        *(b"\x1b[6n", b"\x1b[c", b"\x1b[>c", b"\x1b[>q", b"\x1b[18t", b"\x1b[?2026$p", b"\x1bZ"),
        *(b"\x1b]11;?\x1b\\", b"\x1b]10;?\x07", b"\x1bP+q544e\x1b\\", b"\x1b_Gi=1;AAAA\x1b\\"),
        # How keys are sent.
        *(b"\x1b[>4;2m", b"\x1b[>1u", b"\x1b[?1h"),
        # Titles, the clipboard, marks, pictures.
        *(b"\x1b]0;title\x07", b"\x1b]2;title\x1b\\", b"\x1b]52;c;aGk=\x07", b"\x1b]133;A\x07", b"\x1bPq#0\x1b\\"),
        *(b"\x1b^private\x1b\\", b"\x1bXstring\x1b\\"),
        # What others wrote is not pushed off the screen.
        b"\x1b[2J\x1b[3J\x1b[?25l",
    ],
)
def test_what_would_wreck_the_screen_is_left_out(sequence: bytes) -> None:
    assert harmless(b"before " + sequence + b"\x1b[32mafter\n") == b"before \x1b[32mafter\n"
    assert harmless(sequence) == b""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # Whatever begins the line again does so with a return.
        (b"10%\x1b[1G20%", b"10%\r20%"),
        (b"10%\x1b[G20%", b"10%\r20%"),
        (b"10%\x1b[1000D20%", b"10%\r20%"),
        (b"10%\x1b[2K\x1b[1G20%", b"10%\r\x1b[K\r20%"),
        (b"10%\r\x1b[2K20%", b"10%\r\r\x1b[K20%"),
        (b"name\x1b[20Gvalue", b"name\r\x1b[19Cvalue"),
        # Who goes on after others have spoken goes back to the beginning of this line, and not into what stands before.
        (b"\x1b[4D>>> d\x1b[5D>>> de\n", b"\r>>> d\r>>> de\n"),
        (b"one\ngr\xc3\xbc\x1b[31m\xc3\x9fe\x1b[6D!\n", b"one\ngr\xc3\xbc\x1b[31m\xc3\x9fe\r!\n"),
        (b"abc\x1b[2D\x1b[2C\x1b[3Dx", b"abc\x1b[2D\x1b[2C\rx"),
        # At the beginning of a line there is nothing to return to.
        (b"one\n\x1b[2K\x1b[1Gtwo\n", b"one\ntwo\n"),
        # A new picture begins at the top.
        (b"last line\x1b[H\x1b[2Jfirst line\n", b"last line\nfirst line\n"),
        (b"last line\n\x1b[1;1H\x1b[0Jfirst line\n", b"last line\nfirst line\n"),
        (b"\x1b[Hfirst line\n", b"first line\n"),
        # vite pushes everything off the screen, and goes to the top.
        (b"\n" * 38 + b"\x1b[1;1H\x1b[0J  VITE ready\n", b"\n  VITE ready\n"),
    ],
)
def test_what_moves_elsewhere_is_replaced_by_the_nearest_that_does_not(data: bytes, expected: bytes) -> None:
    assert harmless(data) == expected


def test_the_top_of_the_screen_ends_a_line_that_is_open() -> None:
    assert harmless(b"\x1b[Hfirst\n", within_line=True) == b"\nfirst\n"


@pytest.mark.parametrize(
    ("data", "invisible"),
    [
        (b"\x1b[0m", True),
        (b"\r\x1b[K\x1b[32m", True),
        (b"\x1b[0m ", False),
        (b"\n", False),
        (b"x", False),
        (b"", False),
    ],
)
def test_what_cannot_be_seen_is_known(data: bytes, invisible: bool) -> None:
    assert is_invisible(data) is invisible


PIECES = st.sampled_from(
    [
        b"\x1b",
        b"[",
        b"]",
        b"?",
        b"8;",
        b"2",
        b";",
        b"J",
        b"H",
        b"m",
        b"\n",
        b"\r",
        b"\x07",
        b"\\",
        b"P",
        b"text",
        b"(",
        b"c",
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_of_anything_every_line_is_left(data: bytes) -> None:
    tame = harmless(data)
    if b"\n" * 10 not in data and b"H" not in data:
        assert tame.count(b"\n") == data.count(b"\n")
        if b"\x1b" not in data:
            assert tame == data
