"""Reads a whole file of the project, with limits on time and size, because its path may be a pipe or a device.

Rules: every read ends, and takes a bounded amount of memory. A pipe is read like a file, because `-e <(command)` names
a pipe, and some programs provide secrets through one.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISFIFO

# Far larger than any Procfile, environment file or `.reaper.toml`.
MOST_BYTES = 10_000_000
# In seconds: the time to wait for a writer of a pipe, and for its data. The writer may first ask for a password.
WRITER_TIMEOUT, DATA_TIMEOUT = 1.0, 60.0


def read_file(path: str) -> bytes:
    """Read a file. Raises OSError with a phrase as `strerror`, also for a directory, a silent pipe or a huge file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        # A pipe without a name has already had a writer, so an empty read is its end.
        had_writer = not S_ISFIFO(mode) or path.startswith(("/dev/", "/proc/"))
        parts: list[bytes] = []
        size = 0
        while size <= MOST_BYTES:
            try:
                part = os.read(descriptor, 1 << 20)
            except BlockingIOError:
                if not _wait(descriptor, DATA_TIMEOUT if S_ISFIFO(mode) else None):
                    raise OSError(errno.ETIMEDOUT, "it is a pipe to which nothing is written") from None
                had_writer = True
                continue
            if not part:
                if had_writer:
                    return b"".join(parts)
                if not _wait(descriptor, WRITER_TIMEOUT):
                    raise OSError(errno.ENXIO, "it is a pipe to which nothing is written")
            had_writer = True
            parts.append(part)
            size += len(part)
    finally:
        os.close(descriptor)
    raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES // 1_000_000} MB")


def _wait(descriptor: int, seconds: float | None) -> bool:
    """Wait for data, or for the end of the writer. Return False after the timeout."""
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
