"""A reaper for programs without asyncio: it runs in the loop of a thread of its own, and calls to it block.

Rules: like `library`, of which this is the other side; nothing here decides anything. Calls may come from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from typing import TYPE_CHECKING, TypeVar

from procreaper.core.events import Notice
from procreaper.core.status import Status
from procreaper.errors import UsageError
from procreaper.output.subscription import Dropped, Subscription

if TYPE_CHECKING:
    from procreaper.library.reaper import Reaper
    from procreaper.remote.metrics.collector import Collector

Result = TypeVar("Result")

# Seconds after which a wait for a lock checks for signals: a Ctrl-C just before the wait does not wake it.
LOOK_UP = 0.5


class BlockingReaper:
    """What ``with Reaper([...]) as reaper:`` gives: the methods of `Reaper`, which block instead of being awaited."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: asyncio.Task[None] | None = None
        self._leave: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="procreaper", daemon=True)

    def status(self) -> tuple[Status, ...]:
        """What every process is doing, all at the same moment; also tells after the end."""
        if not self._thread.is_alive():
            return self._reaper.status()
        return self._call(lambda: _as_coroutine(self._reaper.status))

    def ready(self, *names: str, timeout: float | None = None) -> None:
        """As `Reaper.ready`."""
        self._call(lambda: self._reaper.ready(*names, timeout=timeout))

    def start(self, *names: str) -> None:
        """As `Reaper.start`."""
        self._call(lambda: self._reaper.start(*names))

    def stop(self, *names: str) -> None:
        """As `Reaper.stop`."""
        self._call(lambda: self._reaper.stop(*names))

    def restart(self, *names: str) -> None:
        """As `Reaper.restart`."""
        self._call(lambda: self._reaper.restart(*names))

    def wait(self, *names: str) -> tuple[Status, ...]:
        """As `Reaper.wait`."""
        return self._call(lambda: self._reaper.wait(*names))

    def subscribe(self) -> BlockingSubscription:
        """As `Reaper.subscribe`; iterate with a plain ``for``."""
        return BlockingSubscription(self._call(lambda: _as_coroutine(self._reaper.subscribe)), self._call)

    def collector(self) -> Collector:
        """As `Reaper.collector`; to count from the beginning, call that one before entering."""
        if not self._thread.is_alive():
            return self._reaper.collector()
        return self._call(lambda: _as_coroutine(self._reaper.collector))

    def begin(self) -> None:
        """Start the thread and, in it, everything. Raises what entering the reaper raises."""
        self._thread.start()
        while not self._begun.wait(LOOK_UP):
            continue
        if self._error is not None:
            self._thread.join()
            raise self._error

    def end(self) -> None:
        """Stop everything and wait for it. A Ctrl-C meanwhile makes it quick, and is raised at the end."""
        interrupt: KeyboardInterrupt | None = None
        self._in_loop(self._leave_block)
        while self._thread.is_alive():
            try:
                self._thread.join(LOOK_UP)
            except KeyboardInterrupt as error:
                interrupt = error
                self._in_loop(self._hurry)
        if interrupt is not None:
            raise interrupt
        if self._error is not None and not isinstance(self._error, asyncio.CancelledError):
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            self._error = error
        self._begun.set()

    async def _live(self) -> None:
        self._leave = asyncio.Event()
        self._life = asyncio.current_task()
        async with self._reaper:
            self._loop = asyncio.get_running_loop()
            self._begun.set()
            await self._leave.wait()

    def _leave_block(self) -> None:
        if self._leave is not None:
            self._leave.set()

    def _hurry(self) -> None:
        if self._life is not None:
            self._life.cancel()

    def _in_loop(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(function)
            except RuntimeError:
                # It was closed in between.
                return

    def _call(self, make: Callable[[], Coroutine[object, object, Result]]) -> Result:
        if self._loop is None or not self._thread.is_alive():
            raise UsageError("this reaper does not run", hint="use it within its `with` block")
        if threading.current_thread() is self._thread:
            raise UsageError("a call that blocks, from the thread of the reaper itself", hint="use another thread")
        future = asyncio.run_coroutine_threadsafe(make(), self._loop)
        try:
            while not future.done():
                futures.wait([future], LOOK_UP)
            return future.result()
        except BaseException:
            future.cancel()
            raise


class BlockingSubscription:
    """An iterator over notices that blocks for the next one; `snapshot` is the state before the first."""

    def __init__(
        self,
        subscription: Subscription,
        call: Callable[[Callable[[], Coroutine[object, object, Notice | Dropped | None]]], Notice | Dropped | None],
    ) -> None:
        self._subscription = subscription
        self._call = call
        self.snapshot = subscription.snapshot

    def close(self) -> None:
        """Follow no longer."""

        async def close() -> None:
            self._subscription.close()

        self._call(close)

    def __iter__(self) -> Iterator[Notice | Dropped]:
        while (notice := self._call(self._next)) is not None:
            yield notice

    async def _next(self) -> Notice | Dropped | None:
        # Not `__anext__` as it is: StopAsyncIteration cannot leave a coroutine.
        return await anext(self._subscription, None)

    def __enter__(self) -> BlockingSubscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _as_coroutine(function: Callable[[], Result]) -> Result:
    return function()
