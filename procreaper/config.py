"""From the command line, the environment and the project's files to a `Plan`, or to every problem at once.

Rules: the only module that reads the project's files. It prints nothing and starts nothing. Precedence, highest first:
command line (or the defaults for it in `.foreman`), `.env` files, our own environment, `.reaper.toml`, Procfile,
built-in defaults. What only a project with a `.reaper.toml` needs is imported only where there is one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from procreaper.choices import Options, check_counts, check_port, check_ports, choose
from procreaper.errors import ConfigError, Problem, reason_of
from procreaper.plan import Plan
from procreaper.planning import ProcessType, Surroundings, make_plan
from procreaper.procfile import NO_PROCESS, OURS, Environment, Procfile, parse_environment, parse_procfile

if TYPE_CHECKING:
    from procreaper.address import Address
    from procreaper.checks import HealthCheck
    from procreaper.errors import Level
    from procreaper.instances import LoadCheck
    from procreaper.layers import Layers
    from procreaper.settings import Settings

__all__ = [
    "Configuration",
    "Options",
    "Project",
    "configure",
    "examine",
    "read_environment",
    "read_project",
    "refuse_errors",
    "replan",
]

SETTINGS = ".reaper.toml"


class Project(NamedTuple):
    """The project's files, read; `environment` is what the `.env` files add to ours.

    `types` are all process types: those of the Procfile, then those that only `.reaper.toml` has. `is_usable` is False
    where so much is missing that what else is found wrong would mostly be due to that.
    """

    procfile: Procfile
    environment: dict[str, str]
    problems: tuple[Problem, ...]
    types: tuple[ProcessType, ...] = ()
    settings: Settings | None = None
    is_usable: bool = True


class Configuration(NamedTuple):
    """What `start` needs: the plan, the quiet ones in it, the warnings, and what the output looks like.

    `log_format` is ``text`` or ``json``; `http` is where to serve status and metrics, or None.
    `groups` are the names that stand for several.
    """

    plan: Plan
    quiet: frozenset[str]
    warnings: tuple[Problem, ...]
    log_format: str = "text"
    timestamps: bool = True
    http: Listen | None = None
    groups: Mapping[str, Sequence[str]] = {}


# What somebody has asked for since the start, where nobody has.
NOTHING_SCALED: Mapping[str, int] = {}


class Listen(NamedTuple):
    """Where to listen, and where that stands: in line `line` of the file `path`, or on the command line."""

    address: Address
    text: str
    path: str | None = None
    line: int | None = None

    def problem(self, message: str, hint: str, level: Level = "error") -> Problem:
        """A problem with that address."""
        place = "`control.http`" if self.path is not None else "--http"
        return Problem(f"{place} {self.text}: {message}", self.path, self.line, hint, level)


def read_project(options: Options, own_environment: Mapping[str, str]) -> Project:
    """Read and check the project's files. Raises ConfigError if one of them cannot be used."""
    project = _read_project(options, own_environment)
    refuse_errors(project.problems)
    return project


def read_environment(
    options: Options, own_environment: Mapping[str, str] | None = None
) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """What the `.env` files add to our environment, and the warnings. Raises ConfigError if one cannot be used."""
    settings = _read_settings(options)
    environments = _read_environments(options, settings, own_environment or {})
    problems = () if settings is None else settings.problems
    found = [*problems, *(problem for environment in environments for problem in environment.problems)]
    if options.app_root is not None and not os.path.isdir(options.app_root):
        message = f"-d {options.app_root}: this is not a directory, so nothing is taken from it"
        found.append(Problem(message, hint="name an existing directory", level="warning"))
    return _merge(environments), refuse_errors(found)


def configure(
    options: Options,
    own_environment: Mapping[str, str],
    load_check: LoadCheck | None = None,
    *,
    terminal: bool = False,
) -> Configuration:
    """Everything that `start` has to know. Raises ConfigError with every problem found, warnings included.

    `load_check` makes the health check for a URL whose scheme is that of an installed package. `terminal`: our standard
    output is one.
    """
    _, configuration = examine(options, own_environment, load_check, terminal=terminal)
    refuse_errors(configuration.warnings)
    return configuration


def examine(
    options: Options,
    own_environment: Mapping[str, str],
    load_check: LoadCheck | None = None,
    *,
    terminal: bool = False,
    scaled: Mapping[str, int] = NOTHING_SCALED,
) -> tuple[Project, Configuration]:
    """The project, and what `start` would do. Every problem is among the `warnings`; with an error, do not use it.

    `scaled` says of some types how many there are to be, whatever the files and the options say. It may name types that
    there are no more.
    """
    project = _read_project(options, own_environment)
    if not project.is_usable:
        return project, Configuration(Plan(()), frozenset(), project.problems)
    known = {kind.name for kind in project.types}
    scaled = {name: count for name, count in scaled.items() if name in known}
    return project, _plan(project, options, own_environment, load_check, scaled, terminal=terminal)


