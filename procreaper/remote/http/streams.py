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
# The longest character in UTF-8, in bytes.
LONGEST_CHARACTER = 4
KEEP_ALIVE = b": still there\n\n"


class Chunk(msgspec.Struct, frozen=True):
    """Output of a process: whole lines, or part of a line, which the next text of that process continues."""

    name: str
    time: float
    text: str


class Streams:
    """The events of an app and the output of its processes, for any number of readers.

    `print_error` reports internal errors.
    """

    def __init__(self, supervisor: Supervisor, hub: Hub, print_error: Callable[[str], None]) -> None:
        self._supervisor = supervisor
        self._hub = hub
        self._print_error = print_error
        self._events, self._output = Feed(MOST_EVENTS), Feed(MOST_OUTPUT)
        # One function for each reader of output: whether it wants the output of the process with this name.
        self._wanted: list[Callable[[str], bool]] = []
        self._number = 0
        self._is_sink = False

    @property
    def readers(self) -> int:
        """The number of readers."""
        return self._events.readers + self._output.readers

    @contextmanager
    def events(self, arrived: Callable[[], None]) -> Iterator[tuple[bytes, Reader]]:
        """Give the status of all processes, and a reader of all events from then on; `arrived` is as in
        `Feed.follow`.
        """
        reader = self._events.follow(lambda _: True, self._encode_missed, arrived)
        self._become_sink()
        try:
            yield self._snapshot(), reader
        finally:
            reader.close()

    @contextmanager
    def output(self, wanted: Callable[[str], bool], arrived: Callable[[], None]) -> Iterator[Reader]:
        """Give a reader of the output from now on of the processes whose names are wanted."""
        reader = self._output.follow(lambda line: line.name is None or wanted(line.name), _encode_dropped, arrived)
        self._wanted.append(wanted)
        self._become_sink()
        try:
            yield reader
        finally:
            self._wanted.remove(wanted)
            reader.close()

    def accept(self, notice: Notice) -> bool:
        """Receive a notice from the hub and publish it to the readers. Never ask for a pause."""
        if not self.readers:
            self._hub.remove(self)
            self._is_sink = False
            return True
        try:
            self._publish(notice)
        except Exception as error:
            # The supervisor publishes notices: an error here would end the app.
            self._print_error(
                f"procreaper: internal error: a notice cannot be sent to readers: {type(error).__name__}: {error}"
            )
        return True

    def end(self, code: int) -> None:
        """Send all readers a goodbye: the app has ended with this exit code."""
        goodbye = Line(self._encode(protocol.GoodbyeNotice(time.time(), code)), None)
        self._events.publish(goodbye)
        self._output.publish(goodbye)

    def _publish(self, notice: Notice) -> None:
        if isinstance(notice, Output):
            if any(wanted(notice.name) for wanted in self._wanted):
                for line in encode_output(notice):
                    self._output.publish(line)
        elif self._events.is_followed:
            if (converted := notice_to_wire(notice)) is not None:
                self._events.publish(Line(self._encode(converted), None))
            if changes_status(notice):
                now = protocol.StatusNotice(notice.time, self._process(notice.name))
                self._events.publish(Line(self._encode(now), None))

    def _become_sink(self) -> None:
        if not self._is_sink:
            self._is_sink = True
            self._hub.add(self)

    def _process(self, name: str) -> protocol.ProcessStatus:
        return process_to_wire(self._supervisor.status_of(name), self._supervisor.process(name))

    def _snapshot(self) -> bytes:
        processes = protocol.StatusResult(tuple(self._process(process.name) for process in self._supervisor.processes))
        return _encode_event("snapshot", processes, self._number)

    def _encode(self, notice: protocol.Notice) -> bytes:
        self._number += 1
        return _encode_event(str(notice.__struct_config__.tag), notice, self._number)

    def _encode_missed(self, notices: int, size: int) -> Iterator[bytes]:
        yield from _encode_dropped(notices, size)
        yield self._snapshot()


def encode_output(output: Output) -> Iterator[Line]:
    """Encode output, a few lines at a time."""
    data, start = output.data, 0
    name = replace_surrogates(output.name)
    while start < len(data):
        end = _find_slice_end(data, start)
        text = data[start:end].decode(errors="replace")
        message = _encode_event("output", Chunk(name, output.time, text))
        yield Line(message, output.name, output_only=True, output=end - start)
        start = end


def _find_slice_end(data: bytes, start: int) -> int:
    """Return the end of the next slice: the end of a line, or else of a character."""
    end = start + SLICE
    if end >= len(data):
        return len(data)
    if (line := data.rfind(b"\n", start, end) + 1) > 0:
        return line
    while end > start + SLICE - LONGEST_CHARACTER and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _encode_dropped(notices: int, size: int) -> Iterator[bytes]:
    yield _encode_event("dropped", protocol.DroppedNotice(time.time(), notices, size))


def _encode_event(event: str, data: msgspec.Struct, number: int | None = None) -> bytes:
    """Encode one event as https://html.spec.whatwg.org/multipage/server-sent-events.html says; JSON has no newlines."""
    which = b"" if number is None else b"id: %d\n" % number
    return b"event: %s\n%sdata: %s\n\n" % (event.encode(), which, msgspec.json.encode(data))
