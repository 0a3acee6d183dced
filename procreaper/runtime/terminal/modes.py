r"""Which modes a program has put its terminal into, by the escape sequences among what it writes.

Rules: pure; the text itself is never changed. Sequences may be cut anywhere between two reads. Known are those of xterm
that a terminal should neither lack nor keep: which screen is shown, what of it scrolls, whether the cursor can be seen,
how keys, pastes and the mouse are told. What else is drawn is of no concern.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ESCAPE = b"\x1b"
ALTERNATE = (47, 1047, 1049)
# Private modes, in the order in which they are best entered: cursor keys, reverse, origin, wrap, mouse (old), cursor,
# mouse and focus, pastes, updates as a whole, colours, size.
PRIVATE = (1, 5, 6, 7, 9, 25, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2026, 2031, 2048)
# These are on as long as nobody changes them.
USUALLY_ON = frozenset({7, 25})
# No sequence that matters is longer.
LONGEST = 48
MOST_KEYBOARDS = 8
CHANGE = re.compile(
    rb"\x1b(?:"
    rb"\[\?[0-9;]{1,40}[hl]"  # private modes
    rb"|\[4[hl]"  # insertion
    rb"|\[[0-9;]{0,40}r"  # what scrolls
    rb"|\[[0-9]{0,40} q"  # the shape of the cursor
    rb"|\[>4(?:;[0-9]?)?[mn]"  # how keys are told: xterm's way
    rb"|\[[><=][0-9;]{0,40}u"  # and kitty's
    rb"|\[!p"  # a soft reset
    rb"|[=>c]"  # keypad; reset
    rb"|\([0B]"  # line drawing
    rb")"
)
UNFINISHED = re.compile(rb"\x1b(?:\[[?>=<!]?[0-9;]* ?|\()?")
# Of those, what changes nothing of what is drawn next.
NO_DRAWING = re.compile(
    rb"\x1b(?:\[\?[0-9;]{1,40}[hl]|\[>4(?:;[0-9]?)?[mn]|\[[><=][0-9;]{0,40}u|\[[0-9]{0,40} q|[=>c])"
)
# What the terminal would answer, as if somebody had typed that.
# What brings a terminal that may be in any modes, and in the middle of a sequence, into the usual ones.
RESET = b"".join(
    (
        b"\x18\x1b[?1049l\x1b[!p\x1b>\x1b(B\x1b[0 q\x1b[>4m\x1b[<%du" % MOST_KEYBOARDS,
        *(b"\x1b[?%d%c" % (mode, b"lh"[mode in USUALLY_ON]) for mode in PRIVATE),
    )
)
QUESTION = re.compile(
    rb"\x1b(?:"
    rb"\[\??[0-9;]*n"  # where the cursor is, and the like
    rb"|\[[>=]?[0-9;]*c|Z|\[>[0-9]*q"  # what terminal it is
    rb"|\[\??[0-9;]*\$p|\[\?[0-9]*m|\[\?u"  # which modes it is in
    rb"|\[(?:1[1-9]|2[01])(?:;[0-9]+)*t"  # what its window is like
    rb"|\][0-9;]+;\?(?:\x07|\x1b\\)"  # which colours it has
    rb"|P[+$]q[^\x1b]*\x1b\\"  # what it can do
    rb")|\x05"
)


class Written(NamedTuple):
    """What was written to each of the two screens."""

    main: bytes
    alternate: bytes


class Modes:
    """The modes of one terminal, which begins with the usual ones."""

    def __init__(self) -> None:
        self._held = b""
        self._reset()

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is shown, of which nothing is left once the program leaves it."""
        return self._screen is not None

    def feed(self, data: bytes) -> Written:
        """Take what was written, and tell to which screen; a sequence that is cut comes with its rest."""
        if self._held:
            data = self._held + data
            self._held = b""
        elif ESCAPE not in data:
            return Written(b"", data) if self.alternate else Written(data, b"")
        last = data.rfind(ESCAPE, max(0, len(data) - LONGEST))
        if last >= 0 and UNFINISHED.fullmatch(data, last):
            self._held = data[last:]
            data = data[:last]
        pieces: tuple[list[bytes], list[bytes]] = ([], [])
        start = 0
        for match in CHANGE.finditer(data):
            before = self.alternate
            self._change(match[0])
            if self.alternate is not before:
                pieces[before].append(data[start : match.start()])
                start = match.end()
        pieces[self.alternate].append(data[start:])
        return Written(*map(b"".join, pieces))

    def take_rest(self) -> bytes:
        """The beginning of a sequence to which no rest will come."""
        held, self._held = self._held, b""
        return held

    def entering(self) -> bytes:
        """What brings a terminal with the usual modes into these."""
        sequences = []
        if self._screen is not None:
            sequences.append(b"\x1b[?%dh\x1b[2J\x1b[H" % self._screen)
        if self._scrolls:
            sequences.append(b"\x1b7" + self._scrolls + b"\x1b8")
        sequences += [b"\x1b[?%d%c" % (mode, b"hl"[mode in USUALLY_ON]) for mode in PRIVATE if mode in self._changed]
        sequences += [b"\x1b[>%su" % flags for flags in self._keyboards]
        sequences += [self._keypad, self._cursor, self._keys, self._insertion, self._drawing]
        return b"".join(sequences)

    def leaving(self) -> bytes:
        """What brings a terminal with these modes back into the usual ones."""
        sequences = [b"\x1b[?%d%c" % (mode, b"lh"[mode in USUALLY_ON]) for mode in PRIVATE if mode in self._changed]
        if self._keyboards:
            sequences.append(b"\x1b[<%du" % len(self._keyboards))
        for changed, usual in (
            (self._keypad, b"\x1b>"),
            (self._cursor, b"\x1b[0 q"),
            (self._keys, b"\x1b[>4m"),
            (self._insertion, b"\x1b[4l"),
            (self._drawing, b"\x1b(B"),
            # To have all scroll moves the cursor.
            (self._scrolls, b"\x1b7\x1b[r\x1b8"),
        ):
            if changed:
                sequences.append(usual)
        if self._screen is not None:
            sequences.append(b"\x1b[?%dl" % self._screen)
        return b"".join(sequences)

    def _reset(self) -> None:
        self._screen: int | None = None
        self._soft_reset()
        self._keyboards: list[bytes] = []

    def _soft_reset(self) -> None:
        self._changed: set[int] = set()
        # Each is the sequence that brought it about, or nothing.
        self._scrolls = self._keypad = self._cursor = self._keys = self._insertion = self._drawing = b""

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
            self._drawing = sequence if final == b"0" else b""
        elif len(sequence) == 2:
            self._keypad = sequence if final == b"=" else b""
        elif final in (b"h", b"l"):
            self._insertion = sequence if final == b"h" else b""
        elif final == b"r":
            self._scrolls = sequence if numbers.strip(b";0") else b""
        elif final == b"q":
            self._cursor = sequence if numbers.strip(b" 0") else b""
        elif final == b"u":
            self._set_keyboard(numbers[:1], numbers[1:])
        else:
            self._keys = sequence if final == b"m" and numbers[2:].strip(b";0") else b""

    def _set_private(self, mode: int, *, on: bool) -> None:
        if mode in ALTERNATE:
            self._screen = mode if on else None
        elif mode == 66:
            self._keypad = b"\x1b=" if on else b""
        elif mode in PRIVATE:
            if on is (mode in USUALLY_ON):
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
    """What was written, without what changes modes in which nothing looks different, and without questions."""
    return NO_DRAWING.sub(b"", strip_queries(data))


def strip_queries(data: bytes) -> bytes:
    """What was written, without what a terminal would answer: each question is to have one answer, and in time."""
    return QUESTION.sub(b"", data) if ESCAPE in data or b"\x05" in data else data
