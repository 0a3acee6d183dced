"""Two windows of a real terminal: the app runs in one, and a debugger is used from the other."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from survivors import Survivors

from .driver import LIMIT, PROGRAM, Project

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        total = 41
        if self.path == "/debug":
            breakpoint()
            total += 1
        body = str(total).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Screen:
    """A tmux server of its own, whose windows are shells in the project."""

    def __init__(self, project: Project, path: Path) -> None:
        self._program = shutil.which("tmux") or pytest.skip("tmux is not installed")
        self._socket = str(path / "tmux")
        self._project = project
        self.started = False

    def open(self, name: str) -> None:
        verb = ["new-window", "-t", "test:"] if self.started else ["-f", os.devnull, "new-session", "-d", "-s", "test"]
        shell = ["-n", name, "-c", str(self._project.path), "env PS1='$ ' sh"]
        size = [] if self.started else ["-x", "100", "-y", "30"]
        self._run(*verb, *size, *shell)
        self.started = True

    def type(self, name: str, *keys: str) -> None:
        self._run("send-keys", "-t", f"test:{name}", *keys)

    def wait_for(self, name: str, text: str, count: int = 1) -> int:
        """Wait until a text is on the screen so often; tmux tells nobody, so it is asked again and again."""
        deadline = time.monotonic() + LIMIT
        while (shown := self._run("capture-pane", "-p", "-S", "-", "-t", f"test:{name}")).count(text) < count:
            assert time.monotonic() < deadline, f"no {text!r} in\n{shown}"
            os.sched_yield()
        return shown.count(text)

    def close(self) -> None:
        if self.started:
            self._run("kill-server")

    def _run(self, *arguments: str) -> str:
        command = (self._program, "-S", self._socket, *arguments)
        environment = {name: value for name, value in self._project.environment.items() if name != "TMUX"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def screen(project: Project, survivors: Survivors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    screen = Screen(project, tmp_path_factory.mktemp("t"))
    yield screen
    screen.close()
    # It does so when its command is over already.
    deadline = time.monotonic() + LIMIT
    while survivors.find() and time.monotonic() < deadline:
        os.sched_yield()


def test_a_breakpoint_in_a_web_process_is_stepped_through_from_a_second_window(
    project: Project, screen: Screen
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = project.write("server.py", SERVER)
    project.procfile(web=f"exec {sys.executable} {server} {port}", clock="while sleep 0.2; do echo tick; done")
    project.write(
        ".reaper.toml",
        f'[process.web]\nhealth = {{ http = "http://127.0.0.1:{port}/", interval = "200ms", retries = 1 }}\n',
    )
    program = " ".join(map(shlex.quote, PROGRAM))
    screen.open("app")
    screen.type("app", f"{program} start --no-color", "Enter")
    screen.wait_for("app", "web.1 is healthy")
    screen.open("debug")
    screen.type("debug", f"{program} attach web", "Enter")
    screen.wait_for("debug", "attached to web.1")
    with ThreadPoolExecutor() as pool:
        url = f"http://127.0.0.1:{port}/debug"
        answer = pool.submit(lambda: urllib.request.urlopen(url, timeout=LIMIT).read())
        screen.wait_for("debug", "(Pdb)")
        screen.type("debug", "p total + 1000", "Enter")
        screen.wait_for("debug", "1041")
        # All else goes on meanwhile.
        screen.wait_for("app", "tick", screen.wait_for("app", "tick") + 2)
        screen.type("debug", "c", "Enter")
        assert answer.result(LIMIT) == b"42"
    screen.type("debug", "C-]")
    screen.wait_for("debug", "detached from web.1")
    screen.type("app", "C-c")
    screen.wait_for("app", "web.1 stopped")
