"""`start -D`: an app in the background, and the report of the command that starts it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.driver import DOUBTFUL, LIMIT, Project, Result, altered
from support.survivors import Survivors

STAY = "echo ready; exec sleep 600"
RUNS = (
    r"the app runs in the background \(pid (\d+)\)\n"
    r"  hint: `procreaper ps` shows it, `logs -f` what it writes, `quit` ends it\n"
)
RUNS_ON = (
    "  hint: the app runs on in the background (pid N): "
    "`procreaper ps` shows it, `logs -f` what it writes, `quit` ends it\n"
)

End = Callable[[], None]


@pytest.fixture
def end(project: Project, survivors: Survivors) -> Iterator[End]:
    """Ends the app, and waits until nothing is left of it."""

    def quit_app() -> None:
        assert project.run("quit").code == 0
        wait_until(lambda: not survivors.find())

    return quit_app


def wait_until(happened: Callable[[], bool]) -> None:
    """Poll a condition until it is true."""
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def processes(project: Project) -> dict[str, str]:
    """The state of each process of the app."""
    result = project.run("ps", "--json")
    assert result.code == 0, result
    return {item["name"]: item["state"] for item in json.loads(result.out)}


def told(result: Result) -> str:
    """What was told on standard error, without pids and times of day."""
    return re.sub(r"\d\d:\d\d:\d\d", "TIME", re.sub(r"\(pid \d+\)", "(pid N)", result.err))


def test_start_returns_when_the_app_can_be_reached(project: Project, end: End) -> None:
    project.procfile(web=STAY, worker=STAY)
    result = project.run("start", "-D")
    assert (result.code, result.err) == (0, "")
    match = re.fullmatch(RUNS, result.out)
    assert match is not None
    (app,) = {item["app"] for item in json.loads(project.run("ps", "--json").out)}
    assert app == int(match[1])
    end()


def test_app_keeps_only_directory_and_umask_of_its_start(project: Project, end: End) -> None:
    project.procfile(web="umask >umask; pwd >directory; echo ready; exec sleep 600")
    # `run` waits until the app and its processes have closed the output.
    result = project.run("start", "-D", "--wait", wrapper=("sh", "-c", 'umask 027; exec 7>&1 8>&2; exec "$@"', "sh"))
    assert result.code == 0
    assert (project.path / "umask").read_text() == "0027\n"
    assert (project.path / "directory").read_text() == f"{project.path}\n"
    app = re.findall(r"\(pid (\d+)\)", result.out)[0]
    streams = [os.readlink(f"/proc/{app}/fd/{number}") for number in (0, 1, 2)]
    assert streams == [os.devnull] * 3
    _, _, group, session = Path(f"/proc/{app}/stat").read_text().rpartition(") ")[2].split()[:4]
    assert group == session != app
    end()


@pytest.mark.parametrize("arguments", [(), ("nope",), ("-p", "x"), ("-x", "web")])
def test_errors_of_the_project_are_reported_as_in_the_foreground(project: Project, arguments: tuple[str, ...]) -> None:
    if arguments:
        project.procfile(web=STAY)
    in_front, behind = (project.run("start", *flags, *arguments) for flags in ((), ("-D",)))
    assert behind == in_front
    assert behind.err


def test_app_without_a_control_socket_does_not_start(project: Project, survivors: Survivors) -> None:
    project.procfile(web=STAY)
    # With a path that is short enough for a socket, however often tests were run here.
    with tempfile.TemporaryDirectory() as runtime:
        directory = Path(runtime, "procreaper")
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        result = project.run("start", "-D", env={"XDG_RUNTIME_DIR": runtime})
    assert (result.code, result.out) == (1, "")
    assert f"no other terminal can control this app: the directory for control sockets, `{directory}`" in result.err
    assert "error: `start -D` needs a control socket, so the app does not start\n  hint: " in result.err
    wait_until(lambda: not survivors.find())


def test_app_survives_the_end_of_its_terminal(project: Project, end: End) -> None:
    project.procfile(web="test -t 1 && echo terminal >there; echo ready; exec sleep 600")
    program = project.begin("start", "-D", "--wait", terminal=True)
    assert program.end().code == 0
    program.leave()
    assert processes(project) == {"web.1": "running"}
    # As it would be in front, so that it can be attached to.
    assert (project.path / "there").exists()
    end()


def test_processes_of_an_app_without_a_terminal_have_none(project: Project, end: End) -> None:
    project.procfile(web="test -t 1 && echo terminal >there; echo ready; exec sleep 600")
    assert project.run("start", "-D", "--wait").code == 0
    assert not (project.path / "there").exists()
    end()


# As `esbuild --watch` and `tailwindcss --watch` do.
UNTIL_END_OF_INPUT = "echo ready; cat >/dev/null; echo standard input was closed"


def test_process_that_ends_with_its_input_keeps_running(project: Project, end: End) -> None:
    project.procfile(js=UNTIL_END_OF_INPUT, css=UNTIL_END_OF_INPUT, web=STAY)
    result = project.run("start", "-D", "--wait")
    assert (result.code, result.err) == (0, "")
    assert processes(project) == {"js.1": "running", "css.1": "running", "web.1": "running"}
    end()


def test_kill_9_also_ends_a_process_that_waits_for_input(project: Project, survivors: Survivors) -> None:
    project.procfile(js=UNTIL_END_OF_INPUT, css=UNTIL_END_OF_INPUT)
    (app,) = re.findall(r"\(pid (\d+)\)", project.run("start", "-D", "--wait").out)
    os.kill(int(app), signal.SIGKILL)
    wait_until(lambda: not survivors.find())


def test_kill_9_leaves_no_process(project: Project, survivors: Survivors) -> None:
    project.procfile(web=STAY)
    (app,) = re.findall(r"\(pid (\d+)\)", project.run("start", "-D", "--wait").out)
    os.kill(int(app), signal.SIGKILL)
    wait_until(lambda: not survivors.find())


# `--wait`.


def test_wait_returns_when_all_processes_are_up(project: Project, end: End) -> None:
    project.procfile(web=STAY, setup="echo done", worker=STAY, never=STAY)
    project.write(
        ".reaper.toml",
        """
        [process.web]
        health = {log = "ready", start_timeout = "60s"}
        [process.setup]
        oneshot = true
        depends_on = ["web"]
        [process.worker]
        depends_on = ["setup"]
        [process.never]
        autostart = false
        """,
    )
    result = project.run("start", "-D", "--wait")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("all processes are up; the app runs in the background (pid ")
    states = {"web.1": "healthy", "setup.1": "completed", "worker.1": "running", "never.1": "stopped"}
    assert processes(project) == states
    end()


def test_wait_continues_while_a_process_is_retried(project: Project, end: End) -> None:
    project.procfile(web="test -e second && exec sleep 600; touch second; exit 3")
    project.write(".reaper.toml", '[process.web]\nrestart = "on-failure"\nbackoff = "10ms"\n')
    assert project.run("start", "-D", "--wait").code == 0
    assert processes(project) == {"web.1": "running"}
    end()


LINES = "for n in $(seq 30); do echo line $n; done; "
FAILED = {
    "exits": (
        {"web": "echo hello; exit 3"},
        "",
        "web.1 has ended (exit code 3), and that ended the app\nTIME web.1  | hello\n",
        3,
    ),
    "is a dependency": (
        {"db": "echo oh; exit 4", "web": STAY},
        '[process.web]\ndepends_on = ["db"]\n',
        "db.1 has ended (exit code 4), and that ended the app\nTIME db.1   | oh\n",
        4,
    ),
    "is killed": ({"web": "kill -9 $$"}, "", "web.1 has ended (killed by SIGKILL), and that ended the app\n", 137),
    "cannot be run": (
        {"web": "true"},
        '[process.web]\ncommand = ["./nowhere"]\n',
        "web.1 has failed (no such file or directory: ./nowhere), and that ended the app\n",
        127,
    ),
    "is never healthy": (
        {"web": "exec sleep 600"},
        '[process.web]\nhealth = {log = "ready", start_timeout = "100ms"}\n',
        'web.1 has failed (not healthy within 0.1 s: no line has matched "ready"; it has written nothing, its '
        "output may be buffered (try `--pty`, `pty = true` or PYTHONUNBUFFERED=1)), and that ended the app\n",
        124,
    ),
    "is skipped": (
        {"worker": STAY, "web": "exit 3"},
        '[process.web]\noneshot = true\nstop_all = "never"\n[process.worker]\ndepends_on = ["web"]\n',
        "web.1 has failed (exited with code 3), and nothing else runs\n",
        3,
    ),
    "is detached": (
        {"web": f"{LINES} exit 3"},
        '[process.web]\ndetached = true\nlog = "web.log"\n',
        "web.1 has ended (exit code 3), and that ended the app\n"
        + "".join(f"--:--:-- web.1  | line {number}\n" for number in range(11, 31)),
        3,
    ),
    "writes much": (
        {"web": f"{LINES} exit 3"},
        "",
        "web.1 has ended (exit code 3), and that ended the app\n"
        + "".join(f"TIME web.1  | line {number}\n" for number in range(11, 31)),
        3,
    ),
}


@pytest.mark.parametrize(("commands", "settings", "expected", "code"), FAILED.values(), ids=FAILED)
def test_wait_names_the_process_that_cannot_come_up_and_the_reason(
    project: Project, survivors: Survivors, commands: dict[str, str], settings: str, expected: str, code: int
) -> None:
    project.environment["XDG_STATE_HOME"] = str(project.path / "state")
    project.procfile(**commands)
    if settings:
        project.write(".reaper.toml", settings)
    result = project.run("start", "-D", "--wait", "--no-color", wrapper=DOUBTFUL)
    # Each case ends the app, and the command waits for that.
    assert told(result) == f"procreaper: error: {expected}  hint: the app has ended, with exit code {code}\n"
    assert (result.code, result.out) == (code, "")
    wait_until(lambda: not survivors.find())


def test_process_that_ends_the_app_with_exit_code_0_is_named(project: Project, survivors: Survivors) -> None:
    project.procfile(web=STAY, css="echo css is done")
    project.write(".reaper.toml", '[process.web]\nhealth = {log = "never"}\n')
    result = project.run("start", "-D", "--wait", "--no-color")
    assert told(result) == (
        "procreaper: error: css.1 has ended (exit code 0), and that ended the app\nTIME css.1  | css is done\n"
        "  hint: the app has ended, with exit code 0\n"
    )
    assert result.code == 1
    wait_until(lambda: not survivors.find())


def test_failed_dependency_is_named(project: Project, end: End) -> None:
    project.procfile(db="echo bye", web=STAY, worker=STAY)
    settings = '[process.db]\nstop_all = "never"\nhealth = {log = "up"}\n[process.web]\ndepends_on = {db = "healthy"}\n'
    project.write(".reaper.toml", settings)
    result = project.run("start", "-D", "--wait", "--no-color")
    assert result.code == 1
    text = "db.1 is not up: completed: exited with code 0; so web.1 was not started\nTIME db.1     | bye"
    assert told(result) == f"procreaper: error: {text}\n{RUNS_ON}"
    end()


def test_app_continues_while_other_processes_run(project: Project, end: End) -> None:
    project.procfile(web="exit 3", worker=STAY)
    project.write(".reaper.toml", '[process.web]\nstop_all = "never"\n')
    result = project.run("start", "-D", "--wait", wrapper=DOUBTFUL)
    assert result.code == 1
    assert told(result) == f"procreaper: error: web.1 is not up: failed: exited with code 3\n{RUNS_ON}"
    assert processes(project) == {"web.1": "failed", "worker.1": "running"}
    end()


NEVER_READY = '[process.web]\nhealth = {log = "never", start_timeout = "1h"}\n[process.worker]\ndepends_on = ["web"]\n'


def test_wait_timeout_names_the_processes_that_are_not_up(project: Project, end: End) -> None:
    project.procfile(web=STAY, worker=STAY, other=STAY)
    project.write(".reaper.toml", NEVER_READY)
    # In that time the app has to begin, on a loaded machine too.
    result = project.run("start", "-D", "--wait", "--wait-timeout", "4")
    assert result.code == 1
    assert told(result) == (
        "procreaper: error: not all processes are up after 4 s\n"
        "  web.1: starting: waiting for its log line\n"
        f"  worker.1: pending: waiting for web.1\n{RUNS_ON}"
    )
    end()


def test_wait_reports_an_app_that_is_stopped_meanwhile(project: Project, survivors: Survivors) -> None:
    project.procfile(web=STAY, worker=STAY)
    project.write(".reaper.toml", NEVER_READY)
    program = project.begin("start", "-D", "--wait")
    wait_until(lambda: project.run("ps").code == 0)
    assert project.run("quit").code == 0
    result = program.end()
    assert result.code != 0
    text = "procreaper: error: `procreaper quit` ended the app\n  hint: the app has ended, with exit code 0\n"
    assert told(result) == text
    wait_until(lambda: not survivors.find())


def test_ctrl_c_ends_the_wait_but_not_the_app(project: Project, end: End) -> None:
    project.procfile(web=STAY, worker=STAY)
    project.write(".reaper.toml", NEVER_READY)
    program = project.begin("start", "-D", "--wait")
    wait_until(lambda: project.run("ps").code == 0)
    result = program.stop(signal.SIGINT)
    assert result.code == 130
    assert told(result) == f"procreaper: error: stopped waiting\n{RUNS_ON}"
    assert processes(project) == {"web.1": "starting", "worker.1": "pending"}
    end()


@pytest.fixture
def held(project: Project) -> Iterator[int]:
    """An app that does not come to its first run, as long as this lock for its detached process is held elsewhere."""
    state = project.path / "state" / "procreaper"
    state.mkdir(parents=True, mode=0o700)
    project.environment["XDG_STATE_HOME"] = str(state.parent)
    project.procfile(web=STAY)
    project.write(".reaper.toml", '[process.web]\ndetached = true\nlog = "web.log"\n')
    lock = os.open(state, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield lock
    os.close(lock)


def find_app(survivors: Survivors) -> int:
    """Wait for the app itself, which is in a session that it does not lead, and return its pid."""
    while True:
        wait_until(lambda: any("procreaper start" in text for text in survivors.find()))
        for pid in (int(text.partition(" ")[0]) for text in survivors.find() if "procreaper start" in text):
            with suppress(ProcessLookupError):
                session = os.getsid(pid)
                # Who has started it leads a session; who has made the app does too, or is of that session.
                if session != pid and not Path(f"/proc/{session}").exists():
                    return pid


def test_ctrl_c_before_the_app_is_in_the_background_ends_it(project: Project, survivors: Survivors, held: int) -> None:
    impatient = altered("from procreaper.cli.commands import start_report; start_report.END_LIMIT = 0.2")
    program = project.begin("start", "-D", wrapper=impatient)
    find_app(survivors)
    result = program.insist(signal.SIGINT)
    assert result.code in (130, -signal.SIGINT)
    assert result.out == ""
    if result.code == 130:
        # It may come to its first run now, but it has been told to end.
        fcntl.flock(held, fcntl.LOCK_UN)
        wait_until(lambda: not any("procreaper start" in text for text in survivors.find()))
    survivors.kill()


def test_app_that_is_killed_before_that_is_reported(project: Project, survivors: Survivors, held: int) -> None:
    program = project.begin("start", "-D")
    os.kill(find_app(survivors), signal.SIGKILL)
    result = program.end()
    assert (result.code, result.out) == (1, "")
    assert "procreaper: error: the app has ended without giving a reason\n  hint: was it killed?\n" in result.err
    wait_until(lambda: not survivors.find())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--wait",), "--wait is for an app in the background"),
        (("-D", "--wait-timeout", "5"), "--wait-timeout says how long `--wait` may take"),
        (("-D", "--wait", "--wait-timeout", "soon"), "--wait-timeout soon: this is not a number of seconds"),
        (("-D", "--wait", "--wait-timeout", "-1"), "--wait-timeout -1: this is not a number of seconds"),
    ],
)
def test_contradictory_flags_are_refused(project: Project, arguments: tuple[str, ...], message: str) -> None:
    project.procfile(web=STAY)
    result = project.run("start", *arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"procreaper: error: {message}\n  hint: ")


# What is known of an app that has ended.

GONE = "procreaper: error: no app of this directory is running\n"
STARTS = "`procreaper start` starts it, `procreaper ls` lists the running apps\n"
KEPT = f"  hint: `procreaper logs` shows its last lines, {STARTS}"


def explained(result: Result) -> str:
    """What was told, without pids, times of day and what has passed since."""
    return re.sub(r"\(\d+s ago\)", "(N ago)", told(result))


def last(end: str, lines: str = "", hint: str = KEPT) -> str:
    """What `ps` says of the last app in the background, with its `end`."""
    return f"{GONE}  the last app in the background (pid N){end}\n{lines}{hint}"


def test_ps_and_logs_explain_the_end_of_an_app(project: Project, survivors: Survivors) -> None:
    project.write("Procfile.dev", f"web: {STAY}\napi: sleep 0.2; echo no database; exit 3\n")
    assert project.run("start", "-D", "-f", "Procfile.dev").code == 0
    wait_until(lambda: project.run("ps").code == 1)
    end = " ended at TIME (N ago) with exit code 3: api.1 has ended (exit code 3), and that ended the app"
    for command in (("ps",), ("ps", "--json")):
        result = project.run(*command)
        assert (result.code, result.out) == (1, "")
        assert explained(result) == last(end, "TIME api.1  | no database\n")
    assert explained(project.run("restart", "web")) == last(end)
    result = project.run("logs")
    assert result.code == 0
    assert result.lines("api.1") == ["no database"]
    assert result.lines("web.1") == ["ready"]
    assert explained(result) == (
        "procreaper: no app of this directory is running: showing the last lines that were kept\n"
        f"  the last app in the background (pid N){end}\n"
    )
    assert project.run("logs", "-n", "1", "api").lines("web.1") == []
    wait_until(lambda: not survivors.find())
    # Whatever starts next is another story, also in the foreground.
    project.procfile(web="echo hello")
    assert project.run("start").code == 0
    assert project.run("ps").err == f"{GONE}  hint: {STARTS}"


def test_end_of_an_app_on_request_is_explained(project: Project, end: End) -> None:
    project.procfile(web=STAY)
    project.run("start", "-D", "--wait")
    end()
    quit_ = " ended at TIME (N ago) with exit code 0: `procreaper quit` ended the app"
    assert explained(project.run("ps")) == last(quit_)
    (pid,) = re.findall(r"\(pid (\d+)\)", project.run("start", "-D", "--wait").out)
    os.kill(int(pid), signal.SIGTERM)
    wait_until(lambda: project.run("ps").code == 1)
    sigterm = " ended at TIME (N ago) with exit code 143: SIGTERM ended the app"
    assert explained(project.run("ps", "--pid", pid)).endswith(last(sigterm).removeprefix(GONE))


def test_end_of_a_killed_app_is_explained(project: Project, survivors: Survivors) -> None:
    project.procfile(web=STAY)
    (pid,) = re.findall(r"\(pid (\d+)\)", project.run("start", "-D", "--wait").out)
    os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: not survivors.find())
    killed = ", started at TIME, has ended without giving a reason: it was killed, or ran out of memory"
    for command in ("ps", "logs"):
        result = project.run(command)
        assert (result.code, explained(result)) == (1, last(killed, hint=f"  hint: {STARTS}"))


def test_internal_error_is_explained(project: Project, survivors: Survivors) -> None:
    os.mkfifo(project.path / "go")
    project.procfile(web="read line <go")
    broken = "import procreaper.core.notices as t\ndef end(*_): raise RuntimeError('broken')\nt.end = end"
    assert project.run("start", "-D", "--wait", wrapper=altered(broken)).code == 0
    (project.path / "go").write_text("go\n")
    wait_until(lambda: project.run("ps").code == 1)
    error = " ended at TIME (N ago) with exit code 70: internal error: RuntimeError: broken (<string>:"
    assert error in explained(project.run("ps"))
    wait_until(lambda: not survivors.find())


def test_logs_without_a_procfile_does_not_suggest_f(project: Project) -> None:
    result = project.run("logs")
    assert (result.code, result.err) == (1, f"{GONE}  hint: {STARTS}")


# An app whose socket is removed, as cleaners of /tmp and the end of a login session do.


@pytest.fixture
def runtime(project: Project) -> Iterator[Path]:
    """A runtime directory that a test may remove, with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="run-") as name:
        project.environment["XDG_RUNTIME_DIR"] = name
        yield Path(name)


