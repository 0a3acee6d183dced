"""The CPU time and the memory that the processes of an app use, for whole process trees.

Rules: Linux only; without ``/proc`` there is no answer. It reads ``/proc`` once for each question and keeps nothing. A
process that ends during the reading is not an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from procreaper.runtime.system.proc import split_stat

PROC = "/proc"
READ_SIZE = 4096
# Positions among the fields of `/proc/PID/stat` that follow the name.
STATE, PARENT, GROUP, SESSION = 0, 1, 2, 3
CPU_TIMES = slice(11, 15)
RESIDENT_PAGES = 21


class Usage(NamedTuple):
    """What a process and its whole tree use.

    `cpu_seconds` is user and system time. It includes processes that have ended, if a parent that still runs has waited
    for them; so it does not decrease when a worker ends. `resident_bytes` counts memory that processes share once for
    each of them. `processes` is their number, without zombies.
    """

    cpu_seconds: float
    resident_bytes: int
    processes: int


class _Member(NamedTuple):
    """One process: where it belongs, and what it uses, in clock ticks and pages."""

    parent: int
    group: int
    session: int
    is_zombie: bool
    ticks: int
    pages: int


def measure_usage(roots: Mapping[str, int]) -> Mapping[str, Usage]:
    """Return what each tree uses, by name; `roots` maps each name to the pid that the tree began with.

    A process belongs to a tree if it is in the session or the group of that pid, or descends from it. The process with
    that pid need not be alive. The result has no entry for a tree without processes. On other platforms than Linux the
    result is empty.
    """
    if not roots:
        return {}
    try:
        pids = [int(entry) for entry in os.listdir(PROC) if entry.isdecimal()]
    except OSError:
        return {}
    members = {pid: member for pid in pids if (member := _parse(_read(f"{PROC}/{pid}/stat"))) is not None}
    names = {pid: name for name, pid in roots.items()}
    trees: dict[str, list[_Member]] = {}
    for pid, name in _find_trees(members, names).items():
        if name is not None:
            trees.setdefault(name, []).append(members[pid])
    return {name: _sum(trees[name]) for name in roots if name in trees}


def _find_trees(members: Mapping[int, _Member], names: Mapping[int, str]) -> dict[int, str | None]:
    """Return the name of the tree of each process; `names` has the pids that the trees began with."""
    trees: dict[int, str | None] = {}
    for pid in members:
        line: list[int] = []
        ancestor, tree = pid, None
        while ancestor in members:
            if ancestor in trees:
                tree = trees[ancestor]
                break
            member = members[ancestor]
            tree = names.get(ancestor) or names.get(member.session) or names.get(member.group)
            line.append(ancestor)
            # A first answer, which ends a circle: a pid that was used again during the reading may cause one.
            trees[ancestor] = tree
            if tree is not None:
                break
            ancestor = member.parent
        trees.update(dict.fromkeys(line, tree))
    return trees


def _sum(members: list[_Member]) -> Usage:
    return Usage(
        sum(member.ticks for member in members) / os.sysconf("SC_CLK_TCK"),
        sum(member.pages for member in members) * os.sysconf("SC_PAGE_SIZE"),
        sum(not member.is_zombie for member in members),
    )


def _parse(data: bytes) -> _Member | None:
    """Parse ``/proc/PID/stat``; None if it is empty, because the process has just gone."""
    _, fields = split_stat(data)
    if len(fields) <= RESIDENT_PAGES:
        return None
    return _Member(
        int(fields[PARENT]),
        int(fields[GROUP]),
        int(fields[SESSION]),
        fields[STATE] in b"ZX",
        sum(map(int, fields[CPU_TIMES])),
        int(fields[RESIDENT_PAGES]),
    )


def _read(path: str) -> bytes:
    try:
        # A third of the time that a file object takes, which counts where there are hundreds of processes.
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, READ_SIZE)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
