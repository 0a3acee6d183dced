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


def step(process_state: ProcessState, event: Event, now: float) -> Step:
    """Apply one event that is about this process. The names in a request have been resolved before."""
    match event:
        case Tick():
            after, actions = _tick(process_state, now)
        case Start():
            after, actions = start(resume_watch(process_state)), ()
        case Restart():
            after, actions = restart(resume_watch(process_state)), ()
        case Stop():
            after, actions = _stop_by_user(process_state)
        case Shutdown():
            after, actions = _release(process_state) if _outlives_app(process_state) else _stop_by_user(process_state)
        case TerminalOpened() | TerminalClosed():
            after, actions = _diagnose(process_state, event, now)
        case TimeLost(seconds=seconds):
            return _lose_time(process_state, seconds), ()
        case Reload() | SettingsRead():
            return process_state, ()
        case FilesChanged() | PreparationEnded():
            # Imported here, because most processes have no `watch`.
            from procreaper.core.file_changes import apply_fact

            after, actions = apply_fact(process_state, event, now)
            if isinstance(event, FilesChanged) and process_state.process.name in event.outdated and not after.outdated:
                after = after._replace(outdated=True)
        case _:
            if event.run != process_state.run:
                return process_state, ()
            after, actions = _learn(process_state, event, now)
    return after, (*_cancelled(process_state, after, event), *actions)


def deadline(process_state: ProcessState) -> float | None:
    """Return when a `Tick` is due, or None while only an event can change anything."""
    health, change = process_state.health, process_state.change
    times = [
        process_state.due,
        None if health is None else health.deadline,
        None if change is None or process_state.preparing else change.due,
        process_state.steady_from,
    ]
    return min((time for time in times if time is not None), default=None)


def is_timed(process_state: ProcessState) -> bool:
    """Return whether a time limit runs that must not include a pause of procreaper.

    The wait before a retry is no such limit: after a pause, the retry comes as soon as its wait is over.
    """
    return (
        (process_state.due is not None and process_state.state is State.STOPPING)
        or (process_state.health is not None and process_state.health.is_timed)
        or process_state.change is not None
        or process_state.steady_from is not None
    )


def launch(process_state: ProcessState) -> Step:
    """Begin the next run of a process that is `pending` and in phase NONE.

    The new run knows all changes so far, unless `watch.run` has to run for them first.
    """
    run, watch = process_state.run + 1, process_state.process.watch
    process_state = process_state._replace(
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
        change=None if watch is None or watch.run is None else process_state.change,
        waits_for=(),
    )
    return process_state, (Spawn(process_state.process.name, run),)


def send_stop(process_state: ProcessState, now: float) -> Step:
    """Send the stop signal, or run the stop command, for a run that `needs_stop_signal`."""
    policy = process_state.stop
    # The run ends by these settings, even if the process gets new ones.
    spawned_with = process_state.spawned_with or process_state.process
    process_state = process_state._replace(
        stop_sent=True, spawned_with=spawned_with, due=now + policy.timeout, reason=_stop_reason(process_state)
    )
    if process_state.phase is Phase.LINGERING:
        # The stop command was for the child, which has ended; its leftovers get the signal.
        return process_state, (signal(process_state, policy.signal),)
    if policy.command is not None:
        return process_state, (RunStopCommand(process_state.process.name, process_state.run),)
    return process_state, (signal(process_state, policy.signal, only_main=policy.only_main),)


def kill(process_state: ProcessState, now: float) -> Step:
    """End the run now, whatever was asked before, unless it outlives us."""
    if process_state.releasing or _outlives_app(process_state):
        return process_state, ()
    before, process_state = process_state, stop(process_state)
    cancelled = _cancelled(before, process_state, None)
    if process_state.phase is Phase.SPAWNING:
        return process_state._replace(killed=True), cancelled
    if process_state.phase is Phase.NONE or process_state.killed:
        return process_state, cancelled
    process_state, actions = _kill(process_state, now)
    return process_state, (*cancelled, *actions)


