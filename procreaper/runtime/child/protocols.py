"""What a run and those around it see of each other: the owner of any run, and any run of its custody.

Rules: promises only. They cost time when they are made, so they are imported for type checkers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from procreaper.runtime.child.console import Console


class DescendantTracker(Protocol):
    """Knows who of a run has left its group, and sees to it that a run does not outlive us."""

    def environment(self, name: str, run: int, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        """The environment for a run, by which its descendants are known; None stands for ours."""

    def watch_output(self, output: int) -> str:
        """A run is about to start whose output goes to this descriptor; return a key for `forget_output`."""

    def forget_output(self, key: str) -> None:
        """The other end has been closed."""

    def run_started(self, name: str, run: int, group: int) -> None:
        """A run has started, in this group."""

    def exempt_session(self, session: int) -> None:
        """Let the processes of this session outlive us."""

    def group_ended(self, group: int) -> None:
        """The group has no members any more."""

    def scan_descendants(self) -> None:
        """A run is about to end: see which descendants it has, as long as their parents live."""

    def signal_escapees(self, name: str, run: int, number: int) -> None:
        """Before the group gets this signal: send it to those who have left the group, and to those who still will."""

    def has_escapees(self, name: str, run: int) -> bool:
        """Whether any of those is alive."""

    def track_command(self, name: str, run: int | None = None) -> Oversight:
        """Take a command of this process into custody; with the number of a run, the command checks that run."""


class Oversight(Protocol):
    """The custody of one command beside the runs, such as a hook or a check."""

    def environment(self, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        """The environment for the command; None stands for ours."""

    def before_spawn(self, output: int) -> None:
        """The command is about to start, and writes to this descriptor."""

    def started(self, group: int) -> None:
        """It runs, in this group."""

    def before_kill(self) -> None:
        """It is about to be killed before it has ended by itself."""

    def ended(self) -> None:
        """It has ended, or could not be started."""


class Run(Protocol):
    """One run of a process, as its owner sees it; what happens to it is reported as events."""

    ended: bool

    @property
    def over(self) -> bool:
        """Nothing more can come of it."""

    @property
    def console(self) -> Console | None:
        """The terminal of its own that can be attached to, if it has one."""

    @property
    def began_at(self) -> float | None:
        """When it began, in seconds since the epoch, where that was before it was reported."""

    @property
    def read_at(self) -> float:
        """When it last was read, in seconds of the loop's clock."""

    @property
    def held(self) -> bool:
        """Whether any of it is stopped or traced, as by a debugger."""

    async def spawn(self) -> None:
        """Start it and report it; a failure is reported, not raised."""

    def signal(self, number: int, *, only_main: bool = False, only_handlers: bool = False) -> None:
        """Send a signal to all that belongs to it, or with `only_main` to its programs, unless they are gone.

        With `only_handlers` the signal goes to the programs that handle it, or where none does, as with `only_main`.
        """

    def resize(self, size: os.terminal_size) -> None:
        """Our terminal has another size."""

    def resume(self) -> None:
        """There is room for output again."""

    def finish(self) -> None:
        """The app has ended; whatever comes of it from now on is not reported."""
