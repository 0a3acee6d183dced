"""One client: reads its lines, answers them one after another, and sends the notices that it follows.

Rules: no error leaves the connection. The cost of a client is bounded, whatever it sends or does not read.

Theory of operation. Callbacks of the loop read and write the socket, a bounded amount at a time. Each line is handled
in a task of the supervisor. The next line is handled once the client has taken the reply; until then little more is
read. Data that is *due* (replies, and the notices from before them) is sent first. Other *notices* are read from the
feed only when the socket has room for them, so a client that does not read costs no more than what the feed keeps for
all clients. A client that shuts down its half of the connection gets the replies to its requests; then the connection
closes.
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
# Small pieces are sent together, up to this number of bytes.
SENT_TOGETHER = 1 << 15
# Linux's struct ucred: pid, uid and gid.
CREDENTIALS = struct.Struct("3i")


class Host(Protocol):
    """The server, as a connection sees it."""

    feed: Feed

    def begin(self, work: Coroutine[Any, Any, bytes], /) -> asyncio.Task[bytes] | None:
        """Run this coroutine as a task; return None if it is too late for that."""

    def reply(self, line: bytes, connection: Connection, /) -> Coroutine[Any, Any, bytes]:
        """Return the reply to a line, which may be invalid."""

    def share(self) -> int:
        """Return the number of bytes that one client may get in one round of the loop."""

    def left(self, connection: Connection, /) -> None:
        """Forget this connection, which has closed."""


class NoticeSource(Protocol):
    """The notices for a client, besides the replies. It is read only when the socket has room."""

    def read(self) -> bytes | None:
        """Return the next notice, encoded, or None."""

    def until_now(self) -> Iterator[bytes]:
        """Yield the notices so far that have to be sent before a reply."""

    def close(self) -> None:
        """Release the source; it is not read again."""


class Connection:
    """One client, as the handlers of requests see it."""

    def __init__(self, accepted: socket.socket, server: Host) -> None:
        self._socket = accepted
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        # The first bytes of `_incoming` without a newline, so that they are searched only once.
        self._searched = 0
        self._outgoing: deque[Iterator[bytes]] = deque()
        self._piece = memoryview(b"")
        # Whether `_piece` is data that is due.
        self._is_due = False
        self._task: asyncio.Task[bytes] | None = None
        self._source: NoticeSource | None = None
        # Lines to send after the reply to the current request, and the source of the notices from then on.
        self._behind: list[Iterable[bytes]] = []
        self._followed: list[NoticeSource | None] = []
        # Whether the client gets a goodbye at the end of the app.
        self._stays = False
        self._goodbye: Callable[[], bytes] | None = None
        self._reads = self._writes = False
        self._finished = self._ending = self._too_long = self.closed = False
        # The time of the last request or reply, on the clock of the loop, in seconds.
        self.active_at = self._loop.time()
        self._update_reading()

    # For the handlers.

    @property
    def pid(self) -> int | None:
        """The pid of the client, or None if the system cannot report it."""
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
        """Call this while a request is handled: after the reply, send the lines in `before`, then wanted lines from now
        on.

        This replaces the source that the client followed so far. With `wants` None, the client follows nothing.
        """
        self._followed.append(None if wants is None else self._server.feed.follow(wants, missed, self._write_soon))
        self._behind.append(before)

    def follow_source(self, source: Callable[[Callable[[], None]], NoticeSource]) -> None:
        """Call this while a request is handled: after the reply, send the notices of this source.

        This replaces the source that the client followed so far. `source` is called with the function that the new
        source has to call when it has something to read again.
        """
        self._followed.append(source(self._write_soon))

    @property
    def has_room(self) -> bool:
        """Whether the client has read all replies; notices of the feed do not count."""
        return not self._outgoing and not self._is_due

    def close(self) -> None:
        """Close the connection at once."""
        if self.closed:
            return
        self.closed = True
        self._update_reading()
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
        """Whether the client waits for nothing: no reply and no notice."""
        return self._task is None and self._source is None and self.has_room

    def end(self, goodbye: Callable[[], bytes]) -> None:
        """Send all that is due, then the goodbye to a follower, and close."""
        self._ending = True
        self._goodbye = goodbye
        self._advance()
        self._write_soon()

    def _update_reading(self) -> None:
        """Register with the loop for reading, or stop reading, as the current state requires."""
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
        """Call a function; on an error close the connection, because the error would end the app."""
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
        """Handle the next line, if the client may have another reply."""
        if self._task is None and self.has_room and not (self.closed or self._too_long):
            line = self._next_line()
            if line is not None:
                self._task = None if self._ending else self._server.begin(self._server.reply(line, self))
                if self._task is None:
                    self._reply(encode_too_late(line))
                else:
                    self._task.add_done_callback(lambda task: self.guarded(self._finish_request, line, task))
            elif self._finished or self._ending:
                # There will be no more requests; send the rest.
                self._write_soon()
        self._update_reading()

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

    def _finish_request(self, line: bytes, task: asyncio.Task[bytes]) -> None:
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
        self._update_reading()

    def _leave_source(self) -> None:
        for source in (self._source, *self._followed):
            if source is not None:
                source.close()
        self._source = None
        self._followed.clear()

    def _write(self) -> None:
        budget = self._server.share()
        while budget > 0:
            if not self._piece and not self._take_piece(min(budget, SENT_TOGETHER)):
                self._stop_writing()
                return
            try:
                sent = self._socket.send(self._piece)
            except BlockingIOError:
                return
            self._piece = self._piece[sent:]
            budget -= sent

    def _take_piece(self, most: int) -> bool:
        """Take the data to send next: first what is due, then notices. Return False if there is none."""
        self._is_due = False
        pieces = _gather(self._next_due, most)
        if not pieces:
            self._advance()
            pieces = _gather(self._next_due, most)
        self._is_due = bool(pieces)
        if not pieces:
            pieces = _gather(self._next_notice, most)
        self._piece = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return bool(pieces)

    def _next_due(self) -> bytes | None:
        while self._outgoing:
            piece = next(self._outgoing[0], None)
            if piece is not None:
                return piece
            self._outgoing.popleft()
        return None

    def _next_notice(self) -> bytes | None:
        piece = None if self._source is None else self._source.read()
        if piece is None and self._stays and self._goodbye is not None and b"\n" not in self._incoming:
            piece, self._goodbye = self._goodbye(), None
        return piece

    def _stop_writing(self) -> None:
        """All data has been sent: stop writing, and close if the connection has ended."""
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
