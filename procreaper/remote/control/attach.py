"""To be at the terminal of a process from another one: what `attach`, `type` and `resize` mean for the running app.

Rules: a connection is attached to at most one terminal, for one run. For the next run, the client attaches again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from procreaper.errors import ProcreaperError
from procreaper.remote.api import protocol
from procreaper.remote.control.attach_screen import Screen
from procreaper.remote.control.connection import Connection, NoticeSource
from procreaper.runtime.child.console import Attachment
from procreaper.runtime.supervisor import Supervisor

# No terminal is larger, and none is empty.
LONGEST_SIDE = 1 << 12


class AttachedClient(NamedTuple):
    """Where a connection is."""

    name: str
    attachment: Attachment


class AttachedClients:
    """All connections that are attached to processes of the app of `owner`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._seats: dict[Connection, AttachedClient] = {}

    def attach(self, name: str, request: protocol.AttachRequest, connection: Connection) -> bool:
        """Show the terminal of this process, from the reply on; whether it shows the alternate screen.

        Raises ProcreaperError where it has none now.
        """
        if connection in self._seats:
            hint = "one connection is at one terminal"
            raise ProcreaperError(f"this connection is attached to `{self._seats[connection].name}` already", hint=hint)
        screens: list[Screen] = []
        attachment = self._supervisor.attach(
            name,
            lambda data: screens[0].show(data),
            _size(request.columns, request.lines),
            lambda reason: self._end(connection, screens[0], reason),
        )
        if attachment is None:
            raise self._refusal(name)

        def source(arrived: Callable[[], None]) -> NoticeSource:
            screens.append(Screen(arrived, attachment.picture_anew, lambda: self._leave(connection)))
            return screens[0]

        self._seats[connection] = AttachedClient(name, attachment)
        connection.tell(source)
        screens[0].show(attachment.picture())
        return attachment.alternate

    async def type(self, data: bytes, connection: Connection) -> None:
        """Type this. Raises ProcreaperError where it is not attached, and where it is not read."""
        seat = self._seat(connection)
        if not await seat.attachment.type(data):
            hint = "it is busy, stopped, or expects nothing"
            raise ProcreaperError(f"`{seat.name}` does not read what is typed", hint=hint)

    def resize(self, columns: int, lines: int, connection: Connection) -> None:
        """The terminal of the client has another size. Raises ProcreaperError where it is not attached."""
        self._seat(connection).attachment.resize(_size(columns, lines))

    def _seat(self, connection: Connection) -> AttachedClient:
        if connection not in self._seats:
            raise ProcreaperError("this connection is not attached, or not any more", hint="`attach` comes first")
        return self._seats[connection]

    def _leave(self, connection: Connection) -> None:
        seat = self._seats.pop(connection, None)
        if seat is not None:
            self._supervisor.detach(seat.name, seat.attachment)

    def _end(self, connection: Connection, screen: Screen, reason: str) -> None:
        self._seats.pop(connection, None)
        screen.end(reason)

    def _refusal(self, name: str) -> ProcreaperError:
        status, process = self._supervisor.status_of(name), self._supervisor.process(name)
        if not process.pty:
            hint = "`pty = true` in .reaper.toml, or start with --pty"
            return ProcreaperError(f"`{name}` has no terminal of its own", hint=hint)
        if status.pid is None:
            hint = f"`procreaper up {name}` starts it" if status.ended else "try again in a moment"
            reason = "" if status.reason == status.state else f" ({status.reason})"
            return ProcreaperError(f"`{name}` does not run: it is {status.state}{reason}", hint=hint)
        return ProcreaperError(
            f"`{name}` has lost its terminal", hint=f"`procreaper restart {name}` gives it a new one"
        )


def _size(columns: int, lines: int) -> os.terminal_size:
    return os.terminal_size((min(max(columns, 1), LONGEST_SIDE), min(max(lines, 1), LONGEST_SIDE)))
