"""Log files of processes: whole lines, rotated, with all faults of a disk."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from support.driver import Project

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and /proc")


def lines_in(path: Path) -> list[str]:
    """The lines of a log and of its older parts, the oldest first."""
    parts = sorted(path.parent.glob(f"{path.name}*"), key=lambda part: -int(part.name.removeprefix(path.name)[1:] or 0))
    return [line for part in parts for line in part.read_text().splitlines()]


def settings(**logs: str) -> str:
    return "".join(f"[process.{name}]\nlog = {value}\n" for name, value in logs.items())


def test_output_is_appended_to_the_log_unchanged(project: Project) -> None:
    written = b"\x1b[31mred\x1b[0m\r\n\xff\0\nlast"
    project.write("bytes", written)
    project.procfile(web="cat bytes", db="echo not kept")
    project.write(".reaper.toml", settings(web='"log/$NAME.log"') + 'env = { NAME = "my" }\n')
    for _ in range(2):
        assert project.run("start", "--can-die", "all").code == 0
    assert (project.path / "log" / "my.log").read_bytes() == written + b"\n" + written


def test_output_of_a_quiet_process_is_logged(project: Project) -> None:
    project.procfile(web="seq 100000")
    project.write(".reaper.toml", settings(web='"log/web.log"'))
    result = project.run("start", "-q", "web")
    assert result.lines("web.1") == []
    assert lines_in(project.path / "log" / "web.log") == [str(number) for number in range(1, 100_001)]


def test_flood_is_rotated_without_lost_or_broken_lines(project: Project) -> None:
    project.procfile(web="seq 1000000")
    project.write(".reaper.toml", settings(web='{ file = "web.log", max_size = "1MB", max_files = 3 }'))
    assert project.run("start").code == 0
    assert sorted(path.name for path in project.path.glob("web.log*")) == [
        *("web.log", "web.log.1", "web.log.2", "web.log.3")
    ]
    lines = lines_in(project.path / "web.log")
    assert lines == [str(number) for number in range(1_000_001 - len(lines), 1_000_001)]
    sizes = [path.stat().st_size for path in project.path.glob("web.log.*")]
    assert all(1_000_000 - 8 < size <= 1_000_000 for size in sizes)


def test_all_instances_may_share_a_file(project: Project) -> None:
    project.procfile(web="seq 50000")
    project.write(".reaper.toml", settings(web='"web.log"'))
    assert project.run("start", "-c", "web=3", "--can-die", "all").code == 0
    lines = lines_in(project.path / "web.log")
    assert sorted(map(int, lines)) == sorted([*range(1, 50_001)] * 3)


def test_two_apps_may_write_and_rotate_one_file(project: Project) -> None:
    project.write("Procfile", "a: seq -f a%.0f 100000\nb: seq -f b%.0f 100000\n")
    project.write(".reaper.toml", '[defaults]\nlog = { file = "both.log", max_size = "20kB", max_files = 1000 }\n')
    programs = [project.begin("start", name) for name in ("a", "b")]
    assert [program.end().code for program in programs] == [0, 0]
    lines = lines_in(project.path / "both.log")
    for name in ("a", "b"):
        assert [line for line in lines if line[0] == name] == [f"{name}{number}" for number in range(1, 100_001)]


@pytest.mark.parametrize("command", ["start", "check"])
def test_unwritable_log_is_an_error_with_its_line(project: Project, command: str) -> None:
    project.procfile(web="echo started")
    (project.path / "log").mkdir()
    project.write(".reaper.toml", '[process.web]\nrestart = "never"\nlog = "log"\n')
    result = project.run(command)
    level = "error" if command == "start" else "warning"
    assert result.code == (1 if command == "start" else 0)
    path = project.path / "log"
    assert result.err.startswith(
        f".reaper.toml:3: {level}: `{path}`, the log of `web.1`, cannot be written: is a directory\n"
        "  hint: choose a file in a directory that you can write to\n"
    )
    assert result.out == ""


@linux_only
def test_full_disk_is_reported_once_and_ends_nothing(project: Project) -> None:
    project.procfile(web="seq 100000; read x < gate; echo more")
    os.mkfifo(project.path / "gate")
    project.write(".reaper.toml", settings(web='"/dev/full"'))
    program = project.begin("start")
    program.wait_for("cannot be written")
    program.wait_for(r"\| 100000$")
    (project.path / "gate").write_text("\n")
    result = program.end()
    assert result.code == 0
    assert result.lines("web.1") == [*map(str, range(1, 100_001)), "more"]
    said = [line for line in result.lines("system") if "/dev/full" in line]
    size = len("".join(f"{number}\n" for number in range(1, 100_001))) + len("more\n")
    assert said == [
        "`/dev/full` cannot be written: no space left on device; what is missing is counted until it can be",
        f"`/dev/full`: {size:,} bytes of output are missing in it",
    ]


def test_limit_on_file_size_ends_nothing(project: Project) -> None:
    limit = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000)); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    project.procfile(web="seq 100000")
    project.write(".reaper.toml", settings(web='"web.log"'))
    result = project.run("start", wrapper=(sys.executable, "-S", "-c", limit))
    assert result.code == 0
    assert len(result.lines("web.1")) == 100_000
    written = (project.path / "web.log").read_bytes()
    assert len(written) == 50_000
    (missing,) = re.findall(r"`web\.log`: ([\d,]+) bytes of output are missing", result.out)
    assert int(missing.replace(",", "")) + len(written) == sum(len(f"{n}\n") for n in range(1, 100_001))


def test_moved_log_file_is_created_again(project: Project) -> None:
    os.mkfifo(project.path / "gate")
    project.procfile(web="echo one; read x < gate; echo two")
    project.write(".reaper.toml", settings(web='"log/web.log"'))
    program = project.begin("start")
    program.wait_for(r"\| one$")
    log = project.path / "log"
    (log / "web.log").rename(log / "old")
    (project.path / "gate").write_text("\n")
    assert program.end().code == 0
    assert (log / "web.log").read_text().endswith("two\n")
    assert (log / "old").read_text() + (log / "web.log").read_text() == "one\ntwo\n"


def test_log_file_causes_no_restart(project: Project) -> None:
    project.procfile(web="echo began; seq 1000; read x < gate")
    os.mkfifo(project.path / "gate")
    project.write(
        ".reaper.toml",
        '[process.web]\nwatch = ["."]\nlog = { file = "log/web.log", max_size = "1kB" }\nstop_all = "always"\n',
    )
    program = project.begin("start")
    program.wait_for(r"\| 1000$")
    # What is changed later is seen later.
    project.write("touched", "x")
    program.wait_for(r"\| 1000$", count=2)
    result = program.stop()
    assert result.lines("web.1").count("began") == 2
