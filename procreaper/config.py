"""From the command line, the environment and the project's files to a `Plan`, or to every problem at once.

Rules: the only module that reads the project's files. It prints nothing and starts nothing. Precedence, highest first:
command line (or the defaults for it in `.foreman`), `.env` files, our own environment, Procfile, built-in defaults.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from procreaper.errors import ConfigError, Problem
from procreaper.plan import Ending, Plan, Process
from procreaper.procfile import Entry, Environment, Instance, Procfile, expand, parse_environment, parse_procfile

DEFAULT_PORT = 5000
HIGHEST_PORT = 65535
PORT_HINT = f"a port is a number from 0 to {HIGHEST_PORT}, for example 5000"
# Of one type: what is clearly a slip would otherwise fill the memory before anything is started.
MOST_PROCESSES = 10000


class Options(NamedTuple):
    """What the command line says, as it was typed; None where it says nothing.

    `app_root` is honcho's `-d`: where the files are looked for. `root` is foreman's: also where the children run, while
    `procfile` and `env` are then relative to the current directory. `names` are the process types to start.
    """

    app_root: str | None = None
    root: str | None = None
    procfile: str | None = None
    env: str | None = None
    port: str | None = None
    concurrency: str | None = None
    formation: str | None = None
    quiet: str | None = None
    timeout: str | None = None
    names: tuple[str, ...] = ()


class Project(NamedTuple):
    """The project's files, read; `environment` is what the `.env` files add to ours."""

    procfile: Procfile
    environment: dict[str, str]
    problems: tuple[Problem, ...]


class Configuration(NamedTuple):
    """What `start` needs: the plan, the quiet ones in it, and the warnings."""

    plan: Plan
    quiet: frozenset[str]
    warnings: tuple[Problem, ...]


def read_project(options: Options, own_environment: Mapping[str, str]) -> Project:
    """Read and check the Procfile and the `.env` files. Raises ConfigError if one of them cannot be used."""
    environments = _read_environments(options)
    values = _merge(environments)
    path = options.procfile or values.get("PROCFILE") or own_environment.get("PROCFILE") or "Procfile"
    is_foremans = options.root is not None and options.procfile is not None
    procfile = _read_procfile(path if is_foremans else _join(_directory(options), path))
    problems = [*procfile.problems, *(problem for environment in environments for problem in environment.problems)]
    if options.port is None:
        problems += _wrong_port(environments)
    return Project(procfile, values, refuse_errors(problems))


def read_environment(options: Options) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """What the `.env` files add to our environment, and the warnings. Raises ConfigError if one cannot be used."""
    environments = _read_environments(options)
    problems = [problem for environment in environments for problem in environment.problems]
    if options.app_root is not None and not os.path.isdir(options.app_root):
        message = f"-d {options.app_root}: this is not a directory, so nothing is taken from it"
        problems.append(Problem(message, hint="name an existing directory", level="warning"))
    return _merge(environments), refuse_errors(problems)


def configure(options: Options, own_environment: Mapping[str, str]) -> Configuration:
    """Everything that `start` has to know. Raises ConfigError with every problem found, warnings included."""
    project = read_project(options, own_environment)
    problems = list(project.problems)
    entries = _select(project.procfile, options.names, problems)
    known = [entry.name for entry in project.procfile.entries]
    concurrency = _concurrency(options, known, problems)
    port = _port(options, project, own_environment, problems)
    timeout = _timeout(options, problems)
    directory = _working_directory(options, problems)
    quiet = [name.strip() for name in (options.quiet or "").split(",") if name.strip()]
    instances = expand(entries, concurrency=concurrency, environment=project.environment, quiet=quiet, port=port)
    names = {*known, *(instance.name for instance in instances)}
    problems += [_unknown(f"-q: there is no process `{name}`", name, known) for name in quiet if name not in names]
    problems += _ports_beyond(instances)
    warnings = refuse_errors(problems)
    processes = tuple(
        Process(
            instance.name,
            instance.command,
            env={**own_environment, **instance.env},
            cwd=directory,
            quiet=instance.quiet,
            ending=Ending(timeout=timeout),
        )
        for instance in instances
    )
    return Configuration(Plan(processes), frozenset(item.name for item in instances if item.quiet), warnings)


def _directory(options: Options) -> str:
    return options.root or options.app_root or "."


def _join(directory: str, path: str) -> str:
    # Not normalised: `link/..` is where the link leads to.
    return path if directory == "." else os.path.join(directory, path)


def _read_environments(options: Options) -> list[Environment]:
    if options.env is None:
        # The default file need not exist.
        path = _join(_directory(options), ".env")
        return [_read_environment(path)] if os.path.lexists(path) else []
    base = "." if options.root is not None else _directory(options)
    names = [name.strip() for name in options.env.split(",")]
    return [_read_environment(_join(base, name)) for name in names if name]


def _read_environment(path: str) -> Environment:
    try:
        with open(path, "rb") as file:
            return parse_environment(file.read(), path)
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


