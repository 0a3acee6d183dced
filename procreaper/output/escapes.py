"""Filters the output of a program that has a terminal of its own, for a screen that it shares with other programs.

Rules: pure. Text never changes; only control characters and escape sequences do. A sequence may be cut anywhere between
two chunks. Memory is bounded, whatever the program writes. The sequences are those of ECMA-48 and xterm.

Text, colours, links (OSC 8), the bell and movements within the line pass. A sequence is dropped if it moves elsewhere,
clears or exchanges the screen, sets its title, changes how keys are sent, or asks the terminal a question: the terminal
would type its answer into the user's shell. A move to a column and an erased line become a carriage return, after which
`text` repeats the prefix. A move to the top of the screen, where a new picture begins, begins a new line.

Theory of operation. `TerminalFilter` is the state machine of a terminal (ground, escape, control sequence, string), as
in https://vt100.net/emu/dec_ansi_parser. It passes on no part of a sequence before its last byte has come, so a part of
a dropped sequence cannot combine with the next one. As a terminal does, it carries out a C0 control inside a control
sequence. Unlike a terminal, it ends every sequence, colour and link with the line. Regular expressions only cut the
input into tokens; each token is matched where it begins, so the time is linear.
"""

from __future__ import annotations

import re

# The longest part of an unfinished sequence that is kept. No control sequence that passes is longer; a link may be.
LONGEST_SEQUENCE = 64
LONGEST_LINK = 2048

# Printable characters in UTF-8, without C1 controls (U+0080 to U+009F) and without overlong forms of them; single bytes
# from 0xA0, which no terminal takes for a control; and the C0 controls that do no harm where they stand.
_TEXT = (
    rb"(?:[\x20-\x7e]++|\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}"
    rb"|\xf4[\x80-\x8f][\x80-\xbf]{2})"
)
_HARMLESS = rb"[\x00-\x04\x06\x07\t\x0b\x0c\x10-\x17\x19\x1c-\x1f\x7f]"
_RUN = re.compile(rb"(?:" + _TEXT + rb"|" + _HARMLESS + rb")++")
# Most chunks are ASCII without any of these; to look for each of them is ten times as fast as a regular expression.
_INTERESTING = (b"\x1b", b"\b", b"\x05", b"\x0e", b"\x0f", b"\x18", b"\x1a")
_PLAIN = re.compile(rb"(?:" + _TEXT + rb"|" + _HARMLESS + rb"|[\r\n])*+")
# Lines with colours, and a colour that is still on at the end of its line.
_COLOURED = re.compile(rb"(?:" + _TEXT + rb"|" + _HARMLESS + rb"|\n|\x1b\[[0-9;:]{0,60}m)*+(?<=\n)")
_LEFT_ON = re.compile(rb"\x1b\[[0-9;:]*[1-9][0-9;:]*m[^\x1b\n]*\n")
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
# The first bytes of a letter whose others may come with the next chunk.
_CUT_LETTER = re.compile(
    rb"(?:[\xc2-\xdf]|[\xe1-\xec\xee\xef][\x80-\xbf]?|\xe0[\xa0-\xbf]?|\xed[\x80-\x9f]?"
    rb"|\xf0(?:[\x90-\xbf][\x80-\xbf]?)?|[\xf1-\xf3][\x80-\xbf]{0,2}|\xf4(?:[\x80-\x8f][\x80-\xbf]?)?)\Z"
)
# The most common sequence, as a whole: it need not go through the states.
_COLOUR = re.compile(rb"\x1b\[([0-9;:]{0,60})m")
_PARAMETERS = re.compile(rb"[\x20-\x3f]+")
_INTERMEDIATES = re.compile(rb"[\x20-\x2f]+")
# Up to what may end a control string: BEL, CAN, LF, SUB, ESC.
_STRING = re.compile(rb"[^\x07\x18\n\x1a\x1b]+")
_LINK = re.compile(rb"8;[\x20-\x3a\x3c-\x7e]*;([\x20-\x7e]*)")
# A program that writes ten empty lines or more pushes earlier output off the screen, as vite does; it gets one.
_PUSH = b"\n" * 10
_PUSHES = re.compile(rb"\n{10,}")
# This cannot be seen as long as nothing follows.
_INVISIBLE = re.compile(rb"(?:\x1b\[[0-9;:]*[mK]|\r)+")

