"""What is to run: processes and how each is supervised, as frozen values.

Rules: words only. Nothing here reads a file, a clock or the environment; `config.py` does, and hands over a `Plan`.
Durations are seconds throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class When(StrEnum):
    """The three words for every question "when?" (the Go library reaper's, Kubernetes' and compose's)."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"

    def applies(self, *, success: bool) -> bool:
        """Whether this word says yes for an end that was, or was not, a success."""
        return self is When.ALWAYS or (self is When.ON_FAILURE and not success)


class Backoff(NamedTuple):
    """How long to wait before a retry: `initial`, doubling up to `maximum`; a run up for `reset` clears the count.

    Source of the rule: the Go library reaper (2 s: 2, 4, 8, 16, 30, 30 ...; 45 s).
    """

    initial: float = 1.0
    maximum: float = 30.0
    reset: float = 45.0

    def wait(self, retries: int) -> float:
        """The wait in seconds before retry number `retries`, counted from 1."""
        # 2.0 ** 1024 overflows; long before that every wait has reached the maximum.
        return float(min(self.initial * 2.0 ** min(retries - 1, 60), self.maximum))


class Ending(NamedTuple):
    """How a process is asked to end: `signal` to its whole group, and SIGKILL after `timeout` seconds."""

    signal: int = 15
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process: what to run, and how it is supervised.

    A `command` that is a string runs through ``/bin/sh -c``, a tuple runs without a shell. `env` is the whole
    environment of the child, or None for a copy of our own. `success_codes` are shell exit codes (128+n for a
    signal). `max_retries` None means without limit.
    """

    name: str
    command: str | tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    quiet: bool = False
    restart: When = When.NEVER
    backoff: Backoff = Backoff()
    max_retries: int | None = None
    success_codes: frozenset[int] = frozenset({0})
    stop_all: When = When.ALWAYS
    ending: Ending = Ending()

    @property
    def argv(self) -> tuple[str, ...]:
        """What is handed to the kernel."""
        return ("/bin/sh", "-c", self.command) if isinstance(self.command, str) else self.command


class Plan(NamedTuple):
    """All processes of an app, in the order in which they start."""

    processes: tuple[Process, ...]
