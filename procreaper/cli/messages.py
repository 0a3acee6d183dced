"""Print the messages of commands: problems and progress on standard error, results on standard output.

Rules: only this module turns an exception into text. The user never sees a traceback; an internal error is one message.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from procreaper.errors import FAILED, INTERNAL_ERROR, READER_GONE, OutputError, Problem, ProcreaperError, reason_of

STDERR = 2
ERASE_LINE = "\r\x1b[K"


def print_problems(problems: Iterable[Problem | ProcreaperError]) -> None:
    """Print each problem with its place and its hint. Ignore a broken standard error."""
    for problem in problems:
        print_error(str(problem))


def print_error(text: str) -> None:
    """Print a text with any bytes on standard error. Ignore a broken standard error."""
    data = (text + "\n").encode(errors="surrogateescape")
    try:
        sys.stderr.buffer.write(data)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return


def print_result(text: str) -> None:
    """Print a result on standard output. Raises BrokenPipeError if the reader is gone, else OutputError."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise make_output_error(error) from error


def make_output_error(error: OSError) -> OutputError:
    """Make the error for a failed write to standard output."""
    return OutputError(
        f"standard output cannot be written: {reason_of(error)}", hint="make room, or redirect it elsewhere"
    )


def run_guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit status. Print an exception as one message."""
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
    """Describe an internal error in one line: its type, its message and its place in the code."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" ({os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno})"
    return f"{type(error).__name__}: {error}{where}"


class Progress:
    """Shows one changing line on standard error, if that is a terminal. A context manager that removes the line."""

    def __init__(self) -> None:
        self._terminal = os.isatty(STDERR)
        self._shown = ""

    def show(self, text: str) -> None:
        """Replace the line."""
        if not self._terminal or text == self._shown:
            return
        columns = os.get_terminal_size(STDERR).columns or 80
        cut = text if len(text) < columns else text[: columns - 2] + "…"
        self._shown = text
        self._write(ERASE_LINE + cut)

    def clear(self) -> None:
        """Remove the line, before another message is printed."""
        if self._shown:
            self._shown = ""
            self._write(ERASE_LINE)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
