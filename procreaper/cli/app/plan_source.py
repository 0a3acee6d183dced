"""Read the files of a project and plan the app from them, at the start and again while the app runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from procreaper.cli.commands.start_ports import FreePorts
from procreaper.core.names import Names
from procreaper.core.ports import AutoPorts
from procreaper.errors import ConfigError, Problem
from procreaper.project.configure import (
    Configuration,
    Options,
    Project,
    find_changed,
    inspect_project,
    raise_errors,
    replan,
    resolve_root,
)

if TYPE_CHECKING:
    from procreaper.core.checks import HealthCheck
    from procreaper.core.plan import Process


class PlanSource:
    """Plans an app from its files, its options and the environment of its start.

    `configuration` is the latest plan. The constructor, `scale`, `join` and `reload` raise ConfigError with every
    problem found, and then change nothing. The three methods may be called in other threads; only the latest call takes
    effect.
    """

    def __init__(self, options: Options, *, terminal: bool) -> None:
        self._options = options
        self._terminal = terminal
        self._environment = dict(os.environ)
        self._scaled: dict[str, int] = {}
        # An ordered set: the order decides about ports.
        self._joined: dict[str, None] = {}
        # Return the same check for the same URL. Otherwise each new plan would seem to change the check.
        self._load_check = cache(load_check)
        # A process keeps its assigned port.
        self._free = FreePorts()
        self._ports = AutoPorts(resolve_root(options), self._free.is_free)
        # Identifies the latest call; an earlier call that is still running has no effect.
        self._latest: object = None
        # By process: the files as they were read for a process that restarted because they had changed.
        self._renewed: dict[str, Project] = {}
        # The other processes that these files change, as named in the last message.
        self.told: tuple[str, ...] = ()
        # The absolute paths of the files (None until needed), and their base names.
        self._places: frozenset[str] | None = None
        self._base_names: frozenset[str] = frozenset()
        self._project, self.configuration = self._read()
        # The state at the start: some settings change only with a new start.
        self._begun = (self._project, self.configuration)

    def scale(self, counts: Mapping[str, int]) -> Configuration:
        """Plan these numbers of processes by type. Later edits of the files have no effect."""
        scaled = {**self._scaled, **counts}
        known = {kind.name for kind in self._project.types}
        planned = {name: count for name, count in scaled.items() if name in known or name in counts}
        # A type that is scaled to 0 need not join the app.
        joined = {**self._joined, **dict.fromkeys(name for name, count in counts.items() if count)}
        return self._replan(scaled, planned, joined)

    def join(self, names: Sequence[str]) -> Configuration:
        """Also plan the processes of these names that the app was started without. Later edits have no effect.

        Raises UnknownProcessError if a name matches no process.
        """
        known = {kind.name for kind in self._project.types}
        planned = {name: count for name, count in self._scaled.items() if name in known}
        return self._replan(self._scaled, planned, {**self._joined, **dict.fromkeys(self.left_out(names))}, names)

    def left_out(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names that match a type that the app was started without."""
        configuration = self.configuration
        present = {process.type for process in configuration.plan.processes}
        # A type with a count of 0 was not left out: it may be scaled.
        known = Names(configuration.counts, configuration.groups)
        absent = {name for name, count in configuration.counts.items() if count and name not in present}
        return tuple(name for name in names if absent.intersection(member.type for member in known.find(name) or ()))

    def is_none(self, name: str) -> bool:
        """Whether this is a type of the files with a count of 0."""
        return self.configuration.counts.get(name) == 0

    def reload(self) -> Configuration:
        """Read the files again and plan from them; scaled types keep their counts."""
        latest = self._latest = object()
        project, configuration = self.read_again()
        configuration = configuration._replace(
            warnings=(*configuration.warnings, *self._unheeded(project, configuration))
        )
        if self._latest is latest:
            self._project, self.configuration = project, configuration
            self._renewed, self._places, self.told = {}, None, ()
        return configuration

    def read_again(self) -> tuple[Project, Configuration]:
        """Read the files and plan from them, without any effect yet."""
        project, configuration = self._read(running=True)
        if any(process.log is not None for process in configuration.plan.processes):
            from procreaper.cli.app.open_logs import check_new_logs

            check_new_logs(configuration.plan, self.configuration.plan, project)
        return project, configuration

    def take(self, process: Process, project: Project) -> None:
        """Use the settings of this project for one process; all others keep theirs."""
        self._renewed[process.name] = project
        self._places = None
        plan = self.configuration.plan
        processes = tuple(process if other.name == process.name else other for other in plan.processes)
        self.configuration = self.configuration._replace(plan=plan._replace(processes=processes))

    def is_file(self, path: str) -> bool:
        """Whether the settings of a process come from the file at this absolute path."""
        if self._places is None:
            contents = dict.fromkeys(path for project in self._projects for path in project.contents)
            places = [os.path.abspath(place) for place in contents]
            self._places = frozenset((*places, *map(os.path.realpath, places)))
            self._base_names = frozenset(map(os.path.basename, self._places))
        # A cheap check first: most files do not matter, and thousands may change at once.
        if os.path.basename(path) not in self._base_names:
            return False
        return os.path.normpath(path) in self._places or os.path.realpath(path) in self._places

    def find_changed(self) -> tuple[list[str], Configuration | None]:
        """Find the files that have changed since they were read, and plan from them.

        The plan is None if no file has changed, or if the files have errors now.
        """
        changed = list(dict.fromkeys(path for project in self._projects for path in find_changed(project.contents)))
        if not changed:
            return [], None
        try:
            return changed, self._read(running=True)[1]
        except ConfigError:
            return changed, None

    @property
    def project(self) -> Project:
        """The files as they were read last, at the start or by `reload`."""
        return self._project

    @property
    def _projects(self) -> list[Project]:
        return [self._project, *self._renewed.values()]

    def give_up(self) -> None:
        """Discard the result of a call that still runs in another thread."""
        self._latest = None

    def _replan(
        self, scaled: dict[str, int], planned: Mapping[str, int], joined: dict[str, None], names: Sequence[str] = ()
    ) -> Configuration:
        from procreaper.core.selection import select

        latest = self._latest = object()
        self._free.forget()
        configuration = replan(
            self._project,
            self._options,
            self._environment,
            self._load_check,
            terminal=self._terminal,
            scaled=planned,
            joined=tuple(joined),
            find_port=self._ports.find_port,
        )
        select(names, configuration.plan.processes, configuration.groups)
        if self._renewed:
            configuration = self._with_renewed(configuration, scaled, joined)
        if self._latest is latest:
            self._scaled, self._joined, self.configuration = scaled, joined, configuration
        return configuration

    def _with_renewed(
        self, configuration: Configuration, scaled: Mapping[str, int], joined: Iterable[str]
    ) -> Configuration:
        """Put the newer settings of restarted processes, and of new instances of their types, into the plan."""
        present = {process.name: process for process in self.configuration.plan.processes}
        by_type = {name.rpartition(".")[0]: project for name, project in self._renewed.items()}
        plans: dict[int, dict[str, Process]] = {}
        processes = []
        for process in configuration.plan.processes:
            name = process.name
            project = self._renewed.get(name) or (None if name in present else by_type.get(process.type))
            if project is None:
                processes.append(process)
                continue
            if id(project) not in plans:
                plans[id(project)] = self._planned(project, scaled, joined)
            processes.append(plans[id(project)].get(name) or present.get(name) or process)
        return configuration._replace(plan=configuration.plan._replace(processes=tuple(processes)))

    def _planned(self, project: Project, scaled: Mapping[str, int], joined: Iterable[str]) -> dict[str, Process]:
        """Plan the processes of a project, by name; empty if they cannot be planned with these counts."""
        known = {kind.name for kind in project.types}
        try:
            found = replan(
                project,
                self._options,
                self._environment,
                self._load_check,
                terminal=self._terminal,
                scaled={name: count for name, count in scaled.items() if name in known},
                joined=tuple(joined),
                find_port=self._ports.find_port,
            )
        except ConfigError:
            return {}
        return {process.name: process for process in found.plan.processes}

    def _unheeded(self, project: Project, configuration: Configuration) -> Iterator[Problem]:
        """Warn about changed settings that need a new start."""
        before, begun = self._begun
        settings = project.settings or before.settings
        if settings is None:
            return
        values = {
            ("output", "format"): (begun.log_format, configuration.log_format),
            ("output", "timestamps"): (begun.timestamps, configuration.timestamps),
            ("control", "http"): (begun.http and begun.http.address, configuration.http and configuration.http.address),
        }
        for keys, (old, new) in values.items():
            if old != new:
                message = f"`{'.'.join(keys)}` has changed, and the running app keeps the old value"
                hint = "`procreaper quit` and a new start take the new one"
                problem = settings.problem(keys, message, hint, level="warning")
                # The file is gone, so its line number is useless.
                yield problem if project.settings is not None else problem._replace(line=None)

    def _read(self, *, running: bool = False) -> tuple[Project, Configuration]:
        self._free.forget()
        project, configuration = inspect_project(
            self._options,
            self._environment,
            self._load_check,
            terminal=self._terminal,
            scaled=self._scaled,
            joined=tuple(self._joined),
            running=running,
            find_port=self._ports.find_port,
        )
        raise_errors(configuration.warnings)
        return project, configuration


def inspect_files(options: Options) -> tuple[Project, Configuration]:
    """Read the project and plan what `start` would run; every problem is among the warnings."""
    return inspect_project(
        options, os.environ, load_check, find_port=AutoPorts(resolve_root(options), FreePorts().is_free).find_port
    )


def load_check(url: str) -> HealthCheck:
    """Load the health check of an installed package. Raises ValueError if none supports the scheme of this URL."""
    from procreaper.runtime.health.plugins import load_check

    return load_check(url)
