"""Attached clients: the meaning of `attach`, `type` and `resize` for the running app.

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

# The largest number of columns or lines; the smallest is 1.
LONGEST_SIDE = 1 << 12


class AttachedClient(NamedTuple):
    """The process that a connection is attached to."""

    name: str
    attachment: Attachment


class AttachedClients:
    """All connections that are attached to processes of the app."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._clients: dict[Connection, AttachedClient] = {}

    def attach(self, name: str, request: protocol.AttachRequest, connection: Connection) -> bool:
        """Show the terminal of this process, after the reply. Return whether it shows the alternate screen.

        Raises ProcreaperError if the process has no terminal now.
        """
        if connection in self._clients:
            hint = "a connection can be attached to one terminal"
            raise ProcreaperError(
                f"this connection is attached to `{self._clients[connection].name}` already", hint=hint
            )
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

        self._clients[connection] = AttachedClient(name, attachment)
        connection.follow_source(source)
        screens[0].show(attachment.picture())
        return attachment.alternate

    async def type(self, data: bytes, connection: Connection) -> None:
        """Type these bytes. Raises ProcreaperError if the connection is not attached, or if the process does not read
        them.
        """
        client = self._find_client(connection)
        if not await client.attachment.type(data):
            hint = "it is busy, stopped, or expects nothing"
            raise ProcreaperError(f"`{client.name}` does not read what is typed", hint=hint)

    def resize(self, columns: int, lines: int, connection: Connection) -> None:
        """Set the size of the client's terminal. Raises ProcreaperError if the connection is not attached."""
        self._find_client(connection).attachment.resize(_size(columns, lines))

    def _find_client(self, connection: Connection) -> AttachedClient:
        if connection not in self._clients:
            raise ProcreaperError("this connection is not attached to a terminal", hint="send `attach` first")
        return self._clients[connection]

    def _leave(self, connection: Connection) -> None:
        client = self._clients.pop(connection, None)
        if client is not None:
            self._supervisor.detach(client.name, client.attachment)

    def _end(self, connection: Connection, screen: Screen, reason: str) -> None:
        self._clients.pop(connection, None)
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
