"""Decide which processes a changed file affects, by its name alone.

Rules: pure; strings in, answers out. `tree` looks at files and reads ignore files. Paths are absolute and normalized.
They are paths of files, except where a parameter is a directory. Bytes that are not UTF-8 are surrogate escapes.

A process is restarted for these files (process-compose's rules, with git's and watchexec's ignore rules):

    app, app/main.py    without wildcards, a path from the root: this file, or all files in this directory
    *.py                with wildcards and without a slash, a name at any depth below the root
    config/*.toml       with both, a path from the root; a matching directory counts with all files in it
    ../lib, /etc/app    also outside of the root
    *.{py,html}         either of them; a backslash makes any of these characters an ordinary one

A file is ignored if it, or a directory that contains it, matches an ignore rule. `ignore` has patterns as in a
.gitignore in the root: `!` makes exceptions, and the last match decides. It takes precedence over the default patterns
(`IGNORED`), which take precedence over .gitignore files. A *named* path, which is a path without wildcards or the part
before the first wildcard of a pattern, is watched even if a rule matches it or a directory above it, because a user
named it on purpose. Ignore rules only choose among the files below it.

Theory of operation. From the root of the file system down, each directory has a *reach*: the entries of `paths` that
still apply in it. An ignore rule that matches a directory empties its reach; a named directory begins a new reach.
Reaches are kept, so only the name of each file remains to be matched. `gitignore` says why this goes one component at a
time.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping

from procreaper.core.plan import Watch
from procreaper.runtime.watch.gitignore import IgnoreFiles, IgnoreRules, walk_up
from procreaper.runtime.watch.patterns import (
    WatchedPath,
    build_ignore_rules,
    parent_of,
    parse_watch_path,
    resolve_path,
    strip_root,
)

# Never a reason for a restart: version control, environments, caches, installed packages, the temporary files of
# editors, and the database file that a framework puts beside the code.
IGNORED = (
    *(".git", ".hg", ".svn", ".jj"),
    *(".venv", "venv", ".tox", ".nox", "node_modules"),
    *("__pycache__", "*.pyc", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".cache"),
    *("*.swp", "*.swo", "*.swx", "*~", "4913", ".#*", "#*#"),
    *("*___jb_tmp___", "*___jb_old___", ".goutputstream-*", ".*.kate-swp", ".idea", ".DS_Store"),
    *("*.sqlite3", "*.sqlite3-journal", "*.sqlite3-wal", "*.sqlite3-shm"),
)


class Matcher:
    """Finds the files that matter to a set of watches. `logs` are files that we write: never a reason for a restart.

    >>> matcher = Matcher({"web": Watch("/srv", ("app", "*.toml"))})
    >>> matcher.find_affected(["/srv/app/main.py", "/srv/app/__pycache__/main.pyc", "/srv/x/y.toml"])
    {'web': ('app/main.py', 'x/y.toml')}
    """

    def __init__(self, watches: Mapping[str, Watch], *, logs: Collection[str] = ()) -> None:
        self._with_git = IgnoreFiles(IGNORED)
        self._without_git = IgnoreFiles(IGNORED)
        self._logs: dict[str, set[str]] = {}
        for log in logs:
            directory, _, name = log.rpartition("/")
            self._logs.setdefault(directory, set()).add(name)
        groups: dict[Watch, list[str]] = {}
        for name, watch in watches.items():
            # The processes of one type share all this, so one answer serves them all.
            key = Watch(resolve_path(watch.root, "") or "/", watch.paths, watch.ignore, watch.gitignore)
            groups.setdefault(key, []).append(name)
        self._groups = [
            (names, _Group(watch, self._with_git if watch.gitignore else self._without_git))
            for watch, names in groups.items()
        ]
        self._above: set[str] = set()
        for base in self.bases:
            self._above.update(walk_up(parent_of(base)))

    @property
    def bases(self) -> tuple[str, ...]:
        """The named files and directories, where a scan begins. They need not exist."""
        return tuple(dict.fromkeys(path or "/" for _, group in self._groups for path in group.bases))

    @property
    def uses_ignore_files(self) -> bool:
        """Whether any watch follows ignore files, so that `set_ignore_file` has an effect."""
        return any(group.ignore_files is self._with_git for _, group in self._groups)

    def set_ignore_file(self, directory: str, text: str) -> bool:
        """Set the text of a directory's ignore file; empty if there is none. Return whether it has changed.

        Call it before any question about that directory.
        """
        if not self._with_git.set_ignore_file(strip_root(directory), text):
            return False
        for _, group in self._groups:
            group.forget_reaches()
        return True

    def should_enter(self, directory: str) -> bool:
        """Return whether a watched file may be, or may later appear, below this directory."""
        inner = strip_root(directory)
        return inner in self._above or any(group.should_enter(inner) for _, group in self._groups)

    def filter_watched(self, directory: str, names: Collection[str]) -> set[str]:
        """Return those of these files of a directory that any process watches."""
        inner = strip_root(directory)
        names = self._without_logs(inner, names)
        ignored = _IgnoredFiles(inner, names)
        return {name for _, group in self._groups for name in group.filter_watched(inner, names, ignored)}

    def find_affected(self, paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the paths that affect each process, relative to its root and in a form that can be printed."""
        directories: dict[str, list[str]] = {}
        for path in paths:
            directory, _, name = path.rpartition("/")
            directories.setdefault(directory, []).append(name)
        found: list[list[str]] = [[] for _ in self._groups]
        for directory, some in directories.items():
            names = self._without_logs(directory, some)
            ignored = _IgnoredFiles(directory, names)
            for (_, group), shown in zip(self._groups, found, strict=True):
                if chosen := group.filter_watched(directory, names, ignored):
                    prefix = group.relative_prefix(directory)
                    shown.extend([prefix + name for name in chosen])
        return {
            name: tuple(map(_printable, paths))
            for (names, _), paths in zip(self._groups, found, strict=True)
            if paths
            for name in names
        }

    def _without_logs(self, directory: str, names: Collection[str]) -> Collection[str]:
        logs = self._logs.get(directory)
        if logs is None:
            return names
        # The rotated parts of a log, such as `web.log.1`, begin with its name.
        return [name for name in names if name not in logs and not name.startswith(tuple(f"{log}." for log in logs))]


