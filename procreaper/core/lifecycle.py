"""One process: what it does next, given what happened, what is wanted and what time it is.

Rules: pure. `now` is any clock that never goes back, in seconds; nothing is read from the world. A fact of another run
than the current one is stale and changes nothing.

Theory of operation. A new run is launched only in phase NONE (`life`), so that there are never two children of one
process. `wanted` is the intent: a process that is wanted again while it is still ending starts when the old group is
gone. A run ends in one of two ways. Somebody asks for it (`asked_to_end`), and then its exit means nothing. Or there is
a `verdict`, what the run counts as: how it exited, or that it was not healthy; `end` is what it leads to if it is not
to be retried, and becomes the state when the group is gone (`policy`).

In either case, what still lives of the group is `stopping`; `fleet`, which knows what has to stop before it, says with
`tell_to_end` when it gets its signal. `due` is the end of the back-off while `restarting`, and the next escalation
while `stopping`. What its health means is said by `diagnosis`, and what its changed files by `renewal`; both are parts
of this, with deadlines of their own, and imported where there is a health check or a watch.
"""

from __future__ import annotations

from procreaper.core.events import (
    Action,
    Announce,
    CancelCheck,
    CancelPreparation,
    CheckFinished,
    ChildExited,
    Event,
    Exit,
    FilesChanged,
    GroupEnded,
    LogMatched,
    OutputBegan,
    PreparationEnded,
    Release,
    Reload,
    Restart,
    RestartReason,
    RunStopCommand,
    SettingsRead,
    Shutdown,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    State,
    Stop,
    StopCommandFailed,
    TerminalClosed,
    TerminalOpened,
    Tick,
    TimeLost,
)
from procreaper.core.state import (
    ABOUT_TO_START,
    STOPPING,
    UNTIL_A_CHANGE,
    Echoes,
    HealthState,
    Phase,
    ProcessState,
    RestartThrottle,
)
from procreaper.core.transitions import (
    NOT_RUNNABLE,
    Step,
    begin_running,
    describe,
    judge,
    restart,
    settle,
    signal,
    start,
    stop,
    stopping,
)

SIGKILL = 9
# A group that is still there so long after SIGKILL (seconds) is out of reach: uninterruptible, or another user's.
OUT_OF_REACH_AFTER = 5.0
LIVES_ON = "lives on by itself"


def step(life: ProcessState, event: Event, now: float) -> Step:
    """Apply one event that is about this process; the names in a request have been looked at already."""
    match event:
        case Tick():
            after, actions = _tick(life, now)
        case Start():
            after, actions = start(resume_watch(life)), ()
        case Restart():
            after, actions = restart(resume_watch(life)), ()
        case Stop():
            after, actions = _dismiss(life)
        case Shutdown():
            after, actions = _let_go(life) if _may_live_on(life) else _dismiss(life)
        case TerminalOpened() | TerminalClosed():
            after, actions = _diagnose(life, event, now)
        case TimeLost(seconds=seconds):
            return _lose_time(life, seconds), ()
        case Reload() | SettingsRead():
            return life, ()
        case FilesChanged() | PreparationEnded():
            # Not at the top: most processes have no `watch`.
            from procreaper.core.file_changes import apply_fact

            after, actions = apply_fact(life, event, now)
            if isinstance(event, FilesChanged) and life.process.name in event.outdated and not after.outdated:
                after = after._replace(outdated=True)
        case _:
            if event.run != life.run:
                return life, ()
            after, actions = _learn(life, event, now)
    return after, (*_cancelled(life, after, event), *actions)


def deadline(life: ProcessState) -> float | None:
    """When a `Tick` is due, or None while only an event can change anything."""
    checkup, change = life.checkup, life.change
    times = [
        life.due,
        None if checkup is None else checkup.deadline,
        None if change is None or life.preparing else change.due,
        life.steady_from,
    ]
    return min((time for time in times if time is not None), default=None)


def is_timed(life: ProcessState) -> bool:
    """Whether something is limited to a time, of which a pause of procreaper must not be a part.

    The wait before a retry is no such limit: after a pause, the retry comes as soon as its wait is over.
    """
    return (
        (life.due is not None and life.state is State.STOPPING)
        or (life.checkup is not None and life.checkup.is_timed)
        or life.change is not None
        or life.steady_from is not None
    )


