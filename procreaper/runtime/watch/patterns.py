"""What is written where somebody says what to watch: paths, patterns with braces, and what to ignore among those.

Rules: pure; strings in, values out; `watching` says what they mean. Paths are absolute and normalized. Within, the root
directory is the empty string, so that every path is its directory, a slash and a name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from procreaper.core.plan import Watch
from procreaper.runtime.watch.gitignore import Pattern, Rules, has_wildcard, translate, unescape


class Watched(NamedTuple):
    """One thing that is watched: all that is below `base` or, if there is a `pattern`, what matches it."""

    base: str
    pattern: Pattern | None = None
    # Expressions for the directories, from `base` on, that lead to a match; None: any may.
    leading: tuple[str, ...] | None = None


def parse_watch_path(root: str, written: str) -> Iterator[Watched]:
    """What is watched for one text in `paths`, or after `-w`."""
    for text in expand_braces(written):
        if not has_wildcard(text):
            yield Watched(resolve(root, unescape(text)))
            continue
        components = text.removesuffix("/").split("/")
        fixed = 0
        while not has_wildcard(components[fixed]):
            fixed += 1
        tail = components[fixed:]
        base = resolve(root, unescape("/".join(components[:fixed])) or ("/" if text.startswith("/") else ""))
        # Only a pattern of one component without any slash is a name for any depth.
        pattern = Pattern.of(("" if len(components) == 1 else "/") + "/".join(tail) + "/" * text.endswith("/"))
        if pattern is not None:
            leading = _leading(tail) if pattern.anchored else None
            yield Watched(base, pattern, leading)


def _leading(components: list[str]) -> tuple[str, ...] | None:
    sources = [""]
    for number, component in enumerate(components):
        if component.startswith("**") and not component.strip("*"):
            # From here on at any depth, and from the beginning that is anywhere.
            return (*sources, translate("/".join(components[: number + 1])) or "(?!)") if number else None
        if number + 1 < len(components):
            sources.append(translate("/".join(components[: number + 1])) or "(?!)")
    return tuple(sources)


def ignore_rules(watch: Watch, bases: Iterable[str]) -> list[Rules]:
    """The rules that `ignore` makes, those that decide first first."""
    root = within(watch.root)
    inside = tuple(base + "/" for base in (root, *bases) if base)
    placed: list[tuple[str, Pattern | None]] = []
    for written in watch.ignore:
        for one in expand_braces(written.removeprefix("!")):
            directory, pattern = _place(one, root, inside)
            placed.append((directory, Pattern.of(pattern, negated=written.startswith("!"))))
    rules = [
        Rules(directory, [pattern for _, pattern in some])
        for directory, some in groupby(placed, key=lambda one: one[0])
    ]
    return rules[::-1]


def _place(pattern: str, root: str, inside: tuple[str, ...]) -> tuple[str, str]:
    """The directory from which a pattern counts, and the pattern as one in an ignore file of that directory."""
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
    """A text for each way to choose from `{a,b}` in it; braces without a comma are ordinary characters."""
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


def within(directory: str) -> str:
    """A directory as it is called within."""
    return "" if directory == "/" else directory


def resolve(root: str, path: str) -> str:
    """A path from the root of a watch, as it is called within."""
    # POSIX leaves two leading slashes alone, and so does `normpath`.
    return within("/" + posixpath.normpath(posixpath.join(root, path)).lstrip("/"))


def parent_of(path: str) -> str:
    """The directory that a path is in."""
    return path.rpartition("/")[0]
