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
from procreaper.core.differences import needs_restart
from procreaper.core.events import Action, CancelCheck, CancelPreparation, Restart, Start, State, Stop
from procreaper.core.plan import Plan, Process
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
        life = members.get(name)
        if life is not None and name not in leaving:
            after[name], more = _take_over(life, process, now)
        else:
            before = runs.get(name, 0)
            life = ProcessState(process, run=before, earlier_runs=before) if life is None else _become(life, process)
            is_wanted = plan.names is None or name in plan.names
            after[name], more = lifecycle.step(life, Start((name,)), now) if is_wanted else (life, ())
        actions += more
    gone = {name: life for name, life in members.items() if name not in after}
    stopped = frozenset(name for name, life in gone.items() if name not in leaving and _keeps_the_app(life))
    for name, life in gone.items():
        gone[name], more = lifecycle.step(life, Stop((name,)), now)
        actions += more
    return Reloaded({**after, **gone}, frozenset(gone), stopped, actions)


def renew(life: ProcessState, process: Process | None, now: float) -> Step:
    """Give new settings to the next run of a process that has no run now; None keeps those that it has."""
    if process is None or process == life.process:
        return life, ()
    before = life.process
    return _follow_other_files(life._replace(process=process), before, now)


def _keeps_the_app(life: ProcessState) -> bool:
    """Whether a stop by hand would keep the app running, because the process has not ended for good by itself."""
    return life.asked and not (life.settled and life.state in FINAL_STATES and life.process.watch is None)


def _become(life: ProcessState, process: Process) -> ProcessState:
    """Take over the settings of another process, with a restart if the child needs one."""
    spawned_with = None if life.phase is Phase.NONE else (life.spawned_with or life.process)
    return life._replace(process=process, spawned_with=spawned_with)


def _take_over(life: ProcessState, process: Process, now: float) -> Step:
    before = life.process
    if process == before and not life.throttle.suspended:
        return life, ()
    life = lifecycle.resume_watch(life)
    if needs_restart(before, process):
        life, cancelled = _follow_other_files(_become(life, process), before, now)
        if not set(process.depends_on) <= set(before.depends_on):
            # The new run is the first one that needs them.
            life = life._replace(was_up=False)
        if life.stopped_by_user or not life.asked:
            return life, cancelled
        life, actions = lifecycle.step(life, Restart((process.name,)), now)
        return life, (*cancelled, *actions)
    life, cancelled = _follow_other_files(life._replace(process=process), before, now)
    if life.state in (State.COMPLETED, State.FAILED):
        life = life._replace(reason=end_reason(life))
    if not life.is_alive:
        return life, cancelled
    if process.health != before.health:
        life, actions = _check_otherwise(life, now)
    elif life.health is not None:
        life, actions = lifecycle.apply_health(life, life.health, now)
    else:
        actions = ()
    return life, (*cancelled, *actions)


def _follow_other_files(life: ProcessState, before: Process, now: float) -> Step:
    """Act on the changes so far, by the new settings of the watch."""
    watch = life.process.watch
    if watch == before.watch:
        return life, ()
    if watch is None:
        actions = (CancelPreparation(life.process.name),) if life.preparing else ()
        return life._replace(change=None, preparing=False), actions
    if life.change is not None:
        life = life._replace(change=life.change._replace(since=now, due=now + watch.debounce, calm=0.0))
    return life, ()


def _check_otherwise(life: ProcessState, now: float) -> Step:
    """Begin the health checks again by new settings: the process is up again when they succeed."""
    name, run, health, settings = life.process.name, life.run, life.health, life.process.health
    actions: tuple[Action, ...] = ()
    if health is not None and health.checking:
        actions = (CancelCheck(name, run),)
    if settings is None:
        since = now if life.up_since is None else life.up_since
        life = begin_running(life, since)._replace(health=None)
        return life, actions
    begun = health_rules.restart_checks(settings, health, now, paused=life.attached)
    life = life._replace(state=State.STARTING, up_since=None, health=begun)
    life, more = lifecycle.apply_health(life, begun, now)
    return life, (*actions, *more)
