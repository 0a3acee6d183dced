"""Finds and reads the project's files, and combines them into process types and a list of all problems.

Rules: the only module that knows the files of a project. Precedence among them, highest first: `.env` files,
`.reaper.toml`, Procfile. The modules for a `.reaper.toml` are imported only if there is one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from procreaper.errors import ConfigError, Problem, reason_of
from procreaper.project.options import FOREMAN, Options, check_port
from procreaper.project.planner import ProcessType
from procreaper.project.procfile import NO_PROCESS, OURS, Procfile, parse_procfile
from procreaper.project.read_file import read_file

if TYPE_CHECKING:
    from procreaper.project.defaults import Layers
    from procreaper.project.env_files import EnvFile
    from procreaper.project.settings import Settings

SETTINGS = ".reaper.toml"
# The hint for a file that is gone while the app runs: an option cannot name another file then.
CREATE_AGAIN = "create it again; another file takes `procreaper quit` and a new start"

# The content of each file, by path; None for a file that cannot be read.
Contents = dict[str, bytes | None]


class Project(NamedTuple):
    """The content of the project's files. `environment` has the variables that the `.env` files add to ours.

    `types` are all process types: those of the Procfile, then those that only `.reaper.toml` has. `is_usable` is False
    if a file is so broken that most further problems would only follow from it. `contents` has every file that was read
    or looked up, by path; None for a file that cannot be read.
    """

    procfile: Procfile
    environment: dict[str, str]
    problems: tuple[Problem, ...]
    types: tuple[ProcessType, ...] = ()
    settings: Settings | None = None
    is_usable: bool = True
    contents: Mapping[str, bytes | None] = {}


def read_project(options: Options, own_environment: Mapping[str, str]) -> Project:
    """Read and check the project's files. Raises ConfigError if one of them has an error."""
    project = read_files(options, own_environment)
    raise_errors(project.problems)
    return project


def read_environment(
    options: Options, own_environment: Mapping[str, str] | None = None
) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """Return the variables of the `.env` files, and the warnings. Raises ConfigError if a file has an error."""
    contents: Contents = {}
    settings = _read_settings(options, contents)
    env_files = _read_app_env_files(options, settings, own_environment or {}, contents)
    problems = () if settings is None else settings.problems
    found = [*problems, *(problem for env_file in env_files for problem in env_file.problems)]
    if options.app_root is not None and not os.path.isdir(options.app_root):
        message = f"-d {options.app_root}: this is not a directory, so nothing is taken from it"
        found.append(Problem(message, hint="name an existing directory", level="warning"))
    return _merge(env_files), raise_errors(found)


def read_files(options: Options, own_environment: Mapping[str, str], *, running: bool = False) -> Project:
    """Read the project's files. The mistakes in them are in `problems`.

    `running`: the app has already started with these options, so a hint does not name an option for another file.
    """
    contents: Contents = {}
    settings = _read_settings(options, contents, running=running)
    env_files = _read_app_env_files(options, settings, own_environment, contents, running=running)
    values = _merge(env_files)
    path = options.procfile or values.get("PROCFILE") or own_environment.get("PROCFILE")
    path_found = _locate(options, path or "Procfile", is_given=options.procfile is not None)
    procfile = _read_procfile(path_found, contents, running=running)
    if settings is not None and path is None and _has_commands(settings):
        procfile = _allow_missing(procfile)
    problems = [*procfile.problems, *(problem for env_file in env_files for problem in env_file.problems)]
    if options.port is None:
        problems += check_port(env_files)
    is_usable = all(problem.level == "warning" for problem in procfile.problems)
    if settings is None:
        types = [ProcessType(entry.name, entry.command, entry.line) for entry in procfile.entries]
    else:
        is_usable = is_usable and () not in settings.broken
        types, mistakes = _read_process_types(
            procfile, settings, options, {**own_environment, **values}, contents, is_usable=is_usable
        )
        mistakes += settings.problems
        problems += sorted(mistakes, key=lambda problem: problem.line or 0)
    return Project(procfile, values, tuple(problems), tuple(types), settings, is_usable, contents)


def find_changed(contents: Mapping[str, bytes | None]) -> list[str]:
    """Return the files that have changed since they were read. A pipe or a device never counts as changed."""
    changed = []
    for path, before in contents.items():
        now: bytes | None = None
        with suppress(OSError):
            if not stat.S_ISREG(os.stat(path).st_mode):
                continue
            now = read_file(path)
        if now != before:
            changed.append(path)
    return changed


