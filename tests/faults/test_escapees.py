"""Processes that leave the group of their run are found, ended with it, and reported; zombies do not accumulate."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support.driver import LIMIT, Program, Project
from support.survivors import Survivors, described

from . import trees
from .watching import children, kill, wait_for_guard, wait_until_gone

ESCAPES = [kind for kind in trees.ALL if kind not in ("stubborn", "tree", "stopped")]
DAEMON = "(setsid sh -c 'echo daemon $$; exec sleep 600' &)"


@pytest.mark.parametrize("kind", [kind for kind in ESCAPES if "stubborn" not in kind])
def test_escapees_are_ended_with_their_process(project: Project, kind: str) -> None:
    project.procfile(web=trees.ALL[kind])
    # Much longer than the limit of these tests: the stop does not wait for processes that have ended.
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready")
    guard = wait_for_guard(program)
    result = program.stop()
    assert result.code == 143
    wait_until_gone([guard])
    (told,) = (line for line in result.lines("system") if line.startswith("ended "))
    assert re.fullmatch(r"ended \w+ \(pid \d+\), which web.1 had left behind", told)


def test_escapee_that_ignores_sigterm_is_killed_after_the_timeout(project: Project) -> None:
    project.procfile(web=trees.STUBBORN_ESCAPEE)
    program = project.begin("start", "-t", "0.1")
    program.wait_for("ready")
    result = program.stop()
    assert result.code == 143
    assert "sending SIGKILL to web.1" in result.out
    assert ", which web.1 had left behind" in result.out


@pytest.mark.parametrize("flag", ["--pty", "--no-pty"])
def test_daemon_without_a_mark_is_ended_even_if_a_detached_process_goes_on(project: Project, flag: str) -> None:
    # The children of a detached process are not ours; the daemon has an output of ours open.
    daemon = "(env -i setsid sh -c 'echo ready; exec sleep 601' &)"
    project.procfile(web=f"{daemon}; exec sleep 600", apart="exec sleep 602")
    project.write(".reaper.toml", '[process.apart]\ndetached = true\nlog = "apart.log"\n')
    program = project.begin("start", flag, env={"XDG_STATE_HOME": str(project.path / "state")})
    program.wait_for("ready")
    (apart,) = program.wait_for(r"apart\.1 started \(pid=(\d+)\)")
    result = program.stop()
    try:
        assert re.search(r"ended \w+ \(pid \d+\), which had been left behind", result.out)
        assert f"apart.1: keeps running without procreaper (pid {apart})" in result.out
        os.kill(int(apart), 0)
    finally:
        os.kill(int(apart), signal.SIGKILL)
        wait_until_gone([int(apart)])


def test_second_signal_kills_escapees_at_once(project: Project) -> None:
    project.procfile(web=trees.STUBBORN_ESCAPEE)
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready")
    program.send(signal.SIGINT)
    program.wait_for("sending SIGTERM to web.1")
    assert program.stop(signal.SIGINT).code == 130


WITHOUT_MARK = {
    "env -i": "env -i setsid --wait sh -c 'echo pid $$; exec sleep 600'",
    "su": "su - nobody -s /bin/sh -c 'echo pid $$; exec sleep 600'",
    "runuser": "runuser -l nobody -s /bin/sh -c 'echo pid $$; exec sleep 600'",
    "env -i, deeper": "setsid --wait env -i setsid --wait setsid --wait sh -c 'echo pid $$; exec sleep 600'",
    "env -i, behind shells": "sh -c 'env -i setsid --wait sh -c \"echo pid \\$\\$; exec sleep 600\"; :'; :",
    "env -i, stubborn": "env -i setsid --wait sh -c 'trap \"\" TERM; echo pid $$; exec sleep 600'",
}


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("kind", WITHOUT_MARK)
def test_restart_ends_a_descendant_without_mark_whose_parent_lives(project: Project, kind: str, terminal: bool) -> None:
    if os.geteuid() != 0 and "nobody" in WITHOUT_MARK[kind]:
        pytest.skip("only root may become another user")
    if not shutil.which(name := WITHOUT_MARK[kind].split()[0]):
        pytest.skip(f"{name} is not installed")
    project.procfile(web=WITHOUT_MARK[kind], other="exec sleep 600")
    project.write(".reaper.toml", '[process.web]\nwatch = ["*.py"]\n')
    program = project.begin("start", "-t", "0.5", terminal=terminal)
    (first,) = map(int, program.wait_for(r"pid (\d+)"))
    program.wait_for("other.1 started")
    gone = os.pidfd_open(first)
    project.write("app.py", "saved")
    program.wait_for("web.1 started", count=2)
    assert select.select([gone], [], [], 0)[0], f"{described(first)} is alive"
    os.close(gone)
    assert program.stop().code == 143


def test_leftover_of_an_exec_check_is_ended_after_the_check(project: Project) -> None:
    project.procfile(web="exec sleep 600")
    project.write("check", "setsid sh -c 'echo > begun; exec sleep 600 <&- >&- 2>&-' & read line < begun")
    os.mkfifo(project.path / "begun")
    project.write(".reaper.toml", '[process.web]\nhealth = { exec = "sh check", interval = "1h" }\n')
    program = project.begin("start", "-t", "3600")
    (pid,) = map(int, program.wait_for(r"ended \w+ \(pid (\d+)\), which a check of web.1 had left behind"))
    wait_until_gone([pid])
    assert program.stop().code == 143


def test_unmarked_process_of_a_check_is_ended_at_the_timeout_of_the_check(project: Project) -> None:
    project.procfile(web="exec sleep 600")
    project.write("check", "env -i setsid --wait sh -c 'exec sleep 600 <&- >&- 2>&-'")
    settings = '[process.web]\nhealth = { exec = "sh check", interval = "1h", timeout = "1s" }\n'
    project.write(".reaper.toml", settings)
    program = project.begin("start", "-t", "3600")
    (pid,) = map(int, program.wait_for(r"ended \w+ \(pid (\d+)\), which a check of web.1 had left behind"))
    wait_until_gone([pid])
    assert program.stop().code == 143


def test_processes_of_a_running_check_are_left_alone(project: Project) -> None:
    # The helper has lost its parent. The leftover of another check makes procreaper scan for leftovers.
    project.procfile(web="exec sleep 600", other="exec sleep 600")
    os.mkfifo(project.path / "begun")
    os.mkfifo(project.path / "go on")
    helper = "(setsid sh -c 'echo > begun; read line < \"go on\"; echo $line' &); read line < begun"
    project.write("check", f"{helper}; echo > waits; while [ ! -e done ]; do sleep 0.01; done")
    # A check ends with its group, which the leftover must have left before.
    until_both = "until [ -e waits ] && [ -e left ]; do sleep 0.01; done"
    project.write("litter", f"(setsid sh -c ': > left; exec sleep 600' &); {until_both}")
    project.write(
        ".reaper.toml",
        '[process.web]\nhealth = { exec = "sh check", timeout = "1h" }\n'
        '[process.other]\nhealth = { exec = "sh litter", interval = "1h", timeout = "1h" }\n',
    )
    program = project.begin("start")
    program.wait_for("which a check of other.1 had left behind")
    # This fails if the helper has been ended, because then no process reads from the FIFO.
    os.close(os.open(project.path / "go on", os.O_WRONLY | os.O_NONBLOCK))
    project.write("done", "")
    program.wait_for("web.1 is healthy")
    assert program.stop().code == 143


@pytest.mark.parametrize("status", [0, 3])
def test_process_that_becomes_a_daemon_ends_the_app_and_is_ended(project: Project, status: int) -> None:
    project.procfile(web=f"{DAEMON}; read line; exit {status}", other="exec sleep 600")
    program = project.begin("start", "-t", "3600", stdin=subprocess.PIPE)
    (pid,) = program.wait_for(r"daemon (\d+)$")
    program.type("\n")
    result = program.end()
    assert result.code == status
    assert any(
        re.fullmatch(rf"ended \w+ \(pid {pid}\), which web.1 had left behind", line) for line in result.lines("system")
    )


def test_daemon_that_has_cleared_its_environment_is_ended_with_the_app(project: Project) -> None:
    project.procfile(web=f"(env -i {DAEMON[1:-2]} &); exec sleep 600")
    program = project.begin("start", "-t", "3600")
    (pid,) = program.wait_for(r"daemon (\d+)$")
    result = program.stop()
    assert result.code == 143
    # It may not have become `sleep` yet.
    assert re.fullmatch(rf"ended \w+ \(pid {pid}\), which had been left behind", result.lines("system")[-1])


@pytest.mark.parametrize("impatient", [False, True])
def test_stubborn_daemon_of_an_unknown_run_is_killed(project: Project, impatient: bool) -> None:
    project.write("daemon", f"trap '' TERM; echo daemon $$; {trees.STUBBORN}")
    project.procfile(web="(env -i setsid sh daemon &); exec sleep 600")
    program = project.begin("start", "-t", "3600" if impatient else "0.1")
    (pid,) = program.wait_for(r"daemon (\d+)$")
    program.wait_for("ready")
    program.send(signal.SIGTERM)
    program.wait_for("web.1 stopped")
    result = program.stop() if impatient else program.end()
    assert result.code == 143
    wait_until_gone([int(pid)])
    assert f"ended sh (pid {pid})" in result.lines("system")[-1]


def test_no_daemon_survives_the_restart_of_its_process(project: Project) -> None:
    project.procfile(web=f"{DAEMON}; read line; exit 1", other=DAEMON.replace("daemon", "other") + "; exec sleep 600")
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "10ms"\n')
    program = project.begin("start", "-t", "3600", stdin=subprocess.PIPE)
    (first,) = program.wait_for(r"daemon (\d+)$")
    (other,) = program.wait_for(r"other (\d+)$")
    program.type("\n")
    program.wait_for("web.1 started", count=2)
    assert int(first) not in children(program.pid)
    assert children(program.pid)[int(other)] != "Z"
    program.wait_for(r"daemon (\d+)$", count=2)
    assert program.stop().code == 143


def test_fifty_daemons_that_end_leave_no_zombies(project: Project) -> None:
    os.mkfifo(project.path / "fifo")
    daemons = "for n in $(seq 50); do (setsid sh -c 'echo ready; read line < fifo' &); done; "
    # Half of them are in a session that another process has created.
    project.procfile(
        web=daemons.replace("(setsid sh", "(setsid sh -c 'sh \"$@\" & :' sh") + "exec sleep 600",
        b=daemons + "exec sleep 600",
    )
    program = project.begin("start")
    program.wait_for("ready", count=100)
    wait_for_children(program, 102)
    with (project.path / "fifo").open("w") as fifo:
        fifo.write("\n" * 100)
        fifo.flush()
        wait_for_children(program, 2)
    assert program.stop().code == 143


def test_short_lived_orphans_in_the_group_leave_no_zombies(project: Project) -> None:
    project.procfile(web="for n in $(seq 50); do (sh -c 'sleep 0.01' &); done; echo ready; exec sleep 600")
    program = project.begin("start")
    program.wait_for("ready")
    wait_for_children(program, 1)
    assert program.stop().code == 143


def test_no_status_of_a_child_is_lost_beside_orphans(project: Project) -> None:
    # All end at the same time, with orphans among them. Reaping a wrong process would change these codes.
    project.procfile(**{f"p{code}": f"(setsid true &); (true &); exit {code}" for code in range(30)})
    project.write(".reaper.toml", '[defaults]\nstop_all = "never"\n')
    result = project.run("start")
    codes = {name: int(code) for name, code in re.findall(r"(p\d+)\.1 stopped \(rc=(\d+)\)", result.out)}
    assert codes == {f"p{code}": code for code in range(30)}


def test_children_from_before_are_left_alone(project: Project, survivors: Survivors) -> None:
    # They are our children because procreaper has replaced the shell that started them.
    project.procfile(web="echo ready; exec sleep 600")
    project.write("stranger", "echo $$ > stranger.pid; read line < stranger.fifo; echo spared > spared")
    os.mkfifo(project.path / "stranger.fifo")
    program = project.begin(
        "start", wrapper=("sh", "-c", '(sleep 600 & exec setsid sh stranger) >/dev/null 2>&1 & exec "$@"', "sh")
    )
    program.wait_for("ready")
    assert program.stop().code == 143
    with (project.path / "stranger.fifo").open("w") as fifo:
        fifo.write("\n")
    wait_until_gone([int((project.path / "stranger.pid").read_text())])
    assert (project.path / "spared").read_text() == "spared\n"
    (sleeper,) = (int(left.partition(" ")[0]) for left in survivors.find())
    os.kill(sleeper, signal.SIGKILL)
    wait_until_gone([sleeper])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP])
def test_guard_ignores_signals(project: Project, number: signal.Signals) -> None:
    project.procfile(web=trees.STUBBORN)
    program = project.begin("start", "-t", "0.1")
    program.wait_for("ready")
    guard = wait_for_guard(program)
    os.kill(guard, number)
    assert guard in children(program.pid)
    kill(program)
    wait_until_gone([guard])


def test_guard_inherits_no_descriptors(project: Project) -> None:
    project.procfile(web="echo ready; exec sleep 600")
    wrapper = ("sh", "-c", 'exec 5>held 6<Procfile; exec "$@"', "sh")
    program = project.begin("start", wrapper=wrapper)
    program.wait_for("ready")
    guard = wait_for_guard(program)
    holds = {os.readlink(f"/proc/{guard}/fd/{name}").partition(":")[0] for name in os.listdir(f"/proc/{guard}/fd")}
    assert holds == {"pipe", "/dev/null"}
    assert os.readlink(f"/proc/{guard}/cwd") == "/"
    assert os.getsid(guard) == guard
    # The children do not hold its pipe either: otherwise the guard would never see the end of the pipe.
    pipe = os.readlink(f"/proc/{guard}/fd/0")
    (child,) = set(children(program.pid)) - {guard}
    assert pipe not in {os.readlink(f"/proc/{child}/fd/{name}") for name in os.listdir(f"/proc/{child}/fd")}
    assert program.stop().code == 143


def test_app_runs_with_a_warning_if_there_is_no_shell_for_the_guard(project: Project) -> None:
    project.procfile(web=f"{DAEMON}; exec sleep 600")
    script = (
        "import sys; from procreaper.runtime.cleanup import guard; guard.SHELL = '/nowhere/sh'; "
        "from procreaper.__main__ import main; "
        "sys.argv[1:] = sys.argv[sys.argv.index('procreaper') + 1:]; main()"
    )
    program = project.begin("start", wrapper=(sys.executable, "-c", script))
    program.wait_for("daemon")
    result = program.stop()
    assert result.code == 143
    assert len(re.findall("warning: there is no guard: no such file or directory", result.err)) == 1


def wait_for_children(program: Program, count: int) -> None:
    """Wait until the program has `count` children besides the guard, including zombies."""
    deadline = time.monotonic() + LIMIT
    while (found := len(children(program.pid)) - 1) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
