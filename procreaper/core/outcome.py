"""The outcome of a request: whether a process has come to the state that was asked for, or cannot get there.

Rules: no clock; one process at one moment. The library and all commands that wait use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol, assert_never

from procreaper.core.events import State, with_reason
from procreaper.core.status import AT_REST

# A process counts as up only after this many seconds (supervisord's `startsecs` is 1). Without a health check it may be
# about to fail, and with one, another program that holds its port may have answered.
CONFIRMED_AFTER = 0.3
UNCONFIRMED = (State.RUNNING, State.HEALTHY)
NOTHING_ASKED: Mapping[str, int] = {}


class Confirmation:
    """Since when each process has been seen up, which decides whether that counts.

    Times are in seconds of any clock that is the same for all calls.
    """

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}

    def due(self, name: str, seen: Observed, now: float) -> float | None:
        """Return when a process that is up counts as up; None if it does already."""
        if seen.state not in UNCONFIRMED:
            return None
        due = self._since.setdefault((name, seen.run), now) + CONFIRMED_AFTER
        return due if due > now else None


class Observed(Protocol):
    """The part of a status that decides the outcome; `state` is one of the words of `State`."""

    @property
    def state(self) -> str:
        """The state."""

    @property
    def reason(self) -> str:
        """The reason, in words."""

    @property
    def run(self) -> int:
        """The number of the present or last run."""

    @property
    def up(self) -> bool:
        """Whether the process is up."""

    @property
    def out_of_reach(self) -> bool:
        """Whether it has outlived SIGKILL."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The dependencies that a pending process waits for."""


class Goal(Enum):
    """The state that a client waits for."""

    UP = "up"
    UP_IN_THE_END = "up in the end"
    RESTARTED = "restarted"
    STOPPED = "stopped"
    REMOVED = "removed"


class Outcome(NamedTuple):
    """Either `reached`, or an `obstacle` in words; with neither, the outcome is still to come.

    `blocker` is the dependency that the process waits for, if that is the obstacle.
    """

    reached: bool = False
    obstacle: str | None = None
    blocker: str | None = None

    @property
    def pending(self) -> bool:
        """Whether the outcome is still to come."""
        return not self.reached and self.obstacle is None


PENDING, REACHED = Outcome(), Outcome(reached=True)


def find_outcome(goal: Goal, run: int, seen: Observed | None) -> Outcome:
    """Return the outcome for a process that was in `run` when it was asked; None stands for a process that is gone.

    A run that failed is an obstacle even if it will be retried, because the client wants to know; but not for
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
    """Return why this process cannot come up: a dependency that it waits for does not come up itself.

    None while all of them may. `asked` has the run in which a request found each process; a retry of an earlier run is
    no obstacle.
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
