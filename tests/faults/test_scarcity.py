"""Supervision continues without free descriptors, threads or processes, and with a clock that is set back."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import time
from typing import Any

import pytest
from runtime.test_supervisor import App, process
from support.driver import Project, altered
from support.loops import in_loop
from support.survivors import Survivors

from procreaper.core.events import RunBegan, Shutdown, SignalSent, State, Transition
from procreaper.core.plan import Backoff, StopPolicy, When


def test_process_without_a_descriptor_starts_when_one_is_free(project: Project) -> None:
    os.mkfifo(project.path / "gate")
    project.procfile(web="echo ready $PS; read x < gate")
    project.write(".reaper.toml", '[defaults]\nrestart = "on-failure"\nbackoff = "10ms"\nstop_all = "never"\n')
    program = project.begin("start", "-c", "web=40", wrapper=("sh", "-c", 'ulimit -n 64; exec "$@"', "sh"))
    program.wait_for(r"web\.\d+ could not be started: too many open files")
    program.wait_for("ready", count=10)
    # Each process takes one line and ends, which frees descriptors for another one.
    gate = os.open(project.path / "gate", os.O_RDWR)
    os.write(gate, b"\n" * 40)
    result = program.end()
    os.close(gate)
    assert result.code == 0
    assert sorted(line for n in range(1, 41) for line in result.lines(f"web.{n}")) == sorted(
        f"ready web.{n}" for n in range(1, 41)
    )


def test_app_without_descriptors_can_be_stopped(project: Project) -> None:
    project.procfile(web="echo ready; exec sleep 600")
    project.write(".reaper.toml", '[defaults]\nrestart = "always"\nbackoff = "10ms"\n')
    program = project.begin("start", "-c", "web=40", wrapper=("sh", "-c", 'ulimit -n 64; exec "$@"', "sh"))
    program.wait_for(r"could not be started: too many open files", count=40)
    program.wait_for("ready", count=10)
    result = program.stop()
    assert result.code == 143
    assert result.out.count(" started (pid=") == result.out.count(" stopped (rc=-15)")


# Takes all free descriptors after the first run has begun, when there is a control socket, and after each notice.
EXHAUST = """
import os
from contextlib import suppress
from procreaper.core.events import RunBegan
from procreaper.output.hub import Hub
publish, begun = Hub.publish, []
def exhaust(self, notice):
    room = publish(self, notice)
    if isinstance(notice, RunBegan) or begun:
        begun.append(notice)
        with suppress(OSError):
            while True:
                os.dup(0)
    return room
