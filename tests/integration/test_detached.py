"""Detached processes survive every end of the app, and the next start adopts them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.driver import CATCH, Program, Project
from support.survivors import Survivors

from .test_background import wait_until

STAY = "echo ready; exec sleep 600"
SETTINGS = '[process.tunnel]\ndetached = true\nlog = "log/tunnel.log"\n'


class Tunnel:
    """The detached process of a project."""

    def __init__(self, project: Project, survivors: Survivors) -> None:
        self.project = project
        self._survivors = survivors
        self.state = project.path / "state" / "procreaper"
        project.environment["XDG_STATE_HOME"] = str(project.path / "state")

    def write(self, command: str = STAY, more: str = "") -> None:
        """A project with this process, and one that is not detached."""
        self.project.procfile(web=STAY, tunnel=command)
        self.project.write(".reaper.toml", SETTINGS + more)

    def begin(self, *arguments: str) -> Program:
        """Start the app, and wait until both run."""
        program = self.project.begin("start", "--no-color", *arguments)
        program.wait_for(r"web.1    \| ready")
        program.wait_for(r"tunnel.1 started|tunnel.1 runs since")
        self.wait_for("ready")
        return program

    def wait_for(self, text: str) -> None:
        """Wait until it has written this."""
        log = self.project.path / "log" / "tunnel.log"
        wait_until(lambda: log.exists() and text in log.read_text())

    @property
    def pid(self) -> int | None:
        """Its pid, by its record."""
        for path in self.state.glob("*.json"):
            return int(json.loads(path.read_text())["pid"])
        return None

    def lives(self) -> bool:
        """Whether it, and nothing else that was started, is alive."""
        wait_until(lambda: len(self._survivors.find()) <= 1)
        return [text.partition(" ")[0] for text in self._survivors.find()] == [str(self.pid)]

    def kill(self) -> None:
        """End it, and all that it has started."""
        self._survivors.kill()


@pytest.fixture
def tunnel(project: Project, survivors: Survivors) -> Iterator[Tunnel]:
    tunnel = Tunnel(project, survivors)
    yield tunnel
    tunnel.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_detached_process_survives_the_app_and_the_next_app_adopts_it(tunnel: Tunnel, number: signal.Signals) -> None:
    tunnel.write()
    result = tunnel.begin().stop(number)
    pid = tunnel.pid
    assert tunnel.lives()
    if number is not signal.SIGKILL:
        assert f"tunnel.1: keeps running without procreaper (pid {pid})" in result.lines("system")
        assert "sending SIGTERM to tunnel.1" not in result.out
    program = tunnel.begin()
    program.wait_for(rf"tunnel.1 runs since [\d:]+; adopted \(pid {pid}\)$")
    assert tunnel.pid == pid
    logs = tunnel.project.run("logs", "tunnel").out
    result = program.stop()
    assert "tunnel.1 started" not in result.out + logs
    assert tunnel.lives()


def test_two_apps_share_a_detached_process_and_quit_does_not_end_it(tunnel: Tunnel) -> None:
    tunnel.write()
    first = tunnel.begin()
    second = tunnel.begin()
    pid = tunnel.pid
    second.wait_for(rf"adopted \(pid {pid}\)$")
    assert first.stop().code == 143
    assert second.stop().code == 143
    assert tunnel.lives()


def test_stop_ends_a_detached_process_with_its_group(project: Project, tunnel: Tunnel) -> None:
    tunnel.write(f"sleep 600 & {STAY}")
    tunnel.begin().stop()
    program = tunnel.begin()
    stopped = project.run("stop", "tunnel")
    assert (stopped.code, stopped.out) == (0, "tunnel.1 stopped\n")
    program.wait_for(r"tunnel.1 stopped \(rc=unknown\)$")
    assert tunnel.pid is None
    assert project.run("up", "tunnel").code == 0
    assert project.run("restart", "tunnel").code == 0
    assert len(program.wait_for("tunnel.1 started", count=2)) == 2
    program.stop()


def test_detached_process_that_ignores_sigterm_is_killed_after_the_timeout(project: Project, tunnel: Tunnel) -> None:
    tunnel.write(f"exec {project.python('catch', CATCH)} SIGTERM", more='stop = {timeout = "100ms"}\n')
    tunnel.begin().stop()
    program = tunnel.begin()
    assert project.run("stop", "tunnel").code == 0
    program.wait_for("sending SIGKILL to tunnel.1")
    tunnel.wait_for("SIGTERM")
    program.stop()


def test_changed_command_is_reported_and_takes_effect_on_restart(project: Project, tunnel: Tunnel) -> None:
    tunnel.write()
    tunnel.begin().stop()
    tunnel.write("echo other; exec sleep 600")
    program = tunnel.begin()
    program.wait_for(
        "tunnel.1 was started with another command than it has now; `procreaper restart tunnel` changes that"
    )
    assert project.run("restart", "tunnel").code == 0
    tunnel.wait_for("other")
    program.stop()


def test_end_of_a_detached_process_is_noticed_although_it_is_no_child(tunnel: Tunnel) -> None:
    tunnel.write(more='restart = "always"\nbackoff = "10ms"\n')
    tunnel.begin().stop()
    program = tunnel.begin()
    pid = tunnel.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    program.wait_for(r"tunnel.1 stopped \(rc=unknown\)$")
    program.wait_for(r"tunnel.1 started")
    assert tunnel.pid != pid
    program.stop()


@pytest.mark.parametrize("changes", [{"born": "1"}, {"boot": "another"}])
def test_process_with_a_reused_pid_is_left_alone(project: Project, tunnel: Tunnel, changes: dict[str, str]) -> None:
    tunnel.write()
    tunnel.begin().stop()
    (path,) = tunnel.state.glob("*.json")
    record = json.loads(path.read_text())
    os.kill(record["pid"], signal.SIGKILL)
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    fields = Path(f"/proc/{other.pid}/stat").read_text().rpartition(") ")[2].split()
    path.write_text(json.dumps({**record, "pid": other.pid, "born": fields[19], **changes}))
    program = tunnel.begin()
    program.wait_for("tunnel.1 started")
    assert project.run("stop", "tunnel").code == 0
    program.stop()
    assert other.poll() is None
    other.kill()
    other.wait()


# Daemons, which lose their parent and come to the app; the second has overwritten its environment, too.
DAEMONS = {
    "orphan": "(setsid sh -c 'echo daemon $$ >>daemon; exec sleep 600' &);",
    "child": "setsid sh -c 'echo daemon $$ >>daemon; exec sleep 600' &",
    "without a mark": "(env -i PROCREAPER_TEST=$PROCREAPER_TEST setsid sh -c 'echo daemon $$ >>daemon; sleep 600' &);",
}


@pytest.mark.parametrize("daemon", DAEMONS.values(), ids=DAEMONS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_descendants_of_a_detached_process_are_left_alone(
    project: Project, tunnel: Tunnel, daemon: str, number: signal.Signals
) -> None:
    tunnel.write(f"{daemon} {STAY}")
    program = tunnel.begin()
    daemons = project.path / "daemon"
    wait_until(lambda: daemons.exists() and "\n" in daemons.read_text())
    guard = guard_of(program)
    result = program.stop(number)
    assert "left behind" not in result.out
    # What the app leaves to its guard is done once that is gone.
    wait_until(lambda: not guard.exists())
    (daemon_pid,) = re.findall(r"\d+", daemons.read_text())
    assert tunnel.pid is not None
    for pid in (int(daemon_pid), tunnel.pid):
        os.kill(pid, 0)


def guard_of(program: Program) -> Path:
    """The guard of an app, in /proc."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            its_parent = stat.read_text().rpartition(") ")[2].split()[1]
            if its_parent == str(program.pid) and b"reaper-guard" in (stat.parent / "cmdline").read_bytes():
                return stat.parent
    raise AssertionError("there is no guard")


