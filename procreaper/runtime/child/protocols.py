"""The protocols between a run, its supervisor, and the tracker of its descendants.

Rules: protocols only. They cost time when they are made, so they are imported for type checkers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from procreaper.runtime.child.console import Console


class DescendantTracker(Protocol):
    """Knows which processes of a run have left its group, and makes sure that a run does not outlive us."""

    def environment(self, name: str, run: int, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        """The environment for a run, by which its descendants are known; None stands for ours."""

    def watch_output(self, output: int) -> str:
        """Take note of a run that is about to start and writes to this descriptor. Return a key for `forget_output`."""

    def forget_output(self, key: str) -> None:
        """Forget an output whose other end has been closed."""

    def run_started(self, name: str, run: int, group: int) -> None:
        """Take note of a run that has started in this group."""

    def exempt_session(self, session: int) -> None:
        """Let the processes of this session outlive us."""

    def group_ended(self, group: int) -> None:
        """Take note of a group that has no members any more."""

    def scan_descendants(self) -> None:
        """Find the descendants of a run that is about to end, as long as their parents live."""

    def signal_escapees(self, name: str, run: int, number: int) -> None:
        """Send this signal to the processes that have left the group, or will leave it, before the group gets it."""

    def has_escapees(self, name: str, run: int) -> bool:
        """Return whether any of those is alive."""

    def track_command(self, name: str, run: int | None = None) -> Oversight:
        """Track a command of this process; with the number of a run, the command checks that run."""


class Oversight(Protocol):
    """Makes sure that one command does not outlive us, and finds what it leaves behind."""

    def environment(self, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        """Return the environment for the command, by which its descendants are found; None stands for ours."""

    def before_spawn(self, output: int) -> None:
        """The command is about to start, and writes to this descriptor."""

    def started(self, group: int) -> None:
        """The command runs, in this group."""

    def before_kill(self) -> None:
        """The command is about to be killed before it has ended by itself."""

    def ended(self) -> None:
        """The command has ended, or could not be started. Nothing is left of its group."""


class Run(Protocol):
    """One run of a process, as its supervisor sees it. It reports what happens to it as events."""

    ended: bool

    @property
    def over(self) -> bool:
        """Whether nothing more can come of it."""

    @property
    def console(self) -> Console | None:
        """Its own terminal, to which clients can attach, if it has one."""

    @property
    def began_at(self) -> float | None:
        """When it began, in seconds since the epoch, if that was before it was reported."""

    @property
    def read_at(self) -> float:
        """When its output was last read, in seconds of the clock of the loop."""

    @property
    def held(self) -> bool:
        """Whether a process of it is stopped or traced, as by a debugger."""

    async def spawn(self) -> None:
        """Start it and report it. A failure is reported, not raised."""

    def signal(self, number: int, *, only_main: bool = False, only_handlers: bool = False) -> None:
        """Send a signal to all its processes, or with `only_main` to its programs, unless they are gone.

        With `only_handlers` the signal goes to the programs that handle it, or if none does, as with `only_main`.
        """

    def resize(self, size: os.terminal_size) -> None:
        """Pass on the new size of our terminal."""

    def resume(self) -> None:
        """Read output again, because there is room for it."""

    def finish(self) -> None:
        """Report nothing more, because the app has ended."""
