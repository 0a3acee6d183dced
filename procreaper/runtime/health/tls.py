"""TLS through a connection, with the peer's certificate verified.

Rules: the only module that imports `ssl`, which takes long to; so it is itself imported only where it is needed. The
certificates that are trusted are the system's, as Python finds them, unless the check names a file of others.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import cache
from typing import Protocol

from procreaper.runtime.health.errors import UnhealthyError, of_system
from procreaper.threads import run_in_thread

READ_SIZE = 1 << 16
# What OpenSSL says of a first record that is none, up to version 3.1 and from 3.2 on.
NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})

# What X509_verify_cert says where no authority that we trust has signed: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
# ..._DEPTH_ZERO_SELF_SIGNED_CERT, ..._SELF_SIGNED_CERT_IN_CHAIN, ..._UNABLE_TO_GET_ISSUER_CERT_LOCALLY and
# ..._UNABLE_TO_VERIFY_LEAF_SIGNATURE.
UNTRUSTED = frozenset({2, 18, 19, 20, 21})
REMEDY = "`verify = false` in `health` accepts it"
REMEDIES = f"name the file that has signed it as `ca` in `health`; {REMEDY}"


class Connection(Protocol):
    """What bytes go through. Its methods raise OSError, or UnhealthyError where it is itself a secured one."""

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        ...

    async def receive(self) -> bytes:
        """Return what has come, or nothing at the end."""
        ...


async def secure(connection: Connection, host: str, *, verify: bool = True, ca: str | None = None) -> Secured:
    """Agree with the peer on keys, and verify that it is `host`; raise UnhealthyError if it cannot be shown to be.

    Without `verify` it may be any host. `ca` is a file of the certificates to trust instead of the system's.
    """
    if not verify or ca is not None:
        # Not kept: the file may be another one at the next check.
        context = _special_context(ca)
    else:
        if not _context.cache_info().currsize:
            # Reading the system's certificates takes tens of milliseconds.
            await run_in_thread(_context, "for reading the certificates")
        context = _context()
    secured = Secured(connection, host, context)
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


def _special_context(ca: str | None) -> ssl.SSLContext:
    if ca is not None:
        try:
            return ssl.create_default_context(cafile=ca)
        except ssl.SSLError as error:
            raise UnhealthyError(f"the file `{ca}` of `ca` has no certificate (PEM)") from error
        except OSError as error:
            raise UnhealthyError(f"the file `{ca}` of `ca` cannot be read: {of_system(error)}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _explain(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message.rstrip(".")
        return f"its certificate is not valid: {said} ({REMEDIES if error.verify_code in UNTRUSTED else REMEDY})"
    if isinstance(error, ssl.SSLEOFError):
        return "closed the connection without an answer"
    if error.reason in NOT_TLS:
        return "answered something that is not TLS"
    return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
