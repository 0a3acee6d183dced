"""The control socket of a real app: each line of a client gets one true reply, and no client can end the app."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.driver import LIMIT, Program, Project

from procreaper.remote.api import protocol
from procreaper.remote.control.client import Client, RefusedError
from procreaper.remote.control.socket_directory import find_sockets

STAY = "echo ready; exec sleep 600"


def path_of(program: Program, project: Project) -> str:
    paths, errors = find_sockets(project.environment, os.path.realpath(project.path))
    assert errors == ()
    (path,) = (path for path in paths if f"-{program.pid}-" in path)
    return path


def raw(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(LIMIT)
    client.connect(path)
    return client


class Watcher:
    """A client that follows, and waits until something is so."""

    def __init__(self, path: str) -> None:
        self.client = Client(path, limit=LIMIT)
        followed = self.client.ask(protocol.FollowRequest(0))
        self.processes = {process.name: process for process in followed.processes}

    def wait(self, name: str, happened: Callable[[protocol.ProcessStatus], bool]) -> protocol.ProcessStatus:
        while not happened(self.processes[name]):
            notice = self.client.next_notice(LIMIT)
            assert notice is not None, self.processes[name]
            if isinstance(notice, protocol.StatusNotice):
                self.processes[notice.process.name] = notice.process
        return self.processes[name]


@contextmanager
def all_together(work: Callable[[int], None], count: int) -> Iterator[None]:
    """Run this so often at once, beside the block; an error in one is an error of the test."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def answers(client: socket.socket, data: bytes) -> list[dict[str, Any]]:
    """All that comes back for these lines, and nothing else."""
    with client:
        writer = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        writer.start()
        read = b""
        while more := client.recv(1 << 16):
            read += more
        writer.join()
    greeting, *replies = [json.loads(line) for line in read.splitlines()]
    assert greeting["protocol"] == protocol.VERSION
    return replies


def nonsense(chance: random.Random) -> bytes:
    """A random line, which must not end the app."""
    request: dict[str, Any] = {
        "request": chance.choice(["status", "up", "stop", "restart", "scale", "reload", "type", "resize", "x"]),
        "id": chance.choice([chance.randrange(100), "1", None, 1.5, True, 2**70]),
        "names": chance.choice([["web"], ["web.1", "db"], ["*"], [], ["x"], "web", [1], None, {"web": 1}]),
        "counts": chance.choice([{}, {"web": "x"}, {"x": 1}, [], 7]),
    }
    if chance.random() < 0.3:
        del request[chance.choice(list(request))]
    line = json.dumps(request).encode()
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.randrange(100)).replace(b"\n", b"")
        case 1:
            place = chance.randrange(len(line))
            return line[:place] + chance.randbytes(2).replace(b"\n", b"") + line[place + 1 :]
        case _:
            return line


@pytest.mark.parametrize("seed", range(4))
def test_each_line_gets_one_reply_and_the_app_survives_any_input(project: Project, seed: int) -> None:
    project.procfile(web=STAY, db=STAY)
    app = project.begin("start")
    app.wait_for("ready", count=2)
    path = path_of(app, project)

    def send(number: int) -> None:
        chance = random.Random(seed * 10 + number)
        lines = [nonsense(chance) for _ in range(100)]
        replies = answers(raw(path), b"".join(line + b"\n" for line in lines) + b'{"half')
        assert len(replies) == len(lines)
        for line, reply in zip(lines, replies, strict=True):
            assert ("result" in reply) is not ("error" in reply), line
            assert "internal" not in reply.get("error", {}).get("message", ""), line

    with all_together(send, 4):
        pass
    with Client(path) as client:
        client.ask(protocol.UpRequest(0, ("all",)))
    watcher = Watcher(path)
    for name in ("web.1", "db.1"):
        watcher.wait(name, lambda process: process.up)
    watcher.client.close()
    assert app.stop().err == ""


