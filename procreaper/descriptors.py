"""What the system tells of descriptors: how much can be read from one, and how many there may be."""

from __future__ import annotations

import fcntl
import struct
import termios


def available(pipe: int) -> int:
    """How many bytes can be read at this moment."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0])


def most_connections(most: int) -> int:
    """So many connections at most as leave three quarters of the descriptors that we may have to all else."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if limit == resource.RLIM_INFINITY else min(most, limit // 4)
