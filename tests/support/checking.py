"""Runs a health check in a test."""

from __future__ import annotations

import asyncio
import os

from procreaper.core.checks import Check, Health, Target
from procreaper.runtime.child.command import execute
from procreaper.runtime.health import check as health

# Time limits in seconds: for a check that ends by itself on a busy machine, and for one that must reach its limit.
LONG, SHORT = 60.0, 0.2

TARGET = Target("web.1", os.getpid(), dict(os.environ), None)


async def run_check_here(check: Check, timeout: float = LONG, target: Target = TARGET) -> str | None:
    return await health.run_check(Health(check=check, timeout=timeout), target, execute=execute)


def run_check(check: Check, timeout: float = LONG, target: Target = TARGET) -> str | None:
    return asyncio.run(run_check_here(check, timeout, target))
