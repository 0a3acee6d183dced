r"""A pseudoterminal for a child: to the child, its output seems to go to a screen.

Rules: this module does not know who reads the terminal, or why. The terminal has the modes of any new one, because a
client may attach and type. Programs that change the modes, such as an editor or a prompt that can be edited, restore
those that they found. In these modes each line that comes out ends with a carriage return. That makes output a quarter
slower, and can be turned off for a while (`omit_carriage_returns`).

Theory of operation. The *controlling* terminal of a session is `/dev/tty`, and decides about Ctrl-C and SIGWINCH. Only
the leader of the session can set it, in one of two ways. By an ioctl: then Python must run code in the child between
fork and exec, which is slow, and not safe beside threads. Or by opening a terminal by its name while the session has
none: a shell does this before it becomes the command. That costs half a millisecond for each child, and works on Linux
and macOS.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress
from typing import Any

SHELL = "/bin/sh"
# If the shell cannot open the terminal, it goes on: the terminal is then only not the controlling one.
TAKE_TERMINAL = 'command : <>"$1"; shift; exec "$@"'
SMALLEST_COLUMNS = 20
# Indices of what `tcgetattr` returns.
INPUT_MODES, OUTPUT_MODES, LOCAL_MODES = 0, 1, 3
# Erasing a character erases all of its bytes. The value is the same on Linux and macOS; Python has no name for it.
IUTF8 = 0x4000
# Ctrl-Q.
RESUME = b"\x11"


class Pseudoterminal:
    """An open pseudoterminal. The child has `child_end` as its three streams; its output is read at `parent_end`.

    Raises OSError if the system gives none.
    """

    def __init__(self, size: os.terminal_size) -> None:
        self.size = size
        self.parent_end, self.child_end = os.openpty()
        try:
            self._name = os.ttyname(self.child_end)
            modes = termios.tcgetattr(self.child_end)
            modes[INPUT_MODES] |= IUTF8
            termios.tcsetattr(self.child_end, termios.TCSANOW, modes)
            self.resize(size)
            os.set_blocking(self.parent_end, False)
        except BaseException as error:
            os.close(self.parent_end)
            os.close(self.child_end)
            if isinstance(error, termios.error):
                raise OSError(*error.args) from error
            raise

    def wrap_command(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that runs `argv` with this controlling terminal, in a session that has none yet."""
        return (SHELL, "-c", TAKE_TERMINAL, "sh", self._name, *argv)

    def resize(self, size: os.terminal_size) -> None:
        """Set the size. If it is a new one, the kernel sends SIGWINCH to the programs on the terminal."""
        columns = max(size.columns, SMALLEST_COLUMNS)
        fcntl.ioctl(self.parent_end, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, columns, 0, 0))

    @property
    def takes_keys(self) -> bool:
        """Whether the program on it reads single keys, not lines. Such a program echoes and edits the input itself."""
        return not self._modes()[LOCAL_MODES] & termios.ICANON

    def add_carriage_returns(self) -> bool:
        """From now on, end each line of output with a carriage return. Return whether this was a change.

        A program that processes its output itself keeps its modes.
        """
        modes = self._modes()
        if modes[OUTPUT_MODES] & (termios.OPOST | termios.ONLCR) != termios.OPOST:
            return False
        modes[OUTPUT_MODES] |= termios.ONLCR
        with suppress(termios.error):
            termios.tcsetattr(self.parent_end, termios.TCSANOW, modes)
        return True

    def omit_carriage_returns(self) -> None:
        """From now on, pass output unchanged, unless the program has modes of its own."""
        modes = self._modes()
        translating = termios.OPOST | termios.ONLCR
        if modes[LOCAL_MODES] & termios.ICANON and modes[OUTPUT_MODES] & translating == translating:
            modes[OUTPUT_MODES] &= ~termios.ONLCR
            with suppress(termios.error):
                termios.tcsetattr(self.parent_end, termios.TCSANOW, modes)

    def resume_output(self) -> None:
        """Resume output that was stopped by Ctrl-S: the client that typed it may have left."""
        if self._modes()[INPUT_MODES] & termios.IXON:
            with suppress(OSError):
                os.write(self.parent_end, RESUME)

    def _modes(self) -> list[Any]:
        try:
            return termios.tcgetattr(self.parent_end)
        except termios.error:
            # No program has the terminal open any more.
            return [0] * 7
