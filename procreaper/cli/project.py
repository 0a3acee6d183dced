"""The project that a command is about, with the world around it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from procreaper.config import Configuration, Options, Project, examine, refuse_errors, replan

if TYPE_CHECKING:
    from procreaper.checks import HealthCheck


class Source:
    """Where a running app comes from: the files as they were read, the options, and the environment of the start.

    `configuration` is what was last planned. Raises ConfigError with every problem found, here and from `scale` and
    `reload`, after which everything is as it was. Those two may be called in other threads; only the latest counts.
    """

    def __init__(self, options: Options, *, terminal: bool) -> None:
        self._options = options
        self._terminal = terminal
        self._environment = dict(os.environ)
        self._scaled: dict[str, int] = {}
        # The same check for the same URL, or each plan would be a change to it.
        self._load_check = cache(load_check)
        # What is being planned.
        self._latest: object = None
        self._project, self.configuration = self._read()

    def scale(self, counts: Mapping[str, int]) -> Configuration:
        """Plan so many processes of these types; edits of the files do not count yet."""
        latest = self._latest = object()
        scaled = {**self._scaled, **counts}
        known = {kind.name for kind in self._project.types}
        planned = {name: count for name, count in scaled.items() if name in known or name in counts}
        configuration = replan(
            self._project,
            self._options,
            self._environment,
            self._load_check,
            terminal=self._terminal,
            scaled=planned,
        )
        if self._latest is latest:
            self._scaled, self.configuration = scaled, configuration
        return configuration

    def reload(self) -> Configuration:
        """Read the files anew, and plan by them; what was scaled stays so."""
        latest = self._latest = object()
        project, configuration = self._read()
        if any(process.log is not None for process in configuration.plan.processes):
            from procreaper.cli.logfiles import refuse_unusable

            refuse_unusable(configuration.plan, self.configuration.plan, project)
        if self._latest is latest:
            self._project, self.configuration = project, configuration
        return configuration

    def give_up(self) -> None:
        """Whatever is being planned in another thread does not count."""
        self._latest = None

    def _read(self) -> tuple[Project, Configuration]:
        project, configuration = examine(
            self._options, self._environment, self._load_check, terminal=self._terminal, scaled=self._scaled
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
