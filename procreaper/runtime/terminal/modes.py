r"""Follow the modes that a program sets in its terminal, by the escape sequences in its output.

Rules: pure; the output itself does not change. A sequence may be cut anywhere between two reads. The known modes are
those of xterm that another terminal must enter to show the program, and must leave afterwards: the screen, the
scrolling region, the visibility of the cursor, and the reports of keys, pastes and the mouse. Other output is ignored.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ESCAPE = b"\x1b"
ALTERNATE = (47, 1047, 1049)
# Private modes, in the order in which to enter them: cursor keys, reverse video, origin, wrap, mouse (old), cursor,
# mouse and focus, bracketed paste, synchronized updates, colour scheme reports, size reports.
PRIVATE = (1, 5, 6, 7, 9, 25, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2026, 2031, 2048)
# Modes that are on by default.
ON_BY_DEFAULT = frozenset({7, 25})
# The longest sequence that matters, in bytes.
LONGEST = 48
MOST_KEYBOARDS = 8
CHANGE = re.compile(
    rb"\x1b(?:"
    rb"\[\?[0-9;]{1,40}[hl]"  # private modes
    rb"|\[4[hl]"  # insert mode
    rb"|\[[0-9;]{0,40}r"  # the scrolling region
    rb"|\[[0-9]{0,40} q"  # the shape of the cursor
    rb"|\[>4(?:;[0-9]?)?[mn]"  # reports of keys: xterm's way
    rb"|\[[><=][0-9;]{0,40}u"  # and kitty's
    rb"|\[!p"  # a soft reset
    rb"|[=>c]"  # keypad; reset
    rb"|\([0B]"  # line drawing
    rb")"
)
UNFINISHED = re.compile(rb"\x1b(?:\[[?>=<!]?[0-9;]* ?|\()?")
# Of these, the sequences that do not change how the next output looks.
INVISIBLE = re.compile(rb"\x1b(?:\[\?[0-9;]{1,40}[hl]|\[>4(?:;[0-9]?)?[mn]|\[[><=][0-9;]{0,40}u|\[[0-9]{0,40} q|[=>c])")
# Resets a terminal to its default modes, from any modes and even from the middle of a sequence.
RESET = b"".join(
    (
        b"\x18\x1b[?1049l\x1b[!p\x1b>\x1b(B\x1b[0 q\x1b[>4m\x1b[<%du" % MOST_KEYBOARDS,
        *(b"\x1b[?%d%c" % (mode, b"lh"[mode in ON_BY_DEFAULT]) for mode in PRIVATE),
    )
)
# Queries: a terminal answers them as if the answer had been typed.
QUERY = re.compile(
    rb"\x1b(?:"
    rb"\[\??[0-9;]*n"  # the position of the cursor, and the like
    rb"|\[[>=]?[0-9;]*c|Z|\[>[0-9]*q"  # the kind of terminal
    rb"|\[\??[0-9;]*\$p|\[\?[0-9]*m|\[\?u"  # its modes
    rb"|\[(?:1[1-9]|2[01])(?:;[0-9]+)*t"  # its window
    rb"|\][0-9;]+;\?(?:\x07|\x1b\\)"  # its colours
    rb"|P[+$]q[^\x1b]*\x1b\\"  # its capabilities
    rb")|\x05"
)


class Written(NamedTuple):
    """The output to each of the two screens."""

    main: bytes
    alternate: bytes


class Modes:
    """The modes of one terminal, which starts with the default ones."""

    def __init__(self) -> None:
        self._held = b""
        self._reset()

    @property
    def is_alternate(self) -> bool:
        """Whether the alternate screen is shown. Its contents are lost when the program leaves it."""
        return self._screen is not None

    def feed(self, data: bytes) -> Written:
        """Follow a piece of output, and return it by screen. A sequence that is cut is returned with its rest."""
        if self._held:
            data = self._held + data
            self._held = b""
        elif ESCAPE not in data:
            return Written(b"", data) if self.is_alternate else Written(data, b"")
        last = data.rfind(ESCAPE, max(0, len(data) - LONGEST))
        if last >= 0 and UNFINISHED.fullmatch(data, last):
            self._held = data[last:]
            data = data[:last]
        pieces: tuple[list[bytes], list[bytes]] = ([], [])
        start = 0
        for match in CHANGE.finditer(data):
            before = self.is_alternate
            self._change(match[0])
            if self.is_alternate is not before:
                pieces[before].append(data[start : match.start()])
                start = match.end()
        pieces[self.is_alternate].append(data[start:])
        return Written(*map(b"".join, pieces))

    def take_unfinished(self) -> bytes:
        """Return the beginning of a sequence whose rest will not come."""
        held, self._held = self._held, b""
        return held

    def enter_sequence(self) -> bytes:
        """Return what brings a terminal from the default modes into these."""
        sequences = []
        if self._screen is not None:
            sequences.append(b"\x1b[?%dh\x1b[2J\x1b[H" % self._screen)
        if self._scrolling_region:
            sequences.append(b"\x1b7" + self._scrolling_region + b"\x1b8")
        sequences += [b"\x1b[?%d%c" % (mode, b"hl"[mode in ON_BY_DEFAULT]) for mode in PRIVATE if mode in self._changed]
        sequences += [b"\x1b[>%su" % flags for flags in self._keyboards]
        sequences += [self._keypad, self._cursor, self._key_reports, self._insert_mode, self._line_drawing]
        return b"".join(sequences)

    def leave_sequence(self) -> bytes:
        """Return what brings a terminal from these modes back into the default ones."""
        sequences = [b"\x1b[?%d%c" % (mode, b"lh"[mode in ON_BY_DEFAULT]) for mode in PRIVATE if mode in self._changed]
        if self._keyboards:
            sequences.append(b"\x1b[<%du" % len(self._keyboards))
        for changed, default in (
            (self._keypad, b"\x1b>"),
            (self._cursor, b"\x1b[0 q"),
            (self._key_reports, b"\x1b[>4m"),
            (self._insert_mode, b"\x1b[4l"),
            (self._line_drawing, b"\x1b(B"),
            # A reset of the scrolling region moves the cursor.
            (self._scrolling_region, b"\x1b7\x1b[r\x1b8"),
        ):
            if changed:
                sequences.append(default)
        if self._screen is not None:
            sequences.append(b"\x1b[?%dl" % self._screen)
        return b"".join(sequences)

    def _reset(self) -> None:
        self._screen: int | None = None
        self._soft_reset()
        self._keyboards: list[bytes] = []

    def _soft_reset(self) -> None:
        self._changed: set[int] = set()
        # Each is the sequence that set it, or empty.
        self._scrolling_region = self._keypad = self._cursor = self._key_reports = b""
        self._insert_mode = self._line_drawing = b""

    def _change(self, sequence: bytes) -> None:
        final, numbers = sequence[-1:], sequence[2:-1]
        if sequence == b"\x1bc":
            self._reset()
        elif sequence == b"\x1b[!p":
            self._soft_reset()
        elif numbers.startswith(b"?"):
            for number in numbers[1:].split(b";"):
                self._set_private(int(number or b"0"), on=final == b"h")
        elif sequence.startswith(b"\x1b("):
            self._line_drawing = sequence if final == b"0" else b""
        elif len(sequence) == 2:
            self._keypad = sequence if final == b"=" else b""
        elif final in (b"h", b"l"):
            self._insert_mode = sequence if final == b"h" else b""
        elif final == b"r":
            self._scrolling_region = sequence if numbers.strip(b";0") else b""
        elif final == b"q":
            self._cursor = sequence if numbers.strip(b" 0") else b""
        elif final == b"u":
            self._set_keyboard(numbers[:1], numbers[1:])
        else:
            self._key_reports = sequence if final == b"m" and numbers[2:].strip(b";0") else b""

    def _set_private(self, mode: int, *, on: bool) -> None:
        if mode in ALTERNATE:
            self._screen = mode if on else None
        elif mode == 66:
            self._keypad = b"\x1b=" if on else b""
        elif mode in PRIVATE:
            if on is (mode in ON_BY_DEFAULT):
                self._changed.discard(mode)
            else:
                self._changed.add(mode)

    def _set_keyboard(self, how: bytes, flags: bytes) -> None:
        if how == b">":
            self._keyboards = [*self._keyboards, flags or b"0"][-MOST_KEYBOARDS:]
        elif how == b"<":
            count = int(flags.partition(b";")[0] or b"1")
            del self._keyboards[max(0, len(self._keyboards) - count) :]


def strip_mode_changes(data: bytes) -> bytes:
    """Return the output without queries, and without changes of modes that do not change how it looks."""
    return INVISIBLE.sub(b"", strip_queries(data))


def strip_queries(data: bytes) -> bytes:
    """Return the output without queries, because each query must get one answer only, and in time."""
    return QUERY.sub(b"", data) if ESCAPE in data or b"\x05" in data else data
