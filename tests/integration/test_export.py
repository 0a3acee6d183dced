"""`export` from the outside: its files and messages; real init systems run the result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.driver import LIMIT, Project
from support.exporting import HARD, ME, WAIT, Inbox, telling

FORMATS = ("systemd", "supervisord", "runit", "upstart")
HONCHO = Path(sys.executable).with_name("honcho")
SUPERVISORD = Path(sys.executable).with_name("supervisord")
needs_runit = pytest.mark.skipif(shutil.which("runsvdir") is None, reason="runit is not installed")
needs_supervisord = pytest.mark.skipif(not SUPERVISORD.exists(), reason="supervisor is not installed")
APP = "web: gunicorn app:app -b 0.0.0.0:8000\nworker: celery worker --loglevel=info\na_b-c: ruby 'x'\n"
ENVIRONMENT = 'A=1\nDATABASE=/var/db/x.sqlite3\nNAME="hello world"\n'


def tree(directory: Path) -> dict[str, tuple[bytes, int]]:
    """All files with their bytes and modes."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in files}


def honcho(project: Project, *arguments: str) -> list[str]:
    """Run honcho itself; what it prints, without the time and its level."""
    pytest.importorskip("jinja2", reason="honcho's own exporters need jinja2")
    command = [str(HONCHO), *arguments]
    ran = subprocess.run(
        command, cwd=project.path, env=project.environment, capture_output=True, text=True, check=True, timeout=LIMIT
    )
    assert ran.stdout == ""
    return [line.partition("[INFO] ")[2] for line in ran.stderr.splitlines()]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-a", "shop", "-u", "deploy", "-l", "/logs", "-s", "/bin/bash", "-p", "7000", "-c", "web=2,worker=0"),
        ("--ap=shop", "--us=deploy", "--lo=/logs", "--sh=/bin/bash", "--po=7000", "--conc=web=2"),
        ("-l", "/var/log/APP", "-e", "other.env", "-f", "Other", "-d", "sub"),
    ],
)
@pytest.mark.parametrize("format_", FORMATS)
def test_export_equals_honchos_except_for_the_stop_with_a_message(
    project: Project, format_: str, options: tuple[str, ...]
) -> None:
    for directory in ("", "sub/"):
        project.write(f"{directory}Procfile", APP.replace("'", ""))
        project.write(f"{directory}.env", ENVIRONMENT)
    project.write("sub/Other", "other: bin/other\n")
    project.write("sub/other.env", "PORT=3000\nB=2\n")
    if "--ap=shop" in options:
        # Between `--app` and `--app-root` honcho itself cannot choose.
        options = ("--app=shop", *options[1:])
    told = honcho(project, "export", *options, format_, "theirs")
    result = project.run("export", *options, format_, "ours")
    assert (result.code, result.out) == (0, "")
    written = [line.replace("'theirs/", "'ours/") for line in told]
    assert [line for line in result.err.splitlines() if "/control/" not in line] == written
    ours, theirs = tree(project.path / "ours"), tree(project.path / "theirs")
    # But for how it is stopped: see `stopping` of the tests of the formats.
    assert {path for path in ours if "/control/" not in path} == theirs.keys()
    assert {path: as_honchos(ours[path][0]) for path in theirs} == {path: text for path, (text, _) in theirs.items()}
    assert all(ours[path][1] == mode for path, (_, mode) in theirs.items())


def as_honchos(text: bytes) -> bytes:
    """Our file, without all by which a stop reaches the program and the rest of its group."""
    text = text.replace(b"KillMode=control-group", b"KillMode=process")
    text = text.replace(b"stopasgroup=true\nkillasgroup=true\n", b"").replace(b" -P -e ", b" -e ")
    return text.replace(b"c 'exec ", b"c '")


def test_deviation_from_honcho_is_reported_with_the_reason(project: Project) -> None:
    project.write("Procfile", f"{APP}other: ruby 'y'\n")
    result = project.run("export", "systemd", "units")
    warning = "the command of `a_b-c`, `other` is not written as honcho does: systemd would not leave `'` as it is\n"
    assert result.err.startswith(f"procreaper: warning: {warning}")
    assert result.code == 0


@pytest.mark.parametrize("format_", [*FORMATS, "launchd", "compose"])
def test_export_without_processes_is_reported(project: Project, format_: str) -> None:
    project.write("Procfile", APP)
    result = project.run("export", "-m", "web=0", format_, "out")
    assert result.err.startswith(
        "procreaper: warning: no process is exported: the concurrency of every process type is 0\n"
    )
    assert result.code == 0


