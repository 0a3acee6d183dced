"""The process table: all processes of the system at one moment, shared by all runs that need it at the same time.

Rules: one table serves all runs that ask for it within the time that it took to read. So the cost of stopping many
processes does not grow with the square of their number. Linux only; elsewhere, and where `/proc` is empty, the table is
empty.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

from procreaper.runtime.system import proc
from procreaper.runtime.system.proc import ProcessStat

# How long a table is used, in seconds, besides the time that it took to read. At most the shortest interval between two
# scans.
MAX_AGE = 0.002


class ProcessTable(NamedTuple):
    """The processes by pid, and the pids of the members of each group and each session, zombies included.

    `began` and `ended` are seconds of the monotonic clock: the table contains all that happened before `began`.
    """

    began: float
    ended: float
    processes: Mapping[int, ProcessStat]
    groups: Mapping[int, list[int]]
    sessions: Mapping[int, list[int]]


_latest: ProcessTable | None = None


def read_process_table(since: float | None = None) -> ProcessTable | None:
    """Return a table whose reading began at `since` or later; by default a recent one.

    The answer is None if the system lacks descriptors or memory.
    """
    global _latest
    if _latest is not None:
        if since is None:
            since = time.monotonic() - 2 * (_latest.ended - _latest.began) - MAX_AGE
        if _latest.began >= since:
            return _latest
    try:
        _latest = _read()
    except OSError:
        return None
    return _latest


def latest_process_table() -> ProcessTable | None:
    """Return the last table that was read, however old; None if there was none."""
    return _latest


def _read() -> ProcessTable:
    began = time.monotonic()
    processes: dict[int, ProcessStat] = {}
    groups: dict[int, list[int]] = {}
    sessions: dict[int, list[int]] = {}
    for pid in proc.list_pids():
        if (stat := proc.read_stat(pid)) is not None:
            processes[pid] = stat
            groups.setdefault(stat.group, []).append(pid)
            sessions.setdefault(stat.session, []).append(pid)
    return ProcessTable(began, time.monotonic(), processes, groups, sessions)
