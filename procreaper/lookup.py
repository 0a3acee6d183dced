"""The world around a project, as far as `check` looks at it: programs, ports, files.

Rules: looks and changes nothing; what cannot be found out counts as being all right.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket

from procreaper.lint import Look


def look_around() -> Look:
    """How `check` looks at this machine."""
    return Look(finds_program, is_taken, os.path.lexists)


def finds_program(name: str, path: str) -> bool:
    """Whether a shell would find this program along this PATH."""
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
