"""A tiny process that ends all leftover processes if procreaper is killed before it can do so.

Rules: for the command line only; it starts before the first child. The guard shares nothing with procreaper but the
read end of a pipe: no standard stream, no directory, no terminal, no variable. procreaper never waits for the guard. If
there is no guard, procreaper prints one warning.

Theory of operation. The guard is a shell (`guard.sh`) in a session of its own. It reads which processes have started
and which have gone. The end of that pipe means that procreaper is gone, for whatever reason: only procreaper has the
write end, and no child inherits it. Then the guard kills the processes that are still on its list. It compares their
start times first, because pids are used again. Where there is a `/proc`, it also kills each process whose environment
has our mark. It stops after several scans in a row without such a process, because a process has no environment in the
middle of a fork or an exec. If the guard dies, the pipe closes too, and a new guard gets the whole list.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from procreaper.errors import reason_of

if TYPE_CHECKING:
    import asyncio
    import subprocess

SHELL = "/bin/sh"
# Not `procreaper`: a `pkill -9 procreaper` must not kill the guard as well.
NAME = "reaper-guard"
# A guard that ends within this many seconds after its start counts as a failure; after this many failures in a row,
# procreaper starts no further guard.
SHORT_LIFE = 1.0
MOST_SHORT_LIVES = 3


class Guard:
    """The guard of one app. When we are gone, it kills the processes on its list and those with the mark.

    `mark` is ``NAME=value``, as in an environment. `variables` is the environment of the guard, besides a PATH. `warn`
    prints why there is no guard, once.
    """

    def __init__(self, mark: str, variables: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._mark = mark
        self._variables = variables
        self._warn = warn
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entries: dict[str, bytes] = {}
        self._outputs = 0
        self._unsent = bytearray()
        self._has_writer = False
        self._started_at = 0.0
        self._short_lives = 0

    @property
    def pid(self) -> int | None:
        """The pid of the guard, while there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the guard; a failure is a warning, not an error."""
        try:
            self._start()
        except OSError as error:
            self._warn_once(reason_of(error))

    def use_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on, watch the guard from this loop, and start a new one when it ends."""
        self._loop = loop
        if self._pipe is not None:
            # The pipe never has data for us: it only becomes readable when the guard closes its end.
            loop.add_reader(self._pipe, self._replace)
            self._write()

    def add_process(self, pid: int, target: int, start: int) -> None:
        """Add a process to the list: `target` is its pid, or minus its group, `start` its start time, 0 if unknown."""
        self._add(str(pid), str(target), start)

    def remove_process(self, pid: int) -> None:
        """Remove a process from the list: it has gone, and another process may get its pid."""
        self._remove(str(pid))

    def watch_output(self, output: int) -> str:
        """Before a spawn, add to the list all processes that will have the child's output open.

        `output` is the descriptor of that output. The pid alone is not enough: it is known only when the child already
        runs, and a descendant may leave its group, lose its parent and drop its mark at any time. Return a key for
        `forget_output`.
        """
        status = os.fstat(output)
        self._outputs += 1
        if stat.S_ISFIFO(status.st_mode):
            key = f"p{status.st_ino}_{self._outputs}"
        elif stat.S_ISCHR(status.st_mode):
            # The system soon gives the number of a closed terminal to a new one.
            key = f"t{os.minor(status.st_rdev)}_{self._outputs}"
        else:
            return ""
        # Start times in /proc have this clock, in hundredths of a second. A process of the same hundredth counts.
        self._add(key, "output", int(time.clock_gettime(time.CLOCK_BOOTTIME) * 100))
        # Write at once: the loop does not run again before the child does.
        self._write()
        return key

    def forget_output(self, key: str) -> None:
        """Remove an output from the list: its other end is closed."""
        self._remove(key)

    def kill(self) -> None:
        """Kill the guard, without waiting for it: no process is left."""
        if self._process is not None:
            # Closing the pipe would make it scan for leftover processes. SIGKILL also ends a stopped guard.
            self._process.kill()
            self._close()

    def end_leftovers(self) -> None:
        """Let the guard end the leftover processes although we are still running."""
        self._send(b"alive\n")
        self._write()
        self._close()

    def _start(self) -> None:
        # Not at the top, because the import is slow. A start pays for it only once: asyncio needs the module too.
        import subprocess

        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                (SHELL, "-c", _read_script(), NAME, self._mark, self._mark.partition("=")[0]),
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                # Without the mark of an outer procreaper, whose guard would kill this one before its work is done.
                env={"PATH": os.environ.get("PATH", os.defpath), **self._variables},
                start_new_session=True,
            )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        os.set_blocking(writing, False)
        self._pipe = writing
        self._started_at = time.monotonic()
        if self._loop is not None:
            self.use_loop(self._loop)
        self._send(b"".join(self._entries.values()))

    def _add(self, key: str, target: str, start: int) -> None:
        self._entries[key] = f"+ {key} {target} {start}\n".encode()
        self._send(self._entries[key])

    def _remove(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            self._send(f"- {key}\n".encode())

    def _send(self, data: bytes) -> None:
        if self._pipe is None:
            return
        if self._loop is not None and not self._unsent:
            # A hundred processes that start in one turn of the loop cost one write.
            self._loop.call_soon(self._write)
        self._unsent += data

    def _write(self) -> None:
        if self._pipe is None or not self._unsent:
            return
        try:
            del self._unsent[: os.write(self._pipe, self._unsent)]
        except BlockingIOError:
            # The guard was stopped, or the machine is busy. Do not wait for it.
            pass
        except OSError:
            # The guard has gone; the loop learns it from the pipe too.
            self._unsent.clear()
        if self._loop is None or bool(self._unsent) == self._has_writer:
            return
        self._has_writer = bool(self._unsent)
        if self._has_writer:
            self._loop.add_writer(self._pipe, self._write)
        else:
            self._loop.remove_writer(self._pipe)

    def _replace(self) -> None:
        self._forget()
        lived = time.monotonic() - self._started_at
        self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE else 0
        if self._short_lives == MOST_SHORT_LIVES:
            self._warn_once("it keeps exiting")
        else:
            self.start()

    def _forget(self) -> None:
        self._close()
        if self._process is not None:
            # Its end of the pipe is closed, so the guard has ended or is about to.
            self._process.wait()
            self._process = None

    def _close(self) -> None:
        if self._pipe is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._pipe)
                self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = None
            self._unsent.clear()
            self._has_writer = False

    def _warn_once(self, reason: str) -> None:
        self._warn(
            f"procreaper: warning: there is no guard: {reason}\n"
            "  hint: all works as usual, but a `kill -9` of procreaper may leave processes behind"
        )


def _read_script() -> bytes:
    # By the loader, which also reads from a zip file, and needs no import.
    loader = cast("Any", __spec__).loader
    return cast("bytes", loader.get_data(os.path.join(os.path.dirname(__file__), "guard.sh")))
