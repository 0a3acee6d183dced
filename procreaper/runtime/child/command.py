"""Runs a side command to its end: a hook, a stop command, or a check that is a command.

Rules: the command runs in a session of its own, has an empty input, and leaves nothing of its group behind; `oversight`
takes care of processes that have left the group. The module knows nothing of processes, states and restarts; `take`
gets the output as it comes.

Theory of operation. As with a child, the end is the wait status, and not the end of the pipe, which a grandchild may
hold open. What the pipe holds at that moment is still taken, and then the rest of the group is killed. A cancellation
never interrupts the spawn, because asyncio would then kill the command without its group. It is remembered until there
is a pid, and only SIGKILL follows.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from subprocess import DEVNULL, STDOUT, TimeoutExpired
from typing import TYPE_CHECKING

from procreaper.core.events import Exit
from procreaper.descriptors import RESERVE, count_readable_bytes

if TYPE_CHECKING:
    from procreaper.runtime.child.protocols import Oversight

READ_SIZE = 1 << 16
# Seconds to wait for the end of a killed command: one that the kernel cannot end must not block its caller.
END_TIMEOUT = 2.0
# The same in seconds for one whose end asyncio cannot watch for, and which therefore blocks the loop.
UNWATCHED_TIMEOUT = 0.5


async def execute(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: str | None,
    take: Callable[[bytes], object],
    oversight: Oversight | None = None,
) -> Exit:
    """Run a command in a group of its own, give its output to `take` in pieces, and return how it ended.

    Standard output and error are one stream, standard input is empty. Without `env` or `cwd` they are ours. It returns
    when the command itself has exited, and kills what is left of its group. If it is cancelled, or `take` raises, it
    first kills the whole group. Raises OSError or ValueError for a command that cannot be started.
    """
    RESERVE.fill()
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        command = _Command(reading, take, oversight)
        if oversight is not None:
            env = oversight.environment(env)
            oversight.before_spawn(writing)
        try:
            cancelled = await command.spawn(argv, env, cwd, writing)
        finally:
            os.close(writing)
        try:
            if cancelled:
                raise asyncio.CancelledError
            return await command.end()
        finally:
            await command.clear_away()
    finally:
        os.close(reading)
        if oversight is not None:
            oversight.ended()


class _Command(asyncio.SubprocessProtocol):
    def __init__(self, pipe: int, take: Callable[[bytes], object], oversight: Oversight | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._take = take
        self._oversight = oversight
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited = asyncio.Event()
        # Set at the end of the wait: the command has exited, or `take` has raised this error.
        self._over = asyncio.Event()
        self._error: Exception | None = None

    async def spawn(self, argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None, output: int) -> bool:
        """Start the command, and return whether it was cancelled meanwhile."""
        spawning = self._loop.create_task(
            self._loop.subprocess_exec(
                lambda: self,
                *argv,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
                cwd=cwd,
                env=env,
            )
        )
        cancelled = False
        while not spawning.done():
            try:
                await asyncio.wait((spawning,))
            except asyncio.CancelledError:
                cancelled = True
        try:
            spawning.result()
        except BaseException as error:
            if self._transport is not None:
                self._abandon(self._transport)
            if cancelled:
                raise asyncio.CancelledError from error
            if isinstance(error, RuntimeError):
                # asyncio may need a thread for the wait, and has none.
                raise OSError(errno.EAGAIN, str(error)) from error
            raise
        return cancelled

    async def end(self) -> Exit:
        """Take the output until the command has exited."""
        self._loop.add_reader(self._pipe, self._read)
        await self._over.wait()
        if self._error is not None:
            raise self._error
        self._take_exactly(count_readable_bytes(self._pipe))
        return Exit.of(self._returncode or 0)

    async def clear_away(self) -> None:
        """Kill what is left of the group, and wait for the command."""
        self._loop.remove_reader(self._pipe)
        if self._oversight is not None and not self._exited.is_set():
            self._oversight.before_kill()
        self._kill()
        limit = self._loop.time() + END_TIMEOUT
        while not self._exited.is_set() and self._loop.time() < limit:
            # A cancellation now asks for what is being done.
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout_at(limit):
                    await self._exited.wait()
        if self._transport is not None:
            self._transport.close()

    # asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.SubprocessTransport):
            raise TypeError(transport)
        self._transport = transport
        if self._oversight is not None:
            self._oversight.started(transport.get_pid())

    def process_exited(self) -> None:
        self._exited.set()
        self._over.set()

    # The output and the group.

    def _read(self) -> None:
        try:
            if self._take_once(READ_SIZE) == 0:
                self._loop.remove_reader(self._pipe)
        except BlockingIOError:
            return
        except Exception as error:
            self._loop.remove_reader(self._pipe)
            self._error = error
            self._over.set()

    def _take_exactly(self, size: int) -> None:
        while size > 0 and (taken := self._take_once(min(size, READ_SIZE))):
            size -= taken

    def _take_once(self, size: int) -> int:
        """Take the result of one read, and return its size, 0 at the end of the output."""
        data = os.read(self._pipe, size)
        if data:
            self._take(data)
        return len(data)

    def _abandon(self, transport: asyncio.SubprocessTransport) -> None:
        """End a command that was started, but whose end asyncio cannot report."""
        self._kill()
        process = transport.get_extra_info("subprocess")
        if process is not None:
            with suppress(TimeoutExpired):
                process.wait(UNWATCHED_TIMEOUT)
        transport.close()

    def _kill(self) -> None:
        # PermissionError: on macOS, a group of which only zombies are left; elsewhere, one that runs as another user.
        if self._transport is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.get_pid(), signal.SIGKILL)

    @property
    def _returncode(self) -> int | None:
        return None if self._transport is None else self._transport.get_returncode()
