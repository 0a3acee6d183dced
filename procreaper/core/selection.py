"""Which processes of a running app a name stands for: a process, a type, a group, a pattern, or `all`.

Rules: pure. All names are checked before the first answer. The answer has the order of the processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from procreaper.core.plan import Process
from procreaper.errors import UnknownProcessError, did_you_mean, enumerate_words

ALL = "all"
WILD = frozenset("*?[")

Groups = Mapping[str, Sequence[str]]


def select(names: Iterable[str], processes: Sequence[Process], groups: Groups) -> tuple[str, ...]:
    """Return the processes that these names stand for. Raises UnknownProcessError for a name without a process.

    A pattern is one of the shell: ``web.*``, ``*``.
    """
    found = set()
    for name in dict.fromkeys(names):
        selected = [process.name for process in processes if covers(name, process, groups)]
        if not selected and name != ALL:
            raise _unknown(name, processes, groups)
        found.update(selected)
    return tuple(process.name for process in processes if process.name in found)


def covers(name: str, process: Process, groups: Groups) -> bool:
    """Return whether this name stands for this process, maybe among others."""
    return any(_matches(item, process) for item in _members(name, groups))


def choose(names: Iterable[str], groups: Groups) -> Callable[[str], bool]:
    """Return a function that says whether a process is selected by these names; without names, all are.

    It also answers for a process that comes later. It remembers its answers, because it is called for each notice.
    """
    names = tuple(names)
    known: dict[str, bool] = {}

    def chosen(process: str) -> bool:
        if process not in known:
            known[process] = not names or any(covers(name, Process(process, ""), groups) for name in names)
        return known[process]

    return chosen


def _matches(name: str, process: Process) -> bool:
    if name in (ALL, process.name, process.type):
        return True
    return not WILD.isdisjoint(name) and fnmatchcase(process.name, name)


def _members(name: str, groups: Groups) -> dict[str, None]:
    """Return the name itself, and all members of a group; groups may contain groups."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        item = waiting.pop()
        if item not in found:
            found[item] = None
            waiting += groups.get(item, ())
    return found


def _unknown(name: str, processes: Sequence[Process], groups: Groups) -> UnknownProcessError:
    types = dict.fromkeys(process.type for process in processes)
    filled = [group for group in groups if any(covers(group, process, groups) for process in processes)]
    there = f"there is {enumerate_words((*types, *filled), 'and')}" if types else "there is none"
    if name in groups:
        return UnknownProcessError(f"no process of the group `{name}` is there", hint=there)
    known = (*types, *(process.name for process in processes), *filled)
    guess = None if not WILD.isdisjoint(name) else did_you_mean(name, known, otherwise=False)
    hint = there if guess is None else f"{guess} {there}"
    return UnknownProcessError(f"there is no process `{name}`", hint=hint)
