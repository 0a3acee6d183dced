"""Send a GET request, and check the status of the response.

Rules: one request on a connection of its own. It follows no redirect, uses no proxy and keeps no cookie. Only the
status counts, and the number of bytes that are read is bounded. `ssl` is imported only for https.

Theory of operation. The connection is a bare socket, not one of asyncio's transports: it can be closed at once in every
state, whatever the peer does. TLS runs in memory, between the socket and this module.

When the status is known, a short response is still read to its end. Many servers log a broken pipe, some with a
traceback, if a client leaves earlier.
"""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlsplit

from procreaper import __version__
from procreaper.core.checks import DEFAULT_PORTS
from procreaper.output.plain_text import one_phrase
from procreaper.runtime.health.errors import UnhealthyError, describe_os_error
from procreaper.runtime.health.tcp import connect

if TYPE_CHECKING:
    from procreaper.core.checks import HTTPCheck
    from procreaper.runtime.health.tls import Connection

READ_SIZE = 1 << 16
# The most bytes of status lines and headers that are read of one response.
LONGEST_HEADER = 1 << 16
# The most bytes of a response that are read after its status, and the most seconds for that.
COURTESY_SIZE, COURTESY_TIME = 1 << 18, 0.1

BEGINNING = b"HTTP/"
# RFC 9112, section 4. Many servers omit the blank after the code.
STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ([1-5][0-9][0-9])(?: .*)?", re.DOTALL)
# The characters that need no encoding in a path and a query (RFC 3986). A percent sign begins an encoded character.
UNQUOTED = "/?:@!$&'()*+,;=-._~%"
# Other codes below 200 are interim: the final response follows. 101 is final: another protocol follows.
SWITCHING_PROTOCOLS = 101
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The longest target of a redirect in a reason, in characters.
LONGEST_TARGET = 80


async def check(spec: HTTPCheck, timeout: float) -> None:
    """Return if the status is accepted (by default 200 to 299); raise UnhealthyError otherwise."""
    parts = urlsplit(spec.url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    host = unquote(parts.hostname or "")
    plain = PlainConnection(await connect(host, port, timeout))
    connection: Connection = plain
    try:
        if parts.scheme == "https":
            from procreaper.runtime.health.tls import start_tls

            connection = await start_tls(plain, host, verify=spec.verify, ca=spec.ca)
        await connection.send(build_request(parts))
        status, target = await _read_status(connection)
        await _read_rest(connection)
    except OSError as error:
        raise UnhealthyError(describe_os_error(error)) from error
    finally:
        plain.close()
    if status in spec.status if spec.status else 200 <= status <= 299:
        return
    if not target:
        raise UnhealthyError(f"status {status}")
    where = one_phrase(target, LONGEST_TARGET)
    remedy = f"add `status = {status}` to `health`, or check another path"
    raise UnhealthyError(f"status {status}, redirects to {where}; {remedy}")


def build_request(parts: SplitResult) -> bytes:
    """Return the bytes of the request for a URL. Characters of the URL that could end a line are encoded."""
    path = quote(parts.path, safe=UNQUOTED) or "/"
    query = f"?{quote(parts.query, safe=UNQUOTED)}" if parts.query else ""
    lines = [
        f"GET {path}{query} HTTP/1.1",
        f"Host: {_host_header(unquote(parts.hostname or ''), parts.port, parts.scheme)}",
        f"User-Agent: procreaper/{__version__}",
        "Accept: */*",
        "Connection: close",
    ]
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Authorization: Basic {b64encode(user.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class StatusReader:
    """Reads the final status from the bytes of a response, which may come in pieces of any size.

    For a redirect it also reads the headers, up to the `target`.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._size = 0
        self._in_header = False
        self.redirect: int | None = None
        self.target = ""

    @property
    def has_begun(self) -> bool:
        """Whether any byte has come."""
        return self._size > 0

    def feed(self, data: bytes) -> int | None:
        """Return the final status once it is complete; raise UnhealthyError if the data is not HTTP, or endless."""
        self._size += len(data)
        searched = len(self._held)
        self._held += data
        while (end := self._held.find(b"\n", searched)) >= 0:
            line = bytes(self._held[:end]).removesuffix(b"\r")
            del self._held[: end + 1]
            searched = 0
            if (status := self._read_line(line)) is not None:
                return status
        if not self._in_header and self._held[: len(BEGINNING)] != BEGINNING[: len(self._held)]:
            # Raise at once, because the line may never end.
            raise UnhealthyError("answered something that is not HTTP")
        if self._size > LONGEST_HEADER:
            raise UnhealthyError("answered with a header that does not end")
        return None

    def _read_line(self, line: bytes) -> int | None:
        if self._in_header:
            self._in_header = line != b""
            name, _, value = line.partition(b":")
            if self.redirect is not None and name.strip().lower() == b"location":
                self.target = value.decode("utf-8", "replace").strip()
            return self.redirect if self.target or not self._in_header else None
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise UnhealthyError("answered something that is not HTTP")
        status = int(match[1])
        if status in REDIRECTS:
            self.redirect = status
        self._in_header = status in REDIRECTS or (status < 200 and status != SWITCHING_PROTOCOLS)
        return None if self._in_header else status


class PlainConnection:
    """A connected socket, which its owner closes."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self.close = connected.close

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        # Let the loop run other tasks, even if there is always something to read.
        await asyncio.sleep(0)
        return await self._loop.sock_recv(self._socket, READ_SIZE)


async def _read_status(connection: Connection) -> tuple[int, str]:
    reader = StatusReader()
    while data := await connection.receive():
        if (status := reader.feed(data)) is not None:
            return status, reader.target
    if reader.redirect is not None:
        return reader.redirect, ""
    where = "in the middle of its answer" if reader.has_begun else "without an answer"
    raise UnhealthyError(f"closed the connection {where}")


async def _read_rest(connection: Connection) -> None:
    size = 0
    with suppress(OSError, UnhealthyError):
        async with asyncio.timeout(COURTESY_TIME):
            while size < COURTESY_SIZE and (data := await connection.receive()):
                size += len(data)


def _host_header(host: str, port: int | None, scheme: str) -> str:
    name = f"[{host.partition('%')[0]}]" if ":" in host else quote(host.encode("idna"))
    return name if port is None or port == DEFAULT_PORTS[scheme] else f"{name}:{port}"
