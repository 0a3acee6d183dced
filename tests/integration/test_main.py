"""The program's own words: help, version, usage, and standard streams that are not as usual."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from support.driver import LIMIT, Project

from procreaper import __version__

COMMANDS = ("check", "help", "run", "start", "version")


@pytest.mark.parametrize("arguments", [("version",), ("--version",), ("-v",)])
def test_version_is_printed_on_standard_output(project: Project, arguments: tuple[str, ...]) -> None:
    result = project.run(*arguments)
    assert (result.code, result.out, result.err) == (0, f"procreaper {__version__}\n", "")


@pytest.mark.parametrize("arguments", [("help",), ("--help",), ("-h",)])
def test_help_names_every_command(project: Project, arguments: tuple[str, ...]) -> None:
    result = project.run(*arguments)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("usage: procreaper ")
    assert all(f"  {command} " in result.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(project: Project, command: str) -> None:
    result = project.run("help", command)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"usage: procreaper {command} ")
    assert project.run(command, "--help") == result


@pytest.mark.parametrize(
    "arguments", [(), ("no-such-command",), ("help", "no-such-command"), ("start", "--no-such-flag"), ("start", "-p")]
)
def test_wrong_usage_exits_with_2_and_names_the_help(project: Project, arguments: tuple[str, ...]) -> None:
    project.procfile(web="echo wrong")
    result = project.run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch("procreaper: error: .+\n  hint: .+\n", result.err)


def test_program_needs_no_terminal_no_home_and_no_locale(project: Project) -> None:
    project.procfile(web="printf '\\303\\251\\n'")
    command = [sys.executable, "-m", "procreaper", "start", "--no-timestamp"]
    # ASCII, as honcho's output was in this place.
    environment = {"PATH": project.environment["PATH"], "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ran = subprocess.run(command, cwd=project.path, env=environment, capture_output=True, timeout=LIMIT, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"web.1  | \xc3\xa9\n" in ran.stdout


@pytest.mark.parametrize("arguments", [("start",), ("run", "sh", "-c", "echo hello"), ("check",), ("version",)])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_not_matter(project: Project, arguments: tuple[str, ...], closed: str) -> None:
    project.procfile(web="echo hello")
    result = project.run(*arguments, wrapper=("sh", "-c", f'exec "$@" {closed}', "sh"))
    assert result.code == 0
    if ">&-" not in closed.replace("2>&-", ""):
        assert "hello" in result.out or arguments[0] in ("check", "version")
        assert "Valid" not in result.out
    if "2>&-" not in closed:
        assert result.err == ("Valid procfile detected (web)\n" if arguments == ("check",) else "")


@pytest.mark.parametrize("arguments", [("start",), ("run", "sh", "-c", "cat && echo nothing")])
def test_child_reads_nothing_if_standard_input_is_closed(project: Project, arguments: tuple[str, ...]) -> None:
    project.procfile(web="cat && echo nothing")
    result = project.run(*arguments, wrapper=("sh", "-c", 'exec "$@" <&-', "sh"))
    assert result.code == 0
    assert "nothing" in result.out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a /dev/full")
@pytest.mark.parametrize("arguments", [("version",), ("help",), ("start", "--help")])
def test_failed_write_of_an_answer_is_a_failure(project: Project, arguments: tuple[str, ...]) -> None:
    result = project.run(*arguments, wrapper=("sh", "-c", 'exec "$@" > /dev/full', "sh"))
    assert result.code == 1
    assert "no space left on device" in result.err.lower()


@pytest.mark.parametrize("arguments", [("version",), ("help",)])
def test_closed_reader_of_the_help_is_no_error(project: Project, arguments: tuple[str, ...]) -> None:
    result = project.run(*arguments, wrapper=("sh", "-c", '"$@" | true', "sh"))
    assert result.err == ""
