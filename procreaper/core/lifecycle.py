"""The rules of one process: what it does next, by what happened, what is wanted, and the time.

Rules: pure. `now` is any clock that never goes back, in seconds. A fact about another run than the current one is stale
and changes nothing.

Theory of operation. A run is launched only in phase NONE (`state.Phase`), so a process never has two children. `wanted`
is the intent: a process that is wanted again while its run is ending starts when the old group is gone. A run ends in
one of two ways. It is asked to end (`asked_to_end`), and then its exit means nothing. Or it gets a `verdict` by its
exit or by its health checks; then `end` is the state that follows if there is no retry (`transitions.judge`).

In both cases the run is `stopping` while processes of its group live. `fleet`, which knows what has to end before it,
calls `send_stop` when it is its turn. `due` is the end of the back-off while `restarting`, and the next escalation
while `stopping`. `health` and `file_changes` have the rules about health checks and changed files, with deadlines of
their own. They are imported only where there is a health check or a watch.
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
# Seconds after SIGKILL until a group counts as out of reach: uninterruptible, or of another user.
OUT_OF_REACH_AFTER = 5.0
LIVES_ON = "keeps running without procreaper"


def step(life: ProcessState, event: Event, now: float) -> Step:
    """Apply one event that is about this process. The names in a request have been resolved before."""
    match event:
        case Tick():
            after, actions = _tick(life, now)
        case Start():
            after, actions = start(resume_watch(life)), ()
        case Restart():
            after, actions = restart(resume_watch(life)), ()
        case Stop():
            after, actions = _stop_by_user(life)
        case Shutdown():
            after, actions = _release(life) if _outlives_app(life) else _stop_by_user(life)
        case TerminalOpened() | TerminalClosed():
            after, actions = _diagnose(life, event, now)
        case TimeLost(seconds=seconds):
            return _lose_time(life, seconds), ()
        case Reload() | SettingsRead():
            return life, ()
        case FilesChanged() | PreparationEnded():
            # Imported here, because most processes have no `watch`.
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
    """Return when a `Tick` is due, or None while only an event can change anything."""
    health, change = life.health, life.change
    times = [
        life.due,
        None if health is None else health.deadline,
        None if change is None or life.preparing else change.due,
        life.steady_from,
    ]
    return min((time for time in times if time is not None), default=None)


def is_timed(life: ProcessState) -> bool:
    """Return whether a time limit runs that must not include a pause of procreaper.

    The wait before a retry is no such limit: after a pause, the retry comes as soon as its wait is over.
    """
    return (
        (life.due is not None and life.state is State.STOPPING)
        or (life.health is not None and life.health.is_timed)
        or life.change is not None
        or life.steady_from is not None
    )


def launch(life: ProcessState) -> Step:
    """Begin the next run of a process that is `pending` and in phase NONE.

    The new run knows all changes so far, unless `watch.run` has to run for them first.
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
        stop_sent=False,
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


def send_stop(life: ProcessState, now: float) -> Step:
    """Send the stop signal, or run the stop command, for a run that `needs_stop_signal`."""
    policy = life.stop
    # The run ends by these settings, even if the process gets new ones.
    spawned_with = life.spawned_with or life.process
    life = life._replace(stop_sent=True, spawned_with=spawned_with, due=now + policy.timeout, reason=_stop_reason(life))
    if life.phase is Phase.LINGERING:
        # The stop command was for the child, which has ended; its leftovers get the signal.
        return life, (signal(life, policy.signal),)
    if policy.command is not None:
        return life, (RunStopCommand(life.process.name, life.run),)
    return life, (signal(life, policy.signal, only_main=policy.only_main),)


def kill(life: ProcessState, now: float) -> Step:
    """End the run now, whatever was asked before, unless it outlives us."""
    if life.releasing or _outlives_app(life):
        return life, ()
    before, life = life, stop(life)
    cancelled = _cancelled(before, life, None)
    if life.phase is Phase.SPAWNING:
        return life._replace(killed=True), cancelled
    if life.phase is Phase.NONE or life.killed:
        return life, cancelled
    life, actions = _kill(life, now)
    return life, (*cancelled, *actions)


