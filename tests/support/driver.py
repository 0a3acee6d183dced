"""Drive the program as a user does: start it, read its output, send it signals, wait for its end.

Rules: a test waits for events, never for time. Every wait has the same generous limit, which a loaded machine does not
reach, and which ends a test that hangs.
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
# Runs statements, then the program with the arguments after the word `procreaper`.
ALTERED = """
import sys
{0}
from procreaper.__main__ import main
sys.argv[1:] = sys.argv[sys.argv.index("procreaper") + 1:]
main()
"""
# Variables of the developer that would change the output.
UNWANTED = ("FORCE_COLOR", "NO_COLOR", "PORT", "PROCFILE", "PS", "PYTHONUNBUFFERED", "PYTHONIOENCODING")
# Makes the terminal at its standard input the controlling terminal, as in a shell, and becomes the program.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


# Prints the name of each signal, and exits with 7 at the first one that is not among its arguments. Unlike a shell, it
# loses no signal that arrives just before it waits.
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
    """A wrapper for the program that runs these statements first, for example to shorten a time that has no setting."""
    return (sys.executable, "-W", "error", "-c", ALTERED.format(statements))


# Counts no process as up that is going to fail, however slow the machine is.
DOUBTFUL = altered("from procreaper.core import outcome; outcome.CONFIRMED_AFTER = 30.0")


class Result(NamedTuple):
    """The exit code of a run of the program, and its output."""

    code: int
    out: str
    err: str

    def lines(self, name: str) -> list[str]:
        """The lines of one process, or of `system`, without time and prefix."""
        return lines_of(self.out, name)


def lines_of(text: str, name: str) -> list[str]:
    return re.findall(rf"^(?:\d\d:\d\d:\d\d )?{re.escape(name)} *\| (.*)$", text, re.MULTILINE)


class Stream:
    """The reading end of a pipe or a terminal, which a thread reads into memory."""

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
        """Stop reading, and close the descriptor."""
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
                # Linux reports the end of a terminal as EIO.
                data = b""
            with self._changed:
                self._data += data
                self.ended = not data
                self._changed.notify_all()
        os.close(self._descriptor)


class Program:
    """One run of the program, in its own session."""

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
            # Switch off output processing, so that the terminal passes bytes unchanged.
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
        """Read its standard output from now on; before that, its reader stalls."""
        assert self._unread is not None
        self._out = Stream(self._unread, self._changed)
        self._unread = None

    def leave(self) -> None:
        """Close the reading end of its standard output; for a terminal this closes the window."""
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
        """Wait until standard output has `count` matches of the pattern. Return all matches, or those of its group."""
        expression = re.compile(pattern, re.MULTILINE)
        searched = 0

        def happened() -> bool:
            # Search only new output: to search all of it again takes minutes if a flood comes in small pieces.
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
        """Send a signal again and again until the program has ended."""
        while self._process.returncode is None:
            self.send(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        return self.end()

    def wait_for_error(self, text: str) -> None:
        """Wait until standard error contains a text."""
        self._wait(lambda: text in self.err, repr(text))

    def end(self, *, traceback: bool = False) -> Result:
        """Wait for the end of the program and of its output.

        `traceback`: allow one, because Python itself prints one for a Ctrl-C before it runs the program.
        """
        # Wait for the end of the output first, because `wait` with a limit polls.
        self._wait(lambda: self._err.ended and (self._out is None or self._out.ended), "end of its output")
        try:
            code = self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not over after {LIMIT} s\n{self._describe_output()}") from None
        result = Result(code, self.out, self.err)
        assert traceback or "Traceback" not in result.out + result.err, self._describe_output()
        return result

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Result:
        """Send a signal and wait for the end."""
        self.send(number)
        return self.end()

    def clean_up(self) -> None:
        """End the program and close its descriptors, however the test ended."""
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
                assert left > 0, f"no {what} after {LIMIT} s\n{self._describe_output()}"
                self._changed.wait(left)

    def _describe_output(self) -> str:
        return f"--- out\n{self.out[-20_000:]}\n--- err\n{self.err[-20_000:]}"


class Project:
    """A directory with a Procfile, and the programs started in it."""

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
        """Start the program with these arguments. `wrapper` is a command that becomes it."""
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
    """A project in this directory. Afterwards, no process of it may be alive."""
    project = Project(directory)
    yield project
    left = survivors.find()
    survivors.kill()
    project.clean_up()
    assert left == [], left
