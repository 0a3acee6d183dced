from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exported import app_of, app_with, full_app

from procreaper.core.checks import Health, HTTPCheck, TCPCheck
from procreaper.core.plan import Watch
from procreaper.export.compose_watch import Rule, rules_of
from procreaper.export.containers import (
    LONGEST_NAME,
    Workload,
    argv_of,
    directory_of,
    environment_of,
    labels,
    ports_of,
    warn_about_credentials,
    warn_about_localhost,
    workloads_of,
)
from procreaper.export.exporter import App
from procreaper.export.secrets import has_credentials, looks_secret
from procreaper.export.warnings import Warnings


def counts(app: App) -> dict[str, int]:
    return {workload.name: len(workload.members) for workload in workloads_of(app)}


def workload(app: App, name: str) -> Workload:
    return next(one for one in workloads_of(app) if one.name == name)


def test_instances_that_differ_in_their_port_only_are_copies(tmp_path: Path) -> None:
    app = full_app(tmp_path)
    assert counts(app) == {"web": 3, "worker": 2, "db": 1, "migrate": 1, "queue": 1, "css": 1, "tunnel": 1}
    web = workload(app, "web")
    assert web.members == ("web.1", "web.2", "web.3")
    assert web.first.process.health is not None
    assert web.first.process.health.check == HTTPCheck("http://127.0.0.1:5000/healthz?full=1", (200, 204))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('env = { URL = "http://localhost:$PORT/a" }', {"web": 2}),
        ('health = "tcp://127.0.0.1:$PORT"', {"web": 2}),
        ('health = { exec = "check $PORT" }', {"web": 2}),
        ('log = "log/$HONCHO_PROCESS_NAME.log"', {"web": 2}),
        ('env = { ME = "$HONCHO_PROCESS_NAME" }', {"web-1": 1, "web-2": 1}),
        ('command = "run --name $PS"', {"web-1": 1, "web-2": 1}),
        ('health = "tcp://db$PORT.internal:1"', {"web": 2}),
    ],
)
def test_what_makes_instances_different(tmp_path: Path, settings: str, expected: dict[str, int]) -> None:
    app = app_of(tmp_path, "web: run $PORT\n", f"[process.web]\nconcurrency = 2\n{settings}\n")
    assert counts(app) == expected


def test_whoever_asks_for_its_name_is_told(tmp_path: Path) -> None:
    app = app_of(tmp_path, "web: run $PORT\nclock: tick ${HONCHO_PROCESS_NAME}\n")
    web, clock = app.processes
    assert environment_of(web) == {"PORT": "5000"}
    assert environment_of(clock) == {"PORT": "5100", "PS": "clock.1", "HONCHO_PROCESS_NAME": "clock.1"}


@settings(deadline=None)
@given(st.lists(st.text("abcXYZ019_-", min_size=1, max_size=80)))
def test_every_name_becomes_a_label_of_its_own(names: list[str]) -> None:
    found = labels(names)
    assert len(set(found)) == len(names)
    for label in found:
        assert label[0].isalpha()
        assert label[-1] != "-"
        assert set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert len(label) <= LONGEST_NAME + len(f"-{len(names)}")


@pytest.mark.parametrize(
    ("command", "check", "ports"),
    [
        ("run --port $PORT", None, (5000,)),
        ("run --port ${PORT:-80}", None, (5000,)),
        ("run $PORTAL", None, ()),
        ("run", HTTPCheck("http://localhost:8080/"), (8080,)),
        ("run", HTTPCheck("http://localhost/"), (80,)),
        ("run", HTTPCheck("https://[::1]/"), (443,)),
        ("run $PORT", TCPCheck(":5000"), (5000,)),
        ("run $PORT", TCPCheck("127.0.0.1:9000"), (5000, 9000)),
        ("run", TCPCheck("db.internal:5432"), ()),
    ],
)
def test_the_ports_at_which_a_process_answers(command: str, check: HTTPCheck | None, ports: tuple[int, ...]) -> None:
    app = app_with(command, name="api.1", health=check and Health(check=check))
    assert ports_of(app, app.processes[0]) == ports


def test_a_web_process_is_taken_to_listen_on_its_port() -> None:
    app = app_with("python app.py")
    assert ports_of(app, app.processes[0]) == (5000,)


@pytest.mark.parametrize(
    ("cwd", "directory"),
    [
        (None, None),
        ("/srv/shop", None),
        ("/srv/shop/./jobs", "./jobs"),
        ("/srv/db", "/srv/db"),
        ("/srv/shopping", "/srv/shopping"),
    ],
)
def test_the_directory_of_a_process(cwd: str | None, directory: str | None) -> None:
    app = app_with(cwd=cwd)
    assert directory_of(app, app.processes[0].process) == directory


