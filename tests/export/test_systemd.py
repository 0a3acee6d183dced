"""The units: what systemd itself reads in them, and the settings in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exporting import HARD, TEXTS, app, exported, file, messages

from procreaper.core.checks import ExecCheck, Health
from procreaper.core.last_command import with_exec
from procreaper.core.plan import Backoff, Condition, Dependency, LogFile, StopPolicy, When
from procreaper.errors import ConfigError
from procreaper.export.exporter import MARK, App, Exported
from procreaper.export.systemd import render

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
ESCAPES = {"n": "\n", "t": "\t"}


def dump(directory: Path, app: App) -> str:
    """What systemd has read in the units, in its own words; it may have found nothing wrong."""
    rendered = render(app)
    for unit in rendered.files:
        (directory / unit.path).write_text(unit.content, encoding="utf-8")
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:", "LC_ALL": "C.UTF-8"}
    units = [str(directory / unit.path) for unit in rendered.files]
    command = [str(ANALYZE), "verify", "--man=no", *units]
    quiet = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = [line for line in quiet.stderr.splitlines() if f"{app.name}-" in line or f"{app.name}." in line]
    assert (quiet.returncode, found) == (0, []), quiet.stderr
    environment["SYSTEMD_LOG_LEVEL"] = "debug"
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return told.stdout + told.stderr


def section(dump: str, unit: str) -> str:
    match = re.search(rf"^\t-> Unit {re.escape(unit)}:\n(.*?)(?=^\t-> Unit |\Z)", dump, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def script(section: str, stanza: str = "ExecStart") -> str:
    """The last argument of a command as it arrives in the process: the manager replaces variables at that time."""
    match = re.search(rf"^\t\t-> {stanza}:\n\t\t\tCommand Line: /bin/sh -l?c (.*)$", section, re.MULTILINE)
    assert match is not None, section
    word = match[1]
    if word[:1] == '"':
        word = re.sub(r"\\(.)", lambda escape: ESCAPES.get(escape[1], escape[1]), word[1:-1])
    # All other dollar signs are doubled, or stand before a name within a longer word, which is left alone.
    assert not re.search(r"\$\{|^\$(?!\$)", word.replace("$$", ""))
    return word.replace("$$", "$")


@needs_systemd
@pytest.mark.parametrize("supervised", [False, True])
def test_every_hard_text_arrives(tmp_path: Path, supervised: bool) -> None:
    values = {f"V{number}": text for number, text in enumerate(HARD)}
    commands = [text for text in HARD if text.strip()]
    processes = [exported(f"web.{number}", command, values) for number, command in enumerate(commands, 1)]
    told = dump(tmp_path, app(*processes, settings=supervised, root=str(tmp_path)))
    for number, command in enumerate(commands, 1):
        found = section(told, f"app-web-{number}.service")
        assert script(found) == with_exec(command)
        for name, value in values.items():
            assert f"\t\tEnvironment: {name}={value}\n" in found


@needs_systemd
@given(commands=st.lists(TEXTS.filter(str.strip), min_size=5, max_size=20), values=st.lists(TEXTS, max_size=20))
@settings(deadline=None, max_examples=15)
def test_any_text_arrives(commands: list[str], values: list[str]) -> None:
    named = {f"V{number}": text for number, text in enumerate(values)}
    processes = [exported(f"web.{number}", command, named) for number, command in enumerate(commands, 1)]
    with TemporaryDirectory() as directory:
        told = dump(Path(directory), app(*processes, root=directory))
    for number, command in enumerate(commands, 1):
        found = section(told, f"app-web-{number}.service")
        assert script(found) == with_exec(command)
        assert all(f"\t\tEnvironment: {name}={value}\n" in found for name, value in named.items())


@needs_systemd
def test_a_directory_with_a_per_cent_sign_arrives(tmp_path: Path) -> None:
    root = tmp_path / "50% of it"
    root.mkdir()
    assert f"\t\tWorkingDirectory: {root}\n" in section(
        dump(tmp_path, app(exported(), root=str(root))), "app-web-1.service"
    )


def full() -> tuple[Exported, ...]:
    """An app that uses everything that systemd has a word for."""
    db = exported(
        "db.1",
        ("postgres", "-D", "a b"),
        said=("stop", "stop.signal", "stop.only_main", "log", "restart"),
        restart=When.ON_FAILURE,
        stop=StopPolicy(2, 30.0, only_main=True),
        log=LogFile("/var/log/db.log"),
    )
    migrate = exported("migrate.1", oneshot=True, depends_on=(Dependency("db.1", Condition.STARTED, restart=True),))
    web = exported(
        "web.1",
        environment={"A": "1"},
        unset=("DEBUG", "TRACE"),
        said=("restart", "max_retries", "success_codes", "backoff", "stop"),
        cwd="/srv/app/web",
        restart=When.ON_FAILURE,
        max_retries=10,
        backoff=Backoff(2.0, 30.0, 45.0),
        success_codes=frozenset({3, 143}),
        stop=StopPolicy(command="bin/stop ${PORT}"),
        depends_on=(Dependency("migrate.1", Condition.COMPLETED), Dependency("db.1", Condition.HEALTHY)),
    )
    tunnel = exported("tunnel.1", detached=True, autostart=False, said=("restart",), restart=When.NEVER)
    return db, migrate, web, tunnel


@needs_systemd
def test_systemd_reads_the_settings(tmp_path: Path) -> None:
    told = dump(tmp_path, app(*full(), settings=True, root="/")._replace(root="/"))
    db, web = section(told, "app-db-1.service"), section(told, "app-web-1.service")
    assert "\t\tRestart: on-failure\n" in db
    assert "\t\tKillMode: mixed\n" in db
    assert "\t\tKillSignal: SIGINT\n" in db
    assert "\t\tTimeoutStopSec: 30s\n" in db
    assert "\t\tUnsetEnvironment: DEBUG\n\t\tUnsetEnvironment: TRACE\n" in web
    assert script(web, "ExecStop") == "bin/stop ${PORT}"
    assert "\t\tRequires: app-migrate-1.service" in web
    assert "\t\tAfter: app-migrate-1.service" in web
    assert "\t\tWants: app-db-1.service" in web
    migrate = section(told, "app-migrate-1.service")
    assert "\t\tType: oneshot\n" in migrate
    assert "\t\tRequires: app-db-1.service" in migrate
    assert "\t\tWants: app-web.target" in section(told, "app.target")


def lines(app: App, unit: str) -> list[str]:
    return file(render(app), unit).content.splitlines()


def test_the_settings_stand_in_the_unit() -> None:
    assert lines(app(*full(), settings=True), "app-web-1.service") == [
        f"# {MARK}",
        "[Unit]",
        "Description=web.1 of app",
        "PartOf=app-web.target",
        "Requires=app-migrate-1.service",
        "Wants=app-db-1.service",
        "After=app-migrate-1.service app-db-1.service",
        "StartLimitIntervalSec=470",
        "StartLimitBurst=11",
        "",
        "[Service]",
        "User=app",
        "WorkingDirectory=/srv/app/web",
        "Environment=A=1",
        "ExecStart=/bin/sh -lc 'true'",
        "UnsetEnvironment=DEBUG TRACE",
        "Restart=on-failure",
        "RestartSec=2",
        "# With systemd 254 or later:",
        "# RestartSteps=4",
        "# RestartMaxDelaySec=30",
        "SuccessExitStatus=3 143 SIGTERM",
        "RestartForceExitStatus=SIGHUP SIGINT SIGPIPE 0",
        "KillMode=control-group",
        'ExecStop=/bin/sh -c "bin/stop $${PORT}"',
        "KillSignal=SIGCONT",
        "TimeoutStopSec=5",
        "StandardInput=null",
        "StandardOutput=journal",
        "StandardError=journal",
        "SyslogIdentifier=%n",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]


def test_what_does_not_start_by_itself_is_wanted_by_nobody() -> None:
    whole = app(*full(), settings=True)
    assert "Wants=app-db.target app-migrate.target app-web.target" in lines(whole, "app.target")
    tunnel = lines(whole, "app-tunnel-1.service")
    assert "[Install]" not in tunnel
    assert "Restart=no" in tunnel
    assert not [line for line in tunnel if line.startswith("PartOf")]


def test_what_says_nothing_of_restarts_is_restarted_unless_it_is_a_oneshot() -> None:
    whole = app(exported(), exported("once.1", oneshot=True), settings=True)
    assert "Restart=always" in lines(whole, "app-web-1.service")
    assert "StartLimitIntervalSec=0" in lines(whole, "app-web-1.service")
    assert "Restart=no" in lines(whole, "app-once-1.service")


def test_the_output_goes_to_the_log() -> None:
    assert "StandardOutput=append:/var/log/db.log" in lines(app(*full(), settings=True), "app-db-1.service")


def test_what_systemd_cannot_say_is_told_with_its_line() -> None:
    said = ("health", "watch", "hooks", "stop_all", "pty", "backoff", "depends_on", "log", "log.max_size")
    one = exported(
        said=said,
        stop_all=When.ALWAYS,
        pty=True,
        log=LogFile("/l"),
        health=Health(check=ExecCheck("true")),
        depends_on=(Dependency("db.1", Condition.HEALTHY),),
    )
    rendered = render(app(exported("db.1"), one, settings=True))
    found = {problem.line: problem.message for problem in rendered.warnings}
    assert {said[line - 1] for line in found if line is not None} == set(said) - {"log"}
    assert found[1] == "`health` of `web` is left out: systemd has nothing like it"
    assert str(rendered.warnings[0]).startswith(".reaper.toml:1: warning: ")


def test_what_asks_for_what_systemd_does_anyway_is_not_told() -> None:
    one = exported(said=("stop_all", "pty", "restart", "stop", "env"), stop_all=When.NEVER, restart=When.ALWAYS)
    assert messages(render(app(one, settings=True))) == []


@pytest.mark.parametrize(
    ("option", "value"), [("name", "my app"), ("name", "a;b"), ("root", "/a\nb"), ("root", "/a\\"), ("user", "a\nb")]
)
def test_names_and_paths_that_break_a_unit_are_refused(option: str, value: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written for systemd"):
        render(app(exported(), **{option: value}))


def test_control_characters_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        render(app(exported(command="a\x1bb", environment={"A": "\r"})))
    assert [problem.message for problem in caught.value.problems] == [
        "the command of `web` has a control character, which cannot be written for systemd",
        "the value of `A` has a control character, which cannot be written for systemd",
    ]
