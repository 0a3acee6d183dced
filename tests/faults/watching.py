"""Waits for the end of processes, and finds guards, which carry no mark of the test."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from support.driver import LIMIT, Program
from support.survivors import MARKER, described, marked

from procreaper.runtime.cleanup.guard import NAME


def wait_until_gone(pids: Iterable[int], limit: float = LIMIT) -> None:
    """Return when all of these have ended, zombies or not."""
    deadline = time.monotonic() + limit
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(descriptor)
        assert ended, f"{described(pid)} is alive"


def kill(program: Program) -> float:
    """Kill procreaper itself, wait until nothing of this test is alive, and return how many seconds that took."""
    killed = time.monotonic()
    program.send(signal.SIGKILL)
    marker = os.environ[MARKER]
    while pids := marked(marker):
        wait_until_gone(pids)
    return time.monotonic() - killed


def children(pid: int) -> dict[int, str]:
    """The children of a process and the states that they are in."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (entry / "stat").read_bytes().rpartition(b") ")[2].split()[:2]
            if int(parent) == pid:
                found[int(entry.name)] = state.decode()
    return found


def with_argument(argument: str) -> list[int]:
    """The processes that have this argument, zombies left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if argument.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def guards(pid: int | None = None) -> list[int]:
    """The guard of this procreaper; or of all that run below one of this test, also where that is gone."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if NAME.encode() in arguments and (pid is None or int(entry.name) in children(pid)):
                found.append(int(entry.name))
    return found


def wait_for_guard(program: Program, *, other_than: int = 0) -> int:
    """The guard of a program, as soon as it has one."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        for pid in guards(program.pid):
            if pid != other_than:
                return pid
        time.sleep(0.005)
    raise AssertionError("no guard")
