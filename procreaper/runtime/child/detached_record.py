"""The record of a detached process, from one procreaper to the next: a file in the user's state directory.

Rules: knows files, and not whether their content is still true. It trusts no file that another user could have written.

Theory of operation. A file has one writer at a time, the holder of the lock. The lock is on the directory, and ends
with its holder, also by `kill -9`. The file is replaced and never changed, so a reader sees one record or the other.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from procreaper.descriptors import NO_DESCRIPTOR_LEFT
from procreaper.errors import reason_of

DIRECTORY = "procreaper"
LARGEST = 1 << 22
# No process number is larger, and no time before the year 10000, which is the last that can be shown.
LAST_PID, LAST_MOMENT = 2**31 - 1, 253_402_300_799


class Record(NamedTuple):
    """A process that runs or ran: its number, its start time, that of the machine, and what it was started for.

    `started_at` is in seconds since the epoch, for people; `born` and `boot` distinguish it from other processes.
    """

    pid: int
    born: str
    boot: str
    root: str
    name: str
    command: str | tuple[str, ...]
    log: str
    started_at: float


class UnusableRecordError(Exception):
    """A record cannot be trusted; the message says why."""


class Register:
    """The record of one process of the app in `root`; `environment` names the directory for such files."""

    def __init__(self, root: str, name: str, environment: Mapping[str, str]) -> None:
        # Imported here, because only detached processes need it.
        from hashlib import sha256

        self.root = os.path.realpath(root)
        self.name = name
        home = environment.get("XDG_STATE_HOME", "")
        # By the specification of these directories, a relative path is ignored.
        state = home if os.path.isabs(home) else os.path.expanduser("~/.local/state")
        self._directory = os.path.join(state, DIRECTORY)
        digest = sha256(f"{self.root}\0{name}".encode(errors="surrogateescape")).hexdigest()[:24]
        self.path = os.path.join(self._directory, f"{digest}.json")

    def lock(self) -> int | None:
        """Take the lock; return its descriptor, which holds the lock until it is closed, or None if it is taken.

        Raises OSError where there is no directory that is ours alone, and none can be made.
        """
        os.makedirs(os.path.dirname(self._directory), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self._directory, 0o700)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid():
                raise PermissionError(1, "belongs to another user", self._directory)
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(descriptor, 0o700)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def read(self) -> Record | None:
        """Return the record, or None if there is none. Raises UnusableRecordError, and OSError for a lack of
        descriptors.
        """
        record = _read(self.path)
        if record is None:
            return None
        if (record.root, record.name) != (self.root, self.name):
            raise UnusableRecordError("it is about another process")
        return record

    def write(self, record: Record) -> None:
        """Replace the record, under the lock. Raises OSError."""
        import json

        new = f"{self.path}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump(record._asdict(), file)
        os.replace(new, self.path)

    def forget(self, pid: int, born: str) -> None:
        """Remove the record if it is about this process. If the lock is taken, it stays, which does no harm."""
        with suppress(OSError, UnusableRecordError):
            lock = self.lock()
            if lock is None:
                return
            try:
                record = self.read()
                if record is not None and (record.pid, record.born) == (pid, born):
                    os.unlink(self.path)
            finally:
                os.close(lock)


def living(root: str, environment: Mapping[str, str], lives: Callable[[Record], bool]) -> list[Record]:
    """Return the records of the detached processes of this root (real path) that live, by `lives`."""
    home = environment.get("XDG_STATE_HOME", "")
    directory = os.path.join(home if os.path.isabs(home) else os.path.expanduser("~/.local/state"), DIRECTORY)
    found = []
    with suppress(OSError):
        for name in sorted(os.listdir(directory)):
            if not name.endswith(".json"):
                continue
            with suppress(OSError, UnusableRecordError):
                record = _read(os.path.join(directory, name))
                if record is not None and record.root == root and lives(record):
                    found.append(record)
    return found


def _read(path: str) -> Record | None:
    """Return the record in a file; None if there is none. Raises UnusableRecordError, and OSError for a lack of
    descriptors.
    """
    try:
        # Without this flag, a FIFO would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in NO_DESCRIPTOR_LEFT:
            # It says nothing about the record, which may be that of a process that runs.
            raise
        raise UnusableRecordError(reason_of(error)) from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise UnusableRecordError("it belongs to another user")
        if not stat.S_ISREG(found.st_mode):
            raise UnusableRecordError("it is no file")
        return _parse(file.read(LARGEST))


def _parse(data: bytes) -> Record:
    import json

    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnusableRecordError("it is not whole") from error
    try:
        pid, command, started_at = fields["pid"], fields["command"], fields["started_at"]
        texts = [fields[name] for name in ("born", "boot", "root", "name", "log")]
    except (TypeError, KeyError) as error:
        raise UnusableRecordError("it is not whole") from error
    words = [command] if isinstance(command, str) else command
    if (
        not (isinstance(pid, int) and 1 < pid <= LAST_PID)
        or not (isinstance(started_at, int | float) and 0 <= started_at <= LAST_MOMENT)
        or not (isinstance(words, list) and all(isinstance(text, str) for text in (*words, *texts)))
    ):
        raise UnusableRecordError("it does not say what it should")
    born, boot, root, name, log = texts
    its_command = command if isinstance(command, str) else tuple(words)
    return Record(pid, born, boot, root, name, its_command, log, float(started_at))
