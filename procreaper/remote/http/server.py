"""The HTTP server: access checks and answers.

Rules: changes nothing of the app. Whatever a client sends, or does not read, delays only that client, and never causes
an error of ours. A request that names another host than this one is refused: otherwise a web page could make a browser
send requests here and read the answers.

Theory of operation. aiohttp runs a task for each connection. The reader of a stream waits for the feed; all readers
share the bounded number of lines that the feed keeps. When the connection is lost, aiohttp cancels the task and the
reader leaves the feed. At the end, the streams get a last message; a client that does not read it is cut off after
`GOODBYE_LIMIT`.
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

# The most connections; also no more than a quarter of our descriptors, because the app needs the rest.
MOST_CONNECTIONS = 128
# Seconds: between two keep-alive comments in a stream; until an idle connection is closed; for the rest of a request
# that has been answered; for the last message at the end.
QUIET, IDLE, LINGERING, GOODBYE_LIMIT = 15.0, 15.0, 1.0, 0.3
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
    """The reason of a refusal."""

    message: str
    hint: str | None = None


class Server:
    """Answers at a listening socket from `begin` to `end`; `bound` is the address of the socket.

    `groups()` returns the groups of `.reaper.toml`; `print_error` reports internal errors.
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
        self._print_error = print_error
        self._streams = Streams(supervisor, hub, print_error)
        self._has_ended = False
        counts = Counts()
        hub.add(counts)
        self._registry = CollectorRegistry()
        self._registry.register(Collector(supervisor.snapshot, counts))
        self._host_name = socket.gethostname()
        self._most = limit_connections(MOST_CONNECTIONS)
        # Mistakes of clients are not worth a line on the terminal of the app.
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
        # Connections without a request, the one that has been idle for longest first.
        self._idle: dict[web.RequestHandler, None] = {}

    async def begin(self) -> None:
        """Start answering."""
        self._server = await asyncio.get_running_loop().create_server(self._connect, sock=self._listening)
        others = "" if self._bound.is_loopback else ", for other machines too"
        self._supervisor.say(f"serving status and metrics at http://{self._bound}{others}")

    async def end(self, code: int) -> None:
        """Send all streams a goodbye, close all connections and stop answering, within a second."""
        if self._server is None:
            self._listening.close()
            return
        self._has_ended = True
        self._server.close()
        self._streams.end(code)
        self._connections.pre_shutdown()
        # aiohttp waits this long for handlers to end, and then as long again.
        await self._connections.shutdown(GOODBYE_LIMIT)

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
        """Close the connection that has been without a request for longest. Return whether there was one."""
        handler = next((handler for handler in self._idle if handler in present), None)
        if handler is None:
            return False
        del self._idle[handler]
        handler.force_close()
        return True

    # Access checks.

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._idle.pop(request.protocol, None)
        try:
            return await self._dispatch(request)
        except ConnectionError:
            # The client has closed the connection.
            raise
        except UnknownProcessError as error:
            return _refusal(404, error.message, error.hint)
        except ProcreaperError as error:
            return _refusal(400, error.message, error.hint)
        except Exception as error:
            # An error of ours in one answer must not affect the app.
            self._print_error(
                f"procreaper: internal error: a request cannot be answered: {type(error).__name__}: {error}"
            )
            return _refusal(500, "internal error", "this is a bug of procreaper, please report it")
        finally:
            self._idle[request.protocol] = None

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        hosts = request.headers.getall("Host", ())
        if len(hosts) != 1:
            return _refusal(
                400, "the request must have exactly one `Host` header", f"for example `Host: {self._bound}`"
            )
        if not is_host_allowed(hosts[0], self._bound, self._host_name):
            message = f"this server does not answer to the name `{hosts[0]}`"
            hint = f"ask for {self._bound}" if self._bound.is_loopback else "start it with `--http NAME:PORT`"
            return _refusal(421, message, hint)
        if request.method not in METHODS:
            message = f"{request.method} is not allowed: this server is read-only"
            return _refusal(
                405, message, "`procreaper help` lists the commands that change the app", {"Allow": ", ".join(METHODS)}
            )
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

    # Answers that are sent at once.

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # Measuring all processes of a large machine takes a while.
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
        # A stopped process is not wanted, so it need not be up.
        lacking = [
            status for status in self._supervisor.status() if not status.up and status.state is not State.STOPPED
        ]
        if not lacking:
            return _text(200, "all is up\n")
        return _text(
            503, "".join(f"{status.name} is {with_reason(status.state, status.reason)}\n" for status in lacking)
        )

    def _processes(self, *names: str) -> tuple[protocol.ProcessStatus, ...]:
        snapshot = {process.name: (process, status) for process, status in self._supervisor.snapshot()}
        chosen = select(names, [process for process, _ in snapshot.values()], self._groups()) if names else snapshot
        return tuple(process_to_wire(snapshot[name][1], snapshot[name][0]) for name in chosen)

    # Streams.

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await _begin_stream(request)
        if request.method == "HEAD":
            return response
        arrived = asyncio.Event()
        with self._streams.events(arrived.set) as (snapshot, reader):
            await response.write(snapshot)
            await self._write_stream(reader, arrived, response)
        return response

    async def _logs(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        lines, follow = _parse_number(request, "lines", DEFAULT_LINES), _parse_number(request, "follow", 1)
        names = select([name], self._supervisor.processes, self._groups())
        response = await _begin_stream(request)
        if request.method == "HEAD":
            return response
        if not follow:
            await self._write_last_lines(names, lines, response)
            return response
        arrived = asyncio.Event()
        with self._streams.output(choose([name], self._groups()), arrived.set) as reader:
            await self._write_last_lines(names, lines, response)
            await self._write_stream(reader, arrived, response)
        return response

    async def _write_last_lines(self, names: Sequence[str], lines: int, response: web.StreamResponse) -> None:
        for notice in self._history.tail(names, lines).notices:
            if isinstance(notice, Output):
                for line in encode_output(notice):
                    await response.write(line.data)
                    # A write that finds room does not wait, so let other tasks run.
                    await asyncio.sleep(0)

    async def _write_stream(self, reader: Reader, arrived: asyncio.Event, response: web.StreamResponse) -> None:
        """Write all lines until the app has ended, and a keep-alive comment after each quiet period."""
        while True:
            arrived.clear()
            if data := _read(reader):
                await response.write(data)
            elif self._has_ended:
                return
            else:
                try:
                    async with asyncio.timeout(QUIET):
                        await arrived.wait()
                except TimeoutError:
                    await response.write(KEEP_ALIVE)


class _Full(asyncio.Protocol):
    """Refuses a connection that exceeds the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            transport.close()


def _read(reader: Reader) -> bytes:
    """Read lines, up to the size that is written at once."""
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


def _parse_number(request: web.BaseRequest, name: str, default: int) -> int:
    """Parse a number in the query. Raises ProcreaperError for any other text."""
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
