"""TLS over a connection, with verification of the peer's certificate.

Rules: the only module that imports `ssl`. That import is slow, so this module is imported only when it is needed. It
trusts the certificates of the system, as Python finds them, unless the check names a file of others.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import cache
from typing import Protocol

from procreaper.runtime.health.errors import UnhealthyError, describe_os_error
from procreaper.threads import run_in_thread

READ_SIZE = 1 << 16
# The reasons of OpenSSL for a first record that is not TLS: up to version 3.1, and from 3.2 on.
NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})

# The results of X509_verify_cert if no trusted authority has signed the certificate:
# X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, ..._DEPTH_ZERO_SELF_SIGNED_CERT, ..._SELF_SIGNED_CERT_IN_CHAIN,
# ..._UNABLE_TO_GET_ISSUER_CERT_LOCALLY and ..._UNABLE_TO_VERIFY_LEAF_SIGNATURE.
UNTRUSTED = frozenset({2, 18, 19, 20, 21})
REMEDY = "`verify = false` in `health` accepts it"
REMEDIES = f"name the file that has signed it as `ca` in `health`; {REMEDY}"


class Connection(Protocol):
    """A way to send and receive bytes. Its methods raise OSError; those of a TLSConnection also UnhealthyError."""

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        ...

    async def receive(self) -> bytes:
        """Return the bytes that have come, or nothing at the end."""
        ...


async def start_tls(connection: Connection, host: str, *, verify: bool = True, ca: str | None = None) -> TLSConnection:
    """Set up TLS with the peer. Raises UnhealthyError if its certificate does not prove that it is `host`.

    Without `verify`, any host is accepted. `ca` is a file of certificates to trust instead of the system's.
    """
    if not verify or ca is not None:
        # Not cached: the file may have changed by the next check.
        context = _make_context(ca)
    else:
        if not _context.cache_info().currsize:
            # Reading the system's certificates takes tens of milliseconds.
            await run_in_thread(_context, "for reading the certificates")
        context = _context()
    tls = TLSConnection(connection, host, context)
    await tls.shake_hands()
    return tls


class TLSConnection:
    """The plain side of a TLS connection. Raises UnhealthyError if TLS fails, OSError if the connection does."""

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
                # Send the peer the alert that says why, if it still listens.
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


def _make_context(ca: str | None) -> ssl.SSLContext:
    if ca is not None:
        try:
            return ssl.create_default_context(cafile=ca)
        except ssl.SSLError as error:
            raise UnhealthyError(f"the file `{ca}` of `ca` has no certificate (PEM)") from error
        except OSError as error:
            raise UnhealthyError(f"the file `{ca}` of `ca` cannot be read: {describe_os_error(error)}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _explain(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = error.verify_message.rstrip(".")
        return f"its certificate is not valid: {cause} ({REMEDIES if error.verify_code in UNTRUSTED else REMEDY})"
    if isinstance(error, ssl.SSLEOFError):
        return "closed the connection without an answer"
    if error.reason in NOT_TLS:
        return "answered something that is not TLS"
    return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
