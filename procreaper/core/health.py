"""The health of one run: when the next check is due, and what its result means for the process.

Rules: pure. Before the first success, failures do not count; only the start timeout ends the wait. After it, a number
of failures in a row means unhealthy. A process never has two checks at once: while a check runs, none is due. While a
client is attached to the process, its checks are *paused*: a process at a breakpoint does not answer, and must not be
ended for that.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, assert_never

from procreaper.core.events import (
    CheckFinished,
    LogMatched,
    OutputBegan,
    RestartReason,
    Spawned,
    StartCheck,
    State,
    TerminalClosed,
    TerminalOpened,
)
from procreaper.core.plan import When
from procreaper.core.state import HEALTHY, PAUSED, HealthState, ProcessState
from procreaper.core.transitions import NOT_HEALTHY, NOT_IN_TIME, Step, judge, stopping

if TYPE_CHECKING:
    from procreaper.core.checks import Health, LogCheck

# The longest part of a pattern that a reason shows, in characters.
LONGEST_PATTERN = 60
# Most programs write to a terminal at once, but keep several KiB back before they write to a pipe.
HELD_BACK = "; it has written nothing, its output may be buffered (try `--pty`, `pty = true` or PYTHONUNBUFFERED=1)"


class Finding(Enum):
    """What the state of the health amounts to."""

    WAITING = "not up yet"
    LATE = "not up in time"
    HEALTHY = "healthy"
    DOUBTFUL = "was healthy, and the last check failed"
    UNHEALTHY = "was healthy, and too many checks failed"


def begin_health(settings: Health, now: float, *, paused: bool = False, silent: bool = False) -> HealthState:
    """Begin the health of a run that has just been spawned."""
    log_seen = settings.log is None
    return HealthState(
        log_seen=log_seen,
        silent=silent,
        due=now if log_seen else None,
        limit=now + settings.start_timeout,
        paused_at=now if paused else None,
    )


def restart_checks(settings: Health, before: HealthState | None, now: float, *, paused: bool = False) -> HealthState:
    """Begin again with other settings for a living run. A log line that was seen need not come again."""
    health = begin_health(settings, now, paused=paused, silent=before is not None and before.silent)
    return log_matched(settings, health, now) if before is not None and before.log_seen else health


def pause(health: HealthState, now: float) -> HealthState:
    """Pause the checks, because a client is attached."""
    return health._replace(paused_at=now)


def resume(settings: Health, health: HealthState, now: float) -> HealthState:
    """Resume the checks. The pause does not count, and the next check is due at once."""
    if health.paused_at is None:
        return health
    limit = None if health.limit is None else health.limit + (now - health.paused_at)
    is_due = settings.check is not None and health.log_seen and not health.checking
    return health._replace(paused_at=None, limit=limit, due=now if is_due else None)


def lose_time(health: HealthState, seconds: float) -> HealthState:
    """Move the limit by the time in which procreaper did not run. A check that became due meanwhile runs at once."""
    # `resume` adds all time since `paused_at`.
    if health.limit is not None and health.paused_at is None:
        health = health._replace(limit=health.limit + seconds)
    return health._replace(interrupted=True) if health.checking else health


def log_matched(settings: Health, health: HealthState, now: float) -> HealthState:
    """Record that the expected log line has come. Without a check besides, the run is healthy."""
    if health.log_seen:
        return health
    health = health._replace(log_seen=True)
    if settings.check is None:
        return health._replace(passed=True, limit=None)
    return health._replace(due=now)


def check_began(health: HealthState) -> HealthState:
    """Record that a check is under way."""
    return health._replace(checking=True, interrupted=False, due=None)


def check_finished(settings: Health, health: HealthState, error: str | None, now: float) -> HealthState:
    """Record that a check has succeeded, or failed with `error`. An interrupted check that failed runs again."""
    interrupted, health = health.interrupted, health._replace(checking=False, interrupted=False)
    if error is None:
        return health._replace(passed=True, failures=0, error="", due=now + settings.interval, limit=None)
    if health.paused_at is not None:
        return health
    if interrupted:
        return health._replace(due=now)
    if not health.passed:
        return health._replace(error=error, due=now + settings.start_interval)
    return health._replace(error=error, failures=health.failures + 1, due=now + settings.interval)


def check_skipped(settings: Health, health: HealthState, now: float) -> HealthState:
    """Record that a debugger or a stop signal held the child: the check says nothing, and the time does not count."""
    wait = settings.interval if health.passed else settings.start_interval
    limit = None if health.limit is None else max(health.limit, now + settings.start_timeout)
    return health._replace(checking=False, interrupted=False, due=now + wait, limit=limit)


def find_health(settings: Health, health: HealthState, now: float) -> tuple[Finding, str]:
    """Return what the health amounts to, and the reason in words."""
    finding, reason = _find_health(settings, health, now)
    if health.paused_at is not None and (settings.check is not None or not health.passed):
        return finding, PAUSED
    return finding, reason


def is_due(health: HealthState, now: float) -> bool:
    """Return whether it is time for a check."""
    return health.paused_at is None and health.due is not None and now >= health.due


def _find_health(settings: Health, health: HealthState, now: float) -> tuple[Finding, str]:
    because = f": {health.error}" if health.error else ""
    if not health.passed:
        if health.paused_at is None and health.limit is not None and now >= health.limit:
            late = because if settings.log is None or health.log_seen else _missing(settings.log, silent=health.silent)
            return Finding.LATE, f"not healthy within {settings.start_timeout:g} s{late}"
        what = "health check" if health.log_seen else "log line"
        return Finding.WAITING, f"waiting for its {what}{because}"
    if not health.failures:
        return Finding.HEALTHY, HEALTHY
    if health.failures < settings.retries:
        return Finding.DOUBTFUL, f"check failed ({health.failures}/{settings.retries}){because}"
    return Finding.UNHEALTHY, f"unhealthy{because}"


def _missing(log: LogCheck, *, silent: bool) -> str:
    pattern = log.pattern if len(log.pattern) <= LONGEST_PATTERN else f"{log.pattern[: LONGEST_PATTERN - 3]}..."
    return f': no line has matched "{pattern}"{HELD_BACK if silent else ""}'


def apply_fact(
    process_state: ProcessState,
    fact: Spawned | CheckFinished | OutputBegan | LogMatched | TerminalOpened | TerminalClosed,
    now: float,
) -> Step:
    """Apply a fact about the health of the current run, or about an attached client."""
    if isinstance(fact, TerminalOpened | TerminalClosed):
        if process_state.attached is isinstance(fact, TerminalOpened):
            return process_state, ()
        process_state = process_state._replace(attached=not process_state.attached)
    settings, health = process_state.process.health, process_state.health
    if settings is None:
        return process_state, ()
    if isinstance(fact, Spawned):
        return apply_health(
            process_state,
            begin_health(settings, now, paused=process_state.attached, silent=not process_state.process.pty),
            now,
        )
    if health is None:
        return process_state, ()
    match fact:
        case TerminalOpened():
            health = pause(health, now)
        case TerminalClosed():
            health = resume(settings, health, now)
        case OutputBegan():
            return process_state._replace(health=health._replace(silent=False)), ()
        case LogMatched():
            health = log_matched(settings, health, now)
        case CheckFinished() if not health.checking:
            return process_state, ()
        case CheckFinished(skipped=True):
            health = check_skipped(settings, health, now)
        case CheckFinished(error=error):
            health = check_finished(settings, health, error, now)
        case _:
            assert_never(fact)
    return apply_health(process_state, health, now)


def apply_health(process_state: ProcessState, health: HealthState, now: float) -> Step:
    """Apply what the health amounts to, and begin the next check if it is due."""
    process, settings = process_state.process, process_state.process.health
    if settings is None:
        return process_state, ()
    finding, reason = find_health(settings, health, now)
    match finding:
        case Finding.LATE:
            process_state = judge(
                process_state, NOT_IN_TIME, reason, now=now, ran_well=False, because=RestartReason.UNHEALTHY
            )
            return stopping(process_state, process_state.cause), ()
        case Finding.UNHEALTHY if process.restart is not When.NEVER and health.paused_at is None:
            process_state = judge(
                process_state, NOT_HEALTHY, reason, now=now, ran_well=False, because=RestartReason.UNHEALTHY
            )
            return stopping(process_state, process_state.cause), ()
        case Finding.UNHEALTHY:
            process_state = process_state._replace(state=State.UNHEALTHY, up_since=None)
        case Finding.HEALTHY if process_state.state is not State.HEALTHY:
            process_state = process_state._replace(state=State.HEALTHY, up_since=now, came_up=True, was_up=True)
        case Finding.HEALTHY | Finding.WAITING | Finding.DOUBTFUL:
            pass
        case _:
            assert_never(finding)
    if is_due(health, now):
        process_state = process_state._replace(reason=reason, health=check_began(health))
        return process_state, (StartCheck(process.name, process_state.run),)
    return process_state._replace(reason=reason, health=health), ()