def test_custom_templates_are_rendered_by_honcho(project: Project) -> None:
    project.write("Procfile", APP)
    project.write("mine/supervisord.conf", "{{ app }}:{% for p in processes %} {{ p.name }}={{ p.cmd }}{% endfor %}\n")
    honcho(project, "export", "-t", "mine", "supervisord", "theirs")
    assert project.run("export", "-t", "mine", "supervisord", "ours").code == 0
    assert tree(project.path / "ours") == tree(project.path / "theirs")
    assert "web.1=gunicorn app:app" in (project.path / "ours" / f"{project.path.name}.conf").read_text()


def test_defaults_in_dot_foreman_apply(project: Project) -> None:
    project.write("Procfile", "web: bin/web\n")
    project.write(".foreman", "app: shop\nuser: deploy\ntimeout: 3\n")
    result = project.run("export", "systemd", "units")
    assert result.err.startswith("procreaper: .foreman sets app, user\n")
    assert "User=deploy\n" in (project.path / "units" / "shop-web-1.service").read_text()


def test_export_replaces_only_files_of_an_earlier_export(project: Project) -> None:
    project.write("Procfile", "web: bin/web\n")
    assert project.run("export", "-a", "app", "systemd", "units").code == 0
    project.write("Procfile", "web: bin/web --fast\n")
    assert project.run("export", "-a", "app", "systemd", "units").code == 0
    unit = project.path / "units" / "app-web-1.service"
    assert "--fast" in unit.read_text()
    unit.write_text("[Service]\nExecStart=/bin/mine\n")
    before = tree(project.path / "units")
    project.write("Procfile", "web: bin/web --slow\n")
    result = project.run("export", "-a", "app", "systemd", "units")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("units/app-web-1.service: error: exists, and is not from an earlier export\n  hint: ")
    assert tree(project.path / "units") == before
    assert project.run("export", "-a", "app", "systemd", "units", "--force").code == 0
    assert "--slow" in unit.read_text()


@pytest.mark.parametrize("settings", ["", "[process.web]\nrestart = 'always'\n"], ids=["as honcho", "supervised"])
@pytest.mark.parametrize(
    ("format_", "left"),
    [
        ("systemd", "`app-old-1.service`, `app-old.target`"),
        ("upstart", "`app-old-1.conf`, `app-old.conf`"),
        ("runit", "`app-old-1`"),
        ("launchd", "`app-old-1.plist`"),
    ],
)
def test_leftover_file_of_a_renamed_process_is_reported(
    project: Project, format_: str, left: str, settings: str
) -> None:
    project.write("Procfile", "web: bin/web\nold: bin/old\n")
    if settings:
        project.write(".reaper.toml", settings)
    arguments = ("export", "-a", "app", format_, "out")
    assert "earlier" not in project.run(*arguments).err
    project.write("Procfile", "web: bin/web\nnew: bin/old\n")
    result = project.run(*arguments)
    assert result.code == 0
    assert f"out: warning: from an earlier export, but not from this one: {left}\n  hint: stop and " in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("export", "sytemd", "x"),
            2,
            "procreaper: error: there is no format `sytemd` to export to\n  hint: did",
        ),
        (
            ("export", "systemd"),
            2,
            "procreaper: error: `procreaper export` needs LOCATION\n  hint: LOCATION is the directory",
        ),
        (("export", "systemd", "x", "-a", "../y"), 1, "procreaper: error: `../y` cannot be the name of the app"),
        (("export", "systemd", "x", "-c", "web=x"), 1, "procreaper: error: -c web=x: `x` is not a number of processes"),
        (("export", "systemd", "Procfile"), 1, "Procfile: error: this is not a directory to export to"),
        (("export", "-t", "none", "systemd", "x"), 1, "procreaper: error: -t none: this is not a directory"),
        (
            ("export", "-t", "none", "launchd", "x"),
            2,
            "procreaper: error: -t none: there are no templates for `launchd`\n",
        ),
        (("export", "-f", "none", "systemd", "x"), 1, "none: error: Procfile does not exist"),
    ],
)
def test_export_errors_are_reported(project: Project, arguments: tuple[str, ...], code: int, message: str) -> None:
    project.write("Procfile", "web: bin/web\n")
    result = project.run(*arguments)
    assert result.err.startswith(message)
    assert (result.code, result.out) == (code, "")
    assert not (project.path / "x").exists()


# Real init systems. Whatever they start is over when the pipe that they all hold has ended.


