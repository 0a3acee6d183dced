"""The terminal that we were started in: its size, and its modes.

Rules: this module never changes the modes, it only restores them.
"""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

STREAMS = (0, 1, 2)
# The size of a terminal that does not report one.
COLUMNS, LINES = 80, 24


def read_terminal_size(descriptor: int, environment: Mapping[str, str], *, margin: int = 0) -> os.terminal_size:
    """Return the size of the terminal at `descriptor`, less `margin` columns.

    Without a terminal, or if it does not know its size, use `COLUMNS` and `LINES`, or else 80 columns and 24 lines.
    """
    try:
        columns, lines = os.get_terminal_size(descriptor)
    except OSError:
        columns = lines = 0
    return os.terminal_size(
        (
            (columns or _parse_size(environment.get("COLUMNS")) or COLUMNS) - margin,
            lines or _parse_size(environment.get("LINES")) or LINES,
        )
    )


@contextmanager
def preserve_modes() -> Iterator[None]:
    """Restore the modes of the terminal at the end of the block, because a child that shares it may change them.

    A child may also make our streams non-blocking, as node does. The shell shares these streams, so restore that too.
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
            # The stream may be closed.
            with suppress(OSError):
                os.set_blocking(stream, True)
        if descriptor is not None and before is not None:
            # The terminal may have hung up.
            with suppress(OSError, termios.error):
                _restore_modes(descriptor, before)


def _restore_modes(descriptor: int, modes: list[int | list[bytes | int]]) -> None:
    # In the background, the modes belong to the program in the foreground.
    if os.tcgetpgrp(descriptor) != os.getpgrp() or termios.tcgetattr(descriptor) == modes:
        return
    # Without this, a move to the background at this very moment would suspend us.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, modes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _parse_size(text: str | None) -> int:
    # The kernel stores a size in 16 bits.
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 5 else 0
