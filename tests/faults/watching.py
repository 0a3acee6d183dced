"""Wait for the end of processes, and find guards, which have no mark of the test."""

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
    """Wait until all of these processes have ended; zombies count as ended."""
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
    """Kill procreaper, wait until no process of this test is alive, and return the seconds this took."""
    killed = time.monotonic()
    program.send(signal.SIGKILL)
    marker = os.environ[MARKER]
    while pids := marked(marker):
        wait_until_gone(pids)
    return time.monotonic() - killed


def children(pid: int) -> dict[int, str]:
    """The children of a process, with their states."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (entry / "stat").read_bytes().rpartition(b") ")[2].split()[:2]
            if int(parent) == pid:
                found[int(entry.name)] = state.decode()
    return found


def with_argument(argument: str) -> list[int]:
    """The processes with this argument, without zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if argument.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def guards(pid: int | None = None) -> list[int]:
    """The guard of the procreaper with this pid, or all guards, including those whose procreaper has ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if NAME.encode() in arguments and (pid is None or int(entry.name) in children(pid)):
                found.append(int(entry.name))
    return found


def wait_for_guard(program: Program, *, other_than: int = 0) -> int:
    """Wait until a program has a guard, and return it."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        for pid in guards(program.pid):
            if pid != other_than:
                return pid
        time.sleep(0.005)
    raise AssertionError("no guard")
