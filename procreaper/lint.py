"""What is not wrong with a project, but will hardly work here: for `check` only, as warnings.

Rules: pure; whoever calls says how the world is looked at. On the safe side: a warning that is not true is worse than
one that is missing.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from procreaper.errors import Level, Problem
from procreaper.plan import Process
from procreaper.planning import ProcessType
from procreaper.shell import program_of, variables_of

if TYPE_CHECKING:
    from procreaper.places import Keys
    from procreaper.settings import Settings

LOG_HINT = "name a file in a directory that you may write to"


class Look(NamedTuple):
    """How to look at the world: whether a program is found along a PATH, and whether a path exists.

    `refuses` tells why no file can be written at a path; None where one can.
    """

    finds_program: Callable[[str, str], bool]
    exists: Callable[[str], bool]
    refuses: Callable[[str], str | None] = lambda _: None


class Linter:
    """Collects what `check` warns of. `procfile` and `settings` give the places, `root` is the application root."""

    def __init__(self, look: Look, procfile: str, settings: Settings | None, root: str) -> None:
        self._look = look
        self._procfile = procfile
        self._settings = settings
        self._root = root
        self.problems: list[Problem] = []

    def lint(self, types: Iterable[ProcessType], processes: Iterable[Process]) -> None:
        """Look at all process types, and at those processes of theirs that would run."""
        by_type: dict[str, list[Process]] = {}
        for process in processes:
            by_type.setdefault(process.type, []).append(process)
        for kind in types:
            if kind.supervision is not None:
                self._lint_watch(kind)
            for process in by_type.get(kind.name, ())[:1]:
                self._lint_command(kind, process)
                self._lint_log(kind, process)

    def warn(self, kind: ProcessType, message: str, hint: str) -> None:
        """Add a warning at the place of the command of `kind`."""
        layers = None if kind.supervision is None else kind.supervision.layers
        if self._settings is not None and layers is not None and (layers.is_own("command") or not kind.line):
            self.problems.append(self._settings.problem(layers.keys("command"), message, hint, "warning"))
        else:
            self.problems.append(Problem(message, self._procfile, kind.line, hint, "warning"))

    def _lint_command(self, kind: ProcessType, process: Process) -> None:
        environment: Mapping[str, str] = process.env or {}
        command = process.command
        program = program_of(command) if isinstance(command, str) else command[0]
        if program is not None and not self._is_found(program, environment.get("PATH"), process.cwd):
            hint = "install it, or correct the name or the PATH"
            self.warn(kind, f"the program `{program}` of `{kind.name}` is not found", hint)
        if not isinstance(command, str):
            for argument in command:
                match = re.fullmatch(r"\$\{?([A-Za-z_]\w*)\}?", argument, re.ASCII)
                if match is not None and match[1] in environment:
                    message = f"`{argument}` in the command of `{kind.name}` is passed on as it stands"
                    self.warn(kind, message, "no shell reads a command that is a list; write it as a string")
            return
        for name in variables_of(command):
            if name not in environment:
                hint = f"set it in a .env file, or write `${{{name}:-}}` if it may be empty"
                self.warn(kind, f"`{kind.name}` uses `${name}`, which is not set", hint)

    def _is_found(self, program: str, path: str | None, cwd: str | None) -> bool:
        if "/" in program:
            # What a relative path means depends on what the command did before.
            return not program.startswith("/") or self._look.exists(program)
        if path is None:
            return True
        directories = [posixpath.join(cwd or ".", directory) for directory in path.split(":")]
        return self._look.finds_program(program, ":".join(directories))

    def _lint_log(self, kind: ProcessType, process: Process) -> None:
        reason = None if process.log is None else self._look.refuses(process.log.path)
        if reason is not None and self._settings is not None:
            self.problems.append(log_problem(kind, process, self._settings, reason, "warning"))

    def _lint_watch(self, kind: ProcessType) -> None:
        if kind.supervision is None or self._settings is None:
            return
        layers = kind.supervision.layers
        for index, path in enumerate(layers.watch.paths or ()):
            fixed = re.split(r"[*?\[{]", path, maxsplit=1)[0]
            if fixed != path:
                fixed = posixpath.dirname(fixed)
            if fixed and not self._look.exists(posixpath.join(self._root, fixed)):
                keys = (*layers.keys("watch", "paths"), index)
                message = f"`{path}`, which `{kind.name}` watches, does not exist"
                hint = "create it, or correct the path"
                self.problems.append(self._settings.problem(keys, message, hint, "warning", path))


def log_problem(kind: ProcessType, process: Process, settings: Settings, reason: str, level: Level) -> Problem:
    """A log that cannot be written, at the place where it is set."""
    keys: Keys = (
        ("process", kind.name, "log") if kind.supervision is None else kind.supervision.layers.keys("log", "file")
    )
    path = "" if process.log is None else process.log.path
    message = f"`{path}`, the log of `{process.name}`, cannot be written: {reason}"
    return settings.problem(keys, message, LOG_HINT, level)
