"""The options of the command line: from their text to a `Selection`.

Rules: pure. A mistake is a problem that quotes the option; the other options are still checked. `planner` checks the
names of processes, because it knows the groups; only the names after `-c` and `-m` are checked here, because these
options take process types only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from procreaper.core.names import MOST_UNKNOWN
from procreaper.core.plan import HIGHEST_PORT, MOST_PROCESSES, Process
from procreaper.core.ports import AUTO
from procreaper.errors import Level, Problem, did_you_mean, list_words
from procreaper.project.planner import Selection, mark_outdated

if TYPE_CHECKING:
    from procreaper.project.env_files import EnvFile


DEFAULT_PORT = 5000
PORT_HINT = f"a port is a number from 0 to {HIGHEST_PORT}, for example 5000"
LOG_FORMATS = ("text", "json")
# The file with foreman's defaults for options.
FOREMAN = ".foreman"


class Options(NamedTuple):
    """The options of the command line as the user typed them; None for an option that was not given.

    `app_root` is honcho's `-d`, the directory of the files. `root` is foreman's option: the children also run there,
    and `procfile`, `env` and `config` are relative to the current directory. `names` are the process types to start.
    `foreman` has the line of each option that comes from `.foreman`. A `procfile` in that file sets `cwd`: as under
    foreman, the children run in the directory of the Procfile, and the other files stay in the application root.
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
    config: str | None = None
    restart: str | None = None
    can_die: str | None = None
    exclude: str | None = None
    no_deps: bool = False
    log_format: str | None = None
    timestamp: bool | None = None
    watch: tuple[str, ...] = ()
    no_watch: bool = False
    pty: bool | None = None
    detach: bool = False
    new: bool = False
    wait: bool = False
    wait_timeout: str | None = None
    http: str | None = None
    cwd: str | None = None
    foreman: Mapping[str, int] = {}


class OptionSource(NamedTuple):
    """The place of an option: `flag` on the command line, or `key` in `line` of `.foreman`."""

    flag: str
    key: str
    line: int | None = None

    @classmethod
    def of(cls, options: Options, flag: str, key: str) -> "OptionSource":
        """Return the place of one of the `options`."""
        return cls(flag, key, options.foreman.get(key))

    @property
    def name(self) -> str:
        """The option as the user wrote it."""
        return self.flag if self.line is None else self.key

    def problem(self, message: str, hint: str | None, level: Level = "error") -> Problem:
        """Make a problem at the place of the option."""
        return Problem(message, None if self.line is None else FOREMAN, self.line, hint, level)

    def example(self, value: str) -> str:
        """Return the option with this value, as the user would write it."""
        return f"`{self.flag} {value}`" if self.line is None else f"`{self.key}: {value}`"


def parse_options(
    options: Options,
    concurrency: Mapping[str, int],
    added: Mapping[str, str],
    own: Mapping[str, str],
    *,
    running: bool = False,
) -> tuple[Selection, list[Problem]]:
    """Parse the options. Return the selection and the problems.

    `concurrency` has every process type, with its number of instances in the files. `added` has the variables that the
    `.env` files add to `own`, our own environment. `running`: the app has already started with these options, and its
    files may have changed since.
    """
    problems: list[Problem] = []
    counts = _parse_concurrency(options, concurrency, problems)
    if running:
        problems = mark_outdated(problems)
    selection = Selection(
        counts=counts,
        names=options.names,
        port=_parse_port(options, added, own, problems),
        auto_ports=None if options.port is None else options.port == AUTO,
        timeout=_parse_timeout(options, problems),
        quiet=_split_names(options.quiet),
        restart=_split_names(options.restart),
        can_die=_split_names(options.can_die),
        exclude=_split_names(options.exclude),
        no_deps=options.no_deps,
        watch=tuple(options.watch),
        no_watch=options.no_watch,
        pty=options.pty,
        running=running,
    )
    if options.watch and options.no_watch:
        problems.append(Problem("-w and --no-watch cannot be used together", hint="choose one"))
    if options.wait and not options.detach:
        hint = "add `-D`; without it the app is shown here until it ends"
        problems.append(Problem("--wait is for an app in the background", hint=hint))
    if options.new and not options.detach:
        hint = "leave it out: without `-D`, `start` always starts another app"
        problems.append(Problem("--new is for an app in the background", hint=hint))
    if options.wait_timeout is not None:
        if not options.wait:
            problems.append(Problem("--wait-timeout says how long `--wait` may take", hint="add `--wait`"))
        if parse_seconds(options.wait_timeout) is None:
            message = f"--wait-timeout {options.wait_timeout}: this is not a number of seconds"
            problems.append(Problem(message, hint="for example `--wait-timeout 60`"))
    if "" in options.watch:
        problems.append(Problem("-w: the path is empty", hint="for example `-w src`, or `-w '*.py'`"))
    if options.log_format not in (None, *LOG_FORMATS):
        message = f"--log-format {options.log_format}: there is no such format"
        problems.append(Problem(message, hint=did_you_mean(str(options.log_format), LOG_FORMATS)))
    if options.http is not None:
        problems += _check_http(options.http)
    return selection, problems