def launch(life: ProcessState) -> Step:
    """Begin the next run; only for a process that is `pending` with no phase.

    It knows what has changed so far, unless that has to be prepared first.
    """
    run, watch = life.run + 1, life.process.watch
    life = life._replace(
        state=State.STARTING,
        reason="starting",
        phase=Phase.SPAWNING,
        run=run,
        exit=None,
        verdict=None,
        cause="",
        succeeded=False,
        end=None,
        asked_to_end=False,
        told=False,
        killed=False,
        out_of_reach=False,
        up_since=None,
        came_up=False,
        spawned_with=None,
        due=None,
        change=None if watch is None or watch.run is None else life.change,
        waits_for=(),
    )
    return life, (Spawn(life.process.name, run),)


def tell_to_end(life: ProcessState, now: float) -> Step:
    """Ask the group of an `untold` process to end."""
    policy = life.stop
    # From now on it ends in this way, whatever becomes of its settings.
    spawned_with = life.spawned_with or life.process
    life = life._replace(told=True, spawned_with=spawned_with, due=now + policy.timeout, reason=_told(life))
    if life.phase is Phase.LINGERING:
        # Only the child knows what a stop command is about.
        return life, (signal(life, policy.signal),)
    if policy.command is not None:
        return life, (RunStopCommand(life.process.name, life.run),)
    return life, (signal(life, policy.signal, only_main=policy.only_main),)


def kill(life: ProcessState, now: float) -> Step:
    """End it now, whatever it was asked before, unless it lives on without us."""
    if life.releasing or _may_live_on(life):
        return life, ()
    before, life = life, stop(life)
    cancelled = _cancelled(before, life, None)
    if life.phase is Phase.SPAWNING:
        return life._replace(killed=True), cancelled
    if life.phase is Phase.NONE or life.killed:
        return life, cancelled
    life, actions = _kill(life, now)
    return life, (*cancelled, *actions)


def look_again(life: ProcessState, checkup: HealthState, now: float) -> Step:
    """Draw the consequences of settings that are others now for a living run, of which this is known."""
    from procreaper.core.health import examine

    after, actions = examine(life, checkup, now)
    return after, (*_cancelled(life, after, None), *actions)


def restart_along(life: ProcessState) -> Step:
    """Restart it because a dependency restarts, and have it wait for that; its pace stays."""
    after = restart(life, RestartReason.DEPENDENCY)._replace(was_up=False)
    return after, _cancelled(life, after, None)


def resume_watch(life: ProcessState) -> ProcessState:
    """Forget how often it was restarted for changed files, as after a request by hand."""
    if life.throttle == RestartThrottle() and life.echoes == Echoes():
        return life
    change = None if life.change is None else life.change._replace(calm=0.0)
    return life._replace(throttle=RestartThrottle(), echoes=Echoes(), change=change)


def _learn(
    life: ProcessState,
    fact: Spawned
    | SpawnFailed
    | ChildExited
    | GroupEnded
    | CheckFinished
    | OutputBegan
    | LogMatched
    | StopCommandFailed,
    now: float,
) -> Step:
    match fact, life.phase:
        case Spawned(pid=pid), Phase.SPAWNING:
            life = life._replace(phase=Phase.ALIVE, pid=pid)
            if life.releasing:
                return _let_go(life)
            if life.asked_to_end:
                return _kill(life, now) if life.killed else (life, ())
            if life.process.health is None:
                return begin_running(life, now), ()
            return _diagnose(life, fact, now)
        case SpawnFailed(), Phase.SPAWNING:
            life = life._replace(exit=Exit(code=fact.code))
            if not life.asked_to_end:
                verdict, hope = Exit(code=fact.code), not fact.permanent
                life = judge(life, verdict, fact.error, retry_can_help=hope, ran_well=False, now=now)
            return settle(life, now), ()
        case ChildExited(exit=exit_, leftovers=leftovers), Phase.ALIVE:
            life = life._replace(exit=exit_)
            if life.state is not State.STOPPING:
                life = judge(life, exit_, describe(exit_), retry_can_help=exit_.code not in NOT_RUNNABLE, now=now)
            if not leftovers:
                return settle(life, now), ()
            if life.state is not State.STOPPING:
                life = stopping(life, f"{life.cause}; ending what it left running")
            elif life.told and not life.killed and life.stop.command is not None:
                # The command has asked the child; now its leftovers are told, as systemd does after ExecStop.
                return life._replace(phase=Phase.LINGERING), (signal(life, life.stop.signal),)
            return life._replace(phase=Phase.LINGERING), ()
        case GroupEnded(), Phase.LINGERING:
            return settle(life, now), ()
        case StopCommandFailed(), Phase.ALIVE if life.state is State.STOPPING and not life.killed:
            return life, (signal(life, life.stop.signal, only_main=life.stop.only_main),)
        case ((CheckFinished() | OutputBegan() | LogMatched()), Phase.ALIVE):
            return _diagnose(life, fact, now)
        case _:
            return life, ()


