"""Search a text for a regular expression, within a limit of processor time.

Rules: the only module that uses the virtual timer and SIGVTALRM, and only while it searches. A timer or a handler of
the program around us stays as it is.

Theory of operation. A search holds the interpreter's lock, so a thread cannot end it. But the engine of `re` looks for
signals every few thousand steps, and an exception from a handler ends the search. The timer counts the processor time
of this program: a busy machine does not make a search late. Signals reach only the main thread; in another one (the
library may run there) the search has no limit.
"""

from __future__ import annotations

import re
import signal
import threading

# What repeats without a limit, or often: only such a pattern can take long on a short text.
_REPEATS = re.compile(r"[*+{]")


class TooLongError(Exception):
    """The search has taken longer than its limit."""


class Pattern:
    """A regular expression with a limit in seconds for each search."""

    def __init__(self, pattern: str, limit: float) -> None:
        self._pattern = re.compile(pattern)
        self._limit = limit if _REPEATS.search(pattern) else None
        self._searching = False

    def found(self, text: str) -> bool:
        """Whether it matches anywhere in the text; raise TooLongError at the limit."""
        if self._limit is None or not _timer_is_free():
            return self._pattern.search(text) is not None
        before = signal.signal(signal.SIGVTALRM, self._give_up)
        try:
            self._searching = True
            signal.setitimer(signal.ITIMER_VIRTUAL, self._limit)
            return self._pattern.search(text) is not None
        finally:
            # A signal that comes from here on ends nothing.
            self._searching = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)

    def _give_up(self, *_: object) -> None:
        if self._searching:
            raise TooLongError


def _timer_is_free() -> bool:
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
    )
