"""The project that a command is about, with the world around it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from procreaper.config import Configuration, Options, Project, examine, refuse_errors, replan
from procreaper.errors import Problem
from procreaper.names import Names

if TYPE_CHECKING:
    from procreaper.checks import HealthCheck


class Source:
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
        # What is being planned.
        self._latest: object = None
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
        project, configuration = self._read(running=True)
        if any(process.log is not None for process in configuration.plan.processes):
            from procreaper.cli.logfiles import refuse_unusable

            refuse_unusable(configuration.plan, self.configuration.plan, project)
        configuration = configuration._replace(
            warnings=(*configuration.warnings, *self._unheeded(project, configuration))
        )
        if self._latest is latest:
            self._project, self.configuration = project, configuration
        return configuration

    def give_up(self) -> None:
        """Whatever is being planned in another thread does not count."""
        self._latest = None

    def _replan(
        self, scaled: dict[str, int], planned: Mapping[str, int], joined: dict[str, None], names: Sequence[str] = ()
    ) -> Configuration:
        from procreaper.selection import select

        latest = self._latest = object()
        configuration = replan(
            self._project,
            self._options,
            self._environment,
            self._load_check,
            terminal=self._terminal,
            scaled=planned,
            joined=tuple(joined),
        )
        select(names, configuration.plan.processes, configuration.groups)
        if self._latest is latest:
            self._scaled, self._joined, self.configuration = scaled, joined, configuration
        return configuration

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
        project, configuration = examine(
            self._options,
            self._environment,
            self._load_check,
            terminal=self._terminal,
            scaled=self._scaled,
            joined=tuple(self._joined),
            running=running,
        )
        refuse_errors(configuration.warnings)
        return project, configuration


def examined(options: Options) -> tuple[Project, Configuration]:
    """The project and what `start` would do; every problem is among the warnings."""
    return examine(options, os.environ, load_check)


def load_check(url: str) -> HealthCheck:
    """The health check of an installed package. Raises ValueError where there is none for the scheme of this URL."""
    from procreaper.health.plugins import load

    return load(url)
