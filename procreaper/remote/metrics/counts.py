"""What is counted of each process, for metrics: restarts by reason, health checks, bytes of output, the last exit code.

Rules: a sink that only adds; nothing is looked up, asked or written. It counts from the moment at which it is added to
the hub. It may be read from another thread while it counts: no value is ever taken back, and none ever vanishes but
those of a process that is gone.
"""

from __future__ import annotations

from procreaper.core.events import Checked, Notice, Output, Removed, RestartReason, RunEnded, Transition

# The upper bounds of the durations of health checks, in seconds; those that Prometheus proposes for requests.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Count:
    """What is counted of one process. `checks` has how many took no longer than each of `BOUNDS`, and longer than all.

    A check counts once, under the first bound that it keeps; `check_seconds` is what all took together. `last_exit` is
    the code of the last run that ended, 128+n for a signal.
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
    """A sink that counts."""

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}

    def of(self, name: str) -> Count:
        """What has been counted of a process so far."""
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
                # What the run counts as: it may have been ended because it was not healthy.
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
            # If it comes back, it starts from zero.
            self._counts.pop(notice.name, None)
        return True
