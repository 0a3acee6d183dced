"""`check`: inspect all files, start nothing, and print where honcho prints."""

from __future__ import annotations

import pytest
from support.driver import Project


def test_valid_procfile_prints_honchos_line_on_standard_error(project: Project) -> None:
    project.procfile(web="touch started", worker="touch started")
    result = project.run("check")
    assert (result.code, result.out, result.err) == (0, "", "Valid procfile detected (web, worker)\n")
    assert not (project.path / "started").exists()


def test_all_problems_of_all_files_are_reported_at_once(project: Project) -> None:
    project.write("Procfile", "web: one\nweb: two\nno process\nempty:\n")
    project.write(".env", "A=it's\nB=b c\n")
    result = project.run("check")
    assert result.code == 1
    places = [line.split(" ")[0] for line in result.err.splitlines() if not line.startswith("  hint: ")]
    assert sorted(places) == [".env:1:", ".env:2:", "Procfile:2:", "Procfile:3:", "Procfile:4:"]
    assert result.err.count("  hint: ") == len(places)


def test_warnings_are_printed_and_are_no_failure(project: Project) -> None:
    project.write("Procfile", "web: sleep 1\nno process\nlater:\n")
    result = project.run("check")
    assert result.code == 0
    assert result.err.startswith("Procfile:2: warning: ")
    assert "\nProcfile:3: warning: line ignored: no command after `later:`\n" in result.err
    assert result.err.endswith("Valid procfile detected (web)\n")


def test_line_without_a_command_is_no_obstacle_for_the_others(project: Project) -> None:
    project.write("Procfile", "web: echo ok\nlater:\n")
    result = project.run("start")
    assert result.code == 0
    assert "web.1  | ok\n" in result.out
    assert result.err.startswith("Procfile:2: warning: line ignored: no command after `later:`\n")
    result = project.run("export", "systemd", "out")
    assert result.code == 0
    assert result.err.startswith("Procfile:2: warning: line ignored: no command after `later:`\n")


@pytest.mark.parametrize("arguments", [("-d", "sub"), ("-f", "sub/Procfile"), ("--root", "sub")])
def test_named_files_are_checked(project: Project, arguments: tuple[str, ...]) -> None:
    project.procfile(wrong="true")
    project.write("sub/Procfile", "right: true\n")
    assert project.run("check", *arguments).err == "Valid procfile detected (right)\n"


def test_file_without_a_process_is_no_valid_procfile(project: Project) -> None:
    project.write("Procfile", "# nothing yet\n")
    result = project.run("check")
    assert result.code == 1
    assert "no process is defined" in result.err
