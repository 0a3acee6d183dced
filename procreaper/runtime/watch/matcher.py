"""Which processes a changed file affects, by its name alone.

Rules: pure; strings in, answers out. `watch` looks at files and reads ignore files. Paths are absolute, normalized,
and those of files, except where a directory is asked for; what is not UTF-8 in them comes as surrogate escapes.

What a process is restarted for (process-compose's rules, with git's and watchexec's ignoring):

    app, app/main.py    without wildcards, a path from the root: this file, or all that is in this directory
    *.py                with wildcards and without a slash, a name at any depth below the root
    config/*.toml       with both, a path from the root; what matches may be a directory, with all that is in it
    ../lib, /etc/app    also outside of the root
    *.{py,html}         either of them; a backslash makes any of these characters an ordinary one

Ignored is what matches an ignore rule, and all that is in a directory that does. `ignore` has patterns as in a
.gitignore in the root, where `!` makes exceptions and the last match decides; it beats what is ignored anyway
(`IGNORED`), which beats .gitignore files. What is *named*, as a path without wildcards or before the first wildcard of
a pattern, is watched whatever covers it, because somebody named it on purpose: ignore rules only choose among what lies
below.

Theory of operation. From the root of the file system down, each directory has a *reach*: the entries (`paths`) that
still count in it. An ignore rule that matches a directory empties its reach; naming one begins a new reach. Reaches are
kept, so that of each file only the name remains to be looked at. `ignoring` says why this is done a component at a
time.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping

from procreaper.core.plan import Watch
from procreaper.runtime.watch.gitignore import IgnoreFiles, Rules, lineage
from procreaper.runtime.watch.patterns import (
    Watched,
    expand_braces,
    ignore_rules,
    parent_of,
    parse_watch_path,
    resolve,
    within,
)

__all__ = ["IGNORED", "Matcher", "expand_braces"]

# Never a reason for a restart: version control, environments, caches, installed packages, what editors leave beside a
# file while they save it, and the data base that a framework puts beside the code.
IGNORED = (
    *(".git", ".hg", ".svn", ".jj"),
    *(".venv", "venv", ".tox", ".nox", "node_modules"),
    *("__pycache__", "*.pyc", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".cache"),
    *("*.swp", "*.swo", "*.swx", "*~", "4913", ".#*", "#*#"),
    *("*___jb_tmp___", "*___jb_old___", ".goutputstream-*", ".*.kate-swp", ".idea", ".DS_Store"),
    *("*.sqlite3", "*.sqlite3-journal", "*.sqlite3-wal", "*.sqlite3-shm"),
)


class Matcher:
    """Tells for a set of watches what is of interest. `logs`: files that we write, and never a reason for a restart.

    >>> matcher = Matcher({"web": Watch("/srv", ("app", "*.toml"))})
    >>> matcher.affected(["/srv/app/main.py", "/srv/app/__pycache__/main.pyc", "/srv/x/y.toml"])
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
            # The processes of one type share all this, and need one answer only.
            key = Watch(resolve(watch.root, "") or "/", watch.paths, watch.ignore, watch.gitignore)
            groups.setdefault(key, []).append(name)
        self._groups = [
            (names, _Group(watch, self._with_git if watch.gitignore else self._without_git))
            for watch, names in groups.items()
        ]
        self._above: set[str] = set()
        for base in self.bases:
            self._above.update(lineage(parent_of(base)))

    @property
    def bases(self) -> tuple[str, ...]:
        """The files and directories that are named: where to begin looking. They need not exist."""
        return tuple(dict.fromkeys(path or "/" for _, group in self._groups for path in group.bases))

    @property
    def uses_ignore_files(self) -> bool:
        """Whether `learn` is of any use."""
        return any(group.ignored is self._with_git for _, group in self._groups)

    def learn(self, directory: str, text: str) -> bool:
        """Take the ignore file of a directory, or none (empty); return whether that is any news.

        It must be told before a question about anything in that directory is asked.
        """
        if not self._with_git.learn(within(directory), text):
            return False
        for _, group in self._groups:
            group.forget()
        return True

    def enters(self, directory: str) -> bool:
        """Whether something that is of interest could lie below this directory, or come to lie there."""
        inner = within(directory)
        return inner in self._above or any(group.enters(inner) for _, group in self._groups)

    def of_interest(self, directory: str, names: Collection[str]) -> set[str]:
        """Those of these files of a directory whose change concerns any process."""
        inner = within(directory)
        names = self._without_logs(inner, names)
        ignored = _Ignored(inner, names)
        return {name for _, group in self._groups for name in group.choose(inner, names, ignored)}

    def affected(self, paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """For each process that is concerned, the paths that concern it, relative to its root and fit to be shown."""
        directories: dict[str, list[str]] = {}
        for path in paths:
            directory, _, name = path.rpartition("/")
            directories.setdefault(directory, []).append(name)
        found: list[list[str]] = [[] for _ in self._groups]
        for directory, some in directories.items():
            names = self._without_logs(directory, some)
            ignored = _Ignored(directory, names)
            for (_, group), shown in zip(self._groups, found, strict=True):
                if chosen := group.choose(directory, names, ignored):
                    prefix = group.relative(directory)
                    shown.extend([prefix + name for name in chosen])
        return {
            name: tuple(map(_shown, paths))
            for (names, _), paths in zip(self._groups, found, strict=True)
            if paths
            for name in names
        }

    def _without_logs(self, directory: str, names: Collection[str]) -> Collection[str]:
        logs = self._logs.get(directory)
        if logs is None:
            return names
        # The older parts of a log, `web.log.1`, begin with its name.
        return [name for name in names if name not in logs and not name.startswith(tuple(f"{log}." for log in logs))]


class _Ignored:
    """What the rules that processes share ignore among some files; found once, for the first group that asks."""

    def __init__(self, directory: str, names: Collection[str]) -> None:
        self._directory = directory
        self._names = names
        self._found: dict[IgnoreFiles, frozenset[str]] = {}

    def by(self, files: IgnoreFiles) -> frozenset[str]:
        if files not in self._found:
            self._found[files] = files.among(self._directory, self._names)
        return self._found[files]


class _Base:
    """A path that is named, with all the patterns that begin there; `whole`: everything below it is watched."""

    def __init__(self, path: str, entries: Iterable[Watched]) -> None:
        known = list(entries)
        self._start = len(path) + 1
        self._rules = Rules(path, [entry.pattern for entry in known])
        self.whole = any(entry.pattern is None for entry in known)
        leading = [entry.leading for entry in known]
        sources = [source for some in leading if some is not None for source in some]
        self._leading = None if None in leading else re.compile("|".join(sources), re.DOTALL)

    def matches(self, path: str, name: str, *, is_directory: bool) -> bool:
        return self._rules.verdict(path, name, is_directory=is_directory) is not None

    def leads_on(self, directory: str) -> bool:
        return self._leading is None or self._leading.fullmatch(directory, self._start) is not None


# The bases in whose reach a directory lies, and for each whether everything in the directory is watched.
Reach = tuple[tuple[_Base, bool], ...]


class _Group:
    """What all processes with the same watch are restarted for."""

    def __init__(self, watch: Watch, ignored: IgnoreFiles) -> None:
        self._prefix = watch.root.rstrip("/") + "/"
        self._root = watch.root
        self.ignored = ignored
        entries: dict[str, list[Watched]] = {}
        for written in watch.paths:
            for entry in parse_watch_path(watch.root, written):
                entries.setdefault(entry.base, []).append(entry)
        self.bases = {path: _Base(path, some) for path, some in entries.items()}
        # The names of what is named without wildcards, by directory.
        self._named: dict[str, set[str]] = {}
        for path, base in self.bases.items():
            if base.whole:
                directory, _, name = path.rpartition("/")
                self._named.setdefault(directory, set()).add(name)
        self._own = ignore_rules(watch, self.bases)
        self._reaches: dict[str, Reach] = {}

    def forget(self) -> None:
        """Ignore files have changed."""
        self._reaches.clear()

    def choose(self, directory: str, names: Collection[str], ignored: _Ignored) -> list[str]:
        """Those of these files of a directory that are watched."""
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
            dropped = ignored.by(self.ignored).difference(named)
            return [name for name in chosen if name not in dropped]
        return [name for name in chosen if name in named or not self._ignored_file(directory, name, ignored)]

    def enters(self, directory: str) -> bool:
        return any(whole or base.leads_on(directory) for base, whole in self._reach(directory))

    def relative(self, directory: str) -> str:
        """What the names in a directory are shown with."""
        path = directory + "/"
        if path.startswith(self._prefix):
            return path[len(self._prefix) :]
        return posixpath.relpath(path, self._root) + "/"

    def _reach(self, directory: str) -> Reach:
        # Not recursive: a path may have more components than Python allows calls.
        unknown = []
        for above in lineage(directory):
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
                begun = self.bases[below]
                reach = (*reach, (begun, begun.whole))
            self._reaches[below] = reach
        return self._reaches[directory]

    def _ignored_directory(self, path: str, parent: str, name: str) -> bool:
        for rules in self._own:
            if (verdict := rules.verdict(path, name, is_directory=True)) is not None:
                return verdict
        return self.ignored.ignored(path, parent, name, is_directory=True)

    def _ignored_file(self, directory: str, name: str, ignored: _Ignored) -> bool:
        path = f"{directory}/{name}"
        for rules in self._own:
            if (verdict := rules.verdict(path, name, is_directory=False)) is not None:
                return verdict
        return name in ignored.by(self.ignored)


def _shown(path: str) -> str:
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
