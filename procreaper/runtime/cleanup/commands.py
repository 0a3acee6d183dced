"""Side commands, such as hooks and checks: none outlives us, and what checks leave behind is ended.

Rules: for the command line only. What a check leaves behind is looked for within a second after the check, and once a
second at most, however many checks there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Protocol

from procreaper.runtime.system.marks import MARK_VARIABLE

if TYPE_CHECKING:
    import asyncio

# The part of a mark that follows that of a run, before the number of the check.
CHECK = "/check/"
# How long after a check it is looked for what it has left, and how long after the last such look, in seconds.
SOON, BETWEEN = 0.1, 1.0


class DescendantTracker(Protocol):
    """Keeps the list of what must not outlive us, and knows the groups of all that we have started."""

    watch_output: Callable[[int], str]
    forget_output: Callable[[str], None]

    def group_started(self, group: int, path: str) -> None:
        """What we have started leads this group and has this mark."""

    def group_ended(self, group: int) -> None:
        """Nothing is left of it."""

    def scan_descendants(self) -> None:
        """See what has left its group."""


class CommandTracker:
    """All side commands of an app.

    The marks of the checks that are under way are kept in `checking`; `end_rest` ends what others have left behind.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descendants: DescendantTracker,
        checking: set[str],
        end_rest: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._descendants = descendants
        self._checking = checking
        self._end_rest = end_rest
        self._checks = 0
        # The outputs of the checks since the last look: only a look finds what has no mark, but has one of these open.
        self._outputs: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._rested_until = 0.0

    def track(self, path: str, *, is_check: bool) -> TrackedCommand:
        """Take a command into custody that has this mark, or as a check a longer one."""
        if not is_check:
            return TrackedCommand(self._descendants, path, begins=lambda _: None, over=self._ended)
        self._checks += 1
        path = f"{path.removesuffix('/')}{CHECK}{self._checks}/"
        return TrackedCommand(self._descendants, path, begins=self._checking.add, over=self._check_ended)

    def _ended(self, _: str, output: str) -> None:
        self._descendants.scan_descendants()
        self._descendants.forget_output(output)

    def _check_ended(self, path: str, output: str) -> None:
        self._checking.discard(path)
        self._outputs.append(output)
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._loop.time() + SOON, self._rested_until), self._look)

    def _look(self) -> None:
        self._timer = None
        self._rested_until = self._loop.time() + BETWEEN
        self._end_rest()
        for output in self._outputs:
            self._descendants.forget_output(output)
        self._outputs.clear()


class TrackedCommand:
    """One command with this mark, with which `begins` is called before the spawn, and `over` after the end.

    `over` is called with the key of the output as well, which is still to be forgotten.
    """

    def __init__(
        self,
        descendants: DescendantTracker,
        path: str,
        *,
        begins: Callable[[str], None],
        over: Callable[[str, str], None],
    ) -> None:
        self._descendants = descendants
        self._path = path
        self._begins = begins
        self._over = over
        self._key = ""
        self._group: int | None = None

    def environment(self, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        """The environment for the command: this one, or ours, with its mark."""
        return {**(os.environ if environment is None else environment), MARK_VARIABLE: self._path}

    def before_spawn(self, output: int) -> None:
        """The command is about to start, and writes to this descriptor."""
        self._begins(self._path)
        self._key = self._descendants.watch_output(output)

    def started(self, group: int) -> None:
        """It runs, in this group."""
        self._group = group
        self._descendants.group_started(group, self._path)

    def before_kill(self) -> None:
        """It is about to be killed: see what descends from it, as long as their parents live."""
        self._descendants.scan_descendants()

    def ended(self) -> None:
        """It has ended, or could not be started."""
        self._over(self._path, self._key)
        if self._group is not None:
            self._descendants.group_ended(self._group)


def is_left(path: str, checking: AbstractSet[str]) -> bool:
    """Whether this is the mark of what a check has left that is none of those under way."""
    return CHECK in path and not any(path.startswith(check) for check in checking)
