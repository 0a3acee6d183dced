"""A subscriber gets an atomic snapshot, then every notice since, in order.

Rules: a subscriber never delays the app. A slow subscriber loses notices instead: beyond `MOST_BYTES` of output or
`MOST_NOTICES`, new ones are dropped, and a `Dropped` reports their number as soon as there is room again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from procreaper.core.events import Notice, Output
from procreaper.core.status import Status

MOST_BYTES = 4 << 20
MOST_NOTICES = 10_000


class Dropped(NamedTuple):
    """The subscriber was too slow: this many notices and bytes of output are missing here."""

    time: float
    notices: int
    bytes: int


class Subscription:
    """An asynchronous iterator over notices; `snapshot` is the state before the first of them.

    It ends when the reaper ends, or with `close`. Also a context manager that closes it.
    """

    def __init__(self, snapshot: tuple[Status, ...], on_close: Callable[[Subscription], None]) -> None:
        self.snapshot = snapshot
        self._on_close = on_close
        self._queue: deque[Notice | Dropped] = deque()
        self._bytes = 0
        self._lost: Dropped | None = None
        self._arrived = asyncio.Event()
        self._closed = False

    def accept(self, notice: Notice) -> bool:
        """Take a notice from the hub, or drop it."""
        size = len(notice.data) if isinstance(notice, Output) else 0
        if self._lost is not None or self._bytes + size > MOST_BYTES or len(self._queue) >= MOST_NOTICES:
            lost = self._lost or Dropped(time.time(), 0, 0)
            self._lost = lost._replace(notices=lost.notices + 1, bytes=lost.bytes + size)
        else:
            self._bytes += size
            self._queue.append(notice)
        self._arrived.set()
        return True

    def close(self) -> None:
        """Take no more notices. Those that have arrived can still be read."""
        if not self._closed:
            self._closed = True
            self._on_close(self)
            self._arrived.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Notice | Dropped:
        while not self._queue:
            if self._lost is not None:
                lost, self._lost = self._lost, None
                return lost
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        notice = self._queue.popleft()
        if isinstance(notice, Output):
            self._bytes -= len(notice.data)
        return notice

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
