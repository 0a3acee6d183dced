"""A ``.env`` file as python-dotenv reads it: ``export``, values of many lines, ``${NAME}``, ``#`` after a blank only.

Rules: pure, bytes in, values out; the only module that imports python-dotenv, and only where ``[env] parser`` asks for
it. As in `environment`, a message names a variable, and those to which it refers, but shows nothing else of its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, NamedTuple, cast

from procreaper.errors import Problem
from procreaper.project.env_files import bare_reference
from procreaper.project.procfile import Environment, decode


class _Stream(NamedTuple):
    """A text as the stream that python-dotenv wants."""

    text: str

    def read(self) -> str:
        return self.text


def parse_dotenv(raw: bytes, path: str, environment: Mapping[str, str]) -> Environment:
    """Read a file in the dialect of python-dotenv; ``${NAME}`` may refer to `environment` and to earlier lines.

    Errors: python-dotenv is not installed, a line that it cannot read, bytes that are not UTF-8, a NUL. Warning: a name
    without a value, a reference without braces to a variable that is set.
    """
    try:
        from dotenv.parser import parse_stream
        from dotenv.variables import parse_variables
    except ImportError:
        hint = "pip install 'procreaper[dotenv]', or remove `parser` from `[env]` in .reaper.toml"
        return Environment(
            path, {}, {}, (Problem("python-dotenv, which is to read it, is not installed", path, None, hint),)
        )
    lines, problems = decode(raw, path)
    values: dict[str, str] = {}
    places: dict[str, int] = {}
    for binding in parse_stream(cast("IO[str]", _Stream("\n".join(lines)))):
        # What stands before it, blank lines and comments, belongs to a binding too.
        skipped = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string.count("\n", 0, skipped)
        if binding.error:
            problems.append(Problem("python-dotenv cannot read this line", path, line, 'write NAME="value"'))
        elif binding.key is not None and binding.value is None:
            message = f"`{binding.key}` has no value and is ignored"
            problems.append(Problem(message, path, line, f"for an empty value write {binding.key}=", "warning"))
        elif binding.key is not None and binding.value is not None:
            known = {**environment, **values}
            value = "".join(atom.resolve(known) for atom in parse_variables(binding.value))
            if "\0" in binding.key + value or "=" in binding.key or not binding.key:
                problems.append(Problem("a NUL byte, or a name with `=` or none", path, line, "write NAME=value"))
                continue
            if reference := bare_reference(binding.original.string.partition("=")[2], known):
                message = f"`{binding.key}` is passed on with `${reference}` in it"
                hint = f"write `${{{reference}}}` to have it replaced, or use single quotes to keep it"
                problems.append(Problem(message, path, line, hint, "warning"))
            values[binding.key] = value
            places[binding.key] = line
    return Environment(path, values, places, tuple(problems))
