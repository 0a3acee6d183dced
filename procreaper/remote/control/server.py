"""The server of the control socket: accepts clients and answers each line with exactly one reply.

Rules: knows nothing of the app; it receives functions. Whatever a client sends, or does not read, delays only that
client. The server is idle while all clients are.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from procreaper.descriptors import NO_DESCRIPTOR_LEFT, RESERVE, limit_connections
from procreaper.errors import ProcreaperError, reason_of
from procreaper.remote.api.codec import decode_request, encode_error, encode_reply, find_id
from procreaper.remote.api.feed import Feed
from procreaper.remote.api.protocol import AnyRequest
from procreaper.remote.control.connection import Connection

Answer = Callable[[AnyRequest, Connection], Awaitable[Any]]
Begin = Callable[[Coroutine[Any, Any, bytes]], "asyncio.Task[bytes] | None"]

MOST_CLIENTS = 256
# If there are too many clients, a client that has been idle for this number of seconds is disconnected.
IDLE_FOR = 5.0
# The bytes that all followers together get in one round of the loop, and the least for each. A round must stay short.
MOST_AT_ONCE, LEAST_AT_ONCE = 1 << 18, 1 << 12
# If the system lacks resources for another client: the seconds until the next try, and the tries before it is refused.
OUT_OF_RESOURCES = frozenset({*NO_DESCRIPTOR_LEFT, errno.ENOBUFS, errno.ENOMEM})
RETRY_AFTER = 0.2
MOST_TRIES = 10
# The time for clients to read the remaining lines at the end, in seconds.
GOODBYE_LIMIT = 1.0


class Server:
    """Serves one app at a listening socket, from its creation until `end`; `close` closes that socket.

    `greeting` makes the first line for each client. `answers()` is called at the first request and returns the function
    that carries out a request: that function returns the result, or raises ProcreaperError if it has changed nothing.
    `begin` runs a coroutine as a task, or returns None if it is too late for that.
    """

    def __init__(
        self,
        listening: socket.socket,
        close: Callable[[], None],
        *,
        greeting: Callable[[], bytes],
        answers: Callable[[], Answer],
        begin: Begin,
        feed: Feed,
        most_clients: int = MOST_CLIENTS,
    ) -> None:
        self.feed = feed
        self.begin = begin
        self._listening = listening
        self._close = close
        self._greeting = greeting
        self._answers = answers
        self._answer: Answer | None = None
        self._most_clients = limit_connections(most_clients)
        self._connections: set[Connection] = set()
        self._last_left = asyncio.Event()
        # The number of failed attempts to accept the waiting client.
        self._tries = 0
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._accept)

    @property
    def clients(self) -> int:
        """The number of connected clients."""
        return len(self._connections)

    async def end(self, goodbye: Callable[[], bytes], patience: float = GOODBYE_LIMIT) -> None:
        """Accept no more clients, send all that is due, with a goodbye to followers, and close after `patience` seconds
        at most.
        """
        self._stop_listening()
        for connection in tuple(self._connections):
            connection.guarded(connection.end, goodbye)
        if self._connections:
            self._last_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._last_left.wait()
        self.close()

    def move(self, listening: socket.socket, close: Callable[[], None]) -> None:
        """Accept clients at another socket from now on, and close the old one; connected clients stay."""
        if self._ended:
            close()
            return
        self._loop.remove_reader(self._listening)
        self._close()
        self._listening, self._close = listening, close
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Close the socket and all connections at once. Call this however the app ends."""
        self._stop_listening()
        for connection in tuple(self._connections):
            connection.close()

    def share(self) -> int:
        """Return the number of bytes that one client may get in one round of the loop."""
        return max(LEAST_AT_ONCE, MOST_AT_ONCE // max(1, self.feed.readers))

    def left(self, connection: Connection) -> None:
        """Forget a connection that has closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._last_left.set()

    async def reply(self, line: bytes, connection: Connection) -> bytes:
        """Return the reply to one line, which may be invalid."""
        number: int | None = None
        try:
            number, request = decode_request(line)
            if self._answer is None:
                self._answer = self._answers()
            return encode_reply(number, await self._answer(request, connection))
        except ProcreaperError as error:
            return encode_error(number if number is not None else find_id(line), error)
        except Exception as error:
            hint = "this is a bug of procreaper, please report it"
            return encode_error(number, ProcreaperError(f"internal error: {type(error).__name__}: {error}", hint=hint))

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                self._accept_without_resources(error)
            return
        self._greet(accepted)

    def _accept_without_resources(self, shortage: OSError) -> None:
        """Accept the next client with a reserved descriptor. If the reserve is in use, try again later or refuse the
        client.
        """
        self._tries += 1
        lent = shortage.errno in NO_DESCRIPTOR_LEFT and RESERVE.is_full
        with suppress(OSError):
            if lent:
                with RESERVE.freed():
                    accepted, _ = self._listening.accept()
                return self._greet(accepted)
            if self._tries >= MOST_TRIES:
                self._tries = 0
                with RESERVE.freed():
                    accepted, _ = self._listening.accept()
                    return self._refuse(accepted, shortage)
        # The loop would call this all the time while the client waits.
        self._loop.remove_reader(self._listening)
        self._loop.call_later(RETRY_AFTER, self._listen_again)
        return None

    def _refuse(self, accepted: socket.socket, shortage: OSError) -> None:
        with accepted, suppress(OSError):
            accepted.setblocking(False)
            if _uid_of_peer(accepted) in (None, os.geteuid()):
                hint = "raise the limit (`ulimit -n`) before the app starts, or stop some of its processes"
                refusal = ProcreaperError(f"this app cannot accept another client: {reason_of(shortage)}", hint=hint)
                accepted.send(self._greeting() + encode_error(None, refusal))

    def _greet(self, accepted: socket.socket) -> None:
        self._tries = 0
        try:
            accepted.setblocking(False)
            if _uid_of_peer(accepted) not in (None, os.geteuid()):
                accepted.close()
                return
            accepted.send(self._greeting())
            if len(self._connections) < self._most_clients or self._make_room():
                self._connections.add(Connection(accepted, self))
                return

            message = f"this app has {len(self._connections)} clients already"
            accepted.send(encode_error(None, ProcreaperError(message, hint="close some of them")))
            accepted.close()
        except Exception:
            # An error in a callback of the loop would end the app; end this client instead.
            accepted.close()

    def _make_room(self) -> bool:
        """Close the client that has been idle for longest. Return whether there was one."""
        limit = self._loop.time() - IDLE_FOR
        idle = [connection for connection in self._connections if connection.is_idle and connection.active_at <= limit]
        if not idle:
            return False
        min(idle, key=lambda connection: connection.active_at).close()
        return True

    def _listen_again(self) -> None:
        if not self._ended:
            self._loop.add_reader(self._listening, self._accept)

    def _stop_listening(self) -> None:
        if not self._ended:
            self._ended = True
            self._loop.remove_reader(self._listening)
            self._close()


def _uid_of_peer(accepted: socket.socket) -> int | None:
    """Return the uid of the client; None if the system cannot report it, so that only the directory protects the
    socket.
    """
    if hasattr(socket, "SO_PEERCRED"):
        _, uid, _ = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(uid)
    if sys.platform == "darwin":
        # LOCAL_PEERCRED of SOL_LOCAL: a struct xucred, which starts with its version and the uid.
        _, uid = struct.unpack_from("II", accepted.getsockopt(0, 1, 76))
        return int(uid)
    return None