@pytest.mark.skipif(sys.platform != "linux", reason="only inotify reports the removal to an idle app")
def test_idle_app_makes_a_removed_socket_directory_again(project: Project, runtime: Path, end: End) -> None:
    project.procfile(web=STAY)
    assert project.run("start", "-D").code == 0
    # The first time before any client has come, the second time with one that stays.
    for follows in (False, True):
        follower = project.begin("logs", "-f") if follows else None
        if follower is not None:
            follower.wait_for("the control socket was removed")
        (socket,) = (runtime / "procreaper").iterdir()
        subprocess.run(["rm", "-r", str(socket.parent)], check=True)
        wait_until(lambda: bool(list(runtime.glob("procreaper/*.sock"))))
        assert processes(project) == {"web.1": "running"}
        if follower is not None:
            follower.wait_for("the control socket was removed, and is now", count=2)
    end()
    assert list((runtime / "procreaper").iterdir()) == []


@pytest.mark.parametrize("reported", [True, False])
def test_app_that_cannot_make_its_socket_again_warns_once_and_retries_at_each_run(
    project: Project, runtime: Path, reported: bool
) -> None:
    project.procfile(web=STAY)
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "1ms"\n')
    unreported = (
        "from procreaper.remote.control.socket_directory import ListeningSocket; ListeningSocket.watch = lambda _: None"
    )
    program = project.begin("start", wrapper=() if reported else altered(unreported))
    program.wait_for("ready")

    def restart(runs: int) -> None:
        pid = int(program.wait_for(r"web\.1 started \(pid=(\d+)\)", count=runs)[-1])
        os.kill(pid, signal.SIGTERM)
        program.wait_for("ready", count=runs + 1)

    wait_until(lambda: bool(list(runtime.glob("procreaper/*.sock"))))
    (socket,) = (runtime / "procreaper").iterdir()
    socket.parent.chmod(0o755)
    socket.unlink()
    restart(1)
    program.wait_for(
        "no other terminal can control this app any more: its socket was removed, .* is open to other users"
    )
    socket.parent.chmod(0o700)
    restart(2)
    program.wait_for("the control socket was removed, and is now")
    assert processes(project) == {"web.1": "running"}
    result = program.stop()
    assert (result.code, result.err) == (128 + signal.SIGTERM, "")
    assert result.out.count("any more") == 1


def test_app_without_its_socket_ends_normally(project: Project, runtime: Path) -> None:
    project.procfile(web=STAY)
    program = project.begin("start")
    program.wait_for("ready")
    wait_until(lambda: bool(list(runtime.glob("procreaper/*.sock"))))
    shutil.rmtree(runtime / "procreaper")
    result = program.stop()
    assert (result.code, result.err) == (128 + signal.SIGTERM, "")


# In the foreground.

FROM_ANOTHER = "in another terminal: procreaper ps, logs, attach, restart"


@pytest.mark.parametrize(
    ("arguments", "terminal", "expected"),
    [
        ((), True, True),
        (("--no-prefix",), True, False),
        (("--log-format", "json"), True, False),
        ((), False, False),
    ],
)
def test_start_on_a_terminal_names_the_commands_for_another_terminal(
    project: Project, arguments: tuple[str, ...], terminal: bool, expected: bool
) -> None:
    project.procfile(web=STAY)
    program = project.begin("start", "--no-color", *arguments, terminal=terminal)
    program.wait_for("ready")
    result = program.stop()
    assert (FROM_ANOTHER in result.out) == expected
    if expected:
        assert result.lines("system")[0] == FROM_ANOTHER
