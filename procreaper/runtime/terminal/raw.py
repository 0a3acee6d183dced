"""Our own terminal while it stands in for the terminal of a process: raw, and restored afterwards.

Rules: whatever was shown, and however it ends, the terminal gets its former modes back: those of its driver, and those
that the shown output has set (`modes`). This module attaches no meaning to the keys that are typed.
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
# Signals from other programs that terminate us: in raw mode, keys send no signals.
TERMINATING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FOLLOWED = (signal.SIGWINCH, signal.SIGCONT)
# Signals from other programs that suspend us: by `kill -TSTP`, and by the shell.
SUSPENDING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
MOST_READ = 1 << 16
# Indices of what `tcgetattr` returns.
INPUT_MODES, OUTPUT_MODES, CONTROL_MODES, LOCAL_MODES, CHARACTERS = 0, 1, 2, 3, 6


class RawTerminal:
    """A context manager that makes the terminal raw: keys are read, and output is shown, without processing."""

    def __init__(self) -> None:
        self._modes = Modes()
        self._at_line_start = True
        self._before: list[Any] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._signal_pipe, self._wakeup = -1, -1
        self._previous_wakeup = -1

    def __enter__(self) -> RawTerminal:
        self._signal_pipe, self._wakeup = os.pipe()
        for descriptor in (self._signal_pipe, self._wakeup):
            os.set_blocking(descriptor, False)
        self._previous_wakeup = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, _ignore) for number in (*TERMINATING, *FOLLOWED, *SUSPENDING)}
        self._before = termios.tcgetattr(KEYBOARD)
        self.make_raw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The terminal may have hung up.
        with suppress(OSError, termios.error):
            self.reset()
        with suppress(OSError, termios.error):
            termios.tcsetattr(KEYBOARD, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._signal_pipe)
        os.close(self._wakeup)

    @property
    def signal_pipe(self) -> int:
        """A descriptor that is readable when `read_signals` has something to return."""
        return self._signal_pipe

    def read_signals(self) -> bytes:
        """Return the numbers of the signals that have arrived, one byte each."""
        with suppress(BlockingIOError):
            return os.read(self._signal_pipe, MOST_READ)
        return b""

    def suspend(self, number: int) -> None:
        """Restore the terminal and suspend this process by a signal; afterwards, enter the modes of the output again.

        The system does not suspend a process whose shell is gone (POSIX: an orphaned group): it goes on at once.
        """
        with suppress(OSError, termios.error):
            self._leave_modes()
            # In the background, the modes belong to the program in the foreground.
            if os.tcgetpgrp(KEYBOARD) == os.getpgrp():
                termios.tcsetattr(KEYBOARD, termios.TCSADRAIN, self._before)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(signal.Signals(number))
        signal.signal(number, _ignore)
        self.make_raw()
        _write(self._modes.enter_sequence())

    def make_raw(self) -> None:
        """Make the terminal raw; also after we were suspended, because another program may have changed its modes.

        In the background this suspends us until we are in the foreground: the default action of SIGTTOU.
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

    def read_keys(self) -> bytes:
        """Return the bytes that were typed; nothing if the terminal has hung up."""
        try:
            return os.read(KEYBOARD, MOST_READ)
        except BlockingIOError:
            return b""
        except OSError:
            return b""

    def show(self, data: bytes) -> None:
        """Show the output of a program."""
        main = self._modes.feed(data).main
        if main:
            self._at_line_start = main.endswith((b"\n", b"\r"))
        _write(data)

    def say(self, text: str) -> None:
        """Show a line of procreaper itself."""
        self.show((b"" if self._at_line_start else b"\r\n") + text.encode(errors="surrogateescape") + b"\r\n")

    def ring_bell(self) -> None:
        """Signal that a key had no effect."""
        _write(b"\a")

    def reset(self) -> None:
        """Enter the default modes, at the beginning of a line: the next output does not depend on the earlier one."""
        self._leave_modes()
        self._modes = Modes()

    def _leave_modes(self) -> None:
        _write(self._modes.leave_sequence() + b"\x1b[m" + (b"" if self._at_line_start else b"\r\n"))
        self._at_line_start = True


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: Python writes the number of the signal to the pipe."""


def _set_modes(modes: list[Any]) -> None:
    while True:
        try:
            return termios.tcsetattr(KEYBOARD, termios.TCSADRAIN, modes)
        except termios.error as error:
            # We were suspended in the background. SIGCONT has a handler, so the system does not repeat the call itself.
            if error.args[0] != errno.EINTR:
                raise


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(SCREEN, view) :]
        except BlockingIOError:
            select.select([], [SCREEN], [])
