"""Commands that leave no shell: the program has the pid, the signals and the exit status."""

from __future__ import annotations

import signal

import pytest
from support.driver import CATCH, Project
from support.running import processes

COMMANDS = ["{}", "cd . && {}", "true; X=1 {}", "cd .\n{} 2>&1"]
PID = "import os, signal; print('pid', os.getpid(), flush=True); signal.pause()"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flags", [("--pty",), ("--no-pty",)], ids=" ".join)
def test_ps_shows_the_pid_of_the_program(project: Project, command: str, flags: tuple[str, ...]) -> None:
    command = command.format(project.python("pid", PID))
    project.procfile(web="unused")
    project.write(".reaper.toml", f"[process.web]\ncommand = '''{command}'''\n")
    program = project.begin("start", *flags)
    (pid,) = program.wait_for(r"pid (\d+)")
    assert processes(project)["web.1"]["pid"] == int(pid)
    assert "exec " not in project.run("ps", "--json").out
    assert "stopped (rc=-15)" in program.stop().out


@pytest.mark.parametrize("flags", [("--pty",), ("--no-pty",)], ids=" ".join)
def test_only_main_reaches_the_program(project: Project, flags: tuple[str, ...]) -> None:
    project.procfile(web=f"cd . && {project.python('catch', CATCH)}")
    project.write(".reaper.toml", "[process.web]\nstop = { only_main = true, timeout = '1h' }\n")
    program = project.begin("start", *flags)
    program.wait_for("ready")
    assert program.stop().lines("web.1") == ["ready", "SIGTERM"]


def test_watch_signal_reaches_the_program(project: Project) -> None:
    project.write("app.conf", "1\n")
    project.procfile(web=f"cd . && {project.python('catch', CATCH)} SIGHUP")
    project.write(".reaper.toml", '[process.web]\nwatch = { paths = ["app.conf"], signal = "SIGHUP" }\n')
    program = project.begin("start")
    program.wait_for("ready")
    project.write("app.conf", "2\n")
    program.wait_for("SIGHUP")
    assert program.stop().lines("web.1") == ["ready", "SIGHUP", "SIGTERM"]


def test_exit_status_is_that_of_the_program(project: Project) -> None:
    project.procfile(web="cd . && python3 -c 'import os; os.kill(os.getpid(), 9)'")
    result = project.run("start")
    assert result.code == 128 + signal.SIGKILL
    assert "web.1 stopped (rc=-9)" in result.out
