"""Warnings of `check` about valid settings and commands that will probably fail on this machine.

Rules: pure; the caller passes the probes of the machine. When in doubt, there is no warning, because a false warning is
worse than a missing one.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from procreaper.core.plan import Process
from procreaper.core.ports import variable_of
from procreaper.errors import Level, Problem
from procreaper.project.backtracking import find_nested_quantifier
from procreaper.project.planner import ProcessType
from procreaper.project.shell import find_variables
from procreaper.project.shell_lint import (
    Command,
    Defect,
    Files,
    describe_syntax_error,
    find_file_problems,
    find_list_problems,
    find_shell_problems,
    runs_several,
)
from procreaper.project.simple_commands import find_beyond_posix
from procreaper.project.toml import format_keys

if TYPE_CHECKING:
    from procreaper.project.settings import Settings
    from procreaper.project.toml import Keys

# A command of these characters cannot have a syntax error, unless it begins with a keyword of the shell.
PLAIN = re.compile(
    r"(?!\s*(?:case|do|done|elif|else|esac|fi|for|function|if|select|then|until|while)\b)[\w\s./:=@%+,$-]*"
)
# The other settings that are commands.
SIDE_COMMANDS = (
    ("hooks", "on_ready"),
    ("hooks", "on_retry"),
    ("hooks", "on_fail"),
    ("health", "exec"),
    ("stop", "command"),
    ("watch", "run"),
)
# Heroku runs this process type once per deployment, before the others.
RELEASE = "release"
ONESHOT = "in `.reaper.toml`, `oneshot = true` allows it to end, and `autostart = false` prevents its start"
LOG_HINT = "choose a file in a directory that you can write to"


class Probes(NamedTuple):
    """The probes of the machine.

    `has_program(name, path)`: whether a PATH has a program. `exists(path)`: whether a path exists.
    `why_unwritable(path)`: the reason why a file cannot be written there, or None. `find_defect(path)`: the reason why
    a path cannot be run as a program, or None. `find_syntax_errors(commands)`: the shell's message for each command
    that it cannot parse. `find_missing_words(words)`: the words that the shell does not know.
    """

    has_program: Callable[[str, str], bool]
    exists: Callable[[str], bool]
    why_unwritable: Callable[[str], str | None] = lambda _: None
    find_defect: Callable[[str], Defect | None] = lambda _: None
    find_syntax_errors: Callable[[Collection[str]], Mapping[str, str]] = lambda _: {}
    find_missing_words: Callable[[Collection[str]], frozenset[str]] = lambda _: frozenset()


class CommandPlace(NamedTuple):
    """A command of a process type, and its place: `keys` of the settings, or None for the line of the Procfile."""

    process_type: ProcessType
    keys: Keys | None
    command: Command


class Linter:
    """Collects the warnings of `check`. `procfile` and `settings` give the places; `root` is the application root."""

    def __init__(self, look: Probes, procfile: str, settings: Settings | None, root: str) -> None:
        self._probes = look
        self._procfile = procfile
        self._settings = settings
        self._root = root
        self._files = Files(look.find_defect, look.has_program)
        self.problems: list[Problem] = []

    def lint(self, types: Iterable[ProcessType], processes: Iterable[Process]) -> None:
        """Check all process types, and their `processes` in the plan."""
        by_type: dict[str, list[Process]] = {}
        for process in processes:
            by_type.setdefault(process.type, []).append(process)
        places: list[CommandPlace] = []
        for process_type in types:
            if process_type.supervision is not None:
                self._lint_watch(process_type)
                self._lint_pattern(process_type)
            for process in by_type.get(process_type.name, ())[:1]:
                places += self._commands(process_type, process)
                self._lint_release(process_type, process)
                self._lint_log(process_type, process)
                self._lint_health(process_type, process)
        self._lint_commands(places)
        self._lint_port_variables(types)
        # Types that share a command from `[defaults]` have the same warning.
        self.problems = list(dict.fromkeys(self.problems))

    def _lint_health(self, process_type: ProcessType, process: Process) -> None:
        ca = getattr(process.health and process.health.check, "ca", None)
        if process_type.supervision is not None and isinstance(ca, str) and not self._probes.exists(ca):
            layers = process_type.supervision.layers
            keys = layers.keys("health", "ca")
            message = f"`{format_keys(keys)}`: there is no file `{layers.health.ca}`"
            self.warn(process_type, message, "it is relative to the application root", keys)

    def lint_names(self, types: Iterable[ProcessType]) -> None:
        """Check the names of all process types."""
        for process_type in types:
            if process_type.name == "all":
                message = "`all` means every process, as in `procreaper stop all`, so this process cannot be named"
            elif process_type.name == "system":
                message = "the lines of `system` look like those of procreaper itself"
            elif process_type.name.startswith("-"):
                message = f"`{process_type.name}` begins with `-`, so commands take it for an option"
            else:
                continue
            if process_type.line or self._settings is None:
                self.problems.append(Problem(message, self._procfile, process_type.line, "rename it", "warning"))
            else:
                self.problems.append(
                    self._settings.problem(("process", process_type.name), message, "rename it", "warning")
                )

    def _commands(self, process_type: ProcessType, process: Process) -> Iterator[CommandPlace]:
        """Yield the commands of a process that run through the shell, and check the others."""
        environment: Mapping[str, str] = process.env or {}
        # Its dependencies may create files before it starts.
        later = bool(process.depends_on)
        for keys, text in self._texts(process_type, process):
            name = f"`{process_type.name}`" if keys is None else f"`{format_keys(keys)}`"
            if isinstance(text, str):
                yield CommandPlace(
                    process_type, keys, Command(text, name, environment, process.cwd, later, keys is None)
                )
            else:
                command = Command("", name, environment, process.cwd, later)
                for message, hint in find_list_problems(command, text[0], self._files):
                    self.warn(process_type, message, hint, keys)
                self._lint_arguments(process_type, text, environment, keys)
            if keys is None:
                later = later or (isinstance(text, str) and runs_several(text))

    def _texts(self, process_type: ProcessType, process: Process) -> Iterator[tuple[Keys | None, str | Sequence[str]]]:
        yield None, process.command
        if process_type.supervision is not None:
            layers = process_type.supervision.layers
            for table, field in SIDE_COMMANDS:
                text = getattr(getattr(layers, table), field)
                if text:
                    yield layers.keys(table, field), text

    def _lint_commands(self, places: Sequence[CommandPlace]) -> None:
        """Have the shell parse all commands in one call, and then check each command."""
        texts = dict.fromkeys(place.command.text for place in places)
        errors = self._probes.find_syntax_errors([text for text in texts if PLAIN.fullmatch(text) is None])
        words = dict.fromkeys(word for text in texts for word in find_beyond_posix(text))
        missing = self._probes.find_missing_words(words) if words else frozenset()
        for process_type, keys, command in places:
            if command.text in errors:
                self.warn(process_type, *describe_syntax_error(command, errors[command.text]), keys)
                continue
            found = [*find_shell_problems(command, missing.__contains__), *find_file_problems(command, self._files)]
            for message, hint in found:
                self.warn(process_type, message, hint, keys)
            if keys is None:
                self._lint_variables(process_type, command)

    def warn(self, process_type: ProcessType, message: str, hint: str, keys: Keys | None = None) -> None:
        """Add a warning at these keys of the settings, or by default at the place of the command."""
        layers = None if process_type.supervision is None else process_type.supervision.layers
        if keys is None and layers is not None and (layers.is_own("command") or not process_type.line):
            keys = layers.keys("command")
        if self._settings is not None and keys is not None:
            self.problems.append(self._settings.problem(keys, message, hint, "warning"))
        else:
            self.problems.append(Problem(message, self._procfile, process_type.line, hint, "warning"))

    def _lint_arguments(
        self, process_type: ProcessType, command: Sequence[str], environment: Mapping[str, str], keys: Keys | None
    ) -> None:
        name = f"the command of `{process_type.name}`" if keys is None else f"`{format_keys(keys)}`"
        for argument in command:
            match = re.fullmatch(r"\$\{?([A-Za-z_]\w*)\}?", argument, re.ASCII)
            if match is not None and match[1] in environment:
                hint = "no shell reads a command that is a list; write it as a string"
                self.warn(process_type, f"`{argument}` in {name} is passed on unchanged", hint, keys)

    def _lint_variables(self, process_type: ProcessType, command: Command) -> None:
        for name in find_variables(command.text):
            if name not in command.env:
                hint = f"set it in a .env file, or write `${{{name}:-}}` if it may be empty"
                self.warn(process_type, f"`{process_type.name}` uses `${name}`, which is not set", hint)

    def _lint_release(self, process_type: ProcessType, process: Process) -> None:
        if (
            process_type.name == RELEASE
            and not process.oneshot
            and (process_type.supervision is None or process_type.supervision.autostart)
        ):
            message = f"`{RELEASE}` is Heroku's release phase, but here it starts with the others"
            message += ", and its end stops the app"
            self.warn(process_type, message, f"`procreaper start -x {RELEASE}` leaves it out; {ONESHOT}")

    def _lint_port_variables(self, types: Iterable[ProcessType]) -> None:
        first: dict[str, str] = {}
        for process_type in types:
            variable = variable_of(process_type.name)
            if first.setdefault(variable, process_type.name) != process_type.name:
                name = process_type.name
                message = f"`{variable}` is the port of `{first[variable]}`, so no variable has the port of `{name}`"
                self.warn(process_type, message, "rename one of them")

    def _lint_log(self, process_type: ProcessType, process: Process) -> None:
        reason = None if process.log is None else self._probes.why_unwritable(process.log.path)
        if reason is not None and self._settings is not None:
            self.problems.append(make_log_problem(process_type, process, self._settings, reason, "warning"))

    def _lint_pattern(self, process_type: ProcessType) -> None:
        pattern = "" if process_type.supervision is None else process_type.supervision.layers.health.log
        group = find_nested_quantifier(pattern) if pattern else None
        if group is not None and process_type.supervision is not None and self._settings is not None:
            keys = process_type.supervision.layers.keys("health", "log")
            message = f"`{format_keys(keys)}`: `{group}` may take very long on a line without a match"
            hint = "repeat either the group or its content, not both"
            self.problems.append(self._settings.problem(keys, message, hint, "warning"))

    def _lint_watch(self, process_type: ProcessType) -> None:
        if process_type.supervision is None or self._settings is None:
            return
        layers = process_type.supervision.layers
        for index, path in enumerate(layers.watch.paths or ()):
            fixed = re.split(r"[*?\[{]", path, maxsplit=1)[0]
            if fixed != path:
                fixed = posixpath.dirname(fixed)
            if fixed and not self._probes.exists(posixpath.join(self._root, fixed)):
                keys = (*layers.keys("watch", "paths"), index)
                message = f"`{path}`, which `{process_type.name}` watches, does not exist"
                hint = "create it, or correct the path"
                self.problems.append(self._settings.problem(keys, message, hint, "warning", path))


def make_log_problem(
    process_type: ProcessType, process: Process, settings: Settings, reason: str, level: Level
) -> Problem:
    """Make a problem of a log file that cannot be written."""
    keys: Keys = (
        ("process", process_type.name, "log")
        if process_type.supervision is None
        else process_type.supervision.layers.keys("log", "file")
    )
    path = "" if process.log is None else process.log.path
    message = f"`{path}`, the log of `{process.name}`, cannot be written: {reason}"
    return settings.problem(keys, message, LOG_HINT, level)
