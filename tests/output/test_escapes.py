"""What of a program's output reaches a screen that it shares, whole and cut at every byte."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.output.escapes import LONGEST_LINK, TerminalFilter, is_invisible

ST = b"\x1b\\"
LINK = b"\x1b]8;;https://example.org/"
NO_LINK = b"\x1b]8;;\x1b\\"
RESET = b"\x1b[0m"

PASSES = [
    b"",
    b"plain\n",
    b"no \xff\xfe utf-8, nul \0, bell \x07, back\x08\x08, tab\t, page \x0c\x0b\n",
    b"\x1b[31mred\x1b[0m \x1b[1;38;5;208mbold\x1b[m \x1b[38:2::1:2:3mtrue\x1b[00m\n",
    b"\x1b[32mgreen\x1b[39m \x1b[1;4mbold\x1b[22;24m \x1b[38;5;9;48;2;1;2;3mboth\x1b[39;49m \x1b[58:5:1mu\x1b[59m\n",
    b"\x1b]8;id=1;https://example.org/\x1b\\link\x1b]8;;\x1b\\\n",
    LINK + b"\x07link\x1b]8;;\x07\n",
    b"10%\r20%\x1b[K\r30%\x1b[0K\n",
    b"ab\x1b[2Cb\x1b[3Dc\n",
    b"one\r\ntwo\r\n",
    b"\n" * 9,
    # Letters whose bytes contain those of C1 controls.
    "Łódź ě Ā ਛ 你好 🛑 \u00a0 é œ Ž".encode(),
    "\u0400\u041b\u0500\u06dd\u1680".encode(),
    # Latin-1 is no UTF-8, and its letters are no controls.
    b"gr\xfc\xdfe\n",
]

# Each is dropped whole, wherever it is cut, and nothing else is.
DROPPED = [
    # Clearing and exchanging the screen, modes.
    *(b"\x1b[2J", b"\x1b[3J", b"\x1b[J", b"\x1b[0J", b"\x1b[1J", b"\x1bc", b"\x1b[!p", b"\x1b[?3h", b"\x1b[?5h"),
    *(b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?47h", b"\x1b[?1047h", b"\x1b[?25l", b"\x1b[?2004h", b"\x1b[?1000h"),
    *(b"\x1b[?1003h", b"\x1b[?1006h", b"\x1b[?1004h", b"\x1b[4h", b"\x1b[4l", b"\x1b[20h", b"\x1b[?6h", b"\x1b[?7l"),
    # Moving to other lines.
    *(b"\x1b[A", b"\x1b[3A", b"\x1b[B", b"\x1b[E", b"\x1b[2F", b"\x1b[5;7H", b"\x1b[5;7f", b"\x1b[12d", b"\x1b[9e"),
    *(b"\x1b[s", b"\x1b[u", b"\x1b7", b"\x1b8", b"\x1bM", b"\x1bD", b"\x1bE", b"\x1b[1;10r", b"\x1b[2S", b"\x1b[T"),
    *(b"\x1b[L", b"\x1b[2M", b"\x1b[@", b"\x1b[P", b"\x1b[X", b"\x1b[1K", b"\x1b[?K", b"\x1b[100C", b"\x1b[99999G"),
    # Character sets, the keypad, tabs, alignment, 8-bit controls.
    *(b"\x1b=", b"\x1b>", b"\x1b(B", b"\x1b(0", b"\x1b)A", b"\x1b%G", b"\x1b%@", b"\x1b#8", b"\x1b G", b"\x1bn"),
    *(b"\x1bH", b"\x1b[3g", b"\x1b[5W", b"\x1b$(C", b"\x0e", b"\x0f"),
    # Questions, whose answers the terminal would type into the user's shell.
    *(b"\x1b[6n", b"\x1b[5n", b"\x1b[?6n", b"\x1b[c", b"\x1b[>c", b"\x1b[=c", b"\x1b[>q", b"\x1b[18t", b"\x1b[21t"),
    *(b"\x1b[?2026$p", b"\x1bZ", b"\x05", b"\x1b[?u", b"\x1b[x"),
    *(b"\x1b]11;?\x1b\\", b"\x1b]10;?\x07", b"\x1bP+q544e\x1b\\", b"\x1bP$qm\x1b\\", b"\x1b_Gi=1;AAAA\x1b\\"),
    # How keys are sent.
    *(b"\x1b[>4;2m", b"\x1b[>1u", b"\x1b[<u", b"\x1b[=1u", b"\x1b[?1h", b"\x1b[?4m"),
    # Titles, the clipboard, marks, pictures, files, the printer, the window.
    *(b"\x1b]0;title\x07", b"\x1b]2;title\x1b\\", b"\x1b]l;x\x07", b"\x1bk name\x1b\\"[:2]),
    *(b"\x1b]52;c;aGk=\x07", b"\x1b]52;c;aGk=\x1b\\", b"\x1b]133;A\x07", b"\x1bPq#0\x1b\\", b"\x1b]9;note\x07"),
    *(b"\x1b]7;file:///tmp\x07", b"\x1b]50;font\x07", b"\x1b]1337;File=:AA\x07", b"\x1b]4;1;red\x07", b"\x1b]104\x07"),
    *(b"\x1b[5i", b"\x1b[4i", b"\x1b[8;10;10t", b"\x1b[3;0;0t", b"\x1b[2 q", b'\x1b[1"q', b"\x1b[1;1;5;5$x"),
    *(b"\x1b^private\x1b\\", b"\x1bXstring\x1b\\", b"\x1b\\"),
    # Control strings that contain the end of other strings, controls, and letters.
    *(b"\x1bPq\x07#0\x1b\\", b"\x1b]0;a\tb\rc\x07", "\x1b]0;ěŁ\x07".encode(), b"\x1b_\x00\x05\x1b\\"),
    # A sequence within a sequence ends it, and what remains forms no new one.
    *(b"\x1b\x1b[c\x1b[?1049h", b"\x1b[\x1b[?1049h", b"\x1b]0;a\x1b[2J", b"\x1b[?10\x1b[2J", b"\x1b\x1b\x1bc"),
    *(b"\x1b]\x1b[2J\x1b]0;EVIL\x07", b"\x1bP\x1b]52;c;AA\x07", b"\x1b[3\x1b(0"),
    # NUL, DEL, ENQ, SO and SI within a sequence.
    *(b"\x1b[\x00?1049h", b"\x1b[\x7f?1049h", b"\x1b\x00[2J", b"\x1b\x7fc", b"\x1b[2\x05J", b"\x1b[\x0e2\x0fJ"),
    # CAN and SUB end a sequence.
    *(b"\x1b[?1049\x18", b"\x1b]0;a\x1a", b"\x1bP\x18", b"\x1b\x1a"),
    # C1 controls, alone and in UTF-8.
    *(b"\x9b", b"\x9d", b"\x90", b"\x84", b"\x80", b"\x9f", b"\xc2\x9b", b"\xc2\x9d", b"\xc2\x85", b"\xc2\x9c"),
    # Links that are none, and more than is kept.
    *(b"\x1b]8;;a\tb\x07", "\x1b]8;;http://ě/\x07".encode(), b"\x1b]8\x07", b"\x1b]8;;\x18"),
    b"\x1b]8;;" + b"u" * LONGEST_LINK + b"\x07",
    b"\x1b[" + b"1;" * 200 + b"m",
    b"\x1b[" + b"0" * 100 + b"K",
]

REPLACED = [
    # C0 controls within a control sequence are carried out, as a terminal does.
    (b"ab\x1b[\b?1049hc\n", b"ab\bc\n"),
    (b"ab\x1b[3\r1mc\n", b"ab\r\x1b[31mc\x1b[0m\n"),
    (b"\x1b[\x07?25l", b"\x07"),
    (b"a\x1b\t[2Jb", b"a\tb"),
    # The line ends any sequence, and nothing of that has passed.
    (b"\x1b]2;EVIL\nTITLE\x07\n", b"\nTITLE\x07\n"),
    (b"\x1bPq#0\nnext\n", b"\nnext\n"),
    (b"\x1b[?10\n49h\n", b"\n49h\n"),
    (b"\x1b\n[2J\n", b"\n[2J\n"),
    (b"\x1b(\n0\n", b"\n0\n"),
    (b"\x1b]0;a\x1b\n\\b\n", b"\n\\b\n"),
    (b"\x1b]8;;http://a/\nb\x07\n", b"\nb\x07\n"),
    (b"never ended \x1b]0;title", b"never ended "),
    (b"cut \x1b[38;5", b"cut "),
    (b"\x1b", b""),
    # The rest of a C1 control sequence is text.
    (b"\xc2\x9b?1049h\x9d0;EVIL\x07\n", b"?1049h0;EVIL\x07\n"),
    # A letter of which the rest does not come, and overlong forms of C1 controls.
    (b"\xe2\x82x\n", b"\xe2x\n"),
    (b"\xe0\x82\x9b2J\n", b"\xe02J\n"),
    (b"\xc2\x1b[2J\x9b\n", b"\xc2\n"),
    # A letter within a sequence ends it.
    ("\x1b[2ěJ".encode(), "ěJ".encode()),
    ("\x1bě".encode(), "ě".encode()),
    # Colours and links end with their line, and before a return, behind which the prefix comes again.
    (b"\x1b[31;8mX\nY\n", b"\x1b[31;8mX\x1b[0m\nY\n"),
    (b"\x1b[0;1mX\n", b"\x1b[0;1mX\x1b[0m\n"),
    (b"\x1b[1;32mX\x1b[39m\n", b"\x1b[1;32mX\x1b[39m\x1b[0m\n"),
    (b"\x1b[38;5;1;4mX\x1b[24m\n", b"\x1b[38;5;1;4mX\x1b[24m\x1b[0m\n"),
    (b"\x1b[11mX\x1b[39m\n", b"\x1b[11mX\x1b[39m\x1b[0m\n"),
    (b"\x1b[0;38;2;0;0;0mX\n", b"\x1b[0;38;2;0;0;0mX\x1b[0m\n"),
    (b"\x1b[32m1%\r2%\n", b"\x1b[32m1%\x1b[0m\r2%\n"),
    (LINK + b"\x07X\n", LINK + b"\x07X" + NO_LINK + b"\n"),
    (b"\x1b[4m" + LINK + b"\x07X\n", b"\x1b[4m" + LINK + b"\x07X" + RESET + NO_LINK + b"\n"),
    (b"\x1b[31mlast", b"\x1b[31mlast\x1b[0m"),
    # A move to the first column is a return.
    (b"10%\x1b[1G20%", b"10%\r20%"),
    (b"10%\x1b[G20%", b"10%\r20%"),
    (b"10%\x1b[1000D20%", b"10%\r20%"),
    (b"10%\x1b[2K\x1b[1G20%", b"10%\r\x1b[K20%"),
    (b"10%\r\x1b[2K20%", b"10%\r\x1b[K20%"),
    (b"name\x1b[20Gvalue", b"name\r\x1b[19Cvalue"),
    # No move back goes further than to the beginning of the line: something else stands before it.
    (b"\x1b[4D>>> d\x1b[5D>>> de\n", b">>> d\r>>> de\n"),
    (b"\b\bab\b\b\bc\n", b"ab\b\bc\n"),
    ("one\ngrü\x1b[31mße\x1b[6D!\n".encode(), "one\ngrü\x1b[31mße\x1b[0m\r!\n".encode()),
    (b"abc\x1b[2D\x1b[2C\x1b[3Dx", b"abc\x1b[2D\x1b[2C\rx"),
    # At the beginning of a line there is nothing to erase.
    (b"one\n\x1b[2K\x1b[1Gtwo\n", b"one\ntwo\n"),
    # A new picture begins at the top.
    (b"last line\x1b[H\x1b[2Jfirst line\n", b"last line\nfirst line\n"),
    (b"last line\n\x1b[1;1H\x1b[0Jfirst line\n", b"last line\nfirst line\n"),
    (b"\x1b[Hfirst line\n", b"first line\n"),
]


def filtered(*chunks: bytes) -> bytes:
    terminal_filter = TerminalFilter()
    return b"".join(map(terminal_filter.feed, chunks)) + terminal_filter.finish()


def cut_everywhere(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def assert_becomes(data: bytes, expected: bytes) -> None:
    assert filtered(data) == expected
    assert filtered(*cut_everywhere(data)) == expected
    for cut in range(1, min(len(data), 100)):
        assert filtered(data[:cut], data[cut:]) == expected, f"cut at {cut}"


def test_table_has_at_least_a_hundred_dropped_sequences() -> None:
    assert len(set(DROPPED)) >= 150


@pytest.mark.parametrize("data", PASSES)
def test_harmless_output_passes_unchanged(data: bytes) -> None:
    assert_becomes(data, data)


@pytest.mark.parametrize("sequence", DROPPED)
def test_harmful_sequence_is_dropped(sequence: bytes) -> None:
    assert_becomes(b"before " + sequence + b"\x1b[32mafter\x1b[m\n", b"before \x1b[32mafter\x1b[m\n")
    assert_becomes(sequence, b"")


@pytest.mark.parametrize(("data", "expected"), REPLACED)
def test_sequence_is_replaced_by_its_nearest_equivalent_within_the_line(data: bytes, expected: bytes) -> None:
    assert_becomes(data, expected)


def test_rows_of_empty_lines_that_push_output_off_the_screen_become_one() -> None:
    # As vite writes them, before it goes to the top.
    assert filtered(b"\n" * 38 + b"\x1b[1;1H\x1b[0J  VITE ready\n") == b"\n  VITE ready\n"


def test_interruption_closes_colours_and_begins_a_line() -> None:
    terminal_filter = TerminalFilter()
    assert terminal_filter.feed(b"\x1b[31m>>> ") == b"\x1b[31m>>> "
    assert terminal_filter.interrupt() == RESET
    # The prompt is drawn again in a line of its own: there is nothing to go back over.
    assert terminal_filter.feed(b"\x1b[4D>>> x\x1b[H") == b">>> x\n"


def test_interruption_does_not_end_a_sequence() -> None:
    terminal_filter = TerminalFilter()
    assert terminal_filter.feed(b"\x1b]52;c;") == b""
    assert terminal_filter.interrupt() == b""
    assert terminal_filter.feed(b"aGk=\x07text") == b"text"


def test_new_run_begins_outside_of_sequences() -> None:
    terminal_filter = TerminalFilter()
    terminal_filter.feed(b"\x1bP")
    terminal_filter.restart()
    assert terminal_filter.feed(b"new run") == b"new run"


@pytest.mark.parametrize("beginning", [b"\x1b]0;", b"\x1bP", b"\x1b[", b"\x1b("])
def test_endless_sequence_keeps_little_memory(beginning: bytes) -> None:
    terminal_filter = TerminalFilter()
    assert terminal_filter.feed(beginning) == b""
    for _ in range(100):
        terminal_filter.feed(b" " * 100_000)
    assert len(terminal_filter._held) <= LONGEST_LINK + 1
    assert terminal_filter.feed(b"\nnext\n") == b"\nnext\n"


@pytest.mark.parametrize(
    "data", [b"a" * 1_000_000 + b"\x1b", b"\x1b[" * 300_000, b"\xc2\x9b" * 300_000, b"\x1b]" * 300_000]
)
def test_time_grows_with_the_size_only(data: bytes) -> None:
    # Processor time, as the machine may be busy. A pattern that backtracks would take hours.
    before = time.process_time()
    filtered(data)
    assert time.process_time() - before < 20


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
def test_invisible_output_is_recognised(data: bytes, invisible: bool) -> None:
    assert is_invisible(data) is invisible


PIECES = st.sampled_from(
    [
        *(
            b"\x1b",
            b"[",
            b"]",
            b"?",
            b"8;",
            b";",
            b"2",
            b"J",
            b"H",
            b"K",
            b"m",
            b"G",
            b"\n",
            b"\r",
            b"\b",
            b"\x07",
            b"\\",
        ),
        *(b"P", b"text", b"(", b"c", b"\x00", b"\x05", b"\x18", b"\x9b", b"\xc2", b"\xe2\x82", b"\xac", b"31", b"\x7f"),
    ]
)
HARMLESS_SEQUENCE = rb"\x1b\[[0-9;:]*m|\x1b\[0?K|\x1b\[\d{0,4}[CD]|\x1b\]8;[\x20-\x7e]*?(?:\x07|\x1b\\)"


@given(st.lists(PIECES, max_size=16))
def test_only_harmless_sequences_reach_the_screen(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    out = filtered(*pieces)
    assert out == filtered(data) == filtered(*cut_everywhere(data))
    rest = re.sub(HARMLESS_SEQUENCE, b"", out)
    assert b"\x1b" not in rest
    assert b"\x05" not in rest
    assert not any(0x80 <= ord(letter) <= 0x9F for letter in rest.decode(errors="replace"))
    if b"H" not in data:
        assert out.count(b"\n") == data.count(b"\n")
    # Each line leaves colours as it found them.
    for line in out.split(b"\n"):
        colours = re.findall(rb"\x1b\[([0-9;:]*)m", line)
        # 22 ends what 2 begins; none of the other numbers among the pieces ends anything.
        assert not colours or not colours[-1].strip(b"0") or colours[-1].endswith(b"22")
