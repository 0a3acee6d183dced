"""The app's side of the second terminal: a socket, as soon as there is something to control.

Rules: the first child does not wait for it, and an app that can have none runs on without. What answers requests is
imported when somebody asks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from procreaper import __version__
from procreaper.cli.problems import complain
from procreaper.errors import Problem, ProcreaperError
from procreaper.events import Notice, RunBegan, RunEnded

if TYPE_CHECKING:
    from procreaper.control.server import Server
    from procreaper.output.hub import Hub
    from procreaper.reaper import Owner


class Control:
    """A sink that opens the control socket of an app at its first run, before anything that is written is told."""

    def __init__(self, root: str, hub: Hub, owner: Callable[[], Owner], groups: Mapping[str, Sequence[str]]) -> None:
        self._root = os.path.realpath(root)
        self._hub = hub
        self._owner = owner
        self._groups = groups
        self._began = time.time()
        self._server: Server | None = None
        hub.add(self)

    def accept(self, notice: Notice) -> bool:
        """Begin to serve once something runs, or could not be started."""
        if isinstance(notice, RunBegan | RunEnded):
            self._hub.remove(self)
            try:
                self._server = self._serve()
            except ProcreaperError as error:
                self._do_without(error.message, error.hint)
            except Exception as error:
                self._do_without(f"{type(error).__name__}: {error}", None)
        return True

    async def end(self, code: int) -> None:
        """Take leave of all clients, who are told the exit code."""
        if self._server is not None:
            await self._server.end(lambda: _farewell(code))

    def _serve(self) -> Server:
        from procreaper.control.directory import listen
        from procreaper.control.feed import Feed
        from procreaper.control.server import Server

        door = listen(self._root, os.environ)
        owner, feed = self._owner(), Feed()

        def answers() -> Callable[..., Any]:
            from procreaper.control.requests import Requests

            return Requests(owner, self._hub, feed, groups=self._groups).answer

        return Server(
            door.socket, door.close, greeting=self._greeting, answers=answers, begin=owner.accompany, feed=feed
        )

    def _greeting(self) -> bytes:
        import msgspec

        from procreaper.control.protocol import VERSION, Greeting

        root = os.fsencode(self._root).decode(errors="replace")
        return msgspec.json.encode(Greeting(VERSION, __version__, root, os.getpid(), self._began)) + b"\n"

    def _do_without(self, reason: str, hint: str | None) -> None:
        complain(str(Problem(f"no other terminal can control this app: {reason}", hint=hint, level="warning")))


def _farewell(code: int) -> bytes:
    import msgspec

    from procreaper.control.protocol import GoodbyeNotice

    return msgspec.json.encode(GoodbyeNotice(time.time(), code)) + b"\n"
