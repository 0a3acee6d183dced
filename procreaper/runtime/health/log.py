r"""Search the output of a child for the line that says that the child is ready.

Rules: no I/O. A line ends with ``\n`` or ``\r\n``; colours are not part of it; invalid UTF-8 is replaced. The part of
an unfinished line that is kept is bounded, and so is the time of each search (`timed_pattern`).

Theory of operation. An unfinished line is searched too, because a prompt never ends. If such a line came byte by byte
and each byte caused a search, the cost would grow with the square of its length. So each piece of output brings credit
for searches: for itself and for a short line. A longer line waits until more pieces have brought enough credit, or for
its end. A pattern that depends on the end of a line waits for that end.

The cost of many patterns grows with the square of the line's length, and that of some doubles with each character. So
only the first and the last `EDGE` characters of a long line are searched, as one text with a NUL in place of the
middle: ``^``, ``$`` and ``.*`` then mean the same as in the whole line. A leading ``.*`` has no influence on whether a
line matches, but makes each failure expensive, so it is dropped. When a search reaches its limit, the rest of that line
is skipped. After `MAX_TIMEOUTS` such lines, the search ends for good.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from procreaper.core.events import Event, LogMatched, Notice, Output, OutputBegan
from procreaper.output.plain_text import without_escapes
from procreaper.runtime.health.timed_pattern import SearchTimeoutError, TimedPattern

# The part at the beginning and at the end of a longer line that is searched, in characters.
EDGE = 2 << 10
LONGEST_SEARCH = 2 * EDGE
# An unfinished line longer than this, in bytes, is cut down to its edges.
LONGEST_LINE = 1 << 14
# An unfinished line of up to this size, in bytes, is searched with every piece that comes.
SHORT_LINE = 1 << 10
# How often each byte of a longer one is searched on average, at most.
SEARCHES = 8
# The limit of one search, in seconds of processor time; and the number of searches that may reach it.
LIMIT, MAX_TIMEOUTS = 0.1, 10

_DEPENDS_ON_END = re.compile(r"(?<!\\)(?:\\\\)*(?:\$|\\[Zz]|\(\?!)")
# `.*+` never gives back what it has matched, so it cannot be dropped.
_LEADING = re.compile(r"\^?(?:\.\*(?!\+)\??)+(?![*+?{|)])(?=.)", re.DOTALL)


class LogWatcher:
    """Searches each line of a stream for the regular expression `pattern`, which may match anywhere in the line.

    `timeouts` counts the lines on which the search took too long.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = TimedPattern(strip_leading_wildcard(pattern), LIMIT)
        self._needs_end = _DEPENDS_ON_END.search(pattern) is not None
        self._unfinished = bytearray()
        self._credit = 0
        self._matched = False
        self._skipping = False
        self.timeouts = 0

    @property
    def has_given_up(self) -> bool:
        """Whether the search has ended for good."""
        return self.timeouts >= MAX_TIMEOUTS

    def feed(self, data: bytes) -> bool:
        """Search a piece of output, which may begin and end anywhere; return whether a line has matched so far."""
        if self._matched or self.has_given_up:
            return self._matched
        end = data.rfind(b"\n") + 1
        self._matched = (end > 0 and self._search_ended(data[:end])) or self._search_unfinished(data[end:])
        if self._matched or self.has_given_up:
            self._unfinished.clear()
        return self._matched

    def _search_ended(self, data: bytes) -> bool:
        self._unfinished += data
        lines = without_escapes(self._unfinished.decode("utf-8", "replace")).split("\n")[:-1]
        if self._skipping:
            del lines[0]
        self._unfinished.clear()
        self._skipping = False
        return any(self._search(keep_edges(line.rstrip("\r"))) for line in lines)

    def _search_unfinished(self, data: bytes) -> bool:
        if not data or self.has_given_up or self._skipping:
            return False
        self._unfinished += data
        if len(self._unfinished) > LONGEST_LINE:
            text = without_escapes(self._unfinished.decode("utf-8", "replace"), keep_cut=True)
            self._unfinished[:] = keep_edges(text).encode()
        self._credit = min(self._credit + SEARCHES * len(data) + SHORT_LINE, 2 * LONGEST_LINE)
        cost = min(len(self._unfinished), LONGEST_SEARCH)
        if self._needs_end or self._credit < cost:
            return False
        self._credit -= cost
        text = keep_edges(without_escapes(self._unfinished.decode("utf-8", "replace")))
        timeouts = self.timeouts
        found = self._search(text.rstrip("\r"))
        if self.timeouts > timeouts:
            self._unfinished.clear()
            self._skipping = True
        return found

    def _search(self, text: str) -> bool:
        if self.has_given_up:
            return False
        try:
            return self._pattern.matches(text)
        except SearchTimeoutError:
            self.timeouts += 1
            return False


def strip_leading_wildcard(pattern: str) -> str:
    """Return the pattern without a leading ``.*``: it matches in the same lines.

    >>> strip_leading_wildcard(".*ready.*")
    'ready.*'
    """
    return _LEADING.sub("", pattern, count=1) if _LEADING.match(pattern) else pattern


def keep_edges(line: str) -> str:
    """Return the beginning and the end of a long line, with a NUL between them; a short line stays whole."""
    return line if len(line) <= LONGEST_SEARCH else f"{line[:EDGE]}\0{line[-EDGE:]}"


def watch_for_ready_line(
    pattern: str,
    name: str,
    run: int,
    post: Callable[[Event], None],
    say: Callable[[str], None],
    publish: Callable[[Notice], bool],
) -> Callable[[Notice], bool]:
    """Return a `publish` for one run that also searches its output, and posts an event when the ready line comes."""
    watchers = [LogWatcher(pattern)]
    is_silent = True

    def publish_and_search(notice: Notice) -> bool:
        nonlocal is_silent
        if not watchers or not isinstance(notice, Output):
            return publish(notice)
        if is_silent:
            is_silent = False
            post(OutputBegan(name, run))
        (watcher,) = watchers
        timeouts, had_given_up = watcher.timeouts, watcher.has_given_up
        if watcher.feed(notice.data):
            watchers.clear()
            post(LogMatched(name, run))
        elif watcher.has_given_up and not had_given_up:
            say(
                f"{name}: the pattern of its health check was too slow on {MAX_TIMEOUTS} lines, so procreaper "
                "no longer searches the output of this run"
            )
        elif watcher.timeouts and not timeouts:
            say(
                f"{name}: the pattern of its health check takes more than {LIMIT:g} s on a line, so procreaper skips "
                f"that line; simplify what repeats in `{pattern}`"
            )
        return publish(notice)

    return publish_and_search
