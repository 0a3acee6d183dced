"""The app's end of the control socket: lets clients in, and answers each line with exactly one reply.

Rules: knows nothing of the app; it is given functions. Whatever a client sends, or does not read, delays only that
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
# If there are too many clients, one that has been idle for this number of seconds is disconnected.
IDLE_FOR = 5.0
# What all followers together are sent in one round of the loop, and what each of them is at least; it must stay short.
MOST_AT_ONCE, LEAST_AT_ONCE = 1 << 18, 1 << 12
# Where the system has nothing left for another client: seconds until the next try, and tries before it is refused.
SCARCE = frozenset({*NO_DESCRIPTOR_LEFT, errno.ENOBUFS, errno.ENOMEM})
PAUSE = 0.2
MOST_TRIES = 10
# How long clients are given at the end to read what is left for them, in seconds.
LAST_WORDS = 1.0


class Server:
    """Serves one app at a socket that listens, from its making to its `end`; `close` then closes that socket.

    `greeting` is the first line for every client. `answers()` is called when the first one comes, and makes the
    function that carries out a request: it returns the result, or raises ProcreaperError where nothing was done.
    `begin` runs a coroutine beside all else, or returns None where it is too late for that.
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
        # How often the client that waits could not be let in.
        self._tries = 0
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._accept)

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._connections)

    async def end(self, farewell: Callable[[], bytes], patience: float = LAST_WORDS) -> None:
        """Accept no more clients, send all that is due, with a farewell to followers, and close."""
        self._stop_listening()
        for connection in tuple(self._connections):
            connection.guarded(connection.end, farewell)
        if self._connections:
            self._last_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._last_left.wait()
        self.close()

    def move(self, listening: socket.socket, close: Callable[[], None]) -> None:
        """Let clients in at another socket from now on, and close the one before; clients that are connected stay."""
        if self._ended:
            close()
            return
        self._loop.remove_reader(self._listening)
        self._close()
        self._listening, self._close = listening, close
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Close everything at once; to be called however the app ends."""
        self._stop_listening()
        for connection in tuple(self._connections):
            connection.close()

    def share(self) -> int:
        """How many bytes one client may be sent in one round of the loop."""
        return max(LEAST_AT_ONCE, MOST_AT_ONCE // max(1, self.feed.readers))

    def left(self, connection: Connection) -> None:
        """A client is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._last_left.set()

    async def reply(self, line: bytes, connection: Connection) -> bytes:
        """The reply to one line, whatever it says."""
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
            if error.errno in SCARCE:
                self._accept_in_need(error)
            return
        self._welcome(accepted)

    def _accept_in_need(self, lack: OSError) -> None:
        """Let the next client in with a descriptor of the reserve; where that is in use, try again, or refuse it."""
        self._tries += 1
        lent = lack.errno in NO_DESCRIPTOR_LEFT and RESERVE.is_full
        with suppress(OSError):
            if lent:
                with RESERVE.freed():
                    accepted, _ = self._listening.accept()
                return self._welcome(accepted)
            if self._tries >= MOST_TRIES:
                self._tries = 0
                with RESERVE.freed():
                    accepted, _ = self._listening.accept()
                    return self._refuse(accepted, lack)
        # The loop would call again and again as long as the client waits.
        self._loop.remove_reader(self._listening)
        self._loop.call_later(PAUSE, self._listen_again)
        return None

    def _refuse(self, accepted: socket.socket, lack: OSError) -> None:
        with accepted, suppress(OSError):
            accepted.setblocking(False)
            if _uid_of_peer(accepted) in (None, os.geteuid()):
                hint = "raise the limit (`ulimit -n`) before the app starts, or stop some processes of it"
                refusal = ProcreaperError(f"this app cannot let another client in: {reason_of(lack)}", hint=hint)
                accepted.send(self._greeting() + encode_error(None, refusal))

    def _welcome(self, accepted: socket.socket) -> None:
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
            # It is the client that goes, not the app: in a callback of the loop that would be the end of it.
            accepted.close()

    def _make_room(self) -> bool:
        """Close the client that has been idle for longest, if there is one."""
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
    """Who is at the other end; None where the system does not tell, and the directory has to do."""
    if hasattr(socket, "SO_PEERCRED"):
        _, uid, _ = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(uid)
    if sys.platform == "darwin":
        # LOCAL_PEERCRED of SOL_LOCAL: a struct xucred, which begins with its version and the uid.
        _, uid = struct.unpack_from("II", accepted.getsockopt(0, 1, 76))
        return int(uid)
    return None
