"""What has come of a request: whether a process is where somebody wanted it, or cannot get there any more.

Rules: has no clock; looks at one process at one moment. For everybody who waits: the library, and whoever asks from a
second terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol, assert_never

from procreaper.core.events import State, with_reason
from procreaper.core.status import AT_REST

# What is up is believed to be so only after so many seconds (supervisord's `startsecs` is 1): without a health check
# it may be about to fail, and with one, somebody else may have answered who holds its port.
CONFIRMED_AFTER = 0.3
UNCONFIRMED = (State.RUNNING, State.HEALTHY)
NOTHING_ASKED: Mapping[str, int] = {}


class Confirmation:
    """Since when each has been seen to be up, from which follows whether that is believed.

    Times are in seconds of whatever clock, which must be the same for all calls.
    """

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}

    def due(self, name: str, seen: Observed, now: float) -> float | None:
        """When it will be believed that this one is up; None where it is already. To be asked of what is up only."""
        if seen.state not in UNCONFIRMED:
            return None
        due = self._since.setdefault((name, seen.run), now) + CONFIRMED_AFTER
        return due if due > now else None


class Observed(Protocol):
    """As much of a status as tells the outcome; `state` is one of the words of `State`."""

    @property
    def state(self) -> str:
        """What it is doing."""

    @property
    def reason(self) -> str:
        """Why, in words."""

    @property
    def run(self) -> int:
        """Which run it is in, or was in last."""

    @property
    def up(self) -> bool:
        """Whether it is as it should be."""

    @property
    def out_of_reach(self) -> bool:
        """Whether it is still there after SIGKILL."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The dependencies that it waits for, while it is pending."""


class Goal(Enum):
    """What is waited for."""

    UP = "up"
    UP_IN_THE_END = "up in the end"
    RESTARTED = "restarted"
    STOPPED = "stopped"
    REMOVED = "removed"


class Outcome(NamedTuple):
    """It is `reached`, or there is an `obstacle` in words; while it has neither, it is still to come.

    `blocker` is the dependency that the process waits for, where that is the obstacle.
    """

    reached: bool = False
    obstacle: str | None = None
    blocker: str | None = None

    @property
    def pending(self) -> bool:
        """Whether there is something left to wait for."""
        return not self.reached and self.obstacle is None


PENDING, REACHED = Outcome(), Outcome(reached=True)


def find(goal: Goal, run: int, seen: Observed | None) -> Outcome:
    """The outcome for a process that was in `run` when it was asked; None stands for one that is not there any more.

    A run that failed is an obstacle also where it will be tried again, since whoever asked wants to know; but not for
    `UP_IN_THE_END`.
    """
    match goal:
        case Goal.STOPPED | Goal.REMOVED:
            return _gone(goal, run, seen)
        case Goal.UP | Goal.UP_IN_THE_END | Goal.RESTARTED:
            if seen is None:
                return Outcome(obstacle="it has been removed")
            if seen.up and (goal is not Goal.RESTARTED or seen.run > run):
                return REACHED
            has_failed = seen.state == State.RESTARTING and seen.run > run and goal is not Goal.UP_IN_THE_END
            if seen.state in AT_REST or has_failed or (seen.state == State.UNHEALTHY and goal is Goal.UP):
                return Outcome(obstacle=with_reason(seen.state, seen.reason))
            return PENDING
        case _:
            assert_never(goal)


def find_blocker(
    name: str, processes: Mapping[str, Observed], asked: Mapping[str, int] = NOTHING_ASKED
) -> Outcome | None:
    """Why this process cannot come up: a dependency that it waits for is not about to come up itself.

    None while all of them may. `asked` has the run in which a request found each process that it was about: a retry of
    an earlier run is no obstacle.
    """
    process = processes.get(name)
    if process is None or process.state != State.PENDING:
        return None
    for other_name in process.waits_for:
        other = processes.get(other_name)
        if other is None:
            continue
        fails = other.state == State.RESTARTING and other.run > asked.get(other_name, -1)
        if other.state in AT_REST or other.state == State.UNHEALTHY or fails:
            reason = with_reason(other.state, other.reason)
            return Outcome(obstacle=f"it waits for {other_name}, which is {reason}", blocker=other_name)
        if (deeper := find_blocker(other_name, processes, asked)) is not None:
            return deeper._replace(obstacle=f"it waits for {other_name}: {deeper.obstacle}")
    return None


def _gone(goal: Goal, run: int, seen: Observed | None) -> Outcome:
    if seen is None:
        return REACHED
    if seen.out_of_reach:
        return Outcome(obstacle=f"it cannot be stopped: it is {seen.reason}")
    if goal is Goal.REMOVED:
        return PENDING
    return REACHED if seen.state in AT_REST or seen.run > run else PENDING
