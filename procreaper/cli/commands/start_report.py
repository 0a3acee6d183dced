"""Print what `start -D` prints: that the app runs, that all processes are up, or which one cannot come up and why.

Rules: read the reports of `background`, and use no other source. Never end the app, except when Ctrl-C comes before the
app can be reached.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from procreaper.cli.find_app import interruptible
from procreaper.cli.messages import Progress, print_error, print_result
from procreaper.errors import FAILED, INTERRUPTED, Problem

READ_SIZE = 1 << 16
# Seconds that an app may take to end after Ctrl-C.
END_LIMIT = 10.0


class WaitOptions(NamedTuple):
    """How long to wait: until the app can be reached or, if `waits`, until all is up, at most `limit` seconds.

    `directory` is the given directory of the app, None for the current one.
    """

    waits: bool = False
    limit: float | None = None
    directory: str | None = None


def report_start(descriptor: int, wait: WaitOptions, reachable: Callable[[], None] = lambda: None) -> int:
    """Print the reports from `descriptor` until the wait is over; return the exit status.

    Call `reachable` once other programs can find the app.
    """
    reports = _Reports(descriptor)
    with interruptible(), Progress() as progress:
        try:
            return _print_reports(reports, wait, progress, reachable)
        except KeyboardInterrupt:
            progress.clear()
            return _interrupted(reports, wait)


def _print_reports(reports: _Reports, wait: WaitOptions, progress: Progress, reachable: Callable[[], None]) -> int:
    until = None if wait.limit is None else time.monotonic() + wait.limit
    waiting: dict[str, str] = {}
    culprit = False
    while True:
        report = reports.next(until)
        if reports.is_ready:
            reachable()
        match report:
            case {"pid": _}:
                continue
            case {"ready": _} if not wait.waits:
                print_result(f"the app runs in the background (pid {reports.pid})\n  hint: {make_hint(wait.directory)}")
                return 0
            case {"ready": _}:
                continue
            case {"waiting": dict(waiting)}:
                progress.show("waiting for " + _enumerate(waiting))
            case {"up": _}:
                progress.clear()
                hint = make_hint(wait.directory)
                print_result(
                    f"all processes are up; the app runs in the background (pid {reports.pid})\n  hint: {hint}"
                )
                return 0
            case {"failed": text, "lines": lines, "ending": ending}:
                progress.clear()
                print_error(str(Problem(text)))
                if lines:
                    print_error(lines.removesuffix("\n"))
                if not ending:
                    print_error(f"  hint: {make_running_hint(reports.pid, wait.directory)}")
                    return FAILED
                culprit = True
                until = None
                progress.show("the app ends")
            case {"over": int(status)}:
                progress.clear()
                if reports.is_ready:
                    text = f"the app has ended, with exit code {status}"
                    print_error(f"  hint: {text}" if culprit else str(Problem(text)))
                    return status or FAILED
                # The app itself has printed the reason.
                return status
            case None if reports.ended:
                progress.clear()
                print_error(str(Problem("the app has ended without giving a reason", hint="was it killed?")))
                return FAILED
            case _:
                progress.clear()
                text = f"not all processes are up after {wait.limit:g} s"
                print_error("\n".join((str(Problem(text)), *(f"  {name}: {why}" for name, why in waiting.items()))))
                print_error(f"  hint: {make_running_hint(reports.pid, wait.directory)}")
                return FAILED


def _interrupted(reports: _Reports, wait: WaitOptions) -> int:
    if not reports.pid:
        # The pid is the first report; without it the app could not be ended.
        with suppress(KeyboardInterrupt):
            reports.next(time.monotonic() + END_LIMIT)
    while reports.next(time.monotonic()) is not None:
        # Read the reports that arrived before Ctrl-C.
        continue
    if reports.is_ready:
        print_error(str(Problem("stopped waiting", hint=make_running_hint(reports.pid, wait.directory))))
    elif reports.pid:
        with suppress(ProcessLookupError, KeyboardInterrupt):
            os.kill(reports.pid, signal.SIGTERM)
            until = time.monotonic() + END_LIMIT
            while not reports.ended and reports.next(until) is not None:
                continue
    return INTERRUPTED


def make_hint(directory: str | None) -> str:
    """Make the hint with the commands for a background app of this directory (None: the current one)."""
    commands: tuple[str, ...] = ("procreaper ps", "logs -f", "quit")
    if directory is not None:
        commands = tuple(f"{command} -d {shlex.quote(directory)}" for command in commands)
    shows, tells, ends = (f"`{command}`" for command in commands)
    return f"{shows} shows it, {tells} what it writes, {ends} ends it"


def make_running_hint(pid: int, directory: str | None) -> str:
    """Make the hint that the app continues to run."""
    return f"the app runs on in the background (pid {pid}): {make_hint(directory)}"


def _enumerate(waiting: dict[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in waiting.items())


class _Reports:
    """Reads the reports of the app; `pid` is the pid of the app, 0 until it is known."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._incoming = b""
        self.pid = 0
        self.is_ready = False
        self.ended = False

    def next(self, until: float | None) -> dict[str, Any] | None:
        """Return the next report; None if none comes until then (on the monotonic clock), or at the end (`ended`)."""
        while b"\n" not in self._incoming:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0]:
                return None
            data = os.read(self._descriptor, READ_SIZE)
            self._incoming += data
            if not data:
                self.ended = True
                return None
        line, _, self._incoming = self._incoming.partition(b"\n")
        report: dict[str, Any] = json.loads(line)
        self.pid = report.get("pid", self.pid)
        self.is_ready = self.is_ready or "ready" in report
        return report
