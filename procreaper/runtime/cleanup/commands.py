"""Track side commands, such as hooks and checks: none outlives the app, and what a check leaves behind ends soon.

Rules: for the command line only. A scan for processes that checks left behind comes within a second after a check.
There is at most one scan a second, however many checks there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Protocol

from procreaper.runtime.system.marks import MARK_VARIABLE

if TYPE_CHECKING:
    import asyncio

# The mark of a check is that of its run, then this, then the number of the check.
CHECK = "/check/"
# Seconds between the end of a check and the scan for what it left behind, and between two such scans.
SCAN_DELAY, SCAN_INTERVAL = 0.1, 1.0


class DescendantTracker(Protocol):
    """Keeps the list of processes that must not outlive us, and the groups of all that we have started."""

    def watch_output(self, output: int) -> str:
        """Note a command that is about to start and writes to this descriptor. Return a key for `forget_output`."""

    def forget_output(self, key: str) -> None:
        """Forget an output whose other end has been closed."""

    def group_started(self, group: int, mark: str) -> None:
        """Note a process that we have started: it leads this group and has this mark."""

    def group_ended(self, group: int) -> None:
        """Note that the group has no member any more."""

    def scan_descendants(self) -> None:
        """Find the processes that left their group."""


class CommandTracker:
    """Tracks all side commands of an app.

    `running_checks` holds the marks of the checks that are running. `end_leftovers` ends the processes that other
    checks left behind.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tracker: DescendantTracker,
        running_checks: set[str],
        end_leftovers: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._tracker = tracker
        self._running_checks = running_checks
        self._end_leftovers = end_leftovers
        self._checks = 0
        # The outputs of the checks since the last scan. A process without a mark that has one of these open is found
        # only by a scan, so they are not forgotten before.
        self._outputs: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next_scan = 0.0

    def track(self, mark: str, *, is_check: bool) -> TrackedCommand:
        """Track a command that gets this mark, or if it is a check, a longer one."""
        if not is_check:
            return TrackedCommand(self._tracker, mark, on_spawn=lambda _: None, on_end=self._end_command)
        self._checks += 1
        mark = f"{mark.removesuffix('/')}{CHECK}{self._checks}/"
        return TrackedCommand(self._tracker, mark, on_spawn=self._running_checks.add, on_end=self._end_check)

    def _end_command(self, _: str, output: str) -> None:
        self._tracker.scan_descendants()
        self._tracker.forget_output(output)

    def _end_check(self, mark: str, output: str) -> None:
        self._running_checks.discard(mark)
        self._outputs.append(output)
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._loop.time() + SCAN_DELAY, self._next_scan), self._scan)

    def _scan(self) -> None:
        self._timer = None
        self._next_scan = self._loop.time() + SCAN_INTERVAL
        self._end_leftovers()
        for output in self._outputs:
            self._tracker.forget_output(output)
        self._outputs.clear()


class TrackedCommand:
    """One command with this mark: calls `on_spawn` with the mark before the spawn, and `on_end` after the end.

    `on_end` also gets the key of the command's output, which it must forget.
    """

    def __init__(
        self,
        tracker: DescendantTracker,
        mark: str,
        *,
        on_spawn: Callable[[str], None],
        on_end: Callable[[str, str], None],
    ) -> None:
        self._tracker = tracker
        self._mark = mark
        self._on_spawn = on_spawn
        self._on_end = on_end
        self._key = ""
        self._group: int | None = None

    def environment(self, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        """Return this environment, or ours if None, with the mark of the command."""
        return {**(os.environ if environment is None else environment), MARK_VARIABLE: self._mark}

    def before_spawn(self, output: int) -> None:
        """Prepare for the start of the command, which writes to this descriptor."""
        self._on_spawn(self._mark)
        self._key = self._tracker.watch_output(output)

    def started(self, group: int) -> None:
        """Note that the command runs, in this group."""
        self._group = group
        self._tracker.group_started(group, self._mark)

    def before_kill(self) -> None:
        """Find the descendants of the command while their parents live."""
        self._tracker.scan_descendants()

    def ended(self) -> None:
        """Note that the command has ended, or could not start."""
        self._on_end(self._mark, self._key)
        if self._group is not None:
            self._tracker.group_ended(self._group)


def is_left_by_check(mark: str, running_checks: AbstractSet[str]) -> bool:
    """Return whether a process with this mark comes from a check that is no longer running."""
    return CHECK in mark and not any(mark.startswith(check) for check in running_checks)
