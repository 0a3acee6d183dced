"""The HTTP server: access checks and answers.

Rules: changes nothing of the app. Whatever a client sends, or does not read, delays only that client, and never causes
an error of ours. A request that names another host than this one is refused, so that no page of the web can read here
what it made a browser ask for.

Theory of operation. aiohttp has a task for each connection. Readers of streams wait for the feed, a bounded amount
ahead of which is all that is kept for all of them; when the connection is lost, the task is cancelled and the reader
leaves. At the end the streams get a last message; a client that does not read it is cut off after `LAST_WORDS`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from procreaper import __version__
from procreaper.core.events import Output, State, with_reason
from procreaper.core.selection import choose, select
from procreaper.descriptors import limit_connections
from procreaper.errors import ProcreaperError, UnknownProcessError
from procreaper.project.address import Address, is_host_allowed
from procreaper.remote.api import protocol
from procreaper.remote.api.codec import replace_surrogates
from procreaper.remote.api.to_wire import process_to_wire
from procreaper.remote.http.streams import KEEP_ALIVE, Streams, encode_output
from procreaper.remote.metrics.collector import Collector
from procreaper.remote.metrics.counts import Counts
from procreaper.threads import NoThreadError, run_in_thread

if TYPE_CHECKING:
    from procreaper.output.history import History
    from procreaper.output.hub import Hub
    from procreaper.remote.api.feed import Reader
    from procreaper.runtime.supervisor import Supervisor

# At most; and no more than a quarter of the descriptors that we may have, which the app needs itself.
MOST_CONNECTIONS = 128
# Seconds: between two signs of life in a stream; for which a connection may be idle; for the rest of a request that has
# been answered; for the last message at the end.
QUIET, IDLE, LINGERING, LAST_WORDS = 15.0, 15.0, 1.0, 0.3
# Lines that are read together are written together, up to this number of bytes.
WRITTEN_TOGETHER = 1 << 15
DEFAULT_LINES, MOST_DIGITS = 100, 9
METHODS = ("GET", "HEAD")
HEADERS = {
    "Cache-Control": "no-store",
    "Server": f"procreaper/{__version__}",
    "X-Content-Type-Options": "nosniff",
}
INDEX = f"""procreaper {__version__}

/status          all processes, as JSON
/status/NAME     one process, or all of a type
/events          what happens, as server-sent events; begins with the state of all processes
/logs/NAME       what it writes, as server-sent events (?lines=N before, ?follow=0 for no more than those)
/metrics         for Prometheus
/healthz         200 if all is up, else 503 and what is not
"""


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why there is no answer."""

    message: str
    hint: str | None = None


