"""Notices as streams of server-sent events: each is encoded once for all readers, and kept for a while.

Rules: a reader delays no other. A reader that falls behind loses the events that it has not read, and learns how many.
This is a sink of the hub only while there are readers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from procreaper.core.events import Notice, Output
from procreaper.output.hub import Hub
from procreaper.remote.api import protocol
from procreaper.remote.api.codec import replace_surrogates
from procreaper.remote.api.feed import Feed, Line, Reader
from procreaper.remote.api.to_wire import changes_status, notice_to_wire, process_to_wire
from procreaper.runtime.supervisor import Supervisor

MOST_EVENTS, MOST_OUTPUT = 1 << 20, 4 << 20
# The loop is not blocked for longer than the encoding of this number of bytes takes.
SLICE = 1 << 15
# In bytes, in UTF-8.
LONGEST_CHARACTER = 4
KEEP_ALIVE = b": still there\n\n"


class Chunk(msgspec.Struct, frozen=True):
    """What a process wrote: whole lines, or part of one, which the next text of that process continues."""

    name: str
    time: float
    text: str


class Streams:
    """The events of an app, and what its processes write, for any number of readers.

    `complain` prints what went wrong in here.
    """

    def __init__(self, supervisor: Supervisor, hub: Hub, print_error: Callable[[str], None]) -> None:
        self._supervisor = supervisor
        self._hub = hub
        self._complain = print_error
        self._events, self._output = Feed(MOST_EVENTS), Feed(MOST_OUTPUT)
        # Which output the readers want.
        self._wanted: list[Callable[[str], bool]] = []
        self._number = 0
        self._is_sink = False

    @property
    def readers(self) -> int:
        """How many read."""
        return self._events.readers + self._output.readers

    @contextmanager
    def events(self, arrived: Callable[[], None]) -> Iterator[tuple[bytes, Reader]]:
        """The state of all processes, and a reader of all that happens from then on; `arrived` as in `Feed.follow`."""
        reader = self._events.follow(lambda _: True, self._missed, arrived)
        self._become_sink()
        try:
            yield self._snapshot(), reader
        finally:
            reader.close()

    @contextmanager
    def output(self, wanted: Callable[[str], bool], arrived: Callable[[], None]) -> Iterator[Reader]:
        """A reader of what is written from now on by those whose names are wanted."""
        reader = self._output.follow(lambda line: line.name is None or wanted(line.name), _dropped, arrived)
        self._wanted.append(wanted)
        self._become_sink()
        try:
            yield reader
        finally:
            self._wanted.remove(wanted)
            reader.close()

    def accept(self, notice: Notice) -> bool:
        """Take a notice from the hub, and tell the readers; never asks for a pause."""
        if not self.readers:
            self._hub.remove(self)
            self._is_sink = False
            return True
        try:
            self._tell(notice)
        except Exception as error:
            # Who is told is the owner's publisher: an error here would end the app.
            self._complain(f"procreaper: internal error: a reader cannot be told: {type(error).__name__}: {error}")
        return True

    def end(self, code: int) -> None:
        """Tell all readers that nothing follows, since the app has ended with this exit code."""
        farewell = Line(self._encode(protocol.GoodbyeNotice(time.time(), code)), None)
        self._events.publish(farewell)
        self._output.publish(farewell)

    def _tell(self, notice: Notice) -> None:
        if isinstance(notice, Output):
            if any(wanted(notice.name) for wanted in self._wanted):
                for line in encode_output(notice):
                    self._output.publish(line)
        elif self._events.is_followed:
            if (told := notice_to_wire(notice)) is not None:
                self._events.publish(Line(self._encode(told), None))
            if changes_status(notice):
                now = protocol.StatusNotice(notice.time, self._look(notice.name))
                self._events.publish(Line(self._encode(now), None))

    def _become_sink(self) -> None:
        if not self._is_sink:
            self._is_sink = True
            self._hub.add(self)

    def _look(self, name: str) -> protocol.ProcessStatus:
        return process_to_wire(self._supervisor.status_of(name), self._supervisor.process(name))

    def _snapshot(self) -> bytes:
        processes = protocol.StatusResult(tuple(self._look(process.name) for process in self._supervisor.processes))
        return _message("snapshot", processes, self._number)

    def _encode(self, notice: protocol.Notice) -> bytes:
        self._number += 1
        return _message(str(notice.__struct_config__.tag), notice, self._number)

    def _missed(self, notices: int, size: int) -> Iterator[bytes]:
        yield from _dropped(notices, size)
        yield self._snapshot()


def encode_output(output: Output) -> Iterator[Line]:
    """What a process wrote, a few lines at a time."""
    data, start = output.data, 0
    name = replace_surrogates(output.name)
    while start < len(data):
        end = _end_of_slice(data, start)
        text = data[start:end].decode(errors="replace")
        message = _message("output", Chunk(name, output.time, text))
        yield Line(message, output.name, spoken=True, output=end - start)
        start = end


def _end_of_slice(data: bytes, start: int) -> int:
    """Where a line ends, or else a character."""
    end = start + SLICE
    if end >= len(data):
        return len(data)
    if (line := data.rfind(b"\n", start, end) + 1) > 0:
        return line
    while end > start + SLICE - LONGEST_CHARACTER and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _dropped(notices: int, size: int) -> Iterator[bytes]:
    yield _message("dropped", protocol.DroppedNotice(time.time(), notices, size))


def _message(event: str, data: msgspec.Struct, number: int | None = None) -> bytes:
    """One message, as https://html.spec.whatwg.org/multipage/server-sent-events.html has it; JSON is a single line."""
    which = b"" if number is None else b"id: %d\n" % number
    return b"event: %s\n%sdata: %s\n\n" % (event.encode(), which, msgspec.json.encode(data))
