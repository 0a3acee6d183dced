"""The reason why a check failed: one phrase for people, in lower case, without a full stop.

Rules: phrases only.
"""

from __future__ import annotations

import os

from procreaper.output.plain_text import one_phrase


class UnhealthyError(Exception):
    """A check has failed. The text of the error is the reason that the user sees."""


def describe_timeout(timeout: float) -> str:
    """Return the reason for a peer that did not answer within `timeout` seconds."""
    return f"no answer within {timeout:g} s"


def describe_os_error(error: OSError) -> str:
    """Return the system's words: ``connection refused``. The words that asyncio adds are for programmers."""
    return os.strerror(error.errno).lower() if error.errno else describe_error(error)


def describe_error(error: BaseException) -> str:
    """Return the message of an error, in one line, or the name of its class if it has none."""
    try:
        text = one_phrase(str(error))
    except Exception:
        text = ""
    return text or type(error).__name__
