from __future__ import annotations

import plistlib
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from support.exported import NASTY, TEXTS, app_of, app_with, full_app, told

from procreaper.core.plan import Backoff, StopPolicy, When
from procreaper.errors import ConfigError
from procreaper.export.exporter import App
from procreaper.export.launchd import render


def jobs_of(app: App) -> dict[str, Any]:
    """All property lists by the names of their files; those must be their labels."""
    found = {}
    for file in render(app).files:
        job = plistlib.loads(file.content.encode())
        assert file.path == f"{job['Label']}.plist"
        found[job["Label"]] = job
    return found


def job_of(app: App) -> Any:
    (job,) = jobs_of(app).values()
    return job


def said(app: App, **changes: Any) -> App:
    """The app with `restart` as something that was given."""
    (exported,) = app.processes
    return app._replace(processes=(exported._replace(said={"restart": 1}, **changes),), settings=".reaper.toml")


def test_a_plain_procfile(tmp_path: Path) -> None:
    app = app_of(tmp_path, env="GREETING=hello\n")
    jobs = jobs_of(app)
    assert list(jobs) == ["shop-web-1", "shop-worker-1"]
    assert jobs["shop-web-1"] == {
        "Label": "shop-web-1",
        "ProgramArguments": ["/bin/sh", "-c", "exec gunicorn shop:app --bind 0.0.0.0:$PORT"],
        "EnvironmentVariables": {"HONCHO_PROCESS_NAME": "web.1", "GREETING": "hello", "PORT": "5000"},
        "WorkingDirectory": str(tmp_path),
        "UserName": "shop",
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 1,
        "ExitTimeOut": 5,
        "StandardOutPath": "/var/log/shop/shop-web-1.log",
        "StandardErrorPath": "/var/log/shop/shop-web-1.log",
    }
    assert render(app).warnings == ()


def test_everything_that_there_is_to_say(tmp_path: Path) -> None:
    app = full_app(tmp_path, user="me", log="/logs/", shell="/bin/bash", image="shop:1")
    jobs = jobs_of(app)
    assert len(jobs) == 10
    assert jobs["shop-web-2"]["EnvironmentVariables"]["PORT"] == "5001"
    assert jobs["shop-web-2"]["KeepAlive"] == {"SuccessfulExit": False}
    assert jobs["shop-web-2"]["StandardErrorPath"] == "/logs/shop-web-2.log"
    assert jobs["shop-worker-1"]["ThrottleInterval"] == 2
    assert jobs["shop-worker-1"]["WorkingDirectory"] == f"{tmp_path}/jobs"
    assert jobs["shop-worker-1"]["ProgramArguments"] == [
        *("/usr/bin/env", "-u", "DEBUG", "/bin/bash", "-c", "exec celery -A shop worker")
    ]
    assert "DEBUG" not in jobs["shop-worker-1"]["EnvironmentVariables"]
    assert jobs["shop-migrate-1"]["ProgramArguments"] == ["python", "manage.py", "migrate"]
    assert jobs["shop-migrate-1"]["KeepAlive"] is False
    assert jobs["shop-db-1"]["StandardOutPath"] == f"{tmp_path}/log/db.log"
    assert jobs["shop-db-1"]["ExitTimeOut"] == 30
    assert jobs["shop-css-1"]["Disabled"] is True
    assert jobs["shop-css-1"]["RunAtLoad"] is False
    assert "--image is left out" in told(render(app))


def test_everything_that_cannot_be_said_is_told_with_its_place(tmp_path: Path) -> None:
    text = told(render(full_app(tmp_path)))
    expected = {
        "db": ("health", "log.max_size", "log.max_files", "stop.signal"),
        "queue": ("health", "stop.command", "stop_all"),
        "migrate": ("depends_on",),
        "web": ("health", "watch", "depends_on"),
        "worker": ("max_retries", "backoff", "success_codes", "hooks.on_fail"),
        "css": ("watch", "pty"),
    }
    for name, keys in expected.items():
        for key in keys:
            assert any(
                line.startswith(".reaper.toml:") and f"warning: `{key}` of `{name}`" in line
                for line in text.split("\n")
            ), (name, key)


@pytest.mark.parametrize(
    ("restart", "expected"),
    [(When.ALWAYS, True), (When.ON_FAILURE, {"SuccessfulExit": False}), (When.NEVER, False)],
)
def test_restarts(restart: When, expected: object) -> None:
    assert job_of(said(app_with(restart=restart)))["KeepAlive"] == expected


def test_a_time_is_rounded_up_and_never_without_end() -> None:
    job = job_of(app_with(stop=StopPolicy(signal.SIGTERM, 0.0), backoff=Backoff(initial=0.2)))
    assert (job["ExitTimeOut"], job["ThrottleInterval"]) == (1, 1)


@pytest.mark.parametrize("text", [text for text in NASTY if text.isprintable() or text.strip("ab") in ("\n", "\t")])
def test_nasty_texts_arrive_as_they_are(text: str) -> None:
    job = job_of(app_with((f"a{text}", text), {"VALUE": text, text: "x"}, cwd=f"/srv/{text}"))
    assert job["ProgramArguments"] == [f"a{text}", text]
    assert job["EnvironmentVariables"] == {"VALUE": text, text: "x"}
    assert job["WorkingDirectory"] == f"/srv/{text}"


@settings(deadline=None)
@given(TEXTS)
def test_every_text_arrives_as_it_is_or_is_an_error(text: str) -> None:
    try:
        job = job_of(app_with(("run", text), {"VALUE": text}))
    except ConfigError:
        assert any(character < " " or character > "\ud7ff" for character in text)
    else:
        assert job["ProgramArguments"] == ["run", text]
        assert job["EnvironmentVariables"] == {"VALUE": text}


def test_every_text_that_cannot_be_written_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        render(app_with("echo \x1b[1m", {"A": "a\r\n", "B": "\ufffe", "C": "fine"}))
    messages = [problem.message for problem in error.value.problems]
    assert messages == [
        "the command of `web` has the character U+001B, which no property list can have",
        "the variable `A` of `web` has the character U+000D, which no property list can have",
        "the variable `B` of `web` has the character U+FFFE, which no property list can have",
    ]


def test_a_shell_that_keeps_the_signal_to_itself_is_told_of() -> None:
    message = "the command of `web` is run by a shell, and launchd stops only that shell"
    assert message in told(render(app_with("run | tee log")))
    assert render(app_with("cd app && run")).warnings == ()
    alone = app_with("run | tee log", stop=StopPolicy(signal.SIGTERM, 5.0, only_main=True))
    assert render(alone).warnings == ()


@pytest.mark.skipif(shutil.which("plutil") is None, reason="plutil comes with macOS only")
def test_the_system_itself_takes_the_files(tmp_path: Path) -> None:
    for file in render(full_app(tmp_path)).files:
        (tmp_path / file.path).write_text(file.content)
        subprocess.run(["plutil", "-lint", tmp_path / file.path], check=True)
