"""`start --http`: the whole program, asked by curl-like clients, by a real Prometheus, and by those who do not read."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.driver import LIMIT, Program, Project, Stream

SLEEP = "echo ready; exec sleep 600"
# 10 million bytes at a time, as often as it is told to.
FLOOD = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(100):
        sys.stdout.write(("x" * 99 + "\\n") * 1000)
    print("done", flush=True)
"""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process in /proc")


def port_of(program: Program) -> int:
    return int(program.wait_for(r"serving status and metrics at http://127\.0\.0\.1:(\d+)$")[0])


@contextmanager
def asked(port: int, path: str, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as connection:
        connection.request(method, path)
        with connection.getresponse() as response:
            yield response


def get(port: int, path: str) -> tuple[int, str]:
    with asked(port, path) as response:
        return response.status, response.read().decode()


def events(response: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, object]]]:
    event = ""
    for raw in response:
        field, _, value = raw.decode().rstrip("\n").partition(": ")
        if field == "event":
            event = value
        elif field == "data":
            yield event, json.loads(value)


def test_server_prints_its_address_and_serves_until_the_end(project: Project) -> None:
    project.procfile(web=SLEEP)
    program = project.begin("start", "--http", "0")
    port = port_of(program)
    program.wait_for(r"web\.1 +\| ready")
    status, body = get(port, "/status/web.1")
    assert (status, json.loads(body)["state"]) == (200, "running")
    with asked(port, "/events") as response:
        stream = events(response)
        assert next(stream)[0] == "snapshot"
        program.send(signal.SIGTERM)
        *_, (event, data) = stream
    assert (event, data["code"]) == ("goodbye", 143)
    assert program.end().code == 143
    assert program.err == ""
    with pytest.raises(ConnectionRefusedError):
        get(port, "/")


