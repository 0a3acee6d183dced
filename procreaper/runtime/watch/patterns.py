"""Parse the `watch` settings: paths, patterns with braces, and patterns of files to ignore.

Rules: pure; strings in, values out; `matcher` says what they mean. Paths are absolute and normalized. The root
directory is the empty string here, so that every path is its directory, a slash and a name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from procreaper.core.plan import Watch
from procreaper.runtime.watch.gitignore import IgnoreRules, Pattern, glob_to_regex, has_wildcard, unescape


class WatchedPath(NamedTuple):
    """A watched path: all files below `base` or, with a `pattern`, the files that match it."""

    base: str
    pattern: Pattern | None = None
    # Expressions for the directories below `base` that may lead to a match; None: any directory may.
    leading: tuple[str, ...] | None = None


def parse_watch_path(root: str, entry: str) -> Iterator[WatchedPath]:
    """Parse one entry of `paths`, or of `-w`."""
    for text in expand_braces(entry):
        if not has_wildcard(text):
            yield WatchedPath(resolve_path(root, unescape(text)))
            continue
        components = text.removesuffix("/").split("/")
        fixed = 0
        while not has_wildcard(components[fixed]):
            fixed += 1
        tail = components[fixed:]
        base = resolve_path(root, unescape("/".join(components[:fixed])) or ("/" if text.startswith("/") else ""))
        # A pattern without a slash is a name at any depth.
        pattern = Pattern.of(("" if len(components) == 1 else "/") + "/".join(tail) + "/" * text.endswith("/"))
        if pattern is not None:
            leading = _list_leading(tail) if pattern.anchored else None
            yield WatchedPath(base, pattern, leading)


def _list_leading(components: list[str]) -> tuple[str, ...] | None:
    """Return expressions for the directories that may lead to a match; None if any directory may."""
    sources = [""]
    for number, component in enumerate(components):
        if component.startswith("**") and not component.strip("*"):
            # From here on, the match is at any depth; at the beginning, that means anywhere.
            return (*sources, glob_to_regex("/".join(components[: number + 1])) or "(?!)") if number else None
        if number + 1 < len(components):
            sources.append(glob_to_regex("/".join(components[: number + 1])) or "(?!)")
    return tuple(sources)


def build_ignore_rules(watch: Watch, bases: Iterable[str]) -> list[IgnoreRules]:
    """Build the rules from `ignore`, in the order in which they decide."""
    root = strip_root(watch.root)
    inside = tuple(base + "/" for base in (root, *bases) if base)
    found: list[tuple[str, Pattern | None]] = []
    for entry in watch.ignore:
        for text in expand_braces(entry.removeprefix("!")):
            directory, pattern = _split_pattern(text, root, inside)
            found.append((directory, Pattern.of(pattern, negated=entry.startswith("!"))))
    rules = [
        IgnoreRules(directory, [pattern for _, pattern in pairs])
        for directory, pairs in groupby(found, key=lambda pair: pair[0])
    ]
    return rules[::-1]


def _split_pattern(pattern: str, root: str, inside: tuple[str, ...]) -> tuple[str, str]:
    """Return the directory that a pattern applies to, and the pattern as in an ignore file of that directory."""
    if pattern.startswith(inside):
        return "", pattern
    directory = root
    first, slash, rest = pattern.partition("/")
    while slash and first in (".", ".."):
        directory = parent_of(directory) if first == ".." else directory
        pattern = "/" + rest
        first, slash, rest = rest.partition("/")
    return directory, pattern


def expand_braces(text: str) -> Iterator[str]:
    """Yield a text for each alternative of `{a,b}`. Braces without a comma are ordinary characters."""
    depth = start = position = 0
    commas: list[int] = []
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == "{":
            depth += 1
            if depth == 1:
                start, commas = position, []
        elif character == "," and depth == 1:
            commas.append(position)
        elif character == "}" and depth:
            depth -= 1
            if depth == 0 and commas:
                ends = [*commas, position]
                for left, right in zip([start, *commas], ends, strict=True):
                    yield from expand_braces(text[:start] + text[left + 1 : right] + text[position + 1 :])
                return
        position += 1
    yield text


def strip_root(directory: str) -> str:
    """Return a directory in the form of this package: the root directory is the empty string."""
    return "" if directory == "/" else directory


def resolve_path(root: str, path: str) -> str:
    """Return the absolute path for a path from the root of a watch, in the form of this package."""
    # Like POSIX, `normpath` keeps two leading slashes.
    return strip_root("/" + posixpath.normpath(posixpath.join(root, path)).lstrip("/"))


def parent_of(path: str) -> str:
    """Return the directory that contains a path."""
    return path.rpartition("/")[0]
