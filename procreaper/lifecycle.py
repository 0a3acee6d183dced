"""One process: what it does next, given what happened, what is wanted and what time it is.

Rules: pure. `now` is any clock that never goes back, in seconds; nothing is read from the world. A fact of another run
than the current one is stale and changes nothing.

Theory of operation. Two things are kept apart: the *state*, a word for people, and the *phase*, where the run's
operating-system processes are:

    NONE --launch--> SPAWNING --Spawned--> ALIVE --ChildExited--> NONE
                        |                    |                     ^
                        +--SpawnFailed--> NONE    (leftovers) --> LINGERING --GroupEnded

A new run is launched only in phase NONE, so that there are never two children of one process. `wanted` is the intent:
a process that is wanted again while it is still ending starts when the old group is gone. `end` is the verdict on a
run that ended by itself and is not to be retried; it becomes the state when the group is gone. There is one deadline,
`due`: the end of the back-off while `restarting`, the next escalation while `stopping`.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, assert_never

from procreaper.events import (
    Action,
    ChildExited,
    Event,
    Exit,
    GroupEnded,
    Restart,
    SendSignal,
    Shutdown,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    State,
    Stop,
    Tick,
)
from procreaper.plan import Process, When

SIGKILL = 9
# What a shell says of a program that is not executable or not there: running it again cannot help.
NOT_RUNNABLE = {126: "not executable", 127: "command not found"}
# A group that is still there so long after SIGKILL (seconds) is out of reach: uninterruptible, or another user's.
OUT_OF_REACH_AFTER = 5.0

ENDS = frozenset({State.COMPLETED, State.FAILED, State.SKIPPED})


class Phase(Enum):
    """Where the operating-system processes of the current run are."""

    NONE = "none"
    SPAWNING = "spawning"
    ALIVE = "alive"
    LINGERING = "lingering"


class Lifecycle(NamedTuple):
    """All that is known of one process. `retries` counts in a row and resets; `restarts` only grows."""

    process: Process
    state: State = State.STOPPED
    reason: str = "not started"
    wanted: bool = False
    phase: Phase = Phase.NONE
    run: int = 0
    pid: int | None = None
    exit: Exit | None = None
    end: State | None = None
    asked_to_end: bool = False
    killed: bool = False
    out_of_reach: bool = False
    up_since: float | None = None
    retries: int = 0
    restarts: int = 0
    due: float | None = None

    @property
    def settled(self) -> bool:
        """Nothing of it runs, and nothing will until somebody asks."""
        return self.phase is Phase.NONE and not self.wanted


Step = tuple[Lifecycle, tuple[Action, ...]]


def step(life: Lifecycle, event: Event, now: float) -> Step:
    """Apply one event that is about this process; the names in a request have been looked at already."""
    match event:
        case Spawned() | SpawnFailed() | ChildExited() | GroupEnded():
            return _learn(life, event, now) if event.run == life.run else (life, ())
        case Tick():
            return _tick(life, now)
        case Start():
            return _start(life)
        case Restart():
            return _restart(life, now)
        case Stop() | Shutdown():
            return _stop(life, now)
        case _:
            assert_never(event)


def deadline(life: Lifecycle) -> float | None:
    """When a `Tick` is due, or None while only an event can change anything."""
    return life.due


def launch(life: Lifecycle) -> Step:
    """Begin the next run; only for a process that is `pending` with no phase."""
    run = life.run + 1
    life = life._replace(
        state=State.STARTING,
        reason="starting",
        phase=Phase.SPAWNING,
        run=run,
        exit=None,
        end=None,
        asked_to_end=False,
        killed=False,
        out_of_reach=False,
        up_since=None,
        due=None,
    )
    return life, (Spawn(life.process.name, run),)


def kill(life: Lifecycle, now: float) -> Step:
    """End it now, whatever it was asked before."""
    life, actions = _stop(life, now)
    if life.phase is Phase.SPAWNING:
        return life._replace(killed=True), actions
    if life.phase is Phase.NONE or life.killed:
        return life, actions
    return _kill(life, now)


def _learn(life: Lifecycle, fact: Spawned | SpawnFailed | ChildExited | GroupEnded, now: float) -> Step:
    match fact, life.phase:
        case Spawned(pid=pid), Phase.SPAWNING:
            life = life._replace(phase=Phase.ALIVE, pid=pid)
            if life.asked_to_end:
                return _kill(life, now) if life.killed else _signal_to_end(life, now)
            return life._replace(state=State.RUNNING, reason="running", up_since=now), ()
        case SpawnFailed(), Phase.SPAWNING:
            life = life._replace(exit=Exit(code=fact.code))
            if not life.asked_to_end:
                life = _judge(life, fact.error, retry_can_help=not fact.permanent, now=now)
            return _settle(life, now), ()
        case ChildExited(exit=exit_, leftovers=leftovers), Phase.ALIVE:
            life = life._replace(exit=exit_)
            if not life.asked_to_end:
                life = _judge(life, describe(exit_), retry_can_help=exit_.code not in NOT_RUNNABLE, now=now)
            if not leftovers:
                return _settle(life, now), ()
            life = life._replace(phase=Phase.LINGERING)
            if life.asked_to_end:
                return life, ()
            return _signal_to_end(life._replace(reason=f"{life.reason}; ending what it left running"), now)
        case GroupEnded(), Phase.LINGERING:
            return _settle(life, now), ()
        case _:
            return life, ()


def _judge(life: Lifecycle, cause: str, *, retry_can_help: bool, now: float) -> Lifecycle:
    """Decide what a run that ended by itself leads to: an `end`, or one more retry."""
    process = life.process
    exit_ = life.exit
    success = exit_ is not None and exit_.status in process.success_codes
    retries = life.retries
    if life.up_since is not None and now - life.up_since >= process.backoff.reset:
        retries = 0
    life = life._replace(retries=retries, reason=cause)
    if success and process.restart is not When.ALWAYS:
        return life._replace(end=State.COMPLETED, wanted=False)
    if not success and not retry_can_help:
        return life._replace(end=State.FAILED, wanted=False)
    if not process.restart.applies(success=success):
        return life._replace(end=State.FAILED, wanted=False)
    if process.max_retries is not None and retries >= process.max_retries:
        return life._replace(end=State.FAILED, wanted=False, reason=f"{cause}; gave up after {retries} retries")
    return life._replace(retries=retries + 1)


def _settle(life: Lifecycle, now: float) -> Lifecycle:
    """The run is over and nothing of it is left: move on to what its end, or the request, leads to."""
    life = life._replace(phase=Phase.NONE, pid=None, up_since=None, due=None, out_of_reach=False)
    if not life.wanted:
        if life.end is not None:
            return life._replace(state=life.end)
        return life._replace(state=State.STOPPED, reason="stopped")
    if life.asked_to_end:
        return life._replace(state=State.PENDING, reason="about to start", restarts=life.restarts + 1)
    wait = life.process.backoff.wait(life.retries)
    limit = life.process.max_retries
    count = f"retry {life.retries}" if limit is None else f"retry {life.retries}/{limit}"
    return life._replace(
        state=State.RESTARTING,
        reason=f"{life.reason}; {count} in {wait:.1f} s",
        restarts=life.restarts + 1,
        due=now + wait,
    )


def _tick(life: Lifecycle, now: float) -> Step:
    if life.due is None or now < life.due:
        return life, ()
    if life.state is State.RESTARTING:
        return life._replace(state=State.PENDING, reason="about to start", due=None), ()
    if not life.killed:
        return _kill(life, now)
    return life._replace(due=None, out_of_reach=True, reason="still there after SIGKILL"), ()


def _start(life: Lifecycle) -> Step:
    if life.phase is Phase.NONE and life.state is not State.PENDING:
        return life._replace(wanted=True, state=State.PENDING, reason="about to start", retries=0, due=None), ()
    if life.state is State.STOPPING:
        # It starts again when the old group is gone, at once and whatever the verdict on that run was.
        life = life._replace(asked_to_end=True, end=None, retries=0)
    return life._replace(wanted=True), ()


def _restart(life: Lifecycle, now: float) -> Step:
    if life.phase is Phase.NONE or life.state is State.STOPPING:
        return _start(life._replace(retries=0))
    life, actions = _stop(life._replace(retries=0), now)
    return life._replace(wanted=True), actions


def _stop(life: Lifecycle, now: float) -> Step:
    life = life._replace(wanted=False)
    if life.phase is Phase.NONE:
        if life.state in (State.PENDING, State.RESTARTING):
            life = life._replace(state=State.STOPPED, reason="stopped", due=None)
        return life, ()
    if life.state is State.STOPPING:
        return life, ()
    if life.phase is Phase.SPAWNING:
        # There is nobody to signal yet; `Spawned` will find that it was asked to end.
        return life._replace(state=State.STOPPING, asked_to_end=True, reason="stopping"), ()
    return _signal_to_end(life._replace(asked_to_end=True, reason="stopping"), now)


def _signal_to_end(life: Lifecycle, now: float) -> Step:
    ending = life.process.ending
    life = life._replace(state=State.STOPPING, due=now + ending.timeout)
    return life, (_signal(life, ending.signal),)


def _kill(life: Lifecycle, now: float) -> Step:
    life = life._replace(killed=True, due=now + OUT_OF_REACH_AFTER)
    return life, (_signal(life, SIGKILL),)


def _signal(life: Lifecycle, number: int) -> SendSignal:
    if life.pid is None:
        raise RuntimeError(f"{life.process.name} has no child to signal")
    return SendSignal(life.process.name, life.run, life.pid, number)


def describe(exit_: Exit) -> str:
    """One phrase for people: ``exited with code 1``, ``killed by signal 9``."""
    if exit_.signal is not None:
        return f"killed by signal {exit_.signal}"
    if exit_.code in NOT_RUNNABLE:
        return f"{NOT_RUNNABLE[exit_.code]} (exit code {exit_.code})"
    return f"exited with code {exit_.code}"
