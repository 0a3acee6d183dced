"""`ps` and `ls`: the state of a running app, in another terminal."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from support.driver import Project, altered

from procreaper.cli.commands.ps import HEADER
from procreaper.remote.control.client import GREETING_LIMIT

STAY = "echo ready; exec sleep 600"
# `ls` asks every app of this user. It must not find the apps of other tests and of the developer.
ALONE = altered(
    "from procreaper.remote.control import socket_directory as directory; directory.FALLBACK = '/nonexistent'"
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells cheaply that an app is suspended")


def test_ps_lists_every_process(project: Project) -> None:
    project.procfile(web=STAY, worker=STAY)
    app = project.begin("start")
    app.wait_for("ready", count=2)
    result = project.run("ps")
    assert (result.code, result.err) == (0, "")
    header, *rows = result.out.splitlines()
    assert header.split() == list(HEADER)
    assert {row[header.index("REASON") :] for row in rows} == {""}
    assert [row.split()[:2] for row in rows] == [["web.1", "running"], ["worker.1", "running"]]
    assert len({row.index("running") for row in rows}) == 1
    app.stop()


def test_ps_json_is_a_list(project: Project) -> None:
    project.procfile(web=STAY)
    app = project.begin("start")
    app.wait_for("ready")
    (web,) = json.loads(project.run("ps", "--json").out)
    (pid,) = app.wait_for(r"web.1 started \(pid=(\d+)\)")
    assert (web["name"], web["type"], web["state"], web["pid"]) == ("web.1", "web", "running", int(pid))
    assert (web["app"], web["port"], web["up"], web["exit_code"]) == (app.pid, 5000, True, None)
    assert datetime.fromisoformat(web["started_at"]).tzinfo is not None
    assert 0 <= web["uptime"] < 60
    app.stop()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["web"], ["web.1", "web.2"]),
        (["web.2", "worker"], ["web.2", "worker.1"]),
        (["back"], ["db.1", "worker.1"]),
        (["w*"], ["web.1", "web.2", "worker.1"]),
        (["all"], ["db.1", "web.1", "web.2", "worker.1"]),
    ],
)
def test_ps_lists_the_named_processes(project: Project, names: list[str], shown: list[str]) -> None:
    project.procfile(db=STAY, web=STAY, worker=STAY)
    project.write(".reaper.toml", '[process.web]\nconcurrency = 2\n[groups]\nback = ["worker", "db"]\n')
    app = project.begin("start")
    app.wait_for("ready", count=4)
    table = project.run("ps", *names)
    assert [row.split()[0] for row in table.out.splitlines()[1:]] == shown
    assert [item["name"] for item in json.loads(project.run("ps", "--json", *names).out)] == shown
    app.stop()


def test_ps_refuses_an_unknown_name(project: Project) -> None:
    project.procfile(web=STAY)
    app = project.begin("start")
    app.wait_for("ready")
    for option in ((), ("--json",)):
        result = project.run("ps", "web", "wbe", *option)
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("procreaper: error: there is no process `wbe`\n  hint: did you mean `web`?")
    app.stop()


def test_ps_shows_the_apps_that_have_the_named_processes(project: Project) -> None:
    project.procfile(db=STAY, web=STAY, worker=STAY)
    apps = [project.begin("start", *names) for names in (("web", "db"), ("worker", "db"))]
    for app in apps:
        app.wait_for("ready", count=2)
    found = json.loads(project.run("ps", "web", "db", "--json").out)
    assert sorted((item["name"], item["app"]) for item in found) == sorted(
        [("db.1", apps[0].pid), ("db.1", apps[1].pid), ("web.1", apps[0].pid)]
    )
    assert project.run("ps", "web", "wbe").code == 1
    for app in apps:
        app.stop()


def test_without_an_app_ps_says_so(project: Project) -> None:
    project.procfile(web=STAY)
    result = project.run("ps")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "procreaper: error: no app of this directory is running\n"
        "  hint: `procreaper start` starts it, `procreaper ls` lists the running apps\n"
    )


def test_app_is_found_by_its_directory_from_anywhere(project: Project, tmp_path: Path) -> None:
    project.write("inner/Procfile", f"web: {STAY}\n")
    (tmp_path / "link").symlink_to("inner")
    app = project.begin("start", "-d", "link")
    app.wait_for("ready")
    for arguments in (("ps", "-d", "inner"), ("ps", "--root", "link"), ("-d", "inner", "ps")):
        assert "web.1" in project.run(*arguments).out
    assert project.run("ps").code == 1
    app.stop()


def test_two_apps_of_one_directory_are_distinguished(project: Project) -> None:
    project.procfile(web=STAY, worker=STAY)
    apps = [project.begin("start", name) for name in ("web", "worker")]
    for app in apps:
        app.wait_for("ready")
    assert {item["app"] for item in json.loads(project.run("ps", "--json").out)} == {app.pid for app in apps}
    chosen = json.loads(project.run("ps", "--json", "--pid", str(apps[1].pid)).out)
    assert {item["app"] for item in chosen} == {apps[1].pid}
    for app in apps:
        app.stop()


@pytest.fixture
def run() -> Iterator[Path]:
    """A runtime directory whose path is short enough for a socket, however often tests were run here."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def test_leftovers_of_a_killed_app_are_removed(project: Project, run: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(run)}
    project.procfile(web=STAY)
    app = project.begin("start", env=env)
    app.wait_for("ready")
    app.stop(signal.SIGKILL)
    assert len(list((run / "procreaper").iterdir())) == 1
    assert project.run("ps", env=env).code == 1
    assert list((run / "procreaper").iterdir()) == []


