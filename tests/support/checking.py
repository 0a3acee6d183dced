"""How the tests of the health checks carry out one of them."""

from __future__ import annotations

import asyncio
import os

from procreaper.core.checks import Check, Health, Target
from procreaper.runtime.child.command import execute
from procreaper.runtime.health import check as health

# Seconds for a check that ends by itself, generous for a loaded machine; and for one that is to run out of time.
LONG, SHORT = 60.0, 0.2

TARGET = Target("web.1", os.getpid(), dict(os.environ), None)


async def examine_here(check: Check, timeout: float = LONG, target: Target = TARGET) -> str | None:
    return await health.run_check(Health(check=check, timeout=timeout), target, execute=execute)


def run_check(check: Check, timeout: float = LONG, target: Target = TARGET) -> str | None:
    return asyncio.run(examine_here(check, timeout, target))
