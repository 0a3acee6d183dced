"""Find the processes that a test has started, by a mark in their environment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

MARKER = "PROCREAPER_TEST"


def marked(marker: str) -> list[int]:
    """Return the pids of all processes that inherited the marker. A zombie has no environment, so it does not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{MARKER}={marker}".encode() in variables:
            found.append(int(entry.name))
    return found


def described(pid: int) -> str:
    """Return a pid and its command line, for the message of a failed test."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        command = "gone by now"
    return f"{pid} ({command.strip()})"


class Survivors:
    """The living processes that this test has started, directly or indirectly."""

    def __init__(self, marker: str) -> None:
        self._marker = marker

    def find(self) -> list[str]:
        return [described(pid) for pid in marked(self._marker)]

    def kill(self) -> None:
        """Kill the processes that a test let escape on purpose, and those of a failed test."""
        while pids := marked(self._marker):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
