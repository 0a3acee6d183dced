"""What the processes of an app take: the CPU time and the memory of whole process trees.

Rules: Linux only; where there is no ``/proc``, nothing is known. One pass over it, when somebody asks; nothing is kept.
Whoever has gone meanwhile is no error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

PROC = "/proc"
READ_SIZE = 4096
# In `/proc/PID/stat`, counted from what follows the name: proc(5) counts from 1, and the name is 2.
PARENT, GROUP, SESSION = 1, 2, 3
CPU_TIMES = slice(11, 15)
RESIDENT_PAGES = 21


class Usage(NamedTuple):
    """What a process and all that belongs to it take together.

    `cpu_seconds` is user and system time, also of those that have ended and were waited for by one that still runs: so
    it does not go back when a worker ends. `resident_bytes` counts what several of them share for each of them;
    `processes` is how many there are, zombies left out.
    """

    cpu_seconds: float
    resident_bytes: int
    processes: int


class _Taken(NamedTuple):
    """One process: to whom it belongs, and what it takes, in clock ticks and pages."""

    parent: int
    group: int
    session: int
    is_zombie: bool
    ticks: int
    pages: int


def usage(roots: Mapping[str, int]) -> Mapping[str, Usage]:
    """What each of these takes, by name, given the pid that it began with.

    Whoever is of the session or the group of that pid, or descends from it, belongs to it; it need not be alive itself.
    A name of which nothing is left is not in the result, and on a platform that does not tell, none is.
    """
    if not roots:
        return {}
    try:
        pids = [int(entry) for entry in os.listdir(PROC) if entry.isdecimal()]
    except OSError:
        return {}
    seen = {pid: taken for pid in pids if (taken := _parse(_read(f"{PROC}/{pid}/stat"))) is not None}
    names = {pid: name for name, pid in roots.items()}
    belongings: dict[str, list[_Taken]] = {}
    for pid, name in _owners(seen, names).items():
        if name is not None:
            belongings.setdefault(name, []).append(seen[pid])
    return {name: _sum(belongings[name]) for name in roots if name in belongings}


def _owners(seen: Mapping[int, _Taken], names: Mapping[int, str]) -> dict[int, str | None]:
    """To whom each process belongs; `names` has the pids at which the trees begin."""
    owners: dict[int, str | None] = {}
    for pid in seen:
        line: list[int] = []
        ancestor, owner = pid, None
        while ancestor in seen:
            if ancestor in owners:
                owner = owners[ancestor]
                break
            taken = seen[ancestor]
            owner = names.get(ancestor) or names.get(taken.session) or names.get(taken.group)
            line.append(ancestor)
            # Until its verdict is known: numbers that were used again while they were read may make a circle.
            owners[ancestor] = owner
            if owner is not None:
                break
            ancestor = taken.parent
        owners.update(dict.fromkeys(line, owner))
    return owners


def _sum(belongings: list[_Taken]) -> Usage:
    return Usage(
        sum(taken.ticks for taken in belongings) / os.sysconf("SC_CLK_TCK"),
        sum(taken.pages for taken in belongings) * os.sysconf("SC_PAGE_SIZE"),
        sum(not taken.is_zombie for taken in belongings),
    )


def _parse(data: bytes) -> _Taken | None:
    """What ``/proc/PID/stat`` says; None where it was empty, since the process has just gone."""
    # The name may hold blanks and parentheses.
    fields = data[data.rfind(b")") + 2 :].split(None, RESIDENT_PAGES + 1)
    if len(fields) <= RESIDENT_PAGES:
        return None
    return _Taken(
        int(fields[PARENT]),
        int(fields[GROUP]),
        int(fields[SESSION]),
        fields[0] in b"ZX",
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
