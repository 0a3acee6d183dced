"""Open the control socket of the app, through which other terminals control it.

Rules: the first child does not wait for the socket. If the socket cannot be opened, the app runs without it. The server
is imported when the first client connects.

A cleaner of /tmp, or a logout, may remove the socket while the app runs. Then the app makes another one, shortly after.
On Linux inotify reports the removal, so the app need not look. Elsewhere, and after a failure, the app looks whenever a
run begins or ends.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from procreaper import __version__
from procreaper.cli.messages import print_error
from procreaper.core.events import Notice, RunBegan, RunEnded
from procreaper.errors import Problem, ProcreaperError, reason_of

if TYPE_CHECKING:
    from procreaper.cli.app.plan_source import PlanSource
    from procreaper.core.notices import AppEnd
    from procreaper.output.hub import Hub
    from procreaper.remote.control.server import Answer, Server
    from procreaper.remote.control.socket_directory import ListeningSocket
    from procreaper.runtime.supervisor import Supervisor

# Seconds from the removal of the socket to the new one. `rm -r` fails if the directory fills while it empties it.
RENEWAL_DELAY = 1.0


class ControlSocket:
    """A sink that opens the control socket at the first run of the app, before any output is shown.

    It calls `tried` with True if the socket is open. Otherwise it prints a warning, and calls `tried` with False.
    """

    def __init__(
        self,
        root: str,
        hub: Hub,
        supervisor: Callable[[], Supervisor],
        source: PlanSource,
        history: Callable[[Collection[str], int | None], tuple[Sequence[Notice], tuple[str, ...]]],
        *,
        find: Callable[[str, int], tuple[int, int, int, int] | None],
        tried: Callable[[bool], None],
    ) -> None:
        self._root = root
        self._hub = hub
        self._supervisor = supervisor
        self._source = source
        self._history = history
        self._find = find
        self._on_opened = tried
        self._started_at = time.time()
        self._loop = asyncio.get_running_loop()
        self._listening: ListeningSocket | None = None
        self._server: Server | None = None
        self._opened = False
        self._watching: int | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._renewal_failed = False
        hub.add(self)

    def accept(self, notice: Notice) -> bool:
        """Open the socket at the first run, even one that could not start. At later runs, check that it is in place."""
        if isinstance(notice, RunBegan | RunEnded):
            if self._opened:
                self._check_in_place()
                return True
            self._opened = True
            self._hub.remove(self)
            self._open()
            self._on_opened(self._listening is not None)
        return True

    async def end(self, code: int, why: AppEnd | None) -> None:
        """Send all clients the exit code and the reason for the end, and close."""
        self._unwatch()
        if self._renewal is not None:
            self._renewal.cancel()
        if self._server is not None:
            await self._server.end(lambda: _encode_goodbye(code, why))
        elif self._listening is not None:
            self._loop.remove_reader(self._listening.socket)
            self._listening.close()

    def _open(self) -> None:
        from procreaper.remote.control.socket_directory import open_socket

        try:
            self._root = os.path.realpath(self._root)
            self._listening = open_socket(self._root, os.environ)
            # A client that connects before the server exists waits in the queue of the socket.
            self._loop.add_reader(self._listening.socket, self._serve, self._listening)
            self._watch(self._listening)
        except ProcreaperError as error:
            self._warn_unavailable(error.message, error.hint)
        except OSError as error:
            self._warn_unavailable(reason_of(error), None)

    # Replace a removed socket.

    def _watch(self, door: ListeningSocket) -> None:
        """Check the socket when inotify reports its removal; without inotify, when a run begins or ends."""
        self._watching = door.watch()
        if self._watching is None:
            self._hub.add(self)
        else:
            self._loop.add_reader(self._watching, self._check_in_place)

    def _unwatch(self) -> None:
        self._hub.remove(self)
        if self._watching is not None:
            self._loop.remove_reader(self._watching)
            os.close(self._watching)
            self._watching = None

    def _check_in_place(self) -> None:
        """If the socket is gone, schedule a new one."""
        if self._watching is not None:
            with suppress(BlockingIOError):
                os.read(self._watching, 4096)
        if self._listening is not None and not self._listening.is_in_place:
            self._unwatch()
            if self._renewal is None:
                self._renewal = self._loop.call_later(RENEWAL_DELAY, self._renew)

    def _renew(self) -> None:
        from procreaper.remote.control.socket_directory import open_socket

        self._renewal = None
        before = self._listening
        if before is None:
            return
        try:
            door = open_socket(self._root, os.environ)
        except (ProcreaperError, OSError) as error:
            self._hub.add(self)
            if not self._renewal_failed:
                self._renewal_failed = True
                self._supervisor().say(_explain_loss(error))
            return
        self._listening = door
        if self._server is not None:
            self._server.move(door.socket, door.close)
        else:
            self._loop.remove_reader(before.socket)
            before.close()
            self._loop.add_reader(door.socket, self._serve, door)
        self._renewal_failed = False
        self._watch(door)
        self._supervisor().say(f"the control socket was removed, and is now `{door.path}`")

    def _serve(self, door: ListeningSocket) -> None:
        """Make the server for the first client."""
        self._loop.remove_reader(door.socket)
        try:
            self._server = self._make_server(door)
        except Exception as error:
            # For example, a package was removed since the start. Raised in a callback, the error would end the app.
            self._listening = None
            self._unwatch()
            door.close()
            self._warn_unavailable(f"{type(error).__name__}: {error}", "start the app again")

    def _make_server(self, door: ListeningSocket) -> Server:
        from procreaper.remote.api.feed import Feed
        from procreaper.remote.control.server import Server

        supervisor, feed = self._supervisor(), Feed()

        def answers() -> Answer:
            from procreaper.remote.control.requests import RequestHandler

            return RequestHandler(
                supervisor,
                self._hub,
                feed,
                groups=self._source.configuration.groups,
                source=self._source,
                print_error=print_error,
                history=self._history,
                find=self._find,
            ).answer

        return Server(
            door.socket, door.close, greeting=self._greeting, answers=answers, begin=supervisor.accompany, feed=feed
        )

    def _greeting(self) -> bytes:
        import msgspec

        from procreaper.remote.api.protocol import VERSION, Greeting

        root = os.fsencode(self._root).decode(errors="replace")
        return msgspec.json.encode(Greeting(VERSION, __version__, root, os.getpid(), self._started_at)) + b"\n"

    def _warn_unavailable(self, reason: str, hint: str | None) -> None:
        print_error(str(Problem(f"no other terminal can control this app: {reason}", hint=hint, level="warning")))


def _explain_loss(error: ProcreaperError | OSError) -> str:
    text = "no other terminal can control this app any more: its socket was removed, and "
    if isinstance(error, OSError):
        text += f"no other can be made: {reason_of(error)}"
    else:
        text += error.message + (f"; {error.hint}" if error.hint else "")
    return f"{text}; procreaper tries again when a process starts or ends"


def _encode_goodbye(code: int, why: AppEnd | None) -> bytes:
    import msgspec

    from procreaper.remote.api.codec import replace_surrogates
    from procreaper.remote.api.protocol import GoodbyeNotice

    name = None if why is None or why.name is None else replace_surrogates(why.name)
    reason = "" if why is None else replace_surrogates(why.text)
    return msgspec.json.encode(GoodbyeNotice(time.time(), code, name, reason)) + b"\n"