RESET = b"\x1b[0m"
# For each attribute of a character the number that ends it, by ECMA-48, 8.3.117, and xterm.
_ENDED_BY = {1: 22, 2: 22, 3: 23, 20: 23, 4: 24, 21: 24, 5: 25, 6: 25, 7: 27, 8: 28, 9: 29, 51: 54, 52: 54, 53: 55}
_ENDED_BY |= dict.fromkeys((*range(30, 39), *range(90, 98)), 39) | dict.fromkeys((*range(40, 49), *range(100, 108)), 49)
_ENDED_BY[58] = 59
_ENDS = frozenset(_ENDED_BY.values())
END_OF_LINK = b"\x1b]8;;\x1b\\"

_GROUND, _ESCAPE, _CONTROL, _OSC, _OTHER_STRING, _STRING_ESCAPE = range(6)
# What ESC and this byte introduce: CSI, OSC, and DCS, SOS, PM, APC.
_INTRODUCED = {0x5B: _CONTROL, 0x5D: _OSC} | dict.fromkeys(b"PX^_", _OTHER_STRING)
# The parameters of a move to the first line and column.
_TOP = frozenset({b"", b"1", b";", b";1", b"1;", b"1;1"})


def is_invisible(data: bytes) -> bool:
    """Return whether nothing of `data` can be seen as long as nothing follows."""
    return _INVISIBLE.fullmatch(data) is not None


def _is_simple(data: bytes) -> bool:
    """Return whether there is nothing to filter in `data`; also False if the answer would take long."""
    if data.isascii() and not any(byte in data for byte in _INTERESTING):
        return True
    if b"\x1b" not in data:
        return _PLAIN.fullmatch(data) is not None
    return _COLOURED.fullmatch(data) is not None and _LEFT_ON.search(data) is None


