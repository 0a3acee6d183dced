"""The guard, with a real shell: which processes it kills when we are gone, and which it leaves alone."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from support.loops import in_loop

from procreaper.runtime.cleanup import guard as module
from procreaper.runtime.cleanup.guard import Guard

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs a /proc")
# No process has it.
NO_MARK = "PROCREAPER_TEST_MARK=none"
LIMIT = 45.0


@contextmanager
def child(**variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a group of its own, and kill it in the end."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True, env={**os.environ, **variables})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def guarded(mark: str = NO_MARK) -> AsyncIterator[Guard]:
    warnings: list[str] = []
    guard = Guard(mark, {}, warnings.append)
    guard.start()
    guard.use_loop(asyncio.get_running_loop())
    try:
        yield guard
    finally:
        guard.kill()
        guard._forget()
        assert warnings == []


async def run_guard(guard: Guard) -> None:
    """Close the pipe of the guard, as our end would, and wait until the guard has done its work."""
    # Let the loop write the list first.
    for _ in range(3):
        await asyncio.sleep(0)
    guard.end_leftovers()
    assert guard.pid is not None
    await asyncio.to_thread(wait_for_end, guard.pid)


def wait_for_end(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ended = poll.poll(LIMIT * 1000)
    os.close(descriptor)
    assert ended


def start_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[19])


@LINUX
@pytest.mark.parametrize("target", [lambda pid: pid, lambda pid: -pid], ids=["process", "group"])
@pytest.mark.parametrize("start", [start_of, lambda _: 0], ids=["started", "unknown"])
@in_loop
async def test_listed_process_is_killed(target: Callable[[int], int], start: Callable[[int], int]) -> None:
    with child() as listed, child() as other:
        async with guarded() as guard:
            guard.add_process(listed.pid, target(listed.pid), start(listed.pid))
            await run_guard(guard)
        assert listed.wait(LIMIT) == -signal.SIGKILL
        assert other.poll() is None


@LINUX
@in_loop
async def test_process_with_a_reused_pid_is_left_alone() -> None:
    with child() as process:
        async with guarded() as guard:
            guard.add_process(process.pid, -process.pid, start_of(process.pid) - 1)
            await run_guard(guard)
        assert process.poll() is None


@LINUX
@in_loop
async def test_removed_process_is_left_alone() -> None:
    with child() as process, child() as listed:
        async with guarded() as guard:
            guard.add_process(process.pid, -process.pid, 0)
            guard.add_process(listed.pid, -listed.pid, 0)
            guard.remove_process(process.pid)
            guard.remove_process(4711)
            await run_guard(guard)
        assert listed.wait(LIMIT) == -signal.SIGKILL
        assert process.poll() is None


@LINUX
@in_loop
async def test_process_with_the_mark_is_killed() -> None:
    mark = f"some{os.urandom(6).hex()}/"
    with child(MARK=f"{mark}web.1/1/") as process, child(MARK="some/web.1/1/") as other:
        async with guarded(f"MARK={mark}") as guard:
            await run_guard(guard)
        assert process.wait(LIMIT) == -signal.SIGKILL
        assert other.poll() is None


# The process at its end has no mark, and a session of its own: only its parent shows where it belongs.
ESCAPE = "env -i setsid sh -c 'echo $$; exec sleep 600'"


@contextmanager
def escapee(command: str, *, stdout: int = subprocess.PIPE, **variables: str) -> Iterator[tuple[int, int]]:
    """Start a process without a mark, in a session of its own, with a living parent: the pids of parent and process."""
    environment = {**os.environ, **variables}
    process = subprocess.Popen(["sh", "-c", command], start_new_session=True, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    try:
        yield process.pid, pid
    finally:
        for each in (pid, process.pid):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def is_alive(pid: int) -> bool:
    """Return whether a process, which need not be our child, is neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + LIMIT
    while is_alive(pid):
        assert time.monotonic() < deadline
        os.sched_yield()


@LINUX
@pytest.mark.parametrize(
    "command",
    [f"{ESCAPE}; :", f"{ESCAPE} & wait", f"setsid sh -c '{ESCAPE.replace(chr(39), chr(34))}; :' & wait"],
    ids=["child", "background", "grandchild"],
)
@in_loop
async def test_descendant_in_another_session_is_killed_while_its_parent_lives(command: str) -> None:
    with escapee(command) as (listed, escaped), child() as other:
        assert os.getpgid(escaped) != listed
        async with guarded() as guard:
            guard.add_process(listed, -listed, start_of(listed))
            await run_guard(guard)
        wait_until_gone(escaped)
        assert other.poll() is None


