"""`scale`, `reload` and `up`: plan the running app again, report the changes, and have the supervisor apply them.

Rules: an error in the files changes nothing. A thread reads the files, with a time limit, because a disk may be slow
and a pipe may have no writer. Requests of all clients run one after another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from procreaper.core import events
from procreaper.core.reload import compare
from procreaper.core.status import AT_REST
from procreaper.errors import ConfigError, Problem, ProcreaperError, UnknownProcessError, enumerate_words
from procreaper.project.configure import Configuration
from procreaper.remote.api import protocol
from procreaper.remote.api.codec import replace_surrogates
from procreaper.runtime.supervisor import Supervisor
from procreaper.threads import NoThreadError, run_in_thread

# The time limit for reading the files, in seconds; clients wait longer for the reply.
READING_LIMIT = 30.0
# How long a `restart` may search for changed files, in seconds; the restart itself comes before.
SEARCH_LIMIT = 5.0
FOR_READING = "for reading the files"
HINT_FIX_FILES = "fix the files and run `procreaper reload`; `procreaper check` only checks them"


# Reports which client asks for a change, once it is certain that the change happens, and before its first effect.
Announce = Callable[[], None]


class PlanSource(Protocol):
    """Makes the plan. `scale`, `reload` and `join` raise ConfigError with all problems, and then change nothing."""

    def scale(self, counts: Mapping[str, int]) -> Configuration:
        """Return the configuration of the files as last read, with these numbers of processes."""

    def reload(self) -> Configuration:
        """Read the files again and return their configuration."""

    def join(self, names: Sequence[str]) -> Configuration:
        """Return the configuration of the files as last read, with the processes of these names added.

        Raises UnknownProcessError.
        """

    def left_out(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those names that stand, perhaps among others, for a process that the app was started without."""

    def is_none(self, name: str) -> bool:
        """Whether this is a process type with a concurrency of 0."""

    def find_changed(self) -> tuple[list[str], Configuration | None]:
        """Return the files that have changed since they were read, and their configuration; None if they have
        errors.
        """

    def give_up(self) -> None:
        """Discard the plan that another thread is making."""


