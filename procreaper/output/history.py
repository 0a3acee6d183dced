"""The recent output of all processes: bounded in bytes, and fair to processes that write little.

Rules: runs in the loop's thread, never blocks, and never asks a writer to pause. Data is kept without copying where
possible. A client that takes the `tail` and begins to listen in the same turn of the loop misses no notice and gets
none twice.

Theory of operation. Each process has its own queue, and all notices are numbered, so that a reader can merge them. When
all queues together hold more than `MOST_BYTES`, each queue above its fair share drops its oldest notices. The share is
the level to which all queues would be filled if the room were poured out over them: queues below that level lose
nothing. Space is made for some time ahead, so that the level is not looked for at every notice. Only a single piece of
output that is larger than the share is cut, at the beginning of a line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from procreaper.core.events import Checked, Message, Notice, Output

# A flood comes in pieces of a megabyte. Four of those, one of each of four who flood, fit in without being cut; and
# what we take under such a flood, twenty-odd MiB without this, stays under 32.
MOST_BYTES = 9 << 19
# The bytes that a notice takes besides its output, in Python objects. With one line each, this is the greater part.
OVERHEAD = 256
# A cut copies the rest: an eighth of a piece of a flood at most.
LARGEST_COPY = 1 << 17
# The name under which messages of procreaper are kept.
OURSELVES = ""


class Tail(NamedTuple):
    """The last notices, in order. Of the processes in `truncated`, more was asked for than is kept."""

    notices: tuple[Notice, ...]
    truncated: tuple[str, ...] = ()


class History:
    """A sink that keeps the last notices."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._low = most_bytes - most_bytes // 16
        self._size = 0
        self._number = 0
        self._queues: dict[str, _Queue] = {}

    def accept(self, notice: Notice) -> bool:
        """Keep the notice, and drop older ones if there is no room."""
        size = OVERHEAD
        if isinstance(notice, Output):
            name = notice.name
            size += len(notice.data)
        elif isinstance(notice, Checked):
            # Not kept: the effect of a check is a transition.
            return True
        else:
            name = OURSELVES if isinstance(notice, Message) else notice.name
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue()
        self._number += 1
        queue.entries.append((self._number, notice))
        queue.size += size
        self._size += size
        if self._size > self._most:
            self._make_room()
        return True

    def tail(self, names: Collection[str] | None = None, lines: int | None = None) -> Tail:
        """Return the last `lines` lines of each of these processes (None: all that is kept; of all), and their events.

        An unfinished line at the end counts as a line: the next output of that process continues it. The number of
        events, and of messages of procreaper, is limited in the same way, and none is older than the lines.
        """
        entries: list[tuple[int, Notice]] = []
        truncated = []
        for name, queue in self._queues.items():
            if name == OURSELVES or (names is not None and name not in names):
                continue
            some, is_all = queue.tail(lines)
            entries += some
            if is_all and queue.gave_up:
                truncated.append(name)
        if OURSELVES in self._queues and lines != 0:
            begin = min((number for number, _ in entries), default=0)
            said = [entry for entry in self._queues[OURSELVES].entries if lines is None or entry[0] > begin]
            entries += said if lines is None else said[-lines:]
        return Tail(tuple(notice for _, notice in sorted(entries, key=lambda entry: entry[0])), tuple(truncated))

    def _make_room(self) -> None:
        queues = self._queues.values()
        level = _level((queue.size for queue in queues), self._low)
        large = [queue for queue in queues if queue.size > level]
        for queue in large:
            queue.give_up(level)
        self._size = sum(queue.size for queue in queues)
        if self._size > self._most:
            for queue in large:
                queue.cut(level)
            self._size = sum(queue.size for queue in queues)