def test_detached_process_survives_quit_of_a_background_app(project: Project, tunnel: Tunnel) -> None:
    tunnel.write()
    assert project.run("start", "-D", "--wait").code == 0
    tunnel.wait_for("ready")
    assert project.run("quit").code == 0
    assert tunnel.lives()


def test_quit_lists_detached_processes_that_keep_running(project: Project, tunnel: Tunnel) -> None:
    tunnel.write()
    program = tunnel.begin()
    result = project.run("quit")
    assert (result.code, result.out) == (
        0,
        f"the app has ended\nstill running, because detached: tunnel.1 (pid {tunnel.pid})\n"
        f"  hint: the next `start` adopts what runs, `kill {tunnel.pid}` ends it\n",
    )
    assert program.end().code == 0
    assert tunnel.lives()


def test_quit_does_not_list_stopped_detached_processes(project: Project, tunnel: Tunnel) -> None:
    tunnel.write()
    program = tunnel.begin()
    assert project.run("stop", "tunnel").code == 0
    assert project.run("quit").out == "the app has ended\n"
    assert program.end().code == 0


def test_start_and_ps_warn_of_a_formerly_detached_process(project: Project, tunnel: Tunnel) -> None:
    tunnel.write()
    tunnel.begin().stop()
    pid = tunnel.pid
    project.write(".reaper.toml", '[process.tunnel]\nlog = "log/tunnel.log"\n')
    program = project.begin("start", "--no-color")
    warning = (
        f"procreaper: warning: tunnel.1 of an earlier start was detached and still runs (pid {pid})\n"
        f"  hint: `kill {pid}` ends it; `detached = true` under `[process.tunnel]` adopts it\n"
    )
    program.wait_for_error(warning)
    assert project.run("ps").err == warning
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: project.run("ps").err == "")
    assert program.stop().code == 143