def _diagnose(
    life: ProcessState,
    fact: Spawned | CheckFinished | OutputBegan | LogMatched | TerminalOpened | TerminalClosed,
    now: float,
) -> Step:
    # Not at the top: most processes have no health check.
    from procreaper.core.health import apply_fact

    return apply_fact(life, fact, now)


def _tick(life: ProcessState, now: float) -> Step:
    if (steady_from := life.steady_from) is not None and now >= steady_from:
        life = life._replace(retries=0)
    actions: tuple[Action, ...] = ()
    if life.change is not None and now >= life.change.due and not life.preparing:
        from procreaper.core.file_changes import act

        life, actions = act(life, life.change, now)
    if life.checkup is not None:
        from procreaper.core.health import examine

        life, more = examine(life, life.checkup, now)
        return life, (*actions, *more)
    if life.due is None or now < life.due:
        return life, actions
    if life.state is State.RESTARTING:
        return life._replace(state=State.PENDING, reason=ABOUT_TO_START, due=None), actions
    if not life.killed:
        life, more = _kill(life, now)
        return life, (*actions, *more)
    return life._replace(due=None, out_of_reach=True, reason="still there after SIGKILL"), actions


def _lose_time(life: ProcessState, seconds: float) -> ProcessState:
    """Move each limit that runs by the time in which procreaper did not run."""
    if not is_timed(life):
        return life
    if life.due is not None and life.state is State.STOPPING:
        life = life._replace(due=life.due + seconds)
    if life.up_since is not None:
        life = life._replace(up_since=life.up_since + seconds)
    if (change := life.change) is not None:
        # What changed meanwhile is reported only now.
        life = life._replace(change=change._replace(since=change.since + seconds, due=change.due + seconds))
    if life.checkup is not None:
        from procreaper.core.health import lose_time

        life = life._replace(checkup=lose_time(life.checkup, seconds))
    return life


def _dismiss(life: ProcessState) -> Step:
    """Somebody stops it: what changes does not matter until somebody wants it again."""
    if life.stopped_by_user:
        return life, ()
    actions = (CancelPreparation(life.process.name),) if life.preparing else ()
    life = stop(life)
    reason = life.reason.removesuffix(UNTIL_A_CHANGE)
    return life._replace(reason=reason, stopped_by_user=True, change=None, preparing=False, was_up=False), actions


def _may_live_on(life: ProcessState) -> bool:
    """The end of the app is none for it; that somebody has asked for its own end still counts."""
    return life.process.detached and (life.lives or life.phase is Phase.SPAWNING) and not life.asked_to_end


def _let_go(life: ProcessState) -> Step:
    """It lives on without us, and is none of our business any more; one that is being spawned, once it is there."""
    life, actions = _dismiss(life)
    if life.phase is Phase.SPAWNING:
        return life._replace(releasing=True), actions
    name = life.process.name
    said = Announce(name, f"{LIVES_ON} (pid {life.pid})")
    life = life._replace(state=State.STOPPED, reason=LIVES_ON, phase=Phase.NONE, pid=None, releasing=False)
    return life, (*actions, Release(name, life.run), said)


def _cancelled(before: ProcessState, after: ProcessState, event: Event | None) -> tuple[Action, ...]:
    """The result of a check that is under way matters no more once the run ends."""
    was_checking = before.checkup is not None and before.checkup.checking
    if not was_checking or after.checkup is not None or isinstance(event, CheckFinished):
        return ()
    return (CancelCheck(before.process.name, before.run),)


def _kill(life: ProcessState, now: float) -> Step:
    life = life._replace(told=True, killed=True, due=now + OUT_OF_REACH_AFTER, reason=_told(life))
    return life, (signal(life, SIGKILL),)


def _told(life: ProcessState) -> str:
    """The reason from now on: what was asked to end may have waited for its dependants, and have said so."""
    return STOPPING if life.asked_to_end else life.reason
