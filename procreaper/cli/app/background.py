"""`start -D`: the app goes on in the background, and tells whoever has started it what comes of it.

Rules: parts before there is a thread, a loop or a child. Nothing of where it was started is kept but the directory, the
umask and the environment; but what goes wrong before the app can be reached is still told on standard error.

Theory of operation. Two forks: the app is in a session of its own that it does not lead, so no terminal can become its
controlling one. Between the two processes is a pipe of *reports*, a line of JSON each, at whose end `arrival` reads:

    {"pid": 7}                                   first of all
    {"ready": 7}                                 the control socket answers; standard error is given up now
    {"waiting": {"web.1": "starting"}}           who is not up yet, and why; only where somebody waits for that
    {"up": true}                                 everybody is
    {"failed": "web.1 is not up: ...", "lines": "", "ending": false}    not everything can come up any more, and why;
                                                 the last lines of the process that is to blame; whether the app ends
    {"over": 3}                                  the app has ended with this exit code

No report is waited for: if they are not read, what is waiting is told no more.
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
from procreaper.core.outcome import Confirmation, Goal, find
from procreaper.errors import reason_of

if TYPE_CHECKING:
    from procreaper.core.plan import Process
    from procreaper.core.status import Status
    from procreaper.output.history import History
    from procreaper.output.text import Format
    from procreaper.runtime.supervisor import Supervisor

STDIN, STDOUT, STDERR = 0, 1, 2
# How long the last reports are tried to be written, in seconds.
PATIENCE = 5.0
# So many lines of a process that cannot come up are shown.
LAST_LINES = 20


def part() -> tuple[bool, int]:
    """Go on as two processes. True: this one is the app. With the descriptor that the reports are written to, or read.

    Raises OSError where there can be no other process.
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
    _give_up((STDIN, STDOUT))
    for name in os.listdir("/dev/fd"):
        if int(name) not in (STDIN, STDOUT, STDERR, writing):
            # The one with which the directory was read is closed already.
            with suppress(OSError):
                os.close(int(name))
    return True, writing


class Background:
    """The app's end: writes reports to `descriptor`. Also a sink, in the place of the terminal that there is not.

    `waits`: it is waited for that all of `names` are up. `size` is that of the terminals of the processes, which are as
    large as the one in which the app was started.
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
        """The app can be reached from now on. `tail(name)` are the last lines of a process."""
        self._supervisor, self._tail = supervisor, tail
        sys.stderr.flush()
        sys.stderr = cast("TextIO", io.TextIOWrapper(_Complaints(supervisor.say), errors="surrogateescape"))
        _give_up((STDERR,))
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
        """See whether that changes who is up."""
        if self._waits and not isinstance(notice, Output | Message):
            self._look(notice.name)
        return True

    def abandon(self) -> None:
        """Nobody reads what could be abandoned."""

    async def drain(self, patience: float) -> None:
        """Nothing is left to be written."""

    # Who is up.

    def _look(self, first: str | None = None) -> None:
        """Report what has come of it; of several that cannot come up any more, `first` is the cause."""
        supervisor = self._supervisor
        if supervisor is None or not self._waits:
            return
        end = supervisor.end
        if end is not None and end.name is not None:
            # Before any other: what it took down with it is not to blame.
            self._fail(end.text, end.name, ending=True)
            return
        statuses = {status.name: status for status in supervisor.status()}
        waiting: dict[str, str] = {}
        for name in sorted(self._names, key=lambda name: name != first):
            status = statuses.get(name)
            outcome = find(Goal.UP_IN_THE_END, 0, status)
            if outcome.obstacle is not None:
                if end is not None:
                    self._fail(end.text, None, ending=True)
                else:
                    culprit = name if status is None else supervisor.blame(name)
                    known = None if status is None else culprit
                    self._fail(_obstacle(name, culprit, statuses), known, ending=supervisor.is_ending)
                return
            if status is not None and not (outcome.reached and self._is_confirmed(status)):
                waiting[name] = with_reason(status.state, status.reason)
        if not waiting:
            self._waits = False
            self._report({"up": True})
        elif waiting != self._waiting and not self._unsent:
            self._waiting = waiting
            self._report({"waiting": {name: waiting[name] for name in self._names if name in waiting}})

    def _fail(self, text: str, culprit: str | None, *, ending: bool) -> None:
        """Report that not everything can come up any more; `culprit` is the process that is to blame, if any."""
        self._waits = False
        lines = "" if culprit is None or self._tail is None else os.fsdecode(self._tail(culprit))
        self._report({"failed": text, "lines": lines, "ending": ending})

    def _is_confirmed(self, status: Status) -> bool:
        """Whether one that is up is so for good, as far as can be told: it may be about to fail."""
        loop = asyncio.get_running_loop()
        due = self._confirmation.due(status.name, status, loop.time())
        if due is not None and self._timer is None:
            self._timer = loop.call_at(due, self._look_again)
        return due is None

    def _look_again(self) -> None:
        self._timer = None
        self._look()

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
            # Whoever started us is gone.
            self._unsent.clear()
            self._waits = False
        if self._supervisor is None:
            # There is no loop yet, and no pipe is full of one report.
            return
        loop = asyncio.get_running_loop()
        if self._unsent:
            loop.add_writer(self._descriptor, self._write)
        else:
            loop.remove_writer(self._descriptor)


def _obstacle(name: str, culprit: str, statuses: Mapping[str, Status]) -> str:
    """Why a process cannot come up any more, and which one is to blame for that."""
    obstacle = find(Goal.UP_IN_THE_END, 0, statuses.get(culprit)).obstacle
    if culprit == name:
        return f"{name} is not up: {obstacle}"
    if obstacle is None:
        # It has ended well, where something else was expected of it.
        obstacle = with_reason(statuses[culprit].state, statuses[culprit].reason)
    return f"{culprit} is not up: {obstacle}; so {name} was not started"


def last_lines(process: Process, history: History, text: Format) -> bytes:
    """What a process has written last, as it would have been shown; of a detached one the log file knows that."""
    outputs: Iterable[Notice]
    if process.log is None or not process.detached:
        outputs = history.tail({process.name}, LAST_LINES).notices
    else:
        from procreaper.output.log_tail import RotatedLog

        outputs = []
        with suppress(OSError), RotatedLog(process.log.path) as tail:
            outputs = [Output(LONG_AGO, process.name, data) for data in tail.last_lines(LAST_LINES)]
    return b"".join(text.render(output) for output in outputs if isinstance(output, Output)) + text.finish()


class _Complaints(io.RawIOBase):
    """What is written to a standard error that nobody can see is said by the app, a message for each line."""

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


def _give_up(streams: Collection[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in streams:
        os.dup2(null, stream)
    os.close(null)


def _encode(report: dict[str, Any]) -> bytes:
    import json

    return json.dumps(report).encode() + b"\n"
