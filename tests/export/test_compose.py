from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from support.exported import NASTY, SHELL_TEXTS, app_of, app_with, full_app, told

from procreaper.core.checks import ExecCheck, Health, HealthCheck, HTTPCheck, LogCheck, Target, TCPCheck
from procreaper.core.plan import StopPolicy, When
from procreaper.export.compose import duration, escaped, render
from procreaper.export.exporter import App

SCHEMA = json.loads((Path(__file__).parent.parent / "schemas" / "compose-spec.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def document_of(app: App) -> Any:
    """The file of an app, which must be as the Compose Specification wants it."""
    (file,) = render(app).files
    assert file.path == "compose.yaml"
    document = yaml.safe_load(file.content)
    VALIDATOR.validate(document)
    return document


def service_of(app: App, name: str = "web") -> Any:
    return document_of(app)["services"][name]


def interpolated(text: str) -> str:
    """What compose makes of a text: a dollar sign of two, and no variable, since none is set."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else f"<{match[0]} is not set>"

    return re.sub(r"\$\$|\$\{[^}]*\}|\$\w+|\$", replace, text)


def test_a_plain_procfile(tmp_path: Path) -> None:
    app = app_of(tmp_path, env="GREETING=hello\n")
    assert document_of(app) == {
        "name": "shop",
        "services": {
            "web": {
                "build": ".",
                "command": ["/bin/sh", "-c", "exec gunicorn shop:app --bind 0.0.0.0:$$PORT"],
                "init": True,
                "environment": {"GREETING": "hello", "PORT": "5000", "TINI_KILL_PROCESS_GROUP": "1"},
                "ports": ["5000:5000"],
                "restart": "always",
                "stop_grace_period": "5s",
            },
            "worker": {
                "build": ".",
                "command": ["/bin/sh", "-c", "exec celery -A shop worker"],
                "init": True,
                "environment": {"GREETING": "hello", "PORT": "5100", "TINI_KILL_PROCESS_GROUP": "1"},
                "restart": "always",
                "stop_grace_period": "5s",
            },
        },
    }
    assert render(app).warnings == ()


def test_everything_that_there_is_to_say(tmp_path: Path) -> None:
    services = document_of(full_app(tmp_path))["services"]
    web = services["web"]
    assert web["deploy"] == {"replicas": 3}
    assert web["ports"] == ["5000-5002:5000"]
    assert web["restart"] == "on-failure"
    assert web["depends_on"] == {
        "db": {"condition": "service_healthy", "restart": True},
        "migrate": {"condition": "service_completed_successfully"},
        "queue": {"condition": "service_healthy"},
    }
    assert web["healthcheck"].pop("test")[0] == "CMD-SHELL"
    assert web["healthcheck"] == {
        "interval": "10s",
        "timeout": "5s",
        "retries": 3,
        "start_period": "60s",
        "start_interval": "500ms",
    }
    assert web["develop"]["watch"] == [
        {"path": "./app", "action": "rebuild", "ignore": ["**/*_test.py", "static"]},
        {"path": "./config", "action": "rebuild", "include": ["*.toml"], "ignore": ["**/*_test.py"]},
        {"path": "./config", "action": "rebuild", "include": ["*.ini"], "ignore": ["**/*_test.py"]},
    ]
    assert services["db"]["stop_signal"] == "SIGINT"
    assert services["db"]["stop_grace_period"] == "30s"
    assert services["db"]["healthcheck"]["test"] == ["CMD", "/bin/sh", "-c", "pg_isready -q"]
    assert services["migrate"]["command"] == ["python", "manage.py", "migrate"]
    assert services["migrate"]["restart"] == "no"
    assert services["queue"]["ports"] == ["127.0.0.1:6379:6379"]
    assert services["queue"]["pre_stop"] == [{"command": ["/bin/sh", "-c", "redis-cli shutdown"]}]
    assert services["worker"]["restart"] == "always"
    assert services["worker"]["environment"]["LOG_LEVEL"] == "debug"
    assert services["css"]["profiles"] == ["css"]
    assert services["css"]["tty"] is True
    assert "tty" not in web


def test_what_is_started_by_hand_has_what_it_needs_in_its_profile(tmp_path: Path) -> None:
    settings = """
[defaults]
autostart = false
[process.tool]
command = "tool"
depends_on = ["cache", "web"]
[process.cache]
command = "cache"
depends_on = ["disk", "log"]
[process.disk]
command = "disk"
concurrency = 2
[process.log]
command = "log"
[process.web]
autostart = true
depends_on = ["log"]
"""
    app = app_of(tmp_path, "web: web\n", settings=settings)
    found = {name: service.get("profiles") for name, service in document_of(app)["services"].items()}
    # Whatever the web server needs is started with it.
    assert found == {
        "web": None,
        "tool": ["tool"],
        "cache": ["tool", "cache"],
        "disk": ["tool", "cache", "disk"],
        "log": None,
    }


def test_everything_that_cannot_be_said_is_told_with_its_place(tmp_path: Path) -> None:
    places = [line.split("\n")[0] for line in told(render(full_app(tmp_path))).split("\n") if "warning" in line]
    expected = {
        "db": ("health.log", "health", "log"),
        "queue": ("stop.command", "stop_all"),
        "web": ("health.http", "watch.debounce", "watch.ignore"),
        "worker": ("max_retries", "backoff", "success_codes", "hooks.on_fail"),
        "css": ("watch.run", "watch.signal"),
        "tunnel": ("log",),
    }
    for name, keys in expected.items():
        for key in keys:
            place = rf"\.reaper\.toml:\d+: warning: `{key}` of `{name}`"
            assert any(re.match(place, line) for line in places), place
    assert any("`QUEUE` says `localhost:6379`" in line for line in places)


def test_secrets_are_not_written_down(tmp_path: Path) -> None:
    app = full_app(tmp_path)
    rendered = render(app)
    assert "hunter" not in rendered.files[0].content
    assert service_of(app)["environment"]["SECRET_KEY"] == "${SECRET_KEY:?set it in the environment or in .env}"
    assert told(rendered).count("the value of `SECRET_KEY` is not written down, as it looks like a secret") == 1


def test_a_secret_of_two_values_has_two_names(tmp_path: Path) -> None:
    settings = '[process.web]\nenv = { API_TOKEN = "a" }\n[process.worker]\nenv = { API_TOKEN = "b" }\n'
    services = document_of(app_of(tmp_path, settings=settings))["services"]
    assert services["web"]["environment"]["API_TOKEN"].startswith("${WEB_API_TOKEN:?")
    assert services["worker"]["environment"]["API_TOKEN"].startswith("${WORKER_API_TOKEN:?")


def test_an_image_takes_the_place_of_the_build(tmp_path: Path) -> None:
    app = full_app(tmp_path, image="registry:5000/shop:1", user="me", log="/var/log")
    service = service_of(app)
    assert service["image"] == "registry:5000/shop:1"
    assert service["user"] == "me"
    assert "build" not in service
    assert "develop" not in service
    assert "`watch` of `web`: compose restarts for changed files only what it builds itself" in told(render(app))
    assert "--log is left out" in told(render(app))


@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_arrive_as_they_are(text: str) -> None:
    service = service_of(app_with((f"a{text}", text), {"VALUE": text, text or "x": text}, cwd=f"/srv/other/{text}x"))
    assert list(map(interpolated, service["command"])) == [f"a{text}", text]
    assert interpolated(service["environment"]["VALUE"]) == text
    assert interpolated(service["working_dir"]) == f"/srv/other/{text}x"
    assert interpolated(service["environment"][text or "x"]) == text


@settings(deadline=None)
@given(SHELL_TEXTS)
def test_interpolation_gives_every_text_back(text: str) -> None:
    assert interpolated(escaped(text)) == text


def test_a_command_below_the_root_and_one_outside() -> None:
    inside = service_of(app_with("run", cwd="/srv/shop/jobs"))
    assert inside["command"] == ["/bin/sh", "-c", 'cd "$$0" && exec "$$@"', "./jobs", "/bin/sh", "-c", "exec run"]
    assert service_of(app_with("run", cwd="/srv/db"))["working_dir"] == "/srv/db"


@pytest.mark.parametrize(
    ("restart", "max_retries", "expected"),
    [
        (When.NEVER, None, "no"),
        (When.ON_FAILURE, None, "on-failure"),
        (When.ON_FAILURE, 3, "on-failure:3"),
        (When.ALWAYS, None, "always"),
        (When.ALWAYS, 3, "always"),
    ],
)
def test_restarts(restart: When, max_retries: int | None, expected: str) -> None:
    app = app_with(restart=restart, max_retries=max_retries)
    (exported,) = app.processes
    app = app._replace(processes=(exported._replace(said={"restart": 1}),), settings=".reaper.toml")
    assert service_of(app)["restart"] == expected
    assert ("`max_retries`" in told(render(app))) == (expected == "always" and max_retries is not None)


def test_a_signal_to_one_process_is_not_sent_to_its_group() -> None:
    service = service_of(app_with(stop=StopPolicy(signal.SIGQUIT, 1.5, only_main=True)))
    assert "TINI_KILL_PROCESS_GROUP" not in service["environment"]
    assert service["stop_signal"] == "SIGQUIT"
    assert service["stop_grace_period"] == "1500ms"


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0, 0.0001, 0.5, 1, 1.5, 3600)] == [
        *("0s", "1ms", "500ms", "1s", "1500ms", "3600s")
    ]


def checks_of(check: HealthCheck | None, log: LogCheck | None = None) -> Any:
    return service_of(app_with(health=Health(check=check, log=log))).get("healthcheck", {}).get("test")


def test_checks() -> None:
    assert checks_of(TCPCheck("[::1]:5432")) == ["CMD", "nc", "-z", "::1", "5432"]
    assert checks_of(ExecCheck(("check", "$A"))) == ["CMD", "check", "$$A"]
    assert checks_of(None, LogCheck("ready")) is None
    assert checks_of(HTTPCheck("http://me:pw@localhost/")) is None


class Redis:
    async def check(self, target: Target) -> None:
        raise NotImplementedError


def test_a_check_that_cannot_be_said_does_not_keep_others_waiting(tmp_path: Path) -> None:
    app = app_with(health=Health(check=Redis()))
    assert "healthcheck" not in service_of(app)
    assert "a check that comes from a package" in told(render(app))
    settings = '[process.web]\nhealth = { log = "ready" }\n[process.worker]\ndepends_on = ["web"]\n'
    app = app_of(tmp_path, settings=settings)
    assert service_of(app, "worker")["depends_on"] == {"web": {"condition": "service_started"}}
    assert "`depends_on` of `worker`: compose cannot check `web`" in told(render(app))


@pytest.mark.parametrize(
    ("accepted", "answers"),
    [((), {"200": 0, "204": 0, "301": 1, "500": 1, "000": 1}), ((200, 301), {"200": 0, "204": 1, "301": 0, "3011": 1})],
)
def test_the_status_of_an_answer_decides(tmp_path: Path, accepted: tuple[int, ...], answers: dict[str, int]) -> None:
    curl = tmp_path / "curl"
    curl.write_text(
        '#!/bin/sh\nfor url; do :; done\n[ "$url" = "http://localhost:5000/?a=\'b\'&c" ] && printf %s "$STATUS"\n'
    )
    curl.chmod(0o755)
    kind, test = checks_of(HTTPCheck("http://localhost:5000/?a='b'&c", accepted))
    assert kind == "CMD-SHELL"
    for status, expected in answers.items():
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "STATUS": status}
        assert subprocess.run(["/bin/sh", "-c", interpolated(test)], env=environment).returncode == expected, status


def test_curl_trusts_what_the_check_trusts() -> None:
    assert " -k " in checks_of(HTTPCheck("https://localhost/", verify=False))[1]
    assert " --cacert '/srv/a ca.pem' " in checks_of(HTTPCheck("https://localhost/", ca="/srv/a ca.pem"))[1]
    assert "-k" not in checks_of(HTTPCheck("https://localhost/"))[1].split()
    check = HTTPCheck("https://localhost/", ca="/srv/ca.pem")
    assert "see to it that the file is there in the image" in str(render(app_with(health=Health(check=check))))


def test_processes_that_are_no_copies_are_services_of_their_own(tmp_path: Path) -> None:
    settings = '[process.worker]\nconcurrency = 2\nenv = { ME = "$PS" }\n[process.web]\ndepends_on = ["worker"]\n'
    services = document_of(app_of(tmp_path, settings=settings))["services"]
    assert list(services) == ["web", "worker-1", "worker-2"]
    assert list(services["web"]["depends_on"]) == ["worker-1", "worker-2"]


def test_a_name_that_a_project_cannot_have_is_changed(tmp_path: Path) -> None:
    app = app_of(tmp_path, "Web_App: run\n", app="My Shop!")
    assert document_of(app)["name"] == "my-shop"
    assert list(document_of(app)["services"]) == ["web-app"]


def test_a_port_of_the_host_is_given_away_once(tmp_path: Path) -> None:
    procfile = "api: run\nqueue: run\nweb: run $PORT\n"
    settings = "".join(
        f'[process.{name}]\nhealth = "tcp://:{port}"\n'
        for name, port in {"api": 6379, "queue": 6379, "web": 80}.items()
    )
    services = document_of(app_of(tmp_path, procfile, settings))["services"]
    assert {name: service.get("ports") for name, service in services.items()} == {
        "api": ["127.0.0.1:6379:6379"],
        "queue": None,
        "web": ["5200:5200", "127.0.0.1:80:80"],
    }


def test_a_check_of_a_neighbour_is_left_out(tmp_path: Path) -> None:
    app = app_of(tmp_path, settings='[process.worker]\nhealth = "http://localhost:5000/"\n')
    assert "healthcheck" not in service_of(app, "worker")
    assert "`health` of `worker`: in a container nothing but the process itself" in told(render(app))


def test_of_several_edges_to_copies_what_asks_for_most_counts(tmp_path: Path) -> None:
    settings = (
        '[process.web.depends_on]\n"worker.1" = { condition = "healthy", restart = true }\n"worker.2" = "started"\n'
        '[process.worker]\nconcurrency = 2\nhealth = { exec = "true" }\n'
    )
    app = app_of(tmp_path, settings=settings)
    assert service_of(app)["depends_on"] == {"worker": {"condition": "service_healthy", "restart": True}}
