"""The file for supervisord: what supervisord itself reads in it, and the settings in it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exporting import HARD, ME, TEXTS, app, exported, file, messages

from procreaper.core.checks import ExecCheck, Health
from procreaper.core.last_command import with_exec
from procreaper.core.plan import Condition, Dependency, LogFile, StopPolicy, When
from procreaper.errors import ConfigError
from procreaper.export.exporter import MARK, App, Exported
from procreaper.export.supervisord import render


def programs(directory: Path, app: App) -> dict[str, Any]:
    """What supervisord reads in the file, which is included in its own."""
    options = pytest.importorskip("supervisor.options", reason="supervisor is not installed").ServerOptions()
    (directory / "app.conf").write_text(render(app).files[0].content, encoding="utf-8")
    own = directory / "supervisord.conf"
    own.write_text("[supervisord]\n[include]\nfiles = app.conf\n", encoding="utf-8")
    options.realize(["-c", str(own)])
    (group,) = options.process_group_configs
    return {program.name: program for program in group.process_configs}


def started(program: Any) -> tuple[str, dict[str, str]]:
    """The script and the environment that a program is started with."""
    argv = shlex.split(program.command)
    environment = dict(program.environment)
    if argv[0] == "/usr/bin/env":
        shell = argv.index("/bin/sh")
        environment.update(word.split("=", 1) for word in argv[1:shell])
        argv = argv[shell:]
    assert argv[:2] == ["/bin/sh", "-c"]
    assert len(argv) == 3
    return argv[2], environment


def check(directory: Path, commands: list[str], values: dict[str, str], *, supervised: bool) -> None:
    processes = [exported(f"web.{number}", command, values) for number, command in enumerate(commands, 1)]
    options = {"root": str(directory), "log": str(directory), "user": ME}
    found = programs(directory, app(*processes, settings=supervised, **options))
    for number, command in enumerate(commands, 1):
        assert started(found[f"web-{number}"]) == (with_exec(command), values)


@pytest.mark.parametrize("supervised", [False, True])
def test_every_hard_text_arrives(tmp_path: Path, supervised: bool) -> None:
    values = {f"V{number}": text for number, text in enumerate(HARD)}
    check(tmp_path, [text for text in HARD if text.strip()], values, supervised=supervised)


@given(commands=st.lists(TEXTS.filter(str.strip), min_size=2, max_size=5), values=st.lists(TEXTS, max_size=10))
@settings(deadline=None, max_examples=100)
def test_any_text_arrives(commands: list[str], values: list[str]) -> None:
    named = {f"V{number}": text for number, text in enumerate(values)}
    with TemporaryDirectory() as directory:
        check(Path(directory), commands, named, supervised=False)


def test_a_directory_with_a_per_cent_sign_arrives(tmp_path: Path) -> None:
    root = tmp_path / "50% (of it)"
    root.mkdir()
    found = programs(tmp_path, app(exported(), root=str(root), log=str(root), user=ME))["web-1"]
    assert found.directory == str(root)
    assert found.stdout_logfile == f"{root}/web-1.log"


def full(log: str = "/var/log") -> tuple[Exported, ...]:
    """An app that uses everything that supervisord has a word for."""
    db = exported(
        "db.1",
        said=("stop", "log", "restart"),
        restart=When.ON_FAILURE,
        success_codes=frozenset({0, 3}),
        stop=StopPolicy(2, 29.5, only_main=True),
        log=LogFile(f"{log}/db.log", 1000, 2),
    )
    web = exported(
        "web.1",
        environment={"A": "1", "B": "'\""},
        unset=("DEBUG", "TRACE"),
        said=("restart", "max_retries"),
        cwd="/",
        restart=When.ALWAYS,
        max_retries=10,
        depends_on=(Dependency("db.1"),),
    )
    tunnel = exported("tunnel.1", autostart=False, said=("restart",), restart=When.NEVER)
    return db, web, tunnel


def test_supervisord_reads_the_settings(tmp_path: Path) -> None:
    options = {"root": str(tmp_path), "log": str(tmp_path), "user": ME}
    found = programs(tmp_path, app(*full(str(tmp_path)), settings=True, **options))
    db, web, tunnel = (found[name] for name in ("db-1", "web-1", "tunnel-1"))
    assert (db.autorestart.__name__, db.exitcodes) == ("RestartWhenExitUnexpected", [0, 3])
    assert (db.stopsignal, db.stopwaitsecs, db.stopasgroup, db.killasgroup) == (2, 30, False, True)
    assert (db.stdout_logfile, db.stdout_logfile_maxbytes, db.stdout_logfile_backups) == (f"{tmp_path}/db.log", 1000, 2)
    assert db.redirect_stderr
    assert (web.autorestart.__name__, web.startretries, web.stopasgroup) == ("RestartUnconditionally", 10, True)
    assert (web.stopsignal, web.directory, web.environment) == (15, "/", {"A": "1"})
    assert db.priority < web.priority
    assert web.command.startswith("/usr/bin/env -u DEBUG -u TRACE ")
    assert (tunnel.autostart, tunnel.autorestart, tunnel.startsecs, tunnel.startretries) == (False, False, 0, 0)


def test_the_settings_stand_in_the_file() -> None:
    lines = file(render(app(*full(), settings=True)), "app.conf").content.splitlines()
    assert lines[0] == f"; {MARK}"
    assert lines[lines.index("[program:web-1]") : lines.index("[program:tunnel-1]")] == [
        "[program:web-1]",
        """command=/usr/bin/env -u DEBUG -u TRACE 'B='"'"'"' /bin/sh -c 'true'""",
        "autostart=true",
        "priority=101",
        "autorestart=true",
        "startretries=10",
        "exitcodes=0",
        "stopsignal=TERM",
        "stopwaitsecs=5",
        "stopasgroup=true",
        "killasgroup=true",
        "stdout_logfile=/var/log/app/web-1.log",
        "stderr_logfile=/var/log/app/web-1.error.log",
        "user=app",
        "directory=/",
        "environment=A=1",
        "",
    ]


def test_what_says_nothing_of_restarts_is_restarted_unless_it_is_a_oneshot() -> None:
    content = file(render(app(exported(), exported("once.1", oneshot=True), settings=True)), "app.conf").content
    assert re.findall(r"^autorestart=.*", content, re.MULTILINE) == ["autorestart=true", "autorestart=false"]


def test_what_supervisord_cannot_say_is_told_with_its_line() -> None:
    said = ("health", "watch", "hooks", "stop_all", "pty", "stop.command", "backoff", "depends_on", "success_codes")
    one = exported(
        said=(*said, "restart"),
        stop_all=When.ALWAYS,
        pty=True,
        restart=When.ON_FAILURE,
        success_codes=frozenset({0, 143}),
        health=Health(check=ExecCheck("true")),
        stop=StopPolicy(command="true"),
        depends_on=(Dependency("db.1", Condition.HEALTHY),),
    )
    rendered = render(app(exported("db.1"), one, settings=True))
    assert sorted(said[problem.line - 1] for problem in rendered.warnings if problem.line) == sorted(said)
    assert "`stop.command` of `web` is left out: supervisord has nothing like it" in messages(rendered)


def test_the_restart_of_a_oneshot_is_told() -> None:
    one = exported(said=("restart",), oneshot=True, restart=When.ON_FAILURE)
    (message,) = messages(render(app(one, settings=True)))
    assert message.startswith("`restart` of `web`: supervisord restarts a oneshot at once and without limit")


@pytest.mark.parametrize(
    ("option", "value"), [("name", "my app"), ("name", "a:b"), ("root", "/a ;b"), ("log", "/a #b"), ("root", "/a\nb")]
)
def test_names_and_paths_that_break_the_file_are_refused(option: str, value: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written for supervisord"):
        render(app(exported(), **{option: value}))