def apply_health(process_state: ProcessState, health: HealthState, now: float) -> Step:
    """Apply a health state that follows from new settings of a living run."""
    from procreaper.core.health import apply_health as apply_to_run

    after, actions = apply_to_run(process_state, health, now)
    return after, (*_cancelled(process_state, after, None), *actions)


def restart_along(process_state: ProcessState) -> Step:
    """Restart the process because a dependency restarts, and wait for that one. The throttle stays as it is."""
    after = restart(process_state, RestartReason.DEPENDENCY)._replace(was_up=False)
    return after, _cancelled(process_state, after, None)


def resume_watch(process_state: ProcessState) -> ProcessState:
    """Forget the restarts for changed files, as after a restart by hand."""
    if process_state.throttle == RestartThrottle() and process_state.echoes == Echoes():
        return process_state
    change = None if process_state.change is None else process_state.change._replace(calm=0.0)
    return process_state._replace(throttle=RestartThrottle(), echoes=Echoes(), change=change)


def _learn(
    process_state: ProcessState,
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
    match fact, process_state.phase:
        case Spawned(pid=pid), Phase.SPAWNING:
            process_state = process_state._replace(phase=Phase.ALIVE, pid=pid)
            if process_state.releasing:
                return _release(process_state)
            if process_state.asked_to_end:
                return _kill(process_state, now) if process_state.killed else (process_state, ())
            if process_state.process.health is None:
                return begin_running(process_state, now), ()
            return _diagnose(process_state, fact, now)
        case SpawnFailed(), Phase.SPAWNING:
            process_state = process_state._replace(exit=Exit(code=fact.code))
            if not process_state.asked_to_end:
                verdict, hope = Exit(code=fact.code), not fact.permanent
                process_state = judge(process_state, verdict, fact.error, retry_can_help=hope, ran_well=False, now=now)
            return settle(process_state, now), ()
        case ChildExited(exit=exit_, leftovers=leftovers), Phase.ALIVE:
            process_state = process_state._replace(exit=exit_)
            if process_state.state is not State.STOPPING:
                process_state = judge(
                    process_state, exit_, describe(exit_), retry_can_help=exit_.code not in NOT_RUNNABLE, now=now
                )
            if not leftovers:
                return settle(process_state, now), ()
            if process_state.state is not State.STOPPING:
                process_state = stopping(process_state, f"{process_state.cause}; ending what it left running")
            elif process_state.stop_sent and not process_state.killed and process_state.stop.command is not None:
                # The command has ended the child; now its leftovers get the signal, as in systemd after ExecStop.
                return process_state._replace(phase=Phase.LINGERING), (
                    signal(process_state, process_state.stop.signal),
                )
            return process_state._replace(phase=Phase.LINGERING), ()
        case GroupEnded(), Phase.LINGERING:
            return settle(process_state, now), ()
        case StopCommandFailed(), Phase.ALIVE if process_state.state is State.STOPPING and not process_state.killed:
            return process_state, (
                signal(process_state, process_state.stop.signal, only_main=process_state.stop.only_main),
            )
        case ((CheckFinished() | OutputBegan() | LogMatched()), Phase.ALIVE):
            return _diagnose(process_state, fact, now)
        case _:
            return process_state, ()


def _diagnose(
    process_state: ProcessState,
    fact: Spawned | CheckFinished | OutputBegan | LogMatched | TerminalOpened | TerminalClosed,
    now: float,
) -> Step:
    # Imported here, because most processes have no health check.
    from procreaper.core.health import apply_fact

    return apply_fact(process_state, fact, now)


def _tick(process_state: ProcessState, now: float) -> Step:
    if (steady_from := process_state.steady_from) is not None and now >= steady_from:
        process_state = process_state._replace(retries=0)
    actions: tuple[Action, ...] = ()
    if process_state.change is not None and now >= process_state.change.due and not process_state.preparing:
        from procreaper.core.file_changes import act

        process_state, actions = act(process_state, process_state.change, now)
    if process_state.health is not None:
        from procreaper.core.health import apply_health as apply_to_run

        process_state, more = apply_to_run(process_state, process_state.health, now)
        return process_state, (*actions, *more)
    if process_state.due is None or now < process_state.due:
        return process_state, actions
    if process_state.state is State.RESTARTING:
        return process_state._replace(state=State.PENDING, reason=ABOUT_TO_START, due=None), actions
    if not process_state.killed:
        process_state, more = _kill(process_state, now)
        return process_state, (*actions, *more)
    return process_state._replace(due=None, out_of_reach=True, reason="still there after SIGKILL"), actions


def _lose_time(process_state: ProcessState, seconds: float) -> ProcessState:
    """Move each limit by the time in which procreaper did not run."""
    if not is_timed(process_state):
        return process_state
    if process_state.due is not None and process_state.state is State.STOPPING:
        process_state = process_state._replace(due=process_state.due + seconds)
    if process_state.up_since is not None:
        process_state = process_state._replace(up_since=process_state.up_since + seconds)
    if (change := process_state.change) is not None:
        # Changes during the pause are reported only now.
        process_state = process_state._replace(
            change=change._replace(since=change.since + seconds, due=change.due + seconds)
        )
    if process_state.health is not None:
        from procreaper.core.health import lose_time

        process_state = process_state._replace(health=lose_time(process_state.health, seconds))
    return process_state


def _stop_by_user(process_state: ProcessState) -> Step:
    """Stop the process by hand: changed files do not matter until it is wanted again."""
    if process_state.stopped_by_user:
        return process_state, ()
    actions = (CancelPreparation(process_state.process.name),) if process_state.preparing else ()
    process_state = stop(process_state)
    reason = process_state.reason.removesuffix(UNTIL_A_CHANGE)
    return process_state._replace(
        reason=reason, stopped_by_user=True, change=None, preparing=False, was_up=False
    ), actions


def _outlives_app(process_state: ProcessState) -> bool:
    """Whether the end of the app leaves this run alone. A stop of the process itself still counts."""
    return (
        process_state.process.detached
        and (process_state.is_alive or process_state.phase is Phase.SPAWNING)
        and not process_state.asked_to_end
    )


def _release(process_state: ProcessState) -> Step:
    """Let the run go on without us: now, or if it is being spawned, as soon as its child is there."""
    process_state, actions = _stop_by_user(process_state)
    if process_state.phase is Phase.SPAWNING:
        return process_state._replace(releasing=True), actions
    name = process_state.process.name
    said = Announce(name, f"{LIVES_ON} (pid {process_state.pid})")
    process_state = process_state._replace(
        state=State.STOPPED, reason=LIVES_ON, phase=Phase.NONE, pid=None, releasing=False
    )
    return process_state, (*actions, Release(name, process_state.run), said)


def _cancelled(before: ProcessState, after: ProcessState, event: Event | None) -> tuple[Action, ...]:
    """Cancel the check that is under way if the run ends: its result no longer matters."""
    was_checking = before.health is not None and before.health.checking
    if not was_checking or after.health is not None or isinstance(event, CheckFinished):
        return ()
    return (CancelCheck(before.process.name, before.run),)


def _kill(process_state: ProcessState, now: float) -> Step:
    process_state = process_state._replace(
        stop_sent=True, killed=True, due=now + OUT_OF_REACH_AFTER, reason=_stop_reason(process_state)
    )
    return process_state, (signal(process_state, SIGKILL),)


def _stop_reason(process_state: ProcessState) -> str:
    """Return the reason from now on; until now it may have been that the process waits for its dependants."""
    return STOPPING if process_state.asked_to_end else process_state.reason