def test_replies_are_true(project: Project) -> None:
    """Four clients at once, each with a process of its own, for which it waits after each request."""
    project.procfile(**dict.fromkeys("abcd", STAY))
    app = project.begin("start")
    app.wait_for("ready", count=4)
    path = path_of(app, project)

    def ask(number: int) -> None:
        chance = random.Random(number)
        kind = "abcd"[number]
        name = f"{kind}.1"
        watcher = Watcher(path)
        for _ in range(15):
            before = watcher.processes[name]
            names = (chance.choice([kind, name, f"{kind}.*"]),)
            match chance.randrange(3):
                case 0:
                    asked = watcher.client.ask(protocol.RestartRequest(0, names))
                    assert asked == protocol.ActionResult({name: before.run})
                    watcher.wait(name, lambda now, run=before.run: now.up and now.run == run + 1)
                case 1:
                    asked = watcher.client.ask(protocol.StopRequest(0, names))
                    already = (name,) if before.state == "stopped" else ()
                    assert asked == protocol.ActionResult({name: before.run}, already)
                    stopped = watcher.wait(name, lambda now: now.state == "stopped")
                    assert (stopped.run, stopped.pid) == (before.run, None)
                case _:
                    asked = watcher.client.ask(protocol.UpRequest(0, names))
                    assert asked == protocol.ActionResult({name: before.run}, (name,) if before.up else ())
                    up = watcher.wait(name, lambda now: now.up)
                    assert up.run == before.run + (not before.up)
        watcher.client.close()

    with all_together(ask, 4):
        pass
    app.stop()


@pytest.mark.parametrize("seed", range(3))
def test_contradictory_requests_of_many_clients_are_all_handled(project: Project, seed: int) -> None:
    project.procfile(web=STAY, db=STAY, mail=STAY)
    app = project.begin("start", "-c", "web=3")
    app.wait_for("ready", count=5)
    path = path_of(app, project)
    every = ["web.1", "web.2", "web.3", "db.1", "mail.1"]
    latest = dict.fromkeys(every, 0)
    lock = threading.Lock()

    def ask(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        with Client(path, limit=LIMIT) as client:
            for _ in range(20):
                names = tuple(chance.choices([*every, "web", "db", "all", "web.*"], k=chance.randrange(1, 3)))
                kind = chance.choice(
                    [protocol.RestartRequest, protocol.StopRequest, protocol.UpRequest, protocol.StatusRequest]
                )
                if chance.random() < 0.1:
                    with pytest.raises(RefusedError):
                        client.ask(kind(0, (*names, "nobody")))
                    continue
                result = client.ask(kind(0, names))
                if isinstance(result, protocol.ActionResult) and kind is not protocol.UpRequest:
                    with lock:
                        latest.update((name, max(latest[name], run)) for name, run in result.runs.items())

    with all_together(ask, 8):
        pass
    watcher = Watcher(path)
    watcher.client.ask(protocol.UpRequest(0, ("all",)))
    for name in every:
        # A process that was asked to end or restart in some run is in a later run now.
        watcher.wait(name, lambda now, name=name: now.up and now.run > latest[name])
    asked = watcher.client.ask(protocol.StopRequest(0, ("all",)))
    for name in every:
        stopped = watcher.wait(name, lambda now: now.state == "stopped")
        assert stopped.run == asked.runs[name]
    watcher.client.close()
    assert app.stop().err == ""


def test_followers_receive_everything_up_to_the_exit_code(project: Project) -> None:
    project.procfile(web="echo ready; trap 'echo last words; exit 0' TERM; while :; do sleep 0.01; done")
    app = project.begin("start")
    app.wait_for("ready")
    client = Client(path_of(app, project))
    client.ask(protocol.FollowRequest(0, output=True))
    app.send(signal.SIGTERM)
    notices = list(client.notices())
    client.close()
    written = b"".join(notice.data for notice in notices if isinstance(notice, protocol.OutputNotice))
    assert written.endswith(b"last words\n")
    assert isinstance(notices[-1], protocol.GoodbyeNotice)
    assert app.end().code == notices[-1].code == 143


def test_quit_ends_the_app_with_success(project: Project) -> None:
    project.procfile(web=STAY, db=STAY)
    app = project.begin("start")
    app.wait_for("ready", count=2)
    with Client(path_of(app, project)) as client:
        client.ask(protocol.QuitRequest(0))
    assert app.end().code == 0


def test_app_without_a_socket_warns_and_runs(project: Project) -> None:
    (project.path / "run").mkdir()
    (project.path / "run" / "procreaper").touch()
    project.procfile(web="echo ready")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.path / "run")
        result = project.run("start", env={"XDG_RUNTIME_DIR": short(project.path / "run")})
    assert (result.code, result.lines("web.1")) == (0, ["ready"])
    assert re.search(
        r"^procreaper: warning: no other terminal can control this app: .* is not a directory$", result.err, re.M
    )
    assert "  hint: remove it" in result.err


def short(path: Path) -> str:
    """A path to the same directory that leaves room for a socket."""
    link = Path(os.environ["XDG_RUNTIME_DIR"]) / f"link-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return str(link)


