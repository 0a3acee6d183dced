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
    for name, process_state in members.items():
        for dependency in process_state.process.depends_on:
            above.setdefault(dependency.name, []).append(name)
    return {name: tuple(reachable(direct, above)) for name, direct in above.items()}


def missing(members: Members, process_state: ProcessState) -> list[ProcessState]:
    """Find the dependencies that its next run waits for.

    A process that was up waits for none: a crash or a restart must not keep it down because a dependency was stopped
    meanwhile. A process that has run but was never up does not wait for a dependency that has ended for good.
    """
    if process_state.was_up:
        return []
    return [
        other
        for dependency in process_state.process.depends_on
        if (other := members.get(dependency.name)) is not None
        and not other.satisfies(dependency.condition)
        and not (process_state.has_run and other.state in FINAL_STATES)
    ]


def wait(process_state: ProcessState, others: Sequence[ProcessState]) -> ProcessState:
    """Record the dependencies that its next run waits for, or that it waits for none."""
    names = [
        f"{other.process.name}, which is {other.reason}" if other.settled else other.process.name for other in others
    ]
    reason = f"waiting for {', '.join(names)}" if names else ABOUT_TO_START
    waits_for = tuple(other.process.name for other in others)
    if (reason, waits_for) == (process_state.reason, process_state.waits_for):
        return process_state
    return process_state._replace(reason=reason, waits_for=waits_for)


def restarted_together(before: Members, after: Members) -> Members:
    """Find the processes that were up and restart together with a dependency: they wait for it and start in order."""
    anew = {
        name
        for name, process_state in after.items()
        if process_state.run_requested and _is_asked_now(before.get(name), process_state)
    }
    return {
        name: process_state._replace(was_up=False)
        for name, process_state in after.items()
        if process_state.was_up and process_state.process.depends_on
        if any(
            _restarts_with(process_state, name in anew, edge, after.get(edge.name), anew)
            for edge in process_state.process.depends_on
        )
    }


def _is_asked_now(before: ProcessState | None, after: ProcessState) -> bool:
    """Whether its next run was requested in this step: neither before, nor only delayed by its back-off."""
    if before is None:
        return True
    # A request resets the retries.
    is_retry = before.state is State.RESTARTING and after.retries > 0
    return not (before.run_requested or is_retry)


def _restarts_with(
    process_state: ProcessState, is_asked_now: bool, edge: Dependency, other: ProcessState | None, anew: Collection[str]
) -> bool:
    if other is None:
        return False
    if edge.name in anew:
        return process_state.run_requested or (process_state.state is State.RESTARTING and edge.restart)
    return is_asked_now and other.run_requested and other.state is State.STOPPING


def lost(members: Members) -> Members:
    """Skip the processes that never ran and whose dependencies will never be up, and their dependants."""
    skipped: Members = {}
    while more := {
        name: transitions.skip(process_state, f"{cause.process.name} {with_reason(cause.state, cause.reason)}")
        for name, process_state in members.items()
        if process_state.process.depends_on
        and process_state.state is State.PENDING
        and not process_state.has_run
        and name not in skipped
        if (cause := _lost_cause(members, skipped, process_state)) is not None
    }:
        skipped |= more
    return skipped


def found(members: Members) -> Members:
    """Make skipped processes pending again whose dependencies begin again, and their dependants."""
    revived: Members = {}
    while more := {
        name: transitions.revive(process_state)
        for name, process_state in members.items()
        if process_state.state is State.SKIPPED and not process_state.stopped_by_user and name not in revived
        if _lost_cause(members, revived, process_state) is None
    }:
        revived |= more
    return revived


def root_cause(members: Members, name: str) -> str:
    """Find the process because of which this one was skipped, however far down; the process itself if it was not."""
    process_state = members[name]
    while process_state.state is State.SKIPPED and (cause := _lost_cause(members, {}, process_state)) is not None:
        process_state = cause
    return process_state.process.name


def followers(before: Members, after: Members) -> list[str]:
    """Find the processes whose edge says `restart`, to a dependency that was up and restarts."""
    return [
        name
        for name, process_state in after.items()
        if (process_state.is_alive or process_state.phase is Phase.SPAWNING) and not process_state.asked_to_end
        if any(
            dependency.restart
            and _came_up(before[dependency.name], dependency.condition)
            and after[dependency.name].wanted
            and not _came_up(after[dependency.name], dependency.condition)
            and not _goes_on(before[dependency.name], after[dependency.name])
            for dependency in process_state.process.depends_on
            if dependency.name in before and dependency.name in after
        )
    ]


def _lost_cause(
    members: Members, changed: Mapping[str, ProcessState], process_state: ProcessState
) -> ProcessState | None:
    """Find the first dependency that has ended for good without satisfying the condition."""
    for dependency in process_state.process.depends_on:
        other = changed.get(dependency.name) or members.get(dependency.name)
        if other is not None and other.state in FINAL_STATES and not other.satisfies(dependency.condition):
            return other
    return None


def _came_up(process_state: ProcessState, condition: Condition) -> bool:
    """Whether its current run satisfies the condition, or once did: a run that is only marked as unhealthy goes on."""
    return process_state.satisfies(condition) or (
        condition is Condition.HEALTHY and process_state.state is State.UNHEALTHY
    )


def _goes_on(before: ProcessState, after: ProcessState) -> bool:
    """Whether the same run goes on, even if its health checks have changed."""
    return after.is_alive and after.run == before.run
