"""Process trees: which processes descend from us, and which from given processes.

Rules: pure. The contents of `/proc` come in parsed, as a `ProcessStat` for each pid.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping

from procreaper.runtime.system.proc import ProcessStat

# A message about processes names this many of them.
MOST_NAMES = 3


def find_descendants(
    processes: Mapping[int, ProcessStat], us: int, descendants: Container[int], strangers: Container[int]
) -> tuple[dict[int, ProcessStat], set[int]]:
    """Find the processes that descend from us, and the pids of those that certainly do not.

    It is known already that `descendants` descend from us and that `strangers` do not; neither need be in `processes`.
    A process may be in neither result, if a process between it and us has ended during the reading.
    """
    verdicts: dict[int, bool | None] = {0: False, us: True}
    for pid in processes:
        line = []
        ancestor = pid
        while ancestor not in verdicts:
            line.append(ancestor)
            if ancestor in descendants or ancestor in strangers:
                verdicts[ancestor] = ancestor in descendants
                break
            verdicts[ancestor] = None
            if ancestor not in processes:
                break
            ancestor = processes[ancestor].parent
        verdicts.update(dict.fromkeys(line, verdicts[ancestor]))
    ours = {pid: stat for pid, stat in processes.items() if verdicts[pid] and pid != us}
    return ours, {pid for pid in processes if verdicts[pid] is False}


def list_subtrees(
    processes: Mapping[int, ProcessStat],
    roots: Iterable[int],
    is_exempt: Callable[[int, ProcessStat], bool] = lambda *_: False,
) -> dict[int, str]:
    """Return the roots and all their descendants, without zombies: the name of the program for each pid.

    An exempt process is left out with all its descendants.
    """
    children: dict[int, list[int]] = {}
    for pid, stat in processes.items():
        children.setdefault(stat.parent, []).append(pid)
    found: dict[int, str] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop(0)
        if pid in processes and pid not in found and not is_exempt(pid, processes[pid]):
            waiting += children.get(pid, ())
            if not processes[pid].is_zombie:
                found[pid] = processes[pid].program
    return found


def describe_programs(programs: Mapping[int, str]) -> str:
    """Describe processes for a message: ``nginx (pid 7), nginx (pid 8) and 2 more``."""
    named = ", ".join(f"{program} (pid {pid})" for pid, program in list(programs.items())[:MOST_NAMES])
    more = len(programs) - MOST_NAMES
    return f"{named} and {more} more" if more > 0 else named
