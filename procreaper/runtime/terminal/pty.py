r"""A terminal of its own for a child: what it writes looks, to it, as if it were shown on a screen.

Rules: knows nothing of who reads it and what is done with that. Its modes are those of any new terminal, because
somebody may come and type: programs that change them (an editor, a prompt that can be edited) change them back to what
they found. So there is a return before the end of each line that comes out; that makes output a quarter slower, and can
be given up for a while (`pass_line_ends`).

Theory of operation. A terminal becomes the *controlling* one of a session (`/dev/tty`, and what decides about Ctrl-C
and SIGWINCH) only by its leader: by an ioctl, for which Python would have to run in the child between fork and exec,
which is slow and not safe beside threads; or by opening it by its name while the session has none. A shell does the
latter before it becomes the command. That costs half a millisecond a child, and works on Linux and macOS alike.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress
from typing import Any

SHELL = "/bin/sh"
# A shell that cannot open the terminal goes on all the same: then it only is not the controlling one.
BECOME = 'command : <>"$1"; shift; exec "$@"'
SMALLEST_COLUMNS = 20
# Indices of what `tcgetattr` returns.
INPUT_MODES, OUTPUT_MODES, LOCAL_MODES = 0, 1, 3
# To erase a character erases all of its bytes; the same on Linux and macOS, but Python has no name for it.
IUTF8 = 0x4000
# Ctrl-Q.
GO_ON = b"\x11"


class Pseudoterminal:
    """One that is open: the child has `its` end as its three streams, and what it writes is read at `ours`.

    Raises OSError where there is none to be had.
    """

    def __init__(self, size: os.terminal_size) -> None:
        self.size = size
        self.ours, self.its = os.openpty()
        try:
            self._name = os.ttyname(self.its)
            modes = termios.tcgetattr(self.its)
            modes[INPUT_MODES] |= IUTF8
            termios.tcsetattr(self.its, termios.TCSANOW, modes)
            self.resize(size)
            os.set_blocking(self.ours, False)
        except BaseException as error:
            os.close(self.ours)
            os.close(self.its)
            if isinstance(error, termios.error):
                raise OSError(*error.args) from error
            raise

    def command(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """What runs `argv` with this as its controlling terminal, in a session that has none yet."""
        return (SHELL, "-c", BECOME, "sh", self._name, *argv)

    def resize(self, size: os.terminal_size) -> None:
        """Give it this size; the kernel tells those who run on it, by SIGWINCH, if that is a new one."""
        columns = max(size.columns, SMALLEST_COLUMNS)
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, columns, 0, 0))

    @property
    def takes_keys(self) -> bool:
        """Whether what runs on it wants every key at once, and so does itself what can be seen of them."""
        return not self._modes()[LOCAL_MODES] & termios.ICANON

    def return_at_line_ends(self) -> bool:
        """From now on each line that ends is followed by one at the left; whether that had to be seen to.

        A program that has taken over the processing of its output sees to it itself.
        """
        modes = self._modes()
        if modes[OUTPUT_MODES] & (termios.OPOST | termios.ONLCR) != termios.OPOST:
            return False
        modes[OUTPUT_MODES] |= termios.ONLCR
        with suppress(termios.error):
            termios.tcsetattr(self.ours, termios.TCSANOW, modes)
        return True

    def pass_line_ends(self) -> None:
        """From now on what is written passes as it is, if what runs here leaves that to the terminal."""
        modes = self._modes()
        returning = termios.OPOST | termios.ONLCR
        if modes[LOCAL_MODES] & termios.ICANON and modes[OUTPUT_MODES] & returning == returning:
            modes[OUTPUT_MODES] &= ~termios.ONLCR
            with suppress(termios.error):
                termios.tcsetattr(self.ours, termios.TCSANOW, modes)

    def go_on(self) -> None:
        """Whoever has stopped its output by Ctrl-S may be gone."""
        if self._modes()[INPUT_MODES] & termios.IXON:
            with suppress(OSError):
                os.write(self.ours, GO_ON)

    def _modes(self) -> list[Any]:
        try:
            return termios.tcgetattr(self.ours)
        except termios.error:
            # Nobody has it open any more.
            return [0] * 7
