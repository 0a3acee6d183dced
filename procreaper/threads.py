"""Start threads, which the system may refuse: a limit on the processes of a user or a container counts threads too.

Rules: a refusal is an error with a remedy. It concerns only the action that needs the thread, and never ends the app.
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
# How long to wait for the system to remove threads that have ended, in seconds.
PATIENCE = 0.5


class NoThreadError(ProcreaperError):
    """The system refuses to start a thread."""

    def __init__(self, purpose: str) -> None:
        super().__init__(f"the system gives no thread {purpose}", hint=HINT)


def start_thread(function: Callable[[], object], name: str, purpose: str) -> threading.Thread:
    """Call a function in a new daemon thread. Raises NoThreadError with a message that ends with `purpose`."""
    thread = threading.Thread(target=function, name=name, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        raise NoThreadError(purpose) from error
    return thread


async def run_in_thread(function: Callable[[], Result], purpose: str) -> Result:
    """Call a blocking function in a thread and return its result. Raises NoThreadError.

    After a cancellation the thread runs to the end of the function. Neither the loop nor the program waits for it.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Result] = loop.create_future()

    def work() -> None:
        try:
            result = function()
        except Exception as error:
            failure = error
            settle(lambda: answer.set_exception(failure))
        else:
            settle(lambda: answer.set_result(result))

    def settle(set_answer: Callable[[], None]) -> None:
        # RuntimeError: the loop is closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if answer.done() else set_answer())

    start_thread(work, getattr(function, "__name__", "work"), purpose)
    return await answer


def require_threads(count: int, purpose: str) -> None:
    """Check that this many threads can start now, by starting and ending them. Raises NoThreadError."""
    end, started = threading.Lock(), []
    end.acquire()
    tasks: list[int | None] = []

    def wait() -> None:
        # Only a lock: if memory is short as well, waiting for an event fails.
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
    # For Python, a thread ends a moment earlier than for the system. Without /proc this cannot be seen.
    limit = time.monotonic() + PATIENCE
    while sys.platform == "linux" and any(os.path.exists(f"/proc/self/task/{task}") for task in tasks):
        if time.monotonic() > limit:
            return
        time.sleep(0)
