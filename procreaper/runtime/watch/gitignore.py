"""Decide which files ignore files exclude, as git does, by names alone.

Rules: pure; strings in, answers out. Paths are absolute and normalized. A directory has no slash at its end, so the
root directory is the empty string.

Theory of operation. A question is about exactly one file or directory, not about the directories above it. The caller
goes down a path from the top and stops at the first ignored directory, as git does. So the caller knows which component
of a path matched, and can keep the answers for directories; a general library for gitignore matching does not offer
this. Plain names and `*.suffix` patterns are looked up in tables. The other patterns of a file form one regular
expression, whose first alternative is the last pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

WILDCARDS = frozenset("*?[")
SPECIAL = WILDCARDS | {"\\"}
# A line without the spaces at its end. If the first of these is escaped, it stays.
WITHOUT_TRAILING_SPACES = re.compile(r"((?:\\.|[^\\])*?) *", re.DOTALL)


class IgnoreFiles:
    """The known ignore files, by the directory that they apply to, and the patterns that apply `always`."""

    def __init__(self, always: Iterable[str] = ()) -> None:
        self._always = IgnoreRules("", map(Pattern.of, always))
        self._texts: dict[str, str] = {}
        self._rules: dict[str, IgnoreRules] = {}
        self._chains: dict[str, tuple[IgnoreRules, ...]] = {}

    def set_ignore_file(self, directory: str, text: str) -> bool:
        """Set the text of a directory's ignore file; empty if there is none. Return whether it has changed."""
        if self._texts.get(directory, "") == text:
            return False
        self._texts[directory] = text
        self._rules[directory] = IgnoreRules(directory, map(Pattern.of_line, text.removeprefix("\ufeff").split("\n")))
        self._chains.clear()
        return True

    def is_ignored(self, path: str, directory: str, name: str, *, is_directory: bool) -> bool:
        """Return whether exactly this file or directory is ignored."""
        for rules in self._chain(directory):
            verdict = rules.verdict(path, name, is_directory=is_directory)
            if verdict is not None:
                return verdict
        return False

    def filter_ignored(self, directory: str, names: Iterable[str]) -> frozenset[str]:
        """Return the ignored ones of these files of a directory."""
        return frozenset(
            name for name in names if self.is_ignored(f"{directory}/{name}", directory, name, is_directory=False)
        )

    def _chain(self, directory: str) -> tuple[IgnoreRules, ...]:
        """Return the rules that apply in a directory, the strongest first."""
        chain = self._chains.get(directory)
        if chain is None:
            chain = (self._always, *(self._rules[above] for above in walk_up(directory) if above in self._rules))
            self._chains[directory] = chain
        return chain


class IgnoreRules:
    """The patterns of one ignore file. The last one that matches decides."""

    def __init__(self, directory: str, patterns: Iterable[Pattern | None]) -> None:
        known = [pattern for pattern in patterns if pattern is not None]
        self._start = len(directory) + 1
        self._prefix = directory + "/"
        self._negated = [pattern.negated for pattern in known]
        self._for_directories = _Table(list(enumerate(known)))
        self._for_files = _Table([(rank, one) for rank, one in enumerate(known) if not one.only_directories])

    def verdict(self, path: str, name: str, *, is_directory: bool) -> bool | None:
        """Return whether exactly this file or directory is ignored; None if no pattern matches."""
        table = self._for_directories if is_directory else self._for_files
        rank = table.plain.get(name, -1)
        if table.suffixes and name.endswith(table.suffixes):
            rank = max(rank, table.rank_by_suffix(name))
        if table.names is not None and (match := table.names.fullmatch(name)):
            rank = max(rank, table.ranks_of_names[(match.lastindex or 0) - 1])
        if (
            table.paths is not None
            and path.startswith(self._prefix)
            and (match := table.paths.fullmatch(path, self._start))
        ):
            rank = max(rank, table.ranks_of_paths[(match.lastindex or 0) - 1])
        return None if rank < 0 else not self._negated[rank]


class Pattern(NamedTuple):
    """One line of an ignore file. An `anchored` pattern matches a path from the directory of the file, not a name."""

    glob: str
    regex: re.Pattern[str]
    anchored: bool
    only_directories: bool = False
    negated: bool = False

    @classmethod
    def of_line(cls, line: str) -> Pattern | None:
        """Parse a line as git does; None for an empty line, a comment, and a pattern that matches nothing."""
        line = line.removesuffix("\r")
        if line.startswith("#"):
            return None
        if match := WITHOUT_TRAILING_SPACES.fullmatch(line):
            line = match[1]
        return cls.of(line.removeprefix("!"), negated=line.startswith("!"))

    @classmethod
    def of(cls, text: str, *, negated: bool = False) -> Pattern | None:
        """Parse a pattern. A slash before its end anchors it to the directory of its ignore file."""
        glob = text.removesuffix("/")
        anchored = "/" in glob
        glob = glob.removeprefix("/")
        source = glob_to_regex(glob) if glob else None
        if source is None:
            return None
        return cls(glob, re.compile(source, re.DOTALL), anchored, text.endswith("/"), negated)


