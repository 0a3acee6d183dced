"""`start -D` while an app of the directory runs: no second app starts, in any order and number of calls."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest
from support.driver import Project, altered
from support.survivors import Survivors

from .test_background import STAY, End, end, processes, told, wait_until

__all__ = ["end"]

HINT = "  hint: `procreaper ps` shows it, `logs -f` what it writes, `quit` ends it\n"


def apps(project: Project) -> list[int]:
    """The pids of the apps of this directory."""
    result = project.run("ps", "--json")
    return sorted({process["app"] for process in json.loads(result.out or "[]")})


def started(project: Project, *arguments: str) -> int:
    """Start an app in the background; the answer is its pid."""
    result = project.run("start", "-D", *arguments)
    assert result.code == 0, result
    return int(re.findall(r"\(pid (\d+)\)", result.out)[0])


def quit_all(project: Project, survivors: Survivors) -> None:
    for pid in apps(project):
        assert project.run("quit", "--pid", str(pid)).code == 0
    wait_until(lambda: not survivors.find())


@pytest.mark.parametrize("flags", [(), ("--wait",)])
@pytest.mark.parametrize("names", [(), ("web",), ("web", "worker")])
def test_app_that_runs_all_processes_is_left_alone(
    project: Project, end: End, flags: tuple[str, ...], names: tuple[str, ...]
) -> None:
    project.procfile(web=STAY, worker=STAY, setup="true")
    project.write(".reaper.toml", "[process.setup]\noneshot = true\n")
    pid = started(project, "--wait")
    result = project.run("start", "-D", *flags, *names)
    assert (result.code, result.out, result.err) == (0, f"already up (pid {pid})\n{HINT}", "")
    assert apps(project) == [pid]
    end()


def test_process_that_is_still_starting_counts_as_running(project: Project, end: End) -> None:
    project.procfile(web=STAY, worker=STAY)
    project.write(".reaper.toml", '[process.web]\nhealth = {log = "never"}\n[process.worker]\ndepends_on = ["web"]\n')
    pid = started(project)
    result = project.run("start", "-D")
    assert (result.code, result.out) == (0, f"already up (pid {pid})\n{HINT}")
    result = project.run("start", "-D", "--wait", "--wait-timeout", "0.5")
    waiting = "  web.1: starting: waiting for its log line\n  worker.1: pending: waiting for web.1\n"
    text = f"not all processes are up after 0.5 s\n{waiting}"
    assert told(result).startswith(f"procreaper: error: {text}  hint: the app runs on in the background (pid N)")
    assert result.code == 1
    end()


@pytest.mark.parametrize(("flags", "verb"), [((), "starts"), (("--wait",), "is up")])
def test_missing_process_starts_in_the_running_app(
    project: Project, end: End, flags: tuple[str, ...], verb: str
) -> None:
    project.procfile(web=STAY, worker=STAY)
    pid = started(project, "web")
    for _ in range(2):
        result = project.run("start", "-D", *flags, "worker")
        said = f"worker.1 {verb} in the running app (pid {pid})\n{HINT}"
        assert (result.code, result.out, result.err) == (0, said, "")
        wait_until(lambda: processes(project) == {"web.1": "running", "worker.1": "running"})
        assert project.run("stop", "worker").code == 0
    assert apps(project) == [pid]
    end()


def test_new_starts_another_app(project: Project, survivors: Survivors) -> None:
    project.procfile(web=STAY)
    first = started(project)
    second = started(project, "--new")
    assert first != second
    assert apps(project) == sorted((first, second))
    # One of them runs all of it, which is enough.
    assert "already up" in project.run("start", "-D").out
    assert project.run("stop", "web", "--pid", str(first)).code == 0
    assert project.run("start", "-D").out == f"already up (pid {second})\n{HINT}"
    assert project.run("stop", "web", "--pid", str(second)).code == 0
    result = project.run("start", "-D")
    assert result.code == 1
    assert result.err.startswith("procreaper: error: 2 apps of this directory are running, and it is not clear which ")
    low, high = sorted((first, second))
    assert f"`procreaper up web.1` with `--pid {low}` or `--pid {high}` starts them in one of these" in result.err
    assert "`procreaper start -D --new` starts another app" in result.err
    quit_all(project, survivors)


def test_flags_that_need_another_plan_are_named_and_ignored(project: Project, end: End) -> None:
    project.procfile(web=STAY, worker=STAY)
    pid = started(project)
    result = project.run("start", "-D", "-f", "Procfile", "-c", "web=2", "-p", "7000", "-r", "web")
    assert (result.code, result.out) == (0, f"already up (pid {pid})\n{HINT}")
    assert result.err == (
        f"procreaper: warning: the running app (pid {pid}) is not changed by `-f`, `-p`, `-c` or `-r`\n"
        "  hint: `procreaper start -D --new` starts another app with them\n"
    )
    assert processes(project) == {"web.1": "running", "worker.1": "running"}
    end()


@pytest.mark.parametrize("port", ["7000", "auto"])
def test_flags_of_the_running_app_cause_no_warning(project: Project, end: End, port: str) -> None:
    listen = (
        "import os, socket, time; s = socket.create_server(('127.0.0.1', int(os.environ['PORT']))); time.sleep(1e6)"
    )
    project.procfile(web=STAY, worker=f'exec {sys.executable} -S -c "{listen}"')
    project.write(".reaper.toml", '[process.worker]\nhealth = {tcp = "127.0.0.1:$PORT"}\n')
    flags = ("-c", "web=2", "-p", port)
    pid = started(project, *flags, "--wait")
    result = project.run("start", "-D", *flags)
    assert (result.code, result.out, result.err) == (0, f"already up (pid {pid})\n{HINT}", "")
    end()


def test_flags_that_differ_from_the_running_app_are_named(project: Project, end: End) -> None:
    project.procfile(web=STAY, worker=STAY)
    pid = started(project, "-c", "web=2", "-p", "7000")
    result = project.run("start", "-D", "-c", "web=2", "-p", "7001")
    assert f"(pid {pid}) is not changed by `-p`\n" in result.err
    result = project.run("start", "-D", "-c", "web=1", "-p", "7000")
    assert f"(pid {pid}) is not changed by `-c`\n" in result.err
    end()


def test_new_process_type_in_the_files_is_refused_with_a_remedy(project: Project, end: End) -> None:
    project.procfile(web=STAY)
    pid = started(project)
    project.procfile(web=STAY, worker=STAY)
    result = project.run("start", "-D")
    assert result.code == 1
    assert result.err.startswith(f"procreaper: error: the running app (pid {pid}): ")
    assert "`procreaper reload` reads the files again, `procreaper start -D --new` starts another app" in result.err
    assert processes(project) == {"web.1": "running"}
    end()


def test_two_calls_at_once_start_one_app(project: Project, survivors: Survivors) -> None:
    project.procfile(web=STAY, worker=STAY)
    for _ in range(5):
        programs = [project.begin("start", "-D", "--wait") for _ in range(2)]
        results = [program.end() for program in programs]
        assert [result.code for result in results] == [0, 0], results
        (pid,) = apps(project)
        said = sorted(result.out.partition("\n")[0] for result in results)
        assert said == [f"all processes are up; the app runs in the background (pid {pid})", f"already up (pid {pid})"]
        quit_all(project, survivors)


def test_process_that_cannot_come_up_is_named_with_its_last_lines(project: Project, end: End) -> None:
    project.procfile(web=STAY, api="echo no database; exit 3")
    project.write(".reaper.toml", '[process.api]\nautostart = false\nstop_all = "never"\n')
    started(project)
    result = project.run("start", "-D", "--wait", "--no-color", "api", wrapper=altered(SURE_LATER))
    assert result.code == 1
    text = "api.1 is not up: failed: exited with code 3\nTIME api.1  | no database\n"
    assert told(result).startswith(f"procreaper: error: {text}  hint: the app runs on in the background (pid N)")
    assert processes(project)["web.1"] == "running"
    end()


# Does not believe that a process is up before it has ended, however slow the machine is.
SURE_LATER = "from procreaper.core import outcome; outcome.CONFIRMED_AFTER = 30.0"


def test_process_that_ends_the_app_is_named(project: Project, survivors: Survivors) -> None:
    project.procfile(web=STAY, css="echo css is done")
    project.write(".reaper.toml", "[process.css]\nautostart = false\n")
    started(project)
    result = project.run("start", "-D", "--wait", "--no-color", "web", "css", wrapper=altered(SURE_LATER))
    assert told(result) == (
        "procreaper: error: css.1 has ended (exit code 0), and that ended the app\nTIME css.1  | css is done\n"
        "  hint: the app has ended, with exit code 0\n"
    )
    assert result.code == 1
    wait_until(lambda: not survivors.find())


def test_app_that_is_about_to_end_is_replaced_after_its_end(project: Project, end: End) -> None:
    project.procfile(web="trap 'read line <go; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    project.write(".reaper.toml", '[process.web]\nhealth = {log = "ready"}\nstop = {timeout = "1h"}\n')

    os.mkfifo(project.path / "go")
    first = started(project, "--wait")
    ending = project.begin("quit")
    wait_until(lambda: processes(project) == {"web.1": "stopping"})
    program = project.begin("start", "-D", "--wait")
    (project.path / "go").write_text("go\n")
    assert ending.end().code == 0
    result = program.end()
    assert result.code == 0, result
    (second,) = apps(project)
    assert second != first
    quitting = project.begin("quit")
    (project.path / "go").write_text("go\n")
    assert quitting.end().code == 0


def test_new_is_for_the_background_only(project: Project) -> None:
    project.procfile(web=STAY)
    result = project.run("start", "--new")
    assert result.code == 1
    assert result.err.startswith("procreaper: error: --new is for an app in the background\n  hint: leave it out")
