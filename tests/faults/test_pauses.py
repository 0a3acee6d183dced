"""procreaper is paused for an hour, alone or with its processes. After the pause, no limit has passed.

The hour is simulated: the clock of the program jumps when it continues.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.driver import Program, Project, altered

HOUR_LATER = altered(
    "import asyncio, signal, time; lost = [0.0]\n"
    "asyncio.BaseEventLoop.time = lambda loop: time.monotonic() + lost[0]\n"
    "signal.signal(signal.SIGCONT, lambda *_: lost.append(lost.pop() + 3600.0))"
)
# Listens after the test has opened the gate.
SERVER = """
import os, socket
print("ready", flush=True)
open("gate").close()
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
print("listens", flush=True)
open("listens", "w").close()
while True:
    listener.accept()[0].close()
"""
# Ends after SIGTERM, when the test has opened the gate.
SLOW_TO_END = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
print("ending", flush=True)
open("gate").close()
print("finished", flush=True)
"""


def stop(pid: int) -> None:
    """Send SIGSTOP, and wait until the process has stopped."""
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
        os.sched_yield()


def resume(project: Project, pid: int) -> None:
    """Send SIGCONT, and wait until procreaper has handled all overdue events."""
    os.kill(pid, signal.SIGCONT)
    for _ in range(3):
        assert project.run("ps").code == 0


def open_gate(project: Project) -> None:
    with open(project.path / "gate", "w"):
        pass


def begin(project: Project, program: str, settings: str) -> tuple[Program, int]:
    """Start procreaper with a program that waits at a gate. Return procreaper and the pid of the program."""
    os.mkfifo(project.path / "gate")
    project.procfile(web=project.python("web", program))
    project.write(".reaper.toml", f"[process.web]\n{settings}\n")
    manager = project.begin("start", wrapper=HOUR_LATER)
    (pid,) = manager.wait_for(r"pid=(\d+)")
    manager.wait_for(r"web\.1 +\| ready")
    return manager, int(pid)


CHECKED = 'health = { tcp = ":$PORT", start_timeout = "40s", start_interval = "10ms" }'


def test_server_that_listens_before_procreaper_continues_is_healthy(project: Project) -> None:
    program, _ = begin(project, SERVER, CHECKED)
    stop(program.pid)
    os.mkfifo(project.path / "listens")
    open_gate(project)
    with open(project.path / "listens"):
        pass
    resume(project, program.pid)
    program.wait_for("web.1 is healthy")
    assert "not healthy" not in program.stop().out


def test_server_that_was_frozen_too_has_the_rest_of_its_time_to_listen(project: Project) -> None:
    program, pid = begin(project, SERVER, CHECKED)
    stop(program.pid)
    stop(pid)
    resume(project, program.pid)
    os.kill(pid, signal.SIGCONT)
    open_gate(project)
    program.wait_for("web.1 is healthy")
    assert "not healthy" not in program.stop().out


def test_log_line_has_the_rest_of_its_time_to_appear(project: Project) -> None:
    program, _ = begin(project, SERVER, 'health = { log = "listens", start_timeout = "40s" }')
    stop(program.pid)
    resume(project, program.pid)
    open_gate(project)
    program.wait_for("web.1 is healthy")
    assert "not healthy" not in program.stop().out


def test_stopping_process_has_the_rest_of_the_stop_timeout(project: Project) -> None:
    program, _ = begin(project, SLOW_TO_END, 'stop.timeout = "40s"')
    program.send(signal.SIGTERM)
    program.wait_for("ending")
    stop(program.pid)
    resume(project, program.pid)
    open_gate(project)
    program.wait_for(r"web\.1 +\| finished")
    assert "SIGKILL" not in program.end().out


def test_running_check_is_repeated(project: Project) -> None:
    os.mkfifo(project.path / "asked")
    os.mkfifo(project.path / "gate")
    project.procfile(web="echo ready; exec sleep 600")
    project.write(
        ".reaper.toml",
        "[process.web.health]\n"
        'exec = "echo . > asked; test -f well || read line < gate"\n'
        'interval = "1ms"\ntimeout = "1m"\nretries = 1\n',
    )
    project.write("well", "")
    asked = project.path / "asked"
    program = project.begin("start", wrapper=HOUR_LATER)
    asked.read_text()
    program.wait_for("web.1 is healthy")
    (project.path / "well").unlink()
    # The next check found a reader for `asked`, and now hangs at the gate.
    asked.read_text()
    stop(program.pid)
    project.write("well", "")
    os.kill(program.pid, signal.SIGCONT)
    # When the second check from now on begins, procreaper has handled the result of the hanging one.
    asked.read_text()
    asked.read_text()
    assert "unhealthy" not in program.stop().out
