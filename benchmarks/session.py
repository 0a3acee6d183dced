"""One run of one manager: spawned into a sink, with a gate for its children, and always ended."""

import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import processes
from peers import Peer
from sinks import FileSink, PipeSink, Sink, TerminalSink, discard

PRODUCER = Path(__file__).with_name("producer.py")
READY_SECONDS = 20.0
CHILDREN_SECONDS = 0.3


class SampleError(Exception):
    """A manager failed in this run, so there is no sample."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `SampleError` in the block when the time is over, even while it waits."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise SampleError(f"no end within {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@dataclass(frozen=True, slots=True)
class Ended:
    """The effect of SIGTERM: seconds until the manager and the last child ended, or None if they did not."""

    manager: float | None
    children: float | None
    left: int


class Session:
    """A manager with its children, in its own directory and session. Leaving the context ends and removes all.

    Add the children before you enter it. Producers wait until `open_gate`.
    """

    def __init__(self, peer: Peer, sink: str = "pipe") -> None:
        self.peer = peer
        self.directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self.commands: dict[str, str] = {}
        self.spawned = 0.0
        self._kind = "terminal" if peer.needs_terminal else sink
        self._gate: int | None = None
        self._ready = -1

    def add_producer(self, name: str, kind: str, amount: int) -> None:
        """Add a process that runs `producer.py`."""
        arguments = [sys.executable, "-I", "-S", str(PRODUCER), str(self.directory), name, kind, str(amount)]
        self.commands[name] = f"exec {shlex.join(arguments)}"

    def add_sleepers(self, count: int, *, through_output: bool = False) -> None:
        """Add processes that report that they are ready, through their output or through a pipe, and then sleep.

        The quotes in the command distinguish a manager that prints the command from a child that runs it.
        """
        target = "" if through_output else f" >{shlex.quote(str(self.directory / 'ready'))}"
        for number in range(1, count + 1):
            self.commands[f"p{number:02}"] = f"echo benchmark-''ready{target}; exec sleep 1000"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        for name in ("ready", "gate"):
            os.mkfifo(self.directory / name)
        self._ready = os.open(self.directory / "ready", os.O_RDWR | os.O_NONBLOCK)
        self.sink = self._open_sink()
        arguments = [*self.peer.program, *self.peer.arrange(self.directory, self.commands)]
        terminal = self._kind == "terminal"
        with (self.directory / "errors").open("wb") as errors:
            self.spawned = time.monotonic()
            self.process = subprocess.Popen(
                arguments,
                cwd=self.directory,
                env=self.peer.environment(self.directory),
                stdin=self.sink.writer if terminal else subprocess.DEVNULL,
                stdout=self.sink.writer,
                stderr=self.sink.writer if terminal else errors,
                start_new_session=True,
                preexec_fn=_take_terminal if terminal else None,
            )
        os.close(self.sink.writer)
        self.sink.writer = -1

    def _open_sink(self) -> Sink:
        match self._kind:
            case "pipe":
                return PipeSink()
            case "terminal":
                return TerminalSink()
            case _:
                return FileSink(self.directory / "output")

    def _end(self) -> None:
        processes.end_everything()
        for descriptor in (self._ready, self._gate):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        if hasattr(self, "sink"):
            if self.sink.writer >= 0:
                os.close(self.sink.writer)
            self.sink.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def manager(self) -> int:
        """The process id of the manager itself."""
        return self.process.pid

    def family(self) -> list[int]:
        """Return the process ids of the manager and its helpers."""
        return [self.manager, *processes.helpers(self.manager)]

    def wait_ready(self, limit: float = READY_SECONDS) -> None:
        """Wait until every child has reported through the pipe that it is ready."""
        missing = set(self.commands)
        deadline = time.monotonic() + limit
        count = 0
        poll = select.poll()
        poll.register(self._ready, select.POLLIN)
        while count < len(missing):
            if time.monotonic() > deadline or self.ended():
                raise SampleError(f"{count} of {len(missing)} children came up{self.last_words()}")
            discard(self.sink)
            if poll.poll(50):
                with suppress(BlockingIOError):
                    # A sleeper writes a whole line, a producer one dot.
                    said = os.read(self._ready, 65536)
                    count += said.count(b"benchmark-ready") or said.count(b".")
        discard(self.sink)

    def rest(self, seconds: float) -> None:
        """Let the manager settle, and discard its output meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.ended():
                raise SampleError(f"ended by itself{self.last_words()}")
            discard(self.sink)
            time.sleep(min(0.05, left))

    def open_gate(self) -> float:
        """Start the producers, and return the monotonic time."""
        now = time.monotonic()
        self._gate = os.open(self.directory / "gate", os.O_RDWR)
        return now

    def ended(self) -> bool:
        """Return whether the manager has ended."""
        return self.process.poll() is not None

    def terminate(self, limit: float, *, reading: bool = True) -> Ended:
        """Send SIGTERM to the manager, and wait until it and its children have ended, or the limit is over.

        After the manager has ended, its children get `CHILDREN_SECONDS` more.
        """
        children = processes.children()
        with ExitStack() as stack:
            poll = select.poll()
            waiting: dict[int, int] = {}
            for process in (self.manager, *children):
                with suppress(ProcessLookupError):
                    descriptor = os.pidfd_open(process)
                    stack.callback(os.close, descriptor)
                    waiting[descriptor] = process
                    poll.register(descriptor, select.POLLIN)
            if reading and self.sink.reader is not None:
                poll.register(self.sink.reader, select.POLLIN)
            start = time.monotonic()
            os.kill(self.manager, signal.SIGTERM)
            deadline = start + limit
            manager: float | None = None
            last_child = 0.0
            while waiting and (left := deadline - time.monotonic()) > 0:
                for ready, event in poll.poll(left * 1000):
                    now = time.monotonic()
                    if ready in waiting:
                        poll.unregister(ready)
                        if waiting.pop(ready) != self.manager:
                            last_child = now - start
                            continue
                        manager = now - start
                        deadline = min(deadline, now + CHILDREN_SECONDS)
                        continue
                    discard(self.sink)
                    if event & select.POLLHUP:
                        poll.unregister(ready)
            left_behind = sum(process != self.manager for process in waiting.values())
        return Ended(manager, None if left_behind else last_child, left_behind)

    def last_words(self) -> str:
        """Return the manager's last line on standard error, as the end of a sentence."""
        with suppress(OSError):
            lines = (self.directory / "errors").read_text("utf-8", "replace").strip().splitlines()
            if lines:
                return f": {lines[-1].strip()[:100]}"
        return ""


def _take_terminal() -> None:
    """Make standard input the controlling terminal of the new session."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
