from __future__ import annotations

from pathlib import Path

import pytest

from procreaper.cli import foreman
from procreaper.errors import ConfigError, Problem


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str | bytes) -> dict[str, str | bool]:
    Path(".foreman").write_bytes(text.encode() if isinstance(text, str) else text)
    found = foreman.read_defaults()
    assert found.problems == ()
    return found.values


def refused(text: str | bytes) -> Problem:
    with pytest.raises(ConfigError) as caught:
        read(text)
    [problem] = caught.value.problems
    assert problem.path == ".foreman"
    assert problem.hint
    return problem


def test_missing_file_gives_no_defaults() -> None:
    assert foreman.read_defaults() == foreman.Defaults({}, {}, ())


def test_directory_of_this_name_is_ignored_as_in_foreman() -> None:
    Path(".foreman").mkdir()
    assert foreman.read_defaults() == foreman.Defaults({}, {}, ())


@pytest.mark.parametrize(
    "line",
    [
        "port: 9000",
        "port : 9000",
        "port:\t9000  ",
        'port: "9000"',
        "port: '9000' # c",
        "port: 9000 # c",
        "port: 9000\r",
    ],
)
def test_a_flat_line_is_a_default_for_the_command_line(line: str) -> None:
    assert read(f"# all\n\n---\n{line}\n") == {"port": "9000"}


def test_every_supported_option_is_used() -> None:
    text = (
        "env: a,b\nformation: web=2,all=1\nprocfile: a b#c\nroot: '../x'\ntimeout: 2.5\ncolor: yes\ntimestamp: False\n"
    )
    assert read(text) == {
        "env": "a,b",
        "formation": "web=2,all=1",
        "procfile": "a b#c",
        "root": "../x",
        "timeout": "2.5",
        "color": True,
        "timestamp": False,
    }


def test_options_of_foreman_export_are_ignored() -> None:
    assert read("app: x\nlog: /var/log\nuser: nobody\n") == {"app": "x", "log": "/var/log", "user": "nobody"}
    assert read("template: x\nrun: /run\n") == {}


def test_the_last_line_wins() -> None:
    assert read("port: 1\nport: 2") == {"port": "2"}


def test_unknown_option_is_a_warning_with_its_line() -> None:
    Path(".foreman").write_text("port: 1\nlint: web=2\n")
    found = foreman.read_defaults()
    assert (found.values, found.lines) == ({"port": "1"}, {"port": 1})
    [warning] = found.problems
    assert (warning.level, warning.place) == ("warning", ".foreman:2")
    assert "known are app, color" in str(warning.hint)


def test_old_concurrency_option_is_a_warning_that_names_formation() -> None:
    Path(".foreman").write_text("concurrency: worker=0\n")
    [warning] = foreman.read_defaults().problems
    assert (warning.level, warning.place) == ("warning", ".foreman:1")
    assert warning.hint == "foreman calls it `formation` now: write `formation: all=1,worker=0`"


@pytest.mark.parametrize(
    "line",
    [
        "junk",
        "port:",
        "port:9000",
        "port: [1]",
        "port: ~",
        "{port: 9000}",
        '"port": 9000',
        ":port: 1",
        "- port: 1",
        " port: 1",
        "port: 'a",
        "port: |",
        "web=1",
        "port: >",
        "port: &a 1",
        "root: a\0b",
    ],
)
def test_line_that_is_not_flat_is_an_error_with_its_line(line: str) -> None:
    problem = refused(f"env: a\n{line}\n")
    assert (problem.level, problem.line) == ("error", 2)
    assert "`key: value`" in problem.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port: x", "`port` is a number, not `x`"),
        ("port: ''", "`port` is a number, not ``"),
        ("timeout: -1", "only flat `key: value` lines are understood here"),
        ("timeout: nan", "`timeout` is a number, not `nan`"),
        ("color: maybe", "`color` is true or false, not `maybe`"),
    ],
)
def test_wrong_kind_of_value_is_an_error_with_its_line(line: str, message: str) -> None:
    problem = refused(line)
    assert (problem.line, problem.message) == (1, message)


def test_file_that_is_not_utf_8_is_an_error() -> None:
    assert refused(b"port: \xff\n").message == "is not a text in UTF-8"
