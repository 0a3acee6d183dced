"""The server, with real sockets: one reply for each line of any input, and no client delays another."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.leftovers import nothing_is_left
from support.loops import in_loop

from procreaper.errors import ProcreaperError
from procreaper.remote.api.feed import Feed, Line
from procreaper.remote.api.protocol import LONGEST_LINE, AnyRequest, QuitRequest
from procreaper.remote.control import server as module
from procreaper.remote.control.connection import Connection
from procreaper.remote.control.server import Server

GREETING = b'{"protocol":1}\n'
FAREWELL = b'{"notice":"goodbye"}\n'
Handler = Callable[[AnyRequest, Connection], Awaitable[Any]]


async def nothing(request: AnyRequest, connection: Connection) -> None:
    """The result of a request that does not matter for the test."""


def request(number: int, **more: object) -> bytes:
    return json.dumps({"request": "quit", "id": number, **more}).encode() + b"\n"


class Client:
    """The client's end: `read` returns one line, `rest` all lines up to the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self) -> Any:
        line = await self._reader.readline()
        return json.loads(line) if line else None

    async def rest(self) -> list[Any]:
        found = []
        try:
            while (line := await self.read()) is not None:
                found.append(line)
        except ConnectionResetError:
            # The client closed the socket with unread data; its earlier lines have arrived.
            pass
        return found

    def finish(self) -> None:
        self._writer.write_eof()

    def leave(self) -> None:
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return


class Served:
    """A server and the clients of a test."""

    def __init__(self, path: str, handler: Handler, **options: Any) -> None:
        self._path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen(200)
        self._listening.setblocking(False)
        self._clients: list[Client] = []
        self.feed = options.setdefault("feed", Feed())
        self.tasks: list[asyncio.Task[bytes]] = []
        self.is_over = False
        self.server = Server(
            self._listening,
            self._listening.close,
            greeting=lambda: GREETING,
            answers=lambda: handler,
            begin=self._begin,
            **options,
        )

    def _begin(self, work: Any) -> asyncio.Task[bytes] | None:
        if self.is_over:
            work.close()
            return None
        task: asyncio.Task[bytes] = asyncio.get_running_loop().create_task(work)
        self.tasks.append(task)
        return task

    async def connect(self, *, greeted: bool = True) -> Client:
        client = Client(*await asyncio.open_unix_connection(self._path, limit=1 << 24))
        self._clients.append(client)
        if greeted:
            assert await client.read() == json.loads(GREETING)
        return client

    @property
    def unanswered(self) -> int:
        """Return the number of bytes of requests in memory."""
        return sum(len(connection._incoming) for connection in self.server._connections)

    async def clean_up(self) -> None:
        self.server.close()
        loop: Any = asyncio.get_running_loop()
        for descriptor in loop._selector.get_map():
            # A closed descriptor would conflict with the next one of the same number.
            os.fstat(descriptor)
        for client in self._clients:
            await client.close()


@asynccontextmanager
async def served(handler: Handler = nothing, **options: Any) -> AsyncIterator[Served]:
    with TemporaryDirectory(prefix="s-") as directory:
        app = Served(f"{directory}/socket", handler, **options)
        try:
            yield app
        finally:
            await app.clean_up()


async def stalled(path: str, count: int) -> list[socket.socket]:
    clients = []
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, path)
        clients.append(client)
    return clients


# Lines and replies.


@in_loop
async def test_server_sends_the_greeting_first() -> None:
    with nothing_is_left():
        async with served() as app:
            await app.connect()


@in_loop
async def test_each_line_is_answered_in_order_and_the_connection_stays() -> None:
    async with served() as app:
        client = await app.connect()
        client.send(request(1) + b"nonsense\n\n" + b'{"id":2}\n\xff\n' + request(3))
        replies = [await client.read() for _ in range(6)]
        assert [reply["id"] for reply in replies] == [1, None, None, 2, None, 3]
        assert ["error" in reply for reply in replies] == [False, True, True, True, True, False]
        client.send(request(4))
        assert await client.read() == {"id": 4, "result": {}}


@in_loop
async def test_slow_handler_delays_only_its_own_connection() -> None:
    go = asyncio.Event()
    order: list[int] = []

    async def handler(asked: AnyRequest, connection: Connection) -> None:
        order.append(asked.id)
        if asked.id == 1:
            await go.wait()

    async with served(handler) as app:
        slow, quick = await app.connect(), await app.connect()
        slow.send(request(1) + request(2))
        quick.send(request(3))
        assert (await quick.read())["id"] == 3
        assert order == [1, 3]
        go.set()
        assert [(await slow.read())["id"] for _ in range(2)] == [1, 2]


