"""What `/proc` tells: the numbers of all processes, and small files about one of them.

Rules: Linux only; elsewhere, and where `/proc` is empty, there is nothing to be read. A process that has gone is an
empty answer. A lack of descriptors or memory is none: it raises OSError, so that no process counts as gone for it. That
happens only when the descriptors in reserve are gone as well.
"""

from __future__ import annotations

import errno
import os

from procreaper.descriptors import insist

READ_SIZE = 4096
# Errors that say nothing about the process: the same call succeeds later.
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def list_pids() -> set[int]:
    """The numbers of all processes that can be seen."""
    try:
        return {int(name) for name in insist(lambda: os.listdir("/proc")) if name.isdecimal()}
    except OSError as error:
        _raise_if_scarce(error)
        return set()


def read(path: str) -> bytes:
    """The contents of a file in `/proc`; empty where there is no such file, or no such process any more."""
    try:
        return insist(lambda: _read(path))
    except OSError as error:
        _raise_if_scarce(error)
        return b""


def _read(path: str) -> bytes:
    # A third of the time that a file object takes, which counts where there are a hundred processes.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = os.read(descriptor, READ_SIZE)
        while len(data) % READ_SIZE == 0 and (more := os.read(descriptor, READ_SIZE)):
            data += more
        return data
    finally:
        os.close(descriptor)


def _raise_if_scarce(error: OSError) -> None:
    if error.errno in SCARCE:
        raise error
