"""Read `.foreman`, the defaults for foreman's options, in the current directory.

Rules: foreman reads the file as YAML, and accepts any long option in it. This module accepts only flat ``key: value``
lines. Any other line is an error that names the line; the module never guesses.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from procreaper.errors import Problem, reason_of
from procreaper.project.configure import raise_errors
from procreaper.project.options import FOREMAN
from procreaper.project.read_file import read_file

PATH = FOREMAN
# The options of foreman that procreaper supports, and those that only foreman's export uses.
KNOWN = ("app", "color", "env", "formation", "log", "port", "procfile", "root", "timeout", "timestamp", "user")
IGNORED = ("run", "template")
# The options that each command uses; other commands use only FILES.
FILES = ("env", "procfile", "root")
TAKEN = {
    "start": (*FILES, "color", "formation", "port", "timeout", "timestamp"),
    "export": (*FILES, "app", "formation", "log", "port", "user"),
}
FLAGS = ("color", "timestamp")
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")
NUMBERS = {"port": r"[0-9]{1,5}", "timeout": r"[0-9]+(\.[0-9]+)?"}
# A plain value must not begin with a character that begins a list, a mapping, a block or a null in YAML.
LINE = r"""(?!.*\0)([A-Za-z_-]+)[ \t]*:[ \t]+(?:"([^"\\]*)"|'([^']*)'|([^\s"'\[{&*!|>%@`~#-].*?))(?:[ \t]+#.*)?"""
REMEDY = "give this option on the command line instead"
# Old releases of foreman had this option. Types that it did not list ran once.
CONCURRENCY = "foreman calls it `formation` now: write `formation: all=1,{0}`"


class Defaults(NamedTuple):
    """The value of each option, the line of each option, and the warnings."""

    values: dict[str, str | bool] = {}
    lines: dict[str, int] = {}
    problems: tuple[Problem, ...] = ()


def read_defaults() -> Defaults:
    """Read the file; return empty defaults if it does not exist. Raises ConfigError if it is unusable."""
    try:
        lines = re.split("\r\n?|\n", read_file(PATH).decode("utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError):
        # foreman too ignores a directory of this name.
        return Defaults()
    except OSError as error:
        message = f"cannot be read: {reason_of(error)}"
        return Defaults(problems=raise_errors([Problem(message, PATH, hint="look at its permissions, or remove it")]))
    except UnicodeDecodeError:
        return Defaults(problems=raise_errors([Problem("is not a text in UTF-8", PATH, hint="save it in UTF-8")]))
    defaults = Defaults({}, {})
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#") and line.strip() != "---":
            _read_line(line, number, defaults, problems)
    return defaults._replace(problems=raise_errors(problems))


def _read_line(line: str, number: int, defaults: Defaults, problems: list[Problem]) -> None:
    match = re.fullmatch(LINE, line.rstrip())
    if match is None:
        problems.append(Problem("only flat `key: value` lines are understood here", PATH, number, hint=REMEDY))
        return
    key, value = match[1], next(filter(None, match.groups()[1:]), "")
    if key in IGNORED:
        return
    if key not in KNOWN:
        hint = CONCURRENCY.format(value) if key == "concurrency" else f"known are {', '.join(KNOWN)}"
        problems.append(Problem(f"`{key}` is not an option of foreman; ignored", PATH, number, hint, "warning"))
    elif key in FLAGS and value.lower() not in TRUE + FALSE:
        problems.append(Problem(f"`{key}` is true or false, not `{value}`", PATH, number, hint=f"write `{key}: true`"))
    elif key in NUMBERS and not re.fullmatch(NUMBERS[key], value):
        example = f"write `{key}: {5000 if key == 'port' else 5}`"
        problems.append(Problem(f"`{key}` is a number, not `{value}`", PATH, number, hint=example))
    else:
        defaults.values[key] = value.lower() in TRUE if key in FLAGS else value
        defaults.lines[key] = number
