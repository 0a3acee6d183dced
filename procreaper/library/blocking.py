"""A reaper for programs without asyncio: it runs in the event loop of its own thread, and its methods block.

Rules: the rules of `library.reaper` hold here too. This module decides nothing; it passes each call to a `Reaper` in
the thread. Calls may come from any other thread.
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

# Seconds between two checks of a waiting call. A Ctrl-C that arrives just before the wait begins does not interrupt the
# wait.
CHECK_INTERVAL = 0.5


class BlockingReaper:
    """The result of ``with Reaper([...]) as reaper:``: the methods of `Reaper`, which block instead of being awaited.

    Each method raises UsageError outside the `with` block, and in the thread of the reaper itself (for example in
    `on_output`), where it would wait for itself. Ctrl-C during a call raises KeyboardInterrupt and cancels the wait.

    >>> with Reaper([Process("redis", ["redis-server"])]) as reaper:  # doctest: +SKIP
    ...     reaper.ready(timeout=10)
    """

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._entered = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._leave: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="procreaper", daemon=True)

    def status(self) -> tuple[Status, ...]:
        """Return the status of all processes at one moment. This also works after the block has ended."""
        if not self._thread.is_alive():
            return self._reaper.status()
        return self._call(lambda: _as_coroutine(self._reaper.status))

    def ready(self, *names: str, timeout: float | None = None) -> None:
        """Wait until these processes (default: all that start on their own) are up, as `Reaper.ready` does."""
        self._call(lambda: self._reaper.ready(*names, timeout=timeout))

    def start(self, *names: str) -> None:
        """Start these processes and wait until they are up, as `Reaper.start` does."""
        self._call(lambda: self._reaper.start(*names))

    def stop(self, *names: str) -> None:
        """Stop these processes and wait until no child of them is left, as `Reaper.stop` does."""
        self._call(lambda: self._reaper.stop(*names))

    def restart(self, *names: str) -> None:
        """Start a new run of each of these processes and wait until they are up, as `Reaper.restart` does."""
        self._call(lambda: self._reaper.restart(*names))

    def wait(self, *names: str) -> tuple[Status, ...]:
        """Wait until these processes have ended and will not restart, as `Reaper.wait` does. Returns their final
        status.
        """
        return self._call(lambda: self._reaper.wait(*names))

    def subscribe(self) -> BlockingSubscription:
        """Return a subscription to all notices from now on, as `Reaper.subscribe` does.

        Iterate over it with a plain ``for``.
        """
        return BlockingSubscription(self._call(lambda: _as_coroutine(self._reaper.subscribe)), self._call)

    def collector(self) -> Collector:
        """Return a collector of metrics, as `Reaper.collector` does.

        To count from the start, call `Reaper.collector` before entering the block.
        """
        if not self._thread.is_alive():
            return self._reaper.collector()
        return self._call(lambda: _as_coroutine(self._reaper.collector))

    def begin(self) -> None:
        """Start the thread and the processes; the `with` statement calls this.

        Raises what entering a `Reaper` raises.
        """
        self._thread.start()
        while not self._entered.wait(CHECK_INTERVAL):
            continue
        if self._error is not None:
            self._thread.join()
            raise self._error

    def end(self) -> None:
        """Stop all processes and wait for their end; the `with` statement calls this.

        Ctrl-C meanwhile kills them, and KeyboardInterrupt is raised at the end.
        """
        interrupt: KeyboardInterrupt | None = None
        self._in_loop(self._leave_block)
        while self._thread.is_alive():
            try:
                self._thread.join(CHECK_INTERVAL)
            except KeyboardInterrupt as error:
                interrupt = error
                self._in_loop(self._hurry)
        if interrupt is not None:
            raise interrupt
        if self._error is not None and not isinstance(self._error, asyncio.CancelledError):
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._supervise())
        except BaseException as error:
            self._error = error
        self._entered.set()

    async def _supervise(self) -> None:
        self._leave = asyncio.Event()
        self._task = asyncio.current_task()
        async with self._reaper:
            self._loop = asyncio.get_running_loop()
            self._entered.set()
            await self._leave.wait()

    def _leave_block(self) -> None:
        if self._leave is not None:
            self._leave.set()

    def _hurry(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _in_loop(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(function)
            except RuntimeError:
                # The loop was closed after the check.
                return

    def _call(self, make: Callable[[], Coroutine[object, object, Result]]) -> Result:
        if self._loop is None or not self._thread.is_alive():
            raise UsageError("this reaper does not run", hint="use it within its `with` block")
        if threading.current_thread() is self._thread:
            raise UsageError("this call would block the thread of the reaper itself", hint="use another thread")
        future = asyncio.run_coroutine_threadsafe(make(), self._loop)
        try:
            while not future.done():
                futures.wait([future], CHECK_INTERVAL)
            return future.result()
        except BaseException:
            future.cancel()
            raise


class BlockingSubscription:
    """An iterator over notices that blocks until the next one; `snapshot` is the status before the first notice.

    It is also a context manager that closes the subscription.
    """

    def __init__(
        self,
        subscription: Subscription,
        call: Callable[[Callable[[], Coroutine[object, object, Notice | Dropped | None]]], Notice | Dropped | None],
    ) -> None:
        self._subscription = subscription
        self._call = call
        self.snapshot = subscription.snapshot

    def close(self) -> None:
        """End the subscription."""

        async def close() -> None:
            self._subscription.close()

        self._call(close)

    def __iter__(self) -> Iterator[Notice | Dropped]:
        while (notice := self._call(self._next)) is not None:
            yield notice

    async def _next(self) -> Notice | Dropped | None:
        # Not `__anext__` itself: StopAsyncIteration cannot leave a coroutine.
        return await anext(self._subscription, None)

    def __enter__(self) -> BlockingSubscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _as_coroutine(function: Callable[[], Result]) -> Result:
    return function()
