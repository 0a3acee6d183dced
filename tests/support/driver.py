"""Drives the program as its user does: starts it, reads what it prints, sends it signals, waits for its end.

Rules: a test waits for events, never for time. Every wait has the same generous limit, which a loaded machine does not
reach, and which ends a test that would hang.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from support.survivors import Survivors

LIMIT = 90.0
# No match of a pattern is longer than this, in bytes.
OVERLAP = 1 << 16
# Columns and lines of a terminal.
WINDOW = (100, 40)
# A warning of the interpreter is a failure here too.
PROGRAM = (sys.executable, "-W", "error", "-m", "procreaper")
PYTHON = f"{shlex.quote(sys.executable)} -S"
# Alters something of ours, then runs the program with the arguments of the one that it stands before.
ALTERED = """
import sys
{0}
from procreaper.__main__ import main
sys.argv[1:] = sys.argv[sys.argv.index("procreaper") + 1:]
main()
"""
# Variables of the one who runs the tests that would change what comes out.
UNWANTED = ("FORCE_COLOR", "NO_COLOR", "PORT", "PROCFILE", "PS", "PYTHONUNBUFFERED", "PYTHONIOENCODING")
# Makes the terminal that is its standard input the controlling one, as that of a shell is, and becomes the program.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


# A program that prints the name of each signal and ends, with 7, at the first that is not among its arguments. A shell
# would lose a signal that arrives just before it waits for something; here they wait for the program.
CATCH = """
import signal, sys
signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
name = "ready"
while name == "ready" or name in sys.argv:
    print(name, flush=True)
    name = signal.Signals(signal.sigwait(signals)).name