class Init:
    """An init system that runs what was exported."""

    def __init__(self, command: list[str], project: Project) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=project.path,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def end(self, number: signal.Signals) -> str:
        self._process.send_signal(number)
        out, _ = self._process.communicate(timeout=LIMIT)
        return str(out, errors="replace")

    def clean_up(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def inbox(project: Project) -> Iterator[Inbox]:
    inbox = Inbox(project.path / "inbox")
    yield inbox
    inbox.close()


def hard_app(project: Project, inbox: Inbox, **extra: str) -> dict[str, str]:
    """A project whose `web`, with these `extra` keys, tells what it was given; the environment that it is to have."""
    values = {"OUT": inbox.path, **{f"V{number}": text for number, text in enumerate(HARD)}}
    command = telling(project.path, *HARD, then=WAIT)
    project.write("Procfile", "")
    written = {name: value.replace("$", "$$") for name, value in values.items()}
    variables = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in written.items())
    lines = [f"{key} = {value}" for key, value in extra.items()]
    quoted = json.dumps(command, ensure_ascii=False)
    text = "\n".join(["[process.web]", f"command = {quoted}", *lines, "[process.web.env]", variables])
    project.write(".reaper.toml", text)
    return values


def check(data: dict[str, object], values: dict[str, str], project: Project) -> int:
    assert data["arguments"] == list(HARD)
    environment = data["environment"]
    assert isinstance(environment, dict)
    assert {name: environment.get(name) for name in values} == values
    assert environment["PORT"] == "5000"
    assert environment["HONCHO_PROCESS_NAME"] == environment["PS"] == "web.1"
    assert data["directory"] == str(project.path)
    pid = data["pid"]
    assert isinstance(pid, int)
    return pid


@needs_supervisord
def test_supervisord_runs_and_restarts_the_export(project: Project, inbox: Inbox) -> None:
    values = hard_app(project, inbox, restart='"on-failure"', stop='"SIGINT"')
    (project.path / "logs").mkdir()
    exported = project.run("export", "supervisord", "conf", "-u", ME, "-l", str(project.path / "logs"))
    assert (exported.code, [line for line in exported.err.splitlines() if "Writing" not in line]) == (0, [])
    lines = ["[supervisord]", "nodaemon=true", "logfile=/dev/null", "logfile_maxbytes=0", "pidfile=supervisord.pid"]
    project.write("supervisord.conf", "\n".join([*lines, "[include]", "files = conf/*.conf", ""]))
    init = Init([str(SUPERVISORD), "-c", str(project.path / "supervisord.conf")], project)
    try:
        pid = check(inbox.next(), values, project)
        os.kill(pid, signal.SIGKILL)
        again = check(inbox.next(), values, project)
        assert again != pid
        init.end(signal.SIGTERM)
        assert inbox.next() == "SIGINT"
    finally:
        init.clean_up()


@needs_runit
def test_runit_runs_and_restarts_the_export(project: Project, inbox: Inbox) -> None:
    values = hard_app(project, inbox, restart='"on-failure"', stop='"SIGINT"')
    exported = project.run("export", "runit", "services", "-a", "app", "-u", ME, "-l", str(project.path / "logs"))
    assert (exported.code, [line for line in exported.err.splitlines() if "Writing" not in line]) == (0, [])
    services = project.path / "services"
    be_nobody_else(services)
    init = Init(["runsvdir", str(services)], project)
    try:
        pid = check(inbox.next(), values, project)
        os.kill(pid, signal.SIGKILL)
        again = check(inbox.next(), values, project)
        assert again != pid
        command = ["sv", "-w", str(int(LIMIT)), "force-stop", "./app-web-1"]
        stopped = subprocess.run(command, cwd=services, capture_output=True, text=True, check=False)
        assert (stopped.returncode, stopped.stdout[:5]) == (0, "ok: d")
        assert inbox.next() == "SIGINT"
        init.end(signal.SIGHUP)
    finally:
        init.clean_up()


