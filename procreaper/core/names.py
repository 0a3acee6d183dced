"""What a name stands for: a process type, an instance such as ``web.1``, or a group of `.reaper.toml`.

Rules: pure. All options, settings and commands use this reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from procreaper.core.plan import Process
from procreaper.errors import Problem, did_you_mean, list_words

# More unknown names than this share one message.
MOST_UNKNOWN = 5


class Member(NamedTuple):
    """All instances of a process type, or the instance with this number."""

    type: str
    number: int | None = None

    def covers(self, process: Process) -> bool:
        """Return whether this process is one of them."""
        return process.type == self.type and self.number in (None, int(process.name.rpartition(".")[2]))


class Names:
    """The names of a project: its process types with their numbers of instances, and its groups."""

    def __init__(self, counts: Mapping[str, int], groups: Mapping[str, Sequence[str]]) -> None:
        self.counts = counts
        self.groups = groups

    def find(self, name: str) -> tuple[Member, ...] | None:
        """Return what a name stands for, or None if there is no such name. The instance need not run."""
        found: dict[Member, None] = {}
        waiting, seen = [name], set()
        while waiting:
            item = waiting.pop(0)
            kind, _, number = item.rpartition(".")
            if item in self.counts:
                found[Member(item)] = None
            elif item in self.groups:
                # `project.groups` reports a group that contains itself.
                waiting = [*(self.groups[item] if item not in seen else ()), *waiting]
                seen.add(item)
            elif kind in self.counts and re.fullmatch("[1-9][0-9]{0,8}", number):
                found[Member(kind, int(number))] = None
            elif item == name:
                return None
        return tuple(found)

    def exists(self, member: Member) -> bool:
        """Return whether the name stands for at least one process."""
        return self.counts[member.type] >= (member.number or 1)

    def suggest(self, name: str) -> str | None:
        """Return the names that an unknown name may have meant."""
        return did_you_mean(name, (*self.counts, *self.groups))

    def list_all(self) -> str | None:
        """Return a hint that lists all names."""
        return list_words((*self.counts, *self.groups))

    def find_all(self, option: str, names: Iterable[str], problems: list[Problem]) -> list[Member]:
        """Return what the names after an option stand for. Each unknown name adds a problem."""
        members: list[Member] = []
        unknown = []
        for name in names:
            found = self.find(name)
            if found is None or (name not in self.groups and not all(map(self._is_possible, found))):
                unknown.append(name)
            else:
                members += found
        if len(unknown) > MOST_UNKNOWN:
            shown = "`, `".join(unknown[:MOST_UNKNOWN])
            message = f"{option}: there is no process `{shown}` and {len(unknown) - MOST_UNKNOWN} more"
            problems.append(Problem(message, hint=self.list_all()))
        else:
            message = f"{option}: there is no process"
            problems += [Problem(f"{message} `{name}`", hint=self.suggest(name)) for name in unknown]
        return members

    def _is_possible(self, member: Member) -> bool:
        return member.number is None or self.exists(member)
