"""Real programs finish their work on a stop, with and without a terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec

import pytest
from support.driver import PYTHON, Program, Project
from support.pages import free_port

from .test_background import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which signals a process catches")

TASKS = """
from celery import Celery
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}

@app.task
def work():
    note("begun")
    with open("gate") as gate:
        gate.read()
    note("done")

def note(name):
    with open(name, "a") as file:
        file.write("x\\n")
"""
# For a server of ASGI, and one of WSGI: an answer that waits at the gate.
SITE = """
import asyncio
from pathlib import Path

def wait():
    Path("begun").touch()
    with open("gate") as gate:
        gate.read()

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await asyncio.to_thread(wait)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"whole answer"})

def wsgi(environ, start):
    wait()
    start("200 OK", [("Content-Length", "12")])
    return [b"whole answer"]
"""
NODE = """
const fs = require("fs")
process.on("SIGTERM", () => { fs.readFileSync("gate"); fs.appendFileSync("done", "x\\n"); process.exit() })
fs.appendFileSync("begun", "x\\n")
setInterval(() => {}, 1e6)
"""
BELOW = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("begun", file=open("../begun", "a"))
signal.sigwait({signal.SIGTERM})
open("../gate").read()
print("done", file=open("../done", "a"))
"""
# What asks for the stop: the key, a command, or a file that is saved. None of them ends anything but the process.
WAYS = ["Ctrl-C", "stop", "restart", "change", "quit"]


def stop(project: Project, program: Program, way: str) -> Callable[[], None]:
    """Ask for a stop; return what waits until it is over."""
    match way:
        case "Ctrl-C" if program.terminal is not None:
            program.type("\x03")
        case "Ctrl-C":
            program.send(signal.SIGINT)
        case "sick":
            project.write("sick", "")
        case "scale":
            client = project.begin("scale", "web=0")
            return lambda: (client.end(), None)[1]
        case "change":
            project.write("watched", "changed")
        case _:
            client = project.begin(way, *(() if way == "quit" else ("web",)))
            return lambda: (client.end(), None)[1]
    return lambda: None


def open_gate(project: Project) -> None:
    def opens() -> bool:
        with suppress(OSError):
            os.close(os.open(project.path / "gate", os.O_WRONLY | os.O_NONBLOCK))
            return True
        return False

    wait_until(opens)


def begin(project: Project, command: str, *, terminal: bool, settings: str = "") -> Program:
    os.mkfifo(project.path / "gate")
    project.write("watched", "")
    project.procfile(web=command)
    project.write(".reaper.toml", f'[process.web]\nwatch = ["watched"]\nstop_all = "never"\n{settings}\n')
    program = project.begin("start", "-t", "40", "--no-color", terminal=terminal)
    program.wait_for(r"web\.1 started")
    return program


def count(project: Project, name: str) -> int:
    """How many runs, or tasks, have noted this in the file of that name."""
    path = project.path / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def finish_work_in(project: Project, program: Program, ways: Iterable[str], begin_work: Callable[[], None]) -> None:
    """End one run after another in these ways, each in the midst of its work, which it has to finish."""
    for number, way in enumerate(ways, 1):
        begin_work()
        wait_until(lambda number=number: count(project, "begun") == number)
        is_over = stop(project, program, way)
        program.wait_for(r"sending SIGTERM to web\.1", count=number)
        if way == "sick":
            (project.path / "sick").unlink()
        open_gate(project)
        wait_until(lambda number=number: count(project, "done") == number)
        program.wait_for(r"web\.1 stopped", count=number)
        is_over()
        if way == "stop":
            assert project.run("up", "web").code == 0
        elif way == "scale":
            assert project.run("scale", "web=1").code == 0
    out = program.end().out
    assert "SIGKILL" not in out
    assert "SIGHUP" not in out
    assert "signal" not in out.replace("signal received", "")


@pytest.mark.skipif(not find_spec("celery"), reason="celery is not installed")
@pytest.mark.parametrize(("terminal", "ways"), [(False, ["Ctrl-C"]), (True, ["change", "stop", "Ctrl-C"])])
def test_celery_finishes_its_task(project: Project, terminal: bool, ways: list[str]) -> None:
    (project.path / "queue").mkdir()
    project.write("tasks.py", TASKS)
    worker = f"{shlex.quote(sys.executable)} -m celery -A tasks worker -c 1 --loglevel warning"
    # As in the recipe.
    program = begin(project, f"cd . && {worker}; :", terminal=terminal, settings="stop = { only_main = true }")

    def call() -> None:
        assert project.run("run", sys.executable, "-c", "import tasks; tasks.work.delay()").code == 0

    finish_work_in(project, program, ways, call)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_server_finishes_its_answer(project: Project, server: str, way: str) -> None:
    if not find_spec(server):
        pytest.skip(f"{server} is not installed")
    port = free_port()
    project.write("site_.py", SITE)
    address = f"--port {port} site_:asgi" if server == "uvicorn" else f"-b 127.0.0.1:{port} site_:wsgi"
    python = shlex.quote(sys.executable)
    program = begin(project, f"cd . && {python} -m {server} {address}; :", terminal=True)
    program.wait_for("running on|Listening at")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wait_until((project.path / "begun").exists)
        is_over = stop(project, program, way)
        program.wait_for("sending SIGTERM to web.1")
        open_gate(project)
        answer = b""
        while data := client.recv(4096):
            answer += data
    assert answer.endswith(b"whole answer")
    program.wait_for(r"web\.1 (stopped|restarting)")
    is_over()
    if way not in ("Ctrl-C", "quit"):
        program.send(signal.SIGINT)
    assert "SIGKILL" not in program.end().out


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
@pytest.mark.parametrize("command", ["node server.js; :", "npm run --silent dev", "npm run --silent dev; :"])
def test_node_finishes_its_work(project: Project, command: str) -> None:
    project.write("server.js", NODE)
    project.write("package.json", '{"scripts": {"dev": "cd . && node server.js; true"}}')
    program = begin(project, command, terminal=True)
    finish_work_in(project, program, ["restart", "change", "stop", "Ctrl-C"], lambda: None)


@pytest.mark.parametrize("shell", ["", "; :"])
def test_program_below_a_nested_procreaper_finishes_its_work(project: Project, shell: str) -> None:
    project.write("inner/Procfile", f"below: {PYTHON} server.py; :\n")
    project.write("inner/server.py", BELOW)
    python = shlex.quote(sys.executable)
    settings = 'restart = "always"\nhealth = { exec = "test ! -e sick", interval = "100ms", retries = 1 }'
    program = begin(project, f"cd inner && {python} -m procreaper start -t 40{shell}", terminal=True, settings=settings)
    finish_work_in(project, program, ["restart", "sick", "change", "scale", "stop", "Ctrl-C"], lambda: None)
