"""The world around a project, as far as `check` looks at it: programs, ports, files.

Rules: looks and changes nothing; what cannot be found out counts as being all right. `start` looks at ports too, so
what only `check` needs is imported where it is used.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import TYPE_CHECKING

from procreaper.plan import HIGHEST_PORT

if TYPE_CHECKING:
    from procreaper.lint import Look

Where = tuple[tuple[socket.AddressFamily, str], ...]
LOOPBACK: Where = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
# Linux also finds a listener at all addresses by the address of the loopback interface; other systems do not.
EVERYWHERE: Where = () if sys.platform == "linux" else ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))


def look_around() -> Look:
    """How `check` looks at this machine."""
    from procreaper.lint import Look

    return Look(finds_program, os.path.lexists, refuses)


def finds_program(name: str, path: str) -> bool:
    """Whether a shell would find this program along this PATH."""
    import shutil

    return shutil.which(name, path=path) is not None


def is_taken(port: int) -> bool:
    """Whether a program listens on this TCP port of this machine, at 127.0.0.1, at ::1 or at all addresses."""
    return 0 < port <= HIGHEST_PORT and any(_refuses_bind(*where, port) for where in (*LOOPBACK, *EVERYWHERE))


def _refuses_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            # A connection that was closed a moment ago does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        # A machine without IPv6 has other errors.
        return error.errno == errno.EADDRINUSE
    return False


def refuses(path: str) -> str | None:
    """Why no file can be written at this path, for which directories may be made; None where one can."""
    if os.path.isdir(path):
        return "is a directory"
    if os.path.exists(path):
        return None if os.access(path, os.W_OK) else "permission denied"
    above = os.path.dirname(path) or "."
    while not os.path.lexists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above) or "."
    if not os.path.isdir(above):
        return f"`{above}` is not a directory"
    return None if os.access(above, os.W_OK | os.X_OK) else f"`{above}` may not be written to"