@in_loop
async def test_error_of_a_handler_is_a_reply() -> None:
    async def handler(asked: AnyRequest, connection: Connection) -> object:
        match asked.id:
            case 1:
                raise ProcreaperError("no", hint="ask again")
            case 2:
                raise KeyError("web")
            case 3:
                return object()
            case 4:
                return {"reason": "\udcff"}
        return None

    async with served(handler) as app:
        client = await app.connect()
        client.send(b"".join(map(request, range(1, 6))))
        errors = [(await client.read())["error"] for _ in range(4)]
        assert errors[0] == {"message": "no", "hint": "ask again", "problems": []}
        assert errors[1]["message"] == "internal error: KeyError: 'web'"
        assert all(error["message"].startswith("internal error: ") for error in errors[1:])
        assert all("Traceback" not in error["message"] for error in errors)
        assert await client.read() == {"id": 5, "result": {}}


@pytest.mark.parametrize("end", [b"\n", b""])
@in_loop
async def test_line_that_is_too_long_is_refused_once_and_ends_the_connection(end: bytes) -> None:
    async with served() as app:
        client = await app.connect()
        client.send(b"x" * (LONGEST_LINE + 1) + end + request(1))
        (reply,) = await client.rest()
        assert (reply["id"], reply["error"]["message"]) == (None, f"a line is longer than {LONGEST_LINE} bytes")


@in_loop
async def test_longest_line_is_answered() -> None:
    async with served() as app:
        client = await app.connect()
        line = request(1, more="x" * (LONGEST_LINE - len(request(1, more=""))) + "y")
        assert len(line) == LONGEST_LINE + 1
        client.send(line + line)
        assert [await client.read() for _ in range(2)] == [{"id": 1, "result": {}}] * 2


@in_loop
async def test_half_closed_connection_gets_its_replies_and_nothing_else() -> None:
    async with served() as app:
        client = await app.connect()
        client.send(request(1) + request(2) + b'{"request":"quit","id":3}')
        client.finish()
        assert [reply["id"] for reply in await client.rest()] == [1, 2]


@in_loop
async def test_client_that_leaves_in_the_middle_is_no_error() -> None:
    go = asyncio.Event()

    async def handler(asked: AnyRequest, connection: Connection) -> None:
        await go.wait()

    async with served(handler) as app:
        busy, half, other = [await app.connect() for _ in range(3)]
        busy.send(request(1))
        half.send(b'{"request":"qu')
        while not app.tasks:
            await asyncio.sleep(0)
        busy.leave()
        half.leave()
        go.set()
        other.send(request(2))
        assert (await other.read())["id"] == 2
        while app.server.clients > 1:
            await asyncio.sleep(0)


@in_loop
async def test_client_that_reads_no_replies_is_paused_and_loses_none() -> None:
    handled = 0

    async def handler(asked: AnyRequest, connection: Connection) -> dict[str, str] | None:
        nonlocal handled
        handled += asked.id >= 0
        return {"text": "x" * 50_000} if asked.id >= 0 else None

    async with served(handler) as app:
        client = await app.connect()
        # The buffers of the sockets and of this client do not count.
        count = 2000
        client.send(b"".join(request(number, more="x" * 5000) for number in range(count)))
        other = await app.connect()
        before = -1
        while before != handled:
            before = handled
            for _ in range(20):
                other.send(request(-1))
                await other.read()
        stalled_at = handled
        assert stalled_at < count / 2
        assert app.unanswered < 4 * LONGEST_LINE
        assert [(await client.read())["id"] for _ in range(count)] == list(range(count))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lines=st.lists(
        st.binary(max_size=60).map(lambda data: data.replace(b"\n", b" "))
        | st.integers(-9, 9).map(lambda number: request(number).rstrip()),
        max_size=12,
    ),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    last=st.binary(max_size=20).map(lambda data: data.replace(b"\n", b" ")),
)
def test_each_whole_line_has_one_reply_for_any_pieces(lines: list[bytes], cuts: list[int], last: bytes) -> None:
    data = b"".join(line + b"\n" for line in lines) + last
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})

    @in_loop
    async def test() -> None:
        async with served() as app:
            client = await app.connect()
            for begin, end in pairwise(places):
                client.send(data[begin:end])
                await asyncio.sleep(0)
            client.finish()
            replies = await client.rest()
            assert len(replies) == len(lines)
            for line, reply in zip(lines, replies, strict=True):
                assert ("result" in reply) is line.startswith(b'{"request"')
                assert "internal" not in reply.get("error", {}).get("message", "")

    test()


# Accepting clients.


@in_loop
async def test_another_user_is_disconnected_without_a_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as app:
        assert (await app.connect()) is not None
        real = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: real + 1)
        stranger = await app.connect(greeted=False)
        assert await stranger.rest() == []
        monkeypatch.undo()
        await app.connect()


