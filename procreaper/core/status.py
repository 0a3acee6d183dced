"""The status of a process at one moment, for people and programs.

Rules: values only. A snapshot is a tuple of these, all of the same moment.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from procreaper.core.events import State
from procreaper.core.state import ProcessState

# No run exists, and none will follow without a request.
AT_REST = (State.STOPPED, State.COMPLETED, State.FAILED, State.SKIPPED)


class Status(NamedTuple):
    """The state of one process.

    `reason` says in one phrase why it is in that state. `run` counts its runs from 1. `retries` counts failures in a
    row, and resets after the back-off's reset time; `restarts` counts every new run and only grows. `backoff` is the
    wait in seconds before the latest retry, or 0. `started_at` is when the current run began (UTC); None if none runs.
    `exit_code` is how the last run ended (128+n for a signal); None while one runs and before the first. `up`: the
    process has completed (a oneshot, or one that has ended well), is healthy if it has a health check, else runs.
    `out_of_reach`: it has outlived SIGKILL. `waits_for` are the dependencies that a `pending` process waits for.
    """

    name: str
    state: State
    reason: str
    run: int
    pid: int | None
    retries: int
    restarts: int
    backoff: float
    started_at: datetime | None
    exit_code: int | None
    up: bool
    out_of_reach: bool = False
    waits_for: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether no run exists and none will follow without a request."""
        return self.state in AT_REST


def status_of(process_state: ProcessState, started_at: float | None) -> Status:
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
