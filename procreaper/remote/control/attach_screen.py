"""What somebody is shown who is attached from another terminal: sent as it comes, and drawn anew where too much came.

Rules: bounded; a client that does not read holds up nobody and costs no more than `MOST_WAITING` bytes. To leave out a
part of what a terminal is to show would wreck all that follows, so whoever is that far behind is shown the present.
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
        """Nothing: whoever types, or wants to leave, does not wait for what is still to be shown."""
        return iter(())

    def close(self) -> None:
        """The client is gone, or looks at something else."""
        self._left()
