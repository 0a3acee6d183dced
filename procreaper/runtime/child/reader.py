"""Reads the output of one run, cuts it into lines, and publishes it.

Rules: reads only while there is room, and never blocks. Of the child it only knows whether it has a terminal.

Theory of operation. `publish` asks for a pause by returning False. Then nothing is read before `resume`, the buffer of
the kernel fills, and the child waits in its write. An unfinished line is held until its rest comes, or until `QUIET`
has passed. A line that stops where a block buffer ends is held for longer, because the buffer has cut it, and not the
program.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from procreaper.core.events import Message, Notice, Output
from procreaper.descriptors import count_readable_bytes
from procreaper.output.lines import Lines

if TYPE_CHECKING:
    from procreaper.runtime.child.console import Console

# A pipe starts with 64 KiB on Linux; one that was found full is worth more memory, and bigger reads.
SMALL_READ = 1 << 16
BIG_READ = 1 << 20
# Linux gives out 4095 bytes of a terminal at once, macOS less; if one read returns this much, there may be more.
TERMINAL_READ = 1000
# The kernel holds no more than this of what was written to a terminal; how much there is, it does not tell.
TERMINAL_HOLDS = 1 << 17
# What is held of an unfinished line is shown after this many seconds of quiet; on a terminal, where it may be a bar
# that moves on and on, after that time in any case.
QUIET = 0.1


class Reader:
    """Reads the output of the process `name` from `descriptor`, and closes that in the end.

    `publish` returns False if nothing more should be read until `resume`; `has_room` says whether it may be read now;
    one read takes `largest_read` bytes at most. `console` sees the output first if it comes from a terminal. `closed()`
    is called when the descriptor has been closed. `read_at` is when it was last read, in seconds of the clock of the
    loop.
    """

    def __init__(
        self,
        name: str,
        descriptor: int,
        *,
        publish: Callable[[Notice], bool],
        has_room: Callable[[], bool],
        largest_read: int,
        console: Console | None = None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._descriptor = descriptor
        self._publish = publish
        self._has_room = has_room
        self._largest_read = largest_read
        self._console = console
        self._closed = closed
        if console is not None:
            console.left = self.flush
        self._told_of_drawing = False
        self._loop = asyncio.get_running_loop()
        self._lines = Lines()
        self._read_size = SMALL_READ
        # When the unfinished line began to be held.
        self._begun_at = 0.0
        self._flush_timer: asyncio.TimerHandle | None = None
        self.read_at = 0.0
        self.paused = False
        self.ended = False

    def begin(self) -> None:
        """Read from now on."""
        if not self.ended:
            self._loop.add_reader(self._descriptor, self._read)

    def resume(self) -> None:
        """Read on after a pause, because there is room again."""
        if self.paused:
            self.paused = False
            self.begin()

    def read_last_words(self) -> None:
        """Read what can be read at this moment, and not what is still being written; room or not."""
        self._read_what_is_there()
        self._take_rest()
        self.flush()

    def _read_what_is_there(self) -> None:
        size = (
            0 if self.ended else TERMINAL_HOLDS if self._console is not None else count_readable_bytes(self._descriptor)
        )
        while size > 0 and not self.ended:
            try:
                data = os.read(self._descriptor, min(size, BIG_READ))
            except OSError:
                return
            if not data:
                return
            size -= len(data)
            self._take(data)

    def flush(self) -> None:
        """Publish the unfinished line that is held."""
        if self._lines.unfinished:
            self._tell(self._lines.flush())

    def close(self) -> None:
        """Read no more."""
        if self.ended:
            return
        self.ended = True
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._loop.remove_reader(self._descriptor)
        if self._console is not None:
            self._console.end()
        os.close(self._descriptor)
        self._closed()
        self._take_rest()
        self.flush()

    def _read(self) -> None:
        if self.ended:
            return
        if not self._has_room():
            # Others have filled the output in this round; a hundred big reads more would be a hundred megabytes.
            self._pause()
            return
        self.read_at = self._loop.time()
        try:
            data = self._read_once()
        except BlockingIOError:
            return
        except OSError:
            # Linux reports the end of a pseudo-terminal as EIO; a pipe cannot fail so.
            data = b""
        if not data:
            self.close()
            return
        if len(data) >= SMALL_READ and self._read_size < self._largest_read and self._console is None:
            self._read_size = self._largest_read
            _enlarge(self._descriptor)
        self._take(data)

    def _read_once(self) -> bytes:
        data = os.read(self._descriptor, self._read_size)
        if self._console is None or len(data) < TERMINAL_READ:
            return data
        pieces, size = [data], len(data)
        # The next read finds the end again.
        with suppress(OSError):
            while size < SMALL_READ and (data := os.read(self._descriptor, self._read_size)):
                pieces.append(data)
                size += len(data)
        return b"".join(pieces)

    def _take(self, data: bytes) -> None:
        if self._console is not None:
            data = self._console.take(data)
            if self._console.alternate and not (self._console.attended or self._told_of_drawing):
                self._told_of_drawing = True
                text = f"{self._name} draws on the whole screen: `procreaper attach {self._name}` shows it"
                self._publish(Message(time.time(), text))
        if data:
            self._take_lines(data)

    def _take_rest(self) -> None:
        if self._console is not None and (data := self._console.take_rest()):
            self._take_lines(data)

    def _take_lines(self, data: bytes) -> None:
        goes_on = self._lines.unfinished
        whole = self._lines.feed(data)
        if whole or not goes_on:
            self._begun_at = self.read_at
        if whole:
            # A terminal has put a return before the end of each line that it was given.
            self._tell(whole if self._console is None else whole.replace(b"\r\n", b"\n"))
        if self._lines.unfinished and self._flush_timer is None:
            self._flush_timer = self._loop.call_later(QUIET, self._flush_when_quiet)

    def _tell(self, data: bytes) -> None:
        if not self._publish(Output(time.time(), self._name, data)):
            self._pause()

    def _pause(self) -> None:
        self.paused = True
        if not self.ended:
            self._loop.remove_reader(self._descriptor)

    def _flush_when_quiet(self) -> None:
        self._flush_timer = None
        if not self._lines.unfinished or self._lines.cut_by_a_buffer:
            return
        if self._console is not None and self._console.attended:
            # An attached client already sees the line, and perhaps types it. All others see the finished line.
            return
        quiet_until = (self.read_at if self._console is None else self._begun_at) + QUIET
        if self.paused or self._loop.time() < quiet_until:
            when = self._loop.time() + QUIET if self.paused else quiet_until
            self._flush_timer = self._loop.call_at(when, self._flush_when_quiet)
            return
        self._tell(self._lines.flush())


def _enlarge(pipe: int) -> None:
    if sys.platform == "linux":
        # EPERM: this user's share of memory for pipes is used up; a small pipe is only slower.
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, BIG_READ)