class _Queue:
    """The notices of one process, the oldest first, each with its number."""

    __slots__ = ("begins_within_line", "entries", "gave_up", "size")

    def __init__(self) -> None:
        self.entries: deque[tuple[int, Notice]] = deque()
        self.size = 0
        self.gave_up = False
        self.begins_within_line = False

    def give_up(self, level: int) -> None:
        """Drop the oldest notices until `level` bytes are left at most, but keep some."""
        entries = self.entries
        while self.size > level and len(entries) > 1:
            notice = entries[0][1]
            data = notice.data if isinstance(notice, Output) else b"\n"
            size = OVERHEAD + (len(data) if isinstance(notice, Output) else 0)
            if self.size - size < level // 2:
                return
            entries.popleft()
            self.size -= size
            self.begins_within_line = not data.endswith(b"\n")
            self.gave_up = True

    def cut(self, level: int) -> None:
        """Drop the beginning of the oldest notice if more than `level` bytes are left."""
        number, notice = self.entries[0]
        if self.size <= level or not isinstance(notice, Output):
            return
        data = notice.data
        others = self.size - len(data)
        # Something of the very last notice is always left.
        start = len(data) - max(min(level, LARGEST_COPY) - others, 1)
        begin = data.find(b"\n", start - 1, -1) + 1
        self.begins_within_line = begin == 0
        self.gave_up = True
        self.entries[0] = (number, notice._replace(data=data[begin or start :]))
        self.size = others + len(data) - (begin or start)

    def tail(self, lines: int | None) -> tuple[list[tuple[int, Notice]], bool]:
        """Return the last `lines` lines of each of these processes (None: all that is kept; of all), and their events.

        An unfinished line at the end counts as a line: the next output of that process continues it. The number of
        events, and of messages of procreaper, is limited in the same way, and none is older than the lines.
        """
        if lines == 0:
            return [], False
        found: list[tuple[int, Notice]] = []
        events, most_events = 0, lines
        # Whether the beginning of the line that was seen last is still to be found.
        searching = False
        for number, notice in reversed(self.entries):
            if lines is None:
                found.append((number, notice))
            elif isinstance(notice, Output):
                start, lines = _start_of_lines(notice.data, lines, goes_on=searching)
                searching = True
                if start < len(notice.data):
                    found.append((number, notice._replace(data=notice.data[start:]) if start else notice))
                if not lines:
                    return found[::-1], False
            else:
                lines -= searching
                searching = False
                if not lines:
                    return found[::-1], False
                events += 1
                if events <= (most_events or 0):
                    found.append((number, notice))
        found.reverse()
        if self.begins_within_line:
            return _from_line_start(found), True
        return found, lines is None or lines > searching


def _start_of_lines(data: bytes, lines: int, *, goes_on: bool) -> tuple[int, int]:
    """Return where the last `lines` lines begin, or 0, and the number of lines that begin before this data.

    `goes_on`: more data follows, so that a line end at its end also begins a line.
    """
    end = len(data) if goes_on or not data.endswith(b"\n") else len(data) - 1
    found = data.count(b"\n", 0, end)
    if found < lines:
        return 0, lines - found
    for _ in range(lines):
        end = data.rfind(b"\n", 0, end)
    return end + 1, 0


def _from_line_start(entries: list[tuple[int, Notice]]) -> list[tuple[int, Notice]]:
    """Leave out the rest of a line whose beginning was dropped, unless nothing follows it."""
    for index, (number, notice) in enumerate(entries):
        if not isinstance(notice, Output):
            # A run is over, and so is its line.
            return entries[index:]
        begin = notice.data.find(b"\n") + 1
        if 0 < begin < len(notice.data):
            return [(number, notice._replace(data=notice.data[begin:])), *entries[index + 1 :]]
        if begin and len(entries) > index + 1:
            return entries[index + 1 :]
    return entries


def _level(sizes: Iterable[int], room: int) -> int:
    """Return the level to which all queues would be filled if the room were poured out over them."""
    left = sorted(sizes)
    while left:
        level = room // len(left)
        if left[0] > level:
            return level
        room -= left.pop(0)
    return room
