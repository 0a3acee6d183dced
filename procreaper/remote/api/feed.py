"""The queue of notices for all followers: each line is encoded once, kept for a while, and counted if a follower misses
it.

Rules: pure. All followers together keep at most `MOST_KEPT` bytes. A follower delays no other. A follower that falls
behind loses all lines that it has not read, learns how many, and continues from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

MOST_KEPT = 4 << 20
# About the size of Python's objects for a line, in bytes, besides the line itself.
OVERHEAD = 200


class Line(NamedTuple):
    """One encoded notice about process `name` (None: about no process), with `output` bytes of output.

    `output_only`: the line is only for followers that read output and messages.
    """

    data: bytes
    name: str | None
    output_only: bool = False
    output: int = 0


class Feed:
    """The lines that some follower still has to read, oldest first; `end` is the position of the next line."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._lines: dict[int, Line] = {}
        self._first = 0
        self.end = 0
        self._size = 0
        self._readers: list[Reader] = []

    @property
    def is_followed(self) -> bool:
        """Whether the feed has a follower."""
        return bool(self._readers)

    @property
    def readers(self) -> int:
        """The number of followers."""
        return len(self._readers)

    def follow(
        self,
        wants: Callable[[Line], bool],
        missed: Callable[[int, int], Iterable[bytes]],
        arrived: Callable[[], None],
    ) -> Reader:
        """Return a reader of the lines from now on for which `wants` is true.

        The reader calls `arrived` when there is a line again after it has read all. `missed` makes the lines that
        report lost notices, from their number and the bytes of their output.
        """
        reader = Reader(self, wants, missed, arrived, self.end)
        self._readers.append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Remove this reader. Do nothing if it was removed before. Without readers, drop all lines."""
        if reader in self._readers:
            self._readers.remove(reader)
        if not self._readers:
            self._lines.clear()
            self._first, self._size = self.end, 0

    def publish(self, line: Line) -> None:
        """Add a line for all followers. Without followers, keep nothing."""
        if not self._readers:
            return
        self._lines[self.end] = line
        self.end += 1
        self._size += len(line.data) + OVERHEAD
        while self._size > self._most:
            for reader in self._readers:
                if reader.position == self._first:
                    reader.give_up()
            oldest = self._lines.pop(self._first)
            self._first += 1
            self._size -= len(oldest.data) + OVERHEAD
        for reader in self._readers:
            reader.notify()

    def line(self, position: int) -> Line | None:
        """Return the line at this position, or None at the end."""
        return self._lines.get(position)


class Reader:
    """The position of one follower in the feed."""

    def __init__(
        self,
        feed: Feed,
        wants: Callable[[Line], bool],
        missed: Callable[[int, int], Iterable[bytes]],
        arrived: Callable[[], None],
        position: int,
    ) -> None:
        self.position = position
        self._feed = feed
        self._wants = wants
        self._missed = missed
        self._arrived = arrived
        self._waits = True
        self._lost = (0, 0)
        # Lines to read before the next line of the feed.
        self._first: deque[bytes] = deque()

    def read(self) -> bytes | None:
        """Return the next line. Return None if there is none; then `arrived` is called when the next one comes."""
        if self._lost != (0, 0):
            lost, self._lost = self._lost, (0, 0)
            self._first.extend(self._missed(*lost))
        if self._first:
            return self._first.popleft()
        while (line := self._feed.line(self.position)) is not None:
            self.position += 1
            if self._wants(line):
                return line.data
        self._waits = True
        return None

    def until_now(self) -> Iterator[bytes]:
        """Yield the unread lines of those that have been published so far."""
        end = self._feed.end
        while self.position < end or self._lost != (0, 0) or self._first:
            data = self.read()
            if data is None:
                return
            yield data

    def notify(self) -> None:
        """Call `arrived` if the reader waits for a line."""
        if self._waits:
            self._waits = False
            self._arrived()

    def give_up(self) -> None:
        """Drop and count all unread lines."""
        notices, size = self._lost
        while (line := self._feed.line(self.position)) is not None:
            self.position += 1
            if self._wants(line):
                notices += 1
                size += line.output
        self._lost = (notices, size)

    def close(self) -> None:
        """Stop reading."""
        self._feed.leave(self)