class Replanner:
    """Plans the app again. `taken` is called with each configuration that is applied."""

    def __init__(self, supervisor: Supervisor, source: PlanSource, taken: Callable[[Configuration], None]) -> None:
        self._supervisor = supervisor
        self._source = source
        self._on_applied = taken

    async def scale(self, counts: Mapping[str, int], announce: Announce) -> protocol.PlanResult:
        """Set the number of processes of these types. Raises ConfigError."""
        if not counts:
            raise ProcreaperError("no process type is named", hint="for example `web=2`")
        # A client that asks for more processes of a type wants them to run, even without `autostart`.
        return await self._replan(lambda: self._source.scale(counts), announce, starting=frozenset(counts))

    async def reload(self, announce: Announce) -> protocol.PlanResult:
        """Apply the current content of the files. Raises ConfigError."""
        return await self._replan(self._source.reload, announce, hint=HINT_FIX_FILES)

    async def join(self, names: Sequence[str], announce: Announce) -> Mapping[str, int]:
        """Add the processes of these names to the app, if it was started without them.

        Return the new processes by name, each with the number of the run before the requested one. Raises as
        `PlanSource.join`.
        """
        if not self._source.left_out(names):
            return {}
        changes = await self._replan(lambda: self._source.join(names), announce)
        return {name: changes.runs.get(name, 0) for name in changes.added}

    async def find_outdated(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return warnings about the processes that keep old settings although the files have changed."""
        if self._supervisor.planning.locked() or self._supervisor.shutting_down:
            # Another request is reading the files, or they no longer matter.
            return ()
        async with self._supervisor.planning:
            try:
                async with asyncio.timeout(SEARCH_LIMIT):
                    paths, configuration = await run_in_thread(self._source.find_changed, FOR_READING)
            except (TimeoutError, NoThreadError):
                return ()
            if not paths:
                return ()
            if configuration is None:
                old, hint = tuple(names), "`procreaper check` lists their errors"
            else:
                changed = compare(self._supervisor.plan, configuration.plan).changed
                old, hint = tuple(name for name in names if name in changed), "`procreaper reload` applies the new ones"
            old = tuple(name for name in old if not self._supervisor.awaits_settings(name))
            if not old:
                return ()
            have = "has" if len(paths) == 1 else "have"
            keep = "keeps its" if len(old) == 1 else "keep their"
            message = (
                f"{enumerate_words(paths, 'and')} {have} changed; {enumerate_words(old, 'and')} {keep} old settings"
            )
            return (replace_surrogates(str(Problem(message, hint=hint, level="warning"))),)

    def explain(self, name: str) -> UnknownProcessError | None:
        """Return why this name stands for no process, if there is a better reason than that it is unknown."""
        if self._source.left_out((name,)):
            message = f"`{name}` is not in this app, which was started without it"
            return UnknownProcessError(message, hint=f"`procreaper up {name}` starts it too")
        if self._source.is_none(name):
            message = f"there are no processes of `{name}`: its concurrency is 0"
            return UnknownProcessError(message, hint=f"`procreaper scale {name}=1` starts one")
        return None

    async def _replan(
        self,
        plan_again: Callable[[], Configuration],
        announce: Announce,
        *,
        starting: frozenset[str] = frozenset(),
        hint: str | None = None,
    ) -> protocol.PlanResult:
        async with self._supervisor.planning:
            try:
                async with asyncio.timeout(READING_LIMIT):
                    configuration = await run_in_thread(plan_again, FOR_READING)
            except ConfigError as error:
                raise _UnusableError(error, hint) from error
            except TimeoutError as error:
                self._source.give_up()
                message = f"the files could not be read within {READING_LIMIT:g} s, so nothing has been changed"
                hint = "is one of them a pipe without a writer, or on a disk that does not answer?"
                raise ProcreaperError(message, hint=hint) from error
            await self._supervisor.settled()
            if self._supervisor.shutting_down:
                raise ProcreaperError("the app is ending", hint="`procreaper start` starts it again")
            plan = configuration.plan
            found = compare(self._supervisor.plan, plan)
            present = {process.name for process in self._supervisor.processes}
            starting_names = (*found.added, *found.restarted)
            runs = {name: self._supervisor.status_of(name).run if name in present else 0 for name in starting_names}
            # Not earlier: a request that fails changes nothing, so nothing is reported.
            announce()
            # Even without differences: a reload resumes suspended watches.
            self._supervisor.post(events.Reload(plan))
            types = {process.name: process.type for process in plan.processes}
            if more := tuple(name for name in found.added if types[name] in starting):
                self._supervisor.post(events.Start(more))
            await self._supervisor.settled()
            self._on_applied(configuration)
            # A process that a user has stopped, or that does not start on its own, gets no new run.
            runs = {
                name: run
                for name, run in runs.items()
                if self._supervisor.status_of(name).state not in AT_REST and not self._supervisor.rests(name)
            }
            return protocol.PlanResult(
                added=found.added,
                removed=found.removed,
                restarted=found.restarted,
                updated=found.updated,
                unchanged=found.unchanged,
                changed={name: tuple(map(replace_surrogates, words)) for name, words in found.changed.items()},
                runs=runs,
                warnings=tuple(replace_surrogates(str(problem)) for problem in configuration.warnings),
            )


class _UnusableError(ProcreaperError):
    """There is no valid plan; `problems` are those of the files, or of the request."""

    def __init__(self, error: ConfigError, hint: str | None) -> None:
        errors = sum(problem.level == "error" for problem in error.problems)
        super().__init__(
            f"{errors} {'error' if errors == 1 else 'errors'}, so nothing has been changed",
            hint=hint,
        )
        self.problems = error.problems
