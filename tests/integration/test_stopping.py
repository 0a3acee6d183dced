"""Every end of the app leaves no process, and the app always ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.driver import CATCH, Project
from support.survivors import Survivors

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
# Ignores stop signals, and prints `ready` when it does.
STUBBORN = "trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 600; done"


@pytest.mark.parametrize("number", ENDING)
def test_signal_ends_the_app_with_128_plus_n(project: Project, number: signal.Signals) -> None:
    project.procfile(web="echo ready; exec sleep 600", worker="echo ready; exec sleep 600")
    program = project.begin("start")
    program.wait_for("ready", count=2)
    result = program.stop(number)
    assert result.code == 128 + number
    system = [re.sub(r"pid \d+", "pid N", line) for line in result.lines("system") if "started" not in line]
    assert system[:3] == [
        f"{number.name} received",
        "sending SIGTERM to web.1 (pid N)",
        "sending SIGTERM to worker.1 (pid N)",
    ]
    assert sorted(system[3:]) == ["web.1 stopped (rc=-15)", "worker.1 stopped (rc=-15)"]


def test_typed_ctrl_c_reaches_the_children_as_sigterm_only(project: Project) -> None:
    project.procfile(web=f"exec {project.python('catch', CATCH)}")
    program = project.begin("start", "--no-color", terminal=True)
    program.wait_for("ready")
    program.type("\x03")
    result = program.end()
    assert result.code == 130
    # SIGINT has the lower number and would have been taken first.
    assert result.lines("web.1") == ["ready", "SIGTERM"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_that_ignores_sigterm_is_killed_after_the_timeout(project: Project, number: signal.Signals) -> None:
    project.procfile(web=STUBBORN)
    program = project.begin("start", "-t", "0.1")
    program.wait_for("ready")
    result = program.stop(number)
    assert result.code == 128 + number
    assert [line.partition(" (")[0] for line in result.lines("system")[-3:]] == [
        "sending SIGTERM to web.1",
        "sending SIGKILL to web.1",
        "web.1 stopped",
    ]
    assert result.lines("system")[-1] == "web.1 stopped (rc=-9)"


@pytest.mark.parametrize("second", ENDING)
def test_second_signal_kills_at_once(project: Project, second: signal.Signals) -> None:
    project.procfile(web=STUBBORN, worker=STUBBORN)
    # Much longer than the limit of these tests.
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready", count=2)
    program.send(signal.SIGINT)
    program.wait_for("sending SIGTERM", count=2)
    result = program.stop(second)
    assert result.code == 130
    assert result.out.count("sending SIGKILL") == 2


def test_signal_while_the_app_ends_does_not_hide_the_cause(project: Project) -> None:
    project.procfile(web="read answer; exit 3", other=STUBBORN)
    program = project.begin("start", "-t", "3600", stdin=subprocess.PIPE)
    program.wait_for("ready")
    program.type("\n")
    program.wait_for("sending SIGTERM to other.1")
    program.send(signal.SIGINT)
    program.wait_for("SIGINT received")
    assert program.stop(signal.SIGINT).code == 3


def test_whole_group_is_ended(project: Project) -> None:
    # A shell that waits for a shell that waits for a program; only the innermost tells that it lives.
    project.procfile(web="sh -c \"sh -c 'echo ready; sleep 600; :'; :\"; :")
    program = project.begin("start")
    program.wait_for("ready")
    assert program.stop().code == 143


def test_group_members_that_ignore_sigterm_are_killed_too(project: Project) -> None:
    project.procfile(web=f'sh -c "{STUBBORN}" & wait')
    program = project.begin("start", "-t", "0.1")
    program.wait_for("ready")
    result = program.stop()
    assert result.code == 143
    assert "sending SIGKILL to web.1" in result.out


def test_exit_is_noticed_while_a_grandchild_holds_the_pipe(project: Project) -> None:
    project.procfile(web="sleep 600 & echo ready; exit 7", other="exec sleep 600")
    result = project.run("start")
    assert result.code == 7
    assert "web.1 stopped (rc=7)" in result.lines("system")


def test_output_of_a_group_that_outlives_its_leader_is_shown(project: Project) -> None:
    os.mkfifo(project.path / "gate")
    project.procfile(web=f"{project.python('catch', CATCH)} & cat gate; exit 3")
    program = project.begin("start")
    program.wait_for("ready")
    (project.path / "gate").write_text("")
    result = program.end()
    assert (result.code, result.lines("web.1")) == (3, ["ready", "SIGTERM"])


def test_grandchild_in_its_own_session_does_not_delay_the_end(project: Project, survivors: Survivors) -> None:
    escapee = "import os; os.setsid(); print('ready', flush=True); import signal; signal.sigwait({signal.SIGUSR1})"
    os.mkfifo(project.path / "gate")
    project.procfile(web=f"{project.python('escapee', escapee)} & cat gate; exit 7")
    program = project.begin("start")
    program.wait_for("ready")
    (project.path / "gate").write_text("")
    assert program.end().code == 7
    survivors.kill()


def test_suspended_process_ends_like_any_other(project: Project) -> None:
    project.procfile(web="trap 'echo obeyed; exit' TERM; echo ready; kill -STOP $$; read x < never")
    os.mkfifo(project.path / "never")
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready")
    result = program.stop()
    assert (result.code, result.lines("web.1")[-1]) == (143, "obeyed")


@pytest.mark.parametrize("started", [0, 1, 5, 20])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_start_leaves_no_process(project: Project, started: int, number: signal.Signals) -> None:
    project.procfile(web="exec sleep 600")
    program = project.begin("start", "-c", "web=30")
    program.wait_for("started", count=started)
    program.send(number)
    result = program.end(traceback=started == 0)
    # Before the program looks after its signals it ends as any other; Python ends with 1 before that.
    assert result.code in ((128 + number,) if started else (128 + number, -number, 1))
    assert result.out.count("started") == result.out.count("stopped (rc=")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCHLD, signal.SIGPIPE])
def test_other_signals_do_not_end_the_app(project: Project, number: signal.Signals) -> None:
    project.procfile(web="echo ready; read answer; echo $answer; cat > /dev/null")
    program = project.begin("start", stdin=subprocess.PIPE)
    program.wait_for("ready")
    program.send(number)
    program.type("still here\n")
    program.wait_for("still here")
    assert program.stop().code == 143


def test_two_hundred_processes_start_print_and_stop(project: Project) -> None:
    project.procfile(web="echo ready; exec sleep 600")
    program = project.begin("start", "-c", "web=200")
    program.wait_for("ready$", count=200)
    if sys.platform == "linux":
        # The loop's and the writer's; none for each child.
        assert "\nThreads:\t2\n" in Path(f"/proc/{program.pid}/status").read_text()
    result = program.stop()
    assert result.code == 143
    assert len(re.findall(r"^\S+ web\.\d+ +\| ready$", result.out, re.MULTILINE)) == 200
    assert result.out.count("stopped (rc=-15)") == 200


def test_flood_does_not_delay_the_end(project: Project) -> None:
    project.procfile(flood="exec yes", other="echo ready; exec sleep 600")
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready")
    program.wait_for(r"flood\.1 +\| y\n")
    result = program.stop(signal.SIGINT)
    assert result.code == 130
    # Only whole lines: what was under way at the end is there up to its last byte, or not at all.
    assert set(result.lines("flood.1")) == {"y"}