def raise_errors(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Return the problems if all are warnings. Otherwise raise ConfigError with all of them."""
    if any(problem.level == "error" for problem in problems):
        raise ConfigError(problems)
    return tuple(problems)


def _read(path: str, contents: Contents) -> bytes:
    """Read a file, and keep its content in `contents`. Raises OSError."""
    contents[path] = None
    contents[path] = raw = read_file(path)
    return raw


def _read_settings(options: Options, contents: Contents, *, running: bool = False) -> Settings | None:
    """Read `.reaper.toml`. Return None if there is no such file, which is not an error."""
    path = _locate(options, options.config or SETTINGS, is_given=options.config is not None)
    if options.config is None and not os.path.lexists(path):
        contents[path] = None
        return None
    from procreaper.project.settings import parse_settings, unusable_settings

    try:
        return parse_settings(_read(path, contents), path)
    except (FileNotFoundError, NotADirectoryError):
        hint = CREATE_AGAIN if running else "create it, or name another file with --config"
        return unusable_settings(Problem("does not exist", path, hint=hint))
    except OSError as error:
        return unusable_settings(_unreadable_problem(path, error, "--config", running=running))


def _read_process_types(
    procfile: Procfile,
    settings: Settings,
    options: Options,
    environment: Mapping[str, str],
    contents: Contents,
    *,
    is_usable: bool,
) -> tuple[list[ProcessType], list[Problem]]:
    """Combine the process types of both files with their settings. Return them and the problems."""
    from signal import Signals

    from procreaper.errors import did_you_mean
    from procreaper.project.process_types import read_process_type
    from procreaper.project.toml import format_keys

    entries = {entry.name: (entry.command, entry.line) for entry in procfile.entries}
    signals = {name: int(number) for name, number in Signals.__members__.items()}
    types: list[ProcessType] = []
    problems: list[Problem] = []
    for name in dict.fromkeys((*entries, *settings.document.process)):
        command, line = entries.get(name, ("", 0))
        supervision, mistakes = read_process_type(name, command, settings, signals)
        if not supervision.template.command:
            keys = ("process", name)
            if is_usable and not settings.is_broken((*keys, "command")):
                message = (
                    f"there is no process type `{name}` in {procfile.path}, and `{format_keys(keys)}` has no `command`"
                )
                close = did_you_mean(name, entries, otherwise=False)
                hint = "correct the name, or give it a `command`" if close is None else close
                problems.append(settings.problem(keys, message, hint))
            continue
        problems += mistakes
        layers = supervision.layers
        directory = supervision.template.cwd
        if directory is not None and not os.path.isdir(os.path.join(application_root(options), directory)):
            message = f"`{format_keys(layers.keys('cwd'))}` is `{directory}`, which is not a directory"
            problems.append(settings.problem(layers.keys("cwd"), message, "create it, or correct the path"))
        added = _read_own_env_files(layers, settings, options, environment, contents, problems)
        types.append(ProcessType(name, supervision.template.command, line, supervision, added))
    return types, list(dict.fromkeys(problems))


def _read_own_env_files(
    layers: Layers,
    settings: Settings,
    options: Options,
    environment: Mapping[str, str],
    contents: Contents,
    problems: list[Problem],
) -> dict[str, str] | None:
    """Return the variables that the `env_file` of a process adds; None if a file has an error."""
    paths = layers.get("env_file")
    if not paths:
        return {} if not settings.is_broken(layers.keys("env_file")) else None
    values: dict[str, str] = {}
    is_complete = True
    for index, path in enumerate([paths] if isinstance(paths, str) else paths):
        place = _join(application_root(options), path)
        found = _read_env_file(place, settings, {**environment, **values}, contents)
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


def _has_commands(settings: Settings) -> bool:
    """Return whether a process has a `command` here, so that a Procfile is not needed."""
    return any(bool(process.command) for process in settings.document.process.values())


def _allow_missing(procfile: Procfile) -> Procfile:
    """Drop the problem of a Procfile that is missing or empty."""
    if not os.path.lexists(procfile.path):
        return procfile._replace(problems=())
    return procfile._replace(problems=tuple(item for item in procfile.problems if item.message != NO_PROCESS))


def application_root(options: Options) -> str:
    """Return the application root as the user gave it, or else the current directory."""
    return options.root or options.app_root or "."


def _locate(options: Options, path: str, *, is_given: bool) -> str:
    """Return the path of a file: relative to the application root, or to the current directory.

    The second applies to a file that the user gave together with foreman's `--root`.
    """
    return _join("." if options.root is not None and is_given else application_root(options), path)


def _join(directory: str, path: str) -> str:
    # Not normalised: `link/..` is the parent of the target of the link.
    return path if directory == "." else os.path.join(directory, path)


def _read_app_env_files(
    options: Options,
    settings: Settings | None,
    own_environment: Mapping[str, str],
    contents: Contents,
    *,
    running: bool = False,
) -> list[EnvFile]:
    names = None if options.env is None else [name.strip() for name in options.env.split(",") if name.strip()]
    place = f"in `env` of `{FOREMAN}`" if "env" in options.foreman else "after -e"
    if names is None and settings is not None and settings.document.env and settings.document.env.files:
        files = settings.document.env.files
        names = [files] if isinstance(files, str) else files
        place = f"in `env.files` of `{settings.path}`"
    if names is None:
        # The default file need not exist.
        default = _locate(options, ".env", is_given=False)
        contents[default] = None
        names = [".env"] if os.path.lexists(default) else []
    found: list[EnvFile] = []
    for name in names:
        path = _locate(options, name, is_given=options.env is not None)
        values = {**own_environment, **_merge(found)}
        found.append(_read_env_file(path, settings, values, contents, place, running=running))
    return found


def _read_env_file(
    path: str,
    settings: Settings | None,
    environment: Mapping[str, str],
    contents: Contents,
    place: str = "after -e",
    *,
    running: bool = False,
) -> EnvFile:
    """Read one environment file. `place` says where its name comes from.

    Its values may refer to `environment` if the dialect has references.
    """
    from procreaper.project.env_files import EnvFile, parse_env_file, parse_with_dotenv

    try:
        raw = _read(path, contents)
    except (FileNotFoundError, NotADirectoryError):
        hint = CREATE_AGAIN if running and place == "after -e" else f"create it, or correct the name {place}"
        problem = Problem("does not exist, so nothing is taken from it", path, hint=hint, level="warning")
    except IsADirectoryError:
        # A warning only: honcho ignores a directory, and some projects have a virtual environment named `.env`.
        hint = CREATE_AGAIN if running else "name a file with -e"
        problem = Problem("is a directory, so nothing is taken from it", path, hint=hint, level="warning")
    except OSError as error:
        problem = _unreadable_problem(path, error, "-e", running=running)
    else:
        if settings is not None and settings.document.env and settings.document.env.parser == "dotenv":
            return parse_with_dotenv(raw, path, environment)
        return parse_env_file(raw, path, environment)
    return EnvFile(path, {}, {}, (problem,))


def _merge(env_files: Sequence[EnvFile]) -> dict[str, str]:
    return {key: value for env_file in env_files for key, value in env_file.values.items()}


def _read_procfile(path: str, contents: Contents, *, running: bool) -> Procfile:
    try:
        return parse_procfile(_read(path, contents), path)
    except (FileNotFoundError, NotADirectoryError):
        hint = CREATE_AGAIN if running else _suggest_procfile(path)
        problem = Problem("Procfile does not exist or is not a file", path, hint=hint)
    except IsADirectoryError:
        hint = CREATE_AGAIN if running else "name a file with -f, or the directory that it is in with -d"
        problem = Problem("Procfile does not exist or is not a file: this is a directory", path, hint=hint)
    except OSError as error:
        problem = _unreadable_problem(path, error, "-f", running=running)
    return Procfile(path, (), (problem,))


def _suggest_procfile(path: str) -> str:
    """Return a hint for a missing Procfile. Often there is one with a longer name, such as Procfile.dev."""
    with suppress(OSError):
        names = sorted(os.listdir(os.path.dirname(path) or "."))
        if others := [name for name in names if name.lower().startswith("procfile") and name != os.path.basename(path)]:
            return f"there is `{'`, `'.join(others)}`; name it with -f"
    return "create it with a line such as `web: python3 -m http.server $PORT`, or name another with -f or -d"


def _unreadable_problem(path: str, error: OSError, option: str | None = None, *, running: bool = False) -> Problem:
    reason = reason_of(error)
    if running:
        hint = "look at its permissions" if isinstance(error, PermissionError) else CREATE_AGAIN
        return Problem(f"cannot be read: {reason}", path, hint=hint)
    where = "name another file" if option is None else f"name another file with {option}"
    hint = f"look at its permissions, or {where}" if isinstance(error, PermissionError) else where
    return Problem(f"cannot be read: {reason}", path, hint=hint)
