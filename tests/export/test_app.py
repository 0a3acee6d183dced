"""The app that is exported: what is taken from a project, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from procreaper.core.plan import Dependency, When
from procreaper.errors import ProcreaperError
from procreaper.export.app import Choices, make_app
from procreaper.export.exporter import App
from procreaper.project.configure import Options, inspect_project, raise_errors

OWN = {"HOME": "/home/me", "PATH": "/bin", "PORT": "7000"}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "shop"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def made(
    procfile: str, settings: str | None = None, *, env: str = "", choices: Choices | None = None, **options: str
) -> App:
    place = Path(options.get("app_root", "."))
    (place / "Procfile").write_text(procfile)
    if env:
        (place / ".env").write_text(env)
    if settings is not None:
        (place / ".reaper.toml").write_text(settings)
    given = Options(**options)  # type: ignore[arg-type]
    project, configuration = inspect_project(given, OWN)
    raise_errors(configuration.warnings)
    return make_app(project, configuration, given, choices or Choices())


def test_the_defaults_are_those_of_honcho(directory: Path) -> None:
    app = made("web: x\n")
    assert (app.name, app.user, app.log, app.shell) == ("shop", "shop", "/var/log/shop", "/bin/sh")
    assert (app.root, app.supervised, app.image, app.is_given) == (str(directory), False, None, frozenset())


def test_the_options_are_taken(directory: Path) -> None:
    (directory / "sub").mkdir()
    app = made("web: x\n", app_root="sub", choices=Choices("a", "u", "/l", "/bin/bash", "i:1"))
    assert app[:5] == ("a", str(directory / "sub"), "u", "/l", "/bin/bash")
    assert (app.image, app.is_given) == ("i:1", {"app", "user", "log", "shell", "image"})
    assert made("web: x\n", choices=Choices(app="a", user="", log="/var/log/APP"))[2:4] == ("a", "/var/log/a")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb"])
def test_a_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    with pytest.raises(ProcreaperError, match="cannot be the name of the app"):
        made("web: x\n", choices=Choices(app=name))


def test_the_environment_is_that_of_the_project_in_the_order_of_honcho() -> None:
    (web, worker) = made("web: x\nworker: y\n", env="B=2\nA=1\n").processes
    assert list(web.environment.items()) == [("HONCHO_PROCESS_NAME", "web.1"), ("B", "2"), ("A", "1"), ("PORT", "7000")]
    assert (web.port, worker.port, worker.environment["PORT"]) == (7000, 7100, "7100")
    assert web.process.env is None


def test_a_port_of_the_files_stands_where_it_stands_there() -> None:
    (web,) = made("web: x\n", env="PORT=3000\nA=1\n").processes
    assert list(web.environment) == ["HONCHO_PROCESS_NAME", "PORT", "A"]
    assert web.environment["PORT"] == "3000"


def test_the_settings_add_to_the_environment(directory: Path) -> None:
    (directory / "more").write_text("C=3\nD=4\n")
    settings = '[process.web]\nenv_file = "more"\nenv = { A = false, D = "$HOME/d", E = true }\n'
    (web,) = made("web: x\n", settings, env="A=1\nB=2\n").processes
    assert web.environment == {
        "HONCHO_PROCESS_NAME": "web.1",
        "PS": "web.1",
        "PORT": "7000",
        "B": "2",
        "C": "3",
        "D": "/home/me/d",
        "E": "true",
    }
    assert web.unset == ("A",)


def test_directories_are_absolute(directory: Path) -> None:
    (directory / "sub").mkdir()
    web, worker = made("web: x\nworker: y\n", '[process.web]\ncwd = "sub"\nlog = "x.log"\n').processes
    assert (web.process.cwd, worker.process.cwd) == (str(directory / "sub"), str(directory))
    assert web.process.log is not None
    assert web.process.log.path == str(directory / "x.log")


def test_how_many_there_are_and_what_starts_by_itself(directory: Path) -> None:
    settings = "[process.a]\nautostart = false\n[process.b]\nautostart = false\n[process.c]\n"
    settings += 'concurrency = 2\ndepends_on = ["b"]\n[process.d]\nconcurrency = 0\n'
    processes = made("a: x\nb: x\nc: x\nd: x\n", settings).processes
    assert [(one.name, one.autostart) for one in processes] == [
        ("a.1", False),
        ("b.1", True),
        ("c.1", True),
        ("c.2", True),
    ]
    assert processes[2].process.depends_on == (Dependency("b.1"),)


def test_the_keys_that_were_given_have_their_lines() -> None:
    settings = '[defaults]\nrestart = "on-failure"\n\n[process.web]\nstop = "SIGINT"\nhealth.tcp = "127.0.0.1:1"\n'
    settings += "health.retries = 2\n"
    (web,) = made("web: x\n", settings).processes
    assert web.said == {"restart": 2, "stop": 5, "stop.signal": 5, "health": 6, "health.tcp": 6, "health.retries": 7}
    assert web.restart is When.ON_FAILURE


def test_what_says_nothing_of_restarts_is_run_again() -> None:
    web, once = made("web: x\nonce: y\n", "[process.once]\noneshot = true\n").processes
    assert (web.restart, once.restart) == (When.ALWAYS, When.NEVER)