def test_a_command_runs_below_the_directory_of_the_image_and_without_what_is_unset(tmp_path: Path) -> None:
    (tmp_path / "my jobs").mkdir()
    app = app_with("echo $PWD $A-$B '$0'", cwd="/srv/shop/my jobs")
    exported = app.processes[0]._replace(unset=("A",))
    shown = subprocess.run(
        argv_of(app, exported), cwd=tmp_path, env={"A": "a", "B": "b"}, capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"{tmp_path}/my jobs -b $0\n"


def test_only_a_shell_that_was_asked_for_is_used() -> None:
    app = app_with("run")
    assert argv_of(app._replace(shell="/bin/bash"), app.processes[0])[0] == "/bin/sh"
    assert argv_of(app._replace(shell="/bin/bash", is_given=frozenset({"shell"})), app.processes[0])[0] == "/bin/bash"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY_BASE", "x"),
        ("DB_PASSWORD", "x"),
        ("githubToken", "x"),
        ("STRIPE_KEY", "x"),
        ("APIKEY", "x"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("SENTRY_DSN", "x"),
        ("URL", "postgres://user:pw@host/db"),
        ("CACHE", "redis://:pw@host"),
        ("X", "-----BEGIN RSA PRIVATE KEY-----\nx"),
        ("X", "AKIAABCDEFGHIJKLMNOP"),
        ("X", "ghp_abcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_secrets_are_recognised(name: str, value: str) -> None:
    assert looks_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "1"),
        ("PORT", "5000"),
        ("URL", "http://host:80/a@b"),
        ("KEYBOARD", "us"),
        ("COMPASS", "n"),
        ("X", "a@b:c"),
    ],
)
def test_what_is_no_secret(name: str, value: str) -> None:
    assert not looks_secret(name, value)


def test_a_password_in_a_command_is_recognised() -> None:
    assert has_credentials("celery -b amqp://guest:guest@localhost// worker")
    assert not has_credentials("curl http://localhost:5000/@me")


def rule(path: str, include: str | None = None, *ignore: str) -> Rule:
    return Rule(path, include, ignore)


@pytest.mark.parametrize(
    ("paths", "ignore", "expected"),
    [
        (("app",), (), [rule("./app")]),
        (("./app/", "."), (), [rule("./app"), rule(".")]),
        (("../lib", "/etc/app"), (), [rule("../lib"), rule("/etc/app")]),
        (("*.py",), (), [rule(".", "**/*.py")]),
        (("*.{py,html}",), (), [rule(".", "**/*.py"), rule(".", "**/*.html")]),
        (("config/*.toml", "a/b/**/c?"), (), [rule("./config", "*.toml"), rule("./a/b", "**/c?")]),
        (("a\\*b",), (), [rule("./a*b")]),
        (("app", "."), ("*_test.py",), [rule("./app", None, "**/*_test.py"), rule(".", None, "**/*_test.py")]),
        (("app", "lib"), ("app/static/", "/lib/x", "!y"), [rule("./app", None, "static"), rule("./lib", None, "x")]),
        ((".",), ("app/static",), [rule(".", None, "app/static")]),
    ],
)
def test_what_is_watched_in_the_words_of_compose(
    paths: tuple[str, ...], ignore: tuple[str, ...], expected: list[Rule]
) -> None:
    assert rules_of(Watch("/srv", paths, ignore)) == expected


def test_a_check_of_another_interval_makes_another_workload() -> None:
    (first,) = app_with(health=Health(check=TCPCheck(":5000"))).processes
    assert first.process.health is not None
    process = first.process._replace(name="web.2", health=replace(first.process.health, interval=1.0))
    app = app_with()._replace(processes=(first, first._replace(process=process)))
    assert counts(app) == {"web-1": 1, "web-2": 1}


def test_another_environment_makes_another_workload() -> None:
    (first,) = app_with("run $PORT", {"A": "5000"}).processes
    process = first.process._replace(name="web.2")
    second = first._replace(process=process, port=5001, environment={"A": "5001"})
    assert counts(app_with()._replace(processes=(first, second))) == {"web": 2}
    for other in (second._replace(environment={"A": "1"}), second._replace(unset=("B",))):
        assert counts(app_with()._replace(processes=(first, other))) == {"web-1": 1, "web-2": 1}


def problems_of(app: App) -> list[tuple[str, str | None]]:
    warnings = Warnings(app, "compose")
    workloads = workloads_of(app)
    warn_about_localhost(warnings, workloads)
    warn_about_credentials(warnings, workloads)
    return [(problem.message, problem.hint) for problem in warnings.problems]


@pytest.mark.parametrize(
    ("command", "value", "expected"),
    [
        ("run", "http://localhost:5000/", []),
        ("run", "http://web:5000/ at localhost.internal", []),
        (
            "run",
            "redis://[::1]:6379",
            [
                (
                    "`A` says `[::1]:6379`, which in a container is that container itself",
                    "name the service instead, or the host that it is on",
                )
            ],
        ),
        (
            "run -b 127.0.0.1:$PORT",
            "",
            [
                (
                    "the command of `web` says `127.0.0.1`, where no other container reaches it",
                    "to be reached, have it listen on 0.0.0.0",
                )
            ],
        ),
        (
            "run amqp://me:pw@queue",
            "",
            [
                (
                    "the command of `web` has a URL with a password in it, which is written down",
                    "put it into a variable of the environment",
                )
            ],
        ),
    ],
)
def test_what_does_not_arrive_in_a_container_is_told(command: str, value: str, expected: list[tuple[str, str]]) -> None:
    assert problems_of(app_with(command, {"A": value})) == expected
