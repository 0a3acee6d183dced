"""The output for a client that is attached from another terminal: sent as it comes, or redrawn if it was too much.

Rules: bounded; a client that does not read delays nothing and costs at most `MOST_WAITING` bytes. A gap in the output
of a terminal would garble all that follows, so a client that is too far behind gets the current screen instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec

from procreaper.remote.api.protocol import ScreenNotice, TerminalClosedNotice

MOST_WAITING = 1 << 20
# The bytes that are encoded at once.
SLICE = 1 << 14


class Screen:
    """The notices for an attached connection; `arrived` is called when there is something to read again.

    `redraw()` returns the escape sequences that make a terminal show the current screen, whatever it shows now.
    `left` is called when the client has gone.
    """

    def __init__(self, arrived: Callable[[], None], redraw: Callable[[], bytes], left: Callable[[], None]) -> None:
        self._arrived = arrived
        self._redraw = redraw
        self._left = left
        self._waiting = bytearray()
        self._missed = False
        self._reason: str | None = None

    def show(self, data: bytes) -> None:
        """Add output of the terminal."""
        if self._missed:
            return
        if len(self._waiting) + len(data) > MOST_WAITING:
            self._missed = True
            return
        self._waiting += data
        self._arrived()

    def end(self, reason: str) -> None:
        """The run has ended: add a last notice with the reason."""
        self._reason = reason
        self._missed = False
        self._arrived()

    def read(self) -> bytes | None:
        """Return the next notice, encoded. Return None if there is none; then `arrived` is called when the next one
        comes.
        """
        if not self._waiting and self._missed:
            self._missed = False
            self._waiting += self._redraw()
        if self._waiting:
            data = bytes(self._waiting[:SLICE])
            del self._waiting[:SLICE]
            return msgspec.json.encode(ScreenNotice(time.time(), data)) + b"\n"
        if self._reason is not None:
            notice = TerminalClosedNotice(time.time(), self._reason)
            self._reason = None
            return msgspec.json.encode(notice) + b"\n"
        return None

    def until_now(self) -> Iterator[bytes]:
        """Return nothing: typing and leaving do not wait for output."""
        return iter(())

    def close(self) -> None:
        """The client has gone, or follows something else."""
        self._left()
