"""The errors that procreaper raises, and the problems that it finds in a project's files.

    ProcreaperError            message, optional hint, exit_code
    +-- ConfigError            something in the files or on the command line; carries every problem found
    +-- OutputError            standard output cannot be written any more
    +-- UsageError             the library was asked for what it cannot do at this moment
    +-- UnknownProcessError    there is no process of this name; also a LookupError
    +-- NotReadyError          a process that was waited for has ended, or cannot be stopped; carries its status

A child's failure is never an exception: it is data (`events.Exit`).

Rules: a message names place, value and remedy, starts in lower case and has no full stop; it never asks the reader
to know our code. The texts follow click and cargo: ``Procfile:3: error: ...`` and then ``  hint: ...``.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from procreaper.core.status import Status

Level = Literal["error", "warning"]


class Problem(NamedTuple):
    """One thing that is wrong, where it is, and what would mend it.

    `path` and `line` (counted from 1) are None where the problem is not in a file. `hint` is one phrase.
    """

    message: str
    path: str | None = None
    line: int | None = None
    hint: str | None = None
    level: Level = "error"

    @property
    def place(self) -> str:
        """Where it is: ``Procfile:3``, ``Procfile``, or ``procreaper`` for what stands in no file."""
        if self.path is None:
            return "procreaper"
        return self.path if self.line is None else f"{self.path}:{self.line}"

    def __str__(self) -> str:
        text = f"{self.place}: {self.level}: {self.message}"
        return text if self.hint is None else f"{text}\n  hint: {self.hint}"


class ProcreaperError(Exception):
    """The root of all errors that procreaper raises on purpose.

    `exit_code` is what the command line ends with; 1 unless a subclass or the caller says otherwise, as honcho does.
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
    """The project's files or the command line cannot be used; `problems` has everything found, warnings included."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        return self.message


class OutputError(ProcreaperError):
    """What the children write can no longer be passed on (a full disk, a hung-up terminal, a reader gone)."""


class UsageError(ProcreaperError):
    """A call at a moment at which it means nothing: a reaper that does not run, or was already started."""


class UnknownProcessError(ProcreaperError, LookupError):
    """There is no process of this name."""


class NotReadyError(ProcreaperError):
    """A process did not get where it was expected to; `status` tells where it is instead."""

    def __init__(self, message: str, status: "Status") -> None:
        super().__init__(message)
        self.status = status


def reason_of(error: OSError) -> str:
    """Why the operating system could not do something, as a phrase to stand behind a colon in a message."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
