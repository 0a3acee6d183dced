"""Runs a test that is a coroutine; what goes wrong in a callback of the loop fails it too."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

LIMIT = 45.0


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        errors: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
            async with asyncio.timeout(LIMIT):
                await test(*arguments, **named)

        asyncio.run(main())
        assert errors == []

    return run


async def until(happened: Callable[[], bool], changed: asyncio.Event) -> None:
    """Wait until something is so, looking again at every change."""
    while not happened():
        changed.clear()
        await changed.wait()
