"""Who descends from us at this moment, and which marks they have, as far as `/proc` tells.

Rules: sees, and remembers what it can use again; what is done about whom is decided elsewhere. A look costs a read for
each process that is not known to be a stranger; where none has been born since, one for each relative.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet

from procreaper.kinship import VARIABLE, Seen, find_relatives, find_variable, parse_stat

READ_SIZE = 4096


class Relatives:
    """Those whom the last look has `seen`; a leader of a group that we know is not among them."""

    def __init__(self) -> None:
        self.seen: dict[int, Seen] = {}
        # Those who do not descend from us; the number that a process was given last when they were found; and whether
        # that can be believed, as it cannot where a container has a load average of its own.
        self._foreign: set[int] = set()
        self._newest: int | None = None
        self._tells_births: bool | None = None
        self._paths: dict[tuple[int, int], str] = {}

    def born(self, pid: int) -> None:
        """A child of ours has this number."""
        if self._tells_births is None:
            self._tells_births = _newest() >= pid

    def look(self, groups: AbstractSet[int]) -> None:
        """Look at whoever may descend from us. The leaders of groups do; who is in a group is what it was."""
        newest = _newest()
        if newest == self._newest and self._tells_births:
            # Nobody was born since.
            pids = set(self.seen)
        else:
            pids = {int(pid) for pid in os.listdir("/proc") if pid.isdecimal()}
            self._foreign &= pids
            pids -= self._foreign
        pids -= groups
        seen = {pid: each for pid, each in self.seen.items() if each.group in groups and pid in pids}
        seen |= {pid: each for pid in pids - seen.keys() if (each := see(pid)) is not None}
        self.seen, foreign = find_relatives(seen, os.getpid(), groups, self._foreign)
        self._foreign |= foreign
        # Who could not be placed is looked for again.
        self._newest = newest if len(self.seen) + len(foreign) == len(seen) else None
        self._paths = {key: path for key, path in self._paths.items() if key[0] in self.seen}

    def look_at_all(self, groups: AbstractSet[int]) -> None:
        """Look without relying on what was seen before."""
        self.seen.clear()
        self._newest = None
        self.look(groups)

    def path_of(self, pid: int, seen: Seen) -> str:
        """The mark of this process; empty where it has none."""
        path = self._paths.get((pid, seen.start))
        if path is None:
            environment = _read(f"/proc/{pid}/environ")
            path = os.fsdecode(find_variable(environment, VARIABLE))
            # In the midst of an execution there is no environment.
            if environment:
                self._paths[pid, seen.start] = path
        return path

    def knows_path(self, pid: int, seen: Seen) -> bool:
        """Whether this process had an environment when it was looked for its mark."""
        return (pid, seen.start) in self._paths


def _newest() -> int:
    """The number that was given out last, to a process or to a thread; 0 where nobody tells."""
    number = _read("/proc/loadavg").rpartition(b" ")[2]
    return int(number or 0)


def see(pid: int) -> Seen | None:
    """A process as it is; None where there is none, or nobody tells."""
    return parse_stat(_read(f"/proc/{pid}/stat"))


def _read(path: str) -> bytes:
    """What a file in /proc holds; nothing where there is no such file, or no such process any more."""
    try:
        # A third of the time that a file object takes, which counts where there are a hundred processes.
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        data = os.read(descriptor, READ_SIZE)
        while len(data) % READ_SIZE == 0 and (more := os.read(descriptor, READ_SIZE)):
            data += more
        return data
    except OSError:
        return b""
    finally:
        os.close(descriptor)
