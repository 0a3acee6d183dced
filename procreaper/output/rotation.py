"""One log file, rotated by size at line ends, which other programs may write and rotate too.

Rules: blocks, and belongs to one thread. Every write appends. Other writers of the file lose no output by a rotation.
They may move the file away themselves (logrotate, another app): then the new file is opened.

Theory of operation. Before each write, the file at the path is checked: whether it is still the open one, and how large
it is. If the data does not fit, it is written up to the last line that does. Then `x.log` becomes `x.log.1`, `x.log.1`
becomes `x.log.2` and so on, under a lock on the file itself, which all apps take for a rotation. A line continues in
the file in which it began, unless it is longer than a whole file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from procreaper.core.plan import LogFile
from procreaper.descriptors import retry_with_reserve

# Another app rotates the file in less than a millisecond. An app that is suspended meanwhile is not waited for.
MOST_TRIES = 100
BETWEEN_TRIES = 0.002
# The number of files, or of pieces of them between the output of others.
MOST_PASSAGES = 1000


class Passage(NamedTuple):
    """Our output from `position` on, in bytes since the beginning, is in this file from `offset` on."""

    position: int
    device: int
    inode: int
    offset: int


class RotatedFile:
    """The log at `log.path`, without symbolic links; opening it creates it, with its directories."""

    def __init__(self, log: LogFile) -> None:
        self.path = log.path
        self._most = log.max_size
        self._older = log.max_files
        self._descriptor: int | None = None
        self._identity = (0, 0)
        self._is_regular = True
        # How many bytes of the line at the end of the file are ours; 0 if a line begins there.
        self._line = 0
        # How much we have written, and where it is in which file, as far as that is remembered.
        self.written = 0
        self._passages: deque[Passage] = deque(maxlen=MOST_PASSAGES)
        self._tries = 0
        # Why the file cannot be rotated and grows. Without a value, the next write tries again.
        self.stuck: OSError | None = None

    def open(self) -> None:
        """Open the file, at its end. Raises OSError, with the path of the log."""
        size = self._open()
        if self._is_regular and size and not _ends_line(self.path, size) and self._descriptor is not None:
            # A writer was killed in the middle of a line; begin a new line.
            with suppress(OSError):
                os.write(self._descriptor, b"\n")

    def close(self) -> None:
        """Write no more until it is opened again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def limit(self, max_size: int, max_files: int) -> None:
        """Set the limits from the next write on: size in bytes, and number of older files. Safe in any thread."""
        self._most, self._older = max_size, max_files

    @property
    def is_within_line(self) -> bool:
        """Whether our last bytes did not end a line."""
        return self._line > 0

    def find(self, position: int) -> Passage | None:
        """Return where our output from this position on is; None if that is not remembered. Safe in any thread."""
        for passage in reversed(list(self._passages)):
            if passage.position <= position:
                return passage._replace(position=position, offset=passage.offset + position - passage.position)
        return None

    def write(self, data: bytes) -> tuple[int, OSError | None]:
        """Append the data. Return how many bytes of it are written, and the error that kept the others from it."""
        position = 0
        try:
            while position < len(data):
                size = self._look()
                end = self._fitting(data, position, size)
                if end == position:
                    self._rotate()
                    continue
                position += self._append(data, position, end, size)
        except OSError as error:
            return position, error
        return position, None

    def _append(self, data: bytes, start: int, end: int, size: int) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
        count = os.write(self._descriptor, memoryview(data)[start:end])
        last = self._passages[-1] if self._passages else None
        goes_on = last is not None and last[1:] == (*self._identity, size - (self.written - last.position))
        if not goes_on:
            self._passages.append(Passage(self.written, *self._identity, size))
        self.written += count
        ended = data.rfind(b"\n", start, start + count) + 1
        self._line = start + count - ended if ended else self._line + count
        return count

    def _open(self) -> int:
        """Open the file and return its size."""
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            # A named pipe without a reader would block.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
            descriptor = retry_with_reserve(lambda: os.open(self.path, flags, 0o666))
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error
        found = os.fstat(descriptor)
        self._is_regular = stat.S_ISREG(found.st_mode)
        if not self._is_regular and not stat.S_ISCHR(found.st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a file", self.path)
        self._descriptor = descriptor
        self._identity = (found.st_dev, found.st_ino)
        return found.st_size

    def _look(self) -> int:
        """The size of the file, which is opened again if another one has taken its place."""
        if self._descriptor is not None:
            try:
                found = os.stat(self.path)
            except FileNotFoundError:
                pass
            else:
                if (found.st_dev, found.st_ino) == self._identity:
                    return found.st_size
        self.close()
        return self._open()

    def _fitting(self, data: bytes, start: int, size: int) -> int:
        """Return the end of the data that fits into the file from `start` on; `start` if it has to be rotated first."""
        if not self._is_regular or self.stuck is not None or len(data) - start <= self._most - size:
            return len(data)
        end = data.rfind(b"\n", start, max(start, start + self._most - size)) + 1
        if end:
            return end
        if self._line:
            end = data.find(b"\n", start) + 1 or len(data)
            if self._line + end - start <= self._most:
                return end
        # A line that is longer than a whole file is split.
        return start if size else start + self._most

    def _rotate(self) -> None:
        """Rotate the file, unless another app has just done so or is about to."""
        if self._descriptor is None:
            return
        locked = self._descriptor
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._tries += 1
            if self._tries == MOST_TRIES:
                self.stuck = error
            time.sleep(BETWEEN_TRIES)
            return
        except OSError:
            # Some file systems have no locks.
            locked = -1
        self._tries = 0
        try:
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self._identity and found.st_size:
                if self._older:
                    rotate_file(self.path, self._older)
                else:
                    os.ftruncate(self._descriptor, 0)
                self._line = 0
        except OSError as error:
            self.stuck = error
        if locked >= 0:
            fcntl.flock(locked, fcntl.LOCK_UN)


def _ends_line(path: str, size: int) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(size - 1)
            return file.read(1) in (b"\n", b"")
    except OSError:
        return True


def rotate_file(path: str, most: int) -> None:
    """Rotate `path` to `path.1`, shift the older parts, and keep at most `most` of them (at least one).

    Raises OSError.
    """
    for number in range(most - 1, 0, -1):
        with suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")
    os.replace(path, f"{path}.1")
