r"""A terminal of its own for a child: what it writes looks, to it, as if it were shown on a screen.

Rules: knows nothing of who reads it and what is done with that. What the child writes passes through unchanged (no
``\r\n`` for ``\n``), and nothing is echoed, because nobody types.

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

SHELL = "/bin/sh"
# A shell that cannot open the terminal goes on all the same: then it only is not the controlling one.
BECOME = 'command : <>"$1"; shift; exec "$@"'
SMALLEST_COLUMNS = 20
# Indices of what `tcgetattr` returns.
OUTPUT_MODES, LOCAL_MODES = 1, 3


class Pseudoterminal:
    """One that is open: the child has `its` end as its three streams, and what it writes is read at `ours`.

    Raises OSError where there is none to be had.
    """

    def __init__(self, size: os.terminal_size) -> None:
        self.ours, self.its = os.openpty()
        try:
            self._name = os.ttyname(self.its)
            modes = termios.tcgetattr(self.its)
            modes[OUTPUT_MODES] &= ~termios.OPOST
            modes[LOCAL_MODES] &= ~termios.ECHO
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
