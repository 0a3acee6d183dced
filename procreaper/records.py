"""Notices as structured log records: one JSON object a line, with the names of the Go library reaper's log.

Rules: pure; the clock comes in as a function. `time`, `level`, `msg` and `name` come first; then what the event has of
its own. A line that a child wrote is a record whose `msg` is the line, without its end and decoded as UTF-8, where
bytes that are not UTF-8 are replaced. Part of a line waits for the rest, for the end of the run, or for `LONGEST_WAIT`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import assert_never

from procreaper.events import Message, Notice, Output, RunBegan, RunEnded, SignalSent, State, Transition
from procreaper.lifecycle import ABOUT_TO_START, HEALTHY

SYSTEM = "procreaper"
# Part of a line beyond this many bytes becomes a record of its own.
LONGEST_WAIT = 1 << 20

Record = dict[str, object]


class RecordFormat:
    """Renders notices one after the other as JSON lines; remembers the unfinished lines between them.

    `timestamp` gives the time in RFC 3339 for seconds since the epoch; `signal_name` gives ``SIGTERM`` for 15.
    """

    def __init__(self, *, timestamp: Callable[[float], str], signal_name: Callable[[int], str]) -> None:
        self._timestamp = timestamp
        self._signal_name = signal_name
        self._unfinished: dict[str, tuple[float, bytes]] = {}
        self._pids: dict[str, int] = {}

    def render(self, notice: Notice) -> bytes:
        """The bytes to print for a notice; none for one that says nothing new."""
        return b"".join(_encode(record) for record in self._records(notice))

    def finish(self) -> bytes:
        """What is to be printed last: the lines that never ended."""
        return b"".join(_encode(record) for name in tuple(self._unfinished) for record in self._end_line(name))

    def _records(self, notice: Notice) -> Iterator[Record]:
        match notice:
            case Output(time=time, name=name, data=data):
                yield from self._lines(time, name, data)
            case RunBegan(time=time, name=name, pid=pid):
                self._pids[name] = pid
                yield self._record(time, "INFO", "process started", name, pid=pid)
            case RunEnded(time=time, name=name, pid=None, reason=reason):
                yield self._record(time, "ERROR", "process could not be started", name, error=reason)
            case RunEnded(time=time, name=name, pid=pid, exit=exit_):
                yield from self._end_line(name)
                level = "WARN" if exit_.status else "INFO"
                how: Record = {"exit_code": exit_.status}
                if exit_.signal is not None:
                    how["signal"] = self._signal_name(exit_.signal)
                yield self._record(time, level, "process exited", name, pid=pid, **how)
            case SignalSent(time=time, name=name, pid=pid, signal=number):
                yield self._record(time, "INFO", "sending signal", name, pid=pid, signal=self._signal_name(number))
            case Transition():
                yield from self._transition(notice)
            case Message(time=time, text=text):
                yield self._record(time, "INFO", _printable(text), SYSTEM)
            case _:
                assert_never(notice)

    def _transition(self, notice: Transition) -> Iterator[Record]:
        time, name, reason = notice.time, notice.name, notice.reason
        changed = notice.state is not notice.before
        match notice.state:
            case State.HEALTHY | State.RUNNING if changed:
                yield self._record(time, "INFO", "process is ready", name)
            case State.HEALTHY if reason != HEALTHY:
                yield self._record(time, "WARN", "health check failed", name, reason=reason)
            case State.UNHEALTHY if changed:
                yield self._record(time, "WARN", "process is unhealthy", name, reason=reason)
            case State.RESTARTING if changed:
                backoff = duration(notice.backoff or 0.0)
                yield self._record(
                    time, "WARN", "restarting process", name, backoff=backoff, retries=notice.retries, reason=reason
                )
            case State.PENDING if changed and reason != ABOUT_TO_START:
                yield self._record(time, "INFO", "waiting for dependencies", name, reason=reason)
            case State.COMPLETED if changed:
                yield self._record(time, "INFO", "process completed", name)
            case State.FAILED if changed:
                code = None if notice.exit is None else notice.exit.status
                yield self._record(time, "ERROR", "process failed", name, exit_code=code, reason=reason)
            case State.SKIPPED if changed:
                yield self._record(time, "WARN", "process skipped", name, reason=reason)
            case State.STOPPING if changed:
                yield self._record(time, "INFO", "stopping process", name, reason=reason)
            case _:
                return

    def _lines(self, time: float, name: str, data: bytes) -> Iterator[Record]:
        began, held = self._unfinished.pop(name, (time, b""))
        *lines, rest = (held + data).split(b"\n")
        for line in lines:
            yield self._line(began, name, line)
            began = time
        if len(rest) > LONGEST_WAIT:
            yield self._line(began, name, rest)
        elif rest:
            self._unfinished[name] = began, rest

    def _end_line(self, name: str) -> Iterator[Record]:
        if name in self._unfinished:
            time, data = self._unfinished.pop(name)
            yield self._line(time, name, data)

    def _line(self, time: float, name: str, line: bytes) -> Record:
        text = line.removesuffix(b"\r").decode(errors="replace")
        return self._record(time, "INFO", text, name, pid=self._pids.get(name), stream="output")

    def _record(self, time: float, level: str, message: str, name: str, **more: object) -> Record:
        present = {key: value for key, value in more.items() if value is not None}
        return {"time": self._timestamp(time), "level": level, "msg": message, "name": name, **present}


def duration(seconds: float) -> str:
    """A duration as Go writes it: ``500ms``, ``2s``, ``1m30s``.

    >>> duration(0.5), duration(2.0), duration(90)
    ('500ms', '2s', '1m30s')
    """
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{rest:g}s" if not minutes else f"{minutes:.0f}m{rest:g}s"


def _encode(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _printable(text: str) -> str:
    # A text may carry a file's name: bytes that are not UTF-8 came in as lone surrogates, which JSON cannot hold.
    return text.encode(errors="surrogateescape").decode(errors="replace")
