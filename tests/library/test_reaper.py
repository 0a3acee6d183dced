"""The library as an application uses it: with or without an event loop, beside other users of subprocesses."""

from __future__ import annotations

import _thread
import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import procreaper as pr
from procreaper.runtime.system.groups import is_group_alive

# Generous, for a loaded machine: a test waits this long only if it fails.
LIMIT = 30.0
SLEEP = ["sleep", "1000"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z" if Path("/proc").is_dir() else True


def pid_of(reaper: pr.Reaper, name: str) -> int:
    (pid,) = (status.pid for status in reaper.status() if status.name == name)
    assert pid is not None
    return pid


def by_name(statuses: tuple[pr.Status, ...]) -> dict[str, pr.Status]:
    return {status.name: status for status in statuses}


def run(main: Callable[[], object]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT):
            await main()  # type: ignore[misc]

    asyncio.run(bounded())


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_public_names_are_sorted_and_exist() -> None:
    assert pr.__all__ == sorted(pr.__all__)
    assert all(getattr(pr, name).__doc__ for name in pr.__all__)
    assert set(pr.__all__) <= set(dir(pr))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = pr.nonsense  # type: ignore[attr-defined]


def test_package_itself_imports_nothing() -> None:
    script = "import sys, procreaper; print([name for name in sys.modules if name.startswith('procreaper.')])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


class TestInALoop:
    def test_leaving_the_block_leaves_nothing(self) -> None:
        pids = []

        async def main() -> None:
            async with pr.Reaper([pr.Process("a", SLEEP), pr.Process("b", "sleep 1000 & sleep 1000")]) as reaper:
                await reaper.ready()
                pids.extend([pid_of(reaper, "a"), pid_of(reaper, "b")])
                assert all(map(alive, pids))
            assert {status.state for status in reaper.status()} == {pr.State.STOPPED}

        run(main)
        assert not any(is_group_alive(pid) for pid in pids)

    def test_leaving_by_an_exception_leaves_nothing(self) -> None:
        pids = []

        async def main() -> None:
            with pytest.raises(ZeroDivisionError):  # noqa: PT012 (what is raised within the block is the point)
                async with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
                    await reaper.ready()
                    pids.append(pid_of(reaper, "a"))
                    _ = 1 / 0

        run(main)
        assert not alive(pids[0])

    def test_leaving_by_a_cancellation_leaves_nothing(self) -> None:
        pids = []

        async def main() -> None:
            ready = asyncio.Event()

            async def supervise() -> None:
                async with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
                    await reaper.ready()
                    pids.append(pid_of(reaper, "a"))
                    ready.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(supervise())
            await ready.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not alive(pids[0])

        run(main)

    def test_second_cancellation_while_leaving_kills_and_still_waits(self) -> None:
        async def main() -> None:
            deaf = pr.Process("deaf", "trap '' TERM; echo ready; while :; do sleep 1000; done", stop_timeout=1000)
            said = asyncio.Event()
            reaper = pr.Reaper([deaf], on_output=lambda _name, _data: said.set())

            async def supervise() -> None:
                async with reaper:
                    await said.wait()

            task = asyncio.create_task(supervise())
            await said.wait()
            pid = pid_of(reaper, "deaf")
            subscription = reaper.subscribe()
            async for notice in subscription:
                if isinstance(notice, pr.SignalSent):
                    break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not alive(pid)

        run(main)

    def test_entering_and_leaving_at_once_leaves_nothing(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process(f"p{number}", SLEEP) for number in range(10)]) as reaper:
                pass
            assert all(status.state is pr.State.STOPPED for status in reaper.status())

        run(main)

    def test_crash_is_restarted_with_the_retries_in_the_status(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process("a", SLEEP, restart="always", backoff=0.01)]) as reaper:
                await reaper.ready()
                with reaper.subscribe() as subscription:
                    for retries in (1, 2, 3):
                        os.kill(pid_of(reaper, "a"), signal.SIGKILL)
                        async for notice in subscription:
                            if isinstance(notice, pr.Transition) and notice.state is pr.State.RUNNING:
                                break
                        (status,) = reaper.status()
                        assert (status.retries, status.restarts, status.run) == (retries, retries, retries + 1)
                        assert status.backoff == pytest.approx(0.01 * 2 ** (retries - 1))

        run(main)

    def test_ready_raises_the_failure(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process("a", "exit 3"), pr.Process("b", SLEEP, depends_on=["a"])]) as reaper:
                await reaper.wait("a")
                with pytest.raises(pr.NotReadyError, match="`a` is failed: exited with code 3") as caught:
                    await reaper.ready("a")
                assert caught.value.status.exit_code == 3

        run(main)

    def test_ready_gives_up_after_its_timeout(self) -> None:
        async def main() -> None:
            never = pr.Process("a", SLEEP, health=pr.LogCheck("never said"))
            async with pr.Reaper([never]) as reaper:
                with pytest.raises(TimeoutError, match=r"not ready after 0.01 s: `a` is starting"):
                    await reaper.ready("a", timeout=0.01)

        run(main)

    def test_dependent_processes_wait_and_stop_first(self) -> None:
        order: list[str] = []

        async def main() -> None:
            processes = [
                pr.Process("web", SLEEP, depends_on=["db", "migrate"]),
                pr.Process("migrate", ["true"], oneshot=True, depends_on={"db": "started"}),
                pr.Process("db", SLEEP),
            ]
            async with pr.Reaper(processes) as reaper:
                subscription = reaper.subscribe()
                await reaper.ready()
                assert by_name(reaper.status())["migrate"].state is pr.State.COMPLETED
            async for notice in subscription:
                match notice:
                    case pr.RunBegan(name=name):
                        order.append(f"+{name}")
                    case pr.RunEnded(name=name):
                        order.append(f"-{name}")

        run(main)
        assert order == ["+db", "+migrate", "-migrate", "+web", "-web", "-db"]

    def test_stop_start_and_restart_wait_for_their_effect(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process("a", SLEEP), pr.Process("b", SLEEP, autostart=False)]) as reaper:
                await reaper.ready()
                assert by_name(reaper.status())["b"].state is pr.State.STOPPED
                first = pid_of(reaper, "a")
                await reaper.restart("a")
                assert pid_of(reaper, "a") != first
                await reaper.stop("a")
                assert by_name(reaper.status())["a"].state is pr.State.STOPPED
                await reaper.start("a", "b")
                assert all(status.up for status in reaper.status())

        run(main)

    def test_stop_overtaken_by_a_start_waits_only_for_its_run(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
                await reaper.ready()
                first = pid_of(reaper, "a")
                await asyncio.gather(reaper.stop("a"), reaper.start("a"))
                assert not is_group_alive(first)
                assert pid_of(reaper, "a") != first
                await reaper.stop("a")
                # No run could have ended.
                await asyncio.gather(reaper.stop("a"), reaper.start("a"))

        run(main)

    def test_restart_overtaken_by_a_stop_raises(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
                await reaper.ready()
                restarted, stopped = await asyncio.gather(reaper.restart("a"), reaper.stop("a"), return_exceptions=True)
                assert isinstance(restarted, pr.NotReadyError)
                assert stopped is None
                assert by_name(reaper.status())["a"].run == 1

        run(main)

    def test_end_of_a_run_is_reported_even_if_the_next_starts_at_once(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
                await reaper.ready()
                subscription = reaper.subscribe()
                await reaper.restart("a")
            told = [type(notice) async for notice in subscription if isinstance(notice, pr.RunBegan | pr.RunEnded)]
            assert told == [pr.RunEnded, pr.RunBegan, pr.RunEnded]

        run(main)

    def test_reaper_stays_when_every_process_has_ended(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process("a", ["./nowhere"])]) as reaper:
                (status,) = await reaper.wait()
                assert (status.state, status.exit_code) == (pr.State.FAILED, 127)
                with pytest.raises(pr.NotReadyError):
                    await reaper.restart("a")

        run(main)

    def test_output_arrives_in_whole_lines(self) -> None:
        async def main() -> None:
            said: list[tuple[str, bytes]] = []
            async with pr.Reaper(
                [pr.Process("a", "printf 'one\\ntwo\\n'")], on_output=lambda name, data: said.append((name, data))
            ) as reaper:
                await reaper.wait()
            assert b"".join(data for _, data in said) == b"one\ntwo\n"
            assert all(name == "a" and data.endswith(b"\n") for name, data in said)

        run(main)

    def test_error_in_on_output_is_logged_and_harmless(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            def fail(name: str, data: bytes) -> None:
                raise RuntimeError("mine")

            async with pr.Reaper([pr.Process("a", "echo hi")], on_output=fail) as reaper:
                (status,) = await reaper.wait()
                assert status.state is pr.State.COMPLETED

        run(main)
        assert "on_output failed for a" in caplog.text

    def test_subscription_ends_with_the_reaper(self) -> None:
        async def main() -> None:
            async with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
                await reaper.ready()
                subscription = reaper.subscribe()
                assert [status.state for status in subscription.snapshot] == [pr.State.RUNNING]
            states = [notice.state async for notice in subscription if isinstance(notice, pr.Transition)]
            assert states == [pr.State.STOPPING, pr.State.STOPPED]

        run(main)

    def test_slow_subscriber_loses_notices_and_learns_how_many(self) -> None:
        async def main() -> None:
            script = "import sys; sys.stdout.buffer.write(b'x' * 99 + b'\\n' if 0 else (b'x' * 99 + b'\\n') * 100_000)"
            async with pr.Reaper([pr.Process("a", [sys.executable, "-c", script])]) as reaper:
                subscription = reaper.subscribe()
                await reaper.wait()
            notices = [notice async for notice in subscription]
            received = sum(len(notice.data) for notice in notices if isinstance(notice, pr.Output))
            (dropped,) = (notice for notice in notices if isinstance(notice, pr.Dropped))
            assert received + dropped.bytes == 10_000_000
            assert 0 < received <= 4 << 20

        run(main)

    def test_log_has_the_fields_of_the_go_library(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="procreaper")

        async def main() -> None:
            process = pr.Process("redis", "exit 7", restart="on-failure", backoff=0.01, max_retries=1)
            async with pr.Reaper([process]) as reaper:
                await reaper.wait()

        run(main)
        (record,) = (record for record in caplog.records if "restarting process" in record.getMessage())
        assert record.levelno == logging.WARNING
        fields = (record.__dict__["process_name"], record.__dict__["backoff"], record.__dict__["retries"])
        assert fields == ("redis", "10ms", 1)


class TestHealth:
    def test_custom_check_decides(self) -> None:
        asked: list[pr.Target] = []
        healthy = asyncio.Event()

        class Own:
            async def check(self, target: pr.Target) -> None:
                asked.append(target)
                if not healthy.is_set():
                    healthy.set()
                    raise RuntimeError("not yet")

        async def main() -> None:
            health = pr.Health(check=Own(), start_interval=0.01)
            async with pr.Reaper([pr.Process("a", SLEEP, health=health, env={"MARK": "x"})]) as reaper:
                await reaper.ready("a")
                (status,) = reaper.status()
                assert status.state is pr.State.HEALTHY
                assert (asked[0].name, asked[0].pid, asked[0].env["MARK"]) == ("a", status.pid, "x")
                assert len(asked) == 2

        run(main)

    def test_unhealthy_process_restarts_as_configured(self) -> None:
        sick = asyncio.Event()

        class Own:
            async def check(self, target: pr.Target) -> None:
                if sick.is_set():
                    sick.clear()
                    raise RuntimeError("sick")

        async def main() -> None:
            health = pr.Health(check=Own(), interval=0.01, retries=1)
            process = pr.Process("a", SLEEP, health=health, restart="on-failure", backoff=0.01)
            async with pr.Reaper([process]) as reaper:
                await reaper.ready("a")
                with reaper.subscribe() as subscription:
                    sick.set()
                    reasons = []
                    async for notice in subscription:
                        if isinstance(notice, pr.Transition):
                            reasons.append((notice.state, notice.reason))
                            if notice.state is pr.State.HEALTHY:
                                break
                assert (pr.State.STOPPING, "unhealthy: sick") in reasons
                assert (pr.State.RESTARTING, "unhealthy: sick; retry 1 in 0.0 s") in reasons

        run(main)

    def test_log_line_marks_the_process_ready(self) -> None:
        async def main() -> None:
            script = "echo starting; kill -STOP $$; echo ready to accept connections; exec sleep 1000"
            process = pr.Process("a", script, health=pr.LogCheck("ready to .* connections"))
            said = asyncio.Event()
            async with pr.Reaper([process], on_output=lambda _name, _data: said.set()) as reaper:
                await said.wait()
                (status,) = reaper.status()
                assert (status.state, status.reason) == (pr.State.STARTING, "waiting for its log line")
                assert status.pid is not None
                ready = asyncio.create_task(reaper.ready("a"))
                while not ready.done():
                    # The process may not have stopped itself yet.
                    os.kill(status.pid, signal.SIGCONT)
                    await asyncio.sleep(0)
                await ready
                assert reaper.status()[0].state is pr.State.HEALTHY

        run(main)


class TestOthersAreLeftAlone:
    def test_exit_status_of_other_children_is_left_alone(self) -> None:
        async def main() -> None:
            crashing = pr.Process("a", "exit 1", restart="always", backoff=0.001)
            async with pr.Reaper([crashing]):
                for code in range(20):
                    other = subprocess.Popen(["sh", "-c", f"exit {code}"])
                    mine = await asyncio.create_subprocess_shell(f"exit {code}")
                    assert await mine.wait() == code
                    assert await asyncio.to_thread(other.wait) == code

        run(main)

    def test_signal_handlers_are_unchanged(self) -> None:
        def handlers() -> list[object]:
            return [signal.getsignal(number) for number in sorted(signal.valid_signals())]

        before = handlers()

        async def main() -> None:
            loop_before = handlers()
            async with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
                await reaper.ready()
                assert handlers() == loop_before

        run(main)
        with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
            reaper.ready(timeout=LIMIT)
            assert handlers() == before
        assert handlers() == before

    def test_other_loggers_are_unchanged(self) -> None:
        root = logging.getLogger()
        before = (root.level, list(root.handlers), logging.getLogger("procreaper").handlers)
        with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
            reaper.ready(timeout=LIMIT)
        assert (root.level, list(root.handlers), logging.getLogger("procreaper").handlers) == before


class TestWithoutALoop:
    def test_reaper_runs_in_a_thread_and_calls_block(self) -> None:
        with pr.Reaper([pr.Process("a", SLEEP), pr.Process("b", SLEEP, autostart=False)]) as reaper:
            reaper.ready(timeout=LIMIT)
            first = by_name(reaper.status())["a"].pid
            reaper.restart("a")
            assert by_name(reaper.status())["a"].pid != first
            reaper.start("b")
            reaper.stop("a", "b")
            assert {status.state for status in reaper.status()} == {pr.State.STOPPED}
        assert {status.state for status in reaper.status()} == {pr.State.STOPPED}

    def test_leaving_by_an_exception_leaves_nothing(self) -> None:
        with (  # noqa: PT012 (what is raised within the block is the point)
            pytest.raises(ZeroDivisionError),
            pr.Reaper([pr.Process("a", SLEEP)]) as reaper,
        ):
            reaper.ready(timeout=LIMIT)
            pid = by_name(reaper.status())["a"].pid
            _ = 1 / 0
        assert pid is not None
        assert not alive(pid)

    def test_several_reapers_run_in_several_threads(self) -> None:
        def supervise(results: list[str]) -> None:
            with pr.Reaper([pr.Process("a", "exit 5")]) as reaper:
                (status,) = reaper.wait("a")
                results.append(f"{status.state} {status.exit_code}")

        results: list[str] = []
        threads = [threading.Thread(target=supervise, args=(results,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert results == ["failed 5"] * 8

    def test_subscription_is_a_plain_iterator(self) -> None:
        with pr.Reaper([pr.Process("a", SLEEP)]) as reaper, reaper.subscribe() as subscription:
            stopper = threading.Thread(target=lambda: (reaper.ready(timeout=LIMIT), reaper.stop("a")))
            stopper.start()
            for notice in subscription:
                if isinstance(notice, pr.Transition) and notice.state is pr.State.STOPPED:
                    break
            stopper.join(LIMIT)

    def test_errors_reach_the_caller(self) -> None:
        with (
            pytest.raises(ValueError, match="a -> b -> a"),
            pr.Reaper([pr.Process("a", SLEEP, depends_on=["b"]), pr.Process("b", SLEEP, depends_on=["a"])]),
        ):
            pass
        with pr.Reaper([pr.Process("a", SLEEP)]) as reaper, pytest.raises(pr.UnknownProcessError, match="no process"):
            reaper.stop("nope")
        with pytest.raises(pr.UsageError, match="does not run"):
            reaper.stop("a")

    def test_ctrl_c_just_before_a_wait_is_noticed(self) -> None:
        def interrupt(_name: str, _data: bytes) -> None:
            _thread.interrupt_main()

        process = pr.Process("a", ["sh", "-c", "sleep 0.1; echo ready; exec sleep 1000"])
        with pytest.raises(KeyboardInterrupt), pr.Reaper([process], on_output=interrupt) as reaper:
            reaper.wait("a")

    def test_ctrl_c_in_the_block_leaves_nothing(self) -> None:
        script = """
import os, procreaper as pr
try:
    with pr.Reaper([pr.Process("a", ["sleep", "1000"])]) as reaper:
        reaper.ready()
        print(reaper.status()[0].pid, flush=True)
        reaper.wait("a")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
        program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        try:
            assert program.stdout is not None
            pid = int(program.stdout.readline())
            program.send_signal(signal.SIGINT)
            assert program.stdout.read() == "interrupted\n"
            assert program.wait(LIMIT) == 0
            assert not alive(pid)
        finally:
            program.kill()
            program.wait()
            if program.stdout is not None:
                program.stdout.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pr.Process("", SLEEP), "not a name"),
        (lambda: pr.Process("a", []), "command is empty"),
        (
            lambda: pr.Process("a", SLEEP, restart="sometimes"),
            "a: restart is 'sometimes'; it is one of 'never', 'on-failure', 'always'",
        ),
        (lambda: pr.Process("a", SLEEP, stop_all="b"), "a: stop_all is 'b'; it is one of 'never'"),
        (
            lambda: pr.Process("a", SLEEP, depends_on={"b": "up"}),
            r"a: depends_on\['b'\] is 'up'; it is one of 'started'",
        ),
        (lambda: pr.Process("a", SLEEP, backoff=-1), "negative"),
        (lambda: pr.Process("a", SLEEP, backoff="2s"), "a: backoff is '2s'; it is a number of seconds"),
        (lambda: pr.Process("a", SLEEP, stop_timeout="2s"), "a: stop_timeout is '2s'; it is a number of seconds"),
        (lambda: pr.Process("a", SLEEP, success_codes=[256]), "a: success_codes has 256"),
        (lambda: pr.Process("a", SLEEP, success_codes=["SIGNOPE"]), "no signal 'SIGNOPE'"),
        (lambda: pr.Process("a", SLEEP, env={"A": 1}), "a: env has 'A': 1; both are strings"),
        (lambda: pr.Process("a", SLEEP, env={"A=": "1"}), "a: env has 'A=', which cannot be the name"),
        (lambda: pr.Process("a", SLEEP, health="ftp://localhost"), "is not a URL"),
        (lambda: pr.Process("a", SLEEP, health="tcp://localhost"), "has no port"),
        (lambda: pr.Process("a", SLEEP, health=object()), "it has no method `check`"),
        (lambda: pr.Process("a", SLEEP, max_retries=-1), "max_retries is -1"),
        (lambda: pr.Process("a", SLEEP, stop_signal="SIGNOPE"), "no signal 'SIGNOPE'"),
        (lambda: pr.Process("a", SLEEP, oneshot=True, health=pr.TCPCheck(":80")), "oneshot"),
        (lambda: pr.TCPCheck("localhost"), "has no port"),
        (lambda: pr.TCPCheck("localhost:0"), "not a port"),
        (lambda: pr.TCPCheck("::1:80"), "in brackets"),
        (lambda: pr.HTTPCheck("localhost:80"), "is not a URL"),
        (lambda: pr.HTTPCheck("http://localhost/", status=[99]), "not an HTTP status"),
        (lambda: pr.LogCheck("("), "not a regular expression"),
        (lambda: pr.ExecCheck([]), "empty"),
        (lambda: pr.Health(), "nothing is checked"),
        (lambda: pr.Health(log=pr.LogCheck("x"), interval=0), "interval must be more than 0"),
        (lambda: pr.Reaper([pr.Process("a", SLEEP), pr.Process("a", SLEEP)]), "two processes are named"),
    ],
)
def test_invalid_value_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("url", "check"),
    [
        ("http://localhost:80/x", pr.HTTPCheck("http://localhost:80/x")),
        ("tcp://localhost:80", pr.TCPCheck("localhost:80")),
        ("tcp://[::1]:80/", pr.TCPCheck("[::1]:80")),
    ],
)
def test_url_stands_for_a_check(url: str, check: object) -> None:
    assert pr.Process("a", SLEEP, health=url).health == pr.Health(check=check)


def test_success_code_may_be_a_signal_name_or_128_plus_n() -> None:
    assert pr.Process("a", SLEEP, success_codes=[3, "SIGTERM", "INT", 137]).success_codes == {3, 143, 130, 137}


@pytest.mark.parametrize("processes", [["redis-server"], pr.Process("a", SLEEP)])
def test_object_that_is_not_a_process_is_refused(processes: object) -> None:
    with pytest.raises(TypeError, match=r"Process|single"):
        pr.Reaper(processes)


def test_procfile_is_run_with_its_environment(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text('show: echo "$GREETING $PORT"; exit 3\nweb: sleep 1000\n')
    (tmp_path / ".env").write_text("GREETING=hello\n")
    said: list[bytes] = []

    async def main() -> None:
        reaper = pr.Reaper.from_procfile(
            tmp_path / "Procfile", port=7000, concurrency={"web": 2}, on_output=lambda _name, data: said.append(data)
        )
        async with reaper:
            await reaper.wait("show.1")
            await reaper.ready("web.1", "web.2")
            assert [status.name for status in reaper.status()] == ["show.1", "web.1", "web.2"]

    run(main)
    assert b"".join(said) == b"hello 7000\n"


def test_invalid_procfile_raises_every_problem(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: a\nweb: b\nworker:\n")
    with pytest.raises(pr.ConfigError) as caught:
        pr.Reaper.from_procfile(tmp_path / "Procfile")
    assert [problem.line for problem in caught.value.problems] == [2, 3]


def test_status_can_be_converted_to_json() -> None:
    with pr.Reaper([pr.Process("a", SLEEP)]) as reaper:
        reaper.ready(timeout=LIMIT)
        (status,) = reaper.status()
        assert json.loads(json.dumps(status._asdict(), default=str))["state"] == "running"
        assert status.started_at is not None
        assert abs(status.started_at.timestamp() - time.time()) < LIMIT
