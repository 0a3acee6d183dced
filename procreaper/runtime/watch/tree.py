"""Find the watched files, and those that have changed since the last scan.

Rules: it reads directories and ignore files; the `Matcher` says which files matter. It does not know how changes are
reported.

Theory of operation. Each watched file has a fingerprint: the time of its last change, its size and its inode. A file
with another fingerprint than before has changed. So a change of permissions does not count, a save by renaming counts,
and a change that is reported twice counts once.

Directories are watched by their real path, and known by every path that leads to them: macOS reports real paths, and
Linux has only one watch for a directory that symbolic links lead to. For a path that does not exist, the nearest
existing directory above it is watched.
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

# Some file systems store the time of a change in whole seconds: an equal time then does not prove that a file is the
# same.
SECOND = 1_000_000_000
# watchfiles's number for a change that neither creates nor removes a file.
MODIFIED = 2


class Fingerprint(NamedTuple):
    """The attributes of a file that differ after a change."""

    modified: int
    size: int
    inode: int


class HintResult(NamedTuple):
    """The result of hints. `needs_scan`: scan everything; `replaced`: a watched directory is another one now."""

    changed: list[str]
    needs_scan: bool = False
    replaced: bool = False


class Tree:
    """The watched files. `directories` maps the real path of each directory to watch to the paths that lead to it."""

    def __init__(self, matcher: Matcher, roots: Collection[str], stop: threading.Event) -> None:
        self._matcher = matcher
        self._roots = roots
        self._stop = stop
        self._files: dict[str, Fingerprint] = {}
        self.directories: dict[str, list[str]] = {}
        # The paths of the scanned directories; and for the target of each link to a file, the paths of the links.
        self._scanned: set[str] = set()
        self._links: dict[str, list[str]] = {}
        self._linked: set[str] = set()
        self._is_first = True
        self._scanned_at = time.time_ns()

    def scan(self) -> list[str]:
        """Scan everything, and return the paths of the files that have changed."""
        before, now = self._files, time.time_ns()
        self._files, self.directories, self._scanned, self._links, self._linked = {}, {}, set(), {}, set()
        scan = _Scan(before)
        for base in self._matcher.bases:
            self._scan_from(base, scan)
        hidden = tuple(directory + "/" for directory in scan.unreadable)
        gone = [path for path in before if path not in self._files]
        self._files.update((path, before[path]) for path in gone if path.startswith(hidden))
        # A file that was only ignored, or never scanned, until now is not new.
        since = 0
        if self._is_first:
            since = self._scanned_at
        elif scan.rules_changed:
            since = max(self._scanned_at, now - SECOND)
        new = [path for path, created in scan.appeared.items() if created >= since]
        self._is_first, self._scanned_at = False, now
        return scan.changed + new + [path for path in gone if not path.startswith(hidden)]

    def check_hints(self, hints: Iterable[tuple[int, str]]) -> HintResult:
        """Check the files and directories for which a change was reported."""
        now = time.time_ns()
        found = HintResult([])
        needs_scan = replaced = False
        by_directory: dict[str, dict[str, bool]] = {}
        for change, path in hints:
            structural = change != MODIFIED
            directory, _, name = path.rpartition("/")
            directory = directory or "/"
            if path in self.directories:
                replaced = replaced or structural
            if name == ".gitignore":
                needs_scan = True
            for spelled in self.directories.get(directory, ()):
                names = by_directory.setdefault(spelled, {})
                names[name] = names.get(name, False) or structural
            for link in self._links.get(path, ()):
                directory, _, name = link.rpartition("/")
                by_directory.setdefault(directory, {}).setdefault(name, False)
        for directory, names in by_directory.items():
            interesting = self._matcher.filter_watched(directory, names)
            for name, structural in names.items():
                path = _join(directory, name)
                if name in interesting and self._differs(path):
                    found.changed.append(path)
                if structural and not needs_scan:
                    needs_scan = self._is_structure(path)
        if not needs_scan:
            self._scanned_at = now
        return found._replace(needs_scan=needs_scan, replaced=replaced)

    def _differs(self, path: str) -> bool:
        """Return whether a file has changed, and keep its new fingerprint."""
        before = self._files.get(path)
        status = _status(path)
        if status is None:
            self._files.pop(path, None)
            return before is not None
        now = self._files[path] = _fingerprint(status)
        return now != before or now.modified % SECOND == 0

    def _is_structure(self, path: str) -> bool:
        """Return whether the path is, or was, a directory or a link: then other directories may have to be watched."""
        if path in self._scanned or path in self._linked:
            return True
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return False
        return (stat.S_ISDIR(mode) or stat.S_ISLNK(mode)) and (
            self._matcher.should_enter(path) or bool(self._matcher.filter_watched(*_split(path)))
        )

    def _scan_from(self, base: str, scan: _Scan) -> None:
        """Scan a named path or, if it does not exist, the nearest existing directory above it."""
        start = base
        while not os.path.isdir(start):
            start = os.path.dirname(start)
        if os.path.islink(base):
            # The link may change its target. Only a watch of the directory that contains the link shows this.
            self._add_directory(os.path.dirname(base))
        if self._matcher.uses_ignore_files:
            for directory in self._list_directories_above(start):
                self._add_directory(directory)
                scan.rules_changed |= self._matcher.set_ignore_file(directory, _read_ignore_rules(directory))
        waiting: list[tuple[str, str, Links]] = [(start, os.path.realpath(start), ())]
        while waiting and not self._stop.is_set():
            waiting.extend(self._scan_directory(*waiting.pop(), scan))

    def _list_directories_above(self, start: str) -> list[str]:
        """Return the directories above whose ignore files apply: up to the repository, or else up to the root."""
        above = [start]
        while above[-1] != "/":
            if os.path.lexists(_join(above[-1], ".git")):
                return above[:0:-1]
            above.append(os.path.dirname(above[-1]))
        roots = [number for number, directory in enumerate(above) if directory in self._roots]
        return above[max(roots) : 0 : -1] if roots else []

    def _add_directory(self, path: str) -> None:
        spelled = self.directories.setdefault(os.path.realpath(path), [])
        if path not in spelled:
            spelled.append(path)

    def _scan_directory(self, directory: str, real: str, through: Links, scan: _Scan) -> list[tuple[str, str, Links]]:
        """Scan the files of a directory, and return the directories in it to scan next."""
        if directory in self._scanned:
            return []
        try:
            entries = retry_with_reserve(lambda: _list_entries(directory))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            scan.unreadable.append(directory)
            return []
        self._scanned.add(directory)
        spelled = self.directories.setdefault(real, [])
        if directory not in spelled:
            spelled.append(directory)
        if self._matcher.uses_ignore_files:
            has_rules = ".gitignore" in entries or ".git" in entries
            scan.rules_changed |= self._matcher.set_ignore_file(
                directory, _read_ignore_rules(directory) if has_rules else ""
            )
        below: list[tuple[str, str, Links]] = []
        for name in [name for name, entry in entries.items() if _is_directory(entry)]:
            path = _join(directory, name)
            if not self._matcher.should_enter(path):
                pass
            elif not entries[name].is_symlink():
                below.append((path, _join(real, name), through))
            elif not any(is_within(passed, target := os.path.realpath(path)) for passed in (*through, real)):
                below.append((path, target, (*through, real)))
            del entries[name]
        for name in self._matcher.filter_watched(directory, entries):
            self._scan_file(_join(directory, name), entries[name], scan)
        return below

    def _scan_file(self, path: str, entry: os.DirEntry[str], scan: _Scan) -> None:
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
            self.directories.setdefault(os.path.dirname(target), [])
        now = self._files[path] = _fingerprint(status)
        before = scan.before.get(path)
        if before is None:
            scan.appeared[path] = status.st_ctime_ns
        elif now != before:
            scan.changed.append(path)


# The real paths of the symlinked directories already followed, to detect loops.
Links = tuple[str, ...]


class _Scan:
    """The findings of one scan, compared with the fingerprints `before`."""

    def __init__(self, before: Mapping[str, Fingerprint]) -> None:
        self.before = before
        self.changed: list[str] = []
        # Files without a fingerprint until now, with the time of the last change of their inode.
        self.appeared: dict[str, int] = {}
        self.unreadable: list[str] = []
        self.rules_changed = False


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return Fingerprint(status.st_mtime_ns, status.st_size, status.st_ino)


def _status(path: str) -> os.stat_result | None:
    """Return the status of a regular file, or None. A socket or a pipe of a process does not count."""
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
    """Return whether a path is this directory, or somewhere below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory != "/" else f"/{name}"


def _split(path: str) -> tuple[str, tuple[str]]:
    directory, _, name = path.rpartition("/")
    return directory or "/", (name,)


def _read_ignore_rules(directory: str) -> str:
    """Return the rules of a directory's ignore file and, at the root of a repository, of git's exclude file."""
    return f"{_read_exclude_file(directory)}\n{read_text(_join(directory, '.gitignore'))}".lstrip("\n")


def _read_exclude_file(directory: str) -> str:
    git = _join(directory, ".git")
    pointer = read_text(git)
    if pointer.startswith("gitdir:"):
        # In a work tree or a submodule, `.git` is a file that says where the repository is.
        git = os.path.join(directory, pointer.removeprefix("gitdir:").strip())
        git = os.path.join(git, read_text(os.path.join(git, "commondir")).strip())
    return read_text(os.path.join(git, "info", "exclude"))


def read_text(path: str) -> str:
    """Return the text of a file; empty if it does not exist."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""
        return retry_with_reserve(lambda: _open_and_read(path))
    except OSError:
        return ""


def _open_and_read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _list_entries(directory: str) -> dict[str, os.DirEntry[str]]:
    with os.scandir(directory) as listing:
        return {entry.name: entry for entry in listing}