def check_counts(counts: Mapping[str, int], known: Sequence[str]) -> list[Problem]:
    """Check the numbers of instances that a user requests while the app runs, and return the problems."""
    problems: list[Problem] = []
    for name, count in counts.items():
        item = f"{name}={count}"
        if name not in known:
            problems.append(Problem(f"{item}: there is no process type `{name}`", hint=did_you_mean(name, known)))
        elif count < 0:
            hint = f"for example `{name}=2`, or `{name}=0` for none"
            problems.append(Problem(f"{item}: `{count}` is not a number of processes", hint=hint))
        elif count > MOST_PROCESSES:
            message, hint = _describe_too_many(item)
            problems.append(Problem(message, hint=hint))
    return problems


def _check_http(text: str) -> list[Problem]:
    # Imported here, because a plain start does not need it.
    from procreaper.project.address import HINT, parse_address

    try:
        parse_address(text)
    except ValueError as error:
        return [Problem(f"--http {text}: {error}", hint=HINT)]
    return []


def check_port(env_files: Sequence["EnvFile"]) -> list[Problem]:
    """Check the PORT of the `.env` files; that of the last file counts. Return the problem, if there is one."""
    for env_file in reversed(env_files):
        text = env_file.values.get("PORT")
        if text is not None:
            line = env_file.lines["PORT"]
            problem = Problem(f"invalid value for port: '{text}'", env_file.path, line, PORT_HINT)
            return [] if _is_port(text) else [problem]
    return []


def check_ports(processes: Iterable[Process]) -> list[Problem]:
    """Warn of the first PORT above the highest port, and of the first that the settings give to two processes.

    These are warnings, because honcho also assigns such numbers, and not every process uses its PORT.
    """
    problems: list[Problem] = []
    names: dict[int, str] = {}
    beyond = twice = False
    for process in processes:
        port = int((process.env or {})["PORT"])
        if port > HIGHEST_PORT and not beyond:
            beyond = True
            message = f"PORT of `{process.name}` is {port}, but ports end at {HIGHEST_PORT}"
            how = "begin lower with `-p`" if process.port is None else "choose a lower `port`"
            problems.append(Problem(message, hint=f"{how}, or run fewer processes", level="warning"))
        if process.port is not None and names.setdefault(port, process.name) != process.name and not twice:
            twice = True
            message = f"`{names[port]}` and `{process.name}` both have port {port}"
            problems.append(Problem(message, hint="choose another `port` for one of them", level="warning"))
    return problems


def _split_names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _parse_concurrency(options: Options, from_files: Mapping[str, int], problems: list[Problem]) -> dict[str, int]:
    if options.concurrency is not None and options.formation is not None:
        problems.append(
            Problem(
                "-c and -m cannot be used together", hint="-c leaves other types at 1, -m sets them to 0; choose one"
            )
        )
    known = list(from_files)
    if options.formation is not None:
        source = OptionSource.of(options, "-m", "formation")
        counts = _parse_counts(source, options.formation, [*known, "all"], problems)
        others = counts.pop("all", 0)
        return {name: counts.get(name, others) for name in known}
    source = OptionSource.of(options, "-c", "concurrency")
    return {**from_files, **_parse_counts(source, options.concurrency or "", known, problems)}


