"""Carry out one health check, and say in one phrase why a process is not healthy.

Rules: a check is a question with a time limit; when to ask is `checkup`'s, and what an answer leads to `diagnosis`'s.
How a command is run is not known here. Importing this costs next to nothing: each kind of check is imported when it
is first used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from procreaper.core.checks import ExecCheck, HealthCheck, HTTPCheck, TCPCheck
from procreaper.runtime.health.errors import UnhealthyError, no_answer, of_error

if TYPE_CHECKING:
    from procreaper.core.checks import Health, Target
    from procreaper.core.events import Exit


class Execute(Protocol):
    """Runs a command to its end, as `procreaper.runtime.child.command.execute` does."""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None,
        cwd: str | None,
        take: Callable[[bytes], object],
    ) -> Exit: ...


async def run_check(health: Health, target: Target, *, execute: Execute) -> str | None:
    """Check once; return None if the process is healthy, and the reason if it is not.

    It takes no longer than `health.timeout` seconds. Nothing is raised: whatever a check of the user's own raises is
    the reason. When it is cancelled, it leaves no process and no connection behind.
    """
    reason = None
    limit = asyncio.timeout(health.timeout)
    try:
        async with limit:
            await _check(health, target, execute)
    except (Exception, SystemExit) as error:
        reason = of_error(error)
    return _too_late(health) if limit.expired() else reason


async def _check(health: Health, target: Target, execute: Execute) -> None:
    match health.check:
        case None:
            return
        case TCPCheck(endpoint=endpoint):
            from procreaper.runtime.health import tcp

            await tcp.check(endpoint, health.timeout)
        case HTTPCheck() as question:
            from procreaper.runtime.health import http

            await http.check(question, health.timeout)
        case ExecCheck() as command:
            from procreaper.runtime.health import exec as exec_

            await exec_.check(command, target, execute)
        case own:
            await _check_own(own, target)


async def _check_own(check: HealthCheck, target: Target) -> None:
    try:
        await check.check(target)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Something that it waited for was cancelled. Nobody has cancelled us, so this must not look as if.
        raise UnhealthyError("the check was cancelled") from error


def _too_late(health: Health) -> str:
    if isinstance(health.check, ExecCheck):
        from procreaper.runtime.health.exec import name

        return f"{name(health.check)} did not end within {health.timeout:g} s"
    return no_answer(health.timeout)
