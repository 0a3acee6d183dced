"""What the commands themselves print: problems on standard error, answers on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from procreaper.errors import OutputError, Problem, ProcreaperError, reason_of


def report(problems: Iterable[Problem | ProcreaperError]) -> None:
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


def say(text: str) -> None:
    """Print an answer on standard output. Raises OutputError where it is lost, BrokenPipeError where nobody reads."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise lost(error) from error


def lost(error: OSError) -> OutputError:
    """The error that standard output cannot be written, for this reason."""
    return OutputError(
        f"standard output cannot be written: {reason_of(error)}", hint="make room, or redirect it elsewhere"
    )
