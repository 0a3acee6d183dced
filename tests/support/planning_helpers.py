"""Plans a project in the current directory, or finds its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from procreaper.core.checks import Target
from procreaper.core.plan import Process
from procreaper.errors import ConfigError, Problem
from procreaper.project.configure import Configuration, Options, configure

PROCFILE = "web: run web\nworker: run worker\ndb: run db\n"
OURS = {"PATH": "/bin", "HOME": "/home/me"}


class Redis:
    def __init__(self, url: str) -> None:
        self.url = url

    async def check(self, target: Target) -> None: ...


def load_check(url: str) -> Redis:
    if not url.startswith("redis://"):
        raise ValueError(f"no package checks `{url}`")
    return Redis(url)


def make_configuration(settings: str | None = None, **options: object) -> Configuration:
    if settings is not None:
        Path(".reaper.toml").write_text(settings)
    return configure(Options(**options), OURS, load_check)  # type: ignore[arg-type]


def plan(settings: str | None = None, **options: object) -> dict[str, Process]:
    return {process.name: process for process in make_configuration(settings, **options).plan.processes}


def plan_web(fields: str) -> Process:
    """Return the process `web`, planned with these settings."""
    return plan(f"[process.web]\n{fields}\n")["web.1"]


def started_names(settings: str | None = None, **options: object) -> list[str]:
    found = make_configuration(settings, **options).plan
    return [process.name for process in found.processes] if found.names is None else list(found.names)


def ports(settings: str | None = None, **options: object) -> dict[str, str]:
    return {name: (process.env or {})["PORT"] for name, process in plan(settings, **options).items()}


def find_errors(settings: str | None = None, **options: object) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        make_configuration(settings, **options)
    return [problem for problem in caught.value.problems if problem.level == "error"]


def find_error(settings: str | None = None, **options: object) -> Problem:
    [problem] = find_errors(settings, **options)
    assert problem.hint
    return problem
