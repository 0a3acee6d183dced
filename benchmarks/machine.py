"""Describe the machine for the report, and measure how much other work it did meanwhile. Linux only."""

import os
import platform
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


def describe() -> str:
    """Return processor, memory, kernel and interpreter in one line."""
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    release = ".".join(platform.release().split(".")[:2])
    return (
        f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}, {gibibytes:.0f} GiB; Linux {release}; "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _busy_seconds() -> float:
    """Return the busy time of all cores together, since the start of the machine."""
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Return the processor time of the benchmark and of its descendants that have been reaped."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(frozen=True, slots=True)
class Watch:
    """Compare the work of the machine with that of the benchmark, from the creation of this object on."""

    started: float = field(default_factory=time.monotonic)
    busy: float = field(default_factory=_busy_seconds)
    own: float = field(default_factory=_own_seconds)

    def seconds(self) -> float:
        """Return the seconds since the creation."""
        return time.monotonic() - self.started

    def work_of_others(self) -> float:
        """Return how many cores other work has kept busy on average, including the kernel's own work."""
        others = (_busy_seconds() - self.busy) - (_own_seconds() - self.own)
        return max(0.0, others / max(self.seconds(), sys.float_info.min))
