"""TOML for messages: the line of each key, which tomllib does not report, and the spelling of keys and values.

Rules: pure. Lines are needed only for a message, so tomllib is imported at the first use. Only tomllib decides where a
statement ends; this module knows nothing of TOML's quotes, escapes and brackets. A spelling is for people to read; it
need not be valid TOML.

Theory of operation. A text is split into statements. A statement starts with one line and grows line by line until
tomllib accepts it. A header names the table of the assignments below it. To save time, tomllib is called only after a
line that could end a statement, and all calls together may read only a few times the size of the file. When this limit
is reached, the statements that follow have no line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

Keys = tuple[str | int, ...]

# The characters that all attempts together may read: this many times the text, and at least this number.
ATTEMPTS, ATTEMPTS_AT_LEAST = 4, 1 << 18
# A line that could end a statement of several lines.
_ENDS = r"""(\]|\}|\"{3}|'{3})\s*(,\s*|#.*)?$"""


class Span(NamedTuple):
    """The lines of a statement, counted from 1, including the last.

    The first `depth` keys of the statement's paths are those of its table.
    """

    first: int
    last: int
    depth: int = 0


class Statements(NamedTuple):
    """The statements of a text: for each path of keys, the first statement that mentions it.

    `open` is the first line of a statement that never ends, if there is one.
    """

    lines: tuple[str, ...]
    spans: dict[Keys, Span]
    open: int | None


@lru_cache(maxsize=4)
def find_statements(text: str) -> Statements:
    """Find the statements of a text, which need not be valid TOML."""
    lines = tuple(text.split("\n"))
    spans: dict[Keys, Span] = {}
    table: Keys = ()
    unfinished = None
    for span, content in _split(lines):
        if content is None:
            unfinished = unfinished or span.first
            continue
        if lines[span.first - 1].lstrip().startswith("["):
            table = _keys_of_header(content)
            for length in range(1, len(table) + 1):
                spans.setdefault(table[:length], span)
        else:
            for keys in _paths(content):
                spans.setdefault(table + keys, span._replace(depth=len(table)))
    return Statements(lines, spans, unfinished)


def find_line(text: str, keys: Keys, value: object = None) -> int | None:
    """Return the line of a key, or of the nearest enclosing table; None if neither is in the text.

    For a list of several lines, return the line of its item `value`, a scalar.
    """
    statements = find_statements(text)
    span = None
    depth = len(keys)
    while depth and (span := statements.spans.get(keys[:depth])) is None:
        depth -= 1
    if span is None:
        return None
    if span.first == span.last:
        return span.first
    return _find_line_within(statements.lines, span, keys[span.depth :], value)


def format_keys(keys: Iterable[str | int]) -> str:
    """Format a path of keys as in the file: ``process.web.restart``."""
    parts = []
    for key in keys:
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif re.fullmatch(r"[A-Za-z0-9_-]+", key):
            parts.append(f".{key}")
        else:
            parts.append("." + quote_text(key))
    return "".join(parts).removeprefix(".")


def quote_text(text: str) -> str:
    """Put a text in double quotes, with TOML's escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def format_value(value: object) -> str:
    """Format a value as TOML, in one line."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quote_text(value)
        case list():
            return f"[{', '.join(map(format_value, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {format_value(item)}' for key, item in value.items())} }}"
        case _:
            return str(value)


def _find_line_within(lines: tuple[str, ...], span: Span, keys: Keys, value: object) -> int:
    """Return the line of the last key, and then of the value, in a statement of several lines."""
    line = span.first
    for key in keys:
        if isinstance(key, str):
            line = _search(lines, line, span.last, rf"""(?<![\w-]){re.escape(key)}["']?\s*[=.]""") or line
    if isinstance(value, str):
        quoted = re.escape(value.replace("\\", "\\\\").replace('"', '\\"'))
        return _search(lines, line, span.last, rf"""(["']){quoted}\1""") or line
    if isinstance(value, bool) or value is None:
        return line if value is None else _search(lines, line, span.last, str(value).lower()) or line
    if isinstance(value, int | float):
        return _search(lines, line, span.last, rf"(?<![\w.-]){re.escape(str(value))}(?![\w.-])") or line
    return line


def _search(lines: tuple[str, ...], first: int, last: int, pattern: str) -> int | None:
    """Return the first of some lines that matches a pattern."""
    compiled = re.compile(pattern)
    return next((number for number in range(first, last + 1) if compiled.search(lines[number - 1])), None)


def _split(lines: tuple[str, ...]) -> Iterator[tuple[Span, dict[str, object] | None]]:
    """Yield each statement that is not blank, with its content; None for a line that starts no valid statement."""
    budget = ATTEMPTS_AT_LEAST + ATTEMPTS * sum(map(len, lines))
    ends = re.compile(_ENDS)
    first = 0
    while first < len(lines):
        if not lines[first].strip() or lines[first].lstrip().startswith("#"):
            first += 1
            continue
        content = _parse(lines[first])
        budget -= len(lines[first])
        last, size = first, len(lines[first])
        while content is None and last + 1 < len(lines) and budget > 0:
            last += 1
            size += len(lines[last]) + 1
            budget -= 1
            if ends.search(lines[last]):
                content = _parse("\n".join(lines[first : last + 1]))
                budget -= size
        if content is None:
            yield Span(first + 1, first + 1), None
            first += 1
        else:
            yield Span(first + 1, last + 1), content
            first = last + 1


def _parse(text: str) -> dict[str, object] | None:
    """Parse a text; None if it is not valid TOML."""
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        # The error of tomllib is a ValueError, and so is that of an integer with too many digits.
        return None


def _keys_of_header(content: dict[str, object]) -> Keys:
    keys: list[str | int] = []
    inner: object = content
    while isinstance(inner, dict) and inner:
        key, inner = next(iter(inner.items()))
        keys.append(key)
    return tuple(keys)


def _paths(content: object, before: Keys = ()) -> Iterator[Keys]:
    """Yield the paths of all keys in a statement."""
    waiting = [(before, content)]
    while waiting:
        keys, inner = waiting.pop()
        if keys:
            yield keys
        if isinstance(inner, dict):
            waiting += [((*keys, key), item) for key, item in inner.items()]
