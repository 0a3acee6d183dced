"""Makes the `Status` of a process from its state.

Rules: pure. Imported only when a status is asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime

from procreaper.core.events import State
from procreaper.core.state import ProcessState
from procreaper.core.status import Status


def take(process_state: ProcessState, started_at: float | None) -> Status:
    """Return the status of a process. `started_at` is when its present run began, in seconds since the epoch."""
    end = None if process_state.exit is None else (process_state.verdict or process_state.exit)
    return Status(
        name=process_state.process.name,
        state=process_state.state,
        reason=_reason(process_state),
        run=process_state.run,
        pid=process_state.pid,
        retries=process_state.retries,
        restarts=process_state.restarts,
        backoff=process_state.process.backoff.wait(process_state.retries) if process_state.retries else 0.0,
        started_at=None if process_state.pid is None or started_at is None else datetime.fromtimestamp(started_at, UTC),
        exit_code=None if end is None or not end.known else end.status,
        up=process_state.up,
        out_of_reach=process_state.out_of_reach,
        waits_for=process_state.waits_for if process_state.state is State.PENDING else (),
    )


def _reason(process_state: ProcessState) -> str:
    """Return why it is in its state; for a process that is up, what its watch waits for."""
    if process_state.state in (State.RUNNING, State.HEALTHY):
        if process_state.throttle.suspended:
            return f"watch suspended: {process_state.throttle.suspended} changed right after every start"
        if process_state.change is not None and process_state.change.calm:
            return f"{process_state.change} changed; waiting until no file changes"
    return process_state.reason
