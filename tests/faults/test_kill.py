"""After `kill -9` of procreaper, in any state, its guard ends all processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from support.driver import Program, Project
from support.survivors import MARKER, marked

from . import trees
from .watching import children, guards, kill, wait_for_guard, wait_until_gone, with_argument

# The number of kills at random times.
KILLS = int(os.environ.get("PROCREAPER_TEST_KILLS", "20"))


@pytest.mark.parametrize("kind", trees.ALL)
def test_no_process_survives(project: Project, kind: str) -> None:
    project.procfile(web=trees.ALL[kind], worker="echo ready; exec sleep 600")
    program = project.begin("start")
    program.wait_for("ready", count=2)
    kill(program)


@pytest.mark.parametrize("started", [0, 1, 2, 10, 29])
def test_no_process_survives_a_kill_during_the_start(project: Project, started: int) -> None:
    project.procfile(web=trees.DOUBLE_FORK, worker="exec sleep 600")
    program = project.begin("start", "-c", "web=15,worker=15")
    program.wait_for("started", count=started)
    kill(program)


@pytest.mark.parametrize("kind", ["stubborn", "tree", "stubborn-escapee"])
def test_no_process_survives_a_kill_during_the_stop(project: Project, kind: str) -> None:
    project.procfile(web=trees.ALL[kind], worker=trees.STUBBORN)
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready", count=2)
    program.send(signal.SIGTERM)
    program.wait_for("sending SIGTERM", count=2)
    kill(program)


def test_no_process_survives_a_kill_during_a_back_off(project: Project) -> None:
    project.procfile(web="echo ready; exit 1", worker=trees.DOUBLE_FORK)
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "1h"\n')
    program = project.begin("start")
    program.wait_for("web.1: .* retry 1")
    program.wait_for("ready", count=2)
    kill(program)


def test_process_that_has_cleared_its_environment_does_not_survive(project: Project) -> None:
    # nginx, Redis and PostgreSQL clear it too: they overwrite it with the title for `ps`.
    project.procfile(
        web="(env -i setsid sh -c 'echo pid $$; exec sleep 600' &); echo left; exec sleep 600",
        other="read line; exit 1",
    )
    project.write(".reaper.toml", '[process.other]\nstop_all = "never"\n')
    program = project.begin("start", stdin=subprocess.PIPE)
    (pid,) = map(int, program.wait_for(r"pid (\d+)$"))
    # The parent has ended.
    program.wait_for("left$")
    # At the end of a process, procreaper scans for escapees, and reports them to the guard.
    program.type("\n")
    program.wait_for("other.1 stopped")
    assert children(program.pid)[pid] != "Z"
    kill(program)
    wait_until_gone([pid])


@pytest.mark.parametrize(
    "command",
    [
        "su - nobody -s /bin/sh -c 'echo pid $$; exec sleep 600'",
        "runuser -l nobody -s /bin/sh -c 'echo pid $$; exec sleep 600'",
        "env -i setsid --wait sh -c 'echo pid $$; exec sleep 600'",
    ],
)
@pytest.mark.parametrize("terminal", [True, False])
def test_descendant_with_a_living_parent_and_a_session_of_its_own_does_not_survive(
    project: Project, command: str, terminal: bool
) -> None:
    if os.geteuid() != 0 and "nobody" in command:
        pytest.skip("only root may become another user")
    if not shutil.which(name := command.split()[0]):
        pytest.skip(f"{name} is not installed")
    project.procfile(web=command)
    program = project.begin("start", terminal=terminal)
    (pid,) = map(int, program.wait_for(r"pid (\d+)"))
    kill(program)
    wait_until_gone([pid])


@pytest.mark.parametrize("terminal", [True, False])
def test_child_without_environment_does_not_survive_a_kill_during_the_start(project: Project, terminal: bool) -> None:
    # It stays in its group, but the guard learns of the group only after the spawn.
    for _ in range(5):
        number = str(random.randrange(10**8, 10**9))
        project.procfile(web=f"exec env -i sleep {number}")
        program = project.begin("start", "-c", "web=20", terminal=terminal)
        program.wait_for("started")
        (guard,) = guards(program.pid)
        kill(program)
        wait_until_gone([guard])
        assert with_argument(number) == []


def test_hooks_do_not_survive(project: Project) -> None:
    project.procfile(web="echo ready; exec sleep 600")
    project.write(".reaper.toml", '[process.web.hooks]\non_ready = "echo hooked; exec sleep 600"\n')
    program = project.begin("start")
    program.wait_for("hooked")
    kill(program)


UNDER_WAY = "(setsid sleep 600 &); echo > began; exec sleep 600"


@pytest.mark.parametrize(
    ("setting", "provoke"),
    [
        (f'health = {{ exec = "{UNDER_WAY}", timeout = "1h" }}', lambda *_: None),
        (f'stop = {{ command = "{UNDER_WAY}" }}', lambda _, program: program.send(signal.SIGTERM)),
        (
            f'watch = {{ paths = ["*.py"], run = "{UNDER_WAY}" }}',
            lambda project, _: project.write("app.py", "saved"),
        ),
    ],
    ids=["check", "stop command", "preparation"],
)
def test_running_side_command_does_not_survive(
    project: Project, setting: str, provoke: Callable[[Project, Program], object]
) -> None:
    os.mkfifo(project.path / "began")
    # `other` depends on `web`, which never becomes healthy in the case of the check.
    project.procfile(web="echo ready; exec sleep 600", other="exec sleep 600")
    project.write(".reaper.toml", f'[process.web]\n{setting}\n[process.other]\ndepends_on = ["web"]\n')
    program = project.begin("start", "-t", "3600")
    program.wait_for("ready")
    if "watch" in setting:
        program.wait_for("other.1 started")
    provoke(project, program)
    (project.path / "began").read_text()
    kill(program)


@pytest.mark.parametrize("way", ["env -i setsid --wait", "su - nobody -s /bin/sh -c", "env -i"])
@pytest.mark.parametrize("setting", ['health = {{ exec = "{}", timeout = "1h" }}', 'hooks = {{ on_ready = "{}" }}'])
def test_side_command_without_a_mark_does_not_survive(project: Project, setting: str, way: str) -> None:
    if os.geteuid() != 0 and "nobody" in way:
        pytest.skip("only root may become another user")
    number = str(random.randrange(10**8, 10**9))
    sleep = f"'exec sleep {number}'" if way.startswith("su ") else f"sleep {number}"
    os.mkfifo(project.path / "began")
    project.procfile(web="exec sleep 600")
    project.write(".reaper.toml", f"[process.web]\n{setting.format(f'echo > began; {way} {sleep}; :')}\n")
    program = project.begin("start")
    (project.path / "began").read_text()
    while not with_argument(number):
        time.sleep(0.005)
    (guard,) = guards(program.pid)
    kill(program)
    wait_until_gone([guard])
    assert with_argument(number) == []


def test_guard_ends_after_its_work(project: Project) -> None:
    project.procfile(web=trees.SETSID)
    program = project.begin("start")
    program.wait_for("ready")
    guard = wait_for_guard(program)
    kill(program)
    wait_until_gone([guard])


@pytest.mark.parametrize("kind", ["stubborn", "double-fork"])
def test_killed_guard_is_replaced(project: Project, kind: str) -> None:
    project.procfile(web=trees.ALL[kind], worker="echo ready; exec sleep 600")
    program = project.begin("start")
    program.wait_for("ready", count=2)
    first = wait_for_guard(program)
    os.kill(first, signal.SIGKILL)
    second = wait_for_guard(program, other_than=first)
    assert first not in children(program.pid)
    kill(program)
    wait_until_gone([second])


def test_stopped_guard_does_not_delay_the_app(project: Project) -> None:
    project.procfile(web="exec sleep 0.01")
    # Filling the pipe would take hours. These restarts show that procreaper does not wait for an answer of the guard.
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "10ms"\n')
    program = project.begin("start")
    guard = wait_for_guard(program)
    os.kill(guard, signal.SIGSTOP)
    program.wait_for("web.1 started", count=3)
    assert program.stop().code == 143
    wait_until_gone([guard])


def test_nested_app_does_not_survive(project: Project) -> None:
    nested(project)
    program = project.begin("start")
    program.wait_for("ready", count=2)
    below = [*guards(program.pid), *(guard for pid in children(program.pid) for guard in guards(pid))]
    assert len(below) == 2
    kill(program)
    wait_until_gone(below)


def test_killed_nested_procreaper_leaves_no_process_in_the_outer_app(project: Project) -> None:
    nested(project)
    program = project.begin("start")
    program.wait_for("ready", count=2)
    (inner,) = (pid for pid in children(program.pid) if guards(pid))
    os.kill(inner, signal.SIGKILL)
    assert program.end().code == 128 + signal.SIGKILL


def test_nested_app_ends_with_the_outer_app(project: Project) -> None:
    nested(project)
    program = project.begin("start")
    program.wait_for("ready", count=2)
    result = program.stop()
    assert result.code == 143
    # The inner app reports the processes that were left behind there. No message is about its guard.
    told = [line for line in result.out.splitlines() if "left behind" in line]
    assert told
    assert all("web.1  | " in line for line in told)


def nested(project: Project) -> None:
    project.procfile(web=f"exec {sys.executable} -m procreaper start -f inner")
    project.write("inner", f"a: {trees.DOUBLE_FORK}\nb: {trees.SETSID}\n")


def test_kills_at_random_times_leave_no_process(project: Project, record_property: pytest.RecordProperty) -> None:
    """The random times range from the first instruction of procreaper to its last."""
    kinds = list(trees.ALL.values())
    project.procfile(a="x", b="x", c="x", crashing="exit 1")
    project.write(".reaper.toml", '[process.crashing]\nrestart = "always"\nbackoff = "20ms"\nstop_all = "never"\n')
    marker = os.environ[MARKER]
    worst = 0.0
    for number in range(KILLS):
        dice = random.Random(number)
        chosen = dice.choices(kinds, k=3)
        project.procfile(a=chosen[0], b=chosen[1], c=chosen[2], crashing="exit 1")
        program = project.begin("start", "-t", "600")
        match number % 3:
            case 0:
                time.sleep(dice.uniform(0, 0.4))
            case 1:
                program.wait_for("ready", count=3)
                time.sleep(dice.uniform(0, 0.1))
            case 2:
                program.wait_for("ready", count=dice.randint(1, 3))
                program.send(signal.SIGTERM)
                time.sleep(dice.uniform(0, 0.05))
        took = kill(program)
        worst = max(worst, took)
        project.clean_up()
        assert marked(marker) == [], (number, chosen)
    # Shown in the report of `--junit-xml`, and by `-s`.
    record_property("worst_seconds", round(worst, 3))
    sys.stdout.write(f"{KILLS} kills, the slowest after {worst * 1000:.0f} ms\n")
