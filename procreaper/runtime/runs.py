"""The runs of each process of an app that can still report something, with the current one last.

Rules: creates and finds the runs. Other modules decide when to run a process and which signals to send.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from procreaper.core.events import Event, Notice
from procreaper.core.plan import Process
from procreaper.descriptors import NO_DESCRIPTOR_LEFT
from procreaper.errors import reason_of
from procreaper.runtime.child.child import Child

if TYPE_CHECKING:
    from procreaper.runtime.child.console import Console, OwnTerminal
    from procreaper.runtime.child.protocols import DescendantTracker, Run


class Runs:
    """All runs. `listening` makes the `publish` function of a run; `has_room` says whether output may be read now."""

    def __init__(
        self,
        *,
        post: Callable[[Event], None],
        say: Callable[[str], None],
        listening: Callable[[Process, int], Callable[[Notice], bool]],
        has_room: Callable[[Process], bool],
        largest_read: int,
        tracker: DescendantTracker | None,
        window: Callable[[], os.terminal_size],
        root: str,
        idle_input: bool,
    ) -> None:
        self._post = post
        self._say = say
        self._listening = listening
        self._has_room = has_room
        self._largest_read = largest_read
        self._tracker = tracker
        self._window = window
        self._root = root
        self._idle_input = idle_input
        self._lacks_terminals = False
        self._runs: dict[str, list[Run]] = {}

    def add(self, process: Process, run: int) -> Run:
        """Add the next run of a process, which is still to be spawned."""
        child = self._detached(process, run) if process.detached else self._child(process, run)
        self._runs[process.name] = [*(old for old in self._runs.get(process.name, ()) if not old.over), child]
        return child

    def current(self, name: str) -> Run:
        """Return the current run of a process, or the last one. Raises KeyError if there was none."""
        return self._runs[name][-1]

    def console(self, name: str) -> Console | None:
        """Return the terminal of the current or last run, if it has one."""
        runs = self._runs.get(name)
        return runs[-1].console if runs else None

    def release(self, name: str) -> None:
        """Let the current run go on without us."""
        self._runs[name].pop().finish()

    def forget(self, name: str) -> None:
        """Forget a process that the app no longer has. Its last output may still come."""
        if left := [child for child in self._runs.pop(name, ()) if not child.over]:
            self._runs[name] = left

    def left(self, may_live_on: Callable[[str], bool]) -> list[Run]:
        """Return the runs that have not ended, without the current runs of processes that may outlive the app."""
        return [
            child
            for name, runs in self._runs.items()
            for child in (runs[:-1] if may_live_on(name) else runs)
            if not child.ended
        ]

    def resume(self) -> None:
        """Read output again, because there is room for it."""
        # Resume the longest waiting first, so that a few fast writers do not keep all others from being read.
        for child in sorted(self._all(), key=lambda child: child.read_at):
            child.resume()

    def resize(self) -> None:
        """Pass on the new size of the window."""
        window = self._window()
        for child in self._all():
            child.resize(window)

    def finish(self) -> None:
        """Finish all runs, because the app has ended."""
        for child in self._all():
            child.finish()

    def _all(self) -> Iterator[Run]:
        return (child for runs in self._runs.values() for child in runs)

    def _child(self, process: Process, run: int) -> Run:
        return Child(
            process,
            run,
            post=self._post,
            publish=self._listening(process, run),
            has_room=lambda: self._has_room(process),
            largest_read=self._largest_read,
            tracker=self._tracker,
            open_terminal=self._open_terminal if process.pty else None,
            idle_input=self._idle_input,
        )

    def _detached(self, process: Process, run: int) -> Run:
        from procreaper.runtime.child.detached import DetachedRun

        return DetachedRun(process, run, root=self._root, post=self._post, say=self._say, tracker=self._tracker)

    def _open_terminal(self) -> OwnTerminal | None:
        from procreaper.runtime.terminal.pty import Pseudoterminal

        try:
            return Pseudoterminal(self._window())
        except OSError as error:
            if error.errno in NO_DESCRIPTOR_LEFT:
                # A pipe is not available either; the next try may get a terminal.
                raise
            if not self._lacks_terminals:
                self._lacks_terminals = True
                reason = reason_of(error)
                self._say(f"no terminal can be had for a process, which gets a pipe instead: {reason}")
            return None
