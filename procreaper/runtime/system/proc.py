"""Read `/proc`: the pids of all processes, the state of one process, its start time, and other small files.

Rules: Linux only, except for the start time. Elsewhere, and where `/proc` is empty, there is nothing to read. A process
that has gone is an empty answer. A lack of descriptors or memory is an error: it raises OSError, so that no process
counts as gone because of it. This happens only when the reserve of descriptors is used up as well.

A start time distinguishes a process from a later one with the same pid. It is only compared with earlier answers, also
those of another procreaper. So it is a text, in the form that the system gives.
"""

import errno
import os
from contextlib import suppress
from typing import NamedTuple

from procreaper.descriptors import retry_with_reserve

BOOT_ID = "/proc/sys/kernel/random/boot_id"
READ_SIZE = 4096
# Errors that say nothing about the process: the same call succeeds later.
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class ProcessStat(NamedTuple):
    """A process as in `/proc/PID/stat`. `start`, its start time, sets it apart from others with the same pid."""

    program: str
    state: str
    parent: int
    group: int
    session: int
    start: int

    @property
    def is_zombie(self) -> bool:
        """Whether the process has ended, and its parent has not read its exit status yet."""
        return self.state in "ZX"


def list_pids() -> set[int]:
    """Return the pids of all processes that can be seen."""
    try:
        return {int(name) for name in retry_with_reserve(lambda: os.listdir("/proc")) if name.isdecimal()}
    except OSError as error:
        _raise_if_scarce(error)
        return set()


def read_file(path: str) -> bytes:
    """Return the contents of a file in `/proc`; empty if the file does not exist, or its process has gone."""
    try:
        return retry_with_reserve(lambda: _read(path))
    except OSError as error:
        _raise_if_scarce(error)
        return b""


def read_stat(pid: int) -> ProcessStat | None:
    """Return the state of a process, or None if it has gone. Raises OSError if descriptors or memory are lacking."""
    return parse_stat(read_file(f"/proc/{pid}/stat"))


def parse_stat(data: bytes) -> ProcessStat | None:
    """Parse ``/proc/PID/stat``; None if it is empty, because the process has just gone.

    >>> parse_stat(b"7 (a) b) S 1 7 7 " + b"0 " * 15 + b"4711 0")
    ProcessStat(program='a) b', state='S', parent=1, group=7, session=7, start=4711)
    """
    program, fields = split_stat(data)
    if len(fields) < 20:
        return None
    state, parent, group, session = fields[:4]
    return ProcessStat(
        program.decode(errors="replace"), state.decode(), int(parent), int(group), int(session), int(fields[19])
    )


def split_stat(data: bytes) -> tuple[bytes, list[bytes]]:
    """Split ``/proc/PID/stat`` into the name of the program and the fields after it.

    proc(5) counts the fields from 1, and the name is the second: so its field 3, the state, comes first here.
    """
    # The name may hold blanks and parentheses.
    before, _, after = data.rpartition(b") ")
    return before.partition(b"(")[2], after.split(None, 22)


def read_start_time(pid: int) -> str | None:
    """Return when a process started; None if it has gone or is a zombie."""
    stat = read_stat(pid)
    if stat is None and not os.path.exists(BOOT_ID):
        return _ask_ps(pid)
    return None if stat is None or stat.is_zombie else str(stat.start)


def read_boot_id() -> str:
    """Return an identifier of this boot of the machine; empty if the system does not give one."""
    with suppress(OSError):
        return retry_with_reserve(lambda: _read(BOOT_ID)).decode("ascii").strip()
    return _run("sysctl", "-n", "kern.boottime")


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


def _ask_ps(pid: int) -> str | None:
    """Return the start time where there is no `/proc`, as on macOS: in whole seconds."""
    state, _, began = _run("ps", "-o", "stat=,lstart=", "-p", str(pid)).partition(" ")
    return None if not state or state.startswith("Z") else " ".join(began.split())


def _run(*command: str) -> str:
    # Not at the top: Linux never needs it.
    import subprocess

    try:
        ran = subprocess.run(command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ran.stdout.strip()
