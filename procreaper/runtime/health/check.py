"""Run one health check, and say in one phrase why a process is not healthy.

Rules: a check is a question with a time limit. The package `core` decides when to ask and what an answer leads to. This
module does not know how a command is run. To import it costs next to nothing: it imports each kind of check at its
first use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from procreaper.core.checks import ExecCheck, HealthCheck, HTTPCheck, TCPCheck
from procreaper.runtime.health.errors import UnhealthyError, describe_error, describe_timeout

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
    """Run the check once. Return None if the process is healthy, else the reason.

    It takes at most `health.timeout` seconds. It raises nothing: an exception of a user's own check becomes the reason.
    When it is cancelled, it leaves no process and no connection behind.
    """
    reason = None
    limit = asyncio.timeout(health.timeout)
    try:
        async with limit:
            await _run(health, target, execute)
    except (Exception, SystemExit) as error:
        reason = describe_error(error)
    return _describe_timeout(health) if limit.expired() else reason


async def _run(health: Health, target: Target, execute: Execute) -> None:
    match health.check:
        case None:
            return
        case TCPCheck(endpoint=endpoint):
            from procreaper.runtime.health import tcp

            await tcp.check(endpoint, health.timeout)
        case HTTPCheck() as http_check:
            from procreaper.runtime.health import http

            await http.check(http_check, health.timeout)
        case ExecCheck() as command:
            from procreaper.runtime.health import exec as exec_

            await exec_.check(command, target, execute)
        case own:
            await _run_own(own, target)


async def _run_own(check: HealthCheck, target: Target) -> None:
    try:
        await check.check(target)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # The check awaited something that was cancelled. Our own task was not, so do not let it look cancelled.
        raise UnhealthyError("the check was cancelled") from error


def _describe_timeout(health: Health) -> str:
    if isinstance(health.check, ExecCheck):
        from procreaper.runtime.health.exec import describe_command

        return f"{describe_command(health.check)} did not end within {health.timeout:g} s"
    return describe_timeout(health.timeout)