def test_app_serves_clients_although_no_process_could_be_started(project: Project) -> None:
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "1h"\ncwd = "there"\n')
    (project.path / "there").mkdir()
    project.procfile(web="exit 1")
    app = project.begin("start")
    app.wait_for("restarting|retry|exited|rc=1")
    assert json.loads(project.run("ps", "--json").out)[0]["state"] == "restarting"
    app.stop()


def test_failing_server_does_not_end_the_app(project: Project) -> None:
    """Such as after an upgrade of the package while the app runs."""
    project.write("broken/msgspec/__init__.py", "raise ImportError('gone')\n")
    project.procfile(web=STAY)
    app = project.begin("start", env={"PYTHONPATH": str(project.path / "broken")})
    app.wait_for("ready")
    with raw(path_of(app, project)) as client, suppress(ConnectionError):
        assert client.recv(100) == b""
    app.wait_for_error("no other terminal can control this app: ImportError: gone")
    assert app.stop().code == 143


# Many at once.

FLOOD = "import os\ndata = b'x' * 99 + b'\\n'\nwhile True:\n    os.write(1, data * 600)\n"
CRASHING = """
[process.web]
restart = "always"
backoff = { initial = "10ms", max = "10ms" }
stop_all = "never"
[process.checked]
health = { exec = "test -e healthy", interval = "50ms", retries = 2 }
restart = "never"
stop_all = "never"
"""
# In KiB; it takes 39 MiB.
MOST_MEMORY = 64 * 1024


def told(client: socket.socket) -> Iterator[dict[str, Any]]:
    """The notices for a client that has followed for long and now begins to read."""
    data = b""
    while more := client.recv(1 << 16):
        *lines, data = (data + more).split(b"\n")
        yield from (line for line in map(json.loads, lines) if "notice" in line)


def memory(pid: int) -> int:
    """The most that a process has ever had in memory, in KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    return int(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")
def test_hundred_clients_under_a_flood_delay_nothing(project: Project) -> None:
    project.write("healthy", "")
    project.write(".reaper.toml", CRASHING)
    project.procfile(web=STAY, checked=STAY, flood=project.python("flood", FLOOD))
    app = project.begin("start", "-q", "flood")
    app.wait_for("ready", count=2)
    path = path_of(app, project)
    watcher = Watcher(path)
    watcher.wait("checked.1", lambda now: now.state == "healthy")
    idle: list[socket.socket] = []
    for number in range(60):
        client = raw(path)
        client.sendall(b'{"request":"follow","id":1,"output":true}\n' if number % 3 else b'{"request":"sta')
        idle.append(client)
    over = threading.Event()

    def come_and_go(number: int) -> None:
        chance = random.Random(number)
        while not over.is_set():
            with Client(path, limit=LIMIT) as client:
                match number % 3:
                    case 0:
                        for _ in range(chance.randrange(10)):
                            assert len(client.ask(protocol.StatusRequest(0)).processes) == 3
                    case 1:
                        client.ask(protocol.FollowRequest(0, output=True))
                        for _ in range(chance.randrange(50)):
                            assert client.next_notice(LIMIT) is not None
                    case _:
                        # It leaves before the reply, or while it is being told more than it reads.
                        os.write(client.fileno(), b'{"request":"follow","id":1,"output":true}\n' * 3 + b'{"request"')

    def supervised() -> None:
        slowest = 0.0
        for _ in range(20):
            before = watcher.processes["web.1"]
            began = time.monotonic()
            watcher.client.ask(protocol.RestartRequest(0, ("web",)))
            now = watcher.wait("web.1", lambda now, run=before.run: now.up and now.run > run)
            assert now.pid is not None
            os.kill(now.pid, signal.SIGKILL)
            watcher.wait("web.1", lambda after, run=now.run: after.up and after.run > run)
            slowest = max(slowest, time.monotonic() - began)
        # Alone it takes 0.1 s.
        assert slowest < 10
        (project.path / "healthy").unlink()
        watcher.wait("checked.1", lambda now: now.state == "unhealthy")
        project.write("healthy", "")
        watcher.wait("checked.1", lambda now: now.state == "healthy")

    with all_together(come_and_go, 39):
        try:
            supervised()
        finally:
            over.set()
    peak = memory(app.pid)
    # Those who did not read have lost what would not have been bounded.
    assert any(notice["notice"] == "dropped" and notice["bytes"] > 1 << 20 for notice in told(idle[1]))
    for client in idle:
        client.close()
    watcher.client.close()
    assert app.stop().err == ""
    assert peak < MOST_MEMORY
