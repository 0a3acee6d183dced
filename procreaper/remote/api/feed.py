"""What followers are told: each line encoded once for all of them, kept for a while, and what each has missed.

Rules: pure. Whatever the number of followers, no more than `MOST_KEPT` bytes are kept. A follower delays no other. A
follower that falls behind loses all lines that it has not read, learns how many, and continues from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

MOST_KEPT = 4 << 20
# About what Python needs to keep a line, besides its bytes.
OVERHEAD = 200


class Line(NamedTuple):
    """One notice, as it is sent: about process `name` (None: about none), with `output` bytes of output.

    `spoken`: it is for those only who want to read what is written and said.
    """

    data: bytes
    name: str | None
    spoken: bool = False
    output: int = 0


class Feed:
    """The lines that some follower still has to read, oldest first; `end` is the position of the next one."""

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
        """How many read."""
        return len(self._readers)

    def follow(
        self,
        wants: Callable[[Line], bool],
        missed: Callable[[int, int], Iterable[bytes]],
        arrived: Callable[[], None],
    ) -> Reader:
        """Read from the next line on those that are wanted; `arrived` is called when there is one again.

        `missed` makes the lines that report lost notices, from their number and the bytes of their output.
        """
        reader = Reader(self, wants, missed, arrived, self.end)
        self._readers.append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Read no more; nothing happens when it does not."""
        if reader in self._readers:
            self._readers.remove(reader)
        if not self._readers:
            self._lines.clear()
            self._first, self._size = self.end, 0

    def publish(self, line: Line) -> None:
        """Add a line for all followers that want it. Without followers, keep nothing."""
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
        """The line at this position; None where that is the end."""
        return self._lines.get(position)


class Reader:
    """Where one follower is."""

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
        # What is sent before it goes on.
        self._first: deque[bytes] = deque()

    def read(self) -> bytes | None:
        """The next line; None where there is none, until `arrived` is called."""
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
        """What it has not read of all that has been published so far, as it is asked for."""
        end = self._feed.end
        while self.position < end or self._lost != (0, 0) or self._first:
            data = self.read()
            if data is None:
                return
            yield data

    def notify(self) -> None:
        """There is a new line."""
        if self._waits:
            self._waits = False
            self._arrived()

    def give_up(self) -> None:
        """Lose all that was not read."""
        notices, size = self._lost
        while (line := self._feed.line(self.position)) is not None:
            self.position += 1
            if self._wants(line):
                notices += 1
                size += line.output
        self._lost = (notices, size)

    def close(self) -> None:
        """Read no more."""
        self._feed.leave(self)
