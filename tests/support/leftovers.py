"""Leftovers of a test: file descriptors, child processes, and orphans."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def nothing_is_left() -> Iterator[None]:
    """Afterwards there must be no more descriptors than before, and no child, not even a zombie."""
    before = len(os.listdir("/dev/fd"))
    yield
    if len(os.listdir("/dev/fd")) > before:
        # A descriptor that only a reference cycle keeps open causes a ResourceWarning, which is an error.
        gc.collect()
    assert len(os.listdir("/dev/fd")) <= before
    try:
        child = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    raise AssertionError(f"a child is left: {child}")


class Lifeline:
    """A FIFO that a shell command opens with `hold`, and all its descendants then hold open.

    Its end tells that they are all gone, without asking again and again.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lifeline"
        os.mkfifo(self._path)
        # Open for writing too, so that reading waits for the first holder instead of ending.
        self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        self.hold = f"exec 9>{shlex.quote(str(self._path))}; echo held >&9;"

    async def held(self) -> None:
        """Wait until the command runs."""
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(self._fd, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(self._fd)
        assert os.read(self._fd, 100) == b"held\n"

    def wait_until_released(self) -> None:
        """Wait until no process holds it; this never returns if a process survives."""
        fd = os.open(self._path, os.O_RDONLY)
        self.close()
        try:
            while os.read(fd, 100):
                pass
        finally:
            os.close(fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
