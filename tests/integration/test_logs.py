"""`logs` shows past and new output in a second terminal, in the format of `start`."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from support.driver import Program, Project

# Writes numbered lines, some of them in two halves, until that is enough.
NUMBERS = r"""
import os, time
number = 0
while not os.path.exists("enough"):
    for _ in range(50):
        number += 1
        line = f"number {number}\n".encode()
        cut = number % 7
        os.write(1, line[:cut])
        os.write(1, line[cut:])
    time.sleep(0.001)
os.write(1, b"last\n")
open("gate").read()
"""


def echoes(project: Project, *names: str, settings: str = "", arguments: tuple[str, ...] = ()) -> Program:
    """A running app whose processes print what is written to a named pipe of their name."""
    for name in names:
        os.mkfifo(project.path / f"{name}.in")
    # Keep the pipe open.
    project.procfile(**{name: f"exec 3<>{name}.in; echo {name} ready; exec cat <&3" for name in names})
    if settings:
        project.write(".reaper.toml", settings)
    program = project.begin("start", *arguments)
    program.wait_for("(?:db|web|worker) ready", count=len(names))
    return program


def write(project: Project, program: Program, name: str, *lines: str) -> None:
    (project.path / f"{name}.in").write_text("".join(f"{line}\n" for line in lines))
    program.wait_for(rf"{re.escape(lines[-1])}$")


def test_logs_prints_the_same_text_as_start(project: Project) -> None:
    program = echoes(project, "web", "worker")
    write(project, program, "worker", "one", "two")
    write(project, program, "web", "three")
    result = project.run("logs")
    assert (result.code, result.err) == (0, "")
    assert result.out == program.out
    assert project.run("logs", "-n", "all", "--no-timestamp").out == re.sub(r"(?m)^\d\d:\d\d:\d\d ", "", program.out)
    program.stop()


def test_colours_do_not_depend_on_the_selection(project: Project) -> None:
    program = echoes(project, "web", "worker", arguments=("--color",))
    write(project, program, "worker", "hello")
    result = project.run("logs", "worker", "-n", "1", "--color")
    assert result.out == program.out.splitlines(keepends=True)[-1]
    assert "\x1b[33m" in result.out
    program.stop()


def test_names_and_lines_select_the_output(project: Project) -> None:
    program = echoes(project, "web", "worker", settings='[groups]\nback = ["worker"]\n')
    write(project, program, "web", "a", "b", "c")
    write(project, program, "worker", "d", "e")
    for names, expected in {
        ("web",): ["b", "c"],
        ("worker.1",): ["d", "e"],
        ("back",): ["d", "e"],
        ("w*",): ["b", "c", "d", "e"],
        (): ["b", "c", "d", "e"],
    }.items():
        result = project.run("logs", "--no-prefix", "-n", "2", *names)
        assert result.out.splitlines() == expected
    assert project.run("logs", "-n", "0").out == ""
    unknown = project.run("logs", "wbe")
    assert unknown.code == 1
    assert unknown.err.startswith("procreaper: error: there is no process `wbe`\n  hint: did you mean `web`?")
    assert project.run("logs", "-n", "x").code == 2
    program.stop()


def test_json_has_the_times_of_the_events(project: Project) -> None:
    program = echoes(project, "web", arguments=("--log-format", "json"))
    result = project.run("logs", "--log-format", "json")
    assert [json.loads(line) for line in result.out.splitlines()] == [
        json.loads(line) for line in program.out.splitlines()
    ]
    program.stop()


def test_follow_ends_with_the_app(project: Project) -> None:
    program = echoes(project, "web", "worker")
    follower = project.begin("logs", "-f")
    follower.wait_for("worker ready")
    write(project, program, "web", "seen")
    follower.wait_for("seen$")
    end = program.stop()
    result = follower.end()
    assert (result.code, result.err) == (0, "")
    assert result.out == end.out


def test_messages_about_states_are_printed_too(project: Project) -> None:
    settings = '[process.web]\nrestart = "always"\nbackoff = "1ms"\nhealth = { log = "ready" }\n'
    program = echoes(project, "web", settings=settings)
    program.wait_for("web.1 is healthy")
    follower = project.begin("logs", "-f")
    follower.wait_for("web.1 is healthy")
    project.run("restart", "web")
    program.wait_for("web.1 is healthy", count=2)
    end = program.stop()
    assert follower.end().out == end.out


def test_ctrl_c_ends_only_the_follow_and_quietly(project: Project) -> None:
    program = echoes(project, "web")
    follower = project.begin("logs", "-f")
    follower.wait_for("ready")
    result = follower.stop(signal.SIGINT)
    assert (result.code, result.err) == (130, "")
    write(project, program, "web", "still there")
    assert program.stop().code == 143


def test_prompt_follows_a_line_end_on_a_terminal(project: Project) -> None:
    program = echoes(project, "web")
    follower = project.begin("logs", "-f", terminal=True)
    follower.wait_for("ready")
    result = follower.stop(signal.SIGINT)
    assert (result.code, result.out[-2:]) == (130, "\n\n")
    assert program.stop().code == 143


def test_closed_output_ends_the_follow(project: Project) -> None:
    program = echoes(project, "web")
    result = project.run("logs", "-f", wrapper=("sh", "-c", '{ "$@"; echo "code $?" >&2; } | head -1', "sh"))
    assert result.err == "code 141\n"
    assert result.out == program.out.splitlines(keepends=True)[0]
    program.stop()


def test_no_line_is_lost_or_doubled_between_history_and_follow(project: Project) -> None:
    os.mkfifo(project.path / "gate")
    project.procfile(web=f"exec {project.python('numbers', NUMBERS)}")
    program = project.begin("start")
    program.wait_for("number 1000$")
    followers: list[Program] = []
    # They begin at whatever moment.
    for lines in ("0", "1", "10", "1000", "all"):
        followers.append(project.begin("logs", "-f", "-n", lines, "web"))
        followers[-1].wait_for("number", count=20)
    (project.path / "enough").touch()
    for each in (program, *followers):
        each.wait_for("last$")
    program.stop()
    for follower in followers:
        result = follower.end()
        assert (result.code, result.err) == (0, "")
        *seen, last = result.lines("web.1")
        # Without any lines of before, the rest of one may come first.
        numbers = [int(line.removeprefix("number ")) for line in seen[follower is followers[0] :]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert last == "last"
        assert len(numbers) > 10


def test_follower_that_does_not_read_delays_nothing_and_learns_what_it_missed(project: Project) -> None:
    for name in ("gate", "told"):
        os.mkfifo(project.path / name)
    project.procfile(web="read x < gate; seq 1000000; echo all > told; read x < gate; echo done")
    # The terminal has not to show it, for otherwise this would be slow.
    program = project.begin("start", "-q", "web")
    program.wait_for("started")
    follower = project.begin("logs", "-f")
    follower.wait_for("started")
    follower.send(signal.SIGSTOP)
    (project.path / "gate").write_text("\n")
    assert (project.path / "told").read_text() == "all\n"
    follower.send(signal.SIGCONT)
    follower.wait_for_error("are missing here")
    (project.path / "gate").write_text("\n")
    follower.wait_for(r"\| done$")
    result = follower.end()
    assert (program.end().code, result.code) == (0, 0)
    [size] = re.findall(r"^procreaper: [\d,]+ notices, with ([\d,]+) bytes of output, are missing here", result.err)
    assert int(size.replace(",", "")) > 1_000_000


def test_several_apps_of_a_directory_are_followed_together(project: Project) -> None:
    project.procfile(web="echo web ready; exec sleep 600", db="echo db ready; exec sleep 600")
    programs = [project.begin("start", name) for name in ("web", "db")]
    for program in programs:
        program.wait_for("ready")
    follower = project.begin("logs", "-f")
    follower.wait_for("ready", count=2)
    assert project.run("logs", "web", "db", "--no-prefix", "-n", "1").out.count("ready") == 2
    one = project.run("logs", "--pid", str(programs[1].pid))
    assert one.lines("db.1") == ["db ready"]
    assert one.lines("web.1") == []
    programs[0].stop()
    follower.wait_for("web.1 stopped")
    programs[1].stop()
    result = follower.end()
    assert (result.code, result.err) == (0, "")
    assert "db.1 stopped" in result.out


@pytest.mark.parametrize("logged", [False, True])
def test_dropped_history_is_read_from_the_log_file_or_reported(project: Project, *, logged: bool) -> None:
    project.procfile(
        web="seq 1000000; echo all > told; read x < gate; echo last; exec sleep 600", db="echo quiet; exec sleep 600"
    )
    if logged:
        # Parts of it are in each of several files.
        project.write(".reaper.toml", '[process.web]\nlog = { file = "web.log", max_size = "1500kB", max_files = 9 }\n')
    for name in ("gate", "told"):
        os.mkfifo(project.path / name)
    program = project.begin("start", "-q", "web")
    program.wait_for("quiet")
    assert (project.path / "told").read_text() == "all\n"
    follower = project.begin("logs", "-f", "-n", "900000", "--no-prefix")
    follower.wait_for("^1000000$")
    (project.path / "gate").write_text("\n")
    follower.wait_for("^last$")
    program.stop()
    result = follower.end()
    lines = result.out.splitlines()
    assert "quiet" in lines
    numbers = [int(line) for line in lines if line.isdecimal()]
    if logged:
        assert result.err == ""
        assert numbers == list(range(100_001, 1_000_001))
    else:
        assert result.err == (
            "procreaper: warning: fewer lines of web.1 are kept than 900000\n  hint: `log` in .reaper.toml keeps more\n"
        )
        assert numbers == list(range(numbers[0], 1_000_001))
        assert len(numbers) > 100_000


def test_log_file_of_a_detached_process_is_read_and_followed(project: Project) -> None:
    project.environment["XDG_STATE_HOME"] = str(project.path / "state")
    project.write(".reaper.toml", '[process.tunnel]\ndetached = true\nlog = "log/tunnel.log"\n')
    os.mkfifo(project.path / "gate")
    (project.path / "log").mkdir()
    (project.path / "log" / "tunnel.log").write_text("".join(f"old {number}\n" for number in range(100)))
    project.procfile(tunnel="exec 3<>gate; exec cat <&3", web="echo ready; exec sleep 600")
    program = project.begin("start")
    program.wait_for("ready")
    program.wait_for("tunnel.1 started")
    follower = project.begin("logs", "-f", "-n", "2")
    follower.wait_for("ready")
    (project.path / "gate").write_text("new 1\nnew 2\n")
    follower.wait_for("new 2$")
    assert follower.out.startswith("--:--:-- tunnel.1 | old 98\n--:--:-- tunnel.1 | old 99\n")
    assert re.findall(r"^\d\d:\d\d:\d\d tunnel\.1 +\| (.*)$", follower.out, re.MULTILINE) == ["new 1", "new 2"]
    assert project.run("logs", "tunnel", "-n", "1", "--no-prefix").out.splitlines()[0] == "new 2"
    assert project.run("stop", "tunnel").code == 0
    program.stop()
    assert follower.end().code == 0
    assert project.run("logs", "tunnel", "-n", "1", "--no-prefix").out == "new 2\n"


# Where nothing runs.


def test_without_an_app_its_log_files_are_read(project: Project) -> None:
    project.procfile(web="seq 1000", db="echo from the db", clock="echo not kept")
    project.write(
        ".reaper.toml",
        '[process.web]\nlog = { file = "log/web.log", max_size = "2kB" }\n[process.db]\nlog = "log/db.log"\n',
    )
    assert project.run("start", "--can-die", "all").code == 0
    result = project.run("logs", "-n", "600")
    assert result.code == 0
    assert result.err == "procreaper: no app of this directory is running: showing its log files\n"
    assert result.out.startswith("--:--:-- web.1   | 401\n")
    assert re.findall(r"^--:--:-- db\.1 +\| (.*)$", result.out, re.MULTILINE) == ["from the db"]
    assert project.run("logs", "db", "--no-prefix").out == "from the db\n"
    records = [json.loads(line) for line in project.run("logs", "db", "--log-format", "json").out.splitlines()]
    assert [(record["time"], record["msg"], record["name"]) for record in records] == [(None, "from the db", "db.1")]


@pytest.mark.parametrize("arguments", [(), ("-f",), ("clock",)])
def test_without_app_and_log_files_logs_is_an_error(project: Project, arguments: tuple[str, ...]) -> None:
    project.procfile(web="echo hello", clock="echo hello")
    settings = '[process.web]\nlog = "web.log"\n' if arguments else ""
    project.write(".reaper.toml", settings)
    result = project.run("logs", *arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("procreaper: error: no app of this directory is running\n  hint: `procreaper start`")
