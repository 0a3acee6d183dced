"""Between processes: who may start now, what the end of one means for the others, and how the app ends.

Rules: pure, like `lifecycle`, of which this is the only caller. An event that names an unknown process changes nothing
here; the owner refuses such requests before they come in. Once the app shuts down nothing starts any more.

Theory of operation. Every event goes to the processes that it is about; then the fleet draws the consequences of a run
that ended for good, and *reconciles*: whatever is wanted, not running and may start is launched. Only a few launches
are under way at once (`LAUNCHES_AT_ONCE`), so that a hundred processes cannot keep the loop from output and signals,
and so that a stop in the first moments finds most of them not yet started.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, assert_never

from procreaper import lifecycle
from procreaper.events import (
    Action,
    ChildExited,
    Event,
    GroupEnded,
    Restart,
    Shutdown,
    Spawned,
    SpawnFailed,
    Start,
    State,
    Stop,
    Tick,
)
from procreaper.lifecycle import ENDS, Lifecycle, Phase
from procreaper.plan import Plan

LAUNCHES_AT_ONCE = 4
# An app that ended well but left something behind that SIGKILL could not reach did not end well.
LEFT_SOMETHING_BEHIND = 1


class Fleet(NamedTuple):
    """The state of the app. `members` is never changed in place; a step that changes something makes a new one."""

    members: dict[str, Lifecycle]
    shutting_down: bool = False
    insisted: bool = False
    code: int | None = None
    first_failure: int | None = None

    @property
    def finished(self) -> bool:
        """Nothing runs that could be ended, and either the app is to end or every process ended by itself.

        A process that was stopped by hand keeps the app: only a `Shutdown` or `stop_all` ends that one.
        """
        lives = self.members.values()
        if self.shutting_down:
            return all(life.settled or life.out_of_reach for life in lives)
        return all(life.settled and life.state in ENDS for life in lives)

    @property
    def exit_code(self) -> int:
        """What the command line ends with, once `finished`: honcho's rule, with 128+n for a signal."""
        code = self.code if self.code is not None else (self.first_failure or 0)
        if code == 0 and any(life.out_of_reach for life in self.members.values()):
            return LEFT_SOMETHING_BEHIND
        return code


Step = tuple[Fleet, tuple[Action, ...]]


def begin(plan: Plan) -> Fleet:
    """The fleet before anything was asked of it."""
    return Fleet({process.name: Lifecycle(process) for process in plan.processes})


def step(fleet: Fleet, event: Event, now: float) -> Step:
    """Apply one event; everything that follows from it is in the answer."""
    match event:
        case Spawned(name=name) | SpawnFailed(name=name) | ChildExited(name=name) | GroupEnded(name=name):
            names: Iterable[str] = (name,)
        case Stop(names=named):
            names = dict.fromkeys(named)
        case Start(names=named) | Restart(names=named):
            names = () if fleet.shutting_down else dict.fromkeys(named)
        case Tick():
            names = tuple(name for name, life in fleet.members.items() if life.due is not None and life.due <= now)
        case Shutdown():
            return _shut_down(fleet, event, now)
        case _:
            assert_never(event)
    fleet, actions = _apply(fleet, names, event, now)
    fleet, following = _conclude(fleet, names, now)
    fleet, launches = _reconcile(fleet)
    return fleet, (*actions, *following, *launches)


def deadline(fleet: Fleet) -> float | None:
    """The earliest moment at which a `Tick` is due, or None."""
    return min((life.due for life in fleet.members.values() if life.due is not None), default=None)


def _apply(fleet: Fleet, names: Iterable[str], event: Event, now: float) -> Step:
    members = fleet.members
    actions: list[Action] = []
    changed: dict[str, Lifecycle] = {}
    for name in names:
        if (life := members.get(name)) is not None:
            changed[name], more = lifecycle.step(life, event, now)
            actions.extend(more)
    return fleet._replace(members={**members, **changed}), tuple(actions)


def _conclude(fleet: Fleet, names: Iterable[str], now: float) -> Step:
    """Draw the consequences for the app of those runs that just ended for good by themselves."""
    for name in names:
        life = fleet.members.get(name)
        if life is None or life.end is None or life.exit is None or fleet.shutting_down:
            continue
        success = life.end is State.COMPLETED
        if not success and fleet.first_failure is None:
            fleet = fleet._replace(first_failure=life.exit.status)
        if life.process.stop_all.applies(success=success):
            return _shut_down(fleet, Shutdown(0 if success else life.exit.status), now)
    return fleet, ()


def _reconcile(fleet: Fleet) -> Step:
    if fleet.shutting_down:
        return fleet, ()
    free = LAUNCHES_AT_ONCE - sum(life.phase is Phase.SPAWNING for life in fleet.members.values())
    actions: list[Action] = []
    changed: dict[str, Lifecycle] = {}
    for name, life in fleet.members.items():
        if free <= 0:
            break
        if life.wanted and life.state is State.PENDING:
            changed[name], more = lifecycle.launch(life)
            actions.extend(more)
            free -= 1
    return (fleet._replace(members={**fleet.members, **changed}), tuple(actions)) if changed else (fleet, ())


def _shut_down(fleet: Fleet, request: Shutdown, now: float) -> Step:
    """Stop everything; kill everything when somebody insists for the second time.

    The exit code is that of the first cause: a Ctrl-C while the app ends because `web` crashed does not hide the crash.
    """
    kill = request.insistent and fleet.insisted
    fleet = fleet._replace(
        shutting_down=True,
        insisted=fleet.insisted or request.insistent,
        code=request.code if fleet.code is None else fleet.code,
    )
    changed: dict[str, Lifecycle] = {}
    actions: list[Action] = []
    for name, life in fleet.members.items():
        changed[name], more = lifecycle.kill(life, now) if kill else lifecycle.step(life, request, now)
        actions.extend(more)
    return fleet._replace(members=changed), tuple(actions)
