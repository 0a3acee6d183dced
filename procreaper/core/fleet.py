"""The rules between processes: which process may start, what an end means for the others, and how the app ends.

Rules: pure. This is the only caller of `lifecycle`. An event with an unknown name changes nothing here; the supervisor
refuses such requests before. Once the app shuts down, no process starts any more. The dependencies have no cycle;
`plan.find_cycle` makes sure of it when a plan is made.

Theory of operation. Each event goes to the processes that it is about. Then the fleet applies the consequences of runs
that ended for good, and *reconciles*:

    restart    a process restarts along with a dependency if its edge says so; they start again in order
    stop       a process that is to end gets its stop signal as soon as no dependant of it is ending
    launch     a process that is wanted and not running starts: at once if it was up before, else when its
               dependencies are up. If they never will be, it is skipped, and waits again if they begin again

So there is no plan for the order of stopping: all processes are marked as ending at once, and dependants get their
signal first. Only a few launches are under way at once (`LAUNCHES_AT_ONCE`): a hundred processes must not keep the loop
from output and signals, and an early stop finds most of them not yet started.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, assert_never

from procreaper.core import dependencies, lifecycle
from procreaper.core.dependencies import Members
from procreaper.core.events import (
    Action,
    CheckFinished,
    ChildExited,
    Event,
    FilesChanged,
    GroupEnded,
    LogMatched,
    OutputBegan,
    PreparationEnded,
    ReadSettings,
    Reload,
    Restart,
    SettingsRead,
    Shutdown,
    Spawned,
    SpawnFailed,
    Start,
    StartHook,
    State,
    Stop,
    StopCommandFailed,
    TerminalClosed,
    TerminalOpened,
    Tick,
    TimeLost,
)
from procreaper.core.plan import Plan
from procreaper.core.state import ABOUT_TO_START, FINAL_STATES, Phase, ProcessState

LAUNCHES_AT_ONCE = 4
# The exit code if a process outlived SIGKILL, although the app ended well otherwise.
LEFT_SOMETHING_BEHIND = 1
# The exit code if a process was skipped, although the app ended well otherwise.
SKIPPED_SOMETHING = 1


class Fleet(NamedTuple):
    """The state of the app. `members` is never changed in place: a step that changes something makes a new mapping.

    `dependants` has all direct and indirect dependants of each process that has any. `leaving` are the processes that
    the plan no longer has, as long as something of them is left. `removed` are those of them that did not end by
    themselves and did not come back. `culprit` is the process whose end has ended the app, if it was a process;
    `ended_by` is any other cause. `runs` has the last run numbers of processes that are gone.
    """

    members: Members
    dependants: Mapping[str, tuple[str, ...]]
    shutting_down: bool = False
    insisted: bool = False
    code: int | None = None
    culprit: str | None = None
    ended_by: str = ""
    first_failure: int | None = None
    leaving: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    runs: Mapping[str, int] = {}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to end, and either the app shuts down or every process has ended by itself.

        A process that was stopped or removed by hand keeps the app running, and so does a process that waits for
        changed files: only a `Shutdown` or `stop_all` ends the app then. Processes that were never wanted do not count.
        """
        lives = self.members.values()
        if self.shutting_down:
            return all(process_state.settled or process_state.out_of_reach for process_state in lives)
        return not self.removed and all(
            process_state.settled
            and (not process_state.asked or (process_state.state in FINAL_STATES and not process_state.process.watch))
            for process_state in lives
        )

    @property
    def exit_code(self) -> int:
        """The exit code of the command line once `finished`: honcho's rule, with 128+n for a signal."""
        code = self.code if self.code is not None else (self.first_failure or 0)
        if code == 0 and any(process_state.out_of_reach for process_state in self.members.values()):
            return LEFT_SOMETHING_BEHIND
        return code


Step = tuple[Fleet, tuple[Action, ...]]


def begin(plan: Plan) -> Fleet:
    """Return the fleet before the first request."""
    members = {process.name: ProcessState(process) for process in plan.processes}
    return Fleet(members, dependencies.dependants(members))


def step(fleet: Fleet, event: Event, now: float) -> Step:
    """Apply one event, with everything that follows from it."""
    before = fleet.members
    match event:
        case Stop(names=named):
            names: Iterable[str] = dict.fromkeys(named)
        case Start(names=named) | Restart(names=named):
            names = () if fleet.shutting_down else [name for name in dict.fromkeys(named) if name not in fleet.leaving]
        case Tick():
            names = [name for name in before if _is_due(before[name], now)]
        case TimeLost():
            names = before
        case Shutdown() | Reload() | SettingsRead():
            names = ()
        case FilesChanged(changes=changes):
            names = () if fleet.shutting_down else changes
        case (
            Spawned(name=name)
            | SpawnFailed(name=name)
            | ChildExited(name=name)
            | GroupEnded(name=name)
            | CheckFinished(name=name)
            | OutputBegan(name=name)
            | LogMatched(name=name)
            | StopCommandFailed(name=name)
            | PreparationEnded(name=name)
            | TerminalOpened(name=name)
            | TerminalClosed(name=name)
        ):
            names = (name,)
        case _:
            assert_never(event)
    if isinstance(event, Shutdown):
        fleet, actions = _shut_down(fleet, event, now)
    else:
        if isinstance(event, Reload):
            fleet, actions = _reload(fleet, event.plan, now)
        elif isinstance(event, SettingsRead):
            fleet, actions = _renew(fleet, event, now)
        else:
            fleet, actions = _apply(fleet, names, event, now)
        if fleet.members is before:
            # All consequences have been applied before.
            return fleet, actions
        fleet, more = _conclude(fleet, names if isinstance(event, ChildExited | SpawnFailed) else (), now)
        actions += more
    fleet, following = _reconcile(fleet, before, now)
    fleet = _without_gone(fleet)
    return fleet, (*actions, *following, *_hooks(before, fleet.members))


