r"""What a program on a terminal of its own may do to the screen that it shares: write lines, in colour.

Rules: pure. Only escape sequences and their like are touched, never the text; bytes without any come back as they are.
The sequences are those of ECMA-48 and xterm.

Kept are colours, links (OSC 8), and what moves within the line. What moves elsewhere, clears or exchanges the screen,
sets its title, changes how keys are sent, or asks the terminal a question (whose answer would be typed into our shell)
is left out. Going to a column, and erasing the whole line, begin with a carriage return instead, behind which `formats`
puts the prefix again; going to the top, where a new picture of the screen begins, begins a new line.
"""

from __future__ import annotations

import re

ESCAPE = b"\x1b"
HARMFUL = re.compile(
    rb"\x1b(?:"
    rb"\[(?![0-9;:]*m|0?K|\d{0,2}[CD])[0-?]*[ -/]*[@-~]"  # control sequences
    rb"|\](?!8;)[^\x07\x1b\n]*(?:\x07|\x1b\\)"  # commands of the operating system: title, colours of the terminal
    rb"|[PX^_][^\x1b\n]*\x1b\\"  # other control strings
    rb"|[ -/]+[0-~]"  # character sets
    rb"|[0-OQ-WYZ`-~]"  # reset, keypad, saving the cursor
    rb")"
)
# The whole line erased, a column, and so far back that it means the first one.
WITHIN_LINE = re.compile(rb"\x1b\[(?:(2K)|(\d{0,4})G|\d{3,4}D)")
TO_THE_TOP = re.compile(rb"(\A|\n)?\x1b\[1?(?:;1?)?[Hf]")
BACK = re.compile(rb"\x1b\[\d{0,2}D")
# What there is within a line, as far as it moves: forwards and back, a return, what cannot be seen, text.
PIECES = re.compile(
    rb"\x1b\[(\d{0,4})([CD])|(\r)|(\x08)"
    rb"|\x1b(?:\[[0-9;:]*[mK]|\]8;[^\x07\x1b\n]*(?:\x07|\x1b\\))?"
    rb"|[^\x1b\r\x08]+"
)
# At the beginning of a line there is nothing to return to, nor to erase.
RETURN_AT_BEGINNING = re.compile(rb"(?<=\n)(?:\r(?:\x1b\[0?K)?)+(?=[^\r\n])")
# Who writes so many empty lines pushes what was there off the screen, as vite does.
PUSH = b"\n" * 10
PUSHES = re.compile(rb"\n{10,}")
# Nothing of this can be seen as long as nothing follows.
INVISIBLE = re.compile(rb"(?:\x1b\[[0-9;:]*[mK]|\r)+")


def harmless(data: bytes, *, within_line: bool = False) -> bytes:
    """The data without what would wreck a screen that others write to as well.

    `within_line`: its first byte continues a line.
    """
    if PUSH in data:
        data = PUSHES.sub(b"\n", data)
    if ESCAPE not in data:
        return data
    beginning = b"\n" if within_line else b""
    data = TO_THE_TOP.sub(lambda match: beginning if match[1] == b"" else b"\n", data)
    data, count = WITHIN_LINE.subn(_within_line, data)
    if count:
        data = RETURN_AT_BEGINNING.sub(b"", data)
    data = HARMFUL.sub(b"", data)
    if BACK.search(data):
        first, *others = data.split(b"\n")
        # Where a line began that goes on is not known here.
        data = b"\n".join((first if within_line else _kept_within(first), *map(_kept_within, others)))
    return data


def is_invisible(data: bytes) -> bool:
    """Whether nothing of it can be seen as long as nothing follows."""
    return INVISIBLE.fullmatch(data) is not None


def _kept_within(line: bytes) -> bytes:
    """The line without a move back to where it did not begin: a part of it may stand in the line of an earlier one."""
    if not BACK.search(line):
        return line
    column, kept = 0, []
    for match in PIECES.finditer(line):
        piece, count = match[0], int(match[1] or b"1")
        if match[2] == b"C":
            column += count
        elif match[2] == b"D" or match[4]:
            column -= count
        elif match[3]:
            column = 0
        elif not piece.startswith(ESCAPE):
            column += len(piece.decode(errors="replace"))
        if column <= 0 and match[2]:
            piece = b"\r"
        column = max(column, 0)
        kept.append(piece)
    return b"".join(kept)


def _within_line(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return b"\r\x1b[K"
    column = int(match[2] or b"1")
    return b"\r" if column < 2 else b"\r\x1b[%dC" % (column - 1)
