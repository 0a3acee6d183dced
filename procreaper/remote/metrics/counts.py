"""The counts of each process for metrics: restarts by reason, health checks, bytes of output, and the last exit code.

Rules: a sink of the hub that only adds; it does no I/O and asks no other object. It counts from the moment at which it
joins the hub. Another thread may read it meanwhile: no count decreases, and only the counts of a removed process
disappear.
"""

from __future__ import annotations

from procreaper.core.events import Checked, Notice, Output, Removed, RestartReason, RunEnded, Transition

# The upper bounds of the durations of health checks, in seconds; Prometheus proposes them for requests.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Count:
    """The counts of one process.

    `checks` has the number of checks for each of `BOUNDS`, and last of those that took longer. A check counts once,
    under the smallest bound that it does not exceed. `check_seconds` is the total duration of all checks. `last_exit`
    is the exit code of the last run that ended, 128+n for signal n.
    """

    __slots__ = ("check_failures", "check_seconds", "checks", "last_exit", "output_bytes", "restarts")

    def __init__(self) -> None:
        self.output_bytes = 0
        self.restarts = dict.fromkeys(RestartReason, 0)
        self.last_exit: int | None = None
        self.check_failures = 0
        self.check_seconds = 0.0
        self.checks = [0] * (len(BOUNDS) + 1)


class Counts:
    """A sink of the hub that counts notices."""

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}

    def of(self, name: str) -> Count:
        """Return the counts of a process so far."""
        count = self._counts.get(name)
        if count is None:
            count = self._counts[name] = Count()
        return count

    def accept(self, notice: Notice) -> bool:
        """Count the notice."""
        if isinstance(notice, Output):
            self.of(notice.name).output_bytes += len(notice.data)
        elif isinstance(notice, Transition):
            count = self.of(notice.name)
            if notice.restart is not None:
                count.restarts[notice.restart] += 1
            if notice.exit is not None and notice.exit.known:
                # This is the exit code that the run counts with: it may have been ended because it was unhealthy.
                count.last_exit = notice.exit.status
        elif isinstance(notice, RunEnded):
            if notice.exit.known:
                self.of(notice.name).last_exit = notice.exit.status
        elif isinstance(notice, Checked):
            count = self.of(notice.name)
            count.check_failures += notice.error is not None
            count.check_seconds += notice.duration
            count.checks[sum(notice.duration > bound for bound in BOUNDS)] += 1
        elif isinstance(notice, Removed):
            # If the process comes back, it starts from zero.
            self._counts.pop(notice.name, None)
        return True
