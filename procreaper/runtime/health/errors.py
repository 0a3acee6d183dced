"""Why a check has failed: one phrase for people, in lower case, without a full stop.

Rules: phrases only.
"""

from __future__ import annotations

import os

from procreaper.output.plain_text import one_phrase


class UnhealthyError(Exception):
    """A check has failed; its text is the reason that is shown."""


def no_answer(timeout: float) -> str:
    """What is said of a peer that took longer than so many seconds."""
    return f"no answer within {timeout:g} s"


def of_system(error: OSError) -> str:
    """The system's own words: ``connection refused``. Those that asyncio puts into it are for programmers."""
    return os.strerror(error.errno).lower() if error.errno else of_error(error)


def of_error(error: BaseException) -> str:
    """What an error says, in one line, or its name when it says nothing."""
    try:
        text = one_phrase(str(error))
    except Exception:
        text = ""
    return text or type(error).__name__
