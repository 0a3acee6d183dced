"""One run of a process: spawns it, reads its output, signals its group, and reports what happens to it.

Rules: reports facts through `post` and output through `publish`; decides nothing about restarts. Everything happens in
the thread of the loop, and nothing blocks.

Theory of operation. The child leads a session, and so a group, of its own. Its standard output and error are one pipe.
We read the pipe (`reader`), and not asyncio's transport, for two reasons: the end of the child is its wait status, and
not the end of the pipe, which a grandchild may hold open; and reading pauses when `publish` says so. Or all three
streams are a terminal of its own (`console`). We keep the child's end of the terminal open until the child has died: if
the last process that has it open closed it, a pause of our reading would hang it up and end the child.

Without a terminal, the child inherits our standard input. An app in the background has none: there each child gets an
*idle* input, a pipe that stays open and never delivers anything. /dev/null would not do, because esbuild and
tailwindcss end their `--watch` at the end of their input. Each child has a pipe of its own, because node makes its
input non-blocking, which would affect all processes that share the pipe. Only we hold the writing end, so the input
ends when we do, also after `kill -9`.

A signal goes to the whole group. On a terminal, shells get it after the programs that they run (`delivery`).

When the child has been reaped, the content of the pipe is read before `ChildExited` is posted, so that its last output
comes before the message about its end. We poll the remaining members of its group, because the system does not report
the end of a grandchild. Output that comes later through the pipe is still read.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from subprocess import STDOUT
from typing import TYPE_CHECKING

from procreaper.core.events import ChildExited, Event, Exit, GroupEnded, Notice, Spawned, SpawnFailed
from procreaper.core.last_command import argv_of
from procreaper.core.plan import Process
from procreaper.descriptors import RESERVE
from procreaper.errors import reason_of
from procreaper.runtime.child.reader import BIG_READ, SMALL_READ, Reader
from procreaper.runtime.system.groups import is_group_alive, is_group_suspended

__all__ = ["BIG_READ", "SMALL_READ", "Child"]

if TYPE_CHECKING:
    from procreaper.runtime.child.console import Console, OwnTerminal
    from procreaper.runtime.child.delivery import Delivery
    from procreaper.runtime.child.protocols import DescendantTracker

# Seconds that the report of the exit waits for room while output is paused.
LAST_WORDS = 0.25
# Seconds between two polls of a group that outlives its leader: at first, and at most.
FIRST_LOOK, LAST_LOOK = 0.002, 0.05
# The file descriptors that a spawn needs for itself, besides our pipe.
SPAWN_DESCRIPTORS = 4


class Child(asyncio.SubprocessProtocol):
    """One run of `process`. `publish` returns False if the output should not be read any further until `resume`.

    `has_room` says whether it may be read now; one read takes `largest_read` bytes at most. `open_terminal` opens a
    terminal for it; without it, or if it returns None, the child writes to a pipe. With `idle_input`, a child without a
    terminal does not inherit our standard input. Without `tracker`, a run consists of its group.
    """

    def __init__(
        self,
        process: Process,
        run: int,
        *,
        post: Callable[[Event], None],
        publish: Callable[[Notice], bool],
        has_room: Callable[[], bool] = lambda: True,
        largest_read: int = BIG_READ,
        tracker: DescendantTracker | None = None,
        open_terminal: Callable[[], OwnTerminal | None] | None = None,
        idle_input: bool = False,
    ) -> None:
        self._process = process
        self._run = run
        self._post = post
        self._publish = publish
        self._has_room = has_room
        self._tracker = tracker
        self._loop = asyncio.get_running_loop()
        self._largest_read = largest_read
        self._reader: Reader | None = None
        self._open_terminal = open_terminal
        # Its terminal, if it has one, to which clients can attach.
        self.console: Console | None = None
        self._its_end: int | None = None
        self._idle_input = idle_input
        # The writing end of an idle input.
        self._input: int | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._group: int | None = None
        # The last signal, as long as processes of the run are still to get it.
        self._delivery: Delivery | None = None
        # The key of the output in the list of the guard.
        self._key = ""
        self._look_timer: asyncio.TimerHandle | None = None
        self._last_words_timer: asyncio.TimerHandle | None = None
        self.began_at = None
        self.ended = False
        self._is_finished = False

    @property
    def over(self) -> bool:
        """Whether nothing more can come of this run: its group is gone and its pipe is closed."""
        return self.ended and (self._reader is None or self._reader.ended)

    @property
    def read_at(self) -> float:
        """When the output was last read, in seconds of the clock of the loop."""
        return 0.0 if self._reader is None else self._reader.read_at

    async def spawn(self) -> None:
        """Start the child and report it. A failure is reported, not raised."""
        writing = reading_nothing = -1
        environment = self._process.env
        if self._tracker is not None:
            environment = self._tracker.environment(self._process.name, self._run, environment)
        argv = argv_of(self._process.command, os.environ if environment is None else environment)
        try:
            terminal = None if self._open_terminal is None else self._open_terminal()
            if terminal is None:
                reading, writing = _open_pipe()
            else:
                from procreaper.runtime.child.console import Console

                reading, self._its_end = terminal.parent_end, terminal.child_end
                self.console = Console(terminal)
                argv = terminal.wrap_command(argv)
            self._reader = self._reader_of(reading)
            if terminal is None and self._idle_input:
                reading_nothing, self._input = os.pipe()
            _ensure_descriptors(reading)
            if self._tracker is not None:
                self._key = self._tracker.watch_output(writing if self._its_end is None else self._its_end)
            await self._loop.subprocess_exec(
                lambda: self,
                *argv,
                stdin=self._its_end if reading_nothing < 0 else reading_nothing,
                stdout=writing if terminal is None else self._its_end,
                stderr=STDOUT,
                start_new_session=True,
                cwd=self._process.cwd,
                env=environment,
            )
        except (OSError, ValueError) as error:
            self._end_of_output()
            self.ended = True
            self._post(spawn_failed(self._process.name, self._run, error))
        except BaseException:
            # A cancellation, or an error of ours; asyncio has ended and reaped what it may have started.
            if self._transport is None:
                self._end_of_output()
                self.ended = True
            raise
        finally:
            for descriptor in (writing, reading_nothing):
                if descriptor >= 0:
                    os.close(descriptor)

    @property
    def held(self) -> bool:
        """Whether a process of the group is stopped or traced, as by a debugger; only Linux tells."""
        return self._group is not None and is_group_suspended(self._group)

    def signal(self, number: int, *, only_main: bool = False, only_handlers: bool = False) -> None:
        """Send a signal to all processes of the run, or with `only_main` to its programs, unless they are gone.

        Its programs are the child, or if that is a shell, the programs that the shell runs. With `only_handlers` the
        signal goes to the first processes that handle it, or else to its programs.
        """
        if self.ended or (only_handlers and self._reach_handlers(number)):
            return
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        if self._tracker is not None:
            # This comes first: a parent may die of the signal, and only it shows to which run a process belongs.
            if only_main:
                self._tracker.scan_descendants()
            else:
                self._tracker.signal_escapees(self._process.name, self._run, number)
        if not self._deliver(number, only_main=only_main):
            self._send(number, only_main=only_main)

    def _reach_handlers(self, number: int) -> bool:
        if self._group is None or sys.platform != "linux":
            return False
        from procreaper.runtime.child.delivery import send_to_handlers

        return send_to_handlers(self._group, number)

    def _deliver(self, number: int, *, only_main: bool) -> bool:
        """Send a signal to the programs before the shells that run them; return False if that is not possible."""
        # The end of a shell that leads a session matters to the others of its group only on a terminal.
        if self._group is None or number == signal.SIGKILL or not (only_main or self.console is not None):
            return False
        from procreaper.runtime.child.delivery import Delivery

        delivery = Delivery(self._group, number, only_main=only_main, loop=self._loop)
        if not delivery.begin():
            return False
        self._delivery = delivery
        return True

    def _send(self, number: int, *, only_main: bool) -> None:
        # The number of the child is its own until it is reaped, that of the group until all of its members are.
        if self._group is None or (
            only_main and (self._transport is None or self._transport.get_returncode() is not None)
        ):
            return
        # Not the transport's `send_signal`, which takes the exit status from asyncio where the child has just ended.
        send = os.kill if only_main else os.killpg
        # PermissionError: on macOS, a group of which only zombies are left; elsewhere, one of another user.
        with suppress(ProcessLookupError, PermissionError):
            send(self._group, number)
            if number != signal.SIGKILL:
                # A stopped process would not see the signal; systemd does the same.
                send(self._group, signal.SIGCONT)

    def resize(self, size: os.terminal_size) -> None:
        """Pass on the new size of our terminal, if the child has one."""
        if self.console is not None:
            self.console.resize(size)

    def resume(self) -> None:
        """Read on after a pause, because there is room again."""
        if self._reader is None or not self._reader.paused:
            return
        self._reader.resume()
        if self._last_words_timer is not None:
            self._last_words_timer.cancel()
            self._say_last_words()

    def finish(self) -> None:
        """Read the rest of the pipe, with room or without, and close it: the app has ended.

        A process that has left the group may hold the pipe open; its further output is ignored. Processes that even
        SIGKILL has not ended are no longer polled.
        """
        self._is_finished = True
        if self._look_timer is not None:
            self._look_timer.cancel()
        if self._delivery is not None:
            self._delivery.release()
        if self._reader is not None:
            self._reader.read_last_words()
        self._end_of_output()

    # asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.SubprocessTransport):
            raise TypeError(transport)
        self._transport = transport
        self._group = transport.get_pid()
        if self._tracker is not None:
            self._tracker.run_started(self._process.name, self._run, self._group)
        self._post(Spawned(self._process.name, self._run, self._group))
        if self._reader is not None:
            # Only now, so that the first output comes after the notice of the start.
            self._reader.begin()

    def process_exited(self) -> None:
        if self._reader is not None and self._reader.paused:
            self._last_words_timer = self._loop.call_later(LAST_WORDS, self._say_last_words)
        else:
            self._say_last_words()

    # The output.

    def _reader_of(self, descriptor: int) -> Reader:
        return Reader(
            self._process.name,
            descriptor,
            publish=self._publish,
            has_room=self._has_room,
            largest_read=self._largest_read,
            console=self.console,
            closed=self._output_closed,
        )

    def _output_closed(self) -> None:
        # At the end of the app, processes that still have it open are found by it.
        if self._tracker is not None and not self._is_finished:
            self._tracker.forget_output(self._key)

    def _end_of_output(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._let_go_of_its_end()
        self._end_input()

    def _let_go_of_its_end(self) -> None:
        if self._its_end is not None:
            os.close(self._its_end)
            self._its_end = None

    def _end_input(self) -> None:
        if self._input is not None:
            os.close(self._input)
            self._input = None

    # The end.

    def _say_last_words(self) -> None:
        self._last_words_timer = None
        self._take_last_words()
        # From now on, the output ends when no process has it open.
        self._let_go_of_its_end()
        self._end_input()
        self._report_end()

    def _take_last_words(self) -> None:
        if self._reader is not None and not self._reader.paused:
            self._reader.read_last_words()

    def _report_end(self) -> None:
        transport = self._transport
        if transport is None:
            raise RuntimeError("the end of a child that was never reported")
        returncode = transport.get_returncode()
        leftovers = self._somebody_lives()
        transport.close()
        self._post(ChildExited(self._process.name, self._run, Exit.of(returncode or 0), leftovers))
        if leftovers:
            self._look_timer = self._loop.call_later(FIRST_LOOK, self._look, FIRST_LOOK)
        else:
            self.ended = True

    def _look(self, waited: float) -> None:
        if self._somebody_lives():
            wait = min(waited * 2, LAST_LOOK)
            self._look_timer = self._loop.call_later(wait, self._look, wait)
            return
        self._take_last_words()
        self.ended = True
        self._post(GroupEnded(self._process.name, self._run))

    def _somebody_lives(self) -> bool:
        """Whether any that belongs to the run is alive; a group that is found empty is signalled no more."""
        if self._group is not None and not is_group_alive(self._group):
            if self._tracker is not None:
                self._tracker.group_ended(self._group)
            self._group = None
        has_escaped = self._tracker is not None and self._tracker.has_escapees(self._process.name, self._run)
        return self._group is not None or has_escaped


def _open_pipe() -> tuple[int, int]:
    """Open a pipe whose reading end never blocks."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return reading, writing