def replan(
    project: Project,
    options: Options,
    own_environment: Mapping[str, str],
    load_check: LoadCheck | None = None,
    *,
    terminal: bool = False,
    scaled: Mapping[str, int],
) -> Configuration:
    """The same files as they were read, with so many processes of some types. Raises ConfigError with every problem.

    The rest is that of `examine`. All instances of the types in `scaled` start. Those that there were already keep
    their ports.
    """
    refuse_errors(check_counts(scaled, [kind.name for kind in project.types]))
    configuration = _plan(project, options, own_environment, load_check, scaled, terminal=terminal)
    present = {process.type for process in configuration.plan.processes}
    missing = [name for name, count in scaled.items() if count and name not in present]
    left_out = [
        Problem(f"{name}={scaled[name]}: `{name}` is not of this app", hint="start it without naming types, or name it")
        for name in missing
    ]
    refuse_errors((*configuration.warnings, *left_out))
    return configuration


def _plan(
    project: Project,
    options: Options,
    own_environment: Mapping[str, str],
    load_check: LoadCheck | None,
    scaled: Mapping[str, int],
    *,
    terminal: bool,
) -> Configuration:
    problems = list(project.problems)
    choices, mistakes = choose(options, _concurrency(project), project.environment, own_environment)
    if scaled:
        choices = choices._replace(counts={**choices.counts, **scaled}, scaled=tuple(scaled))
    problems += mistakes
    surroundings = Surroundings(
        environment=own_environment,
        added=project.environment,
        procfile=project.procfile.path,
        cwd=_working_directory(options, problems),
        root=_directory(options),
        directory=_absolute(_directory(options)),
        terminal=terminal,
    )
    plan, mistakes = make_plan(project.types, choices, surroundings, project.settings, load_check or _no_checks)
    problems += sorted(mistakes, key=lambda problem: problem.line or 0)
    problems += check_ports((process.name, (process.env or {})["PORT"]) for process in plan.processes)
    quiet = frozenset(process.name for process in plan.processes if process.quiet)
    return _with_output(Configuration(plan, quiet, tuple(problems)), options, project.settings)


