"""The client, against a server that sends what the test chooses."""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.leftovers import nothing_is_left

from procreaper.errors import ProcreaperError
from procreaper.remote.api import protocol
from procreaper.remote.control.client import Client, GoneError, RefusedError

GREETING = {"protocol": 1, "version": "0.1.0", "root": "/shop", "pid": 4711, "started_at": 1.0, "later": "more"}
MESSAGE = {"notice": "message", "time": 1.0, "text": "hello"}
GOODBYE = {"notice": "goodbye", "time": 2.0, "code": 3}
SOON = 0.01


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


class App:
    """A listening socket that sends what the test chooses and returns what the client has sent."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self._client: socket.socket | None = None
        self._read: Any = None

    def connect(self, *lines: object, limit: float = 30.0) -> Client:
        """Connect a client that receives the greeting and these lines."""
        connected: list[Client | BaseException] = []

        def run() -> None:
            try:
                connected.append(Client(self.path, limit=limit))
            except BaseException as error:
                connected.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self._client, _ = self._listening.accept()
        self._read = self._client.makefile("rb")
        self.send(*lines)
        thread.join()
        (client,) = connected
        if isinstance(client, BaseException):
            raise client
        return client

    def send(self, *lines: object) -> None:
        assert self._client is not None
        self._client.sendall(b"".join(item if isinstance(item, bytes) else line(item) for item in lines))

    def asked(self) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads(self._read.readline())
        return asked

    def leave(self) -> None:
        if self._client is not None:
            self._read.close()
            self._client.close()
            self._client = None

    def close(self) -> None:
        self.leave()
        self._listening.close()


@pytest.fixture
def app() -> Iterator[App]:
    with nothing_is_left(), TemporaryDirectory(prefix="c-") as directory:
        app = App(f"{directory}/socket")
        yield app
        app.close()


def test_greeting_identifies_the_app(app: App) -> None:
    with app.connect(GREETING) as client:
        assert client.greeting == protocol.Greeting(1, "0.1.0", "/shop", 4711, 1.0)


@pytest.mark.parametrize("greeting", [{**GREETING, "protocol": 2}, {"protocol": 0, "version": "9", "pid": 4711}])
def test_another_protocol_is_refused_with_a_message(app: App, greeting: dict[str, object]) -> None:
    with pytest.raises(ProcreaperError) as caught:
        app.connect(greeting)
    assert f"protocol {greeting['protocol']} is not that of this one, 1" in caught.value.message
    assert f"procreaper {greeting['version']}" in caught.value.message
    assert "`kill 4711`" in (caught.value.hint or "")


@pytest.mark.parametrize("first", [b"SSH-2.0-x\n", b"[]\n", b"\xff\n", b'{"protocol":"1"}\n'])
def test_server_without_a_greeting_is_not_procreaper(app: App, first: bytes) -> None:
    with pytest.raises(ProcreaperError, match="is not procreaper"):
        app.connect(first)


def test_dead_socket_raises_an_os_error(app: App) -> None:
    app.close()
    with pytest.raises(ConnectionRefusedError):
        Client(app.path)
    with pytest.raises(FileNotFoundError):
        Client(app.path + "-not")


def test_missing_greeting_is_reported_after_the_limit(app: App) -> None:
    with pytest.raises(ProcreaperError, match=f"the app at {app.path} does not answer within 0.01 s") as caught:
        app.connect(limit=SOON)
    assert "kill -CONT" in (caught.value.hint or "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are refused")
def test_full_queue_is_reported_after_the_limit(app: App) -> None:
    with ExitStack() as waiting:
        with suppress(BlockingIOError):
            while True:
                another = waiting.enter_context(socket.socket(socket.AF_UNIX))
                another.setblocking(False)
                another.connect(app.path)
        with pytest.raises(ProcreaperError, match=r"does not answer within 0\.01 s"):
            Client(app.path, limit=SOON)


def test_request_gets_an_id_and_the_result_is_decoded(app: App) -> None:
    with app.connect(GREETING) as client:
        app.send({"id": 1, "result": {"runs": {"web.1": 3}, "later": 1}}, {"id": 2, "result": {}})
        assert client.ask(protocol.RestartRequest(7, ("web",))) == protocol.ActionResult({"web.1": 3})
        assert app.asked() == {"request": "restart", "id": 1, "names": ["web"]}
        client.ask(protocol.QuitRequest(7))
        assert app.asked() == {"request": "quit", "id": 2}


@pytest.mark.parametrize("number", [1, None])
def test_failure_is_raised_with_all_its_fields(app: App, number: int | None) -> None:
    failure = {"message": "no", "hint": "ask again", "problems": ["Procfile:3: error: no"]}
    with app.connect(GREETING, {"id": number, "error": failure}) as client:
        with pytest.raises(RefusedError) as caught:
            client.ask(protocol.ReloadRequest(0))
        assert (caught.value.message, caught.value.hint) == ("no", "ask again")
        assert caught.value.problems == ("Procfile:3: error: no",)


def test_notices_before_a_reply_are_kept(app: App) -> None:
    with app.connect(GREETING, MESSAGE, {"id": 1, "result": {}}, MESSAGE, GOODBYE) as client:
        client.ask(protocol.QuitRequest(0))
        assert client.arrived_so_far() == [protocol.MessageNotice(1.0, "hello")]
        assert list(client.notices()) == [protocol.MessageNotice(1.0, "hello"), protocol.GoodbyeNotice(2.0, 3)]


def test_reply_to_an_abandoned_request_is_skipped(app: App) -> None:
    with app.connect(GREETING) as client:
        with pytest.raises(ProcreaperError, match="does not answer within"):
            client.ask(protocol.UpRequest(0, ("web",)), limit=SOON)
        app.send({"id": 1, "error": {"message": "no"}}, {"id": 2, "result": {"runs": {}}})
        assert client.ask(protocol.UpRequest(0, ("web",))) == protocol.ActionResult({})


def test_line_may_arrive_in_any_pieces(app: App) -> None:
    data = line(MESSAGE) + line({"id": 1, "result": {}})
    with app.connect(GREETING) as client:
        writer = threading.Thread(target=lambda: [app.send(bytes((byte,))) for byte in data])
        writer.start()
        client.ask(protocol.QuitRequest(0))
        writer.join()
        assert client.arrived() == [protocol.MessageNotice(1.0, "hello")]


def test_notice_of_a_later_version_is_skipped(app: App) -> None:
    with app.connect(GREETING, {"notice": "dance", "time": 1.0}, {**MESSAGE, "later": 1}, GOODBYE) as client:
        assert [type(notice) for notice in client.notices()] == [protocol.MessageNotice, protocol.GoodbyeNotice]


def test_output_is_bytes(app: App) -> None:
    output = {"notice": "output", "time": 1.0, "name": "web.1", "data": "/2hlbGxvCg=="}
    with app.connect(GREETING, output) as client:
        assert client.next_notice() == protocol.OutputNotice(1.0, "web.1", b"\xffhello\n")


def test_client_works_with_select(app: App) -> None:
    with app.connect(GREETING) as client:
        assert client.arrived() == []
        assert client.next_notice(SOON) is None
        app.send(MESSAGE, MESSAGE)
        ready, _, _ = select.select([client], [], [], 30)
        assert ready == [client]
        assert len(client.arrived()) == 2
        assert client.arrived() == []


def test_half_a_line_is_not_a_notice(app: App) -> None:
    half, rest = line(MESSAGE)[:9], line(MESSAGE)[9:]
    with app.connect(GREETING, half) as client:
        assert client.arrived() == []
        app.send(rest)
        assert client.next_notice() == protocol.MessageNotice(1.0, "hello")


@pytest.mark.parametrize("half", [b"", b'{"id":1,"res'])
def test_app_that_ends_early_is_reported(app: App, half: bytes) -> None:
    with app.connect(GREETING, half) as client:
        app.leave()
        with pytest.raises(GoneError) as caught:
            client.ask(protocol.StatusRequest(0))
        assert caught.value.message == "the app (pid 4711) has ended, or has closed the connection"
        assert caught.value.hint
        for wait in (client.next_notice, client.arrived, lambda: list(client.notices())):
            with pytest.raises(GoneError):
                wait()


def test_last_lines_are_read_after_the_app_has_ended(app: App) -> None:
    with app.connect(GREETING) as client:
        app.send({"id": None, "error": {"message": "this app has 2 clients already"}})
        app.leave()
        with pytest.raises(RefusedError, match="2 clients"):
            client.ask(protocol.StatusRequest(0))


def test_rest_yields_all_notices_up_to_the_end(app: App) -> None:
    with app.connect(GREETING, MESSAGE, MESSAGE) as client:
        app.leave()
        assert len(list(client.rest())) == 2


def test_invalid_reply_is_reported(app: App) -> None:
    for answer in (b"nonsense\n", b'{"id":1,"result":{"runs":7}}\n'):
        with (
            app.connect(GREETING, answer) as client,
            pytest.raises(ProcreaperError, match="sent a line that this client cannot read"),
        ):
            client.ask(protocol.StopRequest(0, ("web",)))
        app.leave()
