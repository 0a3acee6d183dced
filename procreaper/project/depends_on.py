"""Resolves `depends_on`: from the names in the settings to edges between processes, and the impossible ones.

Rules: pure. Imported only if there is a `.reaper.toml`, because there are no dependencies without one. All process
types are checked, including those that are not in the plan. Edges connect only processes in the plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from procreaper.core.names import Member, Names
from procreaper.core.plan import Condition, Dependency, Process, When, find_cycle
from procreaper.errors import Problem
from procreaper.project.groups import may_be_unread
from procreaper.project.process_types import DependencyEntry
from procreaper.project.settings import Settings

if TYPE_CHECKING:
    from procreaper.project.planner import ProcessType

# By process type: each entry of its `depends_on`, and the members that its name stands for.
Entries = Mapping[str, Sequence[tuple[DependencyEntry, tuple[Member, ...]]]]


def resolve_dependencies(
    types: Mapping[str, ProcessType], names: Names, settings: Settings, restarted: Sequence[Member]
) -> tuple[Entries, list[Problem]]:
    """Return the dependencies of each type, without the impossible ones, and the problems.

    `restarted` has the members that `-r` names.
    """
    resolver = _DependencyResolver(types, names, settings, restarted)
    return resolver.resolve(), resolver.problems


def find_contradicted(
    types: Mapping[str, ProcessType], names: Names, settings: Settings, restarted: Sequence[Member]
) -> list[Member]:
    """Return the `restarted` members for whose completion another type waits."""
    resolver = _DependencyResolver(types, names, settings, restarted)
    completed = {
        member.type
        for found in resolver.resolve().values()
        for entry, members in found
        for member in members
        if entry.condition is Condition.COMPLETED
    }
    return [member for member in restarted if member.type in completed]


def find_missing_dependencies(
    started: Iterable[str],
    entries: Entries,
    excluded: Sequence[Member],
    names: Names,
    settings: Settings,
    reduced: Collection[str] = (),
) -> list[Problem]:
    """Find the types among `started` that depend on an instance that does not exist. They would wait for ever.

    For a dependency in `reduced`, this is a warning: an option of the running app limits its number of instances.
    """
    problems = []
    for name in started:
        for entry, members in entries.get(name, ()):
            missing = [member for member in members if not names.exists(member)]
            missing = [
                member
                for member in missing
                if not any(out.type == member.type and out.number in (None, member.number) for out in excluded)
            ]
            if not missing or (entry.name in names.groups and len(missing) < len(members)):
                continue
            count = names.counts[missing[0].type]
            message = f"`{name}` depends on `{entry.name}`, but the concurrency of `{missing[0].type}` is {count}"
            hint = (
                f"run more instances, or leave it out: `start -x {entry.name}`" if count == 0 else "run more instances"
            )
            problem = _problem(settings, entry, message, hint)
            if missing[0].type in reduced:
                more = f"{missing[0].type}={missing[0].number or 1}"
                hint = f"`{name}` does not wait for it; `procreaper scale {more}` starts it"
                problem = problem._replace(level="warning", hint=hint)
            problems.append(problem)
    return problems


def make_edges(
    processes: Sequence[Process], entries: Entries, without: Iterable[str]
) -> dict[str, tuple[Dependency, ...]]:
    """Return the edges of each process, except those to the processes in `without`."""
    by_type: dict[str, list[Process]] = {}
    for process in processes:
        by_type.setdefault(process.type, []).append(process)
    return {process.name: _edges(entries.get(process.type, ()), by_type, without) for process in processes}


def _edges(
    entries: Iterable[tuple[DependencyEntry, tuple[Member, ...]]],
    by_type: Mapping[str, Sequence[Process]],
    without: Iterable[str],
) -> tuple[Dependency, ...]:
    """Return the edges of one process. If several entries name the same process, the first one counts."""
    found: dict[str, Dependency] = {}
    for entry, members in entries:
        for member in members:
            for process in by_type.get(member.type, ()):
                if member.covers(process) and process.name not in without:
                    condition = process.up if entry.condition is None else entry.condition
                    found.setdefault(process.name, Dependency(process.name, condition, entry.restart))
    return tuple(found.values())


class _DependencyResolver:
    def __init__(
        self, types: Mapping[str, ProcessType], names: Names, settings: Settings, restarted: Sequence[Member]
    ) -> None:
        self._types = types
        self._names = names
        self._settings = settings
        self._restarted = restarted
        self.problems: list[Problem] = []

    def resolve(self) -> Entries:
        entries: dict[str, list[tuple[DependencyEntry, tuple[Member, ...]]]] = {}
        for process_type in self._types.values():
            for entry in () if process_type.supervision is None else process_type.supervision.depends_on:
                members = self._names.find(entry.name)
                if members is None and may_be_unread(self._settings, entry.name):
                    continue
                if members is None:
                    who = "every process" if entry.keys[0] == "defaults" else f"`{process_type.name}`"
                    message = f"{who} depends on `{entry.name}`, which does not exist"
                    self._add_problem(entry, message, self._names.suggest(entry.name))
                    continue
                if any(member.type == process_type.name for member in members):
                    # An entry in `[defaults]` does not apply to the dependency itself.
                    if entry.keys[0] != "defaults":
                        through = "" if entry.name == process_type.name else f" through `{entry.name}`"
                        self._add_problem(
                            entry, f"`{process_type.name}` depends on itself{through}", "remove it from `depends_on`"
                        )
                    members = tuple(member for member in members if member.type != process_type.name)
                for member in members:
                    self._check_condition(process_type.name, entry, member)
                entries.setdefault(process_type.name, []).append((entry, members))
        self._find_cycles(entries)
        return entries

    def _check_condition(self, name: str, entry: DependencyEntry, member: Member) -> None:
        supervision = self._types[member.type].supervision
        has_health = None if supervision is None else supervision.has_health
        if entry.condition is Condition.HEALTHY and has_health is False:
            message = f"`{name}` waits until `{member.type}` is healthy, but `{member.type}` has no health check"
            self._add_problem(entry, message, f"add `health` to `{member.type}`, or wait until it is `started`")
        by_flag = any(flagged.type == member.type for flagged in self._restarted)
        by_itself = supervision is not None and supervision.template.restart is When.ALWAYS
        if entry.condition is Condition.COMPLETED and (by_flag or by_itself):
            why = " by -r" if by_flag else ""
            message = f"`{name}` waits until `{member.type}` is completed, but `{member.type}` is always restarted{why}"
            self._add_problem(entry, message, "wait until it is `started` or `healthy`, or restart it `on-failure`")

    def _find_cycles(self, entries: Entries) -> None:
        edges = {name: [member.type for _, members in found for member in members] for name, found in entries.items()}
        while cycle := find_cycle(edges):
            first, second = cycle[:2]
            entry = next(entry for entry, members in entries[first] if any(member.type == second for member in members))
            hint = "remove one of these dependencies: each waits for the next, so none can start"
            self._add_problem(entry, f"dependency cycle: {' -> '.join(cycle)}", hint)
            edges[first] = [name for name in edges[first] if name != second]

    def _add_problem(self, entry: DependencyEntry, message: str, hint: str | None) -> None:
        self.problems.append(_problem(self._settings, entry, message, hint))


def _problem(settings: Settings, entry: DependencyEntry, message: str, hint: str | None) -> Problem:
    return settings.problem(entry.keys, message, hint, value=entry.name)
