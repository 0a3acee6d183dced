"""`start` without settings behaves as scripts for honcho or foreman expect."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from support.driver import Project

# Prints a line and runs until a stop signal or the end of its standard input.
STAY = "cat > /dev/null"
IDENTITY = f'echo "$PS $HONCHO_PROCESS_NAME $PORT"; {STAY}'


def test_output_has_the_layout_of_honcho(project: Project) -> None:
    project.procfile(web="echo hello; echo error >&2")
    result = project.run("start")
    assert re.sub(r"\d\d:\d\d:\d\d", "TIME", re.sub(r"pid=\d+", "pid=N", result.out)) == (
        "TIME system | web.1 started (pid=N)\n"
        "TIME web.1  | hello\n"
        "TIME web.1  | error\n"
        "TIME system | web.1 stopped (rc=0)\n"
    )
    assert (result.code, result.err) == (0, "")


def test_prefixes_are_as_wide_as_the_longest_name(project: Project) -> None:
    project.procfile(web="echo one", frontend="echo two")
    for line in project.run("start", "-m", "web=1,frontend=10").out.splitlines():
        assert line.index(" | ") == len("HH:MM:SS frontend.10")


def test_end_of_one_process_ends_the_others(project: Project) -> None:
    project.procfile(web=f"echo ready; {STAY}; exit 3", other="echo ready; exec sleep 600")
    program = project.begin("start", stdin=subprocess.PIPE)
    program.wait_for("ready$", count=2)
    program.close_input()
    result = program.end()
    assert result.code == 3
    system = [re.sub(r"pid \d+", "pid N", line) for line in result.lines("system") if "started" not in line]
    assert system == [
        "web.1 stopped (rc=3)",
        "sending SIGTERM to other.1 (pid N)",
        "other.1 stopped (rc=-15)",
    ]


def test_start_on_a_terminal_names_the_process_that_ends_the_app(project: Project) -> None:
    project.procfile(web="exit 3", other="exec sleep 600")
    result = project.begin("start", "--no-color", terminal=True).end()
    assert result.code == 3
    assert "web.1: exited with code 3; stopping the app" in result.lines("system")


@pytest.mark.parametrize(
    ("command", "code", "printed"),
    [
        ("exit 0", 0, "0"),
        ("exit 42", 42, "42"),
        ("kill -KILL $$", 128 + 9, "-9"),
        ("kill -TERM $$", 128 + 15, "-15"),
        ("exit 143", 143, "143"),
        ("no-such-program-anywhere", 127, "127"),
        ("./Procfile", 126, "126"),
    ],
)
def test_exit_code_is_that_of_the_process_that_ended(project: Project, command: str, code: int, printed: str) -> None:
    project.procfile(web=command)
    result = project.run("start")
    assert result.code == code
    assert result.lines("system")[-1] == f"web.1 stopped (rc={printed})"


@pytest.mark.parametrize(
    ("arguments", "identities"),
    [
        ((), ["web.1 web.1 5000", "worker.1 worker.1 5100", "clock.1 clock.1 5200"]),
        # honcho's: ports are counted from the types that were asked for.
        (("worker",), ["worker.1 worker.1 5000"]),
        (("clock", "web"), ["clock.1 clock.1 5000", "web.1 web.1 5100"]),
        (("-p", "7000", "web"), ["web.1 web.1 7000"]),
        (("-c", "web=2,clock=0"), ["web.1 web.1 5000", "web.2 web.2 5001", "worker.1 worker.1 5100"]),
        (("-m", "web=2,clock=1"), ["web.1 web.1 5000", "web.2 web.2 5001", "clock.1 clock.1 5200"]),
        (
            ("-m", "all=2,web=0"),
            ["worker.1 worker.1 5100", "worker.2 worker.2 5101", "clock.1 clock.1 5200", "clock.2 clock.2 5201"],
        ),
    ],
)
def test_each_process_gets_its_port_and_names(
    project: Project, arguments: tuple[str, ...], identities: list[str]
) -> None:
    project.procfile(web=IDENTITY, worker=IDENTITY, clock=IDENTITY)
    program = project.begin("start", *arguments, stdin=subprocess.PIPE)
    printed = program.wait_for(r"\d \S+ +\| (.*)$", count=2 * len(identities))
    assert sorted(line for line in printed if "started" not in line) == sorted(identities)
    assert program.stop().code == 143


@pytest.mark.parametrize(
    ("arguments", "file", "environment", "port"),
    [
        ((), "", {}, "5000"),
        ((), "", {"PORT": "6000"}, "6000"),
        ((), "PORT=7000", {"PORT": "6000"}, "7000"),
        (("-p", "8000"), "PORT=7000", {"PORT": "6000"}, "8000"),
    ],
)
def test_base_port_comes_from_flag_or_file_or_environment_in_this_order(
    project: Project, arguments: tuple[str, ...], file: str, environment: dict[str, str], port: str
) -> None:
    project.procfile(web='echo "port $PORT"')
    project.write(".env", file)
    assert project.run("start", *arguments, env=environment).lines("web.1") == [f"port {port}"]


def test_env_file_cannot_override_the_names_of_a_process(project: Project) -> None:
    project.procfile(web=IDENTITY)
    project.write(".env", "PS=mine\nHONCHO_PROCESS_NAME=mine\n")
    assert project.run("start").lines("web.1") == ["web.1 web.1 5000"]


@pytest.mark.parametrize(
    ("arguments", "environment", "value"),
    [
        ((), {}, "from .env"),
        ((), {"ANIMAL": "from outside"}, "from .env"),
        (("-e", "one"), {"ANIMAL": "from outside"}, "from one"),
        (("-e", "one,two"), {}, "from two"),
        (("-e", "two,one"), {}, "from one"),
        (("-e", "empty"), {"ANIMAL": "from outside"}, "from outside"),
    ],
)
def test_env_files_override_the_environment_and_earlier_files(
    project: Project, arguments: tuple[str, ...], environment: dict[str, str], value: str
) -> None:
    for name in (".env", "one", "two"):
        project.write(name, f"ANIMAL='from {name}'\n")
    project.write("empty", "")
    project.procfile(web='echo "$ANIMAL"')
    assert project.run("start", *arguments, env=environment).lines("web.1") == [value]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ('echo "$ANIMAL"', "eland"),
        ("echo '$ANIMAL'", "$ANIMAL"),
        ("echo a && echo b | tr b c | tail -1", "a"),
        ("ANIMAL=gnu; echo $ANIMAL", "gnu"),
    ],
)
def test_shell_runs_the_command(project: Project, command: str, line: str) -> None:
    project.write(".env", "ANIMAL=eland\n")
    project.procfile(web=command)
    assert project.run("start").lines("web.1")[0] == line


@pytest.mark.parametrize(
    ("arguments", "directory"),
    [
        (("-d", "sub"), "."),
        (("--app-root", "sub"), "."),
        (("-f", "sub/Procfile"), "."),
        (("--root", "sub"), "sub"),
        (("--root", "sub", "-f", "sub/Procfile"), "sub"),
    ],
)
def test_processes_run_where_honcho_or_foreman_runs_them(
    project: Project, arguments: tuple[str, ...], directory: str
) -> None:
    project.write("sub/Procfile", "web: pwd -P; echo $ANIMAL\n")
    project.write("sub/.env", "ANIMAL=eland\n")
    result = project.run("start", *arguments)
    assert result.lines("web.1")[0] == os.path.realpath(project.path / directory)


@pytest.mark.parametrize("before", [True, False])
def test_common_flags_may_stand_before_or_after_the_command(project: Project, before: bool) -> None:
    project.write("other", "web: echo hello\n")
    arguments = ("-f", "other", "start") if before else ("start", "-f", "other")
    assert project.run(*arguments).lines("web.1") == ["hello"]


@pytest.mark.parametrize(("content", "environment"), [("PROCFILE=other\n", {}), ("", {"PROCFILE": "other"})])
def test_variable_may_name_the_procfile(project: Project, content: str, environment: dict[str, str]) -> None:
    project.procfile(web="echo wrong")
    project.write("other", "bar: echo right\n")
    project.write(".env", content)
    assert project.run("start", env=environment).lines("bar.1") == ["right"]


@pytest.mark.parametrize("quiet", ["web", "web.1"])
def test_quiet_process_runs_without_output(project: Project, quiet: str) -> None:
    project.procfile(web="echo hidden; echo shown > file")
    result = project.run("start", "-q", quiet)
    assert "hidden" not in result.out
    assert result.lines("system")[-1] == "web.1 stopped (rc=0)"
    assert (project.path / "file").read_text() == "shown\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--no-prefix",), "web.1 started (pid=N)\nhello\nweb.1 stopped (rc=0)\n"),
        (("--no-timestamp",), "system | web.1 started (pid=N)\nweb.1  | hello\nsystem | web.1 stopped (rc=0)\n"),
    ],
)
def test_prefix_and_time_can_be_left_out(project: Project, arguments: tuple[str, ...], expected: str) -> None:
    project.procfile(web="echo hello")
    assert re.sub(r"pid=\d+", "pid=N", project.run("start", *arguments).out) == expected


@pytest.mark.parametrize(
    ("arguments", "environment", "coloured"),
    [
        ((), {}, False),
        (("--color",), {}, True),
        (("--colour",), {"NO_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "0"}, False),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (("--no-colour",), {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_in_a_pipe_needs_a_flag_or_force_color(
    project: Project, arguments: tuple[str, ...], environment: dict[str, str], coloured: bool
) -> None:
    project.procfile(web="echo hello")
    out = project.run("start", *arguments, env=environment).out
    assert re.sub(r"\d\d:\d\d:\d\d", "TIME", out.splitlines()[1]) == (
        "\x1b[0m\x1b[36mTIME web.1  | \x1b[0mhello" if coloured else "TIME web.1  | hello"
    )


def test_standard_input_is_inherited(project: Project) -> None:
    project.procfile(web='read answer; echo "answer: $answer"')
    program = project.begin("start", stdin=subprocess.PIPE)
    program.type("forty-two\n")
    assert program.end().lines("web.1") == ["answer: forty-two"]


def test_standard_input_is_inherited_from_a_terminal(project: Project) -> None:
    project.procfile(web='echo ready; read answer; echo "answer: $answer"')
    program = project.begin("start", "--no-color", "--no-pty", terminal=True)
    program.wait_for("ready")
    program.type("forty-two\n")
    assert program.end().lines("web.1")[-1] == "answer: forty-two"


def test_child_is_a_direct_child_of_procreaper(project: Project) -> None:
    project.procfile(web="echo $PPID")
    program = project.begin("start")
    assert program.end().lines("web.1") == [str(program.pid)]


def test_start_without_instances_is_reported_and_runs_nothing(project: Project) -> None:
    project.procfile(web="echo wrong")
    result = project.run("start", "-c", "web=0")
    assert (result.code, result.out) == (0, "")
    assert "nothing to start" in result.err


def test_defaults_of_foreman_are_read_and_reported(project: Project) -> None:
    project.write(".foreman", "port: 7000\nprocfile: other\n")
    project.write("other", 'web: echo "port $PORT"\n')
    result = project.run("start")
    assert result.lines("web.1") == ["port 7000"]
    assert ".foreman sets port, procfile" in result.err


def test_procfile_named_by_dot_foreman_runs_in_its_directory(project: Project) -> None:
    project.write(".foreman", "procfile: sub/Procfile.dev\nformation: all=1,release=0\n")
    project.write(".env", "ANIMAL=eland\n")
    project.write("sub/.env", "ANIMAL=wrong\n")
    project.write(".reaper.toml", '[process.web]\nenv = { COLOUR = "grey" }\n')
    project.write("sub/Procfile.dev", "web: pwd -P; bin/server\n")
    project.write("sub/bin/server", "#!/bin/sh\necho $ANIMAL $COLOUR\n").chmod(0o755)
    where = os.path.realpath(project.path / "sub")
    assert project.run("start").lines("web.1") == [where, "eland grey"]
    assert project.run("run", "web").out.splitlines()[0] == where
    assert project.run("run", "pwd", "-P").out.splitlines() == [os.path.realpath(project.path)]
    assert project.run("export", "systemd", "out").code == 0
    unit = next((project.path / "out").glob("*-web-1.service")).read_text()
    assert f"WorkingDirectory={where}\n" in unit


def test_prompt_without_a_line_end_is_shown(project: Project) -> None:
    project.procfile(web='printf "name? "; read name; echo "hello $name"')
    program = project.begin("start", stdin=subprocess.PIPE)
    program.wait_for(r"web\.1  \| name\? \Z")
    program.type("Ada\n")
    # What follows continues the line, as on a terminal where the answer is not echoed.
    assert program.end().lines("web.1") == ["name? hello Ada"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows descriptors and signals of a process in /proc")
@pytest.mark.parametrize("arguments", [("start", "--no-prefix"), ("run", "inspect-it")])
def test_child_inherits_neither_descriptors_nor_signal_settings(project: Project, arguments: tuple[str, ...]) -> None:
    project.write("Procfile", "inspect-it: ls /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status\n")
    out = project.run(*arguments).out
    descriptors = re.findall(r"^\d+$", out, re.MULTILINE)
    # The fourth is the directory that is listed.
    assert descriptors == ["0", "1", "2", "3"]
    blocked, ignored = (int(mask, 16) for mask in re.findall(r"^Sig(?:Blk|Ign):\t(\w+)$", out, re.MULTILINE))
    # glibc keeps the first two real-time signals for itself, and has a spawned child ignore them.
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "terminal", "hints"),
    [
        (("-f", "sub/Procfile"), True, 1),
        (("-f", "sub/Procfile"), False, 0),
        (("-f", "./Procfile"), True, 0),
        (("-f", "link/Procfile"), True, 0),
        (("-f", "sub/Procfile", "--root", "."), True, 0),
    ],
)
def test_missing_command_gets_a_hint_about_foremans_directory(
    project: Project, arguments: tuple[str, ...], terminal: bool, hints: int
) -> None:
    for name in ("Procfile", "sub/Procfile"):
        project.write(name, "one: bin/serve\ntwo: bin/serve\n")
    # As `-f /dev/stdin` and `-f <(command)`.
    (project.path / "link").mkdir()
    (project.path / "link/Procfile").symlink_to(project.path / "Procfile")
    result = project.begin("start", *arguments, terminal=terminal).end()
    assert result.code == 127
    assert result.out.count("foreman runs the commands of `sub/Procfile` in `sub`: add `--root sub`") == hints
    # What the hint says is true.
    project.write("sub/bin/serve", "#!/bin/sh\necho served\n").chmod(0o755)
    assert "served" in project.begin("start", "-f", "sub/Procfile", "--root", "sub").end().out
