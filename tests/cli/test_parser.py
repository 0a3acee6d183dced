from __future__ import annotations

import io
import re
import sys

import pytest

from procreaper import __version__
from procreaper.cli.parser import COMMANDS, build_parser, parse
from procreaper.errors import OutputError, ProcreaperError


def given(line: str) -> dict[str, object]:
    return vars(parse(line.split()))


def refused(line: str) -> ProcreaperError:
    with pytest.raises(ProcreaperError) as caught:
        parse(line.split())
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "line", ["-e a -d b -f c start", "start -e a -d b -f c", "-e a start -d b -f c", "-ea -db -fc start"]
)
def test_common_flags_may_stand_before_or_after_the_command(line: str) -> None:
    assert given(line) == {"command": "start", "env": "a", "app_root": "b", "procfile": "c", "names": []}


def test_flag_after_the_command_wins() -> None:
    assert given("-f a --color start -f b --no-color")["procfile"] == "b"
    assert given("-f a --color start -f b --no-color")["colour"] is False


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("start", []),
        ("start web worker", ["web", "worker"]),
        ("start -- web worker", ["web", "worker"]),
        ("start -p 1 -- web", ["web"]),
        ("start web -p 1 worker", ["web", "worker"]),
        ("start web -p 1 -- worker", ["web", "worker"]),
    ],
)
def test_names_may_stand_anywhere_after_start(line: str, names: list[str]) -> None:
    assert given(line)["names"] == names


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ps", []),
        ("ps web worker", ["web", "worker"]),
        ("ps web --json worker", ["web", "worker"]),
        ("logs web -f worker", ["web", "worker"]),
        ("stop web -d app worker", ["web", "worker"]),
        ("up --pid 1 web -- worker", ["web", "worker"]),
    ],
)
def test_names_may_stand_anywhere_after_a_client_command(line: str, names: list[str]) -> None:
    assert given(line)["names"] == names


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("start -e a -e b", "env", "a,b"),
        ("-e a start --env b", "env", "a,b"),
        ("-e a -e b check -e c,d -e e", "env", "a,b,c,d,e"),
        ("-e a start", "env", "a"),
        ("-e a run -e b ls", "env", "a,b"),
        ("start -c web=2 -c worker=3", "concurrency", "web=2,worker=3"),
        ("start -m all=1 --formation web=2", "formation", "all=1,web=2"),
        ("start -q web -q worker", "quiet", "web,worker"),
        ("export -c web=2 -c web=3 systemd out", "concurrency", "web=2,web=3"),
        ("export -m web=2 -m web=3 systemd out", "formation", "web=2,web=3"),
    ],
)
def test_repeated_flags_are_joined(line: str, name: str, value: str) -> None:
    found = given(line)
    assert found[name] == value
    assert "env_before" not in found


def test_counts_may_stand_anywhere_after_scale() -> None:
    assert given("scale web=2 -d app worker=3")["counts"] == ["web=2", "worker=3"]


@pytest.mark.parametrize(
    ("line", "expected"), [("start", {}), ("start --pty", {"pty": True}), ("start --pty --no-pty", {"pty": False})]
)
def test_pty_is_unset_without_a_flag(line: str, expected: dict[str, object]) -> None:
    assert given(line) == {"command": "start", "names": [], **expected}


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        ("--c web=2", "concurrency", "web=2"),
        ("--co web=2", "concurrency", "web=2"),
        ("--no-c", "colour", False),
        ("--no-p", "prefix", False),
        ("--pro a", "procfile", "a"),
        ("--po 1", "port", "1"),
        ("--e a", "env", "a"),
        ("--a a", "app_root", "a"),
        ("--q a", "quiet", "a"),
        ("--col", "colour", True),
    ],
)
def test_honcho_flags_may_be_abbreviated_as_in_honcho(flag: str, name: str, value: object) -> None:
    assert given(f"start {flag}") == {"command": "start", name: value, "names": []}


