"""The metrics of an app for Prometheus: a collector for any registry of `prometheus_client`.

Rules: keeps nothing, and measures only when it is asked. Names and labels are a contract, documented in
`docs/metrics.md`. A process that has left the app has no metrics. Any thread may ask.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from procreaper import __version__
from procreaper.core.events import State
from procreaper.core.plan import Process
from procreaper.core.status import Status
from procreaper.remote.metrics.counts import BOUNDS, Count, Counts
from procreaper.runtime.system.usage import Usage, measure_usage

LABELS = ("process", "type")
BUCKETS = (*map(str, BOUNDS), "+Inf")

Snapshot = Callable[[], Sequence[tuple[Process, Status]]]


class Collector:
    """Collects the metrics of all processes of an app at one moment, for a registry.

    `take_snapshot()` returns each process with its status; `counts` is a sink of the app's hub.
    """

    def __init__(self, take_snapshot: Snapshot, counts: Counts) -> None:
        self._take_snapshot = take_snapshot
        self._counts = counts

    def describe(self) -> list[Metric]:
        """Return the metrics without values; a registry asks for them at the registration."""
        return _Families().all

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with their values."""
        snapshot = self._take_snapshot()
        usages = measure_usage({process.name: status.pid for process, status in snapshot if status.pid is not None})
        families = _Families()
        for process, status in snapshot:
            count = self._counts.of(process.name)
            families.add((process.name, process.type), status, count, has_checks=_has_checks(process))
            if (usage := usages.get(process.name)) is not None:
                families.add_usage((process.name, process.type), usage)
        yield from families.all


class _Families:
    """All metrics, each with a value for each process."""

    def __init__(self) -> None:
        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"procreaper_{name}", text, labels=(*LABELS, *labels))

        def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"procreaper_{name}", text, labels=(*LABELS, *labels))

        self.up = gauge(
            "process_up", "Whether it is as it should be: completed, healthy if it has a health check, else running"
        )
        self.state = gauge("process_state", "1 for the state that it is in, 0 for all others", "state")
        self.restarts = counter("process_restarts", "New runs after the first, by what led to them", "reason")
        self.last_exit = gauge("process_last_exit_code", "How its last run ended, 128+n for signal n")
        self.start_time = gauge("process_start_time_seconds", "When its current run began, in seconds since the epoch")
        self.check_failures = counter("health_check_failures", "Health checks that failed, also while it was starting")
        self.check_duration = HistogramMetricFamily(
            "procreaper_health_check_duration_seconds", "How long health checks took", labels=LABELS
        )
        self.output = counter("output_bytes", "What it wrote, in bytes")
        self.cpu = counter("process_cpu_seconds", "User and system CPU time of its current run, with all descendants")
        self.memory = gauge("process_resident_memory_bytes", "Resident memory, with all descendants")
        self.build = InfoMetricFamily(
            "procreaper_build",
            "The version of procreaper, and of the Python that it runs on",
            value={"version": __version__, "python": platform.python_version()},
        )

    @property
    def all(self) -> list[Metric]:
        """All metrics, in their order of output."""
        return list(vars(self).values())

    def add(self, labels: tuple[str, str], status: Status, count: Count, *, has_checks: bool) -> None:
        """Add the values of one process; a metric that does not apply to it gets none."""
        self.up.add_metric(labels, status.up)
        for state in State:
            self.state.add_metric((*labels, state), status.state is state)
        for reason, number in count.restarts.items():
            self.restarts.add_metric((*labels, reason), number)
        if count.last_exit is not None:
            self.last_exit.add_metric(labels, count.last_exit)
        if status.started_at is not None:
            self.start_time.add_metric(labels, status.started_at.timestamp())
        if has_checks:
            self.check_failures.add_metric(labels, count.check_failures)
            buckets = list(zip(BUCKETS, accumulate(count.checks), strict=True))
            self.check_duration.add_metric(labels, buckets, count.check_seconds)
        self.output.add_metric(labels, count.output_bytes)

    def add_usage(self, labels: tuple[str, str], usage: Usage) -> None:
        """Add the CPU time and memory of a process, which only some operating systems report."""
        self.cpu.add_metric(labels, usage.cpu_seconds)
        self.memory.add_metric(labels, usage.resident_bytes)


def _has_checks(process: Process) -> bool:
    return process.health is not None and process.health.check is not None
