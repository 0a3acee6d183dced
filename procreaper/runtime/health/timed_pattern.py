"""Search a text for a regular expression, within a limit of processor time.

Rules: the only module that uses the virtual timer and SIGVTALRM, and only during a search. It does not touch a timer or
a handler that the surrounding program has set.

Theory of operation. A search holds the interpreter's lock, so a thread cannot end it. But the engine of `re` checks for
signals every few thousand steps, and an exception from a signal handler ends the search. The timer counts the processor
time of this program, so a busy machine does not cause a timeout. Python handles signals only in the main thread. In any
other thread, where the library may run, the search has no limit.
"""

from __future__ import annotations

import re
import signal
import threading

# A repetition without a limit, or with a number: only such a pattern can take long on a short text.
_REPEATS = re.compile(r"[*+{]")


class SearchTimeoutError(Exception):
    """A search has taken longer than its limit."""


class TimedPattern:
    """A regular expression, with a limit in seconds for each search."""

    def __init__(self, pattern: str, limit: float) -> None:
        self._pattern = re.compile(pattern)
        self._limit = limit if _REPEATS.search(pattern) else None
        self._searching = False

    def matches(self, text: str) -> bool:
        """Return whether the pattern matches anywhere in the text; raise SearchTimeoutError at the limit."""
        if self._limit is None or not _is_timer_free():
            return self._pattern.search(text) is not None
        before = signal.signal(signal.SIGVTALRM, self._on_timer)
        try:
            self._searching = True
            signal.setitimer(signal.ITIMER_VIRTUAL, self._limit)
            return self._pattern.search(text) is not None
        finally:
            # From here on, a late signal has no effect.
            self._searching = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)

    def _on_timer(self, *_: object) -> None:
        if self._searching:
            raise SearchTimeoutError


def _is_timer_free() -> bool:
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
    )
