"""What a process is doing at this moment, for people and programs: its `Status`, from all that is known of it.

Rules: pure. Imported only when somebody asks.
"""

from __future__ import annotations

from datetime import UTC, datetime

from procreaper.core.events import State
from procreaper.core.state import ProcessState
from procreaper.core.status import Status


def take(life: ProcessState, started_at: float | None) -> Status:
    """The status of a process whose present run, if there is one, began at this time (seconds since the epoch)."""
    end = None if life.exit is None else (life.verdict or life.exit)
    return Status(
        name=life.process.name,
        state=life.state,
        reason=_reason(life),
        run=life.run,
        pid=life.pid,
        retries=life.retries,
        restarts=life.restarts,
        backoff=life.process.backoff.wait(life.retries) if life.retries else 0.0,
        started_at=None if life.pid is None or started_at is None else datetime.fromtimestamp(started_at, UTC),
        exit_code=None if end is None or not end.known else end.status,
        up=life.up,
        out_of_reach=life.out_of_reach,
        waits_for=life.waits_for if life.state is State.PENDING else (),
    )


def _reason(life: ProcessState) -> str:
    """Why it is in its state, or what is to be said of the watch of a process that is up."""
    if life.state in (State.RUNNING, State.HEALTHY):
        if life.throttle.suspended:
            return f"watch suspended: {life.throttle.suspended} changes each time as soon as it runs"
        if life.change is not None and life.change.calm:
            return f"{life.change} changed; waits until its files are quiet"
    return life.reason