def _parse_counts(source: OptionSource, text: str, known: Sequence[str], problems: list[Problem]) -> dict[str, int]:
    """Parse the number of instances of each type. If `text` has a type twice, the later number counts, as in honcho."""
    counts: dict[str, int] = {}
    unknown: dict[str, str] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        name, equals, number = (part.strip() for part in item.partition("="))
        given = f"{source.name} {item}"
        if not name:
            hint = f"for example {source.example((*known, 'web')[0] + '=2')}"
            problems.append(source.problem(f"{given}: a process type is missing", hint))
        elif name not in known:
            if name == "all" and equals and source.flag == "-c":
                problems.append(
                    source.problem(f"{given}: there is no process type `all`", "`-m all=N` sets every type")
                )
            elif not _is_zero(number):
                unknown[name] = given
            elif source.line is None:
                message = f"{given}: there is no process type `{name}`, so this changes nothing"
                problems.append(source.problem(message, did_you_mean(name, known), "warning"))
            # `.foreman` applies to every Procfile in its directory, so the type may be in another Procfile.
        elif not (number.isascii() and number.isdecimal()):
            what = f"`{number}` is not a number of processes" if number else "a number of processes is missing"
            hint = f"for example {source.example(name + '=2')}, or `{name}=0` for none"
            problems.append(source.problem(f"{given}: {what}", hint))
        elif len(number.lstrip("0")) > len(str(MOST_PROCESSES)) or int(number) > MOST_PROCESSES:
            problems.append(source.problem(*_describe_too_many(given)))
        else:
            counts[name] = int(number)
    if len(unknown) > MOST_UNKNOWN:
        shown = "`, `".join([*unknown][:MOST_UNKNOWN])
        message = f"{source.name}: there is no process type `{shown}` and {len(unknown) - MOST_UNKNOWN} more"
        problems.append(source.problem(message, list_words(known)))
    else:
        for name, given in unknown.items():
            problems.append(source.problem(f"{given}: there is no process type `{name}`", did_you_mean(name, known)))
    return counts


def _is_zero(number: str) -> bool:
    return number != "" and not number.strip("0")


def _describe_too_many(item: str) -> tuple[str, str]:
    return f"{item}: at most {MOST_PROCESSES} processes of one type can be started", "name a smaller number"


def _parse_port(options: Options, added: Mapping[str, str], own: Mapping[str, str], problems: list[Problem]) -> int:
    if options.port in (None, AUTO) and "PORT" in added:
        # `check_port` has already reported an invalid one.
        return int(added["PORT"]) if _is_port(added["PORT"]) else DEFAULT_PORT
    source = OptionSource.of(options, "-p", "port")
    for place, text in (
        (source.name, None if options.port == AUTO else options.port),
        ("PORT in the environment", own.get("PORT")),
    ):
        if text is not None:
            if _is_port(text):
                return int(text)
            message = f"invalid value for port: '{text}' ({place})"
            problems.append(
                source.problem(message, PORT_HINT) if place == source.name else Problem(message, hint=PORT_HINT)
            )
            break
    return DEFAULT_PORT


def _is_port(text: str) -> bool:
    try:
        return 0 <= int(text) <= HIGHEST_PORT
    except ValueError:
        return False


def _parse_timeout(options: Options, problems: list[Problem]) -> float | None:
    if options.timeout is None:
        return None
    timeout = parse_seconds(options.timeout)
    if timeout is None:
        message = f"-t {options.timeout}: this is not a number of seconds"
        problems.append(Problem(message, hint="for example `-t 10`; after this time SIGKILL follows SIGTERM"))
    return timeout


def parse_seconds(text: str) -> float | None:
    """Parse the number of seconds of an option. Return None if it is invalid."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None
