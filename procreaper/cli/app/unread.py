"""Tell once that no process reads what is typed into the terminal of `start`.

Rules: reads nothing, so that nothing is taken from a program that does read there. It looks only while we are in the
foreground; what is typed while a shell has the terminal is for the shell.

Theory of operation. A terminal can be read once a line has ended. Each process has a terminal of its own, so no one
reads that line, and the first one is enough. Where something can be read before we look, it was typed for others.
After Ctrl-Z or `&` the shell reads single keys, which would wake us for each. We look again at SIGCONT, which `fg`
sends to a suspended app. An app that runs in the background when `fg` comes gets no signal, and tells nothing.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

from procreaper.cli.app.signals import make_room

KEYS = 0


def watch_keys(tell: Callable[[], None]) -> None:
    """Call `tell` in the running loop when a line is typed at standard input; once, and only if that is a terminal."""
    if os.isatty(KEYS):
        _Watcher(tell).begin()


class _Watcher:
    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        self._loop.add_signal_handler(signal.SIGCONT, self._look)
        make_room()
        self._look()

    def _look(self) -> None:
        self._loop.remove_reader(KEYS)
        if not _is_in_foreground():
            return
        ready, _, _ = select.select([KEYS], [], [], 0)
        if not ready:
            # Some systems cannot wait for every kind of terminal.
            with suppress(OSError):
                self._loop.add_reader(KEYS, self._came)

    def _came(self) -> None:
        self._loop.remove_reader(KEYS)
        if _is_in_foreground():
            self._loop.remove_signal_handler(signal.SIGCONT)
            self._tell()


def _is_in_foreground() -> bool:
    try:
        return os.tcgetpgrp(KEYS) == os.getpgrp()
    except OSError:
        # It has hung up, or is not that of our session.
        return False