def test_flag_takes_precedence_over_the_settings(project: Project) -> None:
    project.procfile(web=SLEEP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        project.write(".reaper.toml", f'[control]\nhttp = "localhost:{taken.getsockname()[1]}"\n')
        result = project.run("start")
        assert result.code == 1
        assert re.search(
            r"^\.reaper\.toml:2: error: `control\.http` localhost:\d+: port \d+ is taken$", result.err, re.M
        )
        program = project.begin("start", "--http", "0")
        assert get(port_of(program), "/healthz")[0] in (200, 503)
        program.stop()


def test_used_port_is_an_error_before_any_process_starts(project: Project) -> None:
    project.procfile(web="touch started")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = project.run("start", "--http", str(port))
    assert (result.code, result.out) == (1, "")
    assert f"--http {port}: port {port} is taken\n  hint: end the program that uses it" in result.err
    assert not (project.path / "started").exists()


def test_invalid_address_is_an_error_of_check_and_start(project: Project) -> None:
    project.procfile(web=SLEEP)
    result = project.run("start", "--http", "localhost")
    assert result.code == 1
    assert "--http localhost: the port is missing\n  hint: for example `9464`" in result.err


def test_without_the_extra_the_error_names_the_installation(project: Project) -> None:
    project.procfile(web="touch started")
    # A module that takes the place of the real one, and is not there.
    project.write("missing/aiohttp/__init__.py", "raise ModuleNotFoundError(name='aiohttp')\n")
    result = project.run("start", "--http", "0", env={"PYTHONPATH": str(project.path / "missing")})
    assert result.code == 1
    assert "`aiohttp`, which is not installed\n  hint: pip install 'procreaper[http]'" in result.err
    assert not (project.path / "started").exists()


def test_follower_sees_the_events_of_a_crash_in_order(project: Project) -> None:
    project.procfile(web=SLEEP)
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "1ms"\n')
    program = project.begin("start", "--http", "0")
    port = port_of(program)
    program.wait_for(r"web\.1 +\| ready")
    with asked(port, "/events") as response:
        stream = events(response)
        _, data = next(stream)
        [web] = data["processes"]  # type: ignore[misc]
        os.kill(web["pid"], signal.SIGKILL)
        seen = [next(event for event in stream if event[0] in ("transition", "ended", "began")) for _ in range(4)]
    assert [(event, data.get("state"), data.get("restart")) for event, data in seen] == [
        ("ended", None, None),
        ("transition", "restarting", "exit"),
        ("transition", "starting", None),
        ("began", None, None),
    ]
    program.wait_for(r"web\.1 +\| ready", count=2)
    assert 'procreaper_process_restarts_total{process="web.1",reason="exit",type="web"} 1.0' in get(port, "/metrics")[1]
    program.stop()


@linux_only
def test_many_clients_that_do_not_read_delay_nothing_and_use_no_memory(project: Project) -> None:
    flood = project.python("flood", FLOOD)
    os.mkfifo(project.path / "tell")
    project.procfile(flood=f"exec {flood} <>tell", web=SLEEP)
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "1ms"\nstop_all = "never"\n')
    program = project.begin("start", "--http", "0", "-q", "flood")
    port = port_of(program)
    program.wait_for(r"web\.1 +\| ready")
    # The server has read the output that the metrics count.
    tell = os.open(project.path / "tell", os.O_WRONLY)
    flooded(port, tell, 1)
    before = memory(program.pid)
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    try:
        for number, client in enumerate(slow):
            path = "/logs/flood" if number % 2 else "/events"
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            # This much is read, and no more.
            assert client.recv(12) == b"HTTP/1.1 200"
        flooded(port, tell, 10)
        # Supervision goes on, and so does the server.
        for run in (2, 3):
            os.kill(json.loads(get(port, "/status/web.1")[1])["pid"], signal.SIGKILL)
            program.wait_for(r"web\.1 +\| ready", count=run)
        assert get(port, "/healthz") == (200, "all is up\n")
        assert memory(program.pid) - before < 24 << 20
    finally:
        for client in slow:
            client.close()
        os.close(tell)
    result = program.stop()
    assert result.code == 143
    assert result.err == ""


def flooded(port: int, tell: int, times: int) -> None:
    """Have the flood come so often, and wait until it is all read."""
    counted = r'^procreaper_output_bytes_total\{process="flood\.1",type="flood"\} (\S+)$'

    def count() -> int:
        found = re.search(counted, get(port, "/metrics")[1], re.M)
        return int(float(found[1])) if found else 0

    wanted = count() + times * (10_000_000 + len("done\n"))
    os.write(tell, b"more\n" * times)
    while count() < wanted:
        pass


def memory(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_metrics(project: Project) -> None:
    project.procfile(web=SLEEP, job="exit 3")
    project.write(
        ".reaper.toml",
        '[process.job]\nrestart = "always"\nbackoff = "1h"\n[process.web]\nhealth = { exec = "true" }\n',
    )
    program = project.begin("start", "--http", "0")
    program.wait_for("web.1 is healthy")
    program.wait_for("retry 1 in")
    _, text = get(port_of(program), "/metrics")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    program.stop()


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_real_prometheus_scrapes_the_restarts(project: Project) -> None:
    project.procfile(web=SLEEP)
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "1ms"\n')
    program = project.begin("start", "--http", "0")
    port = port_of(program)
    for run in (1, 2, 3):
        program.wait_for(r"web\.1 +\| ready", count=run)
        os.kill(json.loads(get(port, "/status/web.1")[1])["pid"], signal.SIGKILL)
    program.wait_for(r"web\.1 +\| ready", count=4)
    project.write(
        "prometheus.yml",
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: app, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n",
    )
    with prometheus(project.path) as server:
        query = urllib.parse.quote('procreaper_process_restarts_total{process="web.1",reason="exit"}')
        # Until it has scraped, the answer is empty.
        while not (found := json.loads(get(server, f"/api/v1/query?query={query}")[1])["data"]["result"]):
            pass
        [restarts] = found
        assert (restarts["metric"]["type"], restarts["value"][1]) == ("web", "3")
        # Where the machine is slow, one that comes later may fail.
        while targets(server) != [("up", "")]:
            pass
    program.stop()


def targets(server: int) -> list[tuple[str, str]]:
    """How each of them is, and what was wrong when it was scraped last."""
    found = json.loads(get(server, "/api/v1/targets")[1])["data"]["activeTargets"]
    return [(target["health"], target["lastError"]) for target in found]


@contextmanager
def prometheus(directory: Path) -> Iterator[int]:
    """A Prometheus that is ready; the port that it answers at."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *("prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=info"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    changed = threading.Condition()
    said = Stream(os.dup(process.stderr.fileno()), changed)
    process.stderr.close()
    try:
        with changed:
            changed.wait_for(lambda: said.ended or "ready to receive web requests" in said.text, LIMIT)
        assert "ready to receive web requests" in said.text, said.text
        yield port
    finally:
        process.terminate()
        process.wait()
        said.close()
