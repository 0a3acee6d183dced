"""Run a command whose exit code tells whether a process is healthy.

Rules: how a command is run is not known here, `execute` is given. Of its output only the end is kept.
"""

from __future__ import annotations

import errno
import shlex
from typing import TYPE_CHECKING

from procreaper.core.transitions import NOT_RUNNABLE, predicate
from procreaper.output.plain_text import one_phrase
from procreaper.runtime.health.errors import UnhealthyError, of_system

if TYPE_CHECKING:
    from procreaper.core.checks import ExecCheck, Target
    from procreaper.runtime.health.check import Execute

# How much of the output is kept, and how long a command may be in a reason: bytes and characters.
KEPT, LONGEST_NAME = 4096, 60

# What a shell would have exited with, where there is none that could say it.
SHELL_CODES = {errno.ENOENT: 127, errno.ENOTDIR: 127, errno.EACCES: 126, errno.ENOEXEC: 126}


async def check(command: ExecCheck, target: Target, execute: Execute) -> None:
    """Return if the command exits with 0, raise UnhealthyError if it does anything else."""
    tail = bytearray()

    def take(data: bytes) -> None:
        tail.extend(data[-KEPT:])
        del tail[:-KEPT]

    try:
        exit_ = await execute(command.argv, env=target.env, cwd=target.cwd, take=take)
    except OSError as error:
        raise UnhealthyError(f"{name(command)}{_cannot_run(error, command.argv[0])}") from error
    except ValueError as error:
        raise UnhealthyError(f"{name(command)} cannot be run: {error}") from error
    if exit_.code == 0:
        return
    joint = ":" if exit_.code in NOT_RUNNABLE else ""
    said = last_line(bytes(tail))
    raise UnhealthyError(f"{name(command)}{joint} {predicate(exit_)}{f': {said}' if said else ''}")


def name(command: ExecCheck) -> str:
    """What the command is called in a reason: itself, in one line, shortened if need be."""
    text = command.command if isinstance(command.command, str) else shlex.join(command.command)
    return f"`{one_phrase(text, LONGEST_NAME)}`"


def last_line(output: bytes) -> str:
    """The last line of an output that has something in it, fit to be shown."""
    lines = (one_phrase(line) for line in reversed(output.decode("utf-8", "replace").split("\n")))
    return next(filter(None, lines), "")


def _cannot_run(error: OSError, program: str) -> str:
    if error.filename == program and error.errno in SHELL_CODES:
        return f": {NOT_RUNNABLE[SHELL_CODES[error.errno]]}"
    place = f": {error.filename}" if isinstance(error.filename, str) else ""
    return f" cannot be run: {of_system(error)}{place}"
