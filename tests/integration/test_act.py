"""Control the running app from a second terminal: requests take effect, and the answers report the outcome."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

from support.driver import DOUBTFUL, PROGRAM, Project
from support.running import STAYS, app, processes

# Prints `no` on a stop signal.
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""

ON_LINUX = sys.platform == "linux"


def test_stopped_process_stays_stopped_and_its_dependants_keep_running(project: Project) -> None:
    program = app(project, '[process.web]\ndepends_on = ["db"]\n')
    program.wait_for("ready", count=2)
    result = project.run("stop", "db")
    assert (result.code, result.out, result.err) == (0, "db.1 stopped\n", "")
    program.wait_for(r"`procreaper stop` \(pid \d+\) asks for the end of `db\.1`" if ON_LINUX else "asks for the end")
    assert program.out.index("asks for the end of `db.1`") < program.out.index("sending SIGTERM to db.1")
    assert {name: process["state"] for name, process in processes(project).items()} == {
        "db.1": "stopped",
        "web.1": "running",
    }
    again = project.run("stop", "db")
    assert (again.code, again.out) == (0, "db.1 was not running\n")
    assert program.stop().code == 143


def test_up_starts_the_named_processes_and_their_dependencies(project: Project) -> None:
    program = app(project, '[process.web]\ndepends_on = ["db"]\n')
    program.wait_for("ready", count=2)
    project.run("stop", "all")
    result = project.run("up", "web")
    assert result.code == 0
    assert sorted(re.findall(r"^(.*) \(pid \d+\)$", result.out, re.MULTILINE)) == ["db.1 is up", "web.1 is up"]
    assert project.run("up", "web").out == "web.1 is up already\n"
    program.stop()


def test_up_starts_a_process_that_the_app_was_started_without(project: Project) -> None:
    project.procfile(db=STAYS, web=STAYS, worker=STAYS, mail=STAYS)
    project.write(".reaper.toml", '[process.worker]\ndepends_on = ["db"]\n')
    program = project.begin("start", "web")
    program.wait_for("ready")
    before = processes(project)
    refused = project.run("restart", "worker")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        "procreaper: error: `worker` is not in this app, which was started without it\n"
        "  hint: `procreaper up worker` starts it too\n"
    )
    result = project.run("up", "web", "worker")
    assert (result.code, result.err) == (0, "")
    assert sorted(re.sub(r"pid \d+", "pid", result.out).splitlines()) == [
        "db.1 is up (pid)",
        "web.1 is up already",
        "worker.1 is up (pid)",
    ]
    after = processes(project)
    assert sorted(after) == ["db.1", "web.1", "worker.1"]
    assert after["web.1"]["pid"] == before["web.1"]["pid"]
    assert project.run("scale", "mail=1").code == 0
    assert processes(project)["mail.1"]["state"] == "running"
    program.stop()


def test_up_of_a_new_process_that_fails_at_once_fails(project: Project) -> None:
    project.procfile(web=STAYS, worker="exit 3")
    project.write(".reaper.toml", '[process.worker]\nrestart = "always"\nbackoff = "60s"\n')
    program = project.begin("start", "web")
    program.wait_for("ready")
    result = project.run("up", "worker")
    assert result.code == 1
    assert result.err.startswith("procreaper: error: worker.1 is not up: restarting: exited with code 3; retry 1 in 60")
    program.stop()


def test_process_type_without_instances_can_be_scaled(project: Project) -> None:
    project.procfile(web=STAYS, worker=STAYS)
    program = project.begin("start", "-c", "worker=0")
    program.wait_for("ready")
    result = project.run("up", "worker")
    assert (result.code, result.err) == (
        1,
        "procreaper: error: there are no processes of `worker`: its concurrency is 0\n"
        "  hint: `procreaper scale worker=1` starts one\n",
    )
    program.stop()


def test_restart_returns_when_the_new_run_is_up(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    before = processes(project)
    result = project.run("restart", "web")
    after = processes(project)
    assert (result.code, result.out) == (0, f"web.1 restarted (pid {after['web.1']['pid']})\n")
    assert after["web.1"]["pid"] != before["web.1"]["pid"]
    assert after["db.1"]["pid"] == before["db.1"]["pid"]
    program.stop()


def test_groups_and_patterns_are_names(project: Project) -> None:
    program = app(project, '[process.web]\nconcurrency = 2\n[groups]\nback = ["db"]\n')
    program.wait_for("ready", count=3)
    assert project.run("stop", "back").out == "db.1 stopped\n"
    assert sorted(project.run("stop", "web.*").out.split("\n")[:-1]) == ["web.1 stopped", "web.2 stopped"]
    program.stop()


def test_unknown_name_changes_nothing(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    result = project.run("stop", "web", "wbe")
    assert result.code == 1
    assert result.err.startswith("procreaper: error: there is no process `wbe`\n  hint: ")
    assert all(process["state"] == "running" for process in processes(project).values())
    program.stop()


def test_process_that_cannot_come_up_is_named_with_its_reason(project: Project) -> None:
    settings = '[process.web]\nautostart = false\nhealth = {log = "up"}\n[process.gone]\nautostart = false\n'
    program = app(project, settings, db=STAYS, web="exit 3", gone="exec ./missing")
    program.wait_for("ready")
    result = project.run("up", "web", "gone", wrapper=DOUBTFUL)
    assert result.code == 1
    assert "web.1 is not up: failed: exited with code 3" in result.err
    assert "gone.1 is not up: failed: command not found (exit code 127)" in result.err
    assert "`procreaper logs web.1`" in result.err
    program.stop()


def test_earlier_failure_is_not_reported_for_a_new_run(project: Project) -> None:
    program = app(project, db=STAYS, web="test -e ok && exec sleep 1000; exit 3")
    program.wait_for(r"web\.1 stopped")
    project.write("ok", "")
    result = project.run("up", "web")
    assert (result.code, result.err) == (0, "")
    program.stop()


def test_quit_waits_until_the_app_has_ended_with_exit_code_0(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    result = project.run("quit")
    assert (result.code, result.out) == (0, "the app has ended\n")
    assert program.end().code == 0


def test_without_an_app_the_error_names_the_remedy(project: Project) -> None:
    project.procfile(web=STAYS)
    for command in (["up", "web"], ["scale", "web=2"], ["reload"], ["quit"], ["ps"]):
        result = project.run(*command)
        assert result.code == 1
        assert "no app of this directory is running\n  hint: `procreaper start` starts it" in result.err


def test_several_apps_of_one_directory_are_distinguished_by_their_processes(project: Project) -> None:
    project.procfile(db=STAYS, web=STAYS)
    one, other = project.begin("start", "db"), project.begin("start", "web")
    for program in (one, other):
        program.wait_for("ready")
    assert project.run("stop", "web").out == "web.1 stopped\n"
    result = project.run("quit")
    assert result.code == 1
    assert "2 apps of this directory are running" in result.err
    assert f"--pid {one.pid}" in result.err
    assert project.run("quit", "--pid", str(one.pid)).code == 0
    assert project.run("quit").code == 0
    assert (one.end().code, other.end().code) == (0, 0)


def test_scale_refuses_an_argument_that_is_no_number(project: Project) -> None:
    for pair in ("web", "web=x", "=2", "web=-1"):
        result = project.run("scale", pair)
        assert result.code == 2
        assert f"scale {pair}: expected TYPE=NUMBER" in result.err


def test_scale_refuses_two_numbers_for_one_type(project: Project) -> None:
    result = project.run("scale", "web=2", "db=1", "web=3")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "procreaper: error: scale web=3: `web` is given twice, first as web=2\n  hint: name each process type once\n"
    )


def test_scale_gives_the_reason_when_nothing_changes(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    result = project.run("scale", "wbe=2")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        "procreaper: error: wbe=2: there is no process type `wbe`",
        "  hint: did you mean `web`?",
        "procreaper: error: 1 error, so nothing has been changed",
    ]
    program.stop()


def test_interrupted_wait_does_not_cancel_the_request(project: Project) -> None:
    stubborn = project.python("stubborn", STUBBORN)
    program = app(project, '[process.web]\nstop = {timeout = "60s"}\n', db=STAYS, web=f"exec {stubborn}")
    program.wait_for("ready", count=2)
    waiting = project.begin("stop", "web")
    program.wait_for("no")
    result = waiting.stop(signal.SIGINT)
    assert result.code == 130
    assert "stopped waiting" in result.err
    assert processes(project)["web.1"]["state"] == "stopping"
    program.insist(signal.SIGTERM)


def test_stop_waits_for_a_process_that_only_sigkill_ends(project: Project) -> None:
    stubborn = project.python("stubborn", STUBBORN)
    program = app(project, '[process.web]\nstop = {timeout = "200ms"}\n', db=STAYS, web=f"exec {stubborn}")
    program.wait_for("ready", count=2)
    result = project.run("stop", "web")
    assert (result.code, result.out, result.err) == (0, "web.1 stopped\n", "")
    program.wait_for("sending SIGKILL to web")
    program.stop()


def test_progress_is_shown_on_a_terminal_and_erased_again(project: Project) -> None:
    stubborn = project.python("stubborn", STUBBORN)
    program = app(project, '[process.web]\nstop = {timeout = "1h"}\n', db=STAYS, web=f"exec {stubborn}")
    program.wait_for("ready", count=2)
    ours, its = os.openpty()
    shown = ""
    try:
        with subprocess.Popen((*PROGRAM, "stop", "web"), cwd=project.path, env=project.environment, stderr=its) as stop:
            while "web.1 stopping" not in shown:
                shown += os.read(ours, 1 << 16).decode()
            os.kill(processes(project)["web.1"]["pid"], signal.SIGKILL)
            while not shown.endswith("\r\x1b[K"):
                # A terminal gives out what was written to it in pieces.
                shown += os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(its)
    assert stop.returncode == 0
    program.stop()
