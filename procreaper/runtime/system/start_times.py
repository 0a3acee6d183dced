"""When a process began, by which it is told from a later one with the same number.

Rules: asks the system at each call, remembers nothing. What it answers is only ever compared with what it has answered
before, also to another procreaper, so it is a text in whatever form the system has.
"""

from __future__ import annotations

import os
from contextlib import suppress

from procreaper.descriptors import insist
from procreaper.runtime.system.ancestry import parse_stat

BOOT = "/proc/sys/kernel/random/boot_id"


def born(pid: int) -> str | None:
    """When this process began; None where it is gone, or only waits for its parent to ask how it ended."""
    try:
        seen = parse_stat(insist(lambda: _contents(f"/proc/{pid}/stat")))
    except (FileNotFoundError, ProcessLookupError):
        return None if os.path.exists(BOOT) else _born_by_ps(pid)
    return None if seen is None or seen.is_zombie else str(seen.start)


def boot() -> str:
    """What tells this run of the machine from all others; empty where nobody tells."""
    with suppress(OSError):
        return insist(lambda: _contents(BOOT)).decode("ascii").strip()
    return _answer("sysctl", "-n", "kern.boottime")


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _born_by_ps(pid: int) -> str | None:
    """Where there is no /proc, as on macOS: to the second."""
    state, _, began = _answer("ps", "-o", "stat=,lstart=", "-p", str(pid)).partition(" ")
    return None if not state or state.startswith("Z") else " ".join(began.split())


def _answer(*command: str) -> str:
    # Not at the top: nobody needs it on Linux.
    import subprocess

    try:
        ran = subprocess.run(command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ran.stdout.strip()
