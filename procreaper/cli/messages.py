"""What the commands themselves print: problems on standard error, answers on standard output.

Rules: only here does an exception become text. No traceback reaches the user; an error of ours is reported as one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from procreaper.errors import FAILED, INTERNAL_ERROR, READER_GONE, OutputError, Problem, ProcreaperError, reason_of


def report(problems: Iterable[Problem | ProcreaperError]) -> None:
    """Print each problem with its place and its remedy. A broken standard error is nobody's concern."""
    for problem in problems:
        print_error(str(problem))


def print_error(text: str) -> None:
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


def run_guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; print what it raises as one message."""
    try:
        return command()
    except ProcreaperError as error:
        print_error(str(error))
        return error.exit_code
    except BrokenPipeError:
        return READER_GONE
    except OSError as error:
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        print_error(f"procreaper: error: {place}{reason_of(error)}")
        return FAILED
    except MemoryError:
        print_error("procreaper: error: out of memory\n  hint: raise the limit (`ulimit -v`)")
        return FAILED
    except Exception as error:
        hint = "this is a bug of procreaper, please report it"
        print_error(f"procreaper: internal error: {describe_error(error)}\n  hint: {hint}")
        return INTERNAL_ERROR


def describe_error(error: BaseException) -> str:
    """What an error of ours is and where, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" ({os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno})"
    return f"{type(error).__name__}: {error}{where}"
