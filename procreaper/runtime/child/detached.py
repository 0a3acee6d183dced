"""One run of a process that outlives us: found if it runs already, else spawned; signalled, and its end reported.

Rules: reports facts through `post`; decides nothing about restarts. Its output goes directly to its log file, which is
therefore rotated only at the start of a run. It has no pipe, terminal or descriptor of ours, and not the mark that
identifies leftovers of an app. A pid that another process has reused gets no signal.

Theory of operation. A record (`register`) tells the next procreaper, and another one of the same root, that it runs. If
we were killed between the spawn and the record, the process would be unknown, and the next start would start a second
one. So we spawn a shell that waits at a *gate*, a pipe, and becomes the command after the record has been written. If
the gate closes instead, for any reason, the shell ends.

Neither asyncio's transport nor `Popen` is left in charge of it: both end or await a child that they still know.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from subprocess import PIPE, STDOUT, Popen
from typing import TYPE_CHECKING

from procreaper.core.events import ChildExited, Event, Exit, GroupEnded, Spawned
from procreaper.core.last_command import argv_of
from procreaper.core.plan import LogFile, Process
from procreaper.errors import reason_of
from procreaper.output.rotation import rotate_file
from procreaper.runtime.child.child import FIRST_LOOK, LAST_LOOK, spawn_failed
from procreaper.runtime.child.detached_record import Record, Register, UnusableRecordError
from procreaper.runtime.system.groups import is_group_alive, is_group_suspended
from procreaper.runtime.system.marks import DETACHED_MARK, MARK_VARIABLE
from procreaper.runtime.system.proc import read_boot_id, read_start_time

if TYPE_CHECKING:
    from procreaper.runtime.child.delivery import Delivery
    from procreaper.runtime.child.protocols import DescendantTracker

SHELL = "/bin/sh"
GATE = 'read -r open || exit; exec </dev/null "$@"'
OPEN = b"open\n"
# Seconds between two attempts to get the lock, and for all attempts; its holder needs it for milliseconds.
LOCK_PAUSE, LOCK_PATIENCE = 0.01, 10.0
# Seconds between two polls, if the system does not report its end.
POLL = 0.5


class DetachedRun:
    """One run of `process`, of the app in the directory `root`. `say` reports to the user what was found.

    The tracker learns which processes to leave alone.
    """

    def __init__(
        self,
        process: Process,
        run: int,
        *,
        root: str,
        post: Callable[[Event], None],
        say: Callable[[str], None],
        tracker: DescendantTracker | None = None,
    ) -> None:
        self._process = process
        self._run = run
        self._post = post
        self._say = say
        self._tracker = tracker
        self._loop = asyncio.get_running_loop()
        self._register = Register(root, process.name, os.environ)
        # Set while it is our child.
        self._popen: Popen[bytes] | None = None
        self._record: Record | None = None
        # Readable after it has ended.
        self._descriptor: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The last signal, as long as its shells are still to get it.
        self._delivery: Delivery | None = None
        self.console = None
        self.read_at = 0.0
        self.ended = False

    @property
    def over(self) -> bool:
        """Whether nothing more can come of this run."""
        return self.ended

    @property
    def began_at(self) -> float | None:
        """When it began, in seconds since the epoch, if it was adopted."""
        return None if self._record is None or self._popen is not None else self._record.started_at

    @property
    def held(self) -> bool:
        """Whether a process of the group is stopped or traced, as by a debugger; only Linux tells."""
        return self._record is not None and self._is_it(self._record) and is_group_suspended(self._record.pid)

    async def spawn(self) -> None:
        """Start the process, unless it runs, and report it. A failure is reported, not raised."""
        try:
            lock = await self._lock()
            try:
                if self.ended:
                    return
                record = self._find()
                self._record = self._launch() if record is None else record
            finally:
                os.close(lock)
        except (OSError, ValueError) as error:
            self.ended = True
            self._post(spawn_failed(self._process.name, self._run, error))
            return
        except BaseException:
            self.ended = True
            raise
        if self._tracker is not None and self._popen is not None:
            self._tracker.exempt_session(self._record.pid)
        self._post(Spawned(self._process.name, self._run, self._record.pid))
        if self._descriptor is not None:
            self._loop.add_reader(self._descriptor, self._report_end)
        else:
            self._timer = self._loop.call_later(POLL, self._poll)

    def signal(self, number: int, *, only_main: bool = False, only_handlers: bool = False) -> None:
        """Send a signal to its group, or with `only_main` to its programs, unless they are gone.

        With `only_handlers` the signal goes to the first processes below it that handle it, or else to its programs.
        """
        if self.ended or self._record is None or not self._is_it(self._record):
            return
        if only_handlers and sys.platform == "linux":
            from procreaper.runtime.child.delivery import send_to_handlers

            if send_to_handlers(self._record.pid, number):
                return
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        if only_main and number != signal.SIGKILL:
            from procreaper.runtime.child.delivery import Delivery

            # It has no terminal, so nothing else needs an order.
            delivery = Delivery(self._record.pid, number, only_main=True, loop=self._loop)
            if delivery.begin():
                self._delivery = delivery
                return
        send = os.kill if only_main else os.killpg
        # PermissionError: on macOS, a group of which only zombies are left; elsewhere, one of another user.
        with suppress(ProcessLookupError, PermissionError):
            send(self._record.pid, number)
            if number != signal.SIGKILL:
                # A stopped process would not see the signal.
                send(self._record.pid, signal.SIGCONT)

    def resize(self, size: os.terminal_size) -> None:
        """Do nothing: it has no terminal."""

    def resume(self) -> None:
        """Do nothing: its output is not read."""

    def finish(self) -> None:
        """Forget the process, which goes on without us."""
        self.ended = True
        self._watch_no_more()
        if self._delivery is not None:
            self._delivery.release()
        if self._popen is not None and self._popen.returncode is None:
            # Popen would warn about it, and wait for it whenever another process is started.
            self._popen.returncode = 0

    # The start.

    async def _lock(self) -> int:
        deadline = self._loop.time() + LOCK_PATIENCE
        while (lock := self._try_to_lock()) is None:
            if self._loop.time() >= deadline:
                raise TimeoutError(errno.EAGAIN, "another procreaper is busy with it", self._register.path)
            await asyncio.sleep(LOCK_PAUSE)
        return lock

    def _try_to_lock(self) -> int | None:
        try:
            return self._register.lock()
        except OSError as error:
            # It would count as an error of the command.
            text = f"there is no place to remember it in, set XDG_STATE_HOME to one: {reason_of(error)}"
            raise OSError(error.errno, text, error.filename) from error

    def _find(self) -> Record | None:
        """Return the record of a run that has not ended; from then on its end is noticed."""
        name = self._process.name
        try:
            record = self._register.read()
        except UnusableRecordError as error:
            self._say(f"what is known of an earlier {name} is ignored: {error} ({self._register.path})")
            return None
        if record is None or record.boot != read_boot_id():
            return None
        # Opened before the start time is read: from now on it refers to that process and no later one.
        with suppress(OSError):
            self._descriptor = _end_of(record.pid)
        with suppress(ProcessLookupError):
            if (
                read_start_time(record.pid) == record.born
                and os.getpgid(record.pid) == record.pid
                and os.getsid(record.pid) == record.pid
            ):
                self._tell_of(record)
                return record
        self._watch_no_more()
        return None

    def _tell_of(self, record: Record) -> None:
        name = self._process.name
        self._say(f"{name} runs since {_moment(record.started_at)}; adopted (pid {record.pid})")
        if record.command != self._process.command:
            kind = self._process.type
            self._say(
                f"{name} was started with another command than it has now; `procreaper restart {kind}` changes that"
            )

    def _launch(self) -> Record:
        process = self._process
        if process.log is None:
            raise RuntimeError(f"{process.name} is detached and has no log file")
        environment = {**(os.environ if process.env is None else process.env), MARK_VARIABLE: DETACHED_MARK}
        if not isinstance(process.command, str):
            _require(process.command[0], environment, process.cwd)
        log = _open(process.log)
        try:
            popen = Popen(
                (SHELL, "-c", GATE, "sh", *argv_of(process.command, environment)),
                bufsize=0,
                stdin=PIPE,
                stdout=log,
                stderr=STDOUT,
                cwd=process.cwd,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(log)
        if popen.stdin is None:
            raise RuntimeError("there is no gate")
        with popen.stdin as gate:
            try:
                record = Record(
                    pid=popen.pid,
                    born=read_start_time(popen.pid) or "",
                    boot=read_boot_id(),
                    root=self._register.root,
                    name=process.name,
                    command=process.command,
                    log=process.log.path,
                    started_at=time.time(),
                )
                self._register.write(record)
                with suppress(OSError):
                    self._descriptor = _end_of(popen.pid)
            except BaseException:
                gate.close()
                popen.wait()
                raise
            self._popen = popen
            # It may have been killed already.
            with suppress(BrokenPipeError):
                gate.write(OPEN)
        return record

    # The end.

    def _poll(self) -> None:
        if self._record is None:
            raise RuntimeError("nothing was started")
        gone = (
            read_start_time(self._record.pid) != self._record.born
            if self._popen is None
            else self._popen.poll() is not None
        )
        if gone:
            self._report_end()
        else:
            self._timer = self._loop.call_later(POLL, self._poll)

    def _report_end(self) -> None:
        self._watch_no_more()
        # The exit status of a process that is not our child is unknown.
        end = Exit() if self._popen is None else Exit.of(self._popen.wait())
        leftovers = self._somebody_lives()
        self._post(ChildExited(self._process.name, self._run, end, leftovers))
        if leftovers:
            self._timer = self._loop.call_later(FIRST_LOOK, self._look, FIRST_LOOK)

    def _look(self, waited: float) -> None:
        if self._somebody_lives():
            wait = min(waited * 2, LAST_LOOK)
            self._timer = self._loop.call_later(wait, self._look, wait)
            return
        self._post(GroupEnded(self._process.name, self._run))

    def _somebody_lives(self) -> bool:
        """Whether any of its group is alive; one that is found empty is known no more."""
        record = self._record
        if record is None or self.ended:
            return False
        if self._is_it(record) and is_group_alive(record.pid):
            return True
        self.ended = True
        self._register.forget(record.pid, record.born)
        if self._tracker is not None:
            self._tracker.group_ended(record.pid)
        return False

    def _is_it(self, record: Record) -> bool:
        """Return whether the pid still belongs to the process: it is not reused while a member of the group lives."""
        return read_start_time(record.pid) in (record.born, None)

    def _watch_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None


def _end_of(pid: int) -> int | None:
    """Return a descriptor that is readable once this process has ended; None if the system has none. Raises OSError."""
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None


def _open(log: LogFile) -> int:
    """Open its log file to append to it; rotate a file that is too large before."""
    os.makedirs(os.path.dirname(log.path), exist_ok=True)
    with suppress(FileNotFoundError):
        if os.stat(log.path).st_size > log.max_size:
            if log.max_files:
                rotate_file(log.path, log.max_files)
            else:
                os.truncate(log.path, 0)
    return os.open(log.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def _require(program: str, environment: Mapping[str, str], cwd: str | None) -> None:
    """Raise the OSError with which the program would fail; the shell at the gate only writes it to the log file."""
    directories = [""] if "/" in program else os.get_exec_path(environment)
    paths = [os.path.join(cwd or "", directory, program) for directory in directories]
    if not any(os.path.isfile(path) and os.access(path, os.X_OK) for path in paths):
        number = errno.EACCES if any(map(os.path.exists, paths)) else errno.ENOENT
        raise OSError(number, os.strerror(number), program)


def _moment(seconds: float) -> str:
    """Return the time of day, with the date if that is not today."""
    then, now = time.localtime(seconds), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == now[:3] else "%Y-%m-%d %H:%M:%S", then)
