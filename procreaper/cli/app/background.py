"""Run the app of `start -D` in the background, and report its progress to the command that started it.

Rules: fork before there is a thread, a loop or a child. The app keeps only the directory, the umask and the environment
of its start. It keeps standard error until it can be reached, and reports earlier errors there.

Theory of operation. After two forks the app is in its own session, but does not lead it, so no terminal can become its
controlling terminal. The app sends *reports* through a pipe, one line of JSON each, and `start_report` reads them:

    {"pid": 7}                                   first of all
    {"ready": 7}                                 the control socket answers; standard error is closed now
    {"waiting": {"web.1": "starting"}}           the processes that are not up yet, and why; only with `--wait`
    {"up": true}                                 all processes are up
    {"failed": "web.1 is not up: ...", "lines": "", "ending": false}    a process cannot come up, and why; the last
                                                 lines of the process that caused it; whether the app ends
    {"over": 3}                                  the app has ended with this exit code

The app does not wait until a report is read. While reports are unread, it sends no further `waiting`.
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from procreaper.cli.messages import print_error
from procreaper.cli.rendering import LONG_AGO
from procreaper.core.events import Message, Notice, Output, with_reason
from procreaper.core.outcome import Confirmation, Goal, find_outcome
from procreaper.errors import reason_of

if TYPE_CHECKING:
    from procreaper.core.plan import Process
    from procreaper.core.status import Status
    from procreaper.output.history import History
    from procreaper.output.text import Format
    from procreaper.runtime.supervisor import Supervisor

STDIN, STDOUT, STDERR = 0, 1, 2
# Seconds to wait for room in the pipe for the last reports.
PATIENCE = 5.0
# The number of lines shown of a process that cannot come up.
LAST_LINES = 20


def fork_app() -> tuple[bool, int]:
    """Fork the app. Return whether this process is the app, with its end of the pipe of reports.

    Raises OSError if the system cannot fork.
    """
    reading, writing = os.pipe()
    first = os.fork()
    if first:
        os.close(writing)
        os.waitpid(first, 0)
        return False, reading
    os.setsid()
    try:
        second = os.fork()
    except OSError as error:
        print_error(f"procreaper: error: {reason_of(error)}")
        os._exit(1)
    if second:
        os._exit(0)
    _redirect_to_null((STDIN, STDOUT))
    for name in os.listdir("/dev/fd"):
        if int(name) not in (STDIN, STDOUT, STDERR, writing):
            # The descriptor that read the directory is already closed.
            with suppress(OSError):
                os.close(int(name))
    return True, writing


class Background:
    """Writes the reports of the app to `descriptor`. It is also the sink of the app, in place of a terminal.

    `waits`: report when all of `names` are up. `size` is the terminal size of the processes: that of the terminal
    in which the app was started.
    """

    def __init__(self, descriptor: int, names: Collection[str], *, waits: bool, size: os.terminal_size) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor: int | None = descriptor
        self._names = tuple(names)
        self._waits = waits
        self._unsent = bytearray()
        self._supervisor: Supervisor | None = None
        self._tail: Callable[[str], bytes] | None = None
        self._confirmation = Confirmation()
        self._waiting: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.size = size
        self.lost = False
        self.has_room = True
        self._report({"pid": os.getpid()})

    def ready(self, supervisor: Supervisor, tail: Callable[[str], bytes]) -> None:
        """Report that the app can be reached. `tail(name)` returns the last lines of a process."""
        self._supervisor, self._tail = supervisor, tail
        sys.stderr.flush()
        sys.stderr = cast("TextIO", io.TextIOWrapper(_ErrorStream(supervisor.say), errors="surrogateescape"))
        _redirect_to_null((STDERR,))
        self._report({"ready": os.getpid()})

    def end(self, status: int) -> int:
        """Report how the app has ended."""
        if self._descriptor is not None:
            self._unsent += _encode({"over": status})
            with suppress(OSError):
                while self._unsent and select.select([], [self._descriptor], [], PATIENCE)[1]:
                    del self._unsent[: os.write(self._descriptor, self._unsent)]
            os.close(self._descriptor)
            self._descriptor = None
        return status

    # A sink.

    def accept(self, notice: Notice) -> bool:
        """Check whether the notice changes which processes are up."""
        if self._waits and not isinstance(notice, Output | Message):
            self._check_up(notice.name)
        return True

    def abandon(self) -> None:
        """Do nothing: there is no pending output."""

    async def drain(self, patience: float) -> None:
        """Do nothing: there is no pending output."""

    # Which processes are up.

    def _check_up(self, first: str | None = None) -> None:
        """Report the progress. If several processes cannot come up, `first` is the cause."""
        supervisor = self._supervisor
        if supervisor is None or not self._waits:
            return
        end = supervisor.end
        if end is not None and end.name is not None:
            # First of all: processes that ended because of this one are not the cause.
            self._report_failure(end.text, end.name, ending=True)
            return
        statuses = {status.name: status for status in supervisor.status()}
        waiting: dict[str, str] = {}
        for name in sorted(self._names, key=lambda name: name != first):
            status = statuses.get(name)
            outcome = find_outcome(Goal.UP_IN_THE_END, 0, status)
            if outcome.obstacle is not None:
                if end is not None:
                    self._report_failure(end.text, None, ending=True)
                else:
                    culprit = name if status is None else supervisor.blame(name)
                    known = None if status is None else culprit
                    self._report_failure(_describe_failure(name, culprit, statuses), known, ending=supervisor.is_ending)
                return
            if status is not None and not (outcome.reached and self._is_confirmed(status)):
                waiting[name] = with_reason(status.state, status.reason)
        if not waiting:
            self._waits = False
            self._report({"up": True})
        elif waiting != self._waiting and not self._unsent:
            self._waiting = waiting
            self._report({"waiting": {name: waiting[name] for name in self._names if name in waiting}})

    def _report_failure(self, text: str, culprit: str | None, *, ending: bool) -> None:
        """Report that a process cannot come up; `culprit` is the process that caused it, if any."""
        self._waits = False
        lines = "" if culprit is None or self._tail is None else os.fsdecode(self._tail(culprit))
        self._report({"failed": text, "lines": lines, "ending": ending})

    def _is_confirmed(self, status: Status) -> bool:
        """Whether a process that is up has stayed up long enough; it may be about to fail."""
        loop = asyncio.get_running_loop()
        due = self._confirmation.due(status.name, status, loop.time())
        if due is not None and self._timer is None:
            self._timer = loop.call_at(due, self._check_again)
        return due is None

    def _check_again(self) -> None:
        self._timer = None
        self._check_up()

    # Reports.

    def _report(self, report: dict[str, Any]) -> None:
        if self._descriptor is not None:
            self._unsent += _encode(report)
            self._write()

    def _write(self) -> None:
        if self._descriptor is None:
            return
        try:
            del self._unsent[: os.write(self._descriptor, self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            # The process that started us is gone.
            self._unsent.clear()
            self._waits = False
        if self._supervisor is None:
            # There is no loop yet, and one report does not fill a pipe.
            return
        loop = asyncio.get_running_loop()
        if self._unsent:
            loop.add_writer(self._descriptor, self._write)
        else:
            loop.remove_writer(self._descriptor)


def _describe_failure(name: str, culprit: str, statuses: Mapping[str, Status]) -> str:
    """Say why a process cannot come up, and which process caused it."""
    obstacle = find_outcome(Goal.UP_IN_THE_END, 0, statuses.get(culprit)).obstacle
    if culprit == name:
        return f"{name} is not up: {obstacle}"
    if obstacle is None:
        # It ended successfully, but was expected to stay up.
        obstacle = with_reason(statuses[culprit].state, statuses[culprit].reason)
    return f"{culprit} is not up: {obstacle}; so {name} was not started"


def render_last_lines(process: Process, history: History, text: Format) -> bytes:
    """Render the last lines of a process as the terminal would show them; for a detached process, read its log file."""
    outputs: Iterable[Notice]
    if process.log is None or not process.detached:
        outputs = history.tail({process.name}, LAST_LINES).notices
    else:
        from procreaper.output.log_tail import RotatedLog

        outputs = []
        with suppress(OSError), RotatedLog(process.log.path) as tail:
            outputs = [Output(LONG_AGO, process.name, data) for data in tail.last_lines(LAST_LINES)]
    return b"".join(text.render(output) for output in outputs if isinstance(output, Output)) + text.finish()


class _ErrorStream(io.RawIOBase):
    """Replaces standard error in the background: each line becomes a message of the app."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            self._say(line.decode(errors="surrogateescape"))
        return len(data)


def _redirect_to_null(streams: Collection[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in streams:
        os.dup2(null, stream)
    os.close(null)


def _encode(report: dict[str, Any]) -> bytes:
    import json

    return json.dumps(report).encode() + b"\n"