@in_loop
async def test_client_above_the_limit_is_refused_with_a_reason() -> None:
    async with served(most_clients=2) as app:
        first, _ = await app.connect(), await app.connect()
        third = await app.connect()
        (reply,) = await third.rest()
        assert (reply["id"], reply["error"]["message"]) == (None, "this app has 2 clients already")
        first.leave()
        while app.server.clients > 1:
            await asyncio.sleep(0)
        fourth = await app.connect()
        fourth.send(request(1))
        assert (await fourth.read())["id"] == 1


@in_loop
async def test_longest_idle_client_is_closed_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_FOR", 0.0)
    async with served(most_clients=2) as app:
        first, second = await app.connect(), await app.connect()
        # The first is active after the second.
        first.send(request(1))
        assert (await first.read())["id"] == 1
        third = await app.connect()
        third.send(request(2))
        assert (await third.read())["id"] == 2
        assert await second.rest() == []
        first.send(request(3))
        assert (await first.read())["id"] == 3


def test_clients_use_only_a_part_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8, 8))

    @in_loop
    async def test() -> None:
        async with served() as app:
            await app.connect()
            await app.connect()
            third = await app.connect()
            assert len(await third.rest()) == 1

    test()


def test_uid_of_macos_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Peer:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option, size) == (0, 1, 76)
            return struct.pack("IIh2x16I", 0, 501, 1, *range(16))

    monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)
    monkeypatch.setattr("sys.platform", "darwin")
    assert module._uid_of_peer(Peer()) == 501  # type: ignore[arg-type]
    monkeypatch.setattr("sys.platform", "unknown")
    assert module._uid_of_peer(Peer()) is None  # type: ignore[arg-type]


@in_loop
async def test_clients_wait_while_no_descriptor_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_AFTER", 0.01)
    refused = 0

    class Scarce:
        """The listening socket, while there are no descriptors."""

        def __init__(self, real: socket.socket) -> None:
            self._real = real
            self.fileno = real.fileno

        def accept(self) -> object:
            nonlocal refused
            refused += 1
            if refused < 4:
                raise OSError(errno.EMFILE, "Too many open files")
            return self._real.accept()

    async with served() as app:
        app.server._listening = Scarce(app._listening)  # type: ignore[assignment]
        client = await app.connect()
        client.send(request(1))
        assert (await client.read())["id"] == 1
        assert refused == 4
        app.server._listening = app._listening


@in_loop
async def test_idle_server_schedules_nothing() -> None:
    async with served(following()) as app:
        client = await app.connect()
        client.send(request(1))
        await client.read()
        for _ in range(10):
            await asyncio.sleep(0)
        loop: Any = asyncio.get_running_loop()
        # The limit of the test itself is the only timer.
        assert len(loop._scheduled) == 1
        assert not [key for key in loop._selector.get_map().values() if key.events & 2]


# Followers.


def following(before: Iterable[bytes] = ()) -> Handler:
    """A handler that makes each client a follower."""

    async def handler(asked: AnyRequest, connection: Connection) -> None:
        assert isinstance(asked, QuitRequest)
        connection.follow(
            (lambda line: True) if asked.id > 0 else None,
            lambda notices, size: [b'{"dropped":%d,"bytes":%d}\n' % (notices, size), b'{"now":true}\n'],
            list(before),
        )

    return handler


def publish(feed: Feed, number: int, padding: int = 0) -> None:
    feed.publish(Line(json.dumps({"notice": number, "padding": "x" * padding}).encode() + b"\n", None))


@in_loop
async def test_follower_gets_the_reply_then_the_past_and_then_new_lines() -> None:
    go = asyncio.Event()
    inner = following([b'{"before":1}\n', b'{"before":2}\n'])

    async def handler(asked: AnyRequest, connection: Connection) -> None:
        await inner(asked, connection)
        publish(app.feed, 1)
        await go.wait()

    async with served(handler) as app:
        client = await app.connect()
        client.send(request(1))
        while not app.feed.is_followed:
            await asyncio.sleep(0)
        publish(app.feed, 2)
        go.set()
        lines = [await client.read() for _ in range(5)]
        assert [next(iter(line.items())) for line in lines] == [
            ("id", 1),
            ("before", 1),
            ("before", 2),
            ("notice", 1),
            ("notice", 2),
        ]


@in_loop
async def test_second_follow_request_duplicates_nothing() -> None:
    async with served(following()) as app:
        client = await app.connect()
        for number in (1, 2):
            client.send(request(number))
            await client.read()
        assert app.feed.readers == 1
        publish(app.feed, 1)
        publish(app.feed, 2)
        assert [(await client.read())["notice"] for _ in range(2)] == [1, 2]
        client.send(request(-1))
        await client.read()
        assert not app.feed.is_followed


