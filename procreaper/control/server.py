"""The app's end of the control socket: lets clients in, answers each line with exactly one reply, and tells followers.

Rules: knows nothing of the app; it is given functions. Whatever a client sends, or does not read, holds up nobody but
that client. Nothing happens here while no client does anything, and the protocol is imported when the first one comes.

Theory of operation. Sockets are read and written in callbacks of the loop, a bounded amount at a time. The lines of one
client are handled one after another, each in a task of the owner's. While a reply is not read, its client is read no
further. Replies go out before notices, but for notices of what had happened before; and no notice is asked of the feed
before there is room for it in the socket: so a client that does not read costs no more than what the feed keeps for
all. A client that ends its half of the connection is answered what it has asked, and then left.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from procreaper.control.feed import Feed, Line, Reader
from procreaper.errors import ProcreaperError

if TYPE_CHECKING:
    from procreaper.control.protocol import AnyRequest

Answer = Callable[["AnyRequest", "Connection"], Awaitable[Any]]
Begin = Callable[[Coroutine[Any, Any, bytes]], "asyncio.Task[bytes] | None"]

MOST_CLIENTS = 256
READ_SIZE = 1 << 16
# What is sent to all followers in one round of the loop, at most and about; a round must stay short.
MOST_AT_ONCE, LEAST_AT_ONCE = 1 << 18, 1 << 12
# Small notices are sent together, up to so many bytes.
SENT_TOGETHER = 1 << 15
# What nothing can be accepted without is missing: look again after so many seconds.
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE = 1.0
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
        self._most_clients = min(most_clients, _descriptors() // 4)
        self._connections: set[Connection] = set()
        self._last_left = asyncio.Event()
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._accept)

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._connections)

    async def end(self, farewell: Callable[[], bytes], patience: float = LAST_WORDS) -> None:
        """Let nobody in any more, send all what is left for them, to followers a farewell, and close."""
        self._stop_listening()
        for connection in tuple(self._connections):
            connection.end(farewell)
        if self._connections:
            self._last_left.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._last_left.wait()
            except TimeoutError:
                pass
        self.close()

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
            number, request = _understand(line)
            if self._answer is None:
                self._answer = self._answers()
            return _encode(number, await self._answer(request, connection))
        except ProcreaperError as error:
            return _encode_error(number if number is not None else _find_id(line), error)
        except Exception as error:
            hint = "this is a bug of procreaper, please report it"
            return _encode_error(number, ProcreaperError(f"internal error: {type(error).__name__}: {error}", hint=hint))

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:
            if error.errno in SCARCE:
                # It would be told again and again that somebody waits.
                self._loop.remove_reader(self._listening)
                self._loop.call_later(PAUSE, self._listen_again)
            return
        try:
            accepted.setblocking(False)
            if _uid_of_peer(accepted) not in (None, os.geteuid()):
                accepted.close()
                return
            accepted.send(self._greeting())
            if len(self._connections) < self._most_clients:
                self._connections.add(Connection(accepted, self))
                return
            message = f"this app has {len(self._connections)} clients already"
            accepted.send(_encode_error(None, ProcreaperError(message, hint="close some of them")))
            accepted.close()
        except Exception:
            # It is the client that goes, not the app: in a callback of the loop that would be the end of it.
            accepted.close()

    def _listen_again(self) -> None:
        if not self._ended:
            self._loop.add_reader(self._listening, self._accept)

    def _stop_listening(self) -> None:
        if not self._ended:
            self._ended = True
            self._loop.remove_reader(self._listening)
            self._close()


class Connection:
    """One client, as far as the handlers of requests may know it."""

    def __init__(self, accepted: socket.socket, server: Server) -> None:
        self._socket = accepted
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        # How much of what has come is known to have no end of a line.
        self._searched = 0
        self._outgoing: deque[Iterator[bytes]] = deque()
        self._piece = memoryview(b"")
        # Whether that is, or ends, what the client was owed.
        self._owes = False
        self._task: asyncio.Task[bytes] | None = None
        self._reader: Reader | None = None
        # What begins behind the reply to the request that is being handled.
        self._behind: list[tuple[Iterable[bytes], Reader | None]] = []
        self._farewell: Callable[[], bytes] | None = None
        self._closers: list[Callable[[], None]] = []
        self._reads = self._writes = False
        self._finished = self._ending = self._too_long = self.closed = False
        self._regard()

    # For the handlers.

    def follow(
        self,
        wants: Callable[[Line], bool] | None,
        missed: Callable[[int, int], Iterable[bytes]],
        before: Iterable[bytes],
    ) -> None:
        """Behind the reply send what was `before`, and then what is `wanted` of the feed, from this moment on.

        This takes the place of what was followed so far; None follows nothing.
        """
        reader = None if wants is None else self._server.feed.follow(wants, missed, self._write_soon)
        self._behind.append((before, reader))

    def send(self, lines: Iterable[bytes]) -> None:
        """Send these lines before all that waits in the feed; behind the reply, while a request is handled."""
        if self._task is not None:
            self._behind.append((lines, self._reader))
        else:
            self._outgoing.append(iter(lines))
            self._write_soon()

    @property
    def has_room(self) -> bool:
        """Whether the client has read all that it was sent, but for the feed."""
        return not self._outgoing and not self._owes

    def when_closed(self, closer: Callable[[], None]) -> None:
        """Call this when the client is gone; at once, if it is."""
        if self.closed:
            closer()
        else:
            self._closers.append(closer)

    def close(self) -> None:
        """Part from the client at once."""
        if self.closed:
            return
        self.closed = True
        self._regard()
        self._socket.close()
        readers = [self._reader, *(reader for _, reader in self._behind)]
        for reader in readers:
            if reader is not None:
                reader.close()
        self._reader = None
        self._behind.clear()
        self._outgoing.clear()
        self._incoming.clear()
        self._server.left(self)
        for closer in self._closers:
            closer()

    # For the server.

    def end(self, farewell: Callable[[], bytes]) -> None:
        """Send what is left, with the farewell behind it for a follower, and close."""
        self._ending = True
        self._farewell = farewell
        self._advance()
        self._write_soon()

    def _regard(self) -> None:
        """Have the loop look at what we wait for, and at nothing else."""
        full = self._task is not None and len(self._incoming) > READ_SIZE
        reads = not (self.closed or self._finished or self._ending or self._too_long or full or not self.has_room)
        if reads is not self._reads:
            self._reads = reads
            if reads:
                self._loop.add_reader(self._socket, self._guarded, self._read)
            else:
                self._loop.remove_reader(self._socket)

    def _write_soon(self) -> None:
        if not self._writes and not self.closed:
            self._writes = True
            self._loop.add_writer(self._socket, self._guarded, self._write)

    def _guarded(self, act: Callable[[], None]) -> None:
        """No error in a callback of the loop may reach those who supervise."""
        try:
            act()
        except Exception:
            self.close()

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        self._incoming += data
        self._finished = not data
        self._advance()

    def _advance(self) -> None:
        """Handle the next line, if it is time for it."""
        if self._task is None and self.has_room and not (self.closed or self._too_long):
            line = self._next_line()
            if line is not None:
                self._task = None if self._ending else self._server.begin(self._server.reply(line, self))
                if self._task is None:
                    self._reply(_too_late(line))
                else:
                    self._task.add_done_callback(lambda task: self._guarded(lambda: self._handled(line, task)))
            elif self._finished or self._ending:
                # Nothing more will be asked; what is still to be sent is.
                self._write_soon()
        self._regard()

    def _next_line(self) -> bytes | None:
        from procreaper.control.protocol import LONGEST_LINE

        end = self._incoming.find(b"\n", self._searched)
        self._searched = len(self._incoming) if end < 0 else 0
        if (len(self._incoming) if end < 0 else end) > LONGEST_LINE:
            self._too_long = True
            self._incoming.clear()
            message = f"a line is longer than {LONGEST_LINE} bytes"
            self._reply(_encode_error(None, ProcreaperError(message, hint="the connection ends here")))
            return None
        if end < 0:
            return None
        line = bytes(self._incoming[:end])
        del self._incoming[: end + 1]
        return line

    def _handled(self, line: bytes, task: asyncio.Task[bytes]) -> None:
        self._task = None
        if not self.closed:
            self._reply(_too_late(line) if task.cancelled() else task.result())

    def _reply(self, data: bytes) -> None:
        if self._reader is not None:
            # What has happened before the reply is told before it: whoever asks and waits must not take what was
            # so before for what came of it.
            self._outgoing.append(self._reader.until_now())
        self._outgoing.append(iter((data,)))
        for lines, reader in self._behind:
            self._outgoing.append(iter(lines))
            if reader is not self._reader:
                if self._reader is not None:
                    self._reader.close()
                self._reader = reader
        self._behind.clear()
        self._write_soon()
        self._regard()

    def _write(self) -> None:
        budget = self._server.share()
        while budget > 0:
            if not self._piece and not self._take():
                self._rest()
                return
            try:
                sent = self._socket.send(self._piece)
            except BlockingIOError:
                return
            self._piece = self._piece[sent:]
            budget -= sent

    def _take(self) -> bool:
        """Take what is sent next: what is owed, and then what is told; False where there is nothing."""
        self._owes = False
        pieces = _gather(self._next_owed)
        if not pieces:
            self._advance()
            pieces = _gather(self._next_owed)
        self._owes = bool(pieces)
        if not pieces:
            pieces = _gather(self._next_told)
        self._piece = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return bool(pieces)

    def _next_owed(self) -> bytes | None:
        while self._outgoing:
            piece = next(self._outgoing[0], None)
            if piece is not None:
                return piece
            self._outgoing.popleft()
        return None

    def _next_told(self) -> bytes | None:
        if self._reader is None:
            return None
        piece = self._reader.read()
        if piece is None and self._farewell is not None and self._task is None and b"\n" not in self._incoming:
            piece, self._farewell = self._farewell(), None
        return piece

    def _rest(self) -> None:
        """All has been sent: wait, or part."""
        self._loop.remove_writer(self._socket)
        self._writes = False
        if self._too_long or (self._task is None and (self._finished or self._ending)):
            self.close()


def _gather(take: Callable[[], bytes | None]) -> list[bytes]:
    """Small pieces are sent together."""
    pieces: list[bytes] = []
    size = 0
    while size < SENT_TOGETHER and (piece := take()) is not None:
        pieces.append(piece)
        size += len(piece)
    return pieces


def _understand(line: bytes) -> tuple[int, AnyRequest]:
    """The request and its id. Raises ProcreaperError where it is none."""
    import msgspec

    from procreaper.control.protocol import AnyRequest

    try:
        request = msgspec.json.decode(line, type=AnyRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)
        hint = 'one JSON object a line, for example {"request":"status","id":1}'
        raise ProcreaperError(f"this is no request: {reason[:1].lower()}{reason[1:]}", hint=hint) from error
    if not _is_id(request.id):
        raise ProcreaperError("this is no request: its `id` has more than 64 bits", hint="count from 1")
    return request.id, request


def _find_id(line: bytes) -> int | None:
    """The id in a line that is no request of ours."""
    import msgspec

    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    number = found.get("id") if isinstance(found, dict) else None
    return number if _is_id(number) else None


def _is_id(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and -(2**63) <= number < 2**63


def _encode(number: int, result: Any) -> bytes:
    import msgspec

    from procreaper.control.protocol import Reply

    return msgspec.json.encode(Reply(number, {} if result is None else result)) + b"\n"


def _encode_error(number: int | None, error: ProcreaperError) -> bytes:
    import msgspec

    from procreaper.control.protocol import Failure, Reply

    problems = tuple(_readable(str(problem)) for problem in getattr(error, "problems", ()))
    hint = None if error.hint is None else _readable(error.hint)
    return msgspec.json.encode(Reply(number, error=Failure(_readable(error.message), hint, problems))) + b"\n"


def _readable(text: str) -> str:
    """A text without lone surrogates, which stand for bytes that are no UTF-8, and which JSON cannot hold."""
    return text.encode(errors="surrogatepass").decode(errors="replace")


def _too_late(line: bytes) -> bytes:
    return _encode_error(
        _find_id(line), ProcreaperError("the app has ended", hint="`procreaper start` starts it again")
    )


def _descriptors() -> int:
    """How many files we may have open."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CLIENTS * 4 if soft == resource.RLIM_INFINITY else soft


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
