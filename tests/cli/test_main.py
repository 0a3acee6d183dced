from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from procreaper.cli import main
from procreaper.cli.commands import start
from procreaper.cli.main import execute
from procreaper.project.configure import Options


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    Path("Procfile").write_text("web: sleep 1\n")
    return tmp_path


@pytest.fixture
def raised() -> list[Exception]:
    return []


@pytest.fixture(autouse=True)
def options(monkeypatch: pytest.MonkeyPatch, raised: list[Exception]) -> list[Options]:
    """The options that `start` was called with; nothing is started, but what is in `raised` is raised."""
    seen: list[Options] = []

    def fake(options: Options, style: object, typed: object) -> int:
        seen.append(options)
        for error in raised:
            raise error
        return 7

    monkeypatch.setattr(start, "start", fake)
    return seen


def test_ctrl_c_prints_no_traceback_from_the_first_import_on() -> None:
    # What is imported while Ctrl-C still raises KeyboardInterrupt, by whatever imports the program.
    script = """
import sys, _signal
early = []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            early.append(name)
sys.meta_path.insert(0, Finder())
import procreaper.__main__
print(*early)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["procreaper", "procreaper.__main__"]


def test_command_line_overrides_foreman_defaults(options: list[Options], capsys: pytest.CaptureFixture[str]) -> None:
    Path(".foreman").write_text("port: 1\nformation: web=2\nroot: sub\n")
    assert execute(["start"]) == 7
    assert execute(["start", "-p", "2", "-c", "web=1", "-d", "."]) == 7
    first, second = options
    assert (first.port, first.formation, first.root) == ("1", "web=2", "sub")
    assert (second.port, second.formation, second.concurrency) == ("2", None, "web=1")
    assert (second.root, second.app_root) == (None, ".")
    # What is overruled, or means nothing to the command, is not told.
    assert capsys.readouterr().err == "procreaper: .foreman sets formation, port, root\n"
    assert (first.foreman, second.foreman) == ({"port": 1, "formation": 2, "root": 3}, {})
    Path(".foreman").write_text("port: 1\nprocfile: Procfile\n")
    assert execute(["check"]) == 0
    assert "procreaper: .foreman sets procfile\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "cwd"),
    [
        ((), "sub"),
        (("-f", "sub/Procfile"), None),
        (("-d", "."), None),
        (("--root", "."), None),
    ],
)
def test_procfile_in_dot_foreman_sets_the_working_directory(
    options: list[Options], arguments: tuple[str, ...], cwd: str | None
) -> None:
    Path(".foreman").write_text("procfile: sub/Procfile\n")
    assert execute(["start", *arguments]) == 7
    assert (options[0].procfile, options[0].cwd) == ("sub/Procfile", cwd)


def test_procfile_beside_dot_foreman_keeps_the_working_directory(options: list[Options]) -> None:
    Path(".foreman").write_text("procfile: Procfile.dev\n")
    assert execute(["start"]) == 7
    assert options[0].cwd is None


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(24, "Too many open files"), 1, "procreaper: error: too many open files\n"),
        (FileNotFoundError(2, "No such file", "/x\udcff"), 1, "procreaper: error: /x\ufffd: no such file\n"),
        (BrokenPipeError(), 141, ""),
        (ExceptionGroup("two", [ValueError("one"), ValueError("other")]), 70, "internal error: ValueError: one"),
    ],
)
def test_no_error_becomes_a_traceback(
    raised: list[Exception],
    error: Exception,
    code: int,
    message: str,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    raised.append(error)
    assert execute(["start"]) == code
    told = capfdbinary.readouterr().err.decode(errors="replace")
    assert message in told
    assert "Traceback" not in told


def test_d_and_root_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["start", "-d", ".", "--root", "."]) == 1
    assert "-d and --root cannot be used together" in capsys.readouterr().err


def test_check_prints_the_line_of_honcho_and_every_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["check"]) == 0
    assert capsys.readouterr() == ("", "Valid procfile detected (web)\n")
    Path("Procfile").write_text("web: a\njunk\nweb: b\n")
    Path(".env").write_text("A=it's\nPORT=x\n")
    assert execute(["check"]) == 1
    out, err = capsys.readouterr()
    places = [line.split(" ")[0] for line in err.splitlines() if not line.startswith("  hint: ")]
    assert (out, places) == ("", ["Procfile:2:", "Procfile:3:", ".env:1:", ".env:2:"])


@pytest.mark.parametrize("task", [[], ["start"], ["help"]])
def test_help_describes_the_commands(task: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["help", *task]) == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: procreaper", *task]))


@pytest.mark.parametrize(
    ("environment", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": ""}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour_needs_a_terminal_unless_the_environment_sets_it(
    environment: dict[str, str], terminal: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main._wants_colour(terminal) is wanted


def test_broken_standard_error_keeps_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as broken:
        monkeypatch.setattr("sys.stderr", broken)
        assert execute(["start", "--nope"]) == 2
