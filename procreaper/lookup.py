"""The world around a project, as far as `check` looks at it: programs, ports, files.

Rules: looks and changes nothing; what cannot be found out counts as being all right. `start` looks at ports too, so
what only `check` needs is imported where it is used.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procreaper.lint import Look


def look_around() -> Look:
    """How `check` looks at this machine."""
    from procreaper.lint import Look

    return Look(finds_program, is_taken, os.path.lexists, refuses)


def finds_program(name: str, path: str) -> bool:
    """Whether a shell would find this program along this PATH."""
    import shutil

    return shutil.which(name, path=path) is not None


def is_taken(port: int) -> bool:
    """Whether somebody on this machine listens on this port."""
    with socket.socket() as probe:
        # So that a connection that was closed a moment ago does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
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
