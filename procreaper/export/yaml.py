r"""Write YAML, in a small subset: mappings, lists and scalars that every parser reads alike.

Rules: a text that could be read as another type is in double quotes, with escapes that JSON and YAML share. So the
version of YAML does not matter, in which `no` may be a boolean and `22:22` a number. A list of scalars is on one line
if it fits, as is usual for commands in these formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "bool | int | str | Sequence[Value] | Mapping[str, Value] | None"
WIDTH = 100
# Words of letters, digits and a few signs, with single blanks between them: `./app` and `/srv`, but no `.5` or `-x`.
# And durations.
_PLAIN = re.compile(r"(?:[A-Za-z/]|\./)[\w./@%+=-]*(?: [\w./@%+=-]+)*|[0-9]+m?s", re.ASCII)
# What YAML 1.1 takes for a boolean or for nothing.
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"})
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def dump(value: Value) -> str:
    """One document.

    >>> print(dump({"name": "shop", "on": ["a", 1], "env": {"A": "yes"}}), end="")
    name: shop
    "on": ["a", 1]
    env:
      A: "yes"
    """
    return "".join(f"{line}\n" for line in _lines(value))


def dump_all(values: Iterable[Value]) -> str:
    """Several documents, one after the other."""
    return "---\n".join(map(dump, values))


def _lines(value: Value) -> Iterator[str]:
    if (text := _in_line(value)) is not None:
        yield text
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if (text := _in_line(item)) is not None:
                yield f"{_scalar(key)}: {text}"
            else:
                yield f"{_scalar(key)}:"
                yield from (f"  {line}" for line in _lines(item))
    elif isinstance(value, Sequence):
        for item in value:
            for number, line in enumerate(_lines(item)):
                yield f"  {line}" if number else f"- {line}"


def _in_line(value: Value) -> str | None:
    """A value as it stands behind its key; None for what takes lines of its own."""
    if isinstance(value, Mapping):
        return None if value else "{}"
    if isinstance(value, str) or not isinstance(value, Sequence):
        return _scalar(value)
    if any(isinstance(item, Mapping) or (isinstance(item, Sequence) and not isinstance(item, str)) for item in value):
        return None
    text = f"[{', '.join(_quoted(item) if isinstance(item, str) else _scalar(item) for item in value)}]"
    return text if len(text) <= WIDTH else None


def _scalar(value: Value) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str() if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        case str():
            return "." if value == "." else _quoted(value)
        case _:
            return str(value)


def _quoted(text: str) -> str:
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
