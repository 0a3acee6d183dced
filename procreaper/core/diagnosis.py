"""What the health of a run means for its process: its state, the next check, or that the run is to end.

Rules: pure, like `lifecycle`, of which this is a part; `checkup` knows the health of the run, and nothing of a process.
"""

from __future__ import annotations

from typing import assert_never

from procreaper.core import health as health_rules
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
from procreaper.core.health import Finding, HealthState
from procreaper.core.lifecycle import Step
from procreaper.core.plan import When
from procreaper.core.state import ProcessState
from procreaper.core.transitions import NOT_HEALTHY, NOT_IN_TIME, judge, stopping


def learn(
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
        return examine(life, health_rules.begin(health, now, paused=life.attached, silent=not life.process.pty), now)
    if checkup is None:
        return life, ()
    match fact:
        case TerminalOpened():
            checkup = health_rules.pause(checkup, now)
        case TerminalClosed():
            checkup = health_rules.resume(health, checkup, now)
        case OutputBegan():
            return life._replace(checkup=checkup._replace(silent=False)), ()
        case LogMatched():
            checkup = health_rules.log_matched(health, checkup, now)
        case CheckFinished() if not checkup.checking:
            return life, ()
        case CheckFinished(skipped=True):
            checkup = health_rules.check_skipped(health, checkup, now)
        case CheckFinished(error=error):
            checkup = health_rules.check_finished(health, checkup, error, now)
        case _:
            assert_never(fact)
    return examine(life, checkup, now)


def examine(life: ProcessState, checkup: HealthState, now: float) -> Step:
    """Draw the consequences of what is known of its health, and begin the next check if it is time."""
    process, health = life.process, life.process.health
    if health is None:
        return life, ()
    finding, reason = health_rules.find(health, checkup, now)
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
    if health_rules.is_due(checkup, now):
        life = life._replace(reason=reason, checkup=health_rules.check_began(checkup))
        return life, (StartCheck(process.name, life.run),)
    return life._replace(reason=reason, checkup=checkup), ()