def apply_health(life: ProcessState, health: HealthState, now: float) -> Step:
    """Apply a health state that follows from new settings of a living run."""
    from procreaper.core.health import apply_health as apply_to_run

    after, actions = apply_to_run(life, health, now)
    return after, (*_cancelled(life, after, None), *actions)


def restart_along(life: ProcessState) -> Step:
    """Restart the process because a dependency restarts, and wait for that one. The throttle stays as it is."""
    after = restart(life, RestartReason.DEPENDENCY)._replace(was_up=False)
    return after, _cancelled(life, after, None)


def resume_watch(life: ProcessState) -> ProcessState:
    """Forget the restarts for changed files, as after a restart by hand."""
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
                return _release(life)
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
            elif life.stop_sent and not life.killed and life.stop.command is not None:
                # The command has ended the child; now its leftovers get the signal, as in systemd after ExecStop.
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
    # Imported here, because most processes have no health check.
    from procreaper.core.health import apply_fact

    return apply_fact(life, fact, now)


def _tick(life: ProcessState, now: float) -> Step:
    if (steady_from := life.steady_from) is not None and now >= steady_from:
        life = life._replace(retries=0)
    actions: tuple[Action, ...] = ()
    if life.change is not None and now >= life.change.due and not life.preparing:
        from procreaper.core.file_changes import act

        life, actions = act(life, life.change, now)
    if life.health is not None:
        from procreaper.core.health import apply_health as apply_to_run

        life, more = apply_to_run(life, life.health, now)
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
    """Move each limit by the time in which procreaper did not run."""
    if not is_timed(life):
        return life
    if life.due is not None and life.state is State.STOPPING:
        life = life._replace(due=life.due + seconds)
    if life.up_since is not None:
        life = life._replace(up_since=life.up_since + seconds)
    if (change := life.change) is not None:
        # Changes during the pause are reported only now.
        life = life._replace(change=change._replace(since=change.since + seconds, due=change.due + seconds))
    if life.health is not None:
        from procreaper.core.health import lose_time

        life = life._replace(health=lose_time(life.health, seconds))
    return life


def _stop_by_user(life: ProcessState) -> Step:
    """Stop the process by hand: changed files do not matter until it is wanted again."""
    if life.stopped_by_user:
        return life, ()
    actions = (CancelPreparation(life.process.name),) if life.preparing else ()
    life = stop(life)
    reason = life.reason.removesuffix(UNTIL_A_CHANGE)
    return life._replace(reason=reason, stopped_by_user=True, change=None, preparing=False, was_up=False), actions


def _outlives_app(life: ProcessState) -> bool:
    """Whether the end of the app leaves this run alone. A stop of the process itself still counts."""
    return life.process.detached and (life.is_alive or life.phase is Phase.SPAWNING) and not life.asked_to_end


def _release(life: ProcessState) -> Step:
    """Let the run go on without us: now, or if it is being spawned, as soon as its child is there."""
    life, actions = _stop_by_user(life)
    if life.phase is Phase.SPAWNING:
        return life._replace(releasing=True), actions
    name = life.process.name
    said = Announce(name, f"{LIVES_ON} (pid {life.pid})")
    life = life._replace(state=State.STOPPED, reason=LIVES_ON, phase=Phase.NONE, pid=None, releasing=False)
    return life, (*actions, Release(name, life.run), said)


def _cancelled(before: ProcessState, after: ProcessState, event: Event | None) -> tuple[Action, ...]:
    """Cancel the check that is under way if the run ends: its result no longer matters."""
    was_checking = before.health is not None and before.health.checking
    if not was_checking or after.health is not None or isinstance(event, CheckFinished):
        return ()
    return (CancelCheck(before.process.name, before.run),)


def _kill(life: ProcessState, now: float) -> Step:
    life = life._replace(stop_sent=True, killed=True, due=now + OUT_OF_REACH_AFTER, reason=_stop_reason(life))
    return life, (signal(life, SIGKILL),)


def _stop_reason(life: ProcessState) -> str:
    """Return the reason from now on; until now it may have been that the process waits for its dependants."""
    return STOPPING if life.asked_to_end else life.reason
