"""A locale that is not UTF-8: every byte passes, and every message is printed."""

from __future__ import annotations

import os
import sys

import pytest
from support.driver import Project

# What Python calls ASCII: it neither coerces this locale nor turns its UTF-8 mode on.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LATIN": os.fsdecode(b"lat\xe9n")}
SHOW = """
import os, sys, time
out = sys.stdout.buffer
for name in (b"LATIN", b"OF_ENV", b"OF_TOML", b"LC_ALL", b"PYTHONUTF8"):
    out.write(name + b"=" + os.environb.get(name, b"") + b"\\n")
out.write(b"argv " + b" ".join(map(os.fsencode, sys.argv[1:])) + b"\\n")
out.write(b"output caf\\xe9 caf\\xc3\\xa9\\nready\\n")
out.flush()
"""
SHOWN = [
    b"LATIN=lat\xe9n",
    "OF_ENV=straße".encode(),
    "OF_TOML=größe".encode(),
    b"LC_ALL=C",
    b"PYTHONUTF8=0",
    "argv naïve straße".encode(),
    b"output caf\xe9 caf\xc3\xa9",
    b"ready",
]


@pytest.fixture
def foreign(project: Project) -> Project:
    """A project with letters beyond ASCII wherever they can be."""
    show = project.python("show", SHOW)
    project.write("Procfile", f'web: {show} naïve "$OF_ENV"; sleep 1000\nwéb: x\n')
    project.write(".env", "OF_ENV=straße\n")
    project.write(
        ".reaper.toml", '[process.web]\nenv = { OF_TOML = "größe" }\nlog = "lög.txt"\nstop = { timeout = "10s" }\n'
    )
    project.environment.update(ASCII)
    return project


def lines_of(data: bytes) -> list[bytes]:
    """The lines of `web.1`, without their prefix."""
    return [line.partition(b"| ")[2] for line in data.split(b"\n") if b"| " in line and b" system " not in line]


def test_all_bytes_reach_the_process_its_log_and_the_second_terminal(foreign: Project) -> None:
    app = foreign.begin("start")
    app.wait_for("web.1 .*ready")
    shown = foreign.begin("logs")
    assert shown.end().code == 0
    assert lines_of(shown.data) == SHOWN
    assert foreign.run("ps").code == foreign.run("ps", "--json").code == foreign.run("ls").code == 0
    app.stop()
    assert lines_of(app.data)[: len(SHOWN)] == SHOWN
    assert (foreign.path / "lög.txt").read_bytes().split(b"\n")[: len(SHOWN)] == SHOWN


def test_messages_are_printed_in_utf8(foreign: Project) -> None:
    checked = foreign.run("check")
    assert checked.code == 0
    assert "`é` is not allowed in the name `wéb`" in checked.err
    foreign.write("Procfile", "web: sleep 1 ä'\n")
    assert "Procfile:1: warning: the shell cannot read the command" in foreign.run("check").err
    foreign.write(".reaper.toml", "[process.web]\ncwd = 'wö'\n")
    assert "`wö`, which is not a directory" in foreign.run("check").err
    assert "`wö`, which is not a directory" in foreign.run("check", "--format", "github").out


def test_records_are_printed_in_utf8(foreign: Project) -> None:
    app = foreign.begin("start", "--log-format", "json")
    app.wait_for('"msg":"ready"')
    app.stop()
    assert '"msg":"OF_ENV=straße"' in app.out
    assert '"msg":"output caf� café"' in app.out


def test_arguments_of_run_pass_unchanged(foreign: Project) -> None:
    show = foreign.python("show", SHOW)
    ran = foreign.begin("run", *show.split(), os.fsdecode(b"\xe9\xc3\xa9"))
    assert ran.end().code == 0
    assert b"argv \xe9\xc3\xa9\n" in ran.data
    assert b"LATIN=lat\xe9n\n" in ran.data


def test_directory_whose_name_is_not_utf8_works(foreign: Project) -> None:
    path = foreign.path / os.fsdecode(b"caf\xe9")
    path.mkdir()
    (path / "Procfile").write_text("web: printf 'ready\\n'\n")
    ended = foreign.begin("start", "-d", str(path), "--no-timestamp").end()
    assert (ended.code, "web.1  | ready" in ended.out) == (0, True)


def test_processes_keep_their_locale(foreign: Project) -> None:
    code = "import sys; print(sys.flags.utf8_mode, sys.getfilesystemencoding())"
    ran = foreign.run("run", sys.executable, "-c", code)
    assert ran.out == "0 ascii\n"