def test_app_leaves_no_files_at_its_end(project: Project, run: Path) -> None:
    project.procfile(web="true")
    assert project.run("start", env={"XDG_RUNTIME_DIR": str(run)}).code == 0
    assert list((run / "procreaper").iterdir()) == []


def test_ps_shows_cpu_and_memory_with_all_descendants(project: Project) -> None:
    child = project.python(
        "child", "import time; held = bytearray(30_000_000); print('ready', flush=True); time.sleep(600)"
    )
    project.procfile(web=f"{child} & wait")
    app = project.begin("start")
    app.wait_for("ready")
    (web,) = json.loads(project.run("ps", "--json").out)
    assert web["memory"] > 30_000_000
    assert web["cpu"] >= 0.0
    app.stop()


def test_ps_w_refreshes_until_the_app_ends(project: Project) -> None:
    project.procfile(web=STAY, worker=STAY)
    app = project.begin("start", "--can-die", "all")
    app.wait_for("ready", count=2)
    view = project.begin("ps", "-w", terminal=True)
    view.wait_for(r"web\.1 +\S*running")
    project.run("stop", "web")
    view.wait_for(r"web\.1 +\S*stopped")
    app.stop()
    result = view.end()
    assert result.code == 0
    assert result.out.endswith("\x1b[?1049lthe app has ended\n")


def test_ps_w_shows_named_processes_that_come_later(project: Project) -> None:
    project.procfile(web=STAY, worker=STAY)
    app = project.begin("start", "--can-die", "all")
    app.wait_for("ready", count=2)
    view = project.begin("ps", "-w", "web", terminal=True)
    view.wait_for(r"web\.1 +\S*running")
    project.run("stop", "worker")
    project.run("scale", "web=2")
    view.wait_for(r"web\.2 +\S*running")
    app.stop()
    assert "worker" not in view.end().out


def test_ctrl_c_ends_ps_w_and_restores_the_screen(project: Project) -> None:
    project.procfile(web=STAY)
    app = project.begin("start")
    app.wait_for("ready")
    view = project.begin("ps", "-w", terminal=True)
    view.wait_for(r"web\.1 ")
    result = view.stop(signal.SIGINT)
    assert result.code == 0
    assert result.out.endswith("\x1b[?1049l")
    app.stop()


def test_narrow_window_has_one_line_per_process(project: Project) -> None:
    project.procfile(web=STAY)
    app = project.begin("start")
    app.wait_for("ready")
    view = project.begin("ps", "-w", terminal=True)
    view.wait_for(r"web\.1 ")
    result = view.stop(signal.SIGINT)
    # The terminal cuts what is too long, until the view is over.
    begin, end = result.out.index("\x1b[?7l"), result.out.index("\x1b[?7h")
    assert begin < result.out.index("NAME") < result.out.rindex("web.1") < end
    app.stop()


def test_ps_w_needs_a_terminal(project: Project) -> None:
    project.procfile(web=STAY)
    result = project.run("ps", "-w")
    assert result.code == 1
    assert "`ps -w` needs a terminal" in result.err


def test_ls_lists_every_app_of_this_user(project: Project) -> None:
    for name in ("one", "two"):
        project.write(f"{name}/Procfile", f"web: {STAY}\nworker: {STAY}\n")
    apps = [project.begin("start", "-d", name) for name in ("one", "two")]
    for app in apps:
        app.wait_for("ready", count=2)
    listed = {item["pid"]: item for item in json.loads(project.run("ls", "--json", wrapper=ALONE).out)}
    for app, name in zip(apps, ("one", "two"), strict=True):
        item = listed[app.pid]
        assert (item["root"], item["up"], item["total"]) == (str((project.path / name).resolve()), 2, 2)
    rows = project.run("ls", wrapper=ALONE).out.splitlines()
    assert rows[0].split() == ["PID", "UP", "UPTIME", "ROOT"]
    assert any(row.split()[:2] == [str(apps[0].pid), "2/2"] and row.endswith("/one") for row in rows)
    for app in apps:
        app.stop()


