"""Notices as structured log records: one JSON object per line, with the names of the Go library reaper's log.

Rules: pure; the clock comes in as a function. `time`, `level`, `msg` and `name` come first, then the fields of the
event. A line of a child is a record whose `msg` is the line, without its end, decoded as UTF-8 with invalid bytes
replaced. A part of a line waits for its rest, for the end of the run, or for `LONGEST_WAIT`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import assert_never

from procreaper.core.events import (
    Checked,
    Message,
    Notice,
    Output,
    Removed,
    RunBegan,
    RunEnded,
    SignalSent,
    State,
    Transition,
)
from procreaper.core.state import ABOUT_TO_START, HEALTHY, PAUSED

SYSTEM = "procreaper"
# A part of a line of more than this many bytes becomes a record of its own.
LONGEST_WAIT = 1 << 20

Fields = dict[str, object]


class RecordFormat:
    """Renders notices one after the other as JSON lines; it remembers the unfinished lines between them.

    `timestamp` returns the time in RFC 3339 for seconds since the epoch, or None if it is unknown; `signal_name`
    returns ``SIGTERM`` for 15.
    """

    margin = 0

    def __init__(self, *, timestamp: Callable[[float], str | None], signal_name: Callable[[int], str]) -> None:
        self._timestamp = timestamp
        self._signal_name = signal_name
        self._unfinished: dict[str, tuple[float, bytes]] = {}
        self._pids: dict[str, int] = {}

    def expect(self, names: Iterable[str]) -> None:
        """Do nothing: no line depends on the names of other processes."""

    def render(self, notice: Notice) -> bytes:
        """Return the bytes to print for a notice; none for one that adds nothing."""
        if isinstance(notice, Output):
            return self._lines(notice.time, notice.name, notice.data)
        before = b""
        if isinstance(notice, RunBegan):
            self._pids[notice.name] = notice.pid
        elif isinstance(notice, RunEnded):
            before = self._end_line(notice.name)
        records = fields(notice, self._signal_name)
        return before + b"".join(self._encode(notice.time, *record) for record in records)

    def finish(self) -> bytes:
        """Return the bytes to print last: the lines that never ended."""
        return b"".join(self._end_line(name) for name in tuple(self._unfinished))

    def _lines(self, time: float, name: str, data: bytes) -> bytes:
        began, held = self._unfinished.pop(name, (time, b""))
        *lines, rest = (held + data).split(b"\n")
        if len(rest) > LONGEST_WAIT:
            lines.append(rest)
        elif rest:
            self._unfinished[name] = (time if lines else began), rest
        return b"".join(self._line(time if index else began, name, line) for index, line in enumerate(lines))

    def _end_line(self, name: str) -> bytes:
        time, data = self._unfinished.pop(name, (0.0, b""))
        return self._line(time, name, data) if data else b""

    def _line(self, time: float, name: str, line: bytes) -> bytes:
        text = line.removesuffix(b"\r").decode(errors="replace")
        return self._encode(time, "INFO", text, name, {"pid": self._pids.get(name), "stream": "output"})

    def _encode(self, time: float, level: str, message: str, name: str, more: Fields) -> bytes:
        record = {"time": self._timestamp(time), "level": level, "msg": message, "name": name, **more}
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def fields(notice: Notice, signal_name: Callable[[int], str]) -> Iterator[tuple[str, str, str, Fields]]:
    """Return level, message, name and further fields of a notice, if it is worth a record."""
    match notice:
        case Output() | Checked():
            return
        case RunBegan(name=name, pid=pid):
            yield "INFO", "process started", name, {"pid": pid}
        case RunEnded(name=name, pid=None, reason=reason):
            yield "ERROR", "process could not be started", name, {"error": reason}
        case RunEnded(name=name, pid=pid, exit=exit_, asked=asked):
            more: Fields = {"pid": pid, "exit_code": exit_.status if exit_.known else None}
            if exit_.signal is not None:
                more["signal"] = signal_name(exit_.signal)
            yield "WARN" if exit_.status and not asked else "INFO", "process exited", name, more
        case SignalSent(name=name, pid=pid, signal=number):
            yield "INFO", "sending signal", name, {"pid": pid, "signal": signal_name(number)}
        case Removed(name=name):
            yield "INFO", "process removed", name, {}
        case Message(text=text):
            # Bytes of a file name that are not UTF-8 are lone surrogates here, which JSON cannot hold.
            yield "INFO", text.encode(errors="surrogateescape").decode(errors="replace"), SYSTEM, {}
        case Transition():
            yield from _transition(notice)
        case _:
            assert_never(notice)


def _transition(notice: Transition) -> Iterator[tuple[str, str, str, Fields]]:
    name, reason = notice.name, notice.reason
    changed = notice.state is not notice.before
    why: Fields = {"reason": reason}
    match notice.state:
        case State.HEALTHY | State.RUNNING if changed:
            yield "INFO", "process is ready", name, {}
        case State.HEALTHY if reason == PAUSED:
            yield "INFO", "health checks paused", name, why
        case State.HEALTHY if reason != HEALTHY:
            yield "WARN", "health check failed", name, why
        case State.UNHEALTHY if changed:
            yield "WARN", "process is unhealthy", name, why
        case State.RESTARTING if changed:
            more = {"backoff": duration(notice.backoff or 0.0), "retries": notice.retries}
            yield "WARN", "restarting process", name, {**more, **why}
        case State.PENDING if changed and reason != ABOUT_TO_START:
            yield "INFO", "waiting for dependencies", name, why
        case State.STOPPING if changed:
            yield "INFO", "stopping process", name, why
        case State.COMPLETED if changed:
            yield "INFO", "process completed", name, {}
        case State.FAILED if changed:
            code: Fields = {} if notice.exit is None else {"exit_code": notice.exit.status}
            yield "ERROR", "process failed", name, {**code, **why}
        case State.SKIPPED if changed:
            yield "WARN", "process skipped", name, why
        case _:
            return


def duration(seconds: float) -> str:
    """Return a duration as Go writes it: ``500ms``, ``2s``, ``1m30s``.

    >>> duration(0.5), duration(2.0), duration(90)
    ('500ms', '2s', '1m30s')
    """
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{rest:g}s" if not minutes else f"{minutes:.0f}m{rest:g}s"