def deadline(fleet: Fleet) -> float | None:
    """Return the earliest moment at which a `Tick` is due, or None."""
    times = [lifecycle.deadline(process_state) for process_state in fleet.members.values()]
    return min((time for time in times if time is not None), default=None)


def is_timed(fleet: Fleet) -> bool:
    """Return whether some process has a time limit that must not include a pause of procreaper."""
    return any(map(lifecycle.is_timed, fleet.members.values()))


def _is_due(process_state: ProcessState, now: float) -> bool:
    due = lifecycle.deadline(process_state)
    return due is not None and due <= now


def _apply(fleet: Fleet, names: Iterable[str], event: Event, now: float) -> Step:
    actions: list[Action] = []
    changed: Members = {}
    for name in names:
        if (before := fleet.members.get(name)) is not None:
            after, more = lifecycle.step(before, event, now)
            actions.extend(more)
            if after is not before:
                changed[name] = after
    return _changed(fleet, changed), tuple(actions)


def _reload(fleet: Fleet, plan: Plan, now: float) -> Step:
    if fleet.shutting_down:
        return fleet, ()
    # Imported here, because most apps keep their first plan.
    from procreaper.core.reload import reload

    members, leaving, stopped, actions = reload(fleet.members, fleet.leaving, fleet.runs, plan, now)
    removed = (fleet.removed | stopped).difference(process.name for process in plan.processes)
    fleet = fleet._replace(leaving=leaving, removed=removed)
    return _related_anew(fleet, members), actions


def _renew(fleet: Fleet, event: SettingsRead, now: float) -> Step:
    """Give new settings to a process that has no run and waited for them."""
    process_state = fleet.members.get(event.name)
    if process_state is None or not process_state.rereading:
        return fleet, ()
    from procreaper.core.reload import renew

    process_state, actions = renew(process_state._replace(rereading=False), event.process, now)
    return _related_anew(fleet, {**fleet.members, event.name: process_state}), actions


def _related_anew(fleet: Fleet, members: Members) -> Fleet:
    """Return the fleet with these members, whose dependencies may have changed."""
    dependants = dependencies.dependants(members)
    # A leaving process may depend on another one through a process that is gone.
    for name, others in fleet.dependants.items():
        known = dependants.get(name, ())
        if missing := tuple(other for other in others if other in fleet.leaving and other not in known):
            dependants[name] = known + missing
    return fleet._replace(members=members, dependants=dependants)


def _without_gone(fleet: Fleet) -> Fleet:
    """Remove the leaving members of which nothing is left."""
    gone = [name for name in fleet.leaving if fleet.members[name].phase is Phase.NONE]
    if not gone:
        return fleet
    return fleet._replace(
        members={name: process_state for name, process_state in fleet.members.items() if name not in gone},
        leaving=fleet.leaving.difference(gone),
        dependants={
            name: tuple(other for other in others if other not in gone) for name, others in fleet.dependants.items()
        },
        runs={**fleet.runs, **{name: fleet.members[name].run for name in gone}},
    )


def _changed(fleet: Fleet, changed: Members) -> Fleet:
    return fleet._replace(members={**fleet.members, **changed}) if changed else fleet


def _conclude(fleet: Fleet, names: Iterable[str], now: float) -> Step:
    """Apply the consequences of runs that have just ended for good by themselves: for dependants, then for the app.

    The end of a process that was removed meanwhile has none.
    """
    if fleet.shutting_down:
        return fleet, ()
    causes: list[tuple[str, int]] = []
    for name in names:
        process_state = fleet.members.get(name)
        if (
            process_state is None
            or process_state.end is None
            or process_state.exit is None
            or process_state.verdict is None
            or name in fleet.leaving
        ):
            continue
        code = 0 if process_state.succeeded else process_state.verdict.status
        if code and fleet.first_failure is None:
            fleet = fleet._replace(first_failure=code)
        if process_state.process.stop_all.applies(success=process_state.end is State.COMPLETED):
            causes.append((name, code))
    fleet = _changed(fleet, dependencies.found(fleet.members))
    if skipped := dependencies.lost(fleet.members):
        first_failure = SKIPPED_SOMETHING if fleet.first_failure is None else fleet.first_failure
        fleet = fleet._replace(members={**fleet.members, **skipped}, first_failure=first_failure)
    if not causes:
        return fleet, ()
    culprit, code = causes[0]
    return _shut_down(fleet._replace(culprit=culprit), Shutdown(code), now)


