"""Which processes of a running app a name stands for: one of them, a type, a group, a pattern, or `all`.

Rules: pure. All names are looked at before any answer is given; the answer has the order of the processes.
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
    """The processes that these names stand for. Raises UnknownProcessError for one that stands for none.

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
    """Whether this name stands for this process too, maybe among others."""
    return any(_matches(item, process) for item in _members(name, groups))


def choose(names: Iterable[str], groups: Groups) -> Callable[[str], bool]:
    """Whether the process of a name is meant by one of these (none: by any), also one that comes later.

    The answers are remembered, as they are asked for with each notice.
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
    """The name itself, and of a group all its members; groups may contain groups."""
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
