"""Sinks for the output of a manager: a pipe, a terminal or a file, each with a reader that records times.

A reader does not check the output: it keeps the bytes and the time of the last one. Its memory is touched before the
clock starts, because a page fault for every 4 KiB would count as slowness of the manager.
"""

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

READ_BYTES = 1 << 20
QUIET_SECONDS = 0.2
SILENCE_SECONDS = 5.0
FILE_INTERVAL_SECONDS = 0.002
ROWS, COLUMNS = 50, 200

Finished = Callable[[bytearray, int], bool]


@dataclass(frozen=True, slots=True)
class Collected:
    """The output that arrived: the bytes up to `length`, and the monotonic time of the last one in seconds."""

    data: bytearray
    length: int
    last: float


class Sink(Protocol):
    """The far end of a manager's output; `reader` is None for a file, which has no reading end."""

    writer: int

    @property
    def reader(self) -> int | None: ...

    def prepare(self, capacity: int) -> None:
        """Prepare memory for `capacity` bytes, before the clock starts."""
        ...

    def collect(self, finished: Finished, limit: float) -> Collected:
        """Read until no output comes and `finished` agrees, or until a long silence, or until the limit."""
        ...

    def close(self) -> None: ...


_arena = bytearray()


def arena(capacity: int) -> bytearray:
    """Return at least `capacity` bytes of memory with every page touched. All callers share it."""
    global _arena
    if len(_arena) < capacity:
        _arena = bytearray(capacity)
        _arena[::4096] = b"\1" * len(range(0, capacity, 4096))
    return _arena


def collect_from(reader: int, data: bytearray, finished: Finished, limit: float) -> Collected:
    """Read a pipe or a terminal."""
    view = memoryview(data)
    length = 0
    last = time.monotonic()
    deadline = last + limit
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while time.monotonic() < deadline and length < len(data):
        try:
            count = os.readv(reader, [view[length : length + READ_BYTES]])
        except BlockingIOError:
            if not poll.poll(QUIET_SECONDS * 1000) and (
                finished(data, length) or time.monotonic() - last > SILENCE_SECONDS
            ):
                break
            continue
        except OSError:
            # EIO: no process holds the other side of the terminal.
            break
        if not count:
            break
        length += count
        last = time.monotonic()
    return Collected(data, length, last)


def discard(sink: Sink) -> None:
    """Discard the output that has arrived, so that no manager waits for its reader."""
    if sink.reader is None:
        return
    try:
        while os.read(sink.reader, READ_BYTES):
            pass
    except OSError:
        return


class _Stream:
    """The common part of a pipe and a terminal."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer = reader, writer
        self._data = bytearray()
        os.set_blocking(reader, False)

    def prepare(self, capacity: int) -> None:
        self._data = arena(capacity)

    def collect(self, finished: Finished, limit: float) -> Collected:
        return collect_from(self.reader, self._data, finished, limit)

    def close(self) -> None:
        os.close(self.reader)


class PipeSink(_Stream):
    """A pipe of the usual size."""

    def __init__(self) -> None:
        super().__init__(*os.pipe())


class TerminalSink(_Stream):
    """A pseudo-terminal with its usual settings, so that every newline arrives as two bytes."""

    def __init__(self) -> None:
        super().__init__(*pty.openpty())
        fcntl.ioctl(self.writer, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))


class FileSink:
    """A file. It is read when it has stopped growing; the time is that of its last growth."""

    reader: None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def prepare(self, capacity: int) -> None:
        arena(capacity)

    def collect(self, finished: Finished, limit: float) -> Collected:
        length = 0
        last = checked = time.monotonic()
        deadline = last + limit
        data = bytearray()
        while (now := time.monotonic()) < deadline:
            size = self.path.stat().st_size
            if size != length:
                length, last = size, now
            elif now - max(last, checked) > QUIET_SECONDS:
                data = self._content(length)
                if finished(data, length) or now - last > SILENCE_SECONDS:
                    break
                checked = time.monotonic()
            time.sleep(FILE_INTERVAL_SECONDS)
        return Collected(self._content(length), length, last)

    def _content(self, length: int) -> bytearray:
        data = arena(length)
        with self.path.open("rb") as file:
            file.readinto(memoryview(data)[:length])
        return data

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
