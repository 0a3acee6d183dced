"""Standard output as a sink: bounded in bytes, written by a thread of its own, so that the loop never blocks on it.

Rules: nothing is dropped while the output works. Once it is broken (the reader went away, the disk is full, the
terminal hung up) everything is dropped, the reason is reported once, and nobody waits for room any more.

Theory of operation. `accept` renders a notice and appends it to the queue; beyond `high` bytes it asks for a pause, and
when the writer has brought the queue down to a quarter of that it calls `on_room` in the loop. The writer takes the
whole queue at a time and writes it with as few calls as the kernel allows; rendering and writing overlap, since writing
lets go of the interpreter's lock. Both thresholds bound the memory; their distance makes pausing rare.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Collection

from procreaper.events import Notice, Output
from procreaper.formats import Format

HIGH = 1 << 20
# On a screen, what has not been shown yet when somebody presses Ctrl-C is still to come.
HIGH_ON_SCREEN = 1 << 17
# What Linux and macOS accept in one writev (IOV_MAX).
PIECES_AT_ONCE = 1024
# At the end the progress of a slow reader is watched, so the writes must be small enough to show it.
LAST_WRITES = 4096
# One that is already under way then shows nothing until it is done: not more than this for a reader that is slow.
MOST_AT_ONCE = 1 << 17
# The reader is gone; on Linux a terminal that hung up says EIO.
READER_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET})


class Terminal:
    """Writes notices to `fd`, as `text` renders them.

    `quiet` names the processes whose output is not shown; they may change. `on_room()` and `on_broken(error)` are
    called in the loop that was running when the terminal was made.
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
        self._high = high
        self._low = high // 4
        self._text = text
        self._quiet = quiet
        self._on_room = on_room
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._queue: deque[bytes] = deque()
        self._changed = threading.Condition(threading.Lock())
        # All below are guarded by `_changed`.
        self._waiting = 0
        self._written = 0
        self._full = False
        self._closing = False
        self._broken = False
        self._done = asyncio.Event()
        self._writer = threading.Thread(target=self._write_all, name="terminal-writer", daemon=True)
        self._writer.start()

    @property
    def lost(self) -> bool:
        """Whether something that was accepted did not, or will not, come out."""
        return self._broken or self._waiting > 0

    @property
    def has_room(self) -> bool:
        """Whether no pause is asked for."""
        return not self._full or self._broken

    def accept(self, notice: Notice) -> bool:
        """Take the notice; False once the queue holds more than `high` bytes."""
        if isinstance(notice, Output) and notice.name in self._quiet:
            return True
        return self._append(self._text.render(notice))

    async def drain(self, patience: float) -> None:
        """Write what is left, then end the writer; give up once no byte has moved for `patience` seconds.

        Whether it was given up is told by `lost`. The writer is then left behind in its blocked write: no thread can be
        called back from there, and as a daemon it does not keep the program alive.
        """
        self._append(self._text.finish())
        with self._changed:
            self._closing = True
            self._changed.notify()
        before = -1
        while not self._done.is_set() and before != self._written:
            before = self._written
            try:
                async with asyncio.timeout(patience):
                    await self._done.wait()
            except TimeoutError:
                continue

    def abandon(self) -> None:
        """Somebody insists on the end: wait no longer for a reader, whatever is lost."""
        self._done.set()

    def _append(self, data: bytes) -> bool:
        if not data:
            return True
        with self._changed:
            if self._broken:
                return True
            self._queue.append(data)
            if not self._waiting:
                self._changed.notify()
            self._waiting += len(data)
            if self._waiting > self._high:
                self._full = True
            return not self._full

    def _write_all(self) -> None:
        """The writer thread."""
        try:
            while pieces := self._take():
                self._write(pieces)
        except OSError as error:
            with self._changed:
                self._broken = True
                self._queue.clear()
            self._call(self._on_broken, error)
            self._call(self._on_room)
        self._call(self._done.set)

    def _take(self) -> list[bytes]:
        """Everything that waits, up to what one call can write; nothing only at the end."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), PIECES_AT_ONCE))]

    def _write(self, pieces: list[bytes]) -> None:
        views: list[bytes | memoryview] = [*pieces]
        while views:
            some = _first_bytes(views, LAST_WRITES if self._closing else MOST_AT_ONCE)
            try:
                count = os.writev(self._fd, some)
            except BlockingIOError:
                # Somebody who shares our standard output has made it non-blocking (node does).
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
                continue
            self._account(count)
            written = 0
            while written < len(views) and count >= len(views[written]):
                count -= len(views[written])
                written += 1
            del views[:written]
            if count:
                views[0] = memoryview(views[0])[count:]

    def _account(self, count: int) -> None:
        with self._changed:
            self._waiting -= count
            self._written += count
            has_room = self._full and self._waiting <= self._low
            if has_room:
                self._full = False
        if has_room:
            self._call(self._on_room)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop is closed: `drain` gave up on us before the reader came back.
            return


def _first_bytes(views: list[bytes | memoryview], most: int) -> list[bytes | memoryview]:
    """The beginning of what is to be written, in as many bytes as one write should have."""
    some: list[bytes | memoryview] = []
    for view in views:
        some.append(view if len(view) <= most else memoryview(view)[:most])
        most -= len(some[-1])
        if not most:
            break
    return some
