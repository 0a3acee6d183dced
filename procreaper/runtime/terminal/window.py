"""The terminal that we were started in: how large it is, and the modes in which it was.

Rules: its modes are never changed by us, only given back as they were.
"""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

STREAMS = (0, 1, 2)
# What a terminal has that does not say how large it is.
COLUMNS, LINES = 80, 24


def read_terminal_size(descriptor: int, environment: Mapping[str, str], *, margin: int = 0) -> os.terminal_size:
    """The size of the terminal at `descriptor`, `margin` columns less.

    Where there is none, or where it does not know: that of `COLUMNS` and `LINES`, or else 80 columns and 24 lines.
    """
    try:
        columns, lines = os.get_terminal_size(descriptor)
    except OSError:
        columns = lines = 0
    return os.terminal_size(
        (
            (columns or _number(environment.get("COLUMNS")) or COLUMNS) - margin,
            lines or _number(environment.get("LINES")) or LINES,
        )
    )


@contextmanager
def preserve_modes() -> Iterator[None]:
    """In the end, the terminal is in the modes in which it was: a child that shares it may have changed them.

    So may it have made our streams non-blocking, which are those of the shell as well (node does).
    """
    blocking = [stream for stream in STREAMS if os.isatty(stream) and os.get_blocking(stream)]
    descriptor = next((stream for stream in STREAMS if os.isatty(stream)), None)
    try:
        before = None if descriptor is None else termios.tcgetattr(descriptor)
    except termios.error:
        before = None
    try:
        yield
    finally:
        for stream in blocking:
            # It may be closed.
            with suppress(OSError):
                os.set_blocking(stream, True)
        if descriptor is not None and before is not None:
            # It may have hung up.
            with suppress(OSError, termios.error):
                _give_back(descriptor, before)


def _give_back(descriptor: int, modes: list[int | list[bytes | int]]) -> None:
    # In the background they are those of whoever is in the foreground.
    if os.tcgetpgrp(descriptor) != os.getpgrp() or termios.tcgetattr(descriptor) == modes:
        return
    # Who is put into the background at this very moment would be stopped.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, modes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _number(text: str | None) -> int:
    # What the kernel can hold.
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 5 else 0
