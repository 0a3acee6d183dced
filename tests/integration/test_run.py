"""`run`: one command in the environment of the application, as if typed into a shell."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from support.driver import CATCH, PYTHON, Project

SHOW = 'echo "$ANIMAL"'


@pytest.fixture
def zoo(project: Project) -> Project:
    """A project with a variable and two process types; `echo` is also a program."""
    project.write(".env", "ANIMAL=eland\n")
    project.procfile(web=f"{SHOW}; exit 3", echo="echo from the Procfile")
    return project


def test_command_has_the_environment_of_the_application(zoo: Project) -> None:
    result = zoo.run("run", "sh", "-c", SHOW)
    assert (result.code, result.out, result.err) == (0, "eland\n", "")


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (("run", "echo", "-e", "-f", "--port", "x"), "-f --port x\n"),
        (("run", "--", "echo", "--", "x"), "-- x\n"),
        (("-e", "other", "run", "sh", "-c", SHOW), "okapi\n"),
        (("run", "-e", "other", "sh", "-c", SHOW), "okapi\n"),
        (("run", "echo", "a  b", "$ANIMAL"), "a  b $ANIMAL\n"),
        (("run", "ANIMAL=gnu", "_2=a=b", "sh", "-c", 'echo "$ANIMAL $_2"'), "gnu a=b\n"),
        (("run", "--", "ANIMAL=", "sh", "-c", f"{SHOW}; echo", "X=1"), "\n\n"),
    ],
)
def test_arguments_after_the_command_belong_to_it(zoo: Project, arguments: tuple[str, ...], out: str) -> None:
    zoo.write("other", "ANIMAL=okapi\n")
    zoo.write("bin/echo", '#!/bin/sh\n[ "$1" = -e ] && shift\nprintf "%s\\n" "$*"\n').chmod(0o755)
    path = f"{zoo.path}/bin{os.pathsep}{os.environ['PATH']}"
    result = zoo.run(*arguments, env={"PATH": path})
    assert (result.code, result.out) == (0, out)


def test_name_of_a_process_runs_its_command_if_there_is_no_such_program(zoo: Project) -> None:
    result = zoo.run("run", "web")
    assert (result.code, result.out) == (3, "eland\n")
    assert zoo.run("run", "echo").out == "\n"


def test_run_of_a_process_becomes_its_program(zoo: Project) -> None:
    zoo.procfile(pid=f"cd . && {PYTHON} -c 'import os, sys; print(os.getpid(), flush=True); sys.stdin.read()'")
    program = zoo.begin("run", "pid", stdin=subprocess.PIPE)
    program.wait_for(rf"^{program.pid}$")
    program.close_input()
    program.end()


def test_shell_builtin_is_run_too(zoo: Project) -> None:
    assert zoo.run("run", "umask", "-S").out.startswith("u=")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 42"), 42),
        (("sh", "-c", "kill -INT $$"), -2),
        (("sh", "-c", "kill -KILL $$"), -9),
        (("no-such-program-anywhere",), 127),
        (("./no-such-program",), 127),
        (("./Procfile",), 126),
        (("./sub",), 126),
        ((), 2),
    ],
)
def test_exit_status_is_that_of_the_command(zoo: Project, command: tuple[str, ...], code: int) -> None:
    (zoo.path / "sub").mkdir()
    result = zoo.run("run", *command)
    assert result.code == code
    assert ("hint: " in result.err) is (code in (2, 126, 127))


def test_script_without_an_interpreter_line_runs_in_the_shell(zoo: Project) -> None:
    zoo.write("script", "echo $ANIMAL $1\n").chmod(0o755)
    assert zoo.run("run", "./script", "x").out == "eland x\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signal_reaches_the_command_whose_exit_code_counts(zoo: Project, number: signal.Signals) -> None:
    command = zoo.python("catch", CATCH)
    program = zoo.begin("run", "sh", "-c", f"exec {command} SIGUSR1")
    program.wait_for("ready")
    program.send(signal.SIGUSR1)
    program.wait_for("SIGUSR1")
    result = program.stop(number)
    assert (result.code, result.out) == (7, f"ready\nSIGUSR1\n{number.name}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_command_without_a_handler_ends_by_the_signal(zoo: Project, number: signal.Signals) -> None:
    program = zoo.begin("run", "sh", "-c", "echo ready; exec sleep 600")
    program.wait_for("ready")
    assert program.stop(number).code == -number


def test_typed_text_reaches_the_command_once(zoo: Project) -> None:
    command = zoo.python("catch", CATCH)
    program = zoo.begin("run", "sh", "-c", f"exec {command} SIGINT SIGUSR1", terminal=True)
    program.wait_for("ready")
    program.type("\x03")
    program.wait_for("SIGINT")
    # A second delivery of the first one would come before this.
    program.send(signal.SIGUSR1)
    program.wait_for("SIGUSR1")
    program.type("\x1c")
    result = program.end()
    assert result.code == 7
    assert result.out.count("SIGINT") == result.out.count("SIGQUIT") == 1


def test_command_is_in_the_foreground_of_the_terminal(zoo: Project) -> None:
    look = "import os, sys; print(os.isatty(0), os.isatty(1), os.tcgetpgrp(0) == os.getpgrp(), input(), flush=True)"
    program = zoo.begin("run", "sh", "-c", f"exec {PYTHON} -c '{look}'", terminal=True)
    program.type("typed\n")
    program.wait_for("True True True typed")
    assert program.end().code == 0


def test_command_reads_standard_input(zoo: Project) -> None:
    program = zoo.begin("run", "cat", stdin=subprocess.PIPE)
    program.type("hello\n")
    program.wait_for("hello")
    program.close_input()
    assert program.end().code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_early_signal_leaves_no_process(zoo: Project, number: signal.Signals) -> None:
    program = zoo.begin("run", "sleep", "600")
    program.send(number)
    assert program.end(traceback=True).code in (-number, 128 + number, 1)


def test_no_procreaper_process_remains_beside_the_command(zoo: Project) -> None:
    program = zoo.begin("run", "sh", "-c", "echo $$; exec sleep 600")
    program.wait_for(rf"^{program.pid}$")
    assert program.stop(signal.SIGKILL).code == -signal.SIGKILL


def test_program_in_the_path_of_the_env_file_is_found(zoo: Project) -> None:
    zoo.write("bin/okapi", "#!/bin/sh\necho here\n").chmod(0o755)
    zoo.write(".env", f"PATH={zoo.path}/bin:{os.environ['PATH']}\n")
    assert zoo.run("run", "okapi").out == "here\n"


def test_command_runs_in_the_root(zoo: Project) -> None:
    (zoo.path / "sub").mkdir()
    assert zoo.run("run", "--root", "sub", "pwd").out == f"{zoo.path / 'sub'}\n"
    result = zoo.run("run", "--root", "nowhere", "pwd")
    assert result.code == 1
    assert "--root nowhere" in result.err


def test_error_in_the_env_file_is_reported_and_no_command_runs(zoo: Project) -> None:
    zoo.write(".env", "GOOD=1\nBAD=it's\n")
    result = zoo.run("run", "echo", "wrong")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(".env:2: error: ")


def test_broken_procfile_does_not_matter_for_a_program(zoo: Project) -> None:
    zoo.write("Procfile", b"\xff\n")
    assert zoo.run("run", "echo", "hello").out == "hello\n"
