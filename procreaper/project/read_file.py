"""A whole file of the project, whatever is at its path: also a pipe without a writer, or a device without end.

Rules: a read ends, however odd the file is, and takes a bounded amount of memory. A pipe is read like a file, since
`-e <(command)` names one, and some programs keep secrets behind one.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISFIFO

# Far more than any Procfile, environment file or `.reaper.toml` has.
MOST_BYTES = 10_000_000
# In seconds: how long a pipe may have no writer, and how long a writer may write nothing. It may ask for a password.
PATIENCE, LONG_PATIENCE = 1.0, 60.0


def read_file(path: str) -> bytes:
    """Read a file. Raises OSError, whose `strerror` is a phrase, also for what cannot be a file of a project."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        # A pipe without a name has had its writer already.
        has_begun = not S_ISFIFO(mode) or path.startswith(("/dev/", "/proc/"))
        parts: list[bytes] = []
        size = 0
        while size <= MOST_BYTES:
            try:
                part = os.read(descriptor, 1 << 20)
            except BlockingIOError:
                if not _wait(descriptor, LONG_PATIENCE if S_ISFIFO(mode) else None):
                    raise OSError(errno.ETIMEDOUT, "it is a pipe to which nothing is written") from None
                has_begun = True
                continue
            if not part:
                if has_begun:
                    return b"".join(parts)
                if not _wait(descriptor, PATIENCE):
                    raise OSError(errno.ENXIO, "it is a pipe to which nothing is written")
            has_begun = True
            parts.append(part)
            size += len(part)
    finally:
        os.close(descriptor)
    raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES // 1_000_000} MB")


def _wait(descriptor: int, seconds: float | None) -> bool:
    """Wait until there is something to read, or the writer has ended; False when the time is over."""
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
