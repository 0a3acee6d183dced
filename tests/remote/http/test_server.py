"""The HTTP server with a real app: its answers, and that no client can disturb the app."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from support.loops import in_loop
from support.recorder import Witness
from support.survivors import Survivors

from procreaper.core.checks import ExecCheck, Health
from procreaper.core.events import Message, Reload, Restart, Shutdown, Start, State, Stop, Transition
from procreaper.core.plan import Backoff, Plan, Process, When
from procreaper.output.history import History
from procreaper.output.hub import Hub
from procreaper.project.address import Address, parse_address
from procreaper.project.configure import Listen
from procreaper.remote.api import protocol
from procreaper.remote.http import server as module
from procreaper.remote.http.listening import listen
from procreaper.remote.http.server import Server
from procreaper.runtime.supervisor import Supervisor

pytestmark = pytest.mark.usefixtures("survivors")
STAY = "echo ready; exec sleep 600"
PATHS = ("/", "/status", "/status/web", "/status/web.1", "/events", "/logs/web", "/metrics", "/healthz")
# Print each line of the input.
REPEAT = "exec cat"


class Site(Witness):
    """A server with its app and supervisor, and all notices and errors of the app."""

    def __init__(
        self,
        supervisor: Supervisor,
        server: Server,
        bound: Address,
        session: aiohttp.ClientSession,
        hub: Hub,
        complaints: list[str],
    ) -> None:
        super().__init__()
        self.supervisor = supervisor
        self.server = server
        self.complaints = complaints
        self.bound = bound
        self.hub = hub
        self._session = session
        hub.add(self)

    async def reaches(self, state: State, name: str = "web.1", count: int = 1) -> None:
        """Wait until a process has entered a state this number of times."""

        def has_come() -> bool:
            found = self.all(Transition, name)
            return sum(each.state is state and each.before is not state for each in found) >= count

        await self.sees(has_come)

    def said(self) -> list[str]:
        return [notice.text for notice in self.all(Message)]

    def ask(self, path: str, method: str = "GET", **headers: str) -> Any:
        """A request as a context manager."""
        return self._session.request(method, f"http://{self.bound}{path}", headers=headers)

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str], str]:
        """Send a request and return the status, the headers and the body of the answer."""
        async with self.ask(path, method, **headers) as response:
            return response.status, response.headers, await response.text()

    async def refused(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str | None]:
        """Send a request and return the status, the message and the hint of the answer."""
        status, _, body = await self.get(path, method, **headers)
        error = json.loads(body)["error"]
        return status, error["message"], error.get("hint")

    async def raw(self, request: bytes) -> bytes:
        """Send these bytes and return the whole answer, up to the end of the connection."""
        reader, writer = await asyncio.open_connection(*self.bound)
        try:
            writer.write(request)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    *processes: Process, at: str = "0", names: tuple[str, ...] | None = None, groups: Mapping[str, Sequence[str]] = {}
) -> AsyncIterator[Site]:
    """Run an app and its server; end both afterwards."""
    hub, history = Hub(), History()
    hub.add(history)
    supervisor = Supervisor(Plan(processes, names), publish=hub.publish, stays=True)
    listening, bound = listen(Listen(parse_address(at), at))
    complaints: list[str] = []
    server = Server(
        listening,
        bound,
        supervisor=supervisor,
        hub=hub,
        history=history,
        groups=lambda: groups,
        print_error=complaints.append,
    )
    async with aiohttp.ClientSession() as session:
        site = Site(supervisor, server, bound, session, hub, complaints)
        await server.begin()
        running = asyncio.create_task(supervisor.run())
        try:
            yield site
        finally:
            supervisor.post(Shutdown(0, insistent=True))
            await server.end(await running)


def process(name: str = "web.1", command: str = STAY, **options: object) -> Process:
    return Process(name, command, **options)  # type: ignore[arg-type]


async def messages(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, int | None, Any]]:
    """Return the events of a stream: name, id and data."""
    event, number, data = "", None, None
    async for raw in response.content:
        line = raw.decode().removesuffix("\n")
        field, _, value = line.partition(": ")
        match field:
            case "event":
                event = value
            case "id":
                number = int(value)
            case "data":
                data = json.loads(value)
            case "":
                if not line:
                    yield event, number, data
                    event, number, data = "", None, None
            case _:
                raise AssertionError(line)


# Answers.


@in_loop
async def test_index_lists_all_paths() -> None:
    async with serving(process()) as site:
        status, headers, body = await site.get("/")
        assert status == 200
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        listed = [line.split()[0] for line in body.splitlines() if line.startswith("/")]
        assert listed == ["/status", "/status/NAME", "/events", "/logs/NAME", "/metrics", "/healthz"]
        assert site.said()[0] == f"serving status and metrics at http://{site.bound}"


@in_loop
async def test_status_of_all_has_the_fields_of_the_protocol() -> None:
    async with serving(process(), process("db.1", "exec sleep 600")) as site:
        await site.reaches(State.RUNNING, "db.1")
        _, headers, body = await site.get("/status")
        assert headers["Content-Type"] == "application/json"
        assert "Access-Control-Allow-Origin" not in headers
        web, db = json.loads(body)["processes"]
        assert tuple(web) == protocol.ProcessStatus.__struct_fields__
        assert (web["name"], web["type"], db["name"]) == ("web.1", "web", "db.1")
        assert db["pid"] == site.supervisor.status_of("db.1").pid


@in_loop
async def test_status_of_one_of_a_type_and_of_a_group() -> None:
    processes = [process("web.1"), process("web.2"), process("db.1")]
    async with serving(*processes, groups={"all-web": ["web"]}) as site:
        assert json.loads((await site.get("/status/web.2"))[2])["name"] == "web.2"
        for path in ("/status/web", "/status/all-web", "/status/web.*"):
            found = json.loads((await site.get(path))[2])["processes"]
            assert [each["name"] for each in found] == ["web.1", "web.2"]


@pytest.mark.parametrize("path", ["/status/wbe", "/logs/wbe"])
@in_loop
async def test_unknown_process_is_404_with_a_suggestion(path: str) -> None:
    async with serving(process()) as site:
        status, message, hint = await site.refused(path)
        assert (status, message) == (404, "there is no process `wbe`")
        assert (hint or "").startswith("did you mean `web`?")


@pytest.mark.parametrize("path", ["/nothing", "/status/", "/status/web/1", "/logs", "/logs/", "//", "/metrics/", "/%"])
@in_loop
async def test_unknown_path_is_404(path: str) -> None:
    async with serving(process()) as site:
        assert (await site.refused(path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@in_loop
async def test_methods_that_change_something_are_refused(method: str) -> None:
    async with serving(process()) as site:
        for path in PATHS:
            status, headers, body = await site.get(path, method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD")
            assert "is not allowed: this server is read-only" in json.loads(body)["error"]["message"]


@in_loop
async def test_head_has_the_headers_and_no_body() -> None:
    async with serving(process()) as site:
        await site.reaches(State.RUNNING)
        for path in PATHS:
            status, headers, body = await site.get(path, "HEAD")
            assert (status, body) == (200, "")
            assert headers["Content-Type"]


@in_loop
async def test_healthz_reflects_all_wanted_processes() -> None:
    later = process("later.1")
    bad = process("bad.1", "exit 3", restart=When.ALWAYS, backoff=Backoff(3600.0, 3600.0))
    async with serving(process(), bad, later, names=("web.1",)) as site:
        await site.reaches(State.RUNNING)
        assert (await site.get("/healthz"))[::2] == (200, "all is up\n")
        site.supervisor.post(Start(("bad.1",)))
        await site.reaches(State.RESTARTING, "bad.1")
        status, _, body = await site.get("/healthz")
        assert (status, body) == (503, "bad.1 is restarting: exited with code 3; retry 1 in 3600.0 s\n")
        # A process that a user has stopped is no longer wanted.
        site.supervisor.post(Stop(("bad.1", "web.1")))
        await site.reaches(State.STOPPED)
        assert (await site.get("/healthz"))[0] == 200
        site.supervisor.post(Shutdown(0))
        await site.supervisor.settled()
        assert (await site.get("/healthz"))[::2] == (503, "the app is ending\n")


@in_loop
async def test_metrics_have_the_requested_format() -> None:
    async with serving(process()) as site:
        await site.reads(b"ready\n", "web.1")
        site.supervisor.post(Restart(("web.1",)))
        await site.reads(b"ready\nready\n", "web.1")
        _, headers, body = await site.get("/metrics")
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'procreaper_process_restarts_total{process="web.1",reason="manual",type="web"} 1.0\n' in body
        assert 'procreaper_output_bytes_total{process="web.1",type="web"} 12.0\n' in body
        _, headers, body = await site.get("/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert body.endswith("# EOF\n")


# Streams.


@in_loop
async def test_without_a_thread_only_the_metrics_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with serving(process()) as site:
        await site.reads(b"ready\n", "web.1")
        monkeypatch.setattr(threading.Thread, "start", refuse)
        status, _, text = await site.get("/metrics")
        assert (status, "the system gives no thread for collecting the metrics" in text) == (503, True)
        assert (await site.get("/status"))[0] == 200


@in_loop
async def test_events_start_with_the_state_and_continue_in_order() -> None:
    backoff = Backoff(0.001, 0.001)
    async with serving(process(restart=When.ALWAYS, backoff=backoff)) as site:
        await site.reaches(State.RUNNING)
        async with site.ask("/events") as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            stream = messages(response)
            event, _, data = await anext(stream)
            [web] = data["processes"]
            assert (event, web["state"], web["run"]) == ("snapshot", "running", 1)
            os.kill(web["pid"], signal.SIGKILL)
            seen = []
            async for event, number, data in stream:
                seen.append((event, data.get("state") or data.get("process", {}).get("state")))
                assert number == len(seen)
                if event == "began":
                    break
            assert seen == [
                ("ended", None),
                ("transition", "restarting"),
                ("status", "restarting"),
                ("transition", "starting"),
                ("status", "starting"),
                ("began", None),
            ]


@in_loop
async def test_stream_ends_with_a_goodbye_when_the_app_ends() -> None:
    async with serving(process()) as site:
        await site.reaches(State.RUNNING)
        async with site.ask("/events") as events, site.ask("/logs/web") as logs:
            site.supervisor.post(Shutdown(7))
            await site.reaches(State.STOPPED)
            await site.server.end(7)
            for response in (events, logs):
                *_, (event, _, data) = [message async for message in messages(response)]
                assert (event, data["code"]) == ("goodbye", 7)
        with pytest.raises(aiohttp.ClientConnectionError):
            await site.get("/")


@in_loop
async def test_logs_start_with_the_last_lines_and_continue_without_a_gap() -> None:
    count = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; done; exec sleep 600"
    async with serving(process(command=count), process("web.2")) as site:
        await site.reads(b"10\n", "web.1")
        async with site.ask("/logs/web.1?lines=5") as response:
            text = ""
            async for event, _, data in messages(response):
                assert (event, data["name"]) == ("output", "web.1")
                text += data["text"]
                if text.endswith("\n2000\n"):
                    break
        lines = [int(line) for line in text.splitlines()]
        assert lines == list(range(lines[0], 2001))
        _, _, body = await site.get("/logs/web.1?lines=2&follow=0")
        texts = [json.loads(line[6:])["text"] for line in body.splitlines() if line.startswith("data: ")]
        assert "".join(texts) == "1999\n2000\n"
        await site.reads(b"ready\n", "web.2")
        _, _, body = await site.get("/logs/web?follow=0")
        assert '"text":"ready\\n"' in body
        assert (await site.get("/logs/web?lines=0&follow=0"))[2] == ""


@pytest.mark.parametrize("query", ["lines=x", "lines=-1", "lines=", "lines=1e3", "follow=yes", f"lines={'9' * 10}"])
@in_loop
async def test_query_value_that_is_not_a_number_is_refused(query: str) -> None:
    async with serving(process()) as site:
        status, message, hint = await site.refused(f"/logs/web?{query}")
        assert (status, message) == (400, f"`{query}`: this is not a number")
        assert hint


@in_loop
async def test_quiet_stream_gets_keep_alive_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET", 0.001)
    async with serving(process()) as site:
        await site.reads(b"ready\n", "web.1")
        async with site.ask("/logs/web?lines=0") as response:
            assert await response.content.readline() == b": still there\n"


@in_loop
async def test_closed_stream_leaves_no_reader() -> None:
    async with serving(process(command=REPEAT)) as site:
        await site.reaches(State.RUNNING)
        before = len(site.hub._sinks)
        for _ in range(10):
            async with site.ask("/events") as response:
                await anext(messages(response))
            async with site.ask("/logs/web") as response:
                pass
        await until_gone(site)
        site.supervisor.say("the next notice")
        assert len(site.hub._sinks) == before


async def until_gone(site: Site) -> None:
    """Wait until the server has noticed that all clients have left."""
    while site.server._streams.readers:
        await site.get("/healthz")


@in_loop
async def test_slow_reader_learns_its_loss_and_is_cut_off_at_the_end() -> None:
    flood = process("flood.1", "yes | head -c 20000000", stop_all=When.NEVER)
    async with serving(process(), flood, names=("web.1",)) as site:
        slow = [await asyncio.open_connection(*site.bound, limit=1) for _ in range(20)]
        try:
            for reader, writer in slow:
                writer.write(b"GET /logs/flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert await reader.read(12) == b"HTTP/1.1 200"
            site.supervisor.post(Start(("flood.1",)))
            await site.reaches(State.COMPLETED, "flood.1")
            # One of the clients starts to read after all.
            text = b""
            while b"event: dropped" not in text:
                text = text[-100:] + await slow[0][0].read(1 << 16)
            assert (await site.get("/healthz"))[0] == 200
            site.supervisor.post(Shutdown(0))
            await site.reaches(State.STOPPED)
            # At most twice this long.
            assert module.GOODBYE_LIMIT < 0.5
            await site.server.end(0)
        finally:
            for _, writer in slow:
                writer.close()


@in_loop
async def test_removed_process_is_reported_and_then_unknown() -> None:
    web, other = process(), process("other.1")
    async with serving(web, other) as site:
        await site.reaches(State.RUNNING)
        await site.reaches(State.RUNNING, "other.1")
        async with site.ask("/events") as response:
            stream = messages(response)
            assert (await anext(stream))[0] == "snapshot"
            site.supervisor.post(Reload(Plan((web,))))
            async for event, _, data in stream:
                if event == "removed":
                    assert data["name"] == "other.1"
                    break
        assert (await site.refused("/status/other"))[0] == 404
        assert [each["name"] for each in json.loads((await site.get("/status"))[2])["processes"]] == ["web.1"]
        assert "other.1" not in (await site.get("/metrics"))[2]
        site.supervisor.post(Reload(Plan((web, other))))
        await site.reaches(State.RUNNING, "other.1", 2)
        assert (await site.get("/status/other.1"))[0] == 200
        assert 'procreaper_process_up{process="other.1",type="other"} 1.0\n' in (await site.get("/metrics"))[2]


# Access checks.


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:9464", 200),
        ("[::1]:9464", 200),
        ("evil.example", 421),
        ("192.168.1.1", 421),
        ("", 421),
    ],
)
@in_loop
async def test_request_for_another_host_is_refused(host: str, status: int) -> None:
    async with serving(process()) as site:
        for path in PATHS:
            found, _, body = await site.get(path, "HEAD" if status == 200 else "GET", Host=host)
            assert found in (status, 503)
            if status == 421:
                error = json.loads(body)["error"]
                assert error["message"] == f"this server does not answer to the name `{host}`"
                assert str(site.bound) in error["hint"]


@pytest.mark.parametrize("host", ["192.168.1.1", socket.gethostname(), "localhost", "evil.example"])
@in_loop
async def test_public_server_answers_to_addresses_and_its_host_name(host: str) -> None:
    async with serving(process(), at="0.0.0.0:0") as site:
        assert site.said()[0].endswith(", for other machines too")
        assert (await site.get("/", Host=host))[0] == (421 if host == "evil.example" else 200)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
@in_loop
async def test_request_without_exactly_one_host_is_refused(hosts: bytes, version: bytes) -> None:
    async with serving(process()) as site:
        answer = await site.raw(b"GET /status HTTP/" + version + b"\r\n" + hosts + b"Connection: close\r\n\r\n")
        assert answer.partition(b" ")[2].startswith(b"400 ")
        assert b"pid" not in answer


@in_loop
async def test_connection_above_the_limit_gets_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 2)
    async with serving(process()) as site:
        async with site.ask("/events"), site.ask("/events"):
            assert (await site.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        await until_gone(site)
        assert (await site.get("/"))[0] == 200


@in_loop
async def test_idle_connection_is_closed_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 3)
    async with serving(process()) as site:
        async with site.ask("/events") as stream:
            events = messages(stream)
            await anext(events)
            silent = [await asyncio.open_connection(*site.bound) for _ in range(5)]
            assert (await site.get("/"))[0] == 200
            # The stream continues, and the oldest idle connection is closed.
            site.supervisor.say("the next notice")
            assert (await anext(events))[0] == "message"
            assert await silent[0][0].read() == b""
        for _, writer in silent:
            writer.close()


# No client can disturb the app.


@in_loop
async def test_garbage_affects_no_other_client_and_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The server waits for the rest of some requests.
    monkeypatch.setattr(module, "IDLE", 0.05)
    monkeypatch.setattr(module, "LINGERING", 0.05)
    chance = random.Random(7)
    request = b"GET /status HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Length: 5\r\n\r\nhello"
    async with serving(process()) as site:
        await site.reaches(State.RUNNING)
        tries = [
            b"",
            b"\x00" * 1000,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET\r\n\r\n",
            b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /%ff%00%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
            b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET / HTTP/1.1\r\nHost: local\xff\xfehost\r\n\r\n",
            b"GET /status/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /logs/web?lines=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ]
        for _ in range(300):
            mutant = bytearray(request)
            for _ in range(chance.randrange(1, 6)):
                mutant[chance.randrange(len(mutant))] = chance.randrange(256)
            tries.append(bytes(mutant[: chance.randrange(1, len(mutant) + 1)]))
        while tries:
            some, tries = tries[:50], tries[50:]
            for answer in await asyncio.gather(*map(site.raw, some)):
                assert b"Traceback" not in answer
                assert not answer or answer.startswith(b"HTTP/1."), answer
        assert (await site.get("/status"))[0] == 200
        assert site.complaints == []
    assert capfd.readouterr() == ("", "")


@in_loop
async def test_internal_error_is_reported_and_the_app_continues(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving(process()) as site:
        await site.reaches(State.RUNNING)

        def fail() -> None:
            raise ZeroDivisionError("oh")

        monkeypatch.setattr(site.supervisor, "snapshot", fail)
        assert await site.refused("/status") == (
            500,
            "internal error",
            "this is a bug of procreaper, please report it",
        )
        assert site.complaints == ["procreaper: internal error: a request cannot be answered: ZeroDivisionError: oh"]
        assert (await site.get("/healthz"))[0] == 200
    assert capfd.readouterr() == ("", "")


@in_loop
async def test_error_while_publishing_to_readers_does_not_end_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(process()) as site:
        await site.reaches(State.RUNNING)

        def fail(name: str) -> None:
            raise ZeroDivisionError("oh")

        async with site.ask("/events") as response:
            await anext(messages(response))
            monkeypatch.setattr(site.supervisor, "status_of", fail)
            site.supervisor.post(Restart(("web.1",)))
            await site.reaches(State.RUNNING, count=2)
        assert set(site.complaints) == {
            "procreaper: internal error: a notice cannot be sent to readers: ZeroDivisionError: oh"
        }
        assert (await site.get("/healthz"))[0] == 200


@in_loop
async def test_health_checks_are_in_the_metrics(survivors: Survivors) -> None:
    health = Health(check=ExecCheck(("true",)), interval=3600.0)
    async with serving(process(health=health)) as site:
        await site.reaches(State.HEALTHY)
        _, _, body = await site.get("/metrics")
        assert 'procreaper_health_check_duration_seconds_count{process="web.1",type="web"} 1.0\n' in body
        assert 'procreaper_process_state{process="web.1",state="healthy",type="web"} 1.0\n' in body
