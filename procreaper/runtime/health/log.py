r"""Search what a child writes for the line that tells that it is ready.

Rules: no I/O; a line ends with ``\n`` or ``\r\n``; colours are not part of it; invalid UTF-8 is replaced. What is held
of an unfinished line is bounded, and so is the time for each search (`bounded`).

Theory of operation. A line that has not ended is searched too, because a prompt never ends. One that comes byte by byte
would then be searched once for each, at a cost that grows with the square of its length. So searching is paid for: each
piece brings credit for itself and for a short line; a longer line waits for a few more pieces, or for its end. What a
pattern says about the end of a line is not decided before the line has ended.

The cost of many patterns grows with the square of the line's length, and that of some doubles with each character. Only
the first and the last `EDGE` characters of a long line are searched, as one text with a NUL for the middle: so ``^``,
``$`` and ``.*`` mean the same as in the whole line. A leading ``.*`` changes nothing about whether a line matches, but
makes each failure expensive; it is dropped. When a search reaches its limit, the rest of that line is not searched.
After `MOST_GIVEN_UP` such lines nothing is searched any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from procreaper.core.events import Event, LogMatched, Notice, Output, OutputBegan
from procreaper.output.plain_text import without_escapes
from procreaper.runtime.health.bounded import Pattern, TooLongError

# How much of the beginning and the end of a longer line is searched, in characters.
EDGE = 2 << 10
LONGEST_SEARCH = 2 * EDGE
# An unfinished line longer than this is cut down to its edges. In bytes.
LONGEST_LINE = 1 << 14
# An unfinished line of up to so many bytes is searched with every piece that comes.
SHORT_LINE = 1 << 10
# How often each byte of a longer one is searched on average, at most.
SEARCHES = 8
# The limit of one search in seconds of processor time, and how often it may be reached.
LIMIT, MOST_GIVEN_UP = 0.1, 10

_ABOUT_THE_END = re.compile(r"(?<!\\)(?:\\\\)*(?:\$|\\[Zz]|\(\?!)")
# `.*+` keeps what it has taken, so that it is not the same as nothing.
_LEADING = re.compile(r"\^?(?:\.\*(?!\+)\??)+(?![*+?{|)])(?=.)", re.DOTALL)


class LogWatcher:
    """Tells whether any line of a stream has matched the regular expression `pattern`, anywhere in the line.

    `given_up` counts the lines on which a search took too long.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = Pattern(without_leading(pattern), LIMIT)
        self._waits_for_the_end = _ABOUT_THE_END.search(pattern) is not None
        self._held = bytearray()
        self._credit = 0
        self._matched = False
        self._skipping = False
        self.given_up = 0

    @property
    def hopeless(self) -> bool:
        """Whether nothing is searched any more."""
        return self.given_up >= MOST_GIVEN_UP

    def feed(self, data: bytes) -> bool:
        """Take what the child wrote, cut anywhere; return whether a line has matched by now."""
        if self._matched or self.hopeless:
            return self._matched
        end = data.rfind(b"\n") + 1
        self._matched = (end > 0 and self._search_ended(data[:end])) or self._search_unfinished(data[end:])
        if self._matched or self.hopeless:
            self._held.clear()
        return self._matched

    def _search_ended(self, data: bytes) -> bool:
        self._held += data
        lines = without_escapes(self._held.decode("utf-8", "replace")).split("\n")[:-1]
        if self._skipping:
            del lines[0]
        self._held.clear()
        self._skipping = False
        return any(self._search(edges(line.rstrip("\r"))) for line in lines)

    def _search_unfinished(self, data: bytes) -> bool:
        if not data or self.hopeless or self._skipping:
            return False
        self._held += data
        if len(self._held) > LONGEST_LINE:
            self._held[:] = edges(without_escapes(self._held.decode("utf-8", "replace"), keep_cut=True)).encode()
        self._credit = min(self._credit + SEARCHES * len(data) + SHORT_LINE, 2 * LONGEST_LINE)
        cost = min(len(self._held), LONGEST_SEARCH)
        if self._waits_for_the_end or self._credit < cost:
            return False
        self._credit -= cost
        text = edges(without_escapes(self._held.decode("utf-8", "replace")))
        given_up = self.given_up
        found = self._search(text.rstrip("\r"))
        if self.given_up > given_up:
            self._held.clear()
            self._skipping = True
        return found

    def _search(self, text: str) -> bool:
        if self.hopeless:
            return False
        try:
            return self._pattern.found(text)
        except TooLongError:
            self.given_up += 1
            return False


def without_leading(pattern: str) -> str:
    """The pattern without a leading ``.*``: it matches in the same lines.

    >>> without_leading(".*ready.*")
    'ready.*'
    """
    return _LEADING.sub("", pattern, count=1) if _LEADING.match(pattern) else pattern


def edges(line: str) -> str:
    """The beginning and the end of a line, with a NUL between them; the line itself where it is short."""
    return line if len(line) <= LONGEST_SEARCH else f"{line[:EDGE]}\0{line[-EDGE:]}"


def watch_for_ready_line(
    pattern: str,
    name: str,
    run: int,
    post: Callable[[Event], None],
    say: Callable[[str], None],
    publish: Callable[[Notice], bool],
) -> Callable[[Notice], bool]:
    """`publish` for one run, which also looks for the line that tells that it is ready, and posts that it has come."""
    watchers = [LogWatcher(pattern)]
    silent = True

    def listen(notice: Notice) -> bool:
        nonlocal silent
        if not watchers or not isinstance(notice, Output):
            return publish(notice)
        if silent:
            silent = False
            post(OutputBegan(name, run))
        (watcher,) = watchers
        given_up, hopeless = watcher.given_up, watcher.hopeless
        if watcher.feed(notice.data):
            watchers.clear()
            post(LogMatched(name, run))
        elif watcher.hopeless and not hopeless:
            say(
                f"{name}: the pattern of its health check was too slow on {MOST_GIVEN_UP} lines, so procreaper "
                "searches no line of this run any more"
            )
        elif watcher.given_up and not given_up:
            say(
                f"{name}: the pattern of its health check takes more than {LIMIT:g} s on a line, so procreaper skips "
                f"that line; simplify what repeats in `{pattern}`"
            )
        return publish(notice)

    return listen
