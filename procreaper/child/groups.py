"""Who is left of a process group, and whether they can answer.

Rules: asks the system at each call, remembers nothing. Who is a zombie, stopped or traced only Linux tells.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator


def group_lives(group: int) -> bool:
    """Whether a process group has a member that is not a zombie."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # On macOS only zombies are left; on Linux somebody is there who is not ours to signal.
        return sys.platform == "linux"
    if sys.platform != "linux":
        return True
    return any(state not in (b"Z", b"X") for state in _states(group))


def is_held(group: int) -> bool:
    """Whether a member of a process group is stopped (T) or traced (t)."""
    return sys.platform == "linux" and any(state in (b"T", b"t") for state in _states(group))


def _states(group: int) -> Iterator[bytes]:
    """The state of each member of a process group, by the letters of Linux."""
    for pid in os.listdir("/proc"):
        if not pid.isdecimal():
            continue
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # "pid (name) state ppid pgrp ..."; the name may hold blanks and parentheses.
                state, _, its_group = file.read().rpartition(b") ")[2].split(None, 3)[:3]
        except OSError:
            continue
        if int(its_group) == group:
            yield state
