r"""Watch what a child writes for the line that tells that it is ready.

Rules: no clock and no I/O; the bytes are only looked at. A line ends with ``\n`` or ``\r\n``; colours are not part of
it; invalid UTF-8 is replaced. What is held of an unfinished line is bounded.

Theory of operation. A line that has not ended is searched too, because a prompt never ends. One that comes byte by byte
would then be searched once for each, at a cost that grows with the square of its length. So searching is paid for: each
piece brings credit for itself and for a short line; a longer line waits for a few more pieces, or for its end. What a
pattern says about the end of a line is not decided before the line has ended.

A line longer than what is held loses its beginning. The character before what is left stays in sight of the search but
out of its reach, so that ``^`` does not match there.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from procreaper.events import Event, LogMatched, Notice, Output
from procreaper.health.escapes import without_escapes

# An unfinished line longer than this is searched and then shortened to half of it. In bytes.
LONGEST_LINE = 1 << 16
# An unfinished line of up to so many bytes is searched with every piece that comes.
SHORT_LINE = 1 << 10
# How often each byte of a longer one is searched on average, at most.
SEARCHES = 8

_ABOUT_THE_END = re.compile(r"(?<!\\)(?:\\\\)*(?:\$|\\[Zz]|\(\?!)")


class LogWatcher:
    """Tells whether any line of a stream has matched the regular expression `pattern`, anywhere in the line."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._waits_for_the_end = _ABOUT_THE_END.search(pattern) is not None
        self._held = bytearray()
        self._shortened = False
        self._credit = 0
        self._matched = False

    def feed(self, data: bytes) -> bool:
        """Take what the child wrote, cut anywhere; return whether a line has matched by now."""
        if self._matched:
            return True
        end = data.rfind(b"\n") + 1
        self._matched = (end > 0 and self._search_ended(data[:end])) or self._search_unfinished(data[end:])
        if self._matched:
            self._held.clear()
        return self._matched

    def _search_ended(self, data: bytes) -> bool:
        self._held += data
        lines = without_escapes(self._held.decode("utf-8", "replace")).split("\n")
        start = 1 if self._shortened else 0
        self._held.clear()
        self._shortened = False
        if self._pattern.search(lines[0].rstrip("\r"), start):
            return True
        return any(self._pattern.search(line.rstrip("\r")) for line in lines[1:-1])

    def _search_unfinished(self, data: bytes) -> bool:
        if not data:
            return False
        self._held += data
        if len(self._held) > LONGEST_LINE:
            return self._search_and_shorten()
        self._credit = min(self._credit + SEARCHES * len(data) + SHORT_LINE, 2 * LONGEST_LINE)
        if self._waits_for_the_end or self._credit < len(self._held):
            return False
        self._credit -= len(self._held)
        text = without_escapes(self._held.decode("utf-8", "replace"))
        return self._pattern.search(text.rstrip("\r"), 1 if self._shortened else 0) is not None

    def _search_and_shorten(self) -> bool:
        text = without_escapes(self._held.decode("utf-8", "replace"), keep_cut=True)
        # The NUL stands for what is still to come: this is not the end of the line.
        if self._pattern.search(text + "\0", 1 if self._shortened else 0):
            return True
        self._held[:] = text.encode()[-LONGEST_LINE // 2 :]
        self._shortened = True
        return False


def listening(
    pattern: str, name: str, run: int, post: Callable[[Event], None], publish: Callable[[Notice], bool]
) -> Callable[[Notice], bool]:
    """`publish` for one run, which also looks for the line that tells that it is ready, and posts that it has come."""
    watchers = [LogWatcher(pattern)]

    def listen(notice: Notice) -> bool:
        if watchers and isinstance(notice, Output) and watchers[0].feed(notice.data):
            watchers.clear()
            post(LogMatched(name, run))
        return publish(notice)

    return listen
