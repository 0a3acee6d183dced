"""Dependencies: what a process waits for, when it waits in vain, and whom a restart carries with it.

Rules: pure questions about the members of a fleet, which draws the consequences. A dependency on a process that is not
among them is no dependency.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from procreaper.core import transitions
from procreaper.core.events import State, with_reason
from procreaper.core.plan import Condition, Dependency, reachable
from procreaper.core.state import ABOUT_TO_START, FINAL_STATES, Phase, ProcessState

Members = dict[str, ProcessState]


def dependants(members: Members) -> dict[str, tuple[str, ...]]:
    """For each process on which others depend, all that do so, directly or not."""
    above: dict[str, list[str]] = {}
    for name, life in members.items():
        for dependency in life.process.depends_on:
            above.setdefault(dependency.name, []).append(name)
    return {name: tuple(reachable(direct, above)) for name, direct in above.items()}


def missing(members: Members, life: ProcessState) -> list[ProcessState]:
    """Find the dependencies that its next run waits for.

    A process that was up waits for none: a crash or a restart must not take it down because a dependency was stopped
    meanwhile. One that only ran before does not wait for a dependency that has ended for good.
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
    """Say what its next run waits for: these dependencies, or none."""
    told = [
        f"{other.process.name}, which is {other.reason}" if other.settled else other.process.name for other in others
    ]
    reason = f"waiting for {', '.join(told)}" if told else ABOUT_TO_START
    waits_for = tuple(other.process.name for other in others)
    if (reason, waits_for) == (life.reason, life.waits_for):
        return life
    return life._replace(reason=reason, waits_for=waits_for)


def restarted_together(before: Members, after: Members) -> Members:
    """Those that were up and restart together with a dependency: they wait for it, and so start in order."""
    anew = {name for name, life in after.items() if life.asked_anew and _is_asked_now(before.get(name), life)}
    return {
        name: life._replace(was_up=False)
        for name, life in after.items()
        if life.was_up and life.process.depends_on
        if any(_restarts_with(life, name in anew, edge, after.get(edge.name), anew) for edge in life.process.depends_on)
    }


def _is_asked_now(before: ProcessState | None, after: ProcessState) -> bool:
    """Its next run was asked for in this step: it was not before, and did not only wait out its back-off."""
    if before is None:
        return True
    # A request forgets the retries.
    is_retry = before.state is State.RESTARTING and after.retries > 0
    return not (before.asked_anew or is_retry)


def _restarts_with(
    life: ProcessState, is_asked_now: bool, edge: Dependency, other: ProcessState | None, anew: Collection[str]
) -> bool:
    if other is None:
        return False
    if edge.name in anew:
        return life.asked_anew or (life.state is State.RESTARTING and edge.restart)
    return is_asked_now and other.asked_anew and other.state is State.STOPPING


def lost(members: Members) -> Members:
    """Those that never ran and whose dependencies will never be up, and those that depend on them: all as skipped."""
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
    """Those that were skipped, and whose dependencies begin again, and those that depend on them: as pending again."""
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
    """The process because of which this one was skipped, however far down; the process itself if it was not."""
    life = members[name]
    while life.state is State.SKIPPED and (cause := _lost_cause(members, {}, life)) is not None:
        life = cause
    return life.process.name


def followers(before: Members, after: Members) -> list[str]:
    """Whose edge says `restart`, to a dependency that was up before and begins anew."""
    return [
        name
        for name, life in after.items()
        if (life.lives or life.phase is Phase.SPAWNING) and not life.asked_to_end
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
    """The first dependency that has ended without ever being what is waited for."""
    for dependency in life.process.depends_on:
        other = changed.get(dependency.name) or members.get(dependency.name)
        if other is not None and other.state in FINAL_STATES and not other.satisfies(dependency.condition):
            return other
    return None


def _came_up(life: ProcessState, condition: Condition) -> bool:
    """Its current run is, or once was, what is waited for: one that is only marked as unhealthy goes on."""
    return life.satisfies(condition) or (condition is Condition.HEALTHY and life.state is State.UNHEALTHY)


def _goes_on(before: ProcessState, after: ProcessState) -> bool:
    """The same run of it lives, though it may be checked in another way now."""
    return after.lives and after.run == before.run
