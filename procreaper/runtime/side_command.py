"""A side command of a process, such as a hook: its output appears as output of the process, and a failure is a message.

Rules: runs one command to its end, with the function that it is given. Other modules decide when, and what follows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from procreaper.core.events import Exit, Notice, Output
from procreaper.core.plan import Process
from procreaper.core.transitions import predicate
from procreaper.output.lines import Lines


class Execute(Protocol):
    """Runs a command to its end, as `command.execute` does. Raises OSError or ValueError if it cannot start."""

    def __call__(
        self,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        take: Callable[[bytes], None],
    ) -> Awaitable[Exit]: ...


class SideCommand(NamedTuple):
    """A `command` for the shell, in the environment of `process` and these `variables`.

    `kind` is its name in messages; `failing` is added to the message if it fails.
    """

    kind: str
    process: Process
    command: str
    variables: Mapping[str, str] = {}
    failing: str = ""


async def run(
    errand: SideCommand, *, execute: Execute, tell: Callable[[Notice], object], say: Callable[[str], None]
) -> bool:
    """Run the command, and return whether it has succeeded."""
    name, lines = errand.process.name, Lines()

    def take(data: bytes) -> None:
        if whole := lines.feed(data):
            tell(Output(time.time(), name, whole))

    environment = {**environment_of(errand.process), **errand.variables}
    try:
        end = await execute(("/bin/sh", "-c", errand.command), env=environment, cwd=errand.process.cwd, take=take)
    except (OSError, ValueError) as error:
        say(f"the {errand.kind} of {name} could not be started: {error}{errand.failing}")
        return False
    if lines.unfinished:
        tell(Output(time.time(), name, lines.flush() + b"\n"))
    if end.status != 0:
        say(f"the {errand.kind} of {name} {predicate(end)}{errand.failing}")
    return end.status == 0


def environment_of(process: Process) -> Mapping[str, str]:
    """Return the environment of a process."""
    return os.environ if process.env is None else process.env
