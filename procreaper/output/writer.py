"""A thread that writes items from a queue. The queue is bounded in bytes, so that its producers can be paused.

Rules: the loop's thread never waits here. What is written, and how, is given as a function.

Theory of operation. `append` asks for a pause beyond `high` bytes; when the thread has brought the queue down to a
quarter of that, `on_room` is called in the loop. Both thresholds bound the memory; their distance makes pausing rare.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Writer(Generic[Item]):
    """Runs `write_all`, which takes items until nothing is left, in a thread called `name`.

    `on_room()` is called in the loop that was running when this was made. `waiting` is the number of bytes in the
    queue; `closing` says that nothing more will come.
    """

    def __init__(self, name: str, write_all: Callable[[], None], *, high: int, on_room: Callable[[], None]) -> None:
        self._write_all = write_all
        self._high = high
        self._low = high // 4
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Item] = deque()
        self._changed = threading.Condition(threading.Lock())
        # All below are guarded by `_changed`.
        self.waiting = 0
        self.written = 0
        self.full = False
        self.closing = False
        self.broken = False
        self._done = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def begin(self) -> None:
        """Start the thread. Raises NoThreadError."""
        try:
            self._thread.start()
        except RuntimeError as error:
            # Imported here, because it takes time before the first child starts.
            from procreaper.threads import NoThreadError

            raise NoThreadError("for writing the output") from error

    @property
    def has_room(self) -> bool:
        """Whether no pause is asked for."""
        return not self.full or self.broken

    def append(self, item: Item, size: int) -> bool:
        """Put an item of `size` bytes into the queue. Return False if the queue then holds more than `high` bytes."""
        with self._changed:
            if self.broken:
                return True
            self._queue.append(item)
            if len(self._queue) == 1:
                self._changed.notify()
            self.waiting += size
            if self.waiting > self._high:
                self.full = True
            return not self.full

    async def drain(self, patience: float) -> bool:
        """Write the rest, then end the thread. Give up after `patience` seconds without a written byte.

        Return whether all was written. A thread that is given up stays in its blocked write, because that cannot be
        interrupted; as a daemon thread it does not keep the program alive.
        """
        with self._changed:
            self.closing = True
            self._changed.notify()
        before = -1
        while not self._done.is_set() and before != self.written:
            before = self.written
            try:
                async with asyncio.timeout(patience):
                    await self._done.wait()
            except TimeoutError:
                continue
        return self._done.is_set()

    def abandon(self) -> None:
        """Stop waiting, even if output is lost: the user insists on the end."""
        self._done.set()

    # For the thread.

    def take(self, most: int | None = None) -> list[Item]:
        """Take all waiting items, up to `most` of them; an empty result comes only at the end."""
        with self._changed:
            while not self._queue and not self.closing:
                self._changed.wait()
            count = len(self._queue)
            return [self._queue.popleft() for _ in range(count if most is None else min(count, most))]

    def account(self, count: int) -> None:
        """Note that `count` bytes have been written or dropped."""
        with self._changed:
            self.waiting -= count
            self.written += count
            has_room = self.full and self.waiting <= self._low
            if has_room:
                self.full = False
        if has_room:
            self.call(self._on_room)

    def give_up(self) -> None:
        """Drop the waiting items and all later ones, because nothing can be written any more."""
        with self._changed:
            self.broken = True
            self._queue.clear()

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function in the loop."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop is closed: `drain` gave up on us before the write came back.
            return

    def _run(self) -> None:
        self._write_all()
        self.call(self._done.set)