print(name)
sys.exit(7)
"""


def altered(statements: str) -> tuple[str, ...]:
    """A wrapper for the program: these statements run first, such as one that shortens a time that nobody can set."""
    return (sys.executable, "-W", "error", "-c", ALTERED.format(statements))


# Does not believe anybody to be up who is going to fail, however slow the machine is.
DOUBTFUL = altered("from procreaper.core import outcome; outcome.CONFIRMED_AFTER = 30.0")


class Result(NamedTuple):
    """How one run of the program ended, and all that it printed."""

    code: int
    out: str
    err: str

    def lines(self, name: str) -> list[str]:
        """What was printed for one process, or for `system`, without time and prefix."""
        return lines_of(self.out, name)


def lines_of(text: str, name: str) -> list[str]:
    return re.findall(rf"^(?:\d\d:\d\d:\d\d )?{re.escape(name)} *\| (.*)$", text, re.MULTILINE)


class Stream:
    """The reading end of a pipe or a terminal, read by a thread of its own into memory."""

    def __init__(self, descriptor: int, changed: threading.Condition) -> None:
        self._descriptor = descriptor
        self._changed = changed
        self._data = bytearray()
        self.ended = False
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def data(self) -> bytes:
        with self._changed:
            return bytes(self._data)

    @property
    def text(self) -> str:
        return self.data.decode(errors="surrogateescape")

    def close(self) -> None:
        """Read no more, and let go of the descriptor."""
        if self._wake >= 0:
            os.write(self._wake, b".")
            self._thread.join()
            os.close(self._wake)
            os.close(self._woken)
            self._wake = -1

    def _read(self) -> None:
        data = b"?"
        while data:
            ready, _, _ = select.select([self._descriptor, self._woken], [], [])
            try:
                data = b"" if self._woken in ready else os.read(self._descriptor, 1 << 20)
            except OSError:
                # On Linux the end of a terminal is an error.
                data = b""
            with self._changed:
                self._data += data
                self.ended = not data
                self._changed.notify_all()
        os.close(self._descriptor)


class Program:
    """One run of the program, in a session of its own."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        terminal: bool = False,
        wrapper: tuple[str, ...] = (),
    ) -> None:
        self._changed = threading.Condition()
        self._out: Stream | None = None
        self._unread: int | None = None
        self.terminal: int | None = None
        command = (*wrapper, *PROGRAM, *arguments)
        inside = -1
        if terminal:
            self.terminal, inside = os.openpty()
            stdin = stdout = inside
            self.resize(*WINDOW)
            # The terminal gives back exactly what was written to it.
            attributes = termios.tcgetattr(inside)
            attributes[1] &= ~termios.OPOST
            termios.tcsetattr(inside, termios.TCSANOW, attributes)
            command = (sys.executable, "-S", "-c", ON_TERMINAL, *command)
        self._process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True
        )
        if self.terminal is not None:
            os.close(inside)
            self._unread = os.dup(self.terminal)
        elif self._process.stdout is not None:
            self._unread = os.dup(self._process.stdout.fileno())
            self._process.stdout.close()
        assert self._process.stderr is not None
        self._err = Stream(os.dup(self._process.stderr.fileno()), self._changed)
        self._process.stderr.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        return "" if self._out is None else self._out.text

    @property
    def data(self) -> bytes:
        return b"" if self._out is None else self._out.data

    @property
    def err(self) -> str:
        return self._err.text

    def read(self) -> None:
        """From now on read its standard output; until then it writes to somebody who does not read."""
        assert self._unread is not None
        self._out = Stream(self._unread, self._changed)
        self._unread = None

    def leave(self) -> None:
        """Go away as the reader of its standard output; of a terminal: close its window."""
        if self._out is not None:
            self._out.close()
        for descriptor in filter(None, (self._unread, self.terminal)):
            os.close(descriptor)
        self._unread = self.terminal = None

    def resize(self, columns: int, lines: int) -> None:
        """Give the window of its terminal this size."""
        assert self.terminal is not None
        termios.tcsetwinsize(self.terminal, (lines, columns))

    def type(self, text: str) -> None:
        """Write to its standard input."""
        if self.terminal is not None:
            os.write(self.terminal, text.encode())
        else:
            assert self._process.stdin is not None
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait_for(self, pattern: str, *, count: int = 1) -> list[str]:
        """Wait until standard output has `count` matches of the pattern; return all matches, or those of its group."""
        expression = re.compile(pattern, re.MULTILINE)
        searched = 0

        def happened() -> bool:
            # To search all output again at each piece of it takes minutes where a flood comes in small pieces.
            nonlocal searched
            data = self.data
            begin = data.rfind(b"\n", 0, max(0, searched - OVERLAP)) + 1
            searched = len(data)
            if begin and not expression.search(data[begin:].decode(errors="surrogateescape")):
                return False
            return len(expression.findall(self.out)) >= count

        self._wait(happened, f"{count} times {pattern!r}")
        return expression.findall(self.out)

    def insist(self, number: signal.Signals) -> Result:
        """Send a signal again and again, as somebody impatient does, until the program has ended."""
        while self._process.returncode is None:
            self.send(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        return self.end()

    def wait_for_error(self, text: str) -> None:
        """Wait until a text was printed on standard error."""
        self._wait(lambda: text in self.err, repr(text))

    def end(self, *, traceback: bool = False) -> Result:
        """Wait for the end of the program, and of all that it prints.

        `traceback`: there may be one, since Python itself prints it for a Ctrl-C before any program of its runs.
        """
        # The end of its output comes first; `wait` with a limit looks for the end of a process by polling.
        self._wait(lambda: self._err.ended and (self._out is None or self._out.ended), "end of its output")
        try:
            code = self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not over after {LIMIT} s\n{self._told()}") from None
        result = Result(code, self.out, self.err)
        assert traceback or "Traceback" not in result.out + result.err, self._stop_reason()
        return result

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Result:
        """Send a signal and wait for the end."""
        self.send(number)
        return self.end()

    def clean_up(self) -> None:
        """Leave nothing behind, however the test ended."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.leave()
        self._err.close()

    def _wait(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT
        with self._changed:
            while not happened():
                left = deadline - time.monotonic()
                assert left > 0, f"no {what} after {LIMIT} s\n{self._told()}"
                self._changed.wait(left)

    def _stop_reason(self) -> str:
        return f"--- out\n{self.out[-20_000:]}\n--- err\n{self.err[-20_000:]}"


class Project:
    """A directory with a Procfile, and the programs that were started in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._programs: list[Program] = []
        unwanted = {*UNWANTED, *(name for name in os.environ if name.startswith("HONCHO_"))}
        self.environment = {name: value for name, value in os.environ.items() if name not in unwanted}

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def procfile(self, **commands: str) -> None:
        self.write("Procfile", "".join(f"{name}: {command}\n" for name, command in commands.items()))

    def python(self, name: str, source: str) -> str:
        """Write a Python program; return the command that runs it."""
        self.write(f"{name}.py", source)
        return f"{PYTHON} {name}.py"

    def begin(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        terminal: bool = False,
        wrapper: tuple[str, ...] = (),
        read: bool = True,
    ) -> Program:
        """Run the program with these arguments; `wrapper` stands before it and becomes it."""
        program = Program(
            arguments,
            cwd=self.path,
            env=self.environment | dict(env or {}),
            stdin=stdin,
            stdout=stdout,
            terminal=terminal,
            wrapper=wrapper,
        )
        self._programs.append(program)
        if read and stdout == subprocess.PIPE:
            program.read()
        return program

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, wrapper: tuple[str, ...] = ()) -> Result:
        """Run the program with these arguments until it ends by itself."""
        return self.begin(*arguments, env=env, wrapper=wrapper).end()

    def clean_up(self) -> None:
        for program in self._programs:
            program.clean_up()


@contextmanager
def project_in(directory: Path, survivors: Survivors) -> Iterator[Project]:
    """A project in this directory; afterwards nothing that it started may be alive."""
    project = Project(directory)
    yield project
    left = survivors.find()
    survivors.kill()
    project.clean_up()
    assert left == [], left
