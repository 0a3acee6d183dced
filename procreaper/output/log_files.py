"""Log files as a sink: a thread appends the output of a process to its file, so that the loop never blocks.

Rules: bytes are kept as they came, with their escape sequences: `less -R` and `tail` show the colours, as with
supervisord and Docker. A slow disk slows the writers down. A broken disk (full, read-only) delays no process: output
that cannot be written is dropped and counted. This is reported once, and again when the disk works again. Processes
that share a file write whole lines.

Theory of operation. As with the terminal, `accept` appends to the queue of a `writer`. Its thread joins the data of
each file, and hands it over to `rotation`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from procreaper.core.events import Notice, Output, Removed, RunEnded
from procreaper.core.plan import LogFile, Process
from procreaper.errors import reason_of
from procreaper.output.lines import Lines
from procreaper.output.rotation import Passage, RotatedFile
from procreaper.output.writer import Writer

HIGH = 1 << 20
# Seconds until a file is tried again that could not be written.
RETRY = 5.0
# In the queue: the last line is over, even if nothing ends it.
END_OF_LINE = b""


class LogFiles:
    """Keeps the output of the `processes` that have a log, except detached ones, which write theirs themselves.

    `on_room()` and `say(text)` are called in the loop that was running when this was made. A file that could not be
    written is tried again after `retry` seconds. Raises OSError, with the path of the log, for a file that cannot be
    opened.
    """

    def __init__(
        self,
        processes: Iterable[Process],
        *,
        high: int = HIGH,
        retry: float = RETRY,
        on_room: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._retry = retry
        self._say = say
        self._files: dict[str, _File] = {}
        self._targets: dict[str, _Target] = {}
        self.assign(processes)
        for file in self._files.values():
            file.log.open()
        self._writer: Writer[tuple[_File, bytes]] = Writer("log-writer", self._write_all, high=high, on_room=on_room)
        self._writer.begin()

    @property
    def has_room(self) -> bool:
        """Whether no pause is asked for."""
        return self._writer.has_room

    def assign(self, processes: Iterable[Process]) -> None:
        """Keep the output of these processes from now on, and the last output of others until they are removed.

        A new file that cannot be opened is reported at the first write.
        """
        processes = tuple(processes)
        logs = {process.name: process.log for process in processes if process.log is not None and not process.detached}
        paths = {name: os.path.realpath(log.path) for name, log in logs.items()}
        shared = {path for path in paths.values() if sum(path == other for other in paths.values()) > 1}
        before, known = self._targets, {process.name for process in processes}
        self._targets = {name: target for name, target in before.items() if name not in known}
        first: dict[str, LogFile] = {}
        for name, log in logs.items():
            # Of those who share a file the first says how large it becomes.
            first.setdefault(paths[name], log)
        for path, log in first.items():
            if (there := self._files.get(path)) is not None:
                there.log.limit(log.max_size, log.max_files)
            else:
                self._files[path] = _File(RotatedFile(log._replace(path=path)))
        for name in logs:
            file = self._files[paths[name]]
            lines = Lines() if paths[name] in shared else None
            target = before.get(name)
            same = target is not None and target.file is file and (target.lines is None) == (lines is None)
            self._targets[name] = target if target is not None and same else _Target(file, lines)
        for name, target in before.items():
            if self._targets.get(name) is not target:
                # The rest of its last line stays where that began.
                self._append(target.file, _rest(target.lines))
        self._leave_files()

    def accept(self, notice: Notice) -> bool:
        """Take the notice. Return False while there is no room for the output of a process with a log."""
        if isinstance(notice, Output):
            target = self._targets.get(notice.name)
            if target is None:
                return True
            target.accepted += len(notice.data)
            data = notice.data if target.lines is None else target.lines.feed(notice.data)
            return self._append(target.file, data) if data else True
        if isinstance(notice, RunEnded | Removed) and (target := self._targets.get(notice.name)) is not None:
            self._append(target.file, _rest(target.lines))
            if isinstance(notice, Removed):
                del self._targets[notice.name]
                self._leave_files()
        return True

    def find(self, name: str, size: int) -> Passage | None:
        """Return where in its log the last `size` bytes of a process begin; None if that is unknown.

        It is unknown if several processes share the file, or after something was inserted or lost.
        """
        target = self._targets.get(name)
        if target is None or target.lines is not None or size > target.accepted or not target.file.is_exact:
            return None
        return target.file.log.find(target.accepted - size)

    async def drain(self, patience: float) -> None:
        """Write the rest and close the files. Give up after `patience` seconds without a written byte."""
        for target in self._targets.values():
            if data := _rest(target.lines):
                self._append(target.file, data)
        if not await self._writer.drain(patience):
            self._say(f"{_bytes(self._writer.waiting)} of output could not be written to log files in time")

    def abandon(self) -> None:
        """Stop waiting for a disk, even if output is lost: the user insists on the end."""
        self._writer.abandon()

    def _leave_files(self) -> None:
        """Close the files without writers, after their waiting output is written."""
        used = {target.file for target in self._targets.values()}
        for path, file in tuple(self._files.items()):
            if file not in used:
                del self._files[path]
                file.left = True
                self._append(file, END_OF_LINE)

    def _append(self, file: _File, data: bytes) -> bool:
        return self._writer.append((file, data), len(data))

    def _write_all(self) -> None:
        """The writer thread."""
        while taken := self._writer.take():
            by_file: dict[_File, list[bytes]] = {}
            for file, data in taken:
                by_file.setdefault(file, []).append(data)
            for file, pieces in by_file.items():
                self._tell(file.write(pieces, self._retry))
                if file.left:
                    self._tell(file.close())
                self._writer.account(sum(map(len, pieces)))
        for file in self._files.values():
            self._tell(file.close())

    def _tell(self, text: str | None) -> None:
        if text is not None:
            self._writer.call(self._say, text)


class _Target:
    """Where the output of a process goes. It holds an unfinished line if other processes write to the file too."""

    __slots__ = ("accepted", "file", "lines")

    def __init__(self, file: _File, lines: Lines | None) -> None:
        self.file = file
        self.lines = lines
        # In bytes.
        self.accepted = 0


class _File:
    """A log file, and the count of bytes that could not be written to it."""

    def __init__(self, log: RotatedFile) -> None:
        self.log = log
        self._failed_at: float | None = None
        self._stuck_at: float | None = None
        self._missing = 0
        # The beginning of a line is missing, and so its end is left out too.
        self._skips = self._torn = False
        # The last line that is in the file has no end there, and will get none.
        self._line_is_over = False
        # Whether all that was to be written is in there, and nothing else of ours.
        self.is_exact = True
        # No process writes to it any more.
        self.left = False
        self._shown = _shown(log.path)

    def write(self, pieces: Iterable[bytes], retry: float) -> str | None:
        """Write these pieces, unless a write has just failed. Return the messages about it."""
        data = self._joined(pieces)
        now = time.monotonic()
        if self._failed_at is not None and now < self._failed_at + retry:
            self._leave_out(data)
            return None
        if self._skips:
            end = data.find(b"\n") + 1
            self._leave_out(data[: end or len(data)])
            data = data[end or len(data) :]
        if not data:
            return None
        if self._torn and self.log.is_within_line:
            data = b"\n" + data
        if self._stuck_at is not None and now >= self._stuck_at + retry:
            self._stuck_at, self.log.stuck = now, None
        written, error = self.log.write(data)
        if error is not None:
            failed_before, self._failed_at = self._failed_at is not None, now
            self._leave_out(data[written:])
            if failed_before:
                return None
            return f"`{self._shown}` cannot be written: {reason_of(error)}; what is missing is counted until it can be"
        if self._failed_at is not None:
            self._failed_at = None
            return f"`{self._shown}` is written again; {self._account()}"
        return self._look_at_rotation(now)

    def close(self) -> str | None:
        """Close it at the end. Return the message about missing output."""
        self.log.close()
        return f"`{self._shown}`: {self._account()}" if self._missing else None

    def _joined(self, pieces: Iterable[bytes]) -> bytes:
        """Join the pieces, with an end for each line that is over without one."""
        joined: list[bytes] = []
        for piece in pieces:
            if piece:
                if self._line_is_over:
                    self.is_exact = False
                    joined.append(b"\n")
                    self._line_is_over = False
                joined.append(piece)
            else:
                self._line_is_over = not joined[-1].endswith(b"\n") if joined else self.log.is_within_line
        return joined[0] if len(joined) == 1 else b"".join(joined)

    def _leave_out(self, data: bytes) -> None:
        if data:
            self.is_exact = False
            self._missing += len(data)
            self._skips = not data.endswith(b"\n")
            self._torn = True

    def _look_at_rotation(self, now: float) -> str | None:
        stuck = self.log.stuck
        if stuck is None:
            self._stuck_at = None
            return None
        if self._stuck_at is not None:
            return None
        self._stuck_at = now
        return f"`{self._shown}` cannot be rotated: {reason_of(stuck)}; it grows until it can be"

    def _account(self) -> str:
        missing, self._missing = self._missing, 0
        return f"{_bytes(missing)} of output {'is' if missing == 1 else 'are'} missing in it"


def _rest(lines: Lines | None) -> bytes:
    """Return what ends a line: its rest if that is held here, or the mark in the queue."""
    if lines is None:
        return END_OF_LINE
    return lines.flush() + b"\n" if lines.unfinished else END_OF_LINE


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count:,} bytes"


def _shown(path: str) -> str:
    """Return a path for people: relative to the working directory if it is below that."""
    try:
        return path.removeprefix(os.getcwd() + "/")
    except OSError:
        return path
