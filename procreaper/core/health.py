"""The health of one run: when the next check is due, and what its result means.

Rules: pure, like `lifecycle`, of which this is the part about health. Before the first success failures do not count
and only the start timeout ends the waiting; afterwards a number of failures in a row means unhealthy. There is never
more than one check at once: while one runs, none is due. While somebody is attached, all this is *paused*: what sits at
a breakpoint does not answer, and is not to be ended for that.
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

# How much of a pattern a reason shows, in characters.
LONGEST_PATTERN = 60
# Most programs write at once to a terminal, and keep several KiB back where their output is a pipe.
HELD_BACK = "; it has written nothing, its output may be buffered (try `--pty`, `pty = true` or PYTHONUNBUFFERED=1)"


class Finding(Enum):
    """What is known of the health of a run comes to this."""

    WAITING = "not up yet"
    LATE = "not up in time"
    HEALTHY = "healthy"
    DOUBTFUL = "was healthy, and the last check failed"
    UNHEALTHY = "was healthy, and too many checks failed"


def begin(health: Health, now: float, *, paused: bool = False, silent: bool = False) -> HealthState:
    """The child has just started."""
    log_seen = health.log is None
    return HealthState(
        log_seen=log_seen,
        silent=silent,
        due=now if log_seen else None,
        limit=now + health.start_timeout,
        paused_at=now if paused else None,
    )


def renew(health: Health, before: HealthState | None, now: float, *, paused: bool = False) -> HealthState:
    """The child goes on, but is checked in another way. A line that it waits for is the same as before."""
    checkup = begin(health, now, paused=paused, silent=before is not None and before.silent)
    return log_matched(health, checkup, now) if before is not None and before.log_seen else checkup


def pause(checkup: HealthState, now: float) -> HealthState:
    """Somebody is attached."""
    return checkup._replace(paused_at=now)


def resume(health: Health, checkup: HealthState, now: float) -> HealthState:
    """Nobody is attached any more: the time meanwhile does not count, and the next check is due."""
    if checkup.paused_at is None:
        return checkup
    limit = None if checkup.limit is None else checkup.limit + (now - checkup.paused_at)
    is_due = health.check is not None and checkup.log_seen and not checkup.checking
    return checkup._replace(paused_at=None, limit=limit, due=now if is_due else None)


def lose_time(checkup: HealthState, seconds: float) -> HealthState:
    """Move the limit by the time in which procreaper did not run. A check that became due in it is made at once."""
    # `resume` counts all time since `paused_at`.
    if checkup.limit is not None and checkup.paused_at is None:
        checkup = checkup._replace(limit=checkup.limit + seconds)
    return checkup._replace(interrupted=True) if checkup.checking else checkup


def log_matched(health: Health, checkup: HealthState, now: float) -> HealthState:
    """The line that was waited for has come; without a check besides, that is all there is to know."""
    if checkup.log_seen:
        return checkup
    checkup = checkup._replace(log_seen=True)
    if health.check is None:
        return checkup._replace(passed=True, limit=None)
    return checkup._replace(due=now)


def check_began(checkup: HealthState) -> HealthState:
    """A check is under way, so none is due."""
    return checkup._replace(checking=True, interrupted=False, due=None)


def check_finished(health: Health, checkup: HealthState, error: str | None, now: float) -> HealthState:
    """A check has succeeded, or failed with this error. One that was interrupted is made again where it failed."""
    interrupted, checkup = checkup.interrupted, checkup._replace(checking=False, interrupted=False)
    if error is None:
        return checkup._replace(passed=True, failures=0, error="", due=now + health.interval, limit=None)
    if checkup.paused_at is not None:
        return checkup
    if interrupted:
        return checkup._replace(due=now)
    if not checkup.passed:
        return checkup._replace(error=error, due=now + health.start_interval)
    return checkup._replace(error=error, failures=checkup.failures + 1, due=now + health.interval)


def check_skipped(health: Health, checkup: HealthState, now: float) -> HealthState:
    """The child was held by a debugger or a stop signal: nothing is known, and the time does not count."""
    wait = health.interval if checkup.passed else health.start_interval
    limit = None if checkup.limit is None else max(checkup.limit, now + health.start_timeout)
    return checkup._replace(checking=False, interrupted=False, due=now + wait, limit=limit)


def find(health: Health, checkup: HealthState, now: float) -> tuple[Finding, str]:
    """What all this comes to, and the reason in words."""
    finding, reason = _find(health, checkup, now)
    if checkup.paused_at is not None and (health.check is not None or not checkup.passed):
        return finding, PAUSED
    return finding, reason


def is_due(checkup: HealthState, now: float) -> bool:
    """Whether it is time for a check."""
    return checkup.paused_at is None and checkup.due is not None and now >= checkup.due


def _find(health: Health, checkup: HealthState, now: float) -> tuple[Finding, str]:
    because = f": {checkup.error}" if checkup.error else ""
    if not checkup.passed:
        if checkup.paused_at is None and checkup.limit is not None and now >= checkup.limit:
            late = because if health.log is None or checkup.log_seen else _missing(health.log, silent=checkup.silent)
            return Finding.LATE, f"not healthy within {health.start_timeout:g} s{late}"
        what = "health check" if checkup.log_seen else "log line"
        return Finding.WAITING, f"waiting for its {what}{because}"
    if not checkup.failures:
        return Finding.HEALTHY, HEALTHY
    if checkup.failures < health.retries:
        return Finding.DOUBTFUL, f"check failed ({checkup.failures}/{health.retries}){because}"
    return Finding.UNHEALTHY, f"unhealthy{because}"


def _missing(log: LogCheck, *, silent: bool) -> str:
    pattern = log.pattern if len(log.pattern) <= LONGEST_PATTERN else f"{log.pattern[: LONGEST_PATTERN - 3]}..."
    return f': no line has matched "{pattern}"{HELD_BACK if silent else ""}'


def apply_fact(
    life: ProcessState,
    fact: Spawned | CheckFinished | OutputBegan | LogMatched | TerminalOpened | TerminalClosed,
    now: float,
) -> Step:
    """Apply one fact that concerns the health of the current run, or whether it is looked at."""
    if isinstance(fact, TerminalOpened | TerminalClosed):
        if life.attached is isinstance(fact, TerminalOpened):
            return life, ()
        life = life._replace(attached=not life.attached)
    health, checkup = life.process.health, life.checkup
    if health is None:
        return life, ()
    if isinstance(fact, Spawned):
        return examine(life, begin(health, now, paused=life.attached, silent=not life.process.pty), now)
    if checkup is None:
        return life, ()
    match fact:
        case TerminalOpened():
            checkup = pause(checkup, now)
        case TerminalClosed():
            checkup = resume(health, checkup, now)
        case OutputBegan():
            return life._replace(checkup=checkup._replace(silent=False)), ()
        case LogMatched():
            checkup = log_matched(health, checkup, now)
        case CheckFinished() if not checkup.checking:
            return life, ()
        case CheckFinished(skipped=True):
            checkup = check_skipped(health, checkup, now)
        case CheckFinished(error=error):
            checkup = check_finished(health, checkup, error, now)
        case _:
            assert_never(fact)
    return examine(life, checkup, now)


def examine(life: ProcessState, checkup: HealthState, now: float) -> Step:
    """Draw the consequences of what is known of its health, and begin the next check if it is time."""
    process, health = life.process, life.process.health
    if health is None:
        return life, ()
    finding, reason = find(health, checkup, now)
    match finding:
        case Finding.LATE:
            life = judge(life, NOT_IN_TIME, reason, now=now, ran_well=False, because=RestartReason.UNHEALTHY)
            return stopping(life, life.cause), ()
        case Finding.UNHEALTHY if process.restart is not When.NEVER and checkup.paused_at is None:
            life = judge(life, NOT_HEALTHY, reason, now=now, ran_well=False, because=RestartReason.UNHEALTHY)
            return stopping(life, life.cause), ()
        case Finding.UNHEALTHY:
            life = life._replace(state=State.UNHEALTHY, up_since=None)
        case Finding.HEALTHY if life.state is not State.HEALTHY:
            life = life._replace(state=State.HEALTHY, up_since=now, came_up=True, was_up=True)
        case Finding.HEALTHY | Finding.WAITING | Finding.DOUBTFUL:
            pass
        case _:
            assert_never(finding)
    if is_due(checkup, now):
        life = life._replace(reason=reason, checkup=check_began(checkup))
        return life, (StartCheck(process.name, life.run),)
    return life._replace(reason=reason, checkup=checkup), ()
