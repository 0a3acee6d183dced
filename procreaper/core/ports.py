"""The port of each process: by honcho's rule, by its settings, or derived for `auto`.

Rules: pure; the caller knows which ports are free. Nothing is stored: the same root, type and instance lead to the same
port each time, as long as it is free.
"""

import re
from collections.abc import Callable, Collection

AUTO = "auto"
# Below the ports that systems assign by themselves: Linux from 32768, others from 49152.
LOWEST, SIZE = 20000, 10000
# Each process finds the ports of the others in variables with this prefix.
PREFIX = "PROCREAPER_PORT_"
# The port for a process of this name that is none of these others.
FindPort = Callable[[str, Collection[int]], int]


class AutoPorts:
    """Finds ports for the processes of one root (absolute, without symbolic links), and keeps to them.

    >>> AutoPorts("/srv/shop").find_port("web.1", ()) == AutoPorts("/srv/shop").find_port("web.1", ())
    True
    """

    def __init__(self, root: str, is_free: Callable[[int], bool] = lambda _: True) -> None:
        self._root = root
        self._is_free = is_free
        self._found: dict[str, int] = {}

    def find_port(self, name: str, others: Collection[int]) -> int:
        """Return the port of a process: the same as before, or its derived port, or the next one that is free and not
        in `others`.
        """
        if name not in self._found:
            taken = {*others, *self._found.values()}
            first = derive_port(self._root, name)
            candidates = (LOWEST + (first - LOWEST + step) % SIZE for step in range(SIZE))
            self._found[name] = next((port for port in candidates if port not in taken and self._is_free(port)), first)
        return self._found[name]


def derive_port(root: str, name: str) -> int:
    """Return the port that a process of this root has while that port is free."""
    # Imported here, because a plain start does not need it.
    from zlib import crc32

    return LOWEST + crc32(f"{root}\0{name}".encode(errors="surrogateescape")) % SIZE


def is_derived(port: int | None) -> bool:
    """Return whether a port is in the range of `auto`."""
    return port is not None and LOWEST <= port < LOWEST + SIZE


def variable_of(kind: str) -> str:
    """The variable that holds the port of the first process of a type.

    >>> variable_of("my-app")
    'PROCREAPER_PORT_MY_APP'
    """
    return PREFIX + re.sub("[^A-Z0-9]", "_", kind.upper())
