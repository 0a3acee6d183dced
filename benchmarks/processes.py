"""Read from /proc what a manager and its helpers use, and end all processes that the benchmark has started.

The benchmark is the *subreaper* of its descendants: a process that loses its parent becomes a child of the benchmark.
So the descendants of the benchmark include all daemons that it has caused. Linux only.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
# The program and a word of its command line identify a child of the benchmark, whatever its parent is.
CHILD_PROGRAMS = ("sh", "dash", "bash", "sleep", "python")
CHILD_WORDS = ("producer.py", "sleep 1000")


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of some processes so far: seconds of processor time, and voluntary context switches."""

    processor: float
    switches: int

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.processor - other.processor, self.switches - other.switches)


def become_subreaper() -> None:
    """Adopt every orphan among the descendants."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def descendants(root: int) -> list[int]:
    """Return every living descendant of a process, without zombies."""
    below: dict[int, list[int]] = {}
    zombies = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):
            # The name of the program is in parentheses, and may itself contain blanks and parentheses.
            state, parent = Path("/proc", entry, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            below.setdefault(int(parent), []).append(int(entry))
            if state in "ZX":
                zombies.add(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        more = below.get(waiting.pop(), [])
        found += more
        waiting += more
    return [process for process in found if process not in zombies]


def is_child(process: int) -> bool:
    """Return whether a process is a child that the manager was asked to run, or the shell around it."""
    try:
        arguments = Path("/proc", str(process), "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    program = os.path.basename(arguments[0])
    return program.startswith(CHILD_PROGRAMS) and any(word in " ".join(arguments) for word in CHILD_WORDS)


def helpers(manager: int) -> list[int]:
    """Return the helper processes of a manager: the descendants that are not children of the benchmark."""
    below = set(descendants(os.getpid())) - {manager}
    return sorted(process for process in below if not is_child(process))


def children() -> list[int]:
    """Return the living children, including their shells, whatever their parents are."""
    return [process for process in descendants(os.getpid()) if is_child(process)]


def memory(processes: Iterable[int]) -> int:
    """Return the sum of the proportional set sizes in bytes; a process that has ended counts as 0."""
    total = 0
    for process in processes:
        with suppress(OSError):
            for line in Path("/proc", str(process), "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def usage(processes: Iterable[int]) -> Usage:
    """Return the usage of all threads of the processes. `schedstat` counts nanoseconds, `stat` only ticks."""
    nanoseconds = switches = 0
    for process in processes:
        with suppress(OSError):
            for thread in Path("/proc", str(process), "task").iterdir():
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
                status = (thread / "status").read_text()
                switches += int(status.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return Usage(nanoseconds / 1e9, switches)


def end_everything(limit: float = 20.0) -> None:
    """Kill every descendant, and reap the benchmark's own children."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        alive = descendants(os.getpid())
        for process in alive:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)
