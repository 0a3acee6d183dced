"""A thousand requests and crashes at once leave one child of each process, and no child after the stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from random import Random

import pytest
from support.loops import in_loop
from support.survivors import Survivors

import procreaper as pr

from .watching import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")
SLEEP = ["sleep", "600"]


def processes() -> list[pr.Process]:
    return [
        pr.Process("obedient", SLEEP, restart="always", backoff=0.001),
        pr.Process("fickle", SLEEP),
        pr.Process("deaf", "trap '' TERM; exec sleep 600", restart="on-failure", backoff=0.001, stop_timeout=0.01),
        pr.Process("needy", SLEEP, depends_on=["obedient"], restart="on-failure", backoff=0.001),
        pr.Process("family", "sleep 600 & exec sleep 600", restart="always", backoff=0.001),
    ]


def living() -> set[int]:
    return {pid for pid, state in children(os.getpid()).items() if state != "Z"}


@pytest.mark.parametrize("seed", range(3))
@in_loop
async def test_thousand_requests_at_once_leave_one_child_of_each_process(seed: int, survivors: Survivors) -> None:
    random = Random(seed)
    before = living()
    async with pr.Reaper(processes()) as reaper:
        names = [status.name for status in reaper.status()]

        async def ask(request: str, name: str) -> None:
            # Another request may have come in between.
            with suppress(pr.NotReadyError):
                await getattr(reaper, request)(name)

        def crash(name: str) -> None:
            (pid,) = (status.pid for status in reaper.status() if status.name == name)
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        asked: list[asyncio.Task[None]] = []
        for _ in range(1000):
            name = random.choice(names)
            request = random.choice(("start", "stop", "restart", "crash"))
            if request == "crash":
                crash(name)
            else:
                asked.append(asyncio.create_task(ask(request, name)))
            if random.random() < 0.05:
                # Wait sometimes, so that some requests take effect before the next ones.
                await ask("start", "fickle")
        # Let the last requests begin before the stop.
        await asyncio.sleep(0)
        await reaper.stop(*names)
        # Every request has returned, regardless of the others.
        await asyncio.gather(*asked)
        assert living() == before
        await reaper.start(*names)
        statuses = reaper.status()
        assert living() - before == {status.pid for status in statuses}
        assert len({status.pid for status in statuses}) == len(names)
    assert living() == before
    assert survivors.find() == []