def _select(procfile: Procfile, names: Sequence[str], problems: list[Problem]) -> list[Entry]:
    """The entries that were asked for, in the order of the question, as honcho does; all where nothing was asked."""
    by_name = {entry.name: entry for entry in procfile.entries}
    if not names:
        return list(procfile.entries)
    known = list(by_name)
    problems += [
        _unknown(f"Process type '{name}' does not exist in {procfile.path}", name, known)
        for name in names
        if name not in known
    ]
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name]


def _concurrency(options: Options, known: Sequence[str], problems: list[Problem]) -> dict[str, int]:
    if options.concurrency is not None and options.formation is not None:
        problems.append(
            Problem(
                "-c and -m cannot be used together", hint="-c leaves other types at 1, -m sets them to 0; choose one"
            )
        )
    if options.formation is not None:
        counts = _counts("-m", options.formation, [*known, "all"], problems)
        others = counts.pop("all", 0)
        return {name: counts.get(name, others) for name in known}
    return _counts("-c", options.concurrency or "", known, problems)


def _counts(flag: str, text: str, known: Sequence[str], problems: list[Problem]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        name, equals, number = (part.strip() for part in item.partition("="))
        if not name:
            hint = f"for example `{flag} {known[0] if known else 'web'}=2`"
            problems.append(Problem(f"{flag} {item}: a process type is missing", hint=hint))
        elif name not in known:
            if name == "all" and equals and flag == "-c":
                problems.append(
                    Problem(f"-c {item}: there is no process type `all`", hint="`-m all=N` sets every type")
                )
            else:
                problems.append(_unknown(f"{flag} {item}: there is no process type `{name}`", name, known))
        elif not (number.isascii() and number.isdecimal()):
            what = f"`{number}` is not a number of processes" if number else "a number of processes is missing"
            problems.append(
                Problem(f"{flag} {item}: {what}", hint=f"for example `{flag} {name}=2`, or `{name}=0` for none")
            )
        elif len(number.lstrip("0")) > len(str(MOST_PROCESSES)) or int(number) > MOST_PROCESSES:
            message = f"{flag} {item}: at most {MOST_PROCESSES} processes of one type can be started"
            problems.append(Problem(message, hint="name a smaller number"))
        else:
            counts[name] = int(number)
    return counts


def _port(options: Options, project: Project, own_environment: Mapping[str, str], problems: list[Problem]) -> int:
    sources = (("-p", options.port), ("PORT in the environment", own_environment.get("PORT")))
    from_file = project.environment.get("PORT")
    if options.port is None and from_file is not None:
        # It was looked at when the file was read.
        return int(from_file)
    for place, text in sources:
        if text is not None:
            if _is_port(text):
                return int(text)
            problems.append(Problem(f"invalid value for port: '{text}' ({place})", hint=PORT_HINT))
            break
    return DEFAULT_PORT


def _is_port(text: str) -> bool:
    try:
        return 0 <= int(text) <= HIGHEST_PORT
    except ValueError:
        return False


def _wrong_port(environments: Sequence[Environment]) -> list[Problem]:
    for environment in reversed(environments):
        text = environment.values.get("PORT")
        if text is not None:
            line = environment.lines["PORT"]
            problem = Problem(f"invalid value for port: '{text}'", environment.path, line, PORT_HINT)
            return [] if _is_port(text) else [problem]
    return []


def _ports_beyond(instances: Sequence[Instance]) -> list[Problem]:
    """A warning, as honcho hands out such numbers, and not every process listens to its PORT."""
    for instance in instances:
        if int(instance.env["PORT"]) > HIGHEST_PORT:
            message = f"PORT of `{instance.name}` is {instance.env['PORT']}, but ports end at {HIGHEST_PORT}"
            return [Problem(message, hint="begin lower with `-p`, or run fewer processes", level="warning")]
    return []


def _timeout(options: Options, problems: list[Problem]) -> float:
    if options.timeout is None:
        return Ending().timeout
    try:
        timeout = float(options.timeout)
    except ValueError:
        timeout = math.nan
    if timeout >= 0 and math.isfinite(timeout):
        return timeout
    message = f"-t {options.timeout}: this is not a number of seconds"
    problems.append(Problem(message, hint="for example `-t 10`; after this time SIGKILL follows SIGTERM"))
    return Ending().timeout


def _working_directory(options: Options, problems: list[Problem]) -> str | None:
    if options.root is not None and not os.path.isdir(options.root):
        problems.append(Problem(f"--root {options.root}: this is not a directory", hint="name an existing directory"))
    return options.root


def _unknown(message: str, name: str, known: Sequence[str]) -> Problem:
    # Not at the top: a start without mistakes does not need it.
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1)
    hint = f"did you mean `{close[0]}`?" if close else f"there is {', '.join(f'`{item}`' for item in known)}"
    return Problem(message, hint=hint if known else None)


def _unreadable(path: str, error: OSError) -> Problem:
    reason = (error.strerror or str(error)).lower()
    return Problem(f"cannot be read: {reason}", path, hint="look at its permissions, or name another file")


def refuse_errors(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """The problems, if they are warnings only; otherwise raises ConfigError with all of them."""
    if any(problem.level == "error" for problem in problems):
        raise ConfigError(problems)
    return tuple(problems)