class _Table:
    """Patterns by the way to look them up, each with its rank: its position in the file."""

    def __init__(self, patterns: list[tuple[int, Pattern]]) -> None:
        self.plain: dict[str, int] = {}
        self._suffixes: dict[str, int] = {}
        names: list[tuple[int, Pattern]] = []
        for rank, pattern in patterns:
            if pattern.anchored:
                continue
            if not has_wildcard(pattern.glob):
                self.plain[unescape(pattern.glob)] = rank
            elif pattern.glob[0] == "*" and "\\" not in pattern.glob and not has_wildcard(pattern.glob[1:]):
                self._suffixes[pattern.glob[1:]] = rank
            else:
                names.append((rank, pattern))
        self.suffixes = tuple(self._suffixes)
        self.names, self.ranks_of_names = _combine(names)
        self.paths, self.ranks_of_paths = _combine([(rank, one) for rank, one in patterns if one.anchored])

    def rank_by_suffix(self, name: str) -> int:
        return max(rank for suffix, rank in self._suffixes.items() if name.endswith(suffix))


def _combine(patterns: list[tuple[int, Pattern]]) -> tuple[re.Pattern[str] | None, list[int]]:
    """Combine patterns into one expression, the last first. The number of the matching group leads to the rank."""
    if not patterns:
        return None, []
    latest = patterns[::-1]
    source = "|".join(f"({pattern.regex.pattern})" for _, pattern in latest)
    return re.compile(source, re.DOTALL), [rank for rank, _ in latest]


def walk_up(directory: str) -> Iterator[str]:
    """Yield a directory and all directories above it, up to the root."""
    yield directory
    while directory:
        directory = directory.rpartition("/")[0]
        yield directory


# Globs, in git's syntax.


def has_wildcard(glob: str) -> bool:
    """Return whether a glob has a wildcard that is not escaped."""
    if "\\" in glob:
        glob = re.sub(r"\\.", "", glob, flags=re.DOTALL)
    return not WILDCARDS.isdisjoint(glob)


def unescape(glob: str) -> str:
    """Return the name that a glob without wildcards stands for."""
    return re.sub(r"\\(.)", r"\1", glob, flags=re.DOTALL) if "\\" in glob else glob


def glob_to_regex(glob: str) -> str | None:
    """Return the regular expression for a glob; None if it matches nothing. It follows git's wildmatch.c."""
    parts: list[str] = []
    position, size = 0, len(glob)
    # Git compares the part before the first special character of a path separately. So the stars of `a**/b` are at the
    # beginning of the rest: the pattern matches `a/x/b`, and even `ab`.
    plain = "/" in glob
    while position < size:
        character = glob[position]
        start = position
        position += 1
        if character == "*":
            while position < size and glob[position] == "*":
                position += 1
            begins = start == 0 or glob[start - 1] == "/"
            if position - start == 1 or not ((begins or plain) and glob[position : position + 1] in ("", "/")):
                parts.append("[^/]*")
            elif position == size:
                parts.append(".+" if begins else ".*")
            else:
                parts.append("(?:.*/)?")
                position += 1
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            found = _translate_class(glob, position)
            if found is None:
                return None
            source, position = found
            parts.append(source)
        elif character == "\\":
            if position == size:
                return None
            parts.append(re.escape(glob[position]))
            position += 1
        else:
            parts.append(re.escape(character))
        plain = plain and character not in SPECIAL
    return "".join(parts)


CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


def _translate_class(glob: str, position: int) -> tuple[str, int] | None:
    """Translate the bracket expression before `position`: its source and its end, or None if it does not end."""
    negated = glob[position : position + 1] in ("!", "^")
    position += negated
    items: list[str] = []
    first, previous = True, ""
    while first or glob[position : position + 1] != "]":
        first = False
        character = glob[position : position + 1]
        following = glob[position + 1 : position + 2]
        if character == "[" and following == ":":
            end = glob.find("]", position + 2)
            if end < 0:
                return None
            if end > position + 2 and glob[end - 1] == ":":
                known = CLASSES.get(glob[position + 2 : end - 1])
                if known is None:
                    return None
                items.append(known)
                position, previous = end + 1, ""
                continue
        if character == "-" and previous and following not in ("", "]"):
            position += 1
            if following == "\\":
                position += 1
            last = glob[position : position + 1]
            if previous <= last:
                items.append(f"{re.escape(previous)}-{re.escape(last)}")
            character = ""
        elif character == "\\":
            position += 1
            character = following
        if position >= len(glob):
            return None
        if character:
            items.append(re.escape(character))
        previous = character
        position += 1
    inside = "".join(items)
    if negated:
        return f"[^/{inside}]", position + 1
    return f"(?!/)[{inside}]" if inside else "(?!)", position + 1
