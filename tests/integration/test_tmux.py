"""Two windows of a real terminal: the app runs in one, and a debugger is used from the other."""

from __future__ import annotations

import shlex
import socket
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.driver import LIMIT, PROGRAM, Project
from support.survivors import Survivors
from support.tmux import Screen, screen_of

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


@pytest.fixture
def screen(project: Project, survivors: Survivors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with screen_of(project, survivors, tmp_path_factory.mktemp("t")) as screen:
        yield screen


def test_breakpoint_in_a_web_process_is_used_from_a_second_window(project: Project, screen: Screen) -> None:
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
