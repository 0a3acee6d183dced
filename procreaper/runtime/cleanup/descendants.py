"""Who descends from us at this moment, and which marks they have, as far as `/proc` tells.

Rules: sees, and remembers what it can use again; what is done about whom is decided elsewhere. A look costs a read for
each process that is not known to be a stranger; where none has been born since, one for each relative. The first look
at a relative outside the groups reads its environment as well.

A process without a mark has that of its nearest ancestor with one. Each look remembers this, so that it still counts
when the ancestors have ended.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from procreaper.runtime.cleanup.process_tree import find_descendants
from procreaper.runtime.system import proc
from procreaper.runtime.system.marks import MARK_VARIABLE, find_variable
from procreaper.runtime.system.proc import ProcessStat


class Relatives:
    """Those whom the last look has `seen`; a leader of a group that we know is not among them."""

    def __init__(self) -> None:
        self.seen: dict[int, ProcessStat] = {}
        # Those who do not descend from us; the number that a process was given last when they were found; and whether
        # that can be believed, as it cannot where a container has a load average of its own.
        self._foreign: set[int] = set()
        self._newest: int | None = None
        self._tells_births: bool | None = None
        # The marks by number and start: those in the environments, and those of the nearest ancestors.
        self._paths: dict[tuple[int, int], str] = {}
        self._inherited: dict[tuple[int, int], str] = {}

    def born(self, pid: int) -> None:
        """A child of ours has this number."""
        if self._tells_births is None:
            try:
                self._tells_births = _newest() >= pid
            except OSError:
                return

    def look(self, groups: Mapping[int, str]) -> None:
        """Look at all that may descend from us; `groups` have the marks of their members, as far as these have any.

        The leaders of groups descend from us; a member of a group is taken for what it was.

        Where the system lacks the descriptors or the memory for a look, what was seen last still counts.
        """
        try:
            self._look(groups, self.seen)
        except OSError:
            self._newest = None

    def look_at_all(self, groups: Mapping[int, str]) -> None:
        """Look without relying on what was seen before."""
        self._newest = None
        try:
            self._look(groups, {})
        except OSError:
            return

    def _look(self, groups: Mapping[int, str], before: Mapping[int, ProcessStat]) -> None:
        newest = _newest()
        if newest == self._newest and self._tells_births:
            # No process was born since.
            pids = set(before)
        else:
            pids = proc.list_pids()
            self._foreign &= pids
            pids -= self._foreign
        pids -= groups.keys()
        seen = {pid: each for pid, each in before.items() if each.group in groups and pid in pids}
        seen |= {pid: each for pid in pids - seen.keys() if (each := proc.read_stat(pid)) is not None}
        self.seen, foreign = find_descendants(seen, os.getpid(), groups, self._foreign)
        self._foreign |= foreign
        # A process that could not be placed is read again.
        self._newest = newest if len(self.seen) + len(foreign) == len(seen) else None
        self._paths = {key: path for key, path in self._paths.items() if key[0] in self.seen}
        self._inherit(groups)

    def _inherit(self, groups: Mapping[int, str]) -> None:
        """Remember the mark of the parent of each relative."""
        known, self._inherited = self._inherited, {}
        for pid in self.seen:
            for heir in reversed(self._line_of(pid)):
                each = self.seen[heir]
                key = heir, each.start
                self._inherited[key] = known.get(key) or self._path_below(each.parent, groups)

    def _line_of(self, pid: int) -> list[int]:
        """A relative and its ancestors, as far as nothing is known of them."""
        line = []
        while (each := self.seen.get(pid)) is not None and (pid, each.start) not in self._inherited:
            line.append(pid)
            pid = each.parent
        return line

    def _path_below(self, parent: int, groups: Mapping[int, str]) -> str:
        if parent in groups:
            return groups[parent]
        seen = self.seen.get(parent)
        if seen is None:
            return ""
        return groups[seen.group] if seen.group in groups else self.path_of(parent, seen)

    def path_of(self, pid: int, seen: ProcessStat) -> str:
        """The mark of this process; empty where neither it nor an ancestor has one."""
        return self._own_path(pid, seen) or self._inherited.get((pid, seen.start), "")

    def _own_path(self, pid: int, seen: ProcessStat) -> str:
        path = self._paths.get((pid, seen.start))
        if path is None:
            try:
                environment = proc.read_file(f"/proc/{pid}/environ")
            except OSError:
                return ""
            path = os.fsdecode(find_variable(environment, MARK_VARIABLE))
            # In the midst of an execution there is no environment.
            if environment:
                self._paths[pid, seen.start] = path
        return path

    def knows_path(self, pid: int, seen: ProcessStat) -> bool:
        """Whether this process had an environment when it was looked for its mark."""
        return (pid, seen.start) in self._paths


def _newest() -> int:
    """The number that was given out last, to a process or to a thread; 0 where nobody tells."""
    number = proc.read_file("/proc/loadavg").rpartition(b" ")[2]
    return int(number or 0)