@in_loop
async def test_follower_is_answered_during_a_flood() -> None:
    async with served(following()) as app:
        client = await app.connect()
        client.send(request(1))
        await client.read()
        answered = False
        client.send(request(2))
        for number in range(100_000):
            publish(app.feed, number, 5000)
            await asyncio.sleep(0)
            if answered := (await client.read()).get("id") == 2:
                break
        assert answered


@in_loop
async def test_slow_follower_loses_notices_and_delays_no_other() -> None:
    async with served(following(), feed=Feed(1 << 19)) as app:
        idle, quick = await app.connect(), await app.connect()
        for client in (idle, quick):
            client.send(request(1))
            await client.read()
        idle._reader._limit = 0  # type: ignore[attr-defined]
        idle._writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = 400
        for number in range(count):
            publish(app.feed, number, 10_000)
            assert (await quick.read())["notice"] == number
        idle._writer.transport.resume_reading()  # type: ignore[attr-defined]
        idle._reader._limit = 1 << 24  # type: ignore[attr-defined]
        seen = 0
        lost = 0
        while seen + lost < count:
            line = await idle.read()
            seen += "notice" in line
            lost += line.get("dropped", 0)
        assert lost > 0
        publish(app.feed, count)
        after = await idle.read()
        while "now" in after:
            after = await idle.read()
        assert after["notice"] == count


@in_loop
async def test_follower_that_leaves_is_forgotten() -> None:
    async with served(following()) as app:
        client = await app.connect()
        client.send(request(1))
        await client.read()
        client.leave()
        while app.server.clients:
            await asyncio.sleep(0)
        assert not app.feed.is_followed


@in_loop
async def test_follower_that_leaves_during_a_notice_is_forgotten() -> None:
    async with served(following()) as app:
        (client,) = await stalled(app._path, 1)
        client.send(request(1))
        while not app.feed.is_followed:
            await asyncio.sleep(0)
        for number in range(100):
            publish(app.feed, number, 20_000)
        for _ in range(100):
            await asyncio.sleep(0)
        client.close()
        while app.server.clients:
            await asyncio.sleep(0)
        assert not app.feed.is_followed


# The end.


@in_loop
async def test_at_the_end_followers_get_the_rest_and_then_a_goodbye() -> None:
    async with served(following()) as app:
        follower, other = await app.connect(), await app.connect()
        follower.send(request(1))
        await follower.read()
        for number in range(100):
            publish(app.feed, number, 10_000)
        ending = asyncio.ensure_future(app.server.end(lambda: FAREWELL))
        lines = await follower.rest()
        assert [line["notice"] for line in lines] == [*range(100), "goodbye"]
        assert await other.rest() == []
        await ending


@in_loop
async def test_open_requests_are_answered_at_the_end() -> None:
    async def handler(asked: AnyRequest, connection: Connection) -> None:
        await asyncio.Event().wait()

    async with served(handler) as app:
        client = await app.connect()
        client.send(request(1) + request(2) + request(3))
        while not app.tasks:
            await asyncio.sleep(0)
        app.is_over = True
        app.tasks[0].cancel()
        await app.server.end(lambda: FAREWELL)
        replies = await client.rest()
        assert [(reply["id"], reply["error"]["message"]) for reply in replies] == [
            (number, "the app has ended") for number in (1, 2, 3)
        ]


@in_loop
async def test_task_that_was_cancelled_before_it_began_is_answered_too() -> None:
    async with served() as app:
        client = await app.connect()
        begin = app.server.begin

        def cancelled(work: Any) -> asyncio.Task[bytes] | None:
            task = begin(work)
            assert task is not None
            task.cancel()
            return task

        app.server.begin = cancelled
        client.send(request(1))
        assert (await client.read())["error"]["message"] == "the app has ended"


@in_loop
async def test_end_does_not_wait_for_a_client_that_does_not_read() -> None:
    with nothing_is_left():
        async with served(following()) as app:
            (client,) = await stalled(app._path, 1)
            client.send(request(1))
            while not app.feed.is_followed:
                await asyncio.sleep(0)
            for number in range(100):
                publish(app.feed, number, 20_000)
            await app.server.end(lambda: FAREWELL, patience=0.01)
            assert app.server.clients == 0
            client.close()


@in_loop
async def test_after_the_end_the_socket_is_closed() -> None:
    async with served() as app:
        await app.connect()
        await app.server.end(lambda: FAREWELL)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(app._path)
        assert not Path(app._path).parent.joinpath("other").exists()
