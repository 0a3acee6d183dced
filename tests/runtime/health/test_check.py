"""One check of any kind: its time limit, a user's own checks, and the cost of the import."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest
from support.checking import LONG, SHORT, TARGET, run_check, run_check_here

from procreaper.core.checks import Health, LogCheck, Target
from procreaper.runtime.child.command import execute
from procreaper.runtime.health import check as health


class Own:
    """A check that runs a given function."""

    def __init__(self, act: Callable[[], Awaitable[object]]) -> None:
        self._act = act

    async def check(self, target: Target) -> None:
        assert target is TARGET
        await self._act()


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


def raising(error: BaseException) -> Own:
    async def act() -> None:
        raise error

    return Own(act)


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_own_check_that_returns_is_healthy() -> None:
    assert run_check(Own(lambda: asyncio.sleep(0))) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("replication is behind"), "replication is behind"),
        (AssertionError(), "AssertionError"),
        (RuntimeError("two\nlines and \x1b[31mred\x1b[0m"), "two lines and red"),
        (TimeoutError("the pool is exhausted"), "the pool is exhausted"),
        (TimeoutError(), "TimeoutError"),
        (ConnectionRefusedError(111, "Connect call failed"), "[Errno 111] Connect call failed"),
        (SystemExit("usage: ..."), "usage: ..."),
        (ExceptionGroup("several", [ValueError("one")]), "several (1 sub-exception)"),
        (UnspeakableError(), "UnspeakableError"),
    ],
)
def test_exception_of_an_own_check_is_the_reason(error: BaseException, reason: str) -> None:
    assert run_check(raising(error)) == reason


def test_endless_check_ends_at_the_timeout() -> None:
    assert run_check(Own(for_ever), timeout=SHORT) == "no answer within 0.2 s"


@pytest.mark.parametrize("error", [RuntimeError("interrupted"), None])
def test_check_that_converts_its_cancellation_is_still_too_late(error: Exception | None) -> None:
    async def act() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            if error is not None:
                raise error from None

    assert run_check(Own(act), timeout=SHORT) == "no answer within 0.2 s"


def test_cancellation_within_a_check_is_a_reason() -> None:
    async def act() -> None:
        inner = asyncio.ensure_future(for_ever())
        inner.cancel()
        await inner

    assert run_check(Own(act)) == "the check was cancelled"


def test_cancellation_of_the_caller_passes_through() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def act() -> None:
            begun.set()
            await for_ever()

        check = asyncio.create_task(run_check_here(Own(act)))
        await begun.wait()
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check

    asyncio.run(main())


def test_check_that_is_not_async_is_only_unhealthy() -> None:
    class NotAsync:
        def check(self, target: Target) -> None:
            return None

    assert "await" in (run_check(NotAsync()) or "")  # type: ignore[arg-type]


def test_log_check_alone_needs_no_check() -> None:
    only_log = Health(log=LogCheck("ready"), timeout=LONG)
    assert asyncio.run(health.run_check(only_log, TARGET, execute=execute)) is None


def test_import_loads_no_kind_of_check() -> None:
    program = "import procreaper.runtime.health.check, sys; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )
    kinds = {f"procreaper.runtime.health.{kind}" for kind in ("tcp", "http", "tls", "exec", "log", "plugins")}
    assert "procreaper.runtime.health.errors" in loaded
    assert loaded.isdisjoint(kinds)


def test_plain_http_check_does_not_import_ssl() -> None:
    # asyncio imports ssl itself; this is about the modules of procreaper.
    program = "import procreaper.runtime.health.http, sys; print('procreaper.runtime.health.tls' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout == b"False\n"
