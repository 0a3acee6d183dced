"""Checks the groups of `.reaper.toml`: their names and their members.

Rules: pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from procreaper.core.names import Names
from procreaper.core.plan import find_cycle
from procreaper.errors import Problem

if TYPE_CHECKING:
    from procreaper.project.settings import Settings


def may_be_unread(settings: Settings, name: str) -> bool:
    """Return whether a name may belong to a group or a process type that could not be read."""
    return settings.is_broken(("groups", name)) or settings.is_broken(("process", name))


def check_groups(settings: Settings, types: Iterable[str]) -> list[Problem]:
    """Find all mistakes in the groups of the settings. `types` are the existing process types."""
    groups = settings.document.groups
    names = Names(dict.fromkeys(types, 1), groups)
    problems = []
    for group, members in groups.items():
        keys = ("groups", group)
        if group in names.counts:
            message = f"the group `{group}` has the name of a process type"
            problems.append(settings.problem(keys, message, "rename the group"))
        if group == "all":
            problems.append(
                settings.problem(keys, "a group cannot be called `all`, which means every process", "rename it")
            )
        for member in members:
            if names.find(member) is None and not may_be_unread(settings, member):
                message = f"`{member}` in the group `{group}` does not exist"
                problems.append(settings.problem(keys, message, names.suggest(member), value=member))
    edges = {group: [member for member in members if member in groups] for group, members in groups.items()}
    while cycle := find_cycle(edges):
        problems.append(
            settings.problem(
                ("groups", cycle[0]),
                f"the group `{cycle[0]}` contains itself: {' -> '.join(cycle)}",
                "remove one of them from the other",
                value=cycle[1],
            )
        )
        edges[cycle[-2]] = [member for member in edges[cycle[-2]] if member != cycle[-1]]
    return problems
