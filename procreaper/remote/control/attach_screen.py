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
# What is encoded at once.
SLICE = 1 << 14


class Screen:
    """The source of a connection; `arrived` is called when there is something to read again.

    `draw_anew()` makes what has a terminal show the present, whatever it has shown before.
    """

    def __init__(self, arrived: Callable[[], None], draw_anew: Callable[[], bytes], left: Callable[[], None]) -> None:
        self._arrived = arrived
        self._draw_anew = draw_anew
        self._left = left
        self._waiting = bytearray()
        self._missed = False
        self._reason: str | None = None

    def show(self, data: bytes) -> None:
        """Something is shown."""
        if self._missed:
            return
        if len(self._waiting) + len(data) > MOST_WAITING:
            self._missed = True
            return
        self._waiting += data
        self._arrived()

    def end(self, reason: str) -> None:
        """The run is over: nothing more is shown."""
        self._reason = reason
        self._missed = False
        self._arrived()

    def read(self) -> bytes | None:
        """The next notice, encoded; None where there is none, until `arrived` is called."""
        if not self._waiting and self._missed:
            self._missed = False
            self._waiting += self._draw_anew()
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
        """The client is gone, or looks at something else."""
        self._left()