def test_ambiguous_honcho_abbreviation_is_refused() -> None:
    assert "ambiguous" in refused("start --p 1").message


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("run ls -l --color -- x", ["ls", "-l", "--color", "--", "x"]),
        ("run -e a ls -e b", ["ls", "-e", "b"]),
        ("run -- ls -l", ["--", "ls", "-l"]),
    ],
)
def test_run_passes_all_arguments_after_its_command(line: str, argv: list[str]) -> None:
    assert given(line)["argv"] in (argv, argv[argv[0] == "--" :])


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("", "no command was given", "`procreaper help`"),
        ("-f a", "no command was given", "`procreaper help`"),
        ("strat", "there is no command `strat`", "did you mean `start`?"),
        ("zzz", "there is no command `zzz`", "`procreaper help` lists the commands"),
        ("-p 1 start", "there is no command `1`", "the options of a command follow it"),
        ("--nope", "there is no option `--nope`", "`procreaper help`"),
        ("--nope start", "there is no option `--nope` of `start`", "`procreaper help start`"),
        ("start --nope web", "there is no option `--nope` of `start`", "`procreaper help start`"),
        ("check web", "there is no argument `web` of `check`", "`procreaper help check`"),
        ("restart", "`procreaper restart` needs NAME", "NAME is a process, a process type, a group"),
        ("export", "`procreaper export` needs FORMAT and LOCATION", "; LOCATION is the directory to write to"),
        ("export systemd", "`procreaper export` needs LOCATION", "LOCATION is the directory"),
        ("completion", "`procreaper completion` needs SHELL", "SHELL is bash, zsh or fish"),
        ("start -p", "argument -p/--port: expected one argument", "`procreaper start --help`"),
    ],
)
def test_usage_error_names_the_problem_and_a_remedy(line: str, message: str, hint: str) -> None:
    error = refused(line)
    assert error.message == message
    assert hint in str(error.hint)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("start -x web -x worker,db", "exclude", "web,worker,db"),
        ("start -r web --restart db", "restart", "web,db"),
        ("start --can-die web --can-die db", "can_die", "web,db"),
    ],
)
def test_repeated_name_flags_are_joined(line: str, name: str, value: str) -> None:
    assert getattr(parse(line.split()), name) == value


def test_overview_lists_every_command_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: procreaper COMMAND [OPTION ...]"
    listed = [line.split()[0] for line in lines if re.match("  [a-z]", line)]
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("start", "procreaper start [OPTION ...] [NAME ...]"),
        ("run", "procreaper run [OPTION ...] COMMAND [ARGUMENT ...]"),
        ("stop", "procreaper stop [OPTION ...] NAME [NAME ...]"),
        ("quit", "procreaper quit [OPTION ...]"),
        ("completion", "procreaper completion [OPTION ...] SHELL"),
    ],
)
def test_usage_of_a_command_is_one_line(command: str, usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    assert capsys.readouterr().out.splitlines()[:2] == [f"usage: {usage}", ""]


def test_options_of_start_are_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["start", "--help"])
    titles = re.findall("^([a-z ]+):$", capsys.readouterr().out, re.MULTILINE)
    assert titles == [
        *("arguments", "options", "processes", "supervision"),
        *("background", "monitoring", "output", "files"),
    ]


@pytest.mark.parametrize("line", ["-v", "--version", "start -v", "run --version"])
def test_version_flag_prints_the_version(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(line.split())
    assert capsys.readouterr().out == f"procreaper {__version__}\n"


def test_unwritable_help_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OutputError, match="standard output cannot be written: no space left on device"):
        parse(["--help"])


def test_every_common_flag_of_honcho_exists() -> None:
    theirs = "-h --help -e --env -d --app-root --no-colour --no-prefix -f --procfile -v --version"
    assert set(theirs.split()) <= build_parser(())._option_string_actions.keys()
