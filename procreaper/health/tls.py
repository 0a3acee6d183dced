"""TLS through a connection, with the peer's certificate verified.

Rules: the only module that imports `ssl`, which takes long to; so it is itself imported only where it is needed. The
certificates that are trusted are the system's, as Python finds them.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from functools import cache
from typing import Protocol

from procreaper.health.reasons import UnhealthyError

READ_SIZE = 1 << 16
# What OpenSSL says of a first record that is none, up to version 3.1 and from 3.2 on.
NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})


class Connection(Protocol):
    """What bytes go through. Its methods raise OSError, or UnhealthyError where it is itself a secured one."""

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        ...

    async def receive(self) -> bytes:
        """Return what has come, or nothing at the end."""
        ...


async def secure(connection: Connection, host: str) -> Secured:
    """Agree with the peer on keys, and verify that it is `host`; raise UnhealthyError if it cannot be shown to be."""
    if not _context.cache_info().currsize:
        # Reading the system's certificates takes tens of milliseconds.
        await asyncio.to_thread(_context)
    secured = Secured(connection, host, _context())
    await secured.shake_hands()
    return secured


class Secured:
    """The plain side of a connection; it raises UnhealthyError where TLS fails, OSError where the connection does."""

    def __init__(self, connection: Connection, host: str, context: ssl.SSLContext) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.partition("%")[0])

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._exchange()
            except ssl.SSLError as error:
                # The peer is told why, if it will hear it.
                with suppress(OSError):
                    await self._flush()
                raise UnhealthyError(_explain(error)) from error
        await self._flush()

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                await self._exchange()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise UnhealthyError(_explain(error)) from error

    async def _exchange(self) -> None:
        await self._flush()
        if data := await self._connection.receive():
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._connection.send(data)


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _explain(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLEOFError):
        return "closed the connection without an answer"
    if error.reason in NOT_TLS:
        return "answered something that is not TLS"
    return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
