"""All processes of the system at one moment, shared by all runs that look at the same time.

Rules: one census serves all who ask within the time that it took, so that the cost of stopping many processes does not
grow with the square of their number. Linux only; elsewhere, and where `/proc` is empty, a census is empty.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from procreaper.runtime.system import proc
from procreaper.runtime.system.ancestry import Seen, parse_stat

# How long a census is good for besides the time that it took, in seconds: no longer than the shortest wait for a look.
GOOD_FOR = 0.002


class Census(NamedTuple):
    """The processes by number, and the numbers of the members of each group and each session, zombies included.

    `began` and `ended` are seconds of the monotonic clock: what happened before `began` is in it.
    """

    began: float
    ended: float
    processes: Mapping[int, Seen]
    groups: Mapping[int, list[int]]
    sessions: Mapping[int, list[int]]


_latest: Census | None = None


def take_census(since: float | None = None) -> Census | None:
    """A census that began at this moment or later; without it, a recent one.

    None where the system lacks the descriptors or the memory for one.
    """
    global _latest
    if _latest is not None:
        if since is None:
            since = time.monotonic() - 2 * (_latest.ended - _latest.began) - GOOD_FOR
        if _latest.began >= since:
            return _latest
    try:
        _latest = _count()
    except OSError:
        return None
    return _latest


def latest_census() -> Census | None:
    """The last census, however old; None where there was none."""
    return _latest


def see(pid: int) -> Seen | None:
    """A process as it is now; None where it has gone. Raises OSError where the system lacks descriptors or memory."""
    return parse_stat(proc.read(f"/proc/{pid}/stat"))


def _count() -> Census:
    began = time.monotonic()
    processes: dict[int, Seen] = {}
    groups: dict[int, list[int]] = {}
    sessions: dict[int, list[int]] = {}
    for pid in proc.list_pids():
        if (seen := see(pid)) is not None:
            processes[pid] = seen
            groups.setdefault(seen.group, []).append(pid)
            sessions.setdefault(seen.session, []).append(pid)
    return Census(began, time.monotonic(), processes, groups, sessions)
