"""The program: ``procreaper`` and ``python -m procreaper``."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line and end the process with its exit status."""
    # Until the command installs its own handling, Ctrl-C simply ends us: nothing runs yet, and no traceback is printed.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_standard_streams()
    from procreaper.cli.main import execute

    status = execute(sys.argv[1:])
    # At once, without tearing down the interpreter: that takes ten milliseconds, a writer may be blocked for good, and
    # a late Ctrl-C would find Python's own handler.
    os._exit(status)


def _open_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed; else the next file opened would become our output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    main()
