"""Standard output as a sink: bounded in bytes, and written by a thread of its own, so that it never blocks the loop.

Rules: nothing is dropped while the output works. Once it is broken (the reader is gone, the disk is full, the terminal
has hung up), everything is dropped, the reason is reported once, and no writer waits for room.

Theory of operation. `accept` renders a notice and appends it to the queue of the `writer`. Its thread takes the whole
queue at a time and writes it with as few calls as the kernel allows. Rendering and writing overlap, because a write
releases the lock of the interpreter.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Collection

from procreaper.core.events import Notice, Output
from procreaper.output.text import Format
from procreaper.output.writer import Writer

HIGH = 1 << 20
# Smaller on a screen, because all queued output is still shown after a Ctrl-C.
HIGH_ON_SCREEN = 1 << 17
# What Linux and macOS accept in one writev (IOV_MAX).
PIECES_AT_ONCE = 1024
# At the end we watch the progress of a slow reader, so the writes must be small enough to show it.
LAST_WRITES = 4096
# A write that is under way shows no progress until it is done, so it may have this many bytes for a slow reader.
MOST_AT_ONCE = 1 << 17
# The reader is gone; on Linux a terminal that hung up says EIO.
NOBODY_READS = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET})


class Terminal:
    """Writes notices to `fd`, as `text` renders them.

    `quiet` has the names of processes whose output is not shown; they may change. `on_room()` and `on_broken(error)`
    are called in the loop that was running when the terminal was made.
    """

    def __init__(
        self,
        fd: int,
        text: Format,
        *,
        quiet: Collection[str] = (),
        high: int = HIGH,
        on_room: Callable[[], None],
        on_broken: Callable[[OSError], None],
    ) -> None:
        self._fd = fd
        self._text = text
        self._quiet = quiet
        self._on_room = on_room
        self._on_broken = on_broken
        self._writer: Writer[bytes] = Writer("terminal-writer", self._write_all, high=high, on_room=on_room)
        self._writer.begin()

    @property
    def lost(self) -> bool:
        """Whether an accepted notice has not come out, or will not."""
        return self._writer.broken or self._writer.waiting > 0

    @property
    def has_room(self) -> bool:
        """Whether no pause is asked for."""
        return self._writer.has_room

    def accept(self, notice: Notice) -> bool:
        """Take the notice; False once the queue holds more than `high` bytes."""
        if isinstance(notice, Output) and notice.name in self._quiet:
            return True
        return self._append(self._text.render(notice))

    async def drain(self, patience: float) -> None:
        """Write the rest. Give up after `patience` seconds without a written byte; `lost` then says so."""
        self._append(self._text.finish())
        await self._writer.drain(patience)

    def abandon(self) -> None:
        """Stop waiting for a reader, even if output is lost: the user insists on the end."""
        self._writer.abandon()

    def _append(self, data: bytes) -> bool:
        return self._writer.append(data, len(data)) if data else True

    def _write_all(self) -> None:
        """The writer thread."""
        try:
            while pieces := self._writer.take(PIECES_AT_ONCE):
                self._write(pieces)
        except OSError as error:
            self._writer.give_up()
            self._writer.call(self._on_broken, error)
            self._writer.call(self._on_room)

    def _write(self, pieces: list[bytes]) -> None:
        views: list[bytes | memoryview] = [*pieces]
        while views:
            some = _first_bytes(views, LAST_WRITES if self._writer.closing else MOST_AT_ONCE)
            try:
                count = os.writev(self._fd, some)
            except BlockingIOError:
                # Another program that shares our standard output has made it non-blocking (node does).
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
                continue
            self._writer.account(count)
            written = 0
            while written < len(views) and count >= len(views[written]):
                count -= len(views[written])
                written += 1
            del views[:written]
            if count:
                views[0] = memoryview(views[0])[count:]


def _first_bytes(views: list[bytes | memoryview], most: int) -> list[bytes | memoryview]:
    """Return the beginning of the data, in as many bytes as one write should have."""
    some: list[bytes | memoryview] = []
    for view in views:
        some.append(view if len(view) <= most else memoryview(view)[:most])
        most -= len(some[-1])
        if not most:
            break
    return some
