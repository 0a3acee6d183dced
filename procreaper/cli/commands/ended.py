"""Keep a record of each background app: that it runs, and later when and why it ended, with its last lines.

Rules: an app writes only its own record. Only the next `start` of the same root replaces it. A file that another user
could have written is ignored. An app that cannot write its record runs without one.

Theory of operation. The record is a file of the user's state directory, `DIGEST-PID.app`, by the digest of the root.
Its first line is JSON. After the end of the app, the last notices follow, as the control socket sends them. If the
record says that the app runs but its process is gone, the app was killed.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from procreaper.cli.table import format_duration
from procreaper.remote.control.socket_directory import hash_root, state_directory

if TYPE_CHECKING:
    from procreaper.core.events import Notice
    from procreaper.core.notices import AppEnd

NAME = r"[0-9a-f]{8}-[0-9]+\.app"
# Keep the largest of these numbers of last lines of each process that fits into MOST_BYTES.
LINES = (20, 10, 5, 2, 1)
MOST_BYTES = 1 << 18
# Seconds after which the record of an ended app of another root is removed.
OUTDATED = 30 * 86400.0


class EndedApp(NamedTuple):
    """An app that has ended. `ended_at` and `code` are None if it was killed, or its machine went down (`went_down`).

    `name` is the process that caused the end, if any; `notices` are lines of JSON. Times are seconds since the epoch.
    """

    pid: int
    started_at: float
    ended_at: float | None
    code: int | None
    name: str | None
    reason: str
    notices: bytes = b""
    went_down: bool = False

    def explain(self, now: float) -> str:
        """Describe the end in one line."""
        what = f"the last app in the background (pid {self.pid})"
        if self.ended_at is None:
            why = "the machine was restarted" if self.went_down else "it was killed, or ran out of memory"
            return f"{what}, started at {_format_time(self.started_at, now)}, has ended without giving a reason: {why}"
        ago = format_duration(now - self.ended_at)
        return (
            f"{what} ended at {_format_time(self.ended_at, now)} ({ago} ago) with exit code {self.code}: {self.reason}"
        )


class AppRecord:
    """The record of the app in this process. `tail(lines)` returns the last notices of all processes."""

    def __init__(self, root: str, environment: Mapping[str, str], tail: Callable[[int], Sequence[Notice]]) -> None:
        self._root = os.path.realpath(root)
        self._environment = environment
        self._tail = tail
        # Imported here: a command that only asks an app does not need these.
        from procreaper.runtime.system.proc import read_boot_id, read_start_time

        self._fields = {
            "root": self._root,
            "pid": os.getpid(),
            "born": read_start_time(os.getpid()),
            "boot": read_boot_id(),
            "started_at": time.time(),
        }

    def begin(self) -> None:
        """Record that the app runs, and remove the records of earlier apps. Raises OSError."""
        directory = state_directory(self._environment)
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        remove_old_records(self._root, self._environment)
        self._write({}, b"")

    def end(self, code: int, end: AppEnd | None, reason: str) -> None:
        """Record the end of the app; `reason` is used if `end` is None. Raises OSError."""
        fields = {
            "ended_at": time.time(),
            "code": code,
            "name": None if end is None else end.name,
            "reason": reason if end is None else end.text,
        }
        self._write(fields, self._notices())

    def _notices(self) -> bytes:
        from procreaper.remote.control.requests import encode_notice

        data = b""
        for lines in LINES:
            data = b"".join(line.data for notice in self._tail(lines) for line in encode_notice(notice))
            if len(data) <= MOST_BYTES:
                return data
        return data[data.index(b"\n", len(data) - MOST_BYTES) + 1 :]

    def _write(self, fields: Mapping[str, Any], notices: bytes) -> None:
        import json

        path = os.path.join(state_directory(self._environment), f"{hash_root(self._root)}-{os.getpid()}.app")
        _check_owner(os.path.dirname(path))
        new = f"{path}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(json.dumps({**self._fields, **fields}).encode() + b"\n" + notices)
        os.replace(new, path)


def find_last_end(root: str, environment: Mapping[str, str], pid: int | None = None) -> EndedApp | None:
    """Find the background app of this root (a real path) that ended last, or the one with this pid."""
    found = [ended for _, ended in _iter_records(root, environment) if ended is not None and pid in (None, ended.pid)]
    return max(found, key=lambda ended: ended.ended_at or ended.started_at, default=None)


def remove_old_records(root: str, environment: Mapping[str, str]) -> None:
    """Remove the records of ended apps of this root (a real path), and the outdated records of other roots."""
    for path, ended in _iter_records(root, environment):
        if ended is not None:
            with suppress(OSError):
                os.unlink(path)
    now = time.time()
    for path, ended in _iter_records(None, environment):
        with suppress(OSError):
            if ended is not None and now - os.lstat(path).st_mtime > OUTDATED:
                os.unlink(path)


def _iter_records(root: str | None, environment: Mapping[str, str]) -> Iterator[tuple[str, EndedApp | None]]:
    """Yield the path and the end (None: the app runs) of each record of a root, or of all. Skip untrusted files."""
    directory = state_directory(environment)
    try:
        _check_owner(directory)
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        if re.fullmatch(NAME, name) is None or (root is not None and not name.startswith(hash_root(root))):
            continue
        path = os.path.join(directory, name)
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            its_root, ended = _read(path)
            if root in (None, its_root):
                yield path, ended


def _read(path: str) -> tuple[str, EndedApp | None]:
    """Read the root and the end of an app. Raises OSError, or the errors of an incomplete file."""
    import json

    # O_NONBLOCK: to open a pipe would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            raise PermissionError
        head, _, notices = file.read(2 * MOST_BYTES).partition(b"\n")
    fields = json.loads(head)
    pid, started_at, root = int(fields["pid"]), float(fields["started_at"]), str(fields["root"])
    if "ended_at" not in fields:
        from procreaper.runtime.system.proc import read_boot_id, read_start_time

        went_down = fields["boot"] != read_boot_id()
        if not went_down and read_start_time(pid) == fields["born"]:
            return root, None
        return root, EndedApp(pid, started_at, None, None, None, "", went_down=went_down)
    name = None if fields["name"] is None else str(fields["name"])
    code, reason = int(fields["code"]), str(fields["reason"])
    return root, EndedApp(pid, started_at, float(fields["ended_at"]), code, name, reason, notices)


def _check_owner(directory: str) -> None:
    """Raise OSError if this is not a directory, or belongs to another user."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(20, "not a directory", directory)
    if found.st_uid != os.geteuid():
        raise PermissionError(1, "belongs to another user", directory)


def _format_time(seconds: float, now: float) -> str:
    """Write the time of day, with the date unless it is today."""
    then, today = time.localtime(seconds), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", then)
