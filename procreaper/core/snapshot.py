"""Makes the `Status` of a process from its state.

Rules: pure. Imported only when a status is asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime

from procreaper.core.events import State
from procreaper.core.state import ProcessState
from procreaper.core.status import Status


def take(life: ProcessState, started_at: float | None) -> Status:
    """Return the status of a process. `started_at` is when its present run began, in seconds since the epoch."""
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
    """Return why it is in its state; for a process that is up, what its watch waits for."""
    if life.state in (State.RUNNING, State.HEALTHY):
        if life.throttle.suspended:
            return f"watch suspended: {life.throttle.suspended} changed right after every start"
        if life.change is not None and life.change.calm:
            return f"{life.change} changed; waiting until no file changes"
    return life.reason
