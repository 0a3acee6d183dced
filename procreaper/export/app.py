"""Make the app to export from a project.

Rules: reads only its arguments. Values of this machine, such as its PATH, are not exported, unless the project's files
use them in a value.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from procreaper.core.plan import Process
from procreaper.core.ports import PREFIX
from procreaper.errors import ProcreaperError
from procreaper.export.exporter import App, Exported
from procreaper.project.configure import Configuration, Options, Project
from procreaper.project.planner import ProcessType
from procreaper.project.procfile import OURS

if TYPE_CHECKING:
    from procreaper.project.defaults import Layers
    from procreaper.project.settings import Settings

TABLES = ("stop", "backoff", "health", "watch", "log", "hooks")
NAME, PORT = "HONCHO_PROCESS_NAME", "PORT"
# honcho's default; APP stands for the name of the app.
LOG = "/var/log/APP"
SHELL = "/bin/sh"


class Choices(NamedTuple):
    """The options of `export` about the name and the environment of the app, as the user typed them."""

    app: str | None = None
    user: str | None = None
    log: str | None = None
    shell: str | None = None
    image: str | None = None


def make_app(project: Project, configuration: Configuration, options: Options, choices: Choices) -> App:
    """Return the app to export. Raises ProcreaperError if a name cannot be part of a file name."""
    directory = os.getcwd()
    name = os.path.basename(directory) if choices.app is None else choices.app
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        message = f"`{name}` cannot be the name of the app: files are named after it"
        raise ProcreaperError(message, hint="give it one with `-a NAME`")
    root = os.path.abspath(options.root or options.app_root or ".")
    types = {kind.name: kind for kind in project.types}
    plan = configuration.plan
    started = None if plan.names is None else frozenset(plan.names)
    return App(
        name=name,
        root=root,
        user=choices.user or name,
        log=f"/var/log/{name}" if choices.log in (None, LOG) else str(choices.log),
        shell=SHELL if choices.shell is None else choices.shell,
        processes=tuple(
            _export(
                process._replace(cwd=root if process.cwd is None else posixpath.join(directory, process.cwd)),
                types[process.type],
                project,
                autostart=started is None or process.name in started,
            )
            for process in plan.processes
        ),
        settings=None if project.settings is None else project.settings.path,
        image=choices.image,
        is_given=frozenset(field for field in Choices._fields if getattr(choices, field) is not None),
    )


def _export(process: Process, kind: ProcessType, project: Project, *, autostart: bool) -> Exported:
    given = process.env or {}
    # The order of honcho's files.
    names = [NAME, *project.environment, PORT]
    unset: tuple[str, ...] = ()
    said: Mapping[str, int | None] = {}
    if kind.supervision is not None and project.settings is not None:
        variables = kind.supervision.layers.env
        names += [*(kind.file_environment or {}), *variables, *OURS]
        unset = tuple(name for name, value in variables.items() if value is False)
        said = _said(kind.supervision.layers, project.settings)
    # What the others listen on is told only to a command that asks, so that a file for honcho's formats stays honcho's.
    text = process.command if isinstance(process.command, str) else " ".join(process.command)
    names += [name for name in given if name.startswith(PREFIX) and name in text]
    environment = {name: given[name] for name in names if name in given}
    return Exported(process._replace(env=None), environment, unset, int(given[PORT]), autostart, said)


def _said(layers: Layers, settings: Settings) -> dict[str, int | None]:
    """Return the keys that the user has set, and their lines."""
    from msgspec import UNSET

    from procreaper.project.toml import find_line

    said: dict[str, int | None] = {}
    for field in layers.own.__struct_fields__:
        if layers.get(field) is not UNSET:
            said[field] = find_line(settings.text, layers.keys(field))
            table = getattr(layers, field) if field in TABLES else None
            for key in () if table is None else table.__struct_fields__:
                if getattr(table, key) is not UNSET:
                    said[f"{field}.{key}"] = find_line(settings.text, layers.keys(field, key))
    return said
