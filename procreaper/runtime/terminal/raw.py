"""This terminal while it stands for another one: raw, its size followed, and given back as it was.

Rules: whatever was shown and however it ends, the modes that it had before are given back: those of its driver, and
those that were brought about by what was shown (`modes`). Nothing that is typed has a meaning here.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from procreaper.runtime.terminal.modes import Modes

KEYBOARD, SCREEN = 0, 1
# What ends us, from outside: keys send no signals here.
TERMINATING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FOLLOWED = (signal.SIGWINCH, signal.SIGCONT)
# What stops us, from outside: `kill -TSTP`, and the shell.
SUSPENDING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
MOST_READ = 1 << 16
# Indices of what `tcgetattr` returns.
INPUT_MODES, OUTPUT_MODES, CONTROL_MODES, LOCAL_MODES, CHARACTERS = 0, 1, 2, 3, 6


class RawTerminal:
    """A context manager; inside, what is typed is read as it is, and what is shown is shown as it is."""

    def __init__(self) -> None:
        self._modes = Modes()
        self._at_left = True
        self._before: list[Any] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._woken, self._wake = -1, -1
        self._previous_wake = -1

    def __enter__(self) -> RawTerminal:
        self._woken, self._wake = os.pipe()
        for descriptor in (self._woken, self._wake):
            os.set_blocking(descriptor, False)
        self._previous_wake = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, _note) for number in (*TERMINATING, *FOLLOWED, *SUSPENDING)}
        self._before = termios.tcgetattr(KEYBOARD)
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It may have hung up.
        with suppress(OSError, termios.error):
            self.begin_anew()
        with suppress(OSError, termios.error):
            termios.tcsetattr(KEYBOARD, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wake)
        os.close(self._woken)
        os.close(self._wake)

    @property
    def woken(self) -> int:
        """What can be read when there are `signals`."""
        return self._woken

    def signals(self) -> bytes:
        """The numbers of the signals that have come, a byte each."""
        with suppress(BlockingIOError):
            return os.read(self._woken, MOST_READ)
        return b""

    def stop(self, number: int) -> None:
        """Give the terminal back, and stop as this signal asks; what was shown is entered again when we go on.

        The system stops no process whose shell is gone (an orphaned group, POSIX): that one goes on at once.
        """
        with suppress(OSError, termios.error):
            self._leave_modes()
            # From the background the modes are not ours to change.
            if os.tcgetpgrp(KEYBOARD) == os.getpgrp():
                termios.tcsetattr(KEYBOARD, termios.TCSADRAIN, self._before)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(signal.Signals(number))
        signal.signal(number, _note)
        self.take()
        _write(self._modes.entering())

    def take(self) -> None:
        """Make it raw; also after we were stopped, when another program has had it.

        In the background this stops us until we are in the foreground, as the default of SIGTTOU has it.
        """
        modes = [*self._before]
        modes[CHARACTERS] = [*modes[CHARACTERS]]
        modes[INPUT_MODES] &= ~(
            termios.BRKINT | termios.ICRNL | termios.IGNCR | termios.INLCR | termios.ISTRIP | termios.IXON
        )
        modes[OUTPUT_MODES] &= ~termios.OPOST
        modes[CONTROL_MODES] = modes[CONTROL_MODES] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        modes[LOCAL_MODES] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
        modes[CHARACTERS][termios.VMIN], modes[CHARACTERS][termios.VTIME] = 1, 0
        handler = signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        try:
            _set_modes(modes)
        finally:
            signal.signal(signal.SIGTTOU, handler)

    def read(self) -> bytes:
        """What was typed; nothing where nobody can type any more."""
        try:
            return os.read(KEYBOARD, MOST_READ)
        except BlockingIOError:
            return b""
        except OSError:
            return b""

    def show(self, data: bytes) -> None:
        """Show what a program has written to its terminal."""
        main = self._modes.feed(data).main
        if main:
            self._at_left = main.endswith((b"\n", b"\r"))
        _write(data)

    def say(self, text: str) -> None:
        """Show a line of ours."""
        self.show((b"" if self._at_left else b"\r\n") + text.encode(errors="surrogateescape") + b"\r\n")

    def ring(self) -> None:
        """Something that was typed was in vain."""
        _write(b"\a")

    def begin_anew(self) -> None:
        """Bring the usual modes and the beginning of a line: what comes next knows nothing of what was before."""
        self._leave_modes()
        self._modes = Modes()

    def _leave_modes(self) -> None:
        _write(self._modes.leaving() + b"\x1b[m" + (b"" if self._at_left else b"\r\n"))
        self._at_left = True


def _note(number: int, frame: FrameType | None) -> None:
    """The number is in the pipe already."""


def _set_modes(modes: list[Any]) -> None:
    while True:
        try:
            return termios.tcsetattr(KEYBOARD, termios.TCSADRAIN, modes)
        except termios.error as error:
            # Continued after a stop in the background: SIGCONT has a handler, so the system does not try again itself.
            if error.args[0] != errno.EINTR:
                raise


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(SCREEN, view) :]
        except BlockingIOError:
            select.select([], [SCREEN], [])
