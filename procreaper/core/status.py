"""What is known of a process at one moment, for people and programs.

Rules: words only. A snapshot is a tuple of these, all of the same moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from procreaper.core.events import State

if TYPE_CHECKING:
    from datetime import datetime


# Nothing of it runs, and nothing will until somebody asks.
AT_REST = (State.STOPPED, State.COMPLETED, State.FAILED, State.SKIPPED)


class Status(NamedTuple):
    """The state of one process.

    `reason` is one phrase: why it is in that state. `run` counts its runs from 1. `retries` counts failures in a row
    and is forgotten after the back-off's reset time; `restarts` counts every new run and only grows. `backoff` is the
    wait in seconds before the latest retry, 0 where there is none. `started_at` is when the current run began (UTC),
    None where none runs; `exit_code` how the last one ended (128+n for a signal), None while one runs or before the
    first. `up`: it is as it should be, that is completed (a oneshot, or one that has ended well), healthy if it
    has a health check, else running. `out_of_reach`: it is still there after SIGKILL.
    `waits_for` are the dependencies that a `pending` process waits for.
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
        """Whether nothing of it runs and nothing will until somebody asks."""
        return self.state in AT_REST
