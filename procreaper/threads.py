"""Threads, where the system may refuse one: a limit on the processes of a user or of a container counts them too.

Rules: a refusal is an error with a remedy, for the one action that needs the thread. It never ends the app.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from procreaper.errors import ProcreaperError

Result = TypeVar("Result")

HINT = "raise the limit on processes and threads (`ulimit -u`, or that of the container), or on memory (`ulimit -v`)"
# How long threads that have nothing more to do may take to be gone, in seconds.
PATIENCE = 0.5


class NoThreadError(ProcreaperError):
    """The system gives us no thread."""

    def __init__(self, purpose: str) -> None:
        super().__init__(f"the system gives no thread {purpose}", hint=HINT)


def start_thread(function: Callable[[], object], name: str, purpose: str) -> threading.Thread:
    """Call a function in a new daemon thread. Raises NoThreadError, whose message ends with the `purpose`."""
    thread = threading.Thread(target=function, name=name, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        raise NoThreadError(purpose) from error
    return thread


async def run_in_thread(function: Callable[[], Result], purpose: str) -> Result:
    """The result of a function that blocks. Raises NoThreadError.

    When this is cancelled, the thread goes on to the end of the function; the loop and the program do not wait for it.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Result] = loop.create_future()

    def work() -> None:
        try:
            result = function()
        except Exception as error:
            failure = error
            tell(lambda: answer.set_exception(failure))
        else:
            tell(lambda: answer.set_result(result))

    def tell(settle: Callable[[], None]) -> None:
        # RuntimeError: the loop is closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if answer.done() else settle())

    start_thread(work, getattr(function, "__name__", "work"), purpose)
    return await answer


def require_threads(count: int, purpose: str) -> None:
    """Make sure that this many threads can be had at this moment, by starting and ending them. Raises NoThreadError."""
    end, started = threading.Lock(), []
    end.acquire()
    tasks: list[int | None] = []

    def wait() -> None:
        # Nothing but a lock: where memory is short as well, an event could not be waited for.
        with end:
            pass

    try:
        for _ in range(count):
            started.append(start_thread(wait, "probe", purpose))
            tasks.append(started[-1].native_id)
    finally:
        end.release()
        for thread in started:
            thread.join()
    # Python has done with a thread a moment before the system has. Without /proc this is not known.
    limit = time.monotonic() + PATIENCE
    while sys.platform == "linux" and any(os.path.exists(f"/proc/self/task/{task}") for task in tasks):
        if time.monotonic() > limit:
            return
        time.sleep(0)
