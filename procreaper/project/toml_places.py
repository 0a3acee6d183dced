"""Where in a TOML file each key stands; tomllib does not tell.

Rules: pure, and asked only when there is a problem to place. tomllib is the judge of what a statement is, so that this
module knows nothing of TOML's quotes, escapes and brackets.

Theory of operation. A text is split into statements: from its first line on, a statement grows until tomllib accepts it
alone. A header gives the table that the next assignments belong to. Growing is tried only where a line could end
something, and all attempts together may read only a few times the size of the file; where that is not enough, what
follows has no place of its own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

Keys = tuple[str | int, ...]

# What all attempts may read: so many times the text, and so much in any case.
ATTEMPTS, ATTEMPTS_AT_LEAST = 4, 1 << 18
# A line that could end a statement which did not end in its first line.
_ENDS = re.compile(r"""(\]|\}|\"{3}|'{3})\s*(,\s*|#.*)?$""")


class Span(NamedTuple):
    """The lines of a statement, counted from 1, the last one included; `depth` keys of its path are its table's."""

    first: int
    last: int
    depth: int = 0


class Places(NamedTuple):
    """The statement that first mentions each key path; `open` is the line of the one that never ends, if there is."""

    lines: tuple[str, ...]
    spans: dict[Keys, Span]
    open: int | None


@lru_cache(maxsize=4)
def find_places(text: str) -> Places:
    """Find all statements of a text; it need not be valid."""
    lines = tuple(text.split("\n"))
    spans: dict[Keys, Span] = {}
    table: Keys = ()
    unfinished = None
    for span, content in _statements(lines):
        if content is None:
            unfinished = unfinished or span.first
            continue
        if lines[span.first - 1].lstrip().startswith("["):
            table = _header(content)
            for length in range(1, len(table) + 1):
                spans.setdefault(table[:length], span)
        else:
            for keys in _paths(content):
                spans.setdefault(table + keys, span._replace(depth=len(table)))
    return Places(lines, spans, unfinished)


def find_line(text: str, keys: Keys, value: object = None) -> int | None:
    """The line of a key, or of the nearest table around it; of `value`, a scalar, where a list stands in many lines."""
    places = find_places(text)
    span = None
    depth = len(keys)
    while depth and (span := places.spans.get(keys[:depth])) is None:
        depth -= 1
    if span is None:
        return None
    if span.first == span.last:
        return span.first
    return _line_within(places.lines, span, keys[span.depth :], value)


def _line_within(lines: tuple[str, ...], span: Span, keys: Keys, value: object) -> int:
    """The line in a statement of many lines in which the last of the keys, and then the value, is found."""
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
    found = re.compile(pattern)
    return next((number for number in range(first, last + 1) if found.search(lines[number - 1])), None)


def _statements(lines: tuple[str, ...]) -> Iterator[tuple[Span, dict[str, object] | None]]:
    """Each statement that is not blank, with what it says; None for a line that begins nothing that ends."""
    budget = ATTEMPTS_AT_LEAST + ATTEMPTS * sum(map(len, lines))
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
            if _ENDS.search(lines[last]):
                content = _parse("\n".join(lines[first : last + 1]))
                budget -= size
        if content is None:
            yield Span(first + 1, first + 1), None
            first += 1
        else:
            yield Span(first + 1, last + 1), content
            first = last + 1


def _parse(text: str) -> dict[str, object] | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        # tomllib's own error is a ValueError, and so is that of an integer with too many digits.
        return None


def _header(content: dict[str, object]) -> Keys:
    keys: list[str | int] = []
    inner: object = content
    while isinstance(inner, dict) and inner:
        key, inner = next(iter(inner.items()))
        keys.append(key)
    return tuple(keys)


def _paths(content: object, before: Keys = ()) -> Iterator[Keys]:
    """The paths of all keys in a statement."""
    waiting = [(before, content)]
    while waiting:
        keys, inner = waiting.pop()
        if keys:
            yield keys
        if isinstance(inner, dict):
            waiting += [((*keys, key), item) for key, item in inner.items()]
