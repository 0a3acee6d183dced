"""Threads, when the system starts them and when it refuses to."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable

import pytest

from procreaper.threads import NoThreadError, require_threads, run_in_thread, start_thread


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the system refuse every thread from number `number` on."""
    start_thread, started = threading.Thread.start, 0

    def refuse(number: int) -> None:
        def start_some(thread: threading.Thread) -> None:
            nonlocal started
            started += 1
            if started >= number:
                raise RuntimeError("can't start new thread")
            start_thread(thread)

        monkeypatch.setattr(threading.Thread, "start", start_some)

    return refuse


def test_refused_thread_raises_an_error_with_purpose_and_remedy(refuse: Callable[[int], None]) -> None:
    refuse(1)
    with pytest.raises(NoThreadError) as caught:
        start_thread(lambda: None, "test", "for this")
    assert caught.value.message == "the system gives no thread for this"
    assert "ulimit -u" in (caught.value.hint or "")
    with pytest.raises(NoThreadError):
        asyncio.run(run_in_thread(lambda: None, "for this"))


def test_in_thread_returns_the_result_or_raises_the_error() -> None:
    def fail() -> None:
        raise KeyError("key")

    async def main() -> None:
        assert await run_in_thread(threading.get_ident, "for this") != threading.get_ident()
        with pytest.raises(KeyError):
            await run_in_thread(fail, "for this")

    asyncio.run(main())


def test_cancelled_function_continues_and_its_result_is_dropped() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait()
        ended.set()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await run_in_thread(work, "for this")
        go_on.set()
        while not ended.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())


def test_required_threads_end_again(refuse: Callable[[int], None]) -> None:
    before = threading.active_count()
    refuse(6)
    require_threads(3, "for this")
    assert threading.active_count() == before
    with pytest.raises(NoThreadError):
        require_threads(3, "for this")
    assert threading.active_count() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the threads of a process")
def test_required_threads_are_gone_from_the_system() -> None:
    before = len(os.listdir("/proc/self/task"))
    require_threads(8, "for this")
    assert len(os.listdir("/proc/self/task")) == before
