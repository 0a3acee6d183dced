"""The jobs: what their commands do, and the settings in them. There is no upstart any more that could read them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exporting import HARD, TEXTS, app, exported, file, messages, telling, told

from procreaper.core.plan import Backoff, Condition, Dependency, LogFile, StopPolicy, When
from procreaper.errors import ConfigError
from procreaper.export.exporter import MARK, App
from procreaper.export.upstart import render


def started(directory: Path, app: App, job: str = "app-web-1", **environment: str) -> dict[str, Any]:
    """What the program of a job is given: upstart sets the variables, and `su` would hand them to its shell."""
    lines = file(render(app), f"{job}.conf").content.removesuffix("\n").split("\n")
    variables = dict(environment)
    for line in lines:
        if line.startswith("env "):
            # What upstart reads otherwise than a shell is not there.
            assert "\\" not in line
            (assignment,) = shlex.split(line.removeprefix("env "))
            name, _, value = assignment.partition("=")
            variables[name] = value
    command = lines[-1].removeprefix("exec ")
    assert re.match(r"su - app -m -s /bin/sh -c ", command)
    out = directory / "told"
    shell = command.replace("su - app -m -s /bin/sh", "/bin/sh", 1)
    subprocess.run(["/bin/sh", "-c", shell], env={"PATH": os.environ["PATH"], "OUT": str(out), **variables}, check=True)
    return told(out)


@pytest.mark.parametrize("supervised", [False, True])
def test_every_hard_text_arrives(tmp_path: Path, supervised: bool) -> None:
    values = {f"V{number}": text for number, text in enumerate(HARD)}
    # A list may have line ends, a line of a Procfile has none.
    command = tuple(shlex.split(telling(tmp_path, *HARD)))
    data = started(
        tmp_path, app(exported(command=command, environment=values), settings=supervised, root=str(tmp_path))
    )
    assert data["arguments"] == list(HARD)
    assert {name: data["environment"].get(name) for name in values} == values
    assert data["directory"] == str(tmp_path)


@given(arguments=st.lists(TEXTS, max_size=5), values=st.lists(TEXTS, max_size=10))
@settings(deadline=None, max_examples=20)
def test_any_text_arrives(arguments: list[str], values: list[str]) -> None:
    named = {f"V{number}": text for number, text in enumerate(values)}
    with TemporaryDirectory() as directory:
        place = Path(directory)
        data = started(place, app(exported(command=telling(place, *arguments), environment=named), root=directory))
    assert data["arguments"] == arguments
    assert {name: data["environment"].get(name) for name in named} == named


def test_variables_are_unset_and_the_directory_is_changed(tmp_path: Path) -> None:
    place = tmp_path / "it's 50% $HOME"
    place.mkdir()
    one = exported(command=telling(tmp_path), unset=("DEBUG",), cwd=str(place))
    data = started(tmp_path, app(one, settings=True), DEBUG="1")
    assert "DEBUG" not in data["environment"]
    assert data["directory"] == str(place)


def test_the_settings_stand_in_the_job() -> None:
    web = exported(
        "web.1",
        environment={"A": "b c"},
        unset=("DEBUG",),
        said=("restart", "max_retries"),
        restart=When.ON_FAILURE,
        max_retries=10,
        backoff=Backoff(1.0, 30.0, 45.0),
        success_codes=frozenset({0, 143}),
        stop=StopPolicy(2, 29.5),
        log=LogFile("/var/log/web.log"),
        depends_on=(Dependency("migrate.1", Condition.COMPLETED), Dependency("db.1")),
    )
    whole = app(web, exported("db.1"), exported("migrate.1", oneshot=True), settings=True)
    assert file(render(whole), "app-web-1.conf").content.splitlines() == [
        f"# {MARK}",
        'description "web.1 of app"',
        "start on (starting app-web and stopped app-migrate-1 RESULT=ok and started app-db-1)",
        "stop on stopping app-web",
        "respawn",
        "respawn limit 10 450",
        "normal exit 0 143 TERM",
        "kill signal INT",
        "kill timeout 30",
        "",
        "env A='b c'",
        "",
        "exec su - app -m -s /bin/sh -c 'unset DEBUG; cd /srv/app || exit 1; "
        "mkdir -p /var/log; exec >>/var/log/web.log 2>&1; true'",
    ]
    migrate = file(render(whole), "app-migrate-1.conf").content.splitlines()
    assert "task" in migrate
    assert "respawn" not in migrate
    assert "respawn limit unlimited" in file(render(whole), "app-db-1.conf").content.splitlines()


def test_a_stop_command_comes_before_the_end() -> None:
    content = file(render(app(exported(stop=StopPolicy(command="bin/stop")), settings=True)), "app-web-1.conf").content
    assert "pre-stop exec su - app -m -s /bin/sh -c 'cd /srv/app || exit 1; bin/stop'\n" in content
    assert "kill signal CONT\n" in content


def test_what_does_not_start_by_itself_has_no_start() -> None:
    one = exported(autostart=False, detached=True)
    content = file(render(app(one, settings=True)), "app-web-1.conf").content
    assert " on " not in content


def test_what_upstart_cannot_say_is_told_with_its_line() -> None:
    said = ("health", "watch", "hooks", "stop_all", "pty", "backoff", "depends_on", "log", "log.max_size")
    one = exported(
        said=(*said, "restart"),
        stop_all=When.ALWAYS,
        pty=True,
        restart=When.ALWAYS,
        log=LogFile("/l"),
        depends_on=(Dependency("db.1", Condition.HEALTHY, restart=True),),
    )
    rendered = render(app(exported("db.1"), one, settings=True))
    found = [said[problem.line - 1] for problem in rendered.warnings if problem.line]
    assert sorted(found) == sorted([*(set(said) - {"log"}), "depends_on"])
    assert "`health` of `web` is left out: upstart has nothing like it" in messages(rendered)


@pytest.mark.parametrize(("option", "value"), [("name", "my app"), ("root", "/a\nb")])
def test_names_and_paths_that_break_a_job_are_refused(option: str, value: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written for upstart"):
        render(app(exported(), **{option: value}))
