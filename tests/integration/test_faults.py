"""Errors of the user and faults of the machine: one message with place, value and remedy, no traceback, no hang."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from support.driver import Project, altered

# For those who run these tests as root, who otherwise may read everything.
WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@pytest.mark.parametrize(
    ("content", "place", "value"),
    [
        (None, "Procfile: ", "does not exist"),
        ("", "Procfile: ", "no process is defined"),
        ("# a comment\n\n", "Procfile: ", "no process is defined"),
        ("web\n", "Procfile: ", "no process is defined"),
        ("web: true\nweb: false\n", "Procfile:2: ", "`web` is defined twice, first in line 1"),
        ("web:\nworker:  \n", "Procfile: ", "no process is defined"),
        (b"web: true\n\x7fELF\xff\xfe\n", "Procfile:2: ", "byte 0xff in column 5 is not UTF-8"),
        (b"web: a\0b\n", "Procfile:1: ", "NUL"),
    ],
)
@pytest.mark.parametrize("command", ["start", "check"])
def test_unusable_procfile_is_one_message(
    project: Project, command: str, content: str | bytes | None, place: str, value: str
) -> None:
    if content is not None:
        project.write("Procfile", content)
    result = project.run(command)
    errors = re.findall(r"^(\S+ )error: (.*)\n  hint: .+$", result.err, re.MULTILINE)
    assert (result.code, result.out) == (1, "")
    assert [error[0] for error in errors] == [place]
    assert value in errors[0][1]


@pytest.mark.parametrize("name", ["Procfile", ".env"])
def test_directory_in_place_of_a_file_is_reported(project: Project, name: str) -> None:
    project.procfile(web="echo hello")
    (project.path / name).unlink(missing_ok=True)
    (project.path / name).mkdir()
    result = project.run("start")
    # honcho has always started where `.env` is a directory: some keep a virtual environment there.
    assert result.code == (1 if name == "Procfile" else 0)
    assert result.err.startswith(f"{name}: ")
    assert "directory" in result.err
    assert "hint: " in result.err


@pytest.mark.parametrize("name", ["Procfile", ".env", ".foreman"])
def test_unreadable_file_is_reported(project: Project, name: str) -> None:
    project.procfile(web="echo wrong")
    path = project.write(name, "web: echo wrong\n")
    path.chmod(0)
    wrapper = WITHOUT_PRIVILEGES if os.geteuid() == 0 else ()
    if wrapper and (
        shutil.which("setpriv") is None or subprocess.run((*wrapper, "cat", path), check=False).returncode != 1
    ):
        pytest.skip("root cannot be kept from reading here")
    result = project.run("start", wrapper=wrapper)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"{name}: error: cannot be read: permission denied\n  hint: ")


@pytest.mark.parametrize(
    ("content", "place", "value"),
    [
        ("A=1\nB=it's\n", ".env:2: ", "`B`"),
        (b"A=\xff\n", ".env:1: ", "byte 0xff in column 3 is not UTF-8"),
        ("A=a\\\n", ".env:1: ", "backslash"),
        (b"A=a\0b\n", ".env:1: ", "NUL"),
    ],
)
@pytest.mark.parametrize("command", ["start", "check", "run"])
def test_unusable_environment_file_is_one_message(
    project: Project, command: str, content: str | bytes, place: str, value: str
) -> None:
    project.procfile(web="echo wrong")
    project.write(".env", content)
    result = project.run(command, *(("echo", "wrong") if command == "run" else ()))
    errors = re.findall(r"^(\S+ )error: (.*)\n  hint: .+$", result.err, re.MULTILINE)
    assert (result.code, result.out) == (1, "")
    assert [error[0] for error in errors] == [place]
    assert value in errors[0][1]


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("-c", "web"), "-c web"),
        (("-c", "web=x"), "-c web=x"),
        (("-c", "web=-1"), "-c web=-1"),
        (("-c", "web=1.5"), "-c web=1.5"),
        (("-c", "nope=2"), "`nope`"),
        (("-m", "nope=2"), "`nope`"),
        (("-c", "all=2"), "`all`"),
        (("-c", "web=1", "-m", "web=1"), "-c and -m"),
        (("-p", "x"), "'x' (-p)"),
        (("-p", "-1"), "'-1' (-p)"),
        (("-p", "70000"), "'70000' (-p)"),
        (("-t", "soon"), "-t soon"),
        (("-t", "-1"), "-t -1"),
        (("-t", "nan"), "-t nan"),
        (("-q", "nope"), "`nope`"),
        (("nope",), "'nope'"),
        (("--root", "nowhere", "-f", "Procfile"), "--root nowhere"),
        (("-f", "nowhere"), "nowhere"),
        (("-d", ".", "--root", "."), "-d and --root"),
    ],
)
def test_wrong_argument_is_one_message(project: Project, arguments: tuple[str, ...], value: str) -> None:
    project.procfile(web="echo wrong", worker="echo wrong")
    result = project.run("start", *arguments)
    assert (result.code, result.out) == (1, "")
    assert len(re.findall(r"^\S+ error: ", result.err, re.MULTILINE)) == 1
    assert value in result.err
    assert "\n  hint: " in result.err


@pytest.mark.parametrize(("file", "environment"), [("PORT=x\n", {}), ("", {"PORT": "x"})])
def test_error_of_a_wrong_port_names_its_source(project: Project, file: str, environment: dict[str, str]) -> None:
    project.procfile(web="echo wrong")
    project.write(".env", file)
    result = project.run("start", env=environment)
    assert result.code == 1
    assert (".env:1: error: " if file else "PORT in the environment") in result.err


def test_all_errors_are_reported_at_once(project: Project) -> None:
    project.procfile(web="echo wrong")
    result = project.run("start", "-p", "x", "-c", "nope=2,web=x", "-t", "soon", "unknown")
    assert result.code == 1
    assert len(re.findall(r"^\S+ error: ", result.err, re.MULTILINE)) == 5


def test_similar_name_is_suggested(project: Project) -> None:
    project.procfile(worker="echo wrong")
    assert "did you mean `worker`?" in project.run("start", "workr").err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
def test_process_that_cannot_be_started_ends_the_app(project: Project) -> None:
    # On Linux a single argument may not be longer than 128 KiB.
    project.write("Procfile", f"web: : {'x' * 140_000}\nother: exec sleep 600\n")
    result = project.run("start")
    assert result.code == 126
    message = "web.1 could not be started: its command or its environment is longer than the system allows"
    assert message in result.lines("system")


def test_deleted_current_directory_does_not_matter(project: Project) -> None:
    (project.path / "sub").mkdir()
    project.procfile(web="echo hello")
    wrapper = ("sh", "-c", 'cd sub && rmdir ../sub && exec "$@"', "sh")
    result = project.run("start", "-f", str(project.path / "Procfile"), wrapper=wrapper)
    assert (result.code, result.lines("web.1")[-1]) == (0, "hello")


@pytest.mark.parametrize("limit", [8, 12, 16, 24, 40])
def test_lack_of_descriptors_ends_the_app_with_a_message(project: Project, limit: int) -> None:
    project.procfile(web="echo ready; exec sleep 600")
    wrapper = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")
    result = project.run("start", "-c", "web=30", wrapper=wrapper)
    assert result.code != 0
    assert "too many open files" in (result.out + result.err).lower()


# Without SIGCHLD, the ends of children are not noticed, and the wait for them does not end.
IMPATIENT = "; import procreaper.runtime.supervisor; procreaper.runtime.supervisor.OUT_OF_REACH_AFTER = 0.3"
BROKEN = """
{0}
def broken(*arguments, **named):
    raise KeyError("our bug")
{1} = broken
"""


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("from procreaper.output.lines import Lines" + IMPATIENT, "Lines.feed"),
        ("from procreaper.runtime.child.child import Child" + IMPATIENT, "Child.process_exited"),
        ("from procreaper.output.text import TextFormat", "TextFormat._lines"),
        ("from procreaper.core import fleet", "fleet.step"),
        ("from procreaper.project import configure as config", "config.inspect_project"),
    ],
)
def test_internal_error_is_one_line_and_leaves_no_process(project: Project, place: str, name: str) -> None:
    project.procfile(web="echo hello; exit 3", other="exec sleep 600")
    result = project.run("start", wrapper=altered(BROKEN.format(place, name)))
    assert result.code == 70
    assert re.fullmatch(
        r"procreaper: internal error: KeyError: 'our bug' \(<string>:\d+\)\n  hint: .*report it\n", result.err
    )
    assert result.out == "" or result.out.endswith("\n")


@pytest.mark.parametrize("name", ["signal", "numbers", "asyncio", "shlex"])
def test_module_of_the_project_does_not_shadow_the_standard_library(project: Project, name: str) -> None:
    project.write(f"{name}.py", "raise SystemExit('taken for another')")
    project.procfile(web="echo hello")
    result = project.run("start")
    assert (result.code, result.lines("web.1")[-1], result.err) == (0, "hello", "")