class Server:
    """Answers at a socket that listens, from `begin` to `end`; `bound` is where that is.

    `groups()` are those of `.reaper.toml`; `complain` prints what went wrong in here.
    """

    def __init__(
        self,
        listening: socket.socket,
        bound: Address,
        *,
        supervisor: Supervisor,
        hub: Hub,
        history: History,
        groups: Callable[[], Mapping[str, Sequence[str]]],
        print_error: Callable[[str], None],
    ) -> None:
        self._listening = listening
        self._bound = bound
        self._supervisor = supervisor
        self._history = history
        self._groups = groups
        self._complain = print_error
        self._streams = Streams(supervisor, hub, print_error)
        self._over = False
        counts = Counts()
        hub.add(counts)
        self._registry = CollectorRegistry()
        self._registry.register(Collector(supervisor.look, counts))
        self._host_name = socket.gethostname()
        self._most = limit_connections(MOST_CONNECTIONS)
        # What clients do wrong is not worth a line on the terminal of the app.
        silent = logging.Logger("procreaper.http", logging.CRITICAL + 1)
        self._connections = web.Server(
            self._answer,
            handler_cancellation=True,
            access_log=None,
            logger=silent,
            keepalive_timeout=IDLE,
            lingering_time=LINGERING,
        )
        self._server: asyncio.Server | None = None
        # The connections that wait for no answer of ours, those that have done so for longest first.
        self._idle: dict[web.RequestHandler, None] = {}

    async def begin(self) -> None:
        """Answer from now on."""
        self._server = await asyncio.get_running_loop().create_server(self._connect, sock=self._listening)
        others = "" if self._bound.is_loopback else ", for other machines too"
        self._supervisor.say(f"serving status and metrics at http://{self._bound}{others}")

    async def end(self, code: int) -> None:
        """Take leave of all clients, and answer no more; it takes no longer than a second."""
        if self._server is None:
            self._listening.close()
            return
        self._over = True
        self._server.close()
        self._streams.end(code)
        self._connections.pre_shutdown()
        # aiohttp waits that long for a handler to end, and then as long again.
        await self._connections.shutdown(LAST_WORDS)

    def _connect(self) -> asyncio.Protocol:
        present = self._connections.connections
        if len(self._idle) > self._most:
            self._idle = dict.fromkeys(handler for handler in self._idle if handler in present)
        if len(present) >= self._most and not self._make_room(present):
            return _Full()
        handler = self._connections()
        self._idle[handler] = None
        return handler

    def _make_room(self, present: Sequence[web.RequestHandler]) -> bool:
        """Close the connection that has been without a request for longest, if there is one."""
        handler = next((handler for handler in self._idle if handler in present), None)
        if handler is None:
            return False
        del self._idle[handler]
        handler.force_close()
        return True

    # Who is answered.

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._idle.pop(request.protocol, None)
        try:
            return await self._dispatch(request)
        except ConnectionError:
            # The client has gone.
            raise
        except UnknownProcessError as error:
            return _refusal(404, error.message, error.hint)
        except ProcreaperError as error:
            return _refusal(400, error.message, error.hint)
        except Exception as error:
            # An error of ours in an answer does not concern the app.
            self._complain(f"procreaper: internal error: a request cannot be answered: {type(error).__name__}: {error}")
            return _refusal(500, "internal error", "this is a bug of procreaper, please report it")
        finally:
            self._idle[request.protocol] = None

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        hosts = request.headers.getall("Host", ())
        if len(hosts) != 1:
            return _refusal(400, "the request does not say which host it is for", "send one `Host` header")
        if not is_host_allowed(hosts[0], self._bound, self._host_name):
            message = f"this server does not answer to the name `{hosts[0]}`"
            hint = f"ask for {self._bound}" if self._bound.is_loopback else "start it with `--http NAME:PORT`"
            return _refusal(421, message, hint)
        if request.method not in METHODS:
            message = f"{request.method} cannot be done: this server changes nothing"
            return _refusal(405, message, "`procreaper help` lists the commands that do", {"Allow": ", ".join(METHODS)})
        match request.path.split("/")[1:]:
            case [""]:
                return _text(200, INDEX)
            case ["metrics"]:
                return await self._metrics(request)
            case ["status"]:
                return _json(200, protocol.StatusResult(self._processes()))
            case ["status", name] if name:
                return self._status(name)
            case ["healthz"]:
                return self._health()
            case ["events"]:
                return await self._events(request)
            case ["logs", name] if name:
                return await self._logs(request, name)
            case _:
                return _refusal(404, f"there is no `{request.path}` here", "`/` lists what there is")

    # What is answered at once.

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # To look at all processes of a large machine takes a while.
        try:
            body = await run_in_thread(lambda: encode(self._registry), "for collecting the metrics")
        except NoThreadError as error:
            return _refusal(503, error.message, error.hint)
        return web.Response(body=body, headers={**HEADERS, "Content-Type": content_type})

    def _status(self, name: str) -> web.StreamResponse:
        processes = self._processes(name)
        exact = [process for process in processes if process.name == name]
        return _json(200, exact[0] if exact else protocol.StatusResult(processes))

    def _health(self) -> web.StreamResponse:
        if self._supervisor.shutting_down:
            return _text(503, "the app is ending\n")
        # What is stopped is not wanted.
        lacking = [
            status for status in self._supervisor.status() if not status.up and status.state is not State.STOPPED
        ]
        if not lacking:
            return _text(200, "all is up\n")
        return _text(
            503, "".join(f"{status.name} is {with_reason(status.state, status.reason)}\n" for status in lacking)
        )

    def _processes(self, *names: str) -> tuple[protocol.ProcessStatus, ...]:
        seen = {process.name: (process, status) for process, status in self._supervisor.look()}
        chosen = select(names, [process for process, _ in seen.values()], self._groups()) if names else seen
        return tuple(process_to_wire(seen[name][1], seen[name][0]) for name in chosen)

    # What goes on.

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await _begin_stream(request)
        if request.method == "HEAD":
            return response
        arrived = asyncio.Event()
        with self._streams.events(arrived.set) as (snapshot, reader):
            await response.write(snapshot)
            await self._pass_on(reader, arrived, response)
        return response

    async def _logs(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        lines, follow = _number(request, "lines", DEFAULT_LINES), _number(request, "follow", 1)
        names = select([name], self._supervisor.processes, self._groups())
        response = await _begin_stream(request)
        if request.method == "HEAD":
            return response
        if not follow:
            await self._write_last(names, lines, response)
            return response
        arrived = asyncio.Event()
        with self._streams.output(choose([name], self._groups()), arrived.set) as reader:
            await self._write_last(names, lines, response)
            await self._pass_on(reader, arrived, response)
        return response

    async def _write_last(self, names: Sequence[str], lines: int, response: web.StreamResponse) -> None:
        for notice in self._history.tail(names, lines).notices:
            if isinstance(notice, Output):
                for line in encode_output(notice):
                    await response.write(line.data)
                    # Where there is room, to write is not to wait.
                    await asyncio.sleep(0)

    async def _pass_on(self, reader: Reader, arrived: asyncio.Event, response: web.StreamResponse) -> None:
        """Write all that comes, until the app has ended; and a sign of life where nothing does."""
        while True:
            arrived.clear()
            if data := _read(reader):
                await response.write(data)
            elif self._over:
                return
            else:
                try:
                    async with asyncio.timeout(QUIET):
                        await arrived.wait()
                except TimeoutError:
                    await response.write(KEEP_ALIVE)


class _Full(asyncio.Protocol):
    """One client too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            transport.close()


def _read(reader: Reader) -> bytes:
    """What has come, as much as is written together."""
    parts: list[bytes] = []
    size = 0
    while size < WRITTEN_TOGETHER and (data := reader.read()) is not None:
        parts.append(data)
        size += len(data)
    return b"".join(parts)


async def _begin_stream(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


def _number(request: web.BaseRequest, name: str, default: int) -> int:
    """A number of the query. Raises ProcreaperError for what is none."""
    text = request.query.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS:
        return int(text)
    raise ProcreaperError(f"`{name}={text}`: this is not a number", hint=f"for example `{name}={default}`")


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=replace_surrogates(text), headers=HEADERS)


def _json(
    status: int, answer: msgspec.Struct | Mapping[str, msgspec.Struct], headers: Mapping[str, str] | None = None
) -> web.Response:
    body = msgspec.json.encode(answer) + b"\n"
    headers = {**HEADERS, "Content-Type": "application/json", **(headers or {})}
    return web.Response(status=status, body=body, headers=headers)


def _refusal(status: int, message: str, hint: str | None, headers: Mapping[str, str] | None = None) -> web.Response:
    refusal = Refusal(replace_surrogates(message), None if hint is None else replace_surrogates(hint))
    return _json(status, {"error": refusal}, headers)
