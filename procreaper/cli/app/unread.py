"""Warn once that no process reads the text typed into the terminal of `start`.

Rules: this module reads nothing, so it takes no input from a program that does. It watches the terminal only while
procreaper is in the foreground: text that is typed while a shell has the terminal is for the shell.

Theory of operation. A terminal becomes readable at the end of a line. Each process has its own terminal, so no process
reads that line, and the first line is enough for the warning. Text that is readable before the watch starts was typed
for another program. After Ctrl-Z or `&` the shell reads single keys, and each would wake procreaper; so the watch ends.
It starts again at SIGCONT, which `fg` sends to a suspended app. An app that already runs in the background gets no
signal at `fg`, so it prints no warning.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

from procreaper.cli.app.signals import use_large_pipe

KEYS = 0


def watch_typing(tell: Callable[[], None]) -> None:
    """Call `tell` once in the running loop when a line is typed at standard input, if that is a terminal."""
    if os.isatty(KEYS):
        _Watcher(tell).start()


class _Watcher:
    def __init__(self, tell: Callable[[], None]) -> None:
        self._callback = tell
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        self._loop.add_signal_handler(signal.SIGCONT, self._start_watching)
        use_large_pipe()
        self._start_watching()

    def _start_watching(self) -> None:
        self._loop.remove_reader(KEYS)
        if not _is_in_foreground():
            return
        ready, _, _ = select.select([KEYS], [], [], 0)
        if not ready:
            # Some systems cannot poll every kind of terminal.
            with suppress(OSError):
                self._loop.add_reader(KEYS, self._on_input)

    def _on_input(self) -> None:
        self._loop.remove_reader(KEYS)
        if _is_in_foreground():
            self._loop.remove_signal_handler(signal.SIGCONT)
            self._callback()


def _is_in_foreground() -> bool:
    try:
        return os.tcgetpgrp(KEYS) == os.getpgrp()
    except OSError:
        # The terminal has hung up, or belongs to another session.
        return False