class _IgnoredFiles:
    """The files of a directory that the shared rules ignore: computed once, for the first group that needs them."""

    def __init__(self, directory: str, names: Collection[str]) -> None:
        self._directory = directory
        self._names = names
        self._found: dict[IgnoreFiles, frozenset[str]] = {}

    def found_by(self, files: IgnoreFiles) -> frozenset[str]:
        if files not in self._found:
            self._found[files] = files.filter_ignored(self._directory, self._names)
        return self._found[files]


class _NamedPath:
    """A named path, with all the patterns that begin there. `whole`: everything below it is watched."""

    def __init__(self, path: str, entries: Iterable[WatchedPath]) -> None:
        known = list(entries)
        self._start = len(path) + 1
        self._rules = IgnoreRules(path, [entry.pattern for entry in known])
        self.whole = any(entry.pattern is None for entry in known)
        leading = [entry.leading for entry in known]
        sources = [source for some in leading if some is not None for source in some]
        self._leading = None if None in leading else re.compile("|".join(sources), re.DOTALL)

    def matches(self, path: str, name: str, *, is_directory: bool) -> bool:
        return self._rules.verdict(path, name, is_directory=is_directory) is not None

    def may_lead_to_match(self, directory: str) -> bool:
        return self._leading is None or self._leading.fullmatch(directory, self._start) is not None


# The bases that still apply in a directory, and for each whether everything in the directory is watched.
Reach = tuple[tuple[_NamedPath, bool], ...]


class _Group:
    """The watch that several processes share."""

    def __init__(self, watch: Watch, ignore_files: IgnoreFiles) -> None:
        self._prefix = watch.root.rstrip("/") + "/"
        self._root = watch.root
        self.ignore_files = ignore_files
        entries: dict[str, list[WatchedPath]] = {}
        for entry in watch.paths:
            for watched in parse_watch_path(watch.root, entry):
                entries.setdefault(watched.base, []).append(watched)
        self.bases = {path: _NamedPath(path, some) for path, some in entries.items()}
        # The names of paths without wildcards, by directory.
        self._named: dict[str, set[str]] = {}
        for path, base in self.bases.items():
            if base.whole:
                directory, _, name = path.rpartition("/")
                self._named.setdefault(directory, set()).add(name)
        self._own = build_ignore_rules(watch, self.bases)
        self._reaches: dict[str, Reach] = {}

    def forget_reaches(self) -> None:
        """Forget the reaches, because ignore files have changed."""
        self._reaches.clear()

    def filter_watched(self, directory: str, names: Collection[str], ignored: _IgnoredFiles) -> list[str]:
        """Return the watched ones of these files of a directory."""
        reach = self._reaches.get(directory) or self._reach(directory)
        named: Collection[str] = self._named.get(directory, ())
        if not reach:
            return [name for name in names if name in named]
        chosen = names
        if not any(whole for _, whole in reach):
            bases = [base for base, _ in reach]
            chosen = []
            for name in names:
                path = f"{directory}/{name}"
                if name in named or any(base.matches(path, name, is_directory=False) for base in bases):
                    chosen.append(name)
        if not chosen:
            return []
        if not self._own:
            dropped = ignored.found_by(self.ignore_files).difference(named)
            return [name for name in chosen if name not in dropped]
        return [name for name in chosen if name in named or not self._ignored_file(directory, name, ignored)]

    def should_enter(self, directory: str) -> bool:
        """Return whether a watched file may be, or may later appear, below this directory."""
        return any(whole or base.may_lead_to_match(directory) for base, whole in self._reach(directory))

    def relative_prefix(self, directory: str) -> str:
        """Return the path of a directory from the root of the watch, as a prefix for its names."""
        path = directory + "/"
        if path.startswith(self._prefix):
            return path[len(self._prefix) :]
        return posixpath.relpath(path, self._root) + "/"

    def _reach(self, directory: str) -> Reach:
        # Not recursive: a path may have more components than Python allows calls.
        unknown = []
        for above in walk_up(directory):
            if above in self._reaches:
                break
            unknown.append(above)
        for below in reversed(unknown):
            parent, slash, name = below.rpartition("/")
            reach = self._reaches[parent] if slash else ()
            if reach and self._ignored_directory(below, parent, name):
                reach = ()
            reach = tuple((base, whole or base.matches(below, name, is_directory=True)) for base, whole in reach)
            if below in self.bases:
                base = self.bases[below]
                reach = (*reach, (base, base.whole))
            self._reaches[below] = reach
        return self._reaches[directory]

    def _ignored_directory(self, path: str, parent: str, name: str) -> bool:
        for rules in self._own:
            if (verdict := rules.verdict(path, name, is_directory=True)) is not None:
                return verdict
        return self.ignore_files.is_ignored(path, parent, name, is_directory=True)

    def _ignored_file(self, directory: str, name: str, ignored: _IgnoredFiles) -> bool:
        path = f"{directory}/{name}"
        for rules in self._own:
            if (verdict := rules.verdict(path, name, is_directory=False)) is not None:
                return verdict
        return name in ignored.found_by(self.ignore_files)


def _printable(path: str) -> str:
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
