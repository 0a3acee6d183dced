"""The project that a command is about, with the world around it."""

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
    """Where a running app comes from: the files as they were read, the options, and the environment of the start.

    `configuration` is what was last planned. Raises ConfigError with every problem found, here and from `scale`, `join`
    and `reload`, after which everything is as it was. Those may be called in other threads; only the latest counts.
    """

    def __init__(self, options: Options, *, terminal: bool) -> None:
        self._options = options
        self._terminal = terminal
        self._environment = dict(os.environ)
        self._scaled: dict[str, int] = {}
        # As an ordered set: it decides about ports.
        self._joined: dict[str, None] = {}
        # The same check for the same URL, or each plan would be a change to it.
        self._load_check = cache(load_check)
        # What has been given to a process stays its port.
        self._free = FreePorts()
        self._ports = AutoPorts(resolve_root(options), self._free.is_free)
        # What is being planned.
        self._latest: object = None
        # The files as they were read for the processes that have restarted because they changed since.
        self._renewed: dict[str, Project] = {}
        # The other processes that these files change: it was said that they wait for `reload`.
        self.told: tuple[str, ...] = ()
        # The absolute paths of the files, and the last component of each; None until somebody asks.
        self._places: frozenset[str] | None = None
        self._base_names: frozenset[str] = frozenset()
        self._project, self.configuration = self._read()
        # What only a start can change.
        self._begun = (self._project, self.configuration)

    def scale(self, counts: Mapping[str, int]) -> Configuration:
        """Plan so many processes of these types; edits of the files do not count yet."""
        scaled = {**self._scaled, **counts}
        known = {kind.name for kind in self._project.types}
        planned = {name: count for name, count in scaled.items() if name in known or name in counts}
        # One of which there is to be none need not be of the app for that.
        joined = {**self._joined, **dict.fromkeys(name for name, count in counts.items() if count)}
        return self._replan(scaled, planned, joined)

    def join(self, names: Sequence[str]) -> Configuration:
        """Plan what these names stand for too, where the app was started without it; edits do not count yet.

        Raises UnknownProcessError where one still stands for nothing.
        """
        known = {kind.name for kind in self._project.types}
        planned = {name: count for name, count in self._scaled.items() if name in known}
        return self._replan(self._scaled, planned, {**self._joined, **dict.fromkeys(self.left_out(names))}, names)

    def left_out(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those that stand, maybe among others, for a type of the files that the app was started without."""
        configuration = self.configuration
        present = {process.type for process in configuration.plan.processes}
        # Of what there is none, the app was not started without: it may be scaled.
        known = Names(configuration.counts, configuration.groups)
        absent = {name for name, count in configuration.counts.items() if count and name not in present}
        return tuple(name for name in names if absent.intersection(member.type for member in known.find(name) or ()))

    def is_none(self, name: str) -> bool:
        """Whether this is a type of the files of which there are to be no processes."""
        return self.configuration.counts.get(name) == 0

    def reload(self) -> Configuration:
        """Read the files anew, and plan by them; what was scaled stays so."""
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
        """What the files say now, which does not count yet."""
        project, configuration = self._read(running=True)
        if any(process.log is not None for process in configuration.plan.processes):
            from procreaper.cli.app.open_logs import check_new_logs

            check_new_logs(configuration.plan, self.configuration.plan, project)
        return project, configuration

    def take(self, process: Process, project: Project) -> None:
        """This process has the settings of that project from now on; for all others nothing changes."""
        self._renewed[process.name] = project
        self._places = None
        plan = self.configuration.plan
        processes = tuple(process if other.name == process.name else other for other in plan.processes)
        self.configuration = self.configuration._replace(plan=plan._replace(processes=processes))

    def is_file(self, path: str) -> bool:
        """Whether settings of processes come from the file at this absolute path."""
        if self._places is None:
            contents = dict.fromkeys(path for project in self._projects for path in project.contents)
            places = [os.path.abspath(place) for place in contents]
            self._places = frozenset((*places, *map(os.path.realpath, places)))
            self._base_names = frozenset(map(os.path.basename, self._places))
        # Most files are none of ours, and thousands may have changed at once.
        if os.path.basename(path) not in self._base_names:
            return False
        return os.path.normpath(path) in self._places or os.path.realpath(path) in self._places

    def find_changed(self) -> tuple[list[str], Configuration | None]:
        """Find the files that are not what they were when they were read, and what they say now.

        None where nothing has changed, or the files have errors now.
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
        """Whatever is being planned in another thread does not count."""
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
            find_port=self._ports.find,
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
        """The configuration, with the newer settings of those that have them, and of further instances of them."""
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
        """The processes of a project, by name; none where there is no plan with so many of them."""
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
                find_port=self._ports.find,
            )
        except ConfigError:
            return {}
        return {process.name: process for process in found.plan.processes}

    def _unheeded(self, project: Project, configuration: Configuration) -> Iterator[Problem]:
        """Find the settings that differ from those of the start, and that no running app can take over."""
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
                # The line of a file that is gone leads nowhere.
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
            find_port=self._ports.find,
        )
        raise_errors(configuration.warnings)
        return project, configuration


def examined(options: Options) -> tuple[Project, Configuration]:
    """The project and what `start` would do; every problem is among the warnings."""
    return inspect_project(
        options, os.environ, load_check, find_port=AutoPorts(resolve_root(options), FreePorts().is_free).find
    )


def load_check(url: str) -> HealthCheck:
    """The health check of an installed package. Raises ValueError where there is none for the scheme of this URL."""
    from procreaper.runtime.health.plugins import load_check

    return load_check(url)
