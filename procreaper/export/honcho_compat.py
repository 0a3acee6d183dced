"""The differences between our exports and honcho's, and values that cannot be exported.

Rules: pure. Without a `.reaper.toml`, the four formats of honcho look like honcho's. A value that would break there is
written in another form, with a warning and the reason. The changes that make a stop reach the program, and not only the
shell above it, cause no warning: docs/export.md lists them.
"""

from __future__ import annotations

import re
import shlex

from procreaper.errors import ConfigError, Problem
from procreaper.export.exporter import App, Exported
from procreaper.project.shell import BUILTINS

# The names that /bin/sh accepts for variables; it drops others before the command sees them.
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
# Except tab and line feed.
CONTROL = r"[\x00-\x08\x0b-\x1f\x7f]"
# Words, paths, options and quotes: they mean the same to every shell, alone and behind another program.
PLAIN = r"""(?:[\w@%+=:,./*? -]|'[^'\\\n]*'|"[^"\\$`\n]*")+"""

# Characters that no user name has, and that a shell would interpret.
USER = r"[^\w.:@+-]"
# Builtins that also exist as programs.
PROGRAMS_TOO = frozenset({"echo", "false", "kill", "printf", "pwd", "test", "true"})


def differs(what: str, why: str) -> Problem:
    """Return a warning that `what` is not written as by honcho; `why` says what honcho's form would cause."""
    return Problem(f"{what} is not written as honcho does: {why}", level="warning")


def options_left_out(app: App, target: str) -> list[Problem]:
    """Return a warning for each given option that has no meaning for an init system."""
    if "image" not in app.is_given:
        return []
    message = f"--image is left out: {target} has nothing like it"
    return [Problem(message, hint="it is for compose and kubernetes", level="warning")]


def environment_of(one: Exported, problems: list[Problem]) -> dict[str, str]:
    """Return the variables that a shell passes on, and add a warning for each of the others."""
    environment = {}
    for name, value in one.environment.items():
        if re.fullmatch(VARIABLE, name):
            environment[name] = value
        else:
            message = f"the variable `{name}` is left out: no shell passes such a name on"
            problems.append(Problem(message, hint="use only letters a-z, digits and `_` in it", level="warning"))
    return environment


def is_plain(command: str) -> bool:
    """Return whether a command is a single program with arguments, so that `exec` can precede it."""
    if not command.strip() or re.fullmatch(PLAIN, command, re.ASCII) is None:
        return False
    first = shlex.split(command)[0]
    return "=" not in first and (first not in BUILTINS or first in PROGRAMS_TOO)


def refuse(app: App, target: str, *, forbidden: str = r"[\x00-\x1f\x7f]", of_name: str = "") -> None:
    """Raise ConfigError for everything in this app that would break the files of the target.

    These are: `forbidden` in names and paths, which the files contain unquoted; `of_name` in the name of the app; and
    control characters in commands and values, other than tab and line feed.
    """
    problems = []
    places = {"-a": app.name, "-u": app.user, "-l": app.log, "-s": app.shell, "-d": app.root}
    for one in app.processes:
        places[f"`cwd` of `{one.process.type}`:"] = one.process.cwd or ""
        places[f"`log` of `{one.process.type}`:"] = "" if one.process.log is None else one.process.log.path
    patterns = {"-a": of_name or forbidden, "-u": USER}
    for option, text in places.items():
        if re.search(forbidden, text) or re.search(patterns.get(option, forbidden), text):
            hint = "use only letters, digits, `-`, `_`, `.` and, in paths, `/`"
            if option == "-a":
                hint = "give the app another name with `-a NAME`"
            problems.append(Problem(f"{option} {text!r} cannot be written for {target}", hint=hint))
    for one in app.processes:
        texts = {f"the command of `{one.process.type}`": one.script}
        texts.update({f"the value of `{name}`": value for name, value in one.environment.items()})
        for what, text in texts.items():
            if re.search(CONTROL, text):
                message = f"{what} has a control character, which cannot be written for {target}"
                problems.append(Problem(message, hint="leave it out, or let the program make it"))
    if problems:
        raise ConfigError(dict.fromkeys(problems))
