"""Who descends from whom, and whose they are, by what Linux tells in `/proc`.

Rules: pure; what /proc holds comes in as bytes and as what was parsed of them.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import NamedTuple

# The variable with the path of marks, such as `3f9c2ab14d07/web.1/1/`; below that of the procreaper that we run under.
VARIABLE = "PROCREAPER_APP"
# What stands there for the guard of any procreaper, which goes by itself.
GUARD = "guard"
# What the path begins with for all that belongs to a detached process, whichever procreaper has started it.
DETACHED = "detached/"
# How many are named when it is told who was ended.
MOST_NAMES = 3


class Seen(NamedTuple):
    """A process at the moment at which it was looked at; `start` tells it from others that had the same pid."""

    program: str
    state: str
    parent: int
    group: int
    session: int
    start: int

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended, and only waits for its parent to ask how."""
        return self.state in "ZX"


def parse_stat(data: bytes) -> Seen | None:
    """What ``/proc/PID/stat`` says; None where it was empty, since the process has just gone.

    >>> parse_stat(b"7 (a) b) S 1 7 7 " + b"0 " * 15 + b"4711 0")
    Seen(program='a) b', state='S', parent=1, group=7, session=7, start=4711)
    """
    # The name may hold blanks and parentheses.
    before, _, after = data.rpartition(b") ")
    fields = after.split(None, 20)
    if len(fields) < 20:
        return None
    program = before.partition(b"(")[2].decode(errors="replace")
    state, parent, group, session = fields[:4]
    return Seen(program, state.decode(), int(parent), int(group), int(session), int(fields[19]))


def find_relatives(
    seen: Mapping[int, Seen], us: int, known: Container[int], strangers: Container[int]
) -> tuple[dict[int, Seen], set[int]]:
    """Who descends from us, and who certainly does not.

    `known` descend from us, `strangers` do not; neither need be among `seen`. Of whoever is left nothing can be said,
    because somebody between them and us went away meanwhile.
    """
    verdicts: dict[int, bool | None] = {0: False, us: True}
    for pid in seen:
        line = []
        ancestor = pid
        while ancestor not in verdicts:
            line.append(ancestor)
            if ancestor in known or ancestor in strangers:
                verdicts[ancestor] = ancestor in known
                break
            verdicts[ancestor] = None
            if ancestor not in seen:
                break
            ancestor = seen[ancestor].parent
        verdicts.update(dict.fromkeys(line, verdicts[ancestor]))
    ours = {pid: each for pid, each in seen.items() if verdicts[pid] and pid != us}
    return ours, {pid for pid in seen if verdicts[pid] is False}


def below(
    seen: Mapping[int, Seen], roots: Iterable[int], is_spared: Callable[[int, Seen], bool] = lambda *_: False
) -> dict[int, str]:
    """The names of the programs of these processes and of all that descend from them, zombies left out.

    Whoever is spared is left out with all that is below.
    """
    children: dict[int, list[int]] = {}
    for pid, each in seen.items():
        children.setdefault(each.parent, []).append(pid)
    found: dict[int, str] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop(0)
        if pid in seen and pid not in found and not is_spared(pid, seen[pid]):
            waiting += children.get(pid, ())
            if not seen[pid].is_zombie:
                found[pid] = seen[pid].program
    return found


def find_variable(environment: bytes, name: str) -> bytes:
    """The value of a variable in ``/proc/PID/environ``; empty where it is not there, or was overwritten."""
    start = name.encode() + b"="
    return next((entry[len(start) :] for entry in environment.split(b"\0") if entry.startswith(start)), b"")


def enumerate_programs(programs: Mapping[int, str]) -> str:
    """``nginx (pid 7), nginx (pid 8) and 2 more``."""
    named = ", ".join(f"{program} (pid {pid})" for pid, program in list(programs.items())[:MOST_NAMES])
    more = len(programs) - MOST_NAMES
    return f"{named} and {more} more" if more > 0 else named
