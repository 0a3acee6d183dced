"""The descendants of this process at one moment, and their marks, from `/proc`.

Rules: it observes, and keeps what it can use again; other modules decide what happens to a process. A scan reads one
file for each process, except for those that are known not to descend from us. If no process has started since the last
scan, it reads one file for each descendant. The first scan that finds a descendant outside the known groups also reads
its environment.

A process without a mark has the mark of its nearest ancestor with one. Each scan records this, so that it still holds
when the ancestors have ended.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from procreaper.runtime.cleanup.process_tree import find_descendants
from procreaper.runtime.system import proc
from procreaper.runtime.system.marks import MARK_VARIABLE, find_variable
from procreaper.runtime.system.proc import ProcessStat


class Descendants:
    """The descendants that the last scan found, in `processes`, without the leaders of the known groups."""

    def __init__(self) -> None:
        self.processes: dict[int, ProcessStat] = {}
        # The pids of processes that do not descend from us; and the last pid that the system had given out by the scan.
        self._strangers: set[int] = set()
        self._last_pid: int | None = None
        # Whether `/proc/loadavg` can be trusted: not in a container that has a load average of its own.
        self._shows_last_pid: bool | None = None
        # Marks by pid and start time: from the environment of a process, and from its nearest ancestor with one.
        self._own_marks: dict[tuple[int, int], str] = {}
        self._inherited: dict[tuple[int, int], str] = {}

    def note_child(self, pid: int) -> None:
        """Check by the pid of a new child whether the last pid that the system shows can be trusted."""
        if self._shows_last_pid is None:
            try:
                self._shows_last_pid = _read_last_pid() >= pid
            except OSError:
                return

    def scan(self, groups: Mapping[int, str]) -> None:
        """Find all descendants; `groups` maps the known groups to the marks of their members.

        The leaders of these groups descend from us. For a member of such a group, an earlier result still counts.

        If the system lacks descriptors or memory for a scan, the last result stays.
        """
        try:
            self._scan(groups, self.processes)
        except OSError:
            self._last_pid = None

    def scan_afresh(self, groups: Mapping[int, str]) -> None:
        """Find all descendants without use of earlier results."""
        self._last_pid = None
        try:
            self._scan(groups, {})
        except OSError:
            return

    def _scan(self, groups: Mapping[int, str], before: Mapping[int, ProcessStat]) -> None:
        last_pid = _read_last_pid()
        if last_pid == self._last_pid and self._shows_last_pid:
            # No process has started since.
            pids = set(before)
        else:
            pids = proc.list_pids()
            self._strangers &= pids
            pids -= self._strangers
        pids -= groups.keys()
        found = {pid: stat for pid, stat in before.items() if stat.group in groups and pid in pids}
        found |= {pid: stat for pid in pids - found.keys() if (stat := proc.read_stat(pid)) is not None}
        self.processes, strangers = find_descendants(found, os.getpid(), groups, self._strangers)
        self._strangers |= strangers
        # If it is not known of a process whether it descends from us, the next scan reads it again.
        self._last_pid = last_pid if len(self.processes) + len(strangers) == len(found) else None
        self._own_marks = {key: mark for key, mark in self._own_marks.items() if key[0] in self.processes}
        self._record_inherited_marks(groups)

    def _record_inherited_marks(self, groups: Mapping[int, str]) -> None:
        """Record for each descendant the mark of its parent."""
        known, self._inherited = self._inherited, {}
        for pid in self.processes:
            for heir in reversed(self._list_unknown_line(pid)):
                stat = self.processes[heir]
                key = heir, stat.start
                self._inherited[key] = known.get(key) or self._mark_of_parent(stat.parent, groups)

    def _list_unknown_line(self, pid: int) -> list[int]:
        """Return a descendant and its ancestors, up to the first one whose inherited mark is recorded."""
        line = []
        while (stat := self.processes.get(pid)) is not None and (pid, stat.start) not in self._inherited:
            line.append(pid)
            pid = stat.parent
        return line

    def _mark_of_parent(self, parent: int, groups: Mapping[int, str]) -> str:
        if parent in groups:
            return groups[parent]
        stat = self.processes.get(parent)
        if stat is None:
            return ""
        return groups[stat.group] if stat.group in groups else self.mark_of(parent, stat)

    def mark_of(self, pid: int, stat: ProcessStat) -> str:
        """Return the mark of a process; empty if neither the process nor an ancestor has one."""
        return self._own_mark(pid, stat) or self._inherited.get((pid, stat.start), "")

    def _own_mark(self, pid: int, stat: ProcessStat) -> str:
        mark = self._own_marks.get((pid, stat.start))
        if mark is None:
            try:
                environment = proc.read_file(f"/proc/{pid}/environ")
            except OSError:
                return ""
            mark = os.fsdecode(find_variable(environment, MARK_VARIABLE))
            # In the middle of an exec a process has no environment.
            if environment:
                self._own_marks[pid, stat.start] = mark
        return mark

    def has_read_mark(self, pid: int, stat: ProcessStat) -> bool:
        """Return whether the process had an environment when its mark was read."""
        return (pid, stat.start) in self._own_marks


def _read_last_pid() -> int:
    """Return the number that the system gave out last, to a process or a thread; 0 if it does not say."""
    number = proc.read_file("/proc/loadavg").rpartition(b" ")[2]
    return int(number or 0)
