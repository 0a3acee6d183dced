"""Process groups: whether one is alive, and whether a member is suspended.

Rules: only Linux shows which processes are zombies, stopped or traced. Doubt never ends a group: where `/proc` shows no
member, or cannot be read, a group is alive as long as it can be signalled.

Theory of operation. One member that is alive now proves that its group is alive. A group has only zombies if a process
table shows no living member. Such a table must be recent, because a member that was alive earlier may have forked.
"""

from __future__ import annotations

import os
import sys
import time

from procreaper.runtime.system.proc import read_stat
from procreaper.runtime.system.process_table import ProcessTable, latest_process_table, read_process_table

# A table that shows only zombies counts for this long, in seconds; later the number may belong to a new group. Twice
# the time that it took to read the table comes on top. So on a busy machine one table serves all groups that end
# together.
MAX_AGE = 0.05


def is_group_alive(group: int) -> bool:
    """Return whether a process group has a member that is not a zombie."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # On macOS only zombies are left. On Linux there is a process that we may not signal.
        return sys.platform == "linux"
    if sys.platform != "linux":
        return True
    table = latest_process_table()
    if table is not None:
        if _has_living_member(table, group):
            return True
        if _has_only_zombies(table, group) and _is_recent(table):
            return False
    table = read_process_table(time.monotonic())
    return table is None or not _has_only_zombies(table, group)


def is_group_suspended(group: int) -> bool:
    """Return whether a member of a process group is stopped (T) or traced (t)."""
    if sys.platform != "linux" or (table := read_process_table()) is None:
        return False
    try:
        # A process may have been stopped since.
        members = [read_stat(pid) for pid in table.groups.get(group, ())]
    except OSError:
        return False
    return any(stat is not None and stat.group == group and stat.state in ("T", "t") for stat in members)


def _is_recent(table: ProcessTable) -> bool:
    return table.began > time.monotonic() - MAX_AGE - 2 * (table.ended - table.began)


def _has_living_member(table: ProcessTable, group: int) -> bool:
    """Return whether a member that is in the table is still alive now."""
    for pid in table.groups.get(group, ()):
        then = table.processes[pid]
        if then.is_zombie:
            continue
        try:
            now = read_stat(pid)
        except OSError:
            return True
        if now is not None and now.start == then.start and now.group == group and not now.is_zombie:
            return True
    return False


def _has_only_zombies(table: ProcessTable, group: int) -> bool:
    members = table.groups.get(group, ())
    return bool(members) and all(table.processes[pid].is_zombie for pid in members)