def _ensure_descriptors(open_one: int) -> None:
    """Make sure that a spawn has the descriptors that it needs. Raises OSError if not.

    asyncio opens one after the child exists. A child whose end cannot be watched would be lost.
    """
    # Before a child: without these, neither an import nor a look into `/proc` would be sure to succeed.
    RESERVE.fill()
    spare: list[int] = []
    try:
        for _ in range(SPAWN_DESCRIPTORS):
            spare.append(os.dup(open_one))  # noqa: PERF401 (a comprehension would lose those opened before the error)
    finally:
        for descriptor in spare:
            os.close(descriptor)


# The exit codes of a shell for the errors for which another try cannot help.
PERMANENT = {errno.ENOENT: 127, errno.ENOTDIR: 127, errno.EACCES: 126, errno.ENOEXEC: 126, errno.E2BIG: 126}
CANNOT_RUN = 126


def spawn_failed(name: str, run: int, error: OSError | ValueError) -> SpawnFailed:
    """Return the event for this error."""
    code = PERMANENT.get(error.errno or 0) if isinstance(error, OSError) else CANNOT_RUN
    return SpawnFailed(
        name, run, error=_explain(error), code=CANNOT_RUN if code is None else code, permanent=code is not None
    )


def _explain(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.E2BIG:
            return "its command or its environment is longer than the system allows"
        return f"{reason_of(error)}: {error.filename}" if error.filename else reason_of(error)
    if "null byte" in str(error):
        return "its command or its environment contains a NUL byte"
    return str(error)
