"""Dependencies: what a process waits for, when it waits in vain, and which processes restart together.

Rules: pure questions about the members of a fleet; `fleet` applies the answers. A dependency on a process that is not a
member does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from procreaper.core import transitions
from procreaper.core.events import State, with_reason
from procreaper.core.plan import Condition, Dependency, reachable
from procreaper.core.state import ABOUT_TO_START, FINAL_STATES, Phase, ProcessState

Members = dict[str, ProcessState]


def dependants(members: Members) -> dict[str, tuple[str, ...]]:
    """Return all direct and indirect dependants of each process that has any."""
    above: dict[str, list[str]] = {}
    for name, life in members.items():
        for dependency in life.process.depends_on:
            above.setdefault(dependency.name, []).append(name)
    return {name: tuple(reachable(direct, above)) for name, direct in above.items()}


def missing(members: Members, life: ProcessState) -> list[ProcessState]:
    """Find the dependencies that its next run waits for.

    A process that was up waits for none: a crash or a restart must not keep it down because a dependency was stopped
    meanwhile. A process that has run but was never up does not wait for a dependency that has ended for good.
    """
    if life.was_up:
        return []
    return [
        other
        for dependency in life.process.depends_on
        if (other := members.get(dependency.name)) is not None
        and not other.satisfies(dependency.condition)
        and not (life.has_run and other.state in FINAL_STATES)
    ]


def wait(life: ProcessState, others: Sequence[ProcessState]) -> ProcessState:
    """Record the dependencies that its next run waits for, or that it waits for none."""
    names = [
        f"{other.process.name}, which is {other.reason}" if other.settled else other.process.name for other in others
    ]
    reason = f"waiting for {', '.join(names)}" if names else ABOUT_TO_START
    waits_for = tuple(other.process.name for other in others)
    if (reason, waits_for) == (life.reason, life.waits_for):
        return life
    return life._replace(reason=reason, waits_for=waits_for)


def restarted_together(before: Members, after: Members) -> Members:
    """Find the processes that were up and restart together with a dependency: they wait for it and start in order."""
    anew = {name for name, life in after.items() if life.run_requested and _is_asked_now(before.get(name), life)}
    return {
        name: life._replace(was_up=False)
        for name, life in after.items()
        if life.was_up and life.process.depends_on
        if any(_restarts_with(life, name in anew, edge, after.get(edge.name), anew) for edge in life.process.depends_on)
    }


def _is_asked_now(before: ProcessState | None, after: ProcessState) -> bool:
    """Whether its next run was requested in this step: neither before, nor only delayed by its back-off."""
    if before is None:
        return True
    # A request resets the retries.
    is_retry = before.state is State.RESTARTING and after.retries > 0
    return not (before.run_requested or is_retry)


def _restarts_with(
    life: ProcessState, is_asked_now: bool, edge: Dependency, other: ProcessState | None, anew: Collection[str]
) -> bool:
    if other is None:
        return False
    if edge.name in anew:
        return life.run_requested or (life.state is State.RESTARTING and edge.restart)
    return is_asked_now and other.run_requested and other.state is State.STOPPING


def lost(members: Members) -> Members:
    """Skip the processes that never ran and whose dependencies will never be up, and their dependants."""
    skipped: Members = {}
    while more := {
        name: transitions.skip(life, f"{cause.process.name} {with_reason(cause.state, cause.reason)}")
        for name, life in members.items()
        if life.process.depends_on and life.state is State.PENDING and not life.has_run and name not in skipped
        if (cause := _lost_cause(members, skipped, life)) is not None
    }:
        skipped |= more
    return skipped


def found(members: Members) -> Members:
    """Make skipped processes pending again whose dependencies begin again, and their dependants."""
    revived: Members = {}
    while more := {
        name: transitions.revive(life)
        for name, life in members.items()
        if life.state is State.SKIPPED and not life.stopped_by_user and name not in revived
        if _lost_cause(members, revived, life) is None
    }:
        revived |= more
    return revived


def root_cause(members: Members, name: str) -> str:
    """Find the process because of which this one was skipped, however far down; the process itself if it was not."""
    life = members[name]
    while life.state is State.SKIPPED and (cause := _lost_cause(members, {}, life)) is not None:
        life = cause
    return life.process.name


def followers(before: Members, after: Members) -> list[str]:
    """Find the processes whose edge says `restart`, to a dependency that was up and restarts."""
    return [
        name
        for name, life in after.items()
        if (life.is_alive or life.phase is Phase.SPAWNING) and not life.asked_to_end
        if any(
            dependency.restart
            and _came_up(before[dependency.name], dependency.condition)
            and after[dependency.name].wanted
            and not _came_up(after[dependency.name], dependency.condition)
            and not _goes_on(before[dependency.name], after[dependency.name])
            for dependency in life.process.depends_on
            if dependency.name in before and dependency.name in after
        )
    ]


def _lost_cause(members: Members, changed: Mapping[str, ProcessState], life: ProcessState) -> ProcessState | None:
    """Find the first dependency that has ended for good without satisfying the condition."""
    for dependency in life.process.depends_on:
        other = changed.get(dependency.name) or members.get(dependency.name)
        if other is not None and other.state in FINAL_STATES and not other.satisfies(dependency.condition):
            return other
    return None


def _came_up(life: ProcessState, condition: Condition) -> bool:
    """Whether its current run satisfies the condition, or once did: a run that is only marked as unhealthy goes on."""
    return life.satisfies(condition) or (condition is Condition.HEALTHY and life.state is State.UNHEALTHY)


def _goes_on(before: ProcessState, after: ProcessState) -> bool:
    """Whether the same run goes on, even if its health checks have changed."""
    return after.is_alive and after.run == before.run
