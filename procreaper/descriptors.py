"""What the system tells of descriptors: how much one holds, how many there may be; and a few in reserve.

Rules: the reserve is empty, and changes nothing, until `keep` fills it, which only the command line does. It may be
used in any thread.

Theory of operation. A program that has no descriptor left can neither import a module nor look into `/proc`. Three are
kept open from the start. They are closed for the moment of such an action, which needs two at most, and opened again
after it. One of the three is for a client, so that the app can still be controlled. Another thread may take one
meanwhile; then the reserve is filled again before the next child or check.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import termios
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

Result = TypeVar("Result")

IN_RESERVE = 3
# What is said where there is none: of this process, and of the whole system.
NO_DESCRIPTOR_LEFT = frozenset({errno.EMFILE, errno.ENFILE})


def count_readable_bytes(pipe: int) -> int:
    """How many bytes can be read at this moment."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0])


def limit_connections(most: int) -> int:
    """So many connections at most as leave three quarters of the descriptors that we may have to all else."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if limit == resource.RLIM_INFINITY else min(most, limit // 4)


class Reserve:
    """Descriptors that are held open so that some can be had when the system gives no more."""

    def __init__(self) -> None:
        self._size = 0
        self._held: list[int] = []
        self._users = 0
        self._lock = allocate_lock()

    @property
    def is_full(self) -> bool:
        """Whether all are there that are to be held."""
        return 0 < self._size == len(self._held)

    def keep(self, size: int = IN_RESERVE) -> None:
        """Hold this many from now on; as many as there are, where there are fewer."""
        self._size = size
        self.fill()

    def fill(self) -> None:
        """Take what is missing, unless somebody uses the reserve at this moment, or none can be had."""
        with self._lock:
            while not self._users and len(self._held) < self._size:
                try:
                    self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
                except OSError:
                    return

    def empty(self) -> None:
        """Hold none any more."""
        self._size = 0
        self._release()

    @contextmanager
    def freed(self) -> Iterator[None]:
        """Within this block the descriptors of the reserve are free for use."""
        with self._lock:
            self._users += 1
        self._release()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
            self.fill()

    def _release(self) -> None:
        with self._lock:
            while self._held:
                os.close(self._held.pop())


RESERVE = Reserve()


def retry_with_reserve(function: Callable[[], Result]) -> Result:
    """The result of a function; where no descriptor is left for it, it is called again with those of the reserve.

    It closes what it opens. What it leaves open is missing in the reserve until the next child is spawned.
    """
    try:
        return function()
    except OSError as error:
        if error.errno not in NO_DESCRIPTOR_LEFT:
            raise
    with RESERVE.freed():
        return function()


def import_with_reserve() -> None:
    """From now on import modules with the descriptors of the reserve."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, cast("Any", _Finder()))


class _Finder:
    """Finds the modules that the other finders find, and loads them with the reserve."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        with RESERVE.freed():
            for finder in sys.meta_path:
                if not isinstance(finder, _Finder) and (spec := finder.find_spec(name, path, target)) is not None:
                    if spec.has_location and hasattr(spec.loader, "exec_module"):
                        spec.loader = cast("Loader", _Loader(spec.loader))
                    return spec
        return None


class _Loader:
    """Stands in for another loader until the module is there."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        with RESERVE.freed():
            return cast("ModuleType | None", self._loader.create_module(spec))

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        with RESERVE.freed():
            self._loader.exec_module(module)