def refuse_errors(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """The problems, if they are warnings only; otherwise raises ConfigError with all of them."""
    if any(problem.level == "error" for problem in problems):
        raise ConfigError(problems)
    return tuple(problems)


def _read_project(options: Options, own_environment: Mapping[str, str]) -> Project:
    settings = _read_settings(options)
    environments = _read_environments(options, settings, own_environment)
    values = _merge(environments)
    path = options.procfile or values.get("PROCFILE") or own_environment.get("PROCFILE")
    procfile = _read_procfile(_locate(options, path or "Procfile", is_given=options.procfile is not None))
    if settings is not None and path is None and _brings_processes(settings):
        procfile = _optional(procfile)
    problems = [*procfile.problems, *(problem for environment in environments for problem in environment.problems)]
    if options.port is None:
        problems += check_port(environments)
    is_usable = all(problem.level == "warning" for problem in procfile.problems)
    if settings is None:
        types = [ProcessType(entry.name, entry.command, entry.line) for entry in procfile.entries]
    else:
        is_usable = is_usable and () not in settings.broken
        types, mistakes = _supervised(procfile, settings, options, {**own_environment, **values}, is_usable=is_usable)
        mistakes += settings.problems
        problems += sorted(mistakes, key=lambda problem: problem.line or 0)
    return Project(procfile, values, tuple(problems), tuple(types), settings, is_usable)


def _read_settings(options: Options) -> Settings | None:
    """The settings; None where there are none, which is as good as any."""
    path = _locate(options, options.config or SETTINGS, is_given=options.config is not None)
    if options.config is None and not os.path.lexists(path):
        return None
    from procreaper.settings import parse_settings, unusable

    try:
        with open(path, "rb") as file:
            return parse_settings(file.read(), path)
    except (FileNotFoundError, NotADirectoryError):
        return unusable(Problem("does not exist", path, hint="create it, or name another file with --config"))
    except OSError as error:
        return unusable(_unreadable(path, error, "--config"))


def _supervised(
    procfile: Procfile, settings: Settings, options: Options, environment: Mapping[str, str], *, is_usable: bool
) -> tuple[list[ProcessType], list[Problem]]:
    """The process types of both files, each with its settings, and what is wrong with those."""
    from signal import Signals

    from procreaper.spelling import spell
    from procreaper.suggest import did_you_mean
    from procreaper.supervision import supervise

    entries = {entry.name: (entry.command, entry.line) for entry in procfile.entries}
    signals = {name: int(number) for name, number in Signals.__members__.items()}
    types: list[ProcessType] = []
    problems: list[Problem] = []
    for name in dict.fromkeys((*entries, *settings.document.process)):
        command, line = entries.get(name, ("", 0))
        supervision, mistakes = supervise(name, command, settings, signals)
        if not supervision.template.command:
            keys = ("process", name)
            if is_usable and not settings.is_broken((*keys, "command")):
                message = f"there is no process type `{name}` in {procfile.path}, and `{spell(keys)}` has no `command`"
                close = did_you_mean(name, entries, otherwise=False)
                hint = "correct the name, or give it a `command`" if close is None else close
                problems.append(settings.problem(keys, message, hint))
            continue
        problems += mistakes
        layers = supervision.layers
        directory = supervision.template.cwd
        if directory is not None and not os.path.isdir(os.path.join(_directory(options), directory)):
            message = f"`{spell(layers.keys('cwd'))}` is `{directory}`, which is not a directory"
            problems.append(settings.problem(layers.keys("cwd"), message, "create it, or correct the path"))
        added = _read_env_files(layers, settings, options, environment, problems)
        types.append(ProcessType(name, supervision.template.command, line, supervision, added))
    return types, list(dict.fromkeys(problems))


def _read_env_files(
    layers: Layers, settings: Settings, options: Options, environment: Mapping[str, str], problems: list[Problem]
) -> dict[str, str] | None:
    """What the `env_file` of a process adds; None where one cannot be used."""
    paths = layers.get("env_file")
    if not paths:
        return {} if not settings.is_broken(layers.keys("env_file")) else None
    values: dict[str, str] = {}
    is_complete = True
    for index, path in enumerate([paths] if isinstance(paths, str) else paths):
        place = _join(_directory(options), path)
        found = _read_environment(place, settings, {**environment, **values})
        if found.path in (problem.path for problem in found.problems if problem.line is None):
            keys = layers.keys("env_file", index)
            reason = found.problems[0].message.partition(",")[0]
            message = f"the environment file `{path}` of `{layers.name}` {reason}"
            problems.append(settings.problem(keys, message, "create it, or correct the path", value=path))
            is_complete = False
        else:
            problems += found.problems
            problems += [
                Problem(
                    f"`{name}` has no effect here", place, found.lines[name], "each process gets its own", "warning"
                )
                for name in OURS
                if name in found.values
            ]
            is_complete = is_complete and all(problem.level == "warning" for problem in found.problems)
        values.update(found.values)
    return values if is_complete else None


def _brings_processes(settings: Settings) -> bool:
    """Whether there is something to run even without a Procfile."""
    return any(bool(process.command) for process in settings.document.process.values())


def _optional(procfile: Procfile) -> Procfile:
    """The Procfile, where it need not exist nor define anything."""
    if not os.path.lexists(procfile.path):
        return procfile._replace(problems=())
    return procfile._replace(problems=tuple(item for item in procfile.problems if item.message != NO_PROCESS))


def _concurrency(project: Project) -> dict[str, int]:
    return {item.name: 1 if item.supervision is None else item.supervision.concurrency for item in project.types}


def _with_output(configuration: Configuration, options: Options, settings: Settings | None) -> Configuration:
    timestamps, log_format = options.timestamp, options.log_format
    if settings is not None:
        output = settings.document.output
        if output:
            log_format = log_format or output.format or None
            timestamps = output.timestamps is not False if timestamps is None else timestamps
        configuration = configuration._replace(groups=settings.document.groups)
    configuration = configuration._replace(log_format=log_format or "text", timestamps=timestamps is not False)
    http = _http(options, settings)
    return configuration if http is None else _with_http(configuration, http)


def _http(options: Options, settings: Settings | None) -> Listen | None:
    """Where to serve status and metrics; None also where that is no address, which is told elsewhere."""
    control = None if settings is None else settings.document.control
    text = options.http or (control.http or None if control else None)
    if text is None:
        return None
    from procreaper.address import parse_address

    try:
        address = parse_address(text)
    except ValueError:
        return None
    if options.http is not None or settings is None:
        return Listen(address, text)
    return Listen(address, text, settings.path, settings.problem(("control", "http"), "").line)


def _with_http(configuration: Configuration, http: Listen) -> Configuration:
    """The configuration with a server, and a warning where a process may want its port."""
    port = str(http.address.port)
    names = [process.name for process in configuration.plan.processes if (process.env or {}).get("PORT") == port]
    configuration = configuration._replace(http=http)
    if port == "0" or not names:
        return configuration
    message = f"port {port} is also the PORT of `{names[0]}`, which will find it taken"
    problem = http.problem(message, "choose another one, or `0` for one that is free", "warning")
    return configuration._replace(warnings=(*configuration.warnings, problem))


def _no_checks(url: str) -> HealthCheck:
    raise ValueError(f"`{url}` is not a URL that can be checked here")


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:
        # Where we are has been removed; only what is watched would have to be found from there.
        return path


def _directory(options: Options) -> str:
    return options.root or options.app_root or "."


def _locate(options: Options, path: str, *, is_given: bool) -> str:
    """Where a file is: in the application root; with foreman's `--root`, one that was given is where we are."""
    return _join("." if options.root is not None and is_given else _directory(options), path)


def _join(directory: str, path: str) -> str:
    # Not normalised: `link/..` is where the link leads to.
    return path if directory == "." else os.path.join(directory, path)


def _read_environments(
    options: Options, settings: Settings | None, own_environment: Mapping[str, str]
) -> list[Environment]:
    names = None if options.env is None else [name.strip() for name in options.env.split(",") if name.strip()]
    if names is None and settings is not None and settings.document.env and settings.document.env.files:
        files = settings.document.env.files
        names = [files] if isinstance(files, str) else files
    if names is None:
        # The default file need not exist.
        names = [".env"] if os.path.lexists(_locate(options, ".env", is_given=False)) else []
    found: list[Environment] = []
    for name in names:
        path = _locate(options, name, is_given=options.env is not None)
        found.append(_read_environment(path, settings, {**own_environment, **_merge(found)}))
    return found


def _read_environment(path: str, settings: Settings | None, environment: Mapping[str, str]) -> Environment:
    """One file; `environment` is what it may refer to, in the dialect that has references."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except (FileNotFoundError, NotADirectoryError):
        hint = "create it, or correct the name after -e"
        problem = Problem("does not exist, so nothing is taken from it", path, hint=hint, level="warning")
    except IsADirectoryError:
        # honcho ignores it silently, and there are projects whose virtual environment has this name.
        problem = Problem(
            "is a directory, so nothing is taken from it", path, hint="name a file with -e", level="warning"
        )
    except OSError as error:
        problem = _unreadable(path, error)
    else:
        if settings is not None and settings.document.env and settings.document.env.parser == "dotenv":
            from procreaper.dotenv import parse_dotenv

            return parse_dotenv(raw, path, environment)
        return parse_environment(raw, path)
    return Environment(path, {}, {}, (problem,))


def _merge(environments: Sequence[Environment]) -> dict[str, str]:
    return {key: value for environment in environments for key, value in environment.values.items()}


def _read_procfile(path: str) -> Procfile:
    try:
        with open(path, "rb") as file:
            return parse_procfile(file.read(), path)
    except (FileNotFoundError, NotADirectoryError):
        problem = Problem("Procfile does not exist or is not a file", path, hint=_instead_of(path))
    except IsADirectoryError:
        hint = "name a file with -f, or the directory that it is in with -d"
        problem = Problem("Procfile does not exist or is not a file: this is a directory", path, hint=hint)
    except OSError as error:
        problem = _unreadable(path, error)
    return Procfile(path, (), (problem,))


def _instead_of(path: str) -> str:
    """What to do about a Procfile that is missing: often there is one of a longer name, such as Procfile.dev."""
    with suppress(OSError):
        names = sorted(os.listdir(os.path.dirname(path) or "."))
        if others := [name for name in names if name.lower().startswith("procfile") and name != os.path.basename(path)]:
            return f"there is `{'`, `'.join(others)}`; name it with -f"
    return "create it with a line such as `web: python3 -m http.server $PORT`, or name another with -f or -d"


def _working_directory(options: Options, problems: list[Problem]) -> str | None:
    if options.root is not None and not os.path.isdir(options.root):
        problems.append(Problem(f"--root {options.root}: this is not a directory", hint="name an existing directory"))
    return options.root


def _unreadable(path: str, error: OSError, option: str | None = None) -> Problem:
    reason = reason_of(error)
    where = "name another file" if option is None else f"name another file with {option}"
    return Problem(f"cannot be read: {reason}", path, hint=f"look at its permissions, or {where}")
