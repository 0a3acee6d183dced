"""The tasks beside the children: health checks, hooks, stop commands, and the commands that prepare a restart.

Rules: each is a task in the group of the supervisor. Its result is posted or published, and never raised. A process has
one check and one preparation at once. Imported with the first of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from procreaper.core.events import (
    Checked,
    CheckFinished,
    Event,
    Exit,
    Notice,
    Output,
    PreparationEnded,
    StopCommandFailed,
)
from procreaper.core.plan import Process
from procreaper.core.state import ProcessState
from procreaper.core.transitions import predicate
from procreaper.output.lines import Lines
from procreaper.runtime.child.command import execute

if TYPE_CHECKING:
    from procreaper.runtime.child.protocols import DescendantTracker
    from procreaper.runtime.health.check import Execute

# Seconds after the end of a command within which its last writes are reported, without and with polling.
REPORTED_AFTER, REPORTED_AFTER_POLLING = 0.1, 0.6


class SideTasks:
    """The tasks of an app. `tell` takes the output of commands; `ended` is called after each hook and stop command.

    `is_held` says whether the run of a process is stopped or traced, so that it cannot answer. With `tracker`, no
    command outlives us.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        post: Callable[[Event], None],
        publish: Callable[[Notice], bool],
        tell: Callable[[Notice], object],
        say: Callable[[str], None],
        is_held: Callable[[str], bool],
        ended: Callable[[], None],
        tracker: DescendantTracker | None,
    ) -> None:
        self._tasks = tasks
        self._post = post
        self._publish = publish
        self._tell = tell
        self._say = say
        self._is_held = is_held
        self._ended = ended
        self._tracker = tracker
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._commands: set[asyncio.Task[bool]] = set()
        self._preparations: dict[str, asyncio.Task[None]] = {}

    @property
    def under_way(self) -> bool:
        """Whether a hook or a stop command is running."""
        return bool(self._commands)

    def check(self, process_state: ProcessState, number: int) -> None:
        """Check the health of this run."""
        name = process_state.process.name
        check = self._check(process_state, number, self._checks.get(name))
        self._checks[name] = self._tasks.create_task(check, name=f"check {name}")

    def cancel_check(self, name: str) -> None:
        """Cancel the check that is under way: its result no longer matters."""
        self._checks[name].cancel()

    def run(self, kind: str, process: Process, command: str, variables: Mapping[str, str] = {}) -> None:
        """Run a hook."""
        self._begin(self._run(SideCommand(kind, process, command, variables)), kind, process)

    def stop(self, process: Process, run: int, command: str) -> None:
        """Run the stop command of a run. If it fails, the run gets the signal instead."""
        self._begin(self._stop(process, run, command), "stop command", process)

    def _begin(self, errand: Coroutine[Any, Any, bool], kind: str, process: Process) -> None:
        task = self._tasks.create_task(errand, name=f"{kind} {process.name}")
        self._commands.add(task)
        task.add_done_callback(self._command_ended)

    def prepare(self, process: Process, command: str) -> None:
        """Run the command that prepares a restart."""
        preparation = self._prepare(process, command)
        self._preparations[process.name] = self._tasks.create_task(preparation, name=f"prepare {process.name}")

    def cancel_preparation(self, name: str) -> None:
        """End the preparation that is under way."""
        self._preparations[name].cancel()

    def forget(self, name: str) -> None:
        """Forget a process that the app no longer has."""
        self._checks.pop(name, None)
        self._preparations.pop(name, None)

    def cancel(self) -> None:
        """Cancel all tasks, because the app has ended."""
        for task in (*self._checks.values(), *self._commands, *self._preparations.values()):
            task.cancel()

    async def _check(self, process_state: ProcessState, number: int, previous: asyncio.Task[None] | None) -> None:
        # Imported here, because hooks do not need it.
        from procreaper.core.checks import Target
        from procreaper.runtime.health.check import run_check

        process, health, pid = process_state.process, process_state.process.health, process_state.pid
        if health is None or pid is None:
            raise RuntimeError(f"{process.name} has nothing to check")
        if previous is not None and not previous.done():
            # A cancelled check may still be ending its command.
            await asyncio.wait([previous])
        target = Target(process.name, pid, environment_of(process), process.cwd)
        began = time.perf_counter()
        error = await run_check(health, target, execute=self._executor(process.name, process_state.run))
        duration = time.perf_counter() - began
        # A process that is suspended, or held by a debugger, cannot answer, and must not be killed for it.
        skipped = error is not None and self._is_held(process.name)
        if not skipped:
            self._publish(Checked(time.time(), process.name, error, duration))
        self._post(CheckFinished(process.name, number, error, skipped))

    def _command_ended(self, task: asyncio.Task[bool]) -> None:
        self._commands.discard(task)
        self._ended()

    async def _run(self, command: SideCommand) -> bool:
        execute = self._executor(command.process.name)
        return await run_side_command(command, execute=execute, tell=self._tell, say=self._say)

    def _executor(self, name: str, run: int | None = None) -> Execute:
        """Return the function that runs a command of a process; with the number of a run, one that checks that run."""

        def execute_overseen(
            argv: Sequence[str],
            *,
            env: Mapping[str, str] | None,
            cwd: str | None,
            take: Callable[[bytes], object],
        ) -> Coroutine[Any, Any, Exit]:
            oversight = None if self._tracker is None else self._tracker.track_command(name, run)
            return execute(argv, env=env, cwd=cwd, take=take, oversight=oversight)

        return execute_overseen

    async def _stop(self, process: Process, run: int, command: str) -> bool:
        if self._tracker is not None:
            # The run ends without our signal.
            self._tracker.scan_descendants()
        errand = SideCommand("stop command", process, command, failing=", so procreaper sends the signal")
        succeeded = await self._run(errand)
        if not succeeded:
            self._post(StopCommandFailed(process.name, run))
        return succeeded

    async def _prepare(self, process: Process, command: str) -> None:
        errand = SideCommand("watch command", process, command, failing=", so nothing is restarted")
        succeeded = await self._run(errand)
        polled = process.watch is not None and process.watch.poll
        await asyncio.sleep(REPORTED_AFTER_POLLING if polled else REPORTED_AFTER)
        self._post(PreparationEnded(process.name, succeeded=succeeded))


class SideCommand(NamedTuple):
    """A `command` for the shell, in the environment of `process` and these `variables`.

    `kind` is its name in messages; `failing` is added to the message if it fails.
    """

    kind: str
    process: Process
    command: str
    variables: Mapping[str, str] = {}
    failing: str = ""


async def run_side_command(
    command: SideCommand, *, execute: Execute, tell: Callable[[Notice], object], say: Callable[[str], None]
) -> bool:
    """Run the command, and return whether it has succeeded."""
    name, lines = command.process.name, Lines()

    def take(data: bytes) -> None:
        if whole := lines.feed(data):
            tell(Output(time.time(), name, whole))

    environment = {**environment_of(command.process), **command.variables}
    try:
        end = await execute(("/bin/sh", "-c", command.command), env=environment, cwd=command.process.cwd, take=take)
    except (OSError, ValueError) as error:
        say(f"the {command.kind} of {name} could not be started: {error}{command.failing}")
        return False
    if lines.unfinished:
        tell(Output(time.time(), name, lines.flush() + b"\n"))
    if end.status != 0:
        say(f"the {command.kind} of {name} {predicate(end)}{command.failing}")
    return end.status == 0


def environment_of(process: Process) -> Mapping[str, str]:
    """Return the environment of a process."""
    return os.environ if process.env is None else process.env
