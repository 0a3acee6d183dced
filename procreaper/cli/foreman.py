"""`.foreman`: defaults for the options of foreman, in the current directory.

Rules: foreman reads the file as YAML and takes any long option from it. Only flat ``key: value`` lines are understood
here; anything else is an error that names the line, never a guess.
"""

from __future__ import annotations

from procreaper.config import refuse_errors
from procreaper.errors import Problem

PATH = ".foreman"
# Options of foreman that mean something here, and those that are for its export only.
KNOWN = ("color", "env", "formation", "port", "procfile", "root", "timeout", "timestamp")
IGNORED = ("app", "log", "run", "template", "user")
FLAGS = ("color", "timestamp")
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")
# What begins a list, a mapping or a block in YAML.
SYNTAX = "[{&*!|>-"
REMEDY = "give this option on the command line instead"


def read_defaults() -> tuple[dict[str, str | bool], tuple[Problem, ...]]:
    """The defaults, and the warnings. Nothing where there is no such file. Raises ConfigError for an unusable one."""
    try:
        with open(PATH, encoding="utf-8-sig") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        return {}, ()
    except OSError as error:
        message = f"cannot be read: {(error.strerror or str(error)).lower()}"
        return {}, refuse_errors([Problem(message, PATH, hint="look at its permissions, or remove it")])
    except UnicodeDecodeError:
        return {}, refuse_errors([Problem("is not a text in UTF-8", PATH, hint="save it in UTF-8")])
    defaults: dict[str, str | bool] = {}
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#") and line.strip() != "---":
            _read_line(line, number, defaults, problems)
    return defaults, refuse_errors(problems)


def _read_line(line: str, number: int, defaults: dict[str, str | bool], problems: list[Problem]) -> None:
    key, colon, value = (part.strip() for part in line.partition(":"))
    if value[:1] in ("'", '"') and value.count(value[0]) == 2 and value.endswith(value[0]):
        value = value[1:-1]
    elif value[:1] not in ("'", '"'):
        value = value.partition(" #")[0].rstrip()
    else:
        value = ""
    if not colon or not value or line[:1].isspace() or value[0] in SYNTAX:
        problems.append(Problem("only flat `key: value` lines are understood here", PATH, number, hint=REMEDY))
    elif key in IGNORED:
        return
    elif key not in KNOWN:
        hint = f"known are {', '.join(KNOWN)}"
        problems.append(Problem(f"`{key}` is not an option of foreman; ignored", PATH, number, hint, "warning"))
    elif key not in FLAGS:
        defaults[key] = value
    elif value.lower() in TRUE + FALSE:
        defaults[key] = value.lower() in TRUE
    else:
        problems.append(Problem(f"`{key}` is true or false, not `{value}`", PATH, number, hint=f"write `{key}: true`"))
