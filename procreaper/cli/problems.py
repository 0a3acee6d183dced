"""Problems on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from procreaper.errors import Problem


def report(problems: Iterable[Problem]) -> None:
    """Print each problem with its place and its remedy. A broken standard error is nobody's concern."""
    for problem in problems:
        complain(str(problem))


def complain(text: str) -> None:
    """Print a text on standard error, whatever bytes it carries and whether or not anybody reads it."""
    data = (text + "\n").encode(errors="surrogateescape")
    try:
        sys.stderr.buffer.write(data)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return
