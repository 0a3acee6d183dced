"""File descriptors: how many bytes one holds, how many we may open, and a reserve for when none is left.

Rules: the reserve is empty and has no effect until `keep` fills it, which only the command line calls. Any thread may
use it.

Theory of operation. A program without a free descriptor can neither import a module nor read `/proc`. So the reserve
keeps three open from the start. For an action of that kind, which needs two at most, it closes them for a moment and
then opens them again. The third is for a client, so that the app can still be controlled. Another thread may take a
descriptor in that moment; the reserve is then filled again before the next child or check.
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
# The errors for a lack of descriptors: in this process, and in the whole system.
NO_DESCRIPTOR_LEFT = frozenset({errno.EMFILE, errno.ENFILE})


def count_readable_bytes(pipe: int) -> int:
    """Return how many bytes can be read from a pipe at this moment."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0])


def limit_connections(most: int) -> int:
    """Return `most`, or a quarter of the descriptors that we may open, if that is less."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if limit == resource.RLIM_INFINITY else min(most, limit // 4)


class Reserve:
    """Descriptors that are kept open, to be closed when another one is needed and the system gives none."""

    def __init__(self) -> None:
        self._size = 0
        self._held: list[int] = []
        self._users = 0
        self._lock = allocate_lock()

    @property
    def is_full(self) -> bool:
        """Whether no descriptor is missing."""
        return 0 < self._size == len(self._held)

    def keep(self, size: int = IN_RESERVE) -> None:
        """Keep this many open from now on, or fewer if the system gives fewer."""
        self._size = size
        self.fill()

    def fill(self) -> None:
        """Open the descriptors that are missing, unless the reserve is in use or the system gives none."""
        with self._lock:
            while not self._users and len(self._held) < self._size:
                try:
                    self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
                except OSError:
                    return

    def empty(self) -> None:
        """Close all, and keep none from now on."""
        self._size = 0
        self._release()

    @contextmanager
    def freed(self) -> Iterator[None]:
        """Close the descriptors of the reserve within this block, so that others can be opened."""
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
    """Call a function and return its result; if no descriptor is left for it, call it again with the reserve.

    The function should close what it opens. A descriptor that it leaves open is missing in the reserve until the next
    child is spawned.
    """
    try:
        return function()
    except OSError as error:
        if error.errno not in NO_DESCRIPTOR_LEFT:
            raise
    with RESERVE.freed():
        return function()


def import_with_reserve() -> None:
    """From now on, import modules with the help of the reserve."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, cast("Any", _Finder()))


class _Finder:
    """Finds modules by the other finders, with the help of the reserve."""

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
    """Replaces another loader until the module is loaded, with the help of the reserve."""

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