class TerminalFilter:
    """The filter of one program; it begins at the beginning of a line."""

    def __init__(self) -> None:
        self._state = _GROUND
        # The part of a sequence, or the first bytes of a letter, that has come so far.
        self._held = b""
        # The column within this line, counted in characters: a wide one or a tab moves further, which does no harm.
        self._column = 0
        # Whether anything that can be seen or moves has been written to this line.
        self._is_begun = False
        # The numbers that would end the attributes that are on; only a reset ends others, such as fonts.
        self._attributes: set[int] = set()
        self._has_link = False

    def feed(self, data: bytes) -> bytes:
        """Take the output of the program, and return the part of it that may reach the shared screen."""
        if _PUSH in data:
            data = _PUSHES.sub(b"\n", data)
        if self._state == _GROUND:
            if self._held:
                data, self._held = self._held + data, b""
            if not (self._attributes or self._has_link) and _is_simple(data):
                self._advance(data)
                return data
        out: list[bytes] = []
        position = 0
        while position < len(data):
            position = self._STEPS[self._state](self, data, position, out)
        return b"".join(out)

    def interrupt(self) -> bytes:
        """Begin a line, because output of another program follows. Return the bytes that close colours and links before
        it.
        """
        closing = self._closing()
        self._begin_line()
        return closing

    def restart(self) -> None:
        """Forget an unfinished sequence, because a new run of the program begins."""
        self._state, self._held = _GROUND, b""

    def finish(self) -> bytes:
        """Return the bytes of an unfinished letter, and those that close colours and links, at the end of output."""
        letter = b""
        if self._state == _GROUND:
            letter = bytes(byte for byte in self._held if byte >= 0xA0)
        self.restart()
        return letter + self._closing()

    # One step for each state: take at least one byte from `position`, and return where the next step begins.

    def _step_ground(self, data: bytes, position: int, out: list[bytes]) -> int:
        if run := _RUN.match(data, position):
            self._write(run[0], out)
            return run.end()
        byte = data[position]
        if byte == 0x1B:
            if colour := _COLOUR.match(data, position):
                self._set_colour(colour[1], out)
                return colour.end()
            self._state, self._held = _ESCAPE, b""
        elif byte < 0x20:
            self._execute(byte, out)
        elif _CUT_LETTER.match(data, position):
            self._held = data[position:]
            return len(data)
        elif _C1.match(data, position):
            return position + 2
        elif byte >= 0xA0:
            self._write(data[position : position + 1], out)
        # Dropped: a byte from 0x80 to 0x9F that belongs to no letter.
        return position + 1

    def _step_escape(self, data: bytes, position: int, out: list[bytes]) -> int:
        if self._held and (more := _INTERMEDIATES.match(data, position)):
            return more.end()
        byte = data[position]
        if byte < 0x20:
            self._execute(byte, out)
        elif byte >= 0x80:
            self._state = _GROUND
            return position
        elif byte < 0x30:
            # A character set or the like: its last byte ends it, whichever that is.
            self._held = b" "
        elif byte != 0x7F:
            self._state = _GROUND if self._held else _INTRODUCED.get(byte, _GROUND)
            self._held = b""
        return position + 1

    def _step_control(self, data: bytes, position: int, out: list[bytes]) -> int:
        if more := _PARAMETERS.match(data, position):
            self._held = (self._held + more[0])[: LONGEST_SEQUENCE + 1]
            return more.end()
        byte = data[position]
        if byte < 0x20:
            self._execute(byte, out)
        elif byte >= 0x80:
            self._state, self._held = _GROUND, b""
            return position
        elif byte != 0x7F:
            parameters, self._held, self._state = self._held, b"", _GROUND
            if len(parameters) <= LONGEST_SEQUENCE:
                self._carry_out(parameters, byte, out)
        return position + 1

    def _step_osc(self, data: bytes, position: int, out: list[bytes]) -> int:
        if more := _STRING.match(data, position):
            self._held = (self._held + more[0])[: LONGEST_LINK + 1]
            return more.end()
        if data[position] == 0x07:
            self._end_osc(b"\x07", out)
            return position + 1
        return self._end_string(data, position, out)

    def _step_other_string(self, data: bytes, position: int, out: list[bytes]) -> int:
        if more := _STRING.match(data, position):
            return more.end()
        if data[position] == 0x07:
            return position + 1
        return self._end_string(data, position, out)

    def _step_string_escape(self, data: bytes, position: int, out: list[bytes]) -> int:
        # ESC within a string: with a backslash it is the string's end, with anything else it begins a new sequence.
        if data[position] == 0x5C:
            self._end_osc(b"\x1b\\", out)
            return position + 1
        self._state, self._held = _ESCAPE, b""
        return position

    _STEPS = (_step_ground, _step_escape, _step_control, _step_osc, _step_other_string, _step_string_escape)

    def _end_string(self, data: bytes, position: int, out: list[bytes]) -> int:
        if data[position] == 0x1B:
            if self._state == _OTHER_STRING:
                self._held = b""
            self._state = _STRING_ESCAPE
        else:
            self._execute(data[position], out)
        return position + 1

    def _end_osc(self, terminator: bytes, out: list[bytes]) -> None:
        command, self._held, self._state = self._held, b"", _GROUND
        link = _LINK.fullmatch(command) if len(command) <= LONGEST_LINK else None
        if link is not None:
            self._has_link = bool(link[1])
            out.append(b"\x1b]" + command + terminator)

    def _execute(self, byte: int, out: list[bytes]) -> None:
        """Carry out a C0 control, wherever it stands."""
        if byte == 0x0A:
            self._state, self._held = _GROUND, b""
            out.append(self._closing() + b"\n")
            self._begin_line()
        elif byte == 0x0D:
            # Behind it `formats` may repeat the prefix.
            out.append(self._closing() + b"\r")
            self._column = 0
        elif byte == 0x08:
            if self._column:
                self._column -= 1
                out.append(b"\b")
        elif byte in (0x18, 0x1A):
            self._state, self._held = _GROUND, b""
        elif byte == 0x1B:
            self._state, self._held = _ESCAPE, b""
        elif byte not in (0x00, 0x05, 0x0E, 0x0F):
            # Dropped: NUL, which only pads; ENQ, a question; SO and SI, which exchange the character set.
            self._write(bytes((byte,)), out)

    def _carry_out(self, parameters: bytes, final: int, out: list[bytes]) -> None:
        """Pass on a control sequence, or its nearest equivalent within the line, or nothing."""
        number = int(parameters or b"1") if parameters.isdigit() or not parameters else -1
        count = max(number, 1)
        match final:
            case 0x6D if not parameters.strip(b"0123456789;:"):  # m: colours
                self._set_colour(parameters, out)
            case 0x4B if parameters in (b"", b"0"):  # K: erase to the end of the line
                out.append(b"\x1b[" + parameters + b"K")
            case 0x4B if parameters == b"2":
                if self._is_begun:
                    out.append(self._return() + b"\x1b[K")
            case 0x43 if 0 <= number < 100:  # C: forwards
                out.append(b"\x1b[" + parameters + b"C")
                self._column += count
                self._is_begun = True
            case 0x44 if 0 <= number < 10_000:  # D: back
                if count >= self._column:
                    out.append(self._return())
                else:
                    out.append(b"\x1b[" + parameters + b"D")
                    self._column -= count
            case 0x47 if 0 <= number < 10_000:  # G: to a column
                back = self._return()
                self._column = count - 1
                self._is_begun = self._is_begun or self._column > 0
                out.append(back + (b"\x1b[%dC" % self._column if self._column else b""))
            case 0x48 | 0x66 if parameters in _TOP:  # H, f: to the top
                if self._is_begun:
                    out.append(self._closing() + b"\n")
                    self._begin_line()

    def _set_colour(self, parameters: bytes, out: list[bytes]) -> None:
        out.append(b"\x1b[" + parameters + b"m")
        numbers = iter(parameters.split(b";"))
        for number in numbers:
            # Those behind a colon belong to the first.
            code = int(number.partition(b":")[0] or b"0")
            if not code:
                self._attributes.clear()
            elif code in _ENDS:
                self._attributes.discard(code)
            else:
                self._attributes.add(_ENDED_BY.get(code, 0))
            if code in (38, 48, 58) and b":" not in number:
                # A colour of the palette, or red, green and blue.
                for _ in range({b"5": 1, b"2": 3}.get(next(numbers, b""), 0)):
                    next(numbers, None)

    def _write(self, run: bytes, out: list[bytes]) -> None:
        out.append(run)
        self._is_begun = True
        self._column += len(run.decode(errors="replace"))

    def _advance(self, data: bytes) -> None:
        """Update the column after text without escape sequences."""
        line = data.rfind(b"\n") + 1
        if line:
            self._begin_line()
        rest = data[line:]
        if rest:
            self._is_begun = True
            if (start := rest.rfind(b"\r") + 1) > 0:
                self._column = 0
            self._column += len(rest[start:].decode(errors="replace"))

    def _return(self) -> bytes:
        """Return the bytes that go to the first column; none if the cursor is there."""
        if not self._column:
            return b""
        self._column = 0
        return self._closing() + b"\r"

    def _closing(self) -> bytes:
        """Return the bytes that reset colours and close a link, if they are open."""
        closing = (RESET if self._attributes else b"") + END_OF_LINK * self._has_link
        self._attributes.clear()
        self._has_link = False
        return closing

    def _begin_line(self) -> None:
        self._column = 0
        self._is_begun = False
