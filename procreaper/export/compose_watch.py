"""Convert our watched paths and patterns to those of compose: paths, each with patterns below it.

Rules: pure, works on names only. Our patterns are those of `watch.patterns`; compose's patterns are those of a
`.dockerignore` in the watched path. compose cannot include an ignored file again.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from procreaper.core.plan import Watch
from procreaper.runtime.watch.gitignore import has_wildcard, unescape
from procreaper.runtime.watch.patterns import expand_braces


class Rule(NamedTuple):
    """A path to watch. `include` is the pattern for the files below it; None means all files."""

    path: str
    include: str | None
    ignore: tuple[str, ...]


def rules_of(watch: Watch) -> list[Rule]:
    """Return the rules for one process.

    >>> rules_of(Watch("/srv", ("app", "config/*.toml"), ("*_test.py",)))[1]
    Rule(path='./config', include='*.toml', ignore=('**/*_test.py',))
    """
    paths = dict.fromkeys(_split(text) for written in watch.paths for text in expand_braces(written))
    ignored = [text for written in watch.ignore if not written.startswith("!") for text in expand_braces(written)]
    return [
        Rule(
            path, include, tuple(dict.fromkeys(below for text in ignored if (below := _below(path, text)) is not None))
        )
        for path, include in paths
    ]


def _split(text: str) -> tuple[str, str | None]:
    """Return the path to watch, and the pattern below it."""
    if not has_wildcard(text):
        return _local(unescape(text)), None
    components = text.removesuffix("/").split("/")
    if len(components) == 1:
        # A name, at any depth.
        return ".", f"**/{components[0]}"
    fixed = next(number for number, component in enumerate(components) if has_wildcard(component))
    base = unescape("/".join(components[:fixed])) or ("/" if text.startswith("/") else "")
    return _local(base), "/".join(components[fixed:])


def _local(path: str) -> str:
    plain = posixpath.normpath(path or ".")
    return plain if plain in (".", "..") or plain.startswith(("../", "/")) else f"./{plain}"


def _below(path: str, pattern: str) -> str | None:
    """Return an ignore pattern of the root relative to `path`; None if it matches nothing there."""
    plain = pattern.removesuffix("/")
    if "/" not in plain:
        return f"**/{plain}"
    anchored = plain.removeprefix("./").removeprefix("/")
    if path == "." or anchored.startswith("**/"):
        return anchored
    directory = f"{path.removeprefix('./')}/"
    return anchored.removeprefix(directory) if anchored.startswith(directory) else None