def _reconcile(fleet: Fleet, before: Members, now: float) -> Step:
    fleet, cancelled = _restart_dependants(fleet, before)
    fleet, stopped = _stop_in_order(fleet, now)
    fleet, launched = _launch(fleet)
    return fleet, (*cancelled, *stopped, *launched)


def _restart_dependants(fleet: Fleet, before: Members) -> Step:
    """Restart each dependant whose edge says `restart`, if its dependency was up and restarts. It waits for that."""
    if not fleet.dependants or fleet.shutting_down:
        return fleet, ()
    actions: tuple[Action, ...] = ()
    while followers := dependencies.followers(before, fleet.members):
        changed: Members = {}
        for name in followers:
            changed[name], more = lifecycle.restart_along(fleet.members[name])
            actions += more
        fleet = _changed(fleet, changed)
    return _changed(fleet, dependencies.restarted_together(before, fleet.members)), actions


def _stop_in_order(fleet: Fleet, now: float) -> Step:
    """Send the stop signal to each process that is to end and has no dependant that ends first."""
    actions: list[Action] = []
    changed: Members = {}
    for name, process_state in fleet.members.items():
        if not process_state.needs_stop_signal:
            continue
        first = [other for other in fleet.dependants.get(name, ()) if _is_ending(fleet.members[other])]
        if not first:
            changed[name], more = lifecycle.send_stop(process_state, now)
            actions.extend(more)
        elif process_state.asked_to_end:
            changed[name] = process_state._replace(reason=f"stops after {', '.join(first)}")
    return _changed(fleet, changed), tuple(actions)


def _launch(fleet: Fleet) -> Step:
    """Launch the processes that may start now, a few at once."""
    if fleet.shutting_down:
        return fleet, ()
    free = LAUNCHES_AT_ONCE - sum(process_state.phase is Phase.SPAWNING for process_state in fleet.members.values())
    actions: list[Action] = []
    changed: Members = {}
    for name, process_state in fleet.members.items():
        if not (process_state.wanted and process_state.state is State.PENDING) or process_state.rereading:
            continue
        if free <= 0 and process_state.reason is ABOUT_TO_START and not process_state.process.depends_on:
            # It waits only for other launches. Of a hundred processes, most do so most of the time.
            continue
        others = dependencies.missing(fleet.members, process_state)
        if not others and process_state.outdated:
            changed[name] = process_state._replace(outdated=False, rereading=True, reason=ABOUT_TO_START, waits_for=())
            actions.append(ReadSettings(name))
            continue
        if not others and free > 0:
            changed[name], more = lifecycle.launch(process_state)
            actions.extend(more)
            free -= 1
            continue
        if (after := dependencies.wait(process_state, others)) is not process_state:
            changed[name] = after
    return _changed(fleet, changed), tuple(actions)


def _is_ending(process_state: ProcessState) -> bool:
    return process_state.state is State.STOPPING and not process_state.out_of_reach


def _hooks(before: Members, after: Members) -> list[Action]:
    """Return the hooks of processes that came up, will be retried, or have failed for good in this step."""
    actions: list[Action] = []
    for name, process_state in after.items():
        hooks = process_state.process.hooks
        if hooks is None:
            continue
        earlier = before.get(name)
        if earlier is None or process_state.state is earlier.state:
            continue
        match process_state.state:
            case State.RUNNING | State.HEALTHY if not earlier.came_up and not process_state.process.oneshot:
                command = hooks.on_ready
            case State.COMPLETED if process_state.process.oneshot:
                command = hooks.on_ready
            case State.RESTARTING:
                command = hooks.on_retry
            case State.FAILED:
                command = hooks.on_fail
            case _:
                command = None
        if command is not None:
            code = None if process_state.verdict is None else process_state.verdict.status
            actions.append(StartHook(name, command, code, process_state.retries))
    return actions


def _shut_down(fleet: Fleet, request: Shutdown, now: float) -> Step:
    """Stop everything; kill everything at the second insistent request.

    The exit code is that of the first cause: a Ctrl-C while the app ends because `web` crashed does not hide the crash.
    """
    kill = request.insistent and fleet.insisted
    fleet = fleet._replace(
        shutting_down=True,
        insisted=fleet.insisted or request.insistent,
        code=request.code if fleet.code is None else fleet.code,
        ended_by=fleet.ended_by if fleet.shutting_down else request.by,
    )
    changed: Members = {}
    actions: list[Action] = []
    for name, process_state in fleet.members.items():
        changed[name], more = (
            lifecycle.kill(process_state, now) if kill else lifecycle.step(process_state, request, now)
        )
        actions.extend(more)
    return fleet._replace(members=changed), tuple(actions)
