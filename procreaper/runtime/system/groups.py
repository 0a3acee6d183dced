"""Who is left of a process group, and whether they can answer.

Rules: only Linux tells who is a zombie, stopped or traced. What cannot be found out is no end: where `/proc` shows no
member, or cannot be read, a group lives as long as it can be signalled.

Theory of operation. That a group lives is seen by one member that is alive now. That all of its members are zombies is
only seen in a census in which none of them is alive any more, because a member that lived then may have forked since.
"""

from __future__ import annotations

import os
import sys
import time

from procreaper.runtime.system.census import Census, latest_census, see, take_census

# A group that had only zombies so long ago (seconds) is looked at again: its number may be that of another one. The
# time that the census took comes on top, twice, so that on a busy machine one census serves all that end together.
OLD = 0.05


def group_lives(group: int) -> bool:
    """Whether a process group has a member that is not a zombie."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # On macOS only zombies are left; on Linux somebody is there who is not ours to signal.
        return sys.platform == "linux"
    if sys.platform != "linux":
        return True
    census = latest_census()
    if census is not None:
        if _lives_still(census, group):
            return True
        if _has_only_zombies(census, group) and _is_recent(census):
            return False
    census = take_census(time.monotonic())
    return census is None or not _has_only_zombies(census, group)


def is_held(group: int) -> bool:
    """Whether a member of a process group is stopped (T) or traced (t)."""
    if sys.platform != "linux" or (census := take_census()) is None:
        return False
    try:
        # A process may have been stopped since.
        members = [see(pid) for pid in census.groups.get(group, ())]
    except OSError:
        return False
    return any(seen is not None and seen.group == group and seen.state in ("T", "t") for seen in members)


def _is_recent(census: Census) -> bool:
    return census.began > time.monotonic() - OLD - 2 * (census.ended - census.began)


def _lives_still(census: Census, group: int) -> bool:
    for pid in census.groups.get(group, ()):
        then = census.processes[pid]
        if then.is_zombie:
            continue
        try:
            now = see(pid)
        except OSError:
            return True
        if now is not None and now.start == then.start and now.group == group and not now.is_zombie:
            return True
    return False


def _has_only_zombies(census: Census, group: int) -> bool:
    members = census.groups.get(group, ())
    return bool(members) and all(census.processes[pid].is_zombie for pid in members)
