"""A new plan for a running app: which processes come and go, and what new settings mean for those that stay.

Rules: pure, called by `fleet` only. A process that goes is stopped as if by hand, and stays a member until nothing of
it is left.

Theory of operation. Settings that a running child can take over are replaced in place; from then on the rules read the
new ones. For all other settings (`needs_restart`) the process restarts as if by hand. Until the present run is over, it
ends by the settings with which it began, because its program knows no others (`ProcessState.spawned_with`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from procreaper.core import health as health_rules
from procreaper.core import lifecycle
from procreaper.core.dependencies import Members
from procreaper.core.events import Action, CancelCheck, CancelPreparation, Restart, Start, State, Stop
from procreaper.core.plan import Condition, Dependency, Plan, Process
from procreaper.core.ports import PREFIX
from procreaper.core.state import FINAL_STATES, Phase, ProcessState
from procreaper.core.transitions import Step, begin_running, end_reason


class Reloaded(NamedTuple):
    """The members after a reload, with the leaving ones last.

    `leaving` and `stopped` are names of processes that the plan no longer has; `stopped` are those that did not end by
    themselves. Of some that are leaving nothing may be left.
    """

    members: Members
    leaving: frozenset[str]
    stopped: frozenset[str]
    actions: tuple[Action, ...]


def reload(members: Members, leaving: Collection[str], runs: Mapping[str, int], plan: Plan, now: float) -> Reloaded:
    """Make the processes of the plan the members. `runs` are the last run numbers of processes that are gone."""
    after: Members = {}
    actions: tuple[Action, ...] = ()
    for process in plan.processes:
        name = process.name
        process_state = members.get(name)
        if process_state is not None and name not in leaving:
            after[name], more = _take_over(process_state, process, now)
        else:
            before = runs.get(name, 0)
            process_state = (
                ProcessState(process, run=before, earlier_runs=before)
                if process_state is None
                else _become(process_state, process)
            )
            is_wanted = plan.names is None or name in plan.names
            after[name], more = lifecycle.step(process_state, Start((name,)), now) if is_wanted else (process_state, ())
        actions += more
    gone = {name: process_state for name, process_state in members.items() if name not in after}
    stopped = frozenset(
        name for name, process_state in gone.items() if name not in leaving and _keeps_the_app(process_state)
    )
    for name, process_state in gone.items():
        gone[name], more = lifecycle.step(process_state, Stop((name,)), now)
        actions += more
    return Reloaded({**after, **gone}, frozenset(gone), stopped, actions)


def renew(process_state: ProcessState, process: Process | None, now: float) -> Step:
    """Give new settings to the next run of a process that has no run now; None keeps those that it has."""
    if process is None or process == process_state.process:
        return process_state, ()
    before = process_state.process
    return _follow_other_files(process_state._replace(process=process), before, now)


def _keeps_the_app(process_state: ProcessState) -> bool:
    """Whether a stop by hand would keep the app running, because the process has not ended for good by itself."""
    return process_state.asked and not (
        process_state.settled and process_state.state in FINAL_STATES and process_state.process.watch is None
    )


def _become(process_state: ProcessState, process: Process) -> ProcessState:
    """Take over the settings of another process, with a restart if the child needs one."""
    spawned_with = None if process_state.phase is Phase.NONE else (process_state.spawned_with or process_state.process)
    return process_state._replace(process=process, spawned_with=spawned_with)


def _take_over(process_state: ProcessState, process: Process, now: float) -> Step:
    before = process_state.process
    if process == before and not process_state.throttle.suspended:
        return process_state, ()
    process_state = lifecycle.resume_watch(process_state)
    if needs_restart(before, process):
        process_state, cancelled = _follow_other_files(_become(process_state, process), before, now)
        if not set(process.depends_on) <= set(before.depends_on):
            # The new run is the first one that needs them.
            process_state = process_state._replace(was_up=False)
        if process_state.stopped_by_user or not process_state.asked:
            return process_state, cancelled
        process_state, actions = lifecycle.step(process_state, Restart((process.name,)), now)
        return process_state, (*cancelled, *actions)
    process_state, cancelled = _follow_other_files(process_state._replace(process=process), before, now)
    if process_state.state in (State.COMPLETED, State.FAILED):
        process_state = process_state._replace(reason=end_reason(process_state))
    if not process_state.is_alive:
        return process_state, cancelled
    if process.health != before.health:
        process_state, actions = _check_otherwise(process_state, now)
    elif process_state.health is not None:
        process_state, actions = lifecycle.apply_health(process_state, process_state.health, now)
    else:
        actions = ()
    return process_state, (*cancelled, *actions)


def _follow_other_files(process_state: ProcessState, before: Process, now: float) -> Step:
    """Act on the changes so far, by the new settings of the watch."""
    watch = process_state.process.watch
    if watch == before.watch:
        return process_state, ()
    if watch is None:
        actions = (CancelPreparation(process_state.process.name),) if process_state.preparing else ()
        return process_state._replace(change=None, preparing=False), actions
    if process_state.change is not None:
        process_state = process_state._replace(
            change=process_state.change._replace(since=now, due=now + watch.debounce, calm=0.0)
        )
    return process_state, ()


def _check_otherwise(process_state: ProcessState, now: float) -> Step:
    """Begin the health checks again by new settings: the process is up again when they succeed."""
    name, run, health, settings = (
        process_state.process.name,
        process_state.run,
        process_state.health,
        process_state.process.health,
    )
    actions: tuple[Action, ...] = ()
    if health is not None and health.checking:
        actions = (CancelCheck(name, run),)
    if settings is None:
        since = now if process_state.up_since is None else process_state.up_since
        process_state = begin_running(process_state, since)._replace(health=None)
        return process_state, actions
    begun = health_rules.restart_checks(settings, health, now, paused=process_state.attached)
    process_state = process_state._replace(state=State.STARTING, up_since=None, health=begun)
    process_state, more = lifecycle.apply_health(process_state, begun, now)
    return process_state, (*actions, *more)


# These settings become part of the child when it is spawned.
OF_THE_CHILD = ("command", "env", "cwd", "pty", "detached")


class Differences(NamedTuple):
    """The names of processes, in the order of the new plan; `removed` in that of the old one.

    The processes in `restarted` need a new run, those in `updated` do not; `changed` has the changed settings of both.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    restarted: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]


