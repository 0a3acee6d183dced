"""What depends on what: the `depends_on` of the settings, as edges between processes, and what of it cannot be.

Rules: pure. Imported only where there is a `.reaper.toml`; without one nothing depends on anything. First all process
types are looked at, whether they are in the plan or not; edges are between the processes that are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from procreaper.core.names import Member, Names
from procreaper.core.plan import Condition, Dependency, Process, When, find_cycle
from procreaper.errors import Problem
from procreaper.project.groups import may_be_unread
from procreaper.project.process_types import Need
from procreaper.project.settings import Settings

if TYPE_CHECKING:
    from procreaper.project.planner import ProcessType

# By process type: each entry of its `depends_on`, and what its name stands for.
Needs = Mapping[str, Sequence[tuple[Need, tuple[Member, ...]]]]


def find_needs(
    types: Mapping[str, ProcessType], names: Names, settings: Settings, restarted: Sequence[Member]
) -> tuple[Needs, list[Problem]]:
    """What each type depends on, without what cannot be. `restarted` are those that `-r` names."""
    reader = _DependencyResolver(types, names, settings, restarted)
    return reader.needs(), reader.problems


def find_contradicted(
    types: Mapping[str, ProcessType], names: Names, settings: Settings, restarted: Sequence[Member]
) -> list[Member]:
    """Those of `restarted` that another type depends on until they are completed."""
    reader = _DependencyResolver(types, names, settings, restarted)
    completed = {
        member.type
        for found in reader.needs().values()
        for need, members in found
        for member in members
        if need.condition is Condition.COMPLETED
    }
    return [member for member in restarted if member.type in completed]


def find_missing(
    started: Iterable[str],
    needs: Needs,
    excluded: Sequence[Member],
    names: Names,
    settings: Settings,
    lacking: Collection[str] = (),
) -> list[Problem]:
    """Find the types among `started` that depend on a process that does not exist, and would wait for ever.

    For `lacking` types this is a warning: the app runs, and a flag of its start says how many of them there are.
    """
    problems = []
    for name in started:
        for need, members in needs.get(name, ()):
            missing = [member for member in members if not names.exists(member)]
            missing = [
                member
                for member in missing
                if not any(out.type == member.type and out.number in (None, member.number) for out in excluded)
            ]
            if not missing or (need.name in names.groups and len(missing) < len(members)):
                continue
            count = names.counts[missing[0].type]
            message = f"`{name}` depends on `{need.name}`, but the concurrency of `{missing[0].type}` is {count}"
            hint = f"run more of it, or leave it out: `start -x {need.name}`" if count == 0 else "run more of it"
            problem = _problem(settings, need, message, hint)
            if missing[0].type in lacking:
                more = f"{missing[0].type}={missing[0].number or 1}"
                hint = f"`{name}` does not wait for it; `procreaper scale {more}` starts it"
                problem = problem._replace(level="warning", hint=hint)
            problems.append(problem)
    return problems


def connect(processes: Sequence[Process], needs: Needs, without: Iterable[str]) -> dict[str, tuple[Dependency, ...]]:
    """The edges of each process, but for those to the processes that it has to do `without`."""
    by_type: dict[str, list[Process]] = {}
    for process in processes:
        by_type.setdefault(process.type, []).append(process)
    return {process.name: _edges(needs.get(process.type, ()), by_type, without) for process in processes}


def _edges(
    needs: Iterable[tuple[Need, tuple[Member, ...]]], by_type: Mapping[str, Sequence[Process]], without: Iterable[str]
) -> tuple[Dependency, ...]:
    """The edges of one process; where several entries mean the same process, the first says what is waited for."""
    found: dict[str, Dependency] = {}
    for need, members in needs:
        for member in members:
            for process in by_type.get(member.type, ()):
                if member.covers(process) and process.name not in without:
                    condition = process.up if need.condition is None else need.condition
                    found.setdefault(process.name, Dependency(process.name, condition, need.restart))
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

    def needs(self) -> Needs:
        needs: dict[str, list[tuple[Need, tuple[Member, ...]]]] = {}
        for kind in self._types.values():
            for need in () if kind.supervision is None else kind.supervision.needs:
                members = self._names.find(need.name)
                if members is None and may_be_unread(self._settings, need.name):
                    continue
                if members is None:
                    who = "every process" if need.keys[0] == "defaults" else f"`{kind.name}`"
                    message = f"{who} depends on `{need.name}`, which does not exist"
                    self._add_problem(need, message, self._names.suggest(need.name))
                    continue
                if any(member.type == kind.name for member in members):
                    # What all depend on does not depend on itself.
                    if need.keys[0] != "defaults":
                        through = "" if need.name == kind.name else f" through `{need.name}`"
                        self._add_problem(
                            need, f"`{kind.name}` depends on itself{through}", "remove it from `depends_on`"
                        )
                    members = tuple(member for member in members if member.type != kind.name)
                for member in members:
                    self._check_condition(kind.name, need, member)
                needs.setdefault(kind.name, []).append((need, members))
        self._refuse_cycles(needs)
        return needs

    def _check_condition(self, name: str, need: Need, member: Member) -> None:
        supervision = self._types[member.type].supervision
        has_health = None if supervision is None else supervision.has_health
        if need.condition is Condition.HEALTHY and has_health is False:
            message = f"`{name}` waits until `{member.type}` is healthy, but that has no health check"
            self._add_problem(need, message, f"add `health` to `{member.type}`, or wait until it is `started`")
        by_flag = any(flagged.type == member.type for flagged in self._restarted)
        by_itself = supervision is not None and supervision.template.restart is When.ALWAYS
        if need.condition is Condition.COMPLETED and (by_flag or by_itself):
            why = " by -r" if by_flag else ""
            message = f"`{name}` waits until `{member.type}` is completed, but that is always restarted{why}"
            self._add_problem(need, message, "wait until it is `started` or `healthy`, or restart it `on-failure`")

    def _refuse_cycles(self, needs: Needs) -> None:
        edges = {name: [member.type for _, members in found for member in members] for name, found in needs.items()}
        while cycle := find_cycle(edges):
            first, second = cycle[:2]
            need = next(need for need, members in needs[first] if any(member.type == second for member in members))
            hint = "remove one of these dependencies: each waits for the next, so none can start"
            self._add_problem(need, f"dependency cycle: {' -> '.join(cycle)}", hint)
            edges[first] = [name for name in edges[first] if name != second]

    def _add_problem(self, need: Need, message: str, hint: str | None) -> None:
        self.problems.append(_problem(self._settings, need, message, hint))


def _problem(settings: Settings, need: Need, message: str, hint: str | None) -> Problem:
    return settings.problem(need.keys, message, hint, value=need.name)
