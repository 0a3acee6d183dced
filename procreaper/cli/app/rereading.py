"""Read new settings for one process, when it restarts because a file of its settings has changed.

Rules: change only that process; all others wait for `reload`. If the new settings are unusable, the process keeps the
old ones, and a message says why. This module is imported when the first process needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from procreaper.cli.app.plan_source import PlanSource
from procreaper.core.events import SettingsRead
from procreaper.core.plan import Plan, Process, find_cycle
from procreaper.core.reload import compare
from procreaper.errors import ConfigError, Problem, ProcreaperError
from procreaper.remote.control.replan import FOR_READING, READING_LIMIT
from procreaper.runtime.supervisor import Supervisor
from procreaper.threads import run_in_thread

RELOAD = "`procreaper reload`"
# A message names at most this many processes.
MAX_NAMES = 4


async def reread_settings(supervisor: Supervisor, source: PlanSource, name: str) -> None:
    """Read the files again for this process, and continue its restart with the new settings or the old ones."""
    async with supervisor.planning:
        process = None
        try:
            process = await _read_settings(supervisor, source, name)
        except ConfigError as error:
            supervisor.say(f"{name} keeps its old settings: {_summarize(error.problems)}")
        except ProcreaperError as error:
            supervisor.say(f"{name} keeps its old settings: {error.message}")
        finally:
            supervisor.post(SettingsRead(name, process))
        await supervisor.settled()


async def _read_settings(supervisor: Supervisor, source: PlanSource, name: str) -> Process | None:
    """Return the new settings of this process, or None if nothing has changed. Raises ProcreaperError."""
    try:
        async with asyncio.timeout(READING_LIMIT):
            project, configuration = await run_in_thread(source.read_again, FOR_READING)
    except TimeoutError:
        source.give_up()
        raise ProcreaperError(f"the files could not be read within {READING_LIMIT:g} s") from None
    await supervisor.settled()
    found = {process.name: process for process in configuration.plan.processes}
    with suppress(KeyError):
        old = supervisor.process(name)
        if name not in found:
            raise ProcreaperError(f"the files no longer define `{name}`; {RELOAD} removes it")
        process = _keep_acyclic(supervisor, found[name])
        if process != old:
            _check_port(supervisor, old, process)
            words = compare(Plan((old,)), Plan((process,))).changed.get(name, ())
            if words:
                supervisor.say(f"{name} has new settings: {', '.join(words)}")
            source.take(process, project)
        _report_other_changes(supervisor, source, configuration.plan, name)
        return None if process == old else process
    return None


def _keep_acyclic(supervisor: Supervisor, process: Process) -> Process:
    """Keep the old dependencies of the process if the new ones would form a cycle with those of other processes."""
    edges = {other.name: [edge.name for edge in other.depends_on] for other in supervisor.processes}
    edges[process.name] = [edge.name for edge in process.depends_on]
    if not find_cycle(edges):
        return process
    return process._replace(depends_on=supervisor.process(process.name).depends_on)


def _check_port(supervisor: Supervisor, old: Process, new: Process) -> None:
    """Raise ProcreaperError if another process has the new port. In the files that one may have another port now."""
    port = (new.env or {}).get("PORT")
    if port == (old.env or {}).get("PORT"):
        return
    for other in supervisor.processes:
        if other.name != new.name and (other.env or {}).get("PORT") == port:
            raise ProcreaperError(f"its new PORT {port} is still that of {other.name}; {RELOAD} moves both")


def _report_other_changes(supervisor: Supervisor, source: PlanSource, plan: Plan, name: str) -> None:
    """Name once the other processes that the files change and that wait for `reload`."""
    differences = compare(supervisor.plan, plan)
    changed = (*differences.added, *differences.removed, *differences.changed)
    others = tuple(other for other in changed if other != name and not supervisor.awaits_settings(other))
    if others and others != source.told:
        source.told = others
        more = f" and {len(others) - MAX_NAMES} more" if len(others) > MAX_NAMES else ""
        supervisor.say(f"the files also change {', '.join(others[:MAX_NAMES])}{more}; {RELOAD} applies that")


def _summarize(problems: Sequence[Problem]) -> str:
    """Describe the first error with its place, and count the others."""
    errors = [problem for problem in problems if problem.level == "error"] or list(problems)
    more = f"; and {len(errors) - 1} more" if len(errors) > 1 else ""
    return f"{errors[0].place}: {errors[0].message}{more}; correct that, then {RELOAD}"
