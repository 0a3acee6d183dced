"""The status of a process at one moment, for people and programs.

Rules: values only. A snapshot is a tuple of these, all of the same moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from procreaper.core.events import State

if TYPE_CHECKING:
    from datetime import datetime


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