def compare(old: Plan, new: Plan) -> Differences:
    """Compare the plan that runs with a new one."""
    before = {process.name: process for process in old.processes}
    after = {process.name: process for process in new.processes}
    moved = before.keys() ^ after.keys()
    changed = {
        name: words
        for name, process in after.items()
        if name in before and (words := _words(before[name], process, moved))
    }
    restarted = tuple(name for name in changed if needs_restart(before[name], after[name]))
    return Differences(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        restarted=restarted,
        updated=tuple(name for name in changed if name not in restarted),
        unchanged=tuple(name for name in after if name in before and name not in changed),
        changed=changed,
    )


def needs_restart(old: Process, new: Process) -> bool:
    """Whether a child of the old process cannot become one of the new process.

    A new log line for readiness needs a restart too, because the line may have been written long ago. So does a new log
    file of a detached process, because the process has its log file open itself.
    """
    if any(_has_other(field, old, new) for field in OF_THE_CHILD):
        return True
    if new.detached and _log_path(old) != _log_path(new):
        return True
    waits_for = None if new.health is None else new.health.log
    return waits_for is not None and (old.health is None or old.health.log != waits_for)


def _has_other(field: str, old: Process, new: Process) -> bool:
    """Whether a field differs. The ports of other processes do not count: a process learns them at its next run."""
    if field == "env" and old.env is not None and new.env is not None:
        return bool(_differing(old.env, new.env))
    return bool(getattr(old, field) != getattr(new, field))


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = {name for name in (*old, *new) if old.get(name) != new.get(name) and not name.startswith(PREFIX)}
    return sorted(names)


def _log_path(process: Process) -> str | None:
    return None if process.log is None else process.log.path


def _words(old: Process, new: Process, moved: Collection[str]) -> tuple[str, ...]:
    fields = [field for field in Process._fields if _has_other(field, old, new)]
    if "depends_on" in fields and _follows(old, new, moved):
        fields.remove("depends_on")
    return tuple(_variables(old, new) if field == "env" else field for field in fields)


def _follows(old: Process, new: Process, moved: Collection[str]) -> bool:
    """Whether it depends on the same types as before, of which only the number has changed."""
    return _edges(old) == _edges(new) and _staying(old, moved) == _staying(new, moved)


def _edges(process: Process) -> set[tuple[str, Condition, bool]]:
    return {(Process(edge.name, "").type, edge.condition, edge.restart) for edge in process.depends_on}


def _staying(process: Process, moved: Collection[str]) -> list[Dependency]:
    return [edge for edge in process.depends_on if edge.name not in moved]


def _variables(old: Process, new: Process) -> str:
    if old.env is None or new.env is None:
        return "env"
    return f"env: {', '.join(_differing(old.env, new.env))}"
