"""Makes the configuration of a start from the options, the environment and the project's files.

Rules: prints nothing and starts nothing, and reports all problems at once. Precedence, highest first: the command line
(or its defaults in `.foreman`), `.env` files, our own environment, `.reaper.toml`, Procfile, built-in defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from procreaper.core.plan import Plan
from procreaper.core.ports import AutoPorts
from procreaper.errors import Problem
from procreaper.project.options import Options, OptionSource, check_counts, check_ports, parse_options
from procreaper.project.planner import PlanContext, make_plan
from procreaper.project.read import (
    Project,
    application_root,
    find_changed,
    raise_errors,
    read_environment,
    read_files,
    read_project,
)

if TYPE_CHECKING:
    from procreaper.core.checks import HealthCheck
    from procreaper.core.ports import FindPort
    from procreaper.errors import Level
    from procreaper.project.address import Address
    from procreaper.project.instances import LoadCheck
    from procreaper.project.settings import Settings

__all__ = [
    "Configuration",
    "Options",
    "Project",
    "configure",
    "find_changed",
    "inspect_project",
    "raise_errors",
    "read_environment",
    "read_project",
    "replan",
    "resolve_root",
]

# No type has been scaled since the start.
NO_COUNTS: Mapping[str, int] = {}


class Configuration(NamedTuple):
    """The configuration of a start: the plan, its quiet processes, the warnings, and the form of the output.

    `log_format` is ``text`` or ``json``. `http` is the address of the HTTP server, or None. `groups` has the members of
    each group. `supervised`: there is a `.reaper.toml`. `counts` has the number of instances of every type in the
    files, including the types that are not in the plan.
    """

    plan: Plan
    quiet: frozenset[str]
    warnings: tuple[Problem, ...]
    log_format: str = "text"
    timestamps: bool = True
    http: Listen | None = None
    groups: Mapping[str, Sequence[str]] = {}
    supervised: bool = False
    counts: Mapping[str, int] = {}


class Listen(NamedTuple):
    """The address of the HTTP server, and its place: line `line` of the file `path`, or else the command line."""

    address: Address
    text: str
    path: str | None = None
    line: int | None = None

    def problem(self, message: str, hint: str, level: Level = "error") -> Problem:
        """Make a problem with this address."""
        place = "`control.http`" if self.path is not None else "--http"
        return Problem(f"{place} {self.text}: {message}", self.path, self.line, hint, level)


def configure(
    options: Options,
    own_environment: Mapping[str, str],
    load_check: LoadCheck | None = None,
    *,
    terminal: bool = False,
    find_port: FindPort | None = None,
) -> Configuration:
    """Make the configuration of a start. Raises ConfigError with all problems, warnings included.

    `load_check` makes the health check for a URL with a scheme of an installed package. `terminal`: our standard output
    is a terminal.
    """
    _, configuration = inspect_project(options, own_environment, load_check, terminal=terminal, find_port=find_port)
    raise_errors(configuration.warnings)
    return configuration


def inspect_project(
    options: Options,
    own_environment: Mapping[str, str],
    load_check: LoadCheck | None = None,
    *,
    terminal: bool = False,
    scaled: Mapping[str, int] = NO_COUNTS,
    joined: Sequence[str] = (),
    running: bool = False,
    find_port: FindPort | None = None,
) -> tuple[Project, Configuration]:
    """Return the project and the configuration of a start. All problems are in `warnings`.

    Do not use the configuration if one of the problems is an error. `scaled` has the number of instances of some types,
    which overrides the files and the options. `joined` has names to add to the app. Both may contain names that no
    longer exist. `running`: the app has already started with these options, so a name in them that is no longer in the
    files is only a warning. `find_port` finds the ports for `auto`; by default, it derives them from the name and does
    not check whether they are free.
    """
    project = read_files(options, own_environment, running=running)
    if not project.is_usable:
        return project, Configuration(Plan(()), frozenset(), project.problems)
    known = {kind.name for kind in project.types}
    scaled = {name: count for name, count in scaled.items() if name in known}
    configuration = _make_configuration(
        project,
        options,
        own_environment,
        load_check,
        scaled,
        joined,
        terminal=terminal,
        running=running,
        find_port=find_port,
    )
    return project, configuration


def replan(
    project: Project,
    options: Options,
    own_environment: Mapping[str, str],
    load_check: LoadCheck | None = None,
    *,
    terminal: bool = False,
    scaled: Mapping[str, int],
    joined: Sequence[str] = (),
    find_port: FindPort | None = None,
) -> Configuration:
    """Make a new configuration from files that are already read, with other numbers of instances.

    All instances of the types in `scaled` start. The existing ones keep their ports. The other arguments are those of
    `inspect_project`. Raises ConfigError with all problems.
    """
    raise_errors(check_counts(scaled, [kind.name for kind in project.types]))
    configuration = _make_configuration(
        project,
        options,
        own_environment,
        load_check,
        scaled,
        joined,
        terminal=terminal,
        running=True,
        find_port=find_port,
    )
    raise_errors(configuration.warnings)
    return configuration


def _make_configuration(
    project: Project,
    options: Options,
    own_environment: Mapping[str, str],
    load_check: LoadCheck | None,
    scaled: Mapping[str, int],
    joined: Sequence[str],
    *,
    terminal: bool,
    running: bool,
    find_port: FindPort | None,
) -> Configuration:
    problems = list(project.problems)
    counts = {kind.name: kind.concurrency for kind in project.types}
    selection, further = parse_options(options, counts, project.environment, own_environment, running=running)
    if scaled:
        selection = selection._replace(counts={**selection.counts, **scaled}, scaled=tuple(scaled))
    if joined:
        selection = selection._replace(joined=tuple(joined))
    problems += further
    context = PlanContext(
        environment=own_environment,
        added=project.environment,
        procfile=project.procfile.path,
        cwd=_find_working_directory(options, problems),
        root=application_root(options),
        directory=_make_absolute(application_root(options)),
        terminal=terminal,
        find_port=find_port or AutoPorts(resolve_root(options)).find_port,
    )
    plan, further = make_plan(project.types, selection, context, project.settings, load_check or _refuse_check)
    problems += sorted(further, key=lambda problem: problem.line or 0)
    problems += _find_missing_watched(options, context.directory)
    problems += check_ports(plan.processes)
    quiet = frozenset(process.name for process in plan.processes if process.quiet)
    configuration = Configuration(plan, quiet, tuple(problems), counts=selection.counts)
    return _add_output(configuration, options, project.settings)


def _find_missing_watched(options: Options, directory: str) -> list[Problem]:
    """Warn of each path after `-w` that does not exist."""
    if not any(options.watch) or options.no_watch:
        return []
    # Imported here, because a plain start does not need it.
    from procreaper.runtime.watch.patterns import parse_watch_path

    return [
        Problem(f"-w {path}: this does not exist", hint="create it, or correct the path", level="warning")
        for path in filter(None, options.watch)
        if not all(os.path.lexists(watched.base or "/") for watched in parse_watch_path(directory, path))
    ]


def _add_output(configuration: Configuration, options: Options, settings: Settings | None) -> Configuration:
    timestamps, log_format = options.timestamp, options.log_format
    if settings is not None:
        output = settings.document.output
        if output:
            log_format = log_format or output.format or None
            timestamps = output.timestamps is not False if timestamps is None else timestamps
        configuration = configuration._replace(groups=settings.document.groups, supervised=True)
    configuration = configuration._replace(log_format=log_format or "text", timestamps=timestamps is not False)
    http = _find_http(options, settings)
    return configuration if http is None else _add_http(configuration, http)


def _find_http(options: Options, settings: Settings | None) -> Listen | None:
    """Return the address of the HTTP server. Return None for an invalid one too, which is reported elsewhere."""
    control = None if settings is None else settings.document.control
    text = options.http or (control.http or None if control else None)
    if text is None:
        return None
    from procreaper.project.address import parse_address

    try:
        address = parse_address(text)
    except ValueError:
        return None
    if options.http is not None or settings is None:
        return Listen(address, text)
    return Listen(address, text, settings.path, settings.problem(("control", "http"), "").line)


def _add_http(configuration: Configuration, http: Listen) -> Configuration:
    """Add the HTTP server, and a warning if its port is the PORT of a process."""
    port = str(http.address.port)
    names = [process.name for process in configuration.plan.processes if (process.env or {}).get("PORT") == port]
    configuration = configuration._replace(http=http)
    if port == "0" or not names:
        return configuration
    message = f"port {port} is also the PORT of `{names[0]}`, which then cannot use it"
    problem = http.problem(message, "choose another one, or `0` for a free port", "warning")
    return configuration._replace(warnings=(*configuration.warnings, problem))


def _refuse_check(url: str) -> HealthCheck:
    raise ValueError(f"`{url}` is not a URL for a health check here")


def resolve_root(options: Options) -> str:
    """Return the application root as an absolute path without symbolic links."""
    try:
        return os.path.realpath(application_root(options))
    except OSError:
        # The current directory has been removed.
        return application_root(options)


def _make_absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:
        # The current directory has been removed. Only watched files would need it.
        return path


def _find_working_directory(options: Options, problems: list[Problem]) -> str | None:
    if options.root is not None and not os.path.isdir(options.root):
        source = OptionSource.of(options, "--root", "root")
        message = f"{source.name} {options.root}: this is not a directory"
        problems.append(source.problem(message, "name an existing directory"))
    return options.cwd if options.root is None else options.root