def test_app_that_hangs_after_its_greeting_delays_no_other(project: Project) -> None:
    for name in ("one", "two", "three"):
        project.write(f"{name}/Procfile", f"web: {STAY}\n")
    hangs = altered(
        "import asyncio\nfrom procreaper.remote.control.requests import RequestHandler\n"
        "RequestHandler.answer = lambda self, request, connection: asyncio.sleep(1000)"
    )
    apps = {
        name: project.begin("start", "-d", name, wrapper=() if name == "two" else hangs)
        for name in ("one", "two", "three")
    }
    for app in apps.values():
        app.wait_for("ready")
    result = project.run("ls")
    rows = [row.split() for row in result.out.splitlines()]
    assert result.code == 0
    assert any(row[:2] == [str(apps["two"].pid), "1/1"] for row in rows)
    for name in ("one", "three"):
        assert any(row[:2] == [str(apps[name].pid), "-"] for row in rows)
        assert f"the app (pid {apps[name].pid}) does not answer within 5 s" in result.err
    (item,) = [item for item in json.loads(project.run("ls", "--json").out) if item["pid"] == apps["one"].pid]
    assert (item["up"], item["root"]) == (None, str((project.path / "one").resolve()))
    alone = project.run("ps", "-d", "one")
    assert (alone.code, "does not answer within 10 s" in alone.err) == (1, True)
    for app in apps.values():
        app.stop()


@on_linux
def test_suspended_app_is_listed_and_delays_nothing(project: Project) -> None:
    for name in ("one", "two", "three"):
        project.write(f"{name}/Procfile", f"web: {STAY}\n")
    apps = {name: project.begin("start", "-d", name) for name in ("one", "two", "three")}
    for app in apps.values():
        app.wait_for("ready")
    pid, other = apps["one"].pid, apps["three"].pid
    for stopped in (pid, other):
        os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    result = project.run("ls", wrapper=ALONE)
    assert time.monotonic() - began < GREETING_LIMIT
    assert result.code == 0
    rows = [row.split() for row in result.out.splitlines()]
    for name in ("one", "three"):
        assert [str(apps[name].pid), "-", "-", str((project.path / name).resolve())] in rows
    assert any(row[:2] == [str(apps["two"].pid), "1/1"] for row in rows)
    assert f"the app (pid {pid}) is suspended, so it does not answer" in result.err
    assert f"`fg` in its terminal resumes it, or `kill -CONT {pid}`" in result.err
    (item,) = [item for item in json.loads(project.run("ls", "--json", wrapper=ALONE).out) if item["pid"] == pid]
    assert item["root"] == str((project.path / "one").resolve())
    assert (item["up"], item["total"], item["uptime"]) == (None, None, None)
    assert project.run("ps", "-d", "two").code == 0
    alone = project.run("ps", "-d", "one")
    assert (alone.code, f"the app (pid {pid}) is suspended" in alone.err) == (1, True)
    for stopped in (pid, other):
        os.kill(stopped, signal.SIGCONT)
    for app in apps.values():
        app.stop()


def test_any_directory_name_and_terminal_encoding_works(project: Project) -> None:
    name = "a\nb \udcff"
    project.write(f"{name}/Procfile", f"web: {STAY}\n")
    app = project.begin("start", "-d", name)
    app.wait_for("ready")
    (root,) = [
        item["root"] for item in json.loads(project.run("ls", "--json", wrapper=ALONE).out) if item["pid"] == app.pid
    ]
    assert root.endswith("/a\nb \ufffd")
    result = project.run("ls", env={"PYTHONIOENCODING": "ascii"}, wrapper=ALONE)
    assert (result.code, result.err) == (0, "")
    (row,) = [row for row in result.out.splitlines() if row.split()[0] == str(app.pid)]
    assert row.endswith("/a\\nb \\ufffd")
    app.stop()


def test_selection_errors_are_reported(project: Project) -> None:
    project.procfile(web=STAY)
    app = project.begin("start")
    app.wait_for("ready")
    other = project.run("ps", "--pid", "1")
    assert (other.code, "no app of this directory with pid 1 is running" in other.err) == (1, True)
    wrong = project.run("ps", "--pid", "web")
    assert (wrong.code, "--pid web: not a pid" in wrong.err) == (2, True)
    nowhere = project.run("ps", "-d", "nowhere")
    assert (nowhere.code, "-d nowhere: this is not a directory" in nowhere.err) == (1, True)
    app.stop()
