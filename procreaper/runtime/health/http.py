"""Ask for a URL and look at the status of the answer.

Rules: one GET on a connection of its own; no redirect is followed, no proxy used, no cookie kept. Of the answer nothing
but the status counts, and only so many bytes of it are read. `ssl` is imported only for https.

Theory of operation. The connection is a bare socket and not one of asyncio's transports, because it can then be closed
at once and for good in every state, whatever the peer does. TLS runs in memory between the socket and us.

Once the status is known, a short answer is read to its end all the same: many servers log a broken pipe, some with a
traceback, when a client leaves before it.
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
from procreaper.runtime.health.errors import UnhealthyError, of_system
from procreaper.runtime.health.tcp import connect

if TYPE_CHECKING:
    from procreaper.core.checks import HTTPCheck
    from procreaper.runtime.health.tls import Connection

READ_SIZE = 1 << 16
# All status lines and headers that are read of one answer, in bytes.
LONGEST_HEADER = 1 << 16
# How much of an answer is read beyond its status out of courtesy: bytes, and seconds.
COURTESY_SIZE, COURTESY_TIME = 1 << 18, 0.1

BEGINNING = b"HTTP/"
# RFC 9112, section 4; the blank after the code is often left out.
STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ([1-5][0-9][0-9])(?: .*)?", re.DOTALL)
# What may stand in a path and a query as it is (RFC 3986); a per cent sign begins what is encoded already.
UNQUOTED = "/?:@!$&'()*+,;=-._~%"
# Interim answers, after which the final one follows. 101 is final: the connection speaks another protocol after it.
SWITCHING_PROTOCOLS = 101
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# How much of the target of a redirect a reason shows, in characters.
LONGEST_TARGET = 80


async def check(question: HTTPCheck, timeout: float) -> None:
    """Return if the status of the answer is one that is accepted (of none: 200 to 299), raise UnhealthyError if not."""
    parts = urlsplit(question.url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    host = unquote(parts.hostname or "")
    plain = Plain(await connect(host, port, timeout))
    connection: Connection = plain
    try:
        if parts.scheme == "https":
            from procreaper.runtime.health.tls import secure

            connection = await secure(plain, host, verify=question.verify, ca=question.ca)
        await connection.send(request(parts))
        status, target = await _read_status(connection)
        await _read_on(connection)
    except OSError as error:
        raise UnhealthyError(of_system(error)) from error
    finally:
        plain.close()
    if status in question.status if question.status else 200 <= status <= 299:
        return
    if not target:
        raise UnhealthyError(f"status {status}")
    where = one_phrase(target, LONGEST_TARGET)
    remedy = f"add `status = {status}` to `health`, or check another path"
    raise UnhealthyError(f"status {status}, redirects to {where}; {remedy}")


def request(parts: SplitResult) -> bytes:
    """The bytes that ask for a URL. Whatever could end a line in it is encoded."""
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


class Statuses:
    """Reads the final status out of the bytes of an answer, which may come in any pieces.

    Of a redirect it also reads the header, for the `target`.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._size = 0
        self._in_header = False
        self.redirect: int | None = None
        self.target = ""

    @property
    def begun(self) -> bool:
        """Whether anything has come at all."""
        return self._size > 0

    def feed(self, data: bytes) -> int | None:
        """Return the final status when it is there; raise UnhealthyError when what comes is not HTTP, or endless."""
        self._size += len(data)
        searched = len(self._held)
        self._held += data
        while (end := self._held.find(b"\n", searched)) >= 0:
            line = bytes(self._held[:end]).removesuffix(b"\r")
            del self._held[: end + 1]
            searched = 0
            if (status := self._take(line)) is not None:
                return status
        if not self._in_header and self._held[: len(BEGINNING)] != BEGINNING[: len(self._held)]:
            # Said at once, because no end of a line may ever come.
            raise UnhealthyError("answered something that is not HTTP")
        if self._size > LONGEST_HEADER:
            raise UnhealthyError("answered with a header that does not end")
        return None

    def _take(self, line: bytes) -> int | None:
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


class Plain:
    """A connected socket; it is the owner's to close."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self.close = connected.close

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        # Where there is always something to read, the loop would not be given a turn.
        await asyncio.sleep(0)
        return await self._loop.sock_recv(self._socket, READ_SIZE)


async def _read_status(connection: Connection) -> tuple[int, str]:
    statuses = Statuses()
    while data := await connection.receive():
        if (status := statuses.feed(data)) is not None:
            return status, statuses.target
    if statuses.redirect is not None:
        return statuses.redirect, ""
    where = "in the middle of its answer" if statuses.begun else "without an answer"
    raise UnhealthyError(f"closed the connection {where}")


async def _read_on(connection: Connection) -> None:
    size = 0
    with suppress(OSError, UnhealthyError):
        async with asyncio.timeout(COURTESY_TIME):
            while size < COURTESY_SIZE and (data := await connection.receive()):
                size += len(data)


def _host_header(host: str, port: int | None, scheme: str) -> str:
    name = f"[{host.partition('%')[0]}]" if ":" in host else quote(host.encode("idna"))
    return name if port is None or port == DEFAULT_PORTS[scheme] else f"{name}:{port}"
