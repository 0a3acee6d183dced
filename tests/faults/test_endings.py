"""Stopped processes and zombies, which a signal does not reach, do not delay an end."""

from __future__ import annotations

import os
import signal

import pytest
from support.driver import Project

from . import trees
from .watching import children, wait_until_gone

# Has a child that is a zombie, and never reaps it. SIGTERM ends it.
NEGLIGENT = """
import os, signal
pid = os.fork()
if not pid:
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print("ready", pid, flush=True)
signal.pause()
"""
# The zombie is in the group, but its parent has left the group.
ORPHANED = """
import os, signal
if not os.fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.setsid()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    print("ready", pid, flush=True)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    os.dup2(1, 2)
signal.pause()
"""


@pytest.mark.parametrize("source", [NEGLIGENT, ORPHANED], ids=["negligent", "orphaned"])
def test_zombie_in_the_group_does_not_delay_the_end(project: Project, source: str) -> None:
    project.procfile(web=f"exec {project.python('zombie', source)}")
    # Much longer than the limit of these tests.
    program = project.begin("start", "-t", "3600")
    (pid,) = program.wait_for(r"ready (\d+)$")
    result = program.stop()
    assert result.code == 143
    assert "SIGKILL" not in result.out
    wait_until_gone([int(pid)])


@pytest.mark.parametrize("source", [NEGLIGENT, ORPHANED], ids=["negligent", "orphaned"])
def test_zombie_in_the_group_does_not_delay_the_next_run(project: Project, source: str) -> None:
    project.procfile(web=f"exec {project.python('zombie', source)}")
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "1ms"\nstop = { timeout = "1h" }\n')
    program = project.begin("start")
    program.wait_for("ready")
    (pid,) = program.wait_for(r"web\.1 started \(pid=(\d+)\)$")
    os.kill(int(pid), signal.SIGKILL)
    (first, _) = map(int, program.wait_for(r"ready (\d+)$", count=2))
    assert first not in children(program.pid)
    assert program.stop().code == 143


@pytest.mark.parametrize("kind", ["stopped", "stopped-escapee"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_members_of_the_group_end_on_the_stop_signal(
    project: Project, kind: str, number: signal.Signals
) -> None:
    project.procfile(web=trees.ALL[kind])
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready")
    result = program.stop(number)
    assert result.code == 128 + number
    assert "SIGKILL" not in result.out


def test_stopped_process_that_ignores_sigterm_is_killed_after_the_timeout(project: Project) -> None:
    project.procfile(web="trap '' TERM; echo ready; kill -STOP $$; while :; do sleep 600; done")
    program = project.begin("start", "-t", "0.1")
    program.wait_for("ready")
    result = program.stop()
    assert result.code == 143
    assert "sending SIGKILL to web.1" in result.lines("system")[-2]


def test_second_signal_kills_a_stopped_process(project: Project) -> None:
    project.procfile(web="trap '' TERM; echo ready; kill -STOP $$; while :; do sleep 600; done")
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready")
    program.send(signal.SIGINT)
    program.wait_for("sending SIGTERM")
    assert program.stop(signal.SIGINT).code == 130
