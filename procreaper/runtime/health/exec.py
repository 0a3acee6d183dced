"""Run a command whose exit code says whether a process is healthy.

Rules: this module does not know how a command is run; `execute` does. Only the end of the output is kept.
"""

from __future__ import annotations

import errno
import shlex
from typing import TYPE_CHECKING

from procreaper.core.transitions import NOT_RUNNABLE, predicate
from procreaper.output.plain_text import one_phrase
from procreaper.runtime.health.errors import UnhealthyError, describe_os_error

if TYPE_CHECKING:
    from procreaper.core.checks import ExecCheck, Target
    from procreaper.runtime.health.check import Execute

# The part of the output that is kept, in bytes; and the longest command in a reason, in characters.
KEPT, LONGEST_NAME = 4096, 60

# The exit codes that a shell would use, for a command that runs without one.
SHELL_CODES = {errno.ENOENT: 127, errno.ENOTDIR: 127, errno.EACCES: 126, errno.ENOEXEC: 126}


async def check(command: ExecCheck, target: Target, execute: Execute) -> None:
    """Return if the command exits with 0; raise UnhealthyError otherwise."""
    tail = bytearray()

    def take(data: bytes) -> None:
        tail.extend(data[-KEPT:])
        del tail[:-KEPT]

    try:
        exit_ = await execute(command.argv, env=target.env, cwd=target.cwd, take=take)
    except OSError as error:
        raise UnhealthyError(f"{describe_command(command)}{_describe_failure(error, command.argv[0])}") from error
    except ValueError as error:
        raise UnhealthyError(f"{describe_command(command)} cannot be run: {error}") from error
    if exit_.code == 0:
        return
    joint = ":" if exit_.code in NOT_RUNNABLE else ""
    line = find_last_line(bytes(tail))
    raise UnhealthyError(f"{describe_command(command)}{joint} {predicate(exit_)}{f': {line}' if line else ''}")


def describe_command(command: ExecCheck) -> str:
    """Return the command for a reason: in backticks, in one line, shortened if it is long."""
    text = command.command if isinstance(command.command, str) else shlex.join(command.command)
    return f"`{one_phrase(text, LONGEST_NAME)}`"


def find_last_line(output: bytes) -> str:
    """Return the last line of an output that is not blank, in a form that can be printed."""
    lines = (one_phrase(line) for line in reversed(output.decode("utf-8", "replace").split("\n")))
    return next(filter(None, lines), "")


def _describe_failure(error: OSError, program: str) -> str:
    if error.filename == program and error.errno in SHELL_CODES:
        return f": {NOT_RUNNABLE[SHELL_CODES[error.errno]]}"
    place = f": {error.filename}" if isinstance(error.filename, str) else ""
    return f" cannot be run: {describe_os_error(error)}{place}"