@needs_runit
def test_runit_waits_for_dependencies_and_can_be_stopped_meanwhile(project: Project, inbox: Inbox) -> None:
    command = telling(project.path, then=WAIT)
    project.write("Procfile", f"web: {command} web\ndb: {command} db\nother: {command} other\n")
    project.write(".env", f"OUT={inbox.path}\n")
    stop = "kill -s QUIT -- -$(cat services/app-web-1/supervise/pid)"
    lines = ["[process.db]", "autostart = false", '[process.web]\ndepends_on = ["db"]', f'stop.command = "{stop}"']
    lines += ['health.exec = "test -e ready"', "[process.other]", 'depends_on = ["web"]', 'stop = "SIGINT"']
    project.write(".reaper.toml", "\n".join(lines))
    options = ("-a", "app", "-u", ME, "-l", str(project.path / "logs"))
    assert project.run("export", "runit", "services", *options).code == 0
    services = project.path / "services"
    be_nobody_else(services)
    init = Init(["runsvdir", str(services)], project)

    def sv(*arguments: str) -> str:
        command = ["sv", "-w", str(int(LIMIT)), *arguments]
        return subprocess.run(command, cwd=services, capture_output=True, text=True, check=False).stdout

    try:
        assert sorted(inbox.next()["arguments"] for _ in range(2)) == [["db"], ["web"]]
        # It waits until the other is not only there, but healthy.
        assert sv("force-stop", "./app-other-1").startswith("ok: down")
        project.write("ready", "")
        sv("start", "./app-other-1")
        assert inbox.next()["arguments"] == ["other"]
        for name, signal_ in {"other": "SIGINT", "web": "SIGQUIT", "db": "SIGTERM"}.items():
            assert sv("force-stop", f"./app-{name}-1").startswith("ok: down")
            assert inbox.next() == signal_
        init.end(signal.SIGHUP)
    finally:
        init.clean_up()


@needs_runit
def test_runit_runs_the_export_without_settings(project: Project, inbox: Inbox) -> None:
    project.write("Procfile", f"web: {telling(project.path, then=WAIT)} $A && true\n")
    project.write(".env", f"A='1  2'\nOUT={inbox.path}\n")
    assert project.run("export", "runit", "services", "-a", "app", "-u", ME, "-l", str(project.path / "logs")).code == 0
    services = project.path / "services"
    be_nobody_else(services)
    init = Init(["runsvdir", str(services)], project)
    try:
        data = inbox.next()
        assert data["arguments"] == ["1", "2"]
        assert data["environment"]["A"] == "1  2"
        command = ["sv", "-w", str(int(LIMIT)), "force-stop", "./app-web-1"]
        subprocess.run(command, cwd=services, capture_output=True, check=False)
        # A shell is above the program, and does not keep the signal to itself.
        assert inbox.next() == "SIGTERM"
        init.end(signal.SIGHUP)
    finally:
        init.clean_up()


@needs_runit
def test_runit_supervises_the_program_itself(project: Project, inbox: Inbox) -> None:
    project.write("Procfile", f"web: cd . && X=1 {telling(project.path, then=WAIT)}\n")
    project.write(".env", f"OUT={inbox.path}\n")
    assert project.run("export", "runit", "services", "-a", "app", "-u", ME, "-l", str(project.path / "logs")).code == 0
    services = project.path / "services"
    be_nobody_else(services)
    init = Init(["runsvdir", str(services)], project)
    try:
        assert inbox.next()["pid"] == int((services / "app-web-1/supervise/pid").read_text())
        command = ["sv", "-w", str(int(LIMIT)), "stop", "./app-web-1"]
        assert subprocess.run(command, cwd=services, capture_output=True, check=False).returncode == 0
        assert inbox.next() == "SIGTERM"
        init.end(signal.SIGHUP)
    finally:
        init.clean_up()


@needs_supervisord
@pytest.mark.parametrize("form", ["{}", "cd . && {}", "{} && true", "{} | cat"])
def test_supervisord_stops_the_program_without_any_settings(project: Project, inbox: Inbox, form: str) -> None:
    project.write("Procfile", f"web: {form.format(telling(project.path, then=WAIT))}\n")
    project.write(".env", f"OUT={inbox.path}\n")
    (project.path / "logs").mkdir()
    exported = project.run("export", "supervisord", "conf", "-u", ME, "-l", str(project.path / "logs"))
    assert (exported.code, [line for line in exported.err.splitlines() if "Writing" not in line]) == (0, [])
    lines = ["[supervisord]", "nodaemon=true", "logfile=/dev/null", "logfile_maxbytes=0", "pidfile=supervisord.pid"]
    project.write("supervisord.conf", "\n".join([*lines, "[include]", "files = conf/*.conf", ""]))
    init = Init([str(SUPERVISORD), "-c", str(project.path / "supervisord.conf")], project)
    try:
        assert inbox.next()["environment"]["PORT"] == "5000"
        init.end(signal.SIGTERM)
        assert inbox.next() == "SIGQUIT"
    finally:
        init.clean_up()


def be_nobody_else(services: Path) -> None:
    """Who is not root cannot become another user, and chpst does not even try to become the same."""
    if os.getuid() != 0:
        for path in services.rglob("*"):
            if path.is_file() and path.name in ("run", "check", "t"):
                path.write_text(path.read_text().replace(f"chpst -u {ME} ", "chpst ").replace(f"chown {ME} ", "true "))
