"""`start` and `check` warn about ports in use before the processes that need them start."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from support.driver import DOUBTFUL, Program, Project
from support.running import STAYS, processes

SERVER = """
import os, socket
try:
    server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
except OSError:
    raise SystemExit("the port is in use")
while True:
    server.accept()[0].close()
"""
HEALTH = '[process.web]\nhealth = "tcp://127.0.0.1:$PORT"\n'


@pytest.fixture
def holder() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def warning(port: int, name: str) -> str:
    return f"procreaper: warning: port {port}, the PORT of `{name}`, is in use\n"


OTHER = "  hint: end what uses it, or choose another base port with `-p`\n"


@pytest.mark.parametrize(
    ("command", "settings"), [("echo $PORT", ""), ("echo ${PORT}", ""), ("exit 0", HEALTH)], ids=["$", "${", "health"]
)
def test_used_port_in_use_is_a_warning(project: Project, holder: socket.socket, command: str, settings: str) -> None:
    port = holder.getsockname()[1]
    project.procfile(web=command)
    if settings:
        project.write(".reaper.toml", settings)
    result = project.run("start", "-p", str(port))
    assert (result.code, result.err) == (0, warning(port, "web.1") + OTHER)


@pytest.mark.parametrize("command", ["true", "echo $PORTAL"])
def test_unused_port_in_use_causes_no_warning(project: Project, holder: socket.socket, command: str) -> None:
    project.procfile(web=command)
    assert project.run("start", "-p", str(holder.getsockname()[1])).err == ""


def test_second_start_of_an_app_is_named_as_the_cause(project: Project, holder: socket.socket) -> None:
    port = holder.getsockname()[1]
    holder.close()
    project.procfile(web=f"exec {project.python('server', SERVER)}")
    project.write(".reaper.toml", HEALTH)
    program = project.begin("start", "-p", str(port))
    program.wait_for("web.1 is healthy")
    result = project.run("start", "-D", "--new", "--wait", "-p", str(port), wrapper=DOUBTFUL)
    assert result.code == 1
    assert result.err.startswith(
        warning(port, "web.1")
        + "  hint: the app is already running: `procreaper ps` shows it, `procreaper quit` ends it\n"
    )
    # It is healthy by the answer of the first one, for a moment.
    assert "web.1 has ended (exit code 1), and that ended the app\n" in result.err
    assert "the port is in use" in result.err
    program.stop()


@pytest.mark.parametrize("command", ["true", "echo $PORTAL"])
def test_check_does_not_warn_about_an_unused_port(project: Project, holder: socket.socket, command: str) -> None:
    project.procfile(web=command)
    project.write(".env", f"PORT={holder.getsockname()[1]}\nPORTAL=1\n")
    assert project.run("check", "--strict").err == "Valid procfile detected (web)\n"


def test_check_warns_about_a_port_at_the_line_of_the_process(project: Project, holder: socket.socket) -> None:
    port = holder.getsockname()[1]
    project.procfile(web="echo $PORT")
    project.write(".env", f"PORT={port}\n")
    result = project.run("check")
    assert result.err == f"Procfile:1: {warning(port, 'web.1')[12:]}{OTHER}Valid procfile detected (web)\n"


def test_check_does_not_warn_about_ports_of_the_running_app(project: Project, holder: socket.socket) -> None:
    port = holder.getsockname()[1]
    holder.close()
    project.procfile(web=f"exec {project.python('server', SERVER)} $PORT")
    project.write(".reaper.toml", HEALTH)
    project.write(".env", f"PORT={port}\n")
    program = project.begin("start")
    program.wait_for("web.1 is healthy")
    result = project.run("check", "--strict")
    assert (result.code, result.err) == (0, "Valid procfile detected (web)\n")
    program.stop()


@pytest.mark.parametrize(
    ("arguments", "files", "first"),
    [
        (("-p", "65500"), {}, "worker.1"),
        ((), {".env": "PORT=65500\n"}, "worker.1"),
        ((), {".foreman": "port: 65500\n"}, "worker.1"),
        (("-p", "65535", "-c", "web=3"), {}, "web.2"),
    ],
)
def test_port_above_65535_is_a_warning_and_the_app_runs(
    project: Project, arguments: tuple[str, ...], files: dict[str, str], first: str
) -> None:
    project.procfile(web="echo web on $PORT; sleep 60", worker="echo worker on $PORT")
    for name, text in files.items():
        project.write(name, text)
    result = project.run("start", *arguments)
    assert result.code == 0
    assert f"PORT of `{first}` is 65" in result.err
    assert "internal error" not in result.err
    assert "worker on 65" in result.out
    if not arguments:
        assert f"PORT of `{first}` is 65600, but ports end at 65535" in project.run("check").err


def test_own_port_of_a_process_is_used_everywhere(project: Project, holder: socket.socket) -> None:
    port = holder.getsockname()[1]
    project.procfile(web=f"exec {project.python('server', SERVER)}")
    project.write(".reaper.toml", f"[process.web]\nport = {port}\nhealth = 'tcp://127.0.0.1:$PORT'\n")
    result = project.run("check")
    assert f"warning: port {port}, the PORT of `web.1`, is in use\n" in result.err
    assert "or choose another `port` in the settings\n" in result.err
    holder.close()
    program = project.begin("start", "-p", "6000")
    program.wait_for("web.1 is healthy")
    assert processes(project)["web.1"]["port"] == port
    program.stop()
    assert project.run("export", "systemd", "out").code == 0
    assert f"Environment=PORT={port}\n" in next((project.path / "out").glob("*-web-1.service")).read_text()


SHOW = "echo $PORT $PROCREAPER_PORT_WEB $PROCREAPER_PORT_DB"


def begin_auto(project: Project, root: str) -> Program:
    project.write(f"{root}/Procfile", f"web: {SHOW}; exec {STAYS}\ndb: exec {STAYS}\n")
    program = project.begin("start", "--root", root, "-p", "auto")
    program.wait_for(r"web\.1 +\| ready")
    program.wait_for(r"db\.1 +\| ready")
    return program


def ports_of(project: Project, root: str) -> list[int]:
    found = json.loads(project.run("ps", "--json", "-d", root).out)
    return [process["port"] for process in found]


def test_auto_ports_differ_by_directory_and_stay_the_same(project: Project) -> None:
    first, second = begin_auto(project, "a"), begin_auto(project, "b")
    found = [ports_of(project, root) for root in ("a", "b")]
    assert len({*found[0], *found[1]}) == 4
    for root, (web, db), program in zip("ab", found, (first, second), strict=True):
        assert f"{web} {web} {db}\n" in program.out
        told = project.run("run", "--root", root, "env").out.splitlines()
        assert {f"PROCREAPER_PORT_WEB={web}", f"PROCREAPER_PORT_DB={db}"} <= set(told)
    second.stop()
    second = begin_auto(project, "b")
    assert ports_of(project, "b") == found[1]
    # A reload keeps the ports, though those of the app itself are not free now.
    assert project.run("reload", "-d", "b").code == 0
    assert ports_of(project, "b") == found[1]
    first.stop()
    second.stop()


def test_port_of_another_app_is_not_assigned_again(project: Project) -> None:
    first = begin_auto(project, "a")
    (web, _) = ports_of(project, "a")
    first.stop()
    project.write("b/Procfile", f"idle: exec {STAYS}\n")
    project.write("b/.reaper.toml", f"[process.idle]\nport = {web}\n")
    other = project.begin("start", "--root", "b")
    other.wait_for(r"idle\.1 +\| ready")
    first = begin_auto(project, "a")
    assert ports_of(project, "a")[0] not in (web, *ports_of(project, "b"))
    first.stop()
    other.stop()
