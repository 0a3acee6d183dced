"""A side command: its output, its end, and that nothing is left of it, however it ends."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn

import pytest
from support.leftovers import Lifeline

from procreaper.core.events import Exit
from procreaper.runtime.child.command import READ_SIZE, _Command, execute

pytestmark = pytest.mark.usefixtures("leaves_nothing")

# What lives so long would be found by the tests.
FOR_EVER = "sleep 1000"


def run(*argv: str, env: dict[str, str] | None = None, cwd: str | None = None) -> tuple[Exit, bytes]:
    output: list[bytes] = []
    exit_ = asyncio.run(execute(argv, env=env, cwd=cwd, take=output.append))
    return exit_, b"".join(output)


def shell(script: str) -> tuple[Exit, bytes]:
    return run("/bin/sh", "-c", script)


def test_it_returns_the_exit_code_and_both_streams_in_order() -> None:
    assert shell("echo one; echo two >&2; echo three; exit 7") == (Exit(code=7), b"one\ntwo\nthree\n")


def test_it_returns_the_signal_that_ended_it() -> None:
    assert shell("kill -KILL $$") == (Exit(signal=9), b"")


def test_its_standard_input_is_empty() -> None:
    assert run("cat") == (Exit(code=0), b"")


def test_it_has_the_environment_and_the_directory_it_is_given(tmp_path: Path) -> None:
    output = run("/bin/sh", "-c", 'echo "$COLOUR"; pwd -P', env={"COLOUR": "blue"}, cwd=str(tmp_path))[1]
    assert output.decode().split("\n") == ["blue", str(tmp_path.resolve()), ""]


def test_it_leads_a_session_of_its_own() -> None:
    program = "import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())"
    assert run(sys.executable, "-c", program) == (Exit(code=0), b"True\n")


def test_every_byte_of_a_flood_is_taken_in_bounded_pieces() -> None:
    sizes: list[int] = []
    argv = ("head", "-c", "20000000", "/dev/zero")
    assert asyncio.run(execute(argv, env=None, cwd=None, take=lambda data: sizes.append(len(data)))) == Exit(code=0)
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= READ_SIZE


def test_its_last_words_are_taken_before_it_returns() -> None:
    for _ in range(20):
        assert shell("head -c 60000 /dev/zero; kill -KILL $$") == (Exit(signal=9), bytes(60000))


def test_one_that_closes_its_output_and_goes_on_is_waited_for() -> None:
    assert shell("exec >&- 2>&-; exit 3") == (Exit(code=3), b"")


def test_the_end_of_its_output_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        script = f"exec >&- 2>&-; exec {FOR_EVER}"
        command = asyncio.create_task(execute(("/bin/sh", "-c", script), env=None, cwd=None, take=len))
        await ended.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command

    def take_once(command: _Command, size: int) -> int:
        reads.append(real(command, size))
        if reads[-1] == 0:
            ended.set()
        return reads[-1]

    ended = asyncio.Event()
    reads: list[int] = []
    real = _Command._take_once
    monkeypatch.setattr(_Command, "_take_once", take_once)
    asyncio.run(main())
    assert reads == [0]


def test_a_background_process_neither_delays_it_nor_outlives_it(lifeline: Lifeline) -> None:
    assert shell(f"{lifeline.hold} {FOR_EVER} & echo done") == (Exit(code=0), b"done\n")
    lifeline.wait_until_released()


def test_a_background_process_that_floods_does_not_delay_it(lifeline: Lifeline) -> None:
    assert shell(f"{lifeline.hold} yes & exit 5")[0] == Exit(code=5)
    lifeline.wait_until_released()


def test_cancelled_while_it_runs_its_whole_group_is_killed(lifeline: Lifeline) -> None:
    async def main() -> None:
        script = f"trap '' TERM HUP INT; {lifeline.hold} {FOR_EVER} & yes"
        command = asyncio.create_task(execute(("/bin/sh", "-c", script), env=None, cwd=None, take=len))
        await lifeline.held()
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command

    asyncio.run(main())
    lifeline.wait_until_released()


@pytest.mark.parametrize("iterations", range(12))
def test_cancelled_at_any_moment_of_the_start_nothing_is_left(tmp_path: Path, iterations: int) -> None:
    # The shell has a child as soon as it runs, which a kill of the shell alone would leave behind.
    lifeline = Lifeline(tmp_path)

    async def main() -> None:
        script = f"{lifeline.hold} {FOR_EVER} & {FOR_EVER}"
        command = asyncio.create_task(execute(("/bin/sh", "-c", script), env=None, cwd=None, take=len))
        for _ in range(iterations):
            await asyncio.sleep(0)
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command

    asyncio.run(main())
    lifeline.wait_until_released()


def test_cancelled_twice_it_is_cleared_away_all_the_same(lifeline: Lifeline) -> None:
    async def main() -> None:
        script = f"{lifeline.hold} {FOR_EVER} & {FOR_EVER}"
        command = asyncio.create_task(execute(("/bin/sh", "-c", script), env=None, cwd=None, take=len))
        await lifeline.held()
        command.cancel()
        await asyncio.sleep(0)
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command

    asyncio.run(main())
    lifeline.wait_until_released()


def test_when_the_loop_is_torn_down_nothing_is_left(lifeline: Lifeline) -> None:
    async def main() -> asyncio.Task[Exit]:
        script = f"{lifeline.hold} {FOR_EVER} & {FOR_EVER}"
        command = asyncio.create_task(execute(("/bin/sh", "-c", script), env=None, cwd=None, take=len))
        await lifeline.held()
        return command

    assert asyncio.run(main()).cancelled()
    lifeline.wait_until_released()


def test_an_error_of_the_taker_kills_the_group_and_is_raised(lifeline: Lifeline) -> None:
    def take(data: bytes) -> NoReturn:
        raise LookupError("no taker")

    script = f"{lifeline.hold} {FOR_EVER} & yes"
    with pytest.raises(LookupError, match="no taker"):
        asyncio.run(execute(("/bin/sh", "-c", script), env=None, cwd=None, take=take))
    lifeline.wait_until_released()


@pytest.mark.parametrize(
    ("argv", "cwd", "error"),
    [
        (("there-is-no-such-program",), None, FileNotFoundError),
        (("/dev/null",), None, PermissionError),
        (("true",), "/there/is/no/such/directory", FileNotFoundError),
        (("true", "a\0b"), None, ValueError),
    ],
)
def test_one_that_cannot_be_started_is_an_error(argv: tuple[str, ...], cwd: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(*argv, cwd=cwd)


def test_without_descriptors_it_is_an_error_and_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe() -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="Too many open files"):
        run("true")


def test_one_whose_end_cannot_be_watched_for_is_killed(lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        # A thread is what asyncio needs for it on 3.11, and a descriptor later where the kernel has them.
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            if sys.version_info >= (3, 12) and hasattr(os, "pidfd_open"):
                patch.setattr(os, "pidfd_open", lambda pid, flags=0: real(pid) if pid == os.getpid() else fail())
            script = f"{lifeline.hold} {FOR_EVER} & {FOR_EVER}"
            await execute(("/bin/sh", "-c", script), env=None, cwd=None, take=len)

    def fail(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    real = getattr(os, "pidfd_open", None)
    with pytest.raises(OSError, match="can't start new thread") as raised:
        asyncio.run(main())
    assert raised.value.errno == errno.EAGAIN
    lifeline.wait_until_released()


def test_many_at_once_do_not_get_in_each_others_way() -> None:
    async def one(number: int) -> tuple[Exit, bytes]:
        output: list[bytes] = []
        argv = ("/bin/sh", "-c", f"echo {number}; exit {number}")
        return await execute(argv, env=None, cwd=None, take=output.append), b"".join(output)

    async def main() -> list[tuple[Exit, bytes]]:
        return await asyncio.gather(*map(one, range(30)))

    assert asyncio.run(main()) == [(Exit(code=number), b"%d\n" % number) for number in range(30)]


def test_in_a_thread_it_steals_no_exit_status_of_others() -> None:
    results: list[tuple[Exit, bytes]] = []
    with subprocess.Popen(["/bin/sh", "-c", "read line; exit 9"], stdin=subprocess.PIPE) as other:
        thread = threading.Thread(target=lambda: results.extend(shell(f"exit {code}") for code in (1, 2, 3)))
        thread.start()
        other.communicate(b"go\n")
        thread.join()
    assert other.returncode == 9
    assert [exit_.code for exit_, _ in results] == [1, 2, 3]
