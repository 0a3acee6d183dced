"""One client: its lines are read, answered one after another, and what it follows is sent.

Rules: no error goes beyond the client; what it costs is bounded, whatever it sends or does not read.

Theory of operation. The socket is read and written in callbacks of the loop, a bounded amount at a time. Each line is
handled in a task of the owner's, the next one when the reply to it has been taken; until then little more is read. What
is *owed*, replies with what had happened before them, goes out before what is *told*, asked of the feed only when there
is room for it in the socket: so a client that does not read costs no more than what the feed keeps for all. A client
that ends its half of the connection is answered what it has asked, and then left.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Protocol

from procreaper.errors import ProcreaperError
from procreaper.remote.api.codec import encode_error, encode_too_late
from procreaper.remote.api.feed import Feed, Line
from procreaper.remote.api.protocol import LONGEST_LINE

READ_SIZE = 1 << 16
# Small notices are sent together, up to this number of bytes.
SENT_TOGETHER = 1 << 15
# Linux's struct ucred: pid, uid and gid.
CREDENTIALS = struct.Struct("3i")


class Host(Protocol):
    """What a connection needs of its server."""

    feed: Feed

    def begin(self, work: Coroutine[Any, Any, bytes], /) -> asyncio.Task[bytes] | None:
        """Run this beside all else; None where it is too late."""

    def reply(self, line: bytes, connection: Connection, /) -> Coroutine[Any, Any, bytes]:
        """The reply to a line, whatever it says."""

    def share(self) -> int:
        """How many bytes one client may be sent in one round of the loop."""

    def left(self, connection: Connection, /) -> None:
        """This client is gone."""


class NoticeSource(Protocol):
    """What a client is told, beside the replies: asked for only when there is room for it in the socket."""

    def read(self) -> bytes | None:
        """What comes next; None where there is nothing."""

    def until_now(self) -> Iterator[bytes]:
        """What has happened so far and is to be told before a reply."""

    def close(self) -> None:
        """Nothing more is asked for."""


class Connection:
    """One client, as far as the handlers of requests may know it."""

    def __init__(self, accepted: socket.socket, server: Host) -> None:
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
        self._source: NoticeSource | None = None
        # What follows the reply to the request that is being handled, and what is followed from then on.
        self._behind: list[Iterable[bytes]] = []
        self._followed: list[NoticeSource | None] = []
        # Whether the client is to be told of the end of the app.
        self._stays = False
        self._farewell: Callable[[], bytes] | None = None
        self._reads = self._writes = False
        self._finished = self._ending = self._too_long = self.closed = False
        # When it last asked for something, or got a reply, in seconds of the loop's clock.
        self.active_at = self._loop.time()
        self._regard()

    # For the handlers.

    @property
    def pid(self) -> int | None:
        """The pid of the client, where the system tells it."""
        if not hasattr(socket, "SO_PEERCRED"):
            return None
        try:
            credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        except OSError:
            return None
        pid, _, _ = CREDENTIALS.unpack(credentials)
        return int(pid) or None

    def follow(
        self,
        wants: Callable[[Line], bool] | None,
        missed: Callable[[int, int], Iterable[bytes]],
        before: Iterable[bytes],
    ) -> None:
        """While a request is handled: behind the reply send what was `before`, then what is wanted from this moment on.

        This takes the place of what was followed so far; None follows nothing.
        """
        self._followed.append(None if wants is None else self._server.feed.follow(wants, missed, self._write_soon))
        self._behind.append(before)

    def tell(self, source: Callable[[Callable[[], None]], NoticeSource]) -> None:
        """While a request is handled: tell what this source has, behind the reply, in place of what is followed so far.

        It is made with what it has to call when there is something to read again.
        """
        self._followed.append(source(self._write_soon))

    @property
    def has_room(self) -> bool:
        """Whether the client has read all that it was sent, but for the feed."""
        return not self._outgoing and not self._owes

    def close(self) -> None:
        """Part from the client at once."""
        if self.closed:
            return
        self.closed = True
        self._regard()
        if self._writes:
            self._loop.remove_writer(self._socket)
        self._socket.close()
        self._leave_source()
        self._behind.clear()
        self._outgoing.clear()
        self._incoming.clear()
        self._server.left(self)

    # For the server.

    @property
    def is_idle(self) -> bool:
        """Whether the client waits for nothing: neither for a reply nor for what it follows."""
        return self._task is None and self._source is None and self.has_room

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
                self._loop.add_reader(self._socket, self.guarded, self._read)
            else:
                self._loop.remove_reader(self._socket)

    def _write_soon(self) -> None:
        if not self._writes and not self.closed:
            self._writes = True
            self._loop.add_writer(self._socket, self.guarded, self._write)

    def guarded(self, act: Callable[..., None], *arguments: object) -> None:
        """No error in a callback of the loop may reach those who supervise."""
        try:
            act(*arguments)
        except Exception:
            self.close()

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        self._incoming += data
        self._finished = not data
        self.active_at = self._loop.time()
        self._advance()

    def _advance(self) -> None:
        """Handle the next line, if it is time for it."""
        if self._task is None and self.has_room and not (self.closed or self._too_long):
            line = self._next_line()
            if line is not None:
                self._task = None if self._ending else self._server.begin(self._server.reply(line, self))
                if self._task is None:
                    self._reply(encode_too_late(line))
                else:
                    self._task.add_done_callback(lambda task: self.guarded(self._handled, line, task))
            elif self._finished or self._ending:
                # Nothing more will be asked; what is still to be sent is.
                self._write_soon()
        self._regard()

    def _next_line(self) -> bytes | None:
        end = self._incoming.find(b"\n", self._searched)
        self._searched = len(self._incoming) if end < 0 else 0
        if (len(self._incoming) if end < 0 else end) > LONGEST_LINE:
            self._too_long = True
            self._incoming.clear()
            message = f"a line is longer than {LONGEST_LINE} bytes"
            self._reply(encode_error(None, ProcreaperError(message, hint="the connection ends here")))
            return None
        if end < 0:
            return None
        line = bytes(self._incoming[:end])
        del self._incoming[: end + 1]
        return line

    def _handled(self, line: bytes, task: asyncio.Task[bytes]) -> None:
        self._task = None
        self.active_at = self._loop.time()
        if not self.closed:
            self._reply(encode_too_late(line) if task.cancelled() else task.result())

    def _reply(self, data: bytes) -> None:
        if self._source is not None:
            # Notices from before the reply are sent before it: a client that waits for an effect must not take an
            # earlier state for the effect.
            self._outgoing.append(self._source.until_now())
        self._outgoing.append(iter((data,)))
        self._outgoing.extend(iter(lines) for lines in self._behind)
        self._behind.clear()
        if self._followed:
            last = self._followed.pop()
            self._leave_source()
            self._source = last
            self._stays = self._stays or last is not None
        self._write_soon()
        self._regard()

    def _leave_source(self) -> None:
        for source in (self._source, *self._followed):
            if source is not None:
                source.close()
        self._source = None
        self._followed.clear()

    def _write(self) -> None:
        budget = self._server.share()
        while budget > 0:
            if not self._piece and not self._take(min(budget, SENT_TOGETHER)):
                self._rest()
                return
            try:
                sent = self._socket.send(self._piece)
            except BlockingIOError:
                return
            self._piece = self._piece[sent:]
            budget -= sent

    def _take(self, most: int) -> bool:
        """Take the data to send next: first replies, then notices. Return False if there is none."""
        self._owes = False
        pieces = _gather(self._next_owed, most)
        if not pieces:
            self._advance()
            pieces = _gather(self._next_owed, most)
        self._owes = bool(pieces)
        if not pieces:
            pieces = _gather(self._next_told, most)
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
        piece = None if self._source is None else self._source.read()
        if piece is None and self._stays and self._farewell is not None and b"\n" not in self._incoming:
            piece, self._farewell = self._farewell(), None
        return piece

    def _rest(self) -> None:
        """All has been sent: wait, or part."""
        self._loop.remove_writer(self._socket)
        self._writes = False
        if self._too_long or (self._task is None and (self._finished or self._ending)):
            self.close()


def _gather(take: Callable[[], bytes | None], most: int) -> list[bytes]:
    """Collect small pieces, up to about `most` bytes."""
    pieces: list[bytes] = []
    size = 0
    while size < most and (piece := take()) is not None:
        pieces.append(piece)
        size += len(piece)
    return pieces
