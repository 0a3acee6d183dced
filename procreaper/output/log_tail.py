"""The last lines of a log and of its older parts, and the bytes that are appended from then on.

Rules: reads only, in blocks. The log may be rotated meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import BinaryIO, NamedTuple

BLOCK = 1 << 16


class _Part(NamedTuple):
    """One file of a log, open, with its size when it was opened."""

    file: BinaryIO
    size: int


class RotatedLog:
    """The log at `path`. Also a context manager that closes it. Raises OSError if there is no readable file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stack = ExitStack()
        self._current: _Part | None = None
        # The bytes of the current file that have been read.
        self._position = 0

    def last_lines(self, lines: int | None, before: tuple[int, int, int] | None = None) -> Iterator[bytes]:
        """Yield the last `lines` lines (None: all) in blocks, oldest first; an incomplete line counts.

        `before`: only lines before an offset in the part with this device and inode, which may be gone.
        """
        parts = self._open_all()
        if before is not None:
            parts = _cut(parts, before)
            if not parts:
                return
        start = (0, 0) if lines is None else _find(parts, lines)
        for index, part in enumerate(parts[start[0] :], start[0]):
            position = start[1] if index == start[0] else 0
            part.file.seek(position)
            while position < part.size and (data := part.file.read(min(BLOCK, part.size - position))):
                position += len(data)
                yield data
        self._current, self._position = parts[-1], parts[-1].size

    def grown(self) -> Iterator[bytes]:
        """Return the bytes that were appended since the last call; after a rotation, the rest of the old file comes
        first.
        """
        if self._current is None:
            return
        yield from self._rest(self._current.file)
        try:
            found = os.stat(self._path)
        except OSError:
            # It has been moved away, and there is no new one yet.
            return
        now = os.fstat(self._current.file.fileno())
        if (found.st_dev, found.st_ino) != (now.st_dev, now.st_ino):
            self._current.file.close()
            self._current, self._position = _Part(self._open(self._path), 0), 0
            yield from self._rest(self._current.file)
        elif found.st_size < self._position:
            # It was truncated, and is written from its beginning.
            self._position = 0
            yield from self._rest(self._current.file)

    def __enter__(self) -> RotatedLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _rest(self, file: BinaryIO) -> Iterator[bytes]:
        file.seek(self._position)
        while data := file.read(BLOCK):
            self._position += len(data)
            yield data

    def _open_all(self) -> list[_Part]:
        """Open all parts, the oldest first. A part that is moved meanwhile is not taken twice."""
        newest = self._open(self._path)
        parts, known = [newest], {_identity(newest)}
        for number in count(1):
            try:
                older = self._open(f"{self._path}.{number}")
            except OSError:
                break
            if _identity(older) not in known:
                known.add(_identity(older))
                parts.append(older)
        return [_Part(file, os.fstat(file.fileno()).st_size) for file in reversed(parts)]

    def _open(self, path: str) -> BinaryIO:
        return self._stack.enter_context(open(path, "rb"))


def _cut(parts: list[_Part], before: tuple[int, int, int]) -> list[_Part]:
    for index, part in enumerate(parts):
        if _identity(part.file) == before[:2]:
            return [*parts[:index], part._replace(size=min(part.size, before[2]))]
    return []


def _identity(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino


def _find(parts: list[_Part], lines: int) -> tuple[int, int]:
    """Return the part in which the last `lines` lines begin, and the offset there."""
    if not lines:
        return len(parts) - 1, parts[-1].size
    # The end of the last line is not the beginning of one.
    seen_any = False
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        position = part.size
        while position > 0:
            start = max(0, position - BLOCK)
            part.file.seek(start)
            data = part.file.read(position - start)
            end = len(data)
            if not seen_any and data.endswith(b"\n"):
                end -= 1
            seen_any = True
            while (end := data.rfind(b"\n", 0, end)) >= 0:
                lines -= 1
                if not lines:
                    return index, start + end + 1
            position = start
    return 0, 0