Hub.publish = exhaust
"""
FEW = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")


@pytest.mark.parametrize(
    "check", ['exec = "true"', 'http = "http://localhost:$PORT/"', 'tcp = "no.such.host.invalid:80"']
)
def test_check_without_a_descriptor_fails_and_the_app_continues(check: str, project: Project) -> None:
    project.procfile(web="echo ready; exec sleep 600")
    project.write(
        ".reaper.toml",
        f'[process.web]\nhealth = {{ {check}, interval = "10ms", start_timeout = "200ms" }}\n'
        'restart = "always"\nbackoff = "10ms"\nstop_all = "never"\n',
    )
    program = project.begin("start", "--pty", wrapper=(*FEW, *altered(EXHAUST)))
    program.wait_for(r"web\.1 could not be started: too many open files")
    seen = project.run("ps")
    assert (seen.code, "web.1" in seen.out) == (0, True), seen.err
    result = program.stop()
    assert (result.code, result.err) == (143, "")


# The system refuses all threads except those with these names.
NO_THREADS = """
import threading
start = threading.Thread.start
def start_some(thread):
    if thread.name not in {0!r}:
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = start_some
"""


def test_app_without_a_thread_does_not_start_and_gives_the_reason(project: Project) -> None:
    project.procfile(web="exec sleep 600")
    result = project.run("start", wrapper=altered(NO_THREADS.format(())))
    assert result.code == 1
    assert result.err.startswith("procreaper: error: the system gives no thread for writing the output\n  hint: raise")


def test_reload_without_a_thread_fails_and_the_app_continues(project: Project) -> None:
    project.procfile(web="echo ready; exec sleep 600")
    program = project.begin("start", wrapper=altered(NO_THREADS.format(("terminal-writer",))))
    program.wait_for("ready")
    failed = project.run("reload")
    assert failed.code == 1
    assert "the system gives no thread for reading the files" in failed.err
    # `restart` warns about changed files only if it can, and restarts in any case.
    assert project.run("restart", "web").code == 0
    assert program.stop().code == 143


def test_new_log_file_without_a_thread_is_reported_and_the_app_continues(project: Project) -> None:
    project.procfile(web="echo ready; exec sleep 600")
    program = project.begin("start", wrapper=altered(NO_THREADS.format(("terminal-writer", "reload"))))
    program.wait_for("ready")
    project.write(".reaper.toml", '[process.web]\nlog = "web.log"\n')
    assert project.run("reload").code == 0
    program.wait_for("no log file is written: the system gives no thread for writing the output")
    assert program.stop().code == 143


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
@in_loop
async def test_failed_fork_is_retried(number: int, survivors: Survivors, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    spawn, refused = loop.subprocess_exec, 0

    async def refuse(*arguments: Any, **named: Any) -> object:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise OSError(number, os.strerror(number))
        return await spawn(*arguments, **named)

    monkeypatch.setattr(loop, "subprocess_exec", refuse)
    backoff = Backoff(initial=0.001, maximum=0.002)
    app = App(process("web", "echo ready; exec sleep 600", restart=When.ON_FAILURE, backoff=backoff))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    waits = [notice for notice in app.all(Transition, "web") if notice.state is State.RESTARTING]
    assert [(notice.retries, notice.backoff) for notice in waits] == [(1, 0.001), (2, 0.002), (3, 0.002)]
    assert all(os.strerror(number).lower() in notice.reason for notice in waits)
    app.supervisor.post(Shutdown(0))
    assert await running == 0


@in_loop
async def test_clock_that_is_set_back_delays_nothing(survivors: Survivors, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each call returns a time one hour earlier.
    now = time.time()

    def earlier() -> float:
        nonlocal now
        now -= 3600
        return now

    monkeypatch.setattr(time, "time", earlier)
    backoff = Backoff(initial=0.001, maximum=0.001)
    crash = process("crash", "echo run; exit 4", restart=When.ON_FAILURE, max_retries=3, backoff=backoff)
    deaf = process("deaf", "trap '' TERM; echo ready; exec sleep 600", stop=StopPolicy(timeout=0.05))
    app = App(crash._replace(stop_all=When.NEVER), deaf)
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    await app.sees(lambda: app.states("crash")[-1] is State.FAILED)
    assert len(app.all(RunBegan, "crash")) == 4
    app.supervisor.post(Shutdown(0))
    assert await running == 0
    assert [notice.signal for notice in app.all(SignalSent, "deaf")] == [signal.SIGTERM, signal.SIGKILL]


# Each read of the clock returns a time one hour earlier.
SET_BACK = """
import sys, time
ago, seconds, nanoseconds = 0, time.time, time.time_ns
def set_back():
    global ago
    ago += 3600
time.time = lambda: (set_back(), seconds() - ago)[1]
time.time_ns = lambda: (set_back(), nanoseconds() - ago * 10**9)[1]
from procreaper.__main__ import main
sys.argv[1:] = sys.argv[sys.argv.index("procreaper") + 1:]
main()
"""


def test_saved_file_restarts_with_a_clock_that_is_set_back(project: Project) -> None:
    project.write("app.py", "one")
    project.procfile(web="cat app.py; echo; exec sleep 600", crash="echo run; exit 1")
    project.write(
        ".reaper.toml",
        '[process.web]\nwatch = ["*.py"]\n[process.crash]\nrestart = "always"\nbackoff = "1ms"\n',
    )
    program = project.begin("start", wrapper=(sys.executable, "-c", SET_BACK))
    program.wait_for(r"web\.1 +\| one$")
    for text in ("two", "three"):
        project.write("app.py", text)
        program.wait_for(rf"web\.1 +\| {text}$")
    program.wait_for(r"crash\.1 \| run$", count=5)
    assert program.stop().code == 143
