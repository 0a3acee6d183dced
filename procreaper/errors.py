"""The errors that procreaper raises, the problems that it finds in a project's files, and its exit codes.

    ProcreaperError            message, optional hint, exit_code
    +-- ConfigError            the files or the command line cannot be used; carries all problems
    +-- OutputError            standard output can no longer be written
    +-- UsageError             the library was called at the wrong moment
    +-- UnknownProcessError    no process has this name; also a LookupError
    +-- NotReadyError          a process has ended or cannot be stopped; carries its status

The failure of a child is never an exception: it is data (`events.Exit`).

Rules: pure; `difflib` is imported only for a suggestion. A message names the place, the value and the remedy, starts in
lower case and ends without a full stop. A user needs no knowledge of our code to understand it. The form is that of
click and cargo: ``Procfile:3: error: ...``, then ``  hint: ...``.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from procreaper.core.status import Status

# The exit codes of the command, besides those that it takes over from a child or a signal.
# The command did not do what the user asked for.
FAILED = 1
# The command line is wrong.
USAGE_ERROR = 2
# A bug of procreaper; EX_SOFTWARE in sysexits.h.
INTERNAL_ERROR = 70
# The shell's codes for a command that cannot be executed, and for one that is not found.
NOT_EXECUTABLE = 126
NOT_FOUND = 127
# The shell's codes for a program that SIGINT ended (128 + 2), and for one whose reader is gone (128 + 13, SIGPIPE).
INTERRUPTED = 130
READER_GONE = 141

# A hint lists at most this many names.
MOST_WORDS = 20

Level = Literal["error", "warning"]


class Problem(NamedTuple):
    """A mistake in the project, with its place and a remedy.

    `path` and `line` (counted from 1) are None for a mistake outside the files. `hint` is one phrase.
    """

    message: str
    path: str | None = None
    line: int | None = None
    hint: str | None = None
    level: Level = "error"

    @property
    def place(self) -> str:
        """The place: ``Procfile:3``, ``Procfile``, or ``procreaper`` for a problem outside the files."""
        if self.path is None:
            return "procreaper"
        return self.path if self.line is None else f"{self.path}:{self.line}"

    def __str__(self) -> str:
        text = f"{self.place}: {self.level}: {self.message}"
        return text if self.hint is None else f"{text}\n  hint: {self.hint}"


class ProcreaperError(Exception):
    """The root of all errors that procreaper raises on purpose.

    The command line exits with `exit_code`. It is 1, as in honcho, unless a subclass or the caller sets another.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        return str(Problem(self.message, hint=self.hint))


class ConfigError(ProcreaperError):
    """The project's files or the command line cannot be used. `problems` has all problems, warnings included."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        return self.message


class OutputError(ProcreaperError):
    """The output of the children can no longer be written: the disk is full, or the terminal or the reader is gone."""


class UsageError(ProcreaperError):
    """The call is not possible at this moment: the reaper does not run, or was already started."""


class UnknownProcessError(ProcreaperError, LookupError):
    """No process has this name."""


class NotReadyError(ProcreaperError):
    """A process did not reach the expected state; `status` is its present state."""

    def __init__(self, message: str, status: "Status") -> None:
        super().__init__(message)
        self.status = status


def reason_of(error: OSError) -> str:
    """Return the reason that the operating system gives for an error, as a phrase to put after a colon."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def enumerate_words(words: Iterable[str], conjunction: str = "or") -> str:
    """Join words, each in backticks: `a`, `b` or `c`."""
    *first, last = [f"`{word}`" for word in words]
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def did_you_mean(name: str, known: Iterable[str], *, otherwise: bool = True) -> str | None:
    """Return a hint for an unknown name: the most similar known name, or else the list of known names.

    With ``otherwise=False``, return None instead of the list.
    """
    from difflib import get_close_matches

    known = list(dict.fromkeys(known))
    by_lower_case = {item.lower(): item for item in known}
    # Swapped letters are the most likely mistake, but difflib does not rate them as the most similar.
    close = [item for item in by_lower_case if sorted(item) == sorted(name.lower())]
    close = close or get_close_matches(name.lower(), by_lower_case, 1)
    if close:
        return f"did you mean `{by_lower_case[close[0]]}`?"
    return list_words(known) if otherwise else None


def list_words(known: Sequence[str]) -> str | None:
    """Return a hint that lists the known names, at most `MOST_WORDS` of them; None if there are none."""
    if not known:
        return None
    if len(known) > MOST_WORDS:
        return f"there is `{'`, `'.join(known[:MOST_WORDS])}` and {len(known) - MOST_WORDS} more"
    return f"there is {enumerate_words(known, 'and')}"
