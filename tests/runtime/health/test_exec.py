"""The exec check: the meaning of its exit code, the reason, and that it leaves no process behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.checking import SHORT, TARGET, run_check, run_check_here
from support.leftovers import Lifeline

from procreaper.core.checks import ExecCheck
from procreaper.runtime.health.exec import find_last_line

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.mark.parametrize("command", ["true", ["true"], "echo ready; exit 0"])
def test_exit_code_0_is_healthy(command: str | list[str]) -> None:
    assert run_check(ExecCheck(command)) is None


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 2", "`exit 2` exited with code 2"),
        (["false"], "`false` exited with code 1"),
        (["sh", "-c", "exit 3"], "`sh -c 'exit 3'` exited with code 3"),
        ("kill -KILL $$", "`kill -KILL $$` was killed by SIGKILL"),
        (
            "echo no; echo answer >&2; echo; exit 2",
            "`echo no; echo answer >&2; echo; exit 2` exited with code 2: answer",
        ),
        ("\n  echo a\n  exit 1\n", "`echo a exit 1` exited with code 1: a"),
        (["there-is-no-such-program"], "`there-is-no-such-program`: command not found"),
        (["/dev/null"], "`/dev/null`: not executable"),
        (["true", "a\0b"], "`true 'a b'` cannot be run: embedded null byte"),
        (["true", "x" * 100], f"`true {'x' * 100}`"),
    ],
)
def test_any_other_exit_is_the_reason(command: str | list[str], reason: str) -> None:
    if command == ["true", "x" * 100]:
        command, reason = ["false", "x" * 100], f"`false {'x' * 51}...` exited with code 1"
    assert run_check(ExecCheck(command)) == reason


def test_command_not_found_is_a_reason_of_its_own() -> None:
    reason = run_check(ExecCheck("there-is-no-such-program"))
    assert (reason or "").startswith("`there-is-no-such-program`: command not found (exit code 127): ")


def test_missing_directory_is_the_reason() -> None:
    target = TARGET._replace(cwd="/there/is/none")
    reason = "`true` cannot be run: no such file or directory: /there/is/none"
    assert run_check(ExecCheck("true"), target=target) == reason


def test_check_runs_in_the_environment_and_directory_of_the_process(tmp_path: Path) -> None:
    target = TARGET._replace(env={"PORT": "5000"}, cwd=str(tmp_path))
    (tmp_path / "here").touch()
    assert run_check(ExecCheck('test -e here && test "$PORT" = 5000'), target=target) is None


def test_only_the_end_of_the_output_is_kept() -> None:
    reason = run_check(ExecCheck("head -c 20000000 /dev/zero; echo; echo the end; exit 1"))
    assert (reason or "").endswith(" exited with code 1: the end")


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (b"", ""),
        (b"\n \n\t\r\n", ""),
        (b"one\ntwo", "two"),
        (b"one\r\ntwo\r\n\r\n", "two"),
        (b"\x1b[31mred\x1b[0m\n\x1b[0m\n", "red"),
        (b"a\x07b\x1b]0;title\x07c\n", "a bc"),
        (b"\xff\n", "\ufffd"),
        (b"x" * 1000, "x" * 297 + "..."),
    ],
)
def test_last_line_that_is_not_blank_is_found(output: bytes, line: str) -> None:
    assert find_last_line(output) == line


def test_timeout_kills_the_whole_group(lifeline: Lifeline) -> None:
    script = f"trap '' TERM; {lifeline.hold} sleep 1000 & sleep 1000"
    reason = run_check(ExecCheck(script), timeout=SHORT)
    assert (reason or "").endswith("` did not end within 0.2 s")
    lifeline.wait_until_released()


def test_background_process_neither_delays_nor_outlives_the_check(lifeline: Lifeline) -> None:
    assert run_check(ExecCheck(f"{lifeline.hold} sleep 1000 &")) is None
    lifeline.wait_until_released()


def test_endless_output_ends_at_the_timeout() -> None:
    assert run_check(ExecCheck("yes"), timeout=SHORT) == "`yes` did not end within 0.2 s"


def test_cancellation_kills_the_whole_group(lifeline: Lifeline) -> None:
    async def main() -> None:
        script = f"trap '' TERM; {lifeline.hold} sleep 1000 & yes"
        check = asyncio.create_task(run_check_here(ExecCheck(script)))
        await lifeline.held()
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check

    asyncio.run(main())
    lifeline.wait_until_released()
