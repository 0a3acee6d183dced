"""The differences between two plans: which processes come, go, or need a new run, and which settings changed.

Rules: pure. Only this module says which settings a running child cannot take over. It names settings by their keys in
`.reaper.toml`, and variables without their values, because these may be secret. If a process depends on all instances
of a type and their number changes, this is no changed setting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from procreaper.core.plan import Condition, Dependency, Plan, Process
from procreaper.core.ports import PREFIX

# These settings become part of the child when it is spawned.
OF_THE_CHILD = ("command", "env", "cwd", "pty", "detached")


class Differences(NamedTuple):
    """The names of processes, in the order of the new plan; `removed` in that of the old one.

    The processes in `restarted` need a new run, those in `updated` do not; `changed` has the changed settings of both.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    restarted: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]


def compare(old: Plan, new: Plan) -> Differences:
    """Compare the plan that runs with a new one."""
    before = {process.name: process for process in old.processes}
    after = {process.name: process for process in new.processes}
    moved = before.keys() ^ after.keys()
    changed = {
        name: words
        for name, process in after.items()
        if name in before and (words := _words(before[name], process, moved))
    }
    restarted = tuple(name for name in changed if needs_restart(before[name], after[name]))
    return Differences(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        restarted=restarted,
        updated=tuple(name for name in changed if name not in restarted),
        unchanged=tuple(name for name in after if name in before and name not in changed),
        changed=changed,
    )


def needs_restart(old: Process, new: Process) -> bool:
    """Whether a child of the old process cannot become one of the new process.

    A new log line for readiness needs a restart too, because the line may have been written long ago. So does a new log
    file of a detached process, because the process has its log file open itself.
    """
    if any(_has_other(field, old, new) for field in OF_THE_CHILD):
        return True
    if new.detached and _log_path(old) != _log_path(new):
        return True
    waits_for = None if new.health is None else new.health.log
    return waits_for is not None and (old.health is None or old.health.log != waits_for)


def _has_other(field: str, old: Process, new: Process) -> bool:
    """Whether a field differs. The ports of other processes do not count: a process learns them at its next run."""
    if field == "env" and old.env is not None and new.env is not None:
        return bool(_differing(old.env, new.env))
    return bool(getattr(old, field) != getattr(new, field))


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = {name for name in (*old, *new) if old.get(name) != new.get(name) and not name.startswith(PREFIX)}
    return sorted(names)


def _log_path(process: Process) -> str | None:
    return None if process.log is None else process.log.path


def _words(old: Process, new: Process, moved: Collection[str]) -> tuple[str, ...]:
    fields = [field for field in Process._fields if _has_other(field, old, new)]
    if "depends_on" in fields and _follows(old, new, moved):
        fields.remove("depends_on")
    return tuple(_variables(old, new) if field == "env" else field for field in fields)


def _follows(old: Process, new: Process, moved: Collection[str]) -> bool:
    """Whether it depends on the same types as before, of which only the number has changed."""
    return _edges(old) == _edges(new) and _staying(old, moved) == _staying(new, moved)


def _edges(process: Process) -> set[tuple[str, Condition, bool]]:
    return {(Process(edge.name, "").type, edge.condition, edge.restart) for edge in process.depends_on}


def _staying(process: Process, moved: Collection[str]) -> list[Dependency]:
    return [edge for edge in process.depends_on if edge.name not in moved]


def _variables(old: Process, new: Process) -> str:
    if old.env is None or new.env is None:
        return "env"
    return f"env: {', '.join(_differing(old.env, new.env))}"