@LINUX
@pytest.mark.parametrize("mark", ["guard", "detached/"])
@in_loop
async def test_nested_guards_and_detached_processes_are_left_alone_with_their_descendants(mark: str) -> None:
    # The innermost shell prints its pid, not the shell around it.
    command = f'MARK={mark} setsid sh -c "{ESCAPE.replace("$", chr(92) + "$")}; :" & wait'
    with escapee(command) as (listed, escaped):
        async with guarded("MARK=app/") as guard:
            guard.add_process(listed, -listed, start_of(listed))
            await run_guard(guard)
        assert os.getpgid(escaped) not in (listed, os.getpgrp())
        assert is_alive(escaped)


@LINUX
@pytest.mark.parametrize("kind", ["pipe", "terminal"])
@in_loop
async def test_holders_of_an_output_are_killed(kind: str) -> None:
    ours, its = os.pipe() if kind == "pipe" else os.openpty()
    async with guarded() as guard:
        key = guard.watch_output(its)
        assert key
        # The entry must be written already: procreaper may be killed before the loop runs again.
        assert not guard._unsent
        with (
            subprocess.Popen(["env", "-i", "sleep", "600"], start_new_session=True, stdout=its) as spawned,
            child() as other,
        ):
            os.close(its)
            await run_guard(guard)
            assert spawned.wait(LIMIT) == -signal.SIGKILL
            assert other.poll() is None
    os.close(ours)


@LINUX
@in_loop
async def test_holders_of_a_forgotten_output_are_left_alone() -> None:
    ours, its = os.pipe()
    async with guarded() as guard:
        guard.forget_output(guard.watch_output(its))
        with subprocess.Popen(["sleep", "600"], stdout=its) as spawned:
            await run_guard(guard)
            assert spawned.poll() is None
            spawned.kill()
    os.close(ours)
    os.close(its)


@LINUX
@in_loop
async def test_killed_guard_kills_no_process() -> None:
    with child(MARK="some/") as process:
        async with guarded("MARK=some/") as guard:
            guard.add_process(process.pid, -process.pid, 0)
            await asyncio.sleep(0)
            assert guard.pid is not None
            guard.kill()
            await asyncio.to_thread(wait_for_end, guard.pid)
        assert process.poll() is None


@LINUX
@in_loop
async def test_stopped_guard_blocks_nothing_and_misses_nothing() -> None:
    with child() as process:
        async with guarded() as guard:
            assert guard.pid is not None
            os.kill(guard.pid, signal.SIGSTOP)
            # Far more than a pipe holds. No process has such a pid.
            for number in range(20_000):
                guard.add_process(10_000_000 + number, 10_000_000 + number, 1)
                guard.remove_process(10_000_000 + number)
            guard.add_process(process.pid, -process.pid, 0)
            os.kill(guard.pid, signal.SIGCONT)
            while guard._unsent:
                await asyncio.sleep(0.01)
            await run_guard(guard)
        assert process.wait(LIMIT) == -signal.SIGKILL


@LINUX
@in_loop
async def test_new_guard_gets_the_whole_list() -> None:
    with child() as process, child() as other:
        async with guarded() as guard:
            guard.add_process(other.pid, -other.pid, 0)
            guard.add_process(process.pid, -process.pid, 0)
            guard.remove_process(other.pid)
            first = guard.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            while guard.pid == first:
                await asyncio.sleep(0.01)
            await run_guard(guard)
        assert process.wait(LIMIT) == -signal.SIGKILL
        assert other.poll() is None


@pytest.mark.parametrize(
    ("shell", "reason"),
    [("/nowhere/sh", "no such file or directory"), ("/bin/false", "it keeps exiting")],
)
@in_loop
async def test_failure_to_run_a_guard_is_one_warning(monkeypatch: pytest.MonkeyPatch, shell: str, reason: str) -> None:
    monkeypatch.setattr(module, "SHELL", shell)
    warnings: list[str] = []
    guard = Guard(NO_MARK, {}, warnings.append)
    guard.start()
    guard.use_loop(asyncio.get_running_loop())
    guard.add_process(10_000_000, 10_000_000, 1)
    while not warnings:
        await asyncio.sleep(0.01)
    guard.remove_process(10_000_000)
    guard.kill()
    guard.end_leftovers()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"procreaper: warning: there is no guard: {reason}\n  hint: ")
    assert guard.pid is None
