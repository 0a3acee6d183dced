"""What is known of the files, and what has changed since.

Rules: looks, and reads ignore files; what is of interest the `Matcher` says. It knows nothing of who reports changes.

Theory of operation. Of every watched file there is a print: time of change, size, inode. What differs from its print
has changed, and has a new print. So a change of permissions is none, a save by renaming is one, and what is reported
twice changes once.

Directories are to be watched by their real path, and are known by every path that leads to them: macOS reports real
paths, and Linux has only one watch for a directory that symbolic links lead to. A path that does not exist is waited
for in the nearest directory above that does.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from procreaper.descriptors import retry_with_reserve
from procreaper.runtime.watch.matcher import Matcher

# Some file systems know the time of a change only in seconds; such a time does not tell that nothing has changed.
SECOND = 1_000_000_000
# What watchfiles calls a change that makes and removes nothing.
MODIFIED = 2


class Print(NamedTuple):
    """What tells one state of a file from another."""

    modified: int
    size: int
    inode: int


class Found(NamedTuple):
    """What hints led to. `unclear`: look at everything; `replaced`: directories that are watched are other ones now."""

    changed: list[str]
    unclear: bool = False
    replaced: bool = False


class Tree:
    """All that is watched. `real`: the directories to be watched, each with the paths that lead to it."""

    def __init__(self, matcher: Matcher, roots: Collection[str], stop: threading.Event) -> None:
        self._matcher = matcher
        self._roots = roots
        self._stop = stop
        self._files: dict[str, Print] = {}
        self.real: dict[str, list[str]] = {}
        # The paths of directories, and files that symbolic links lead to, with the paths of those links.
        self._directories: set[str] = set()
        self._links: dict[str, list[str]] = {}
        self._linked: set[str] = set()
        self._first = True
        self._looked_at = time.time_ns()

    def look(self) -> list[str]:
        """Look at everything, and return the paths of the files that changed."""
        before, now = self._files, time.time_ns()
        self._files, self.real, self._directories, self._links, self._linked = {}, {}, set(), {}, set()
        look = _Look(before)
        for base in self._matcher.bases:
            self._look_from(base, look)
        hidden = tuple(directory + "/" for directory in look.unreadable)
        gone = [path for path in before if path not in self._files]
        self._files.update((path, before[path]) for path in gone if path.startswith(hidden))
        # What was there before is not new because it was not looked at, or was ignored.
        since = 0
        if self._first:
            since = self._looked_at
        elif look.rules_changed:
            since = max(self._looked_at, now - SECOND)
        new = [path for path, created in look.appeared.items() if created >= since]
        self._first, self._looked_at = False, now
        return look.changed + new + [path for path in gone if not path.startswith(hidden)]

    def look_at(self, hints: Iterable[tuple[int, str]]) -> Found:
        """Look where something was reported."""
        now = time.time_ns()
        found = Found([])
        unclear = replaced = False
        by_directory: dict[str, dict[str, bool]] = {}
        for change, path in hints:
            structural = change != MODIFIED
            directory, _, name = path.rpartition("/")
            directory = directory or "/"
            if path in self.real:
                replaced = replaced or structural
            if name == ".gitignore":
                unclear = True
            for spelled in self.real.get(directory, ()):
                names = by_directory.setdefault(spelled, {})
                names[name] = names.get(name, False) or structural
            for link in self._links.get(path, ()):
                directory, _, name = link.rpartition("/")
                by_directory.setdefault(directory, {}).setdefault(name, False)
        for directory, names in by_directory.items():
            interesting = self._matcher.of_interest(directory, names)
            for name, structural in names.items():
                path = _join(directory, name)
                if name in interesting and self._differs(path):
                    found.changed.append(path)
                if structural and not unclear:
                    unclear = self._is_structure(path)
        if not unclear:
            self._looked_at = now
        return found._replace(unclear=unclear, replaced=replaced)

    def _differs(self, path: str) -> bool:
        """Whether a file is not as it was; it is known as it is, then."""
        before = self._files.get(path)
        status = _status(path)
        if status is None:
            self._files.pop(path, None)
            return before is not None
        now = self._files[path] = _print(status)
        return now != before or now.modified % SECOND == 0

    def _is_structure(self, path: str) -> bool:
        """Whether it is, or was, a directory or a link, on which depends what is to be watched."""
        if path in self._directories or path in self._linked:
            return True
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return False
        return (stat.S_ISDIR(mode) or stat.S_ISLNK(mode)) and (
            self._matcher.enters(path) or bool(self._matcher.of_interest(*_split(path)))
        )

    def _look_from(self, base: str, look: _Look) -> None:
        """Look at what is named, or, where that does not exist, to the nearest directory above it."""
        start = base
        while not os.path.isdir(start):
            start = os.path.dirname(start)
        if os.path.islink(base):
            # It may be made to lead elsewhere, which is to be seen only from the directory that it is in.
            self._directory(os.path.dirname(base))
        if self._matcher.uses_ignore_files:
            for directory in self._above(start):
                self._directory(directory)
                look.rules_changed |= self._matcher.learn(directory, _ignore_file(directory))
        waiting: list[tuple[str, str, Links]] = [(start, os.path.realpath(start), ())]
        while waiting and not self._stop.is_set():
            waiting.extend(self._look_into(*waiting.pop(), look))

    def _above(self, start: str) -> list[str]:
        """The directories above whose ignore files count: up to the repository, or else up to the root."""
        above = [start]
        while above[-1] != "/":
            if os.path.lexists(_join(above[-1], ".git")):
                return above[:0:-1]
            above.append(os.path.dirname(above[-1]))
        roots = [number for number, directory in enumerate(above) if directory in self._roots]
        return above[max(roots) : 0 : -1] if roots else []

    def _directory(self, path: str) -> None:
        spelled = self.real.setdefault(os.path.realpath(path), [])
        if path not in spelled:
            spelled.append(path)

    def _look_into(self, directory: str, real: str, through: Links, look: _Look) -> list[tuple[str, str, Links]]:
        """Look at the files of a directory, and return the directories in it that are to be looked into."""
        if directory in self._directories:
            return []
        try:
            entries = retry_with_reserve(lambda: _entries(directory))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            look.unreadable.append(directory)
            return []
        self._directories.add(directory)
        spelled = self.real.setdefault(real, [])
        if directory not in spelled:
            spelled.append(directory)
        if self._matcher.uses_ignore_files:
            has_rules = ".gitignore" in entries or ".git" in entries
            look.rules_changed |= self._matcher.learn(directory, _ignore_file(directory) if has_rules else "")
        below: list[tuple[str, str, Links]] = []
        for name in [name for name, entry in entries.items() if _is_directory(entry)]:
            path = _join(directory, name)
            if not self._matcher.enters(path):
                pass
            elif not entries[name].is_symlink():
                below.append((path, _join(real, name), through))
            elif not any(is_within(passed, target := os.path.realpath(path)) for passed in (*through, real)):
                below.append((path, target, (*through, real)))
            del entries[name]
        for name in self._matcher.of_interest(directory, entries):
            self._look_at_file(_join(directory, name), entries[name], look)
        return below

    def _look_at_file(self, path: str, entry: os.DirEntry[str], look: _Look) -> None:
        try:
            status = entry.stat()
        except OSError:
            return
        if not stat.S_ISREG(status.st_mode):
            return
        if entry.is_symlink():
            target = os.path.realpath(path)
            self._links.setdefault(target, []).append(path)
            self._linked.add(path)
            self.real.setdefault(os.path.dirname(target), [])
        now = self._files[path] = _print(status)
        before = look.before.get(path)
        if before is None:
            look.appeared[path] = status.st_ctime_ns
        elif now != before:
            look.changed.append(path)


# Through the real paths of which directories a directory was come to by symbolic links.
Links = tuple[str, ...]


class _Look:
    """What one look at everything finds, compared with what was known `before`."""

    def __init__(self, before: Mapping[str, Print]) -> None:
        self.before = before
        self.changed: list[str] = []
        # With the time since when they have been what they are.
        self.appeared: dict[str, int] = {}
        self.unreadable: list[str] = []
        self.rules_changed = False


def _print(status: os.stat_result) -> Print:
    return Print(status.st_mtime_ns, status.st_size, status.st_ino)


def _status(path: str) -> os.stat_result | None:
    """Of a regular file, or None; a socket or a pipe that a process makes for itself is of no interest."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_within(path: str, directory: str) -> bool:
    """Whether it is this directory, or lies somewhere below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory != "/" else f"/{name}"


def _split(path: str) -> tuple[str, tuple[str]]:
    directory, _, name = path.rpartition("/")
    return directory or "/", (name,)


def _ignore_file(directory: str) -> str:
    """What is ignored in a directory, as far as its own ignore file says, and where a repository begins, git's own."""
    return f"{_excluded(directory)}\n{read(_join(directory, '.gitignore'))}".lstrip("\n")


def _excluded(directory: str) -> str:
    git = _join(directory, ".git")
    pointer = read(git)
    if pointer.startswith("gitdir:"):
        # In a work tree or a submodule, a file that says where the rest is.
        git = os.path.join(directory, pointer.removeprefix("gitdir:").strip())
        git = os.path.join(git, read(os.path.join(git, "commondir")).strip())
    return read(os.path.join(git, "info", "exclude"))


def read(path: str) -> str:
    """The text of a file, empty where there is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""
        return retry_with_reserve(lambda: _text(path))
    except OSError:
        return ""


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _entries(directory: str) -> dict[str, os.DirEntry[str]]:
    with os.scandir(directory) as listing:
        return {entry.name: entry for entry in listing}
