"""Delivers one signal to the session of a run: first to the programs, last to the shells that run them.

Rules: Linux only. Each process gets the signal once. Nothing here delays SIGKILL. `audience` decides the order.

Theory of operation. SIGSTOP stops the processes in between, such as the shell that leads the session, so that they can
neither end before their children nor go on to their next command. Then the whole group gets the signal at once. For a
stopped process it stays pending, and ends the process as soon as it goes on: when none of its children lives, and for
the leader, when no other process of the session lives. A process in between that reads the output of its child is not
stopped, because a child that has filled the pipe would never end. It gets the signal when its present children have
ended.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import termios
import time
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from stat import S_IRUSR
from typing import NamedTuple

from procreaper.runtime.child.audience import (
    children_of,
    find_readers,
    groups_of,
    handlers_below,
    held_for,
    in_between,
    is_fatal,
    is_handled,
    programs_below,
)
from procreaper.runtime.system import proc
from procreaper.runtime.system.proc import ProcessStat, read_stat
from procreaper.runtime.system.process_table import ProcessTable, read_process_table

# Seconds between two checks whether children live: at first, and at most.
FIRST_LOOK, LAST_LOOK = 0.002, 0.05
# Seconds that the processes in between may take to stop and to be found.
PATIENCE = 0.5
# Seconds that a program of a pipeline has to end after the writers before it have ended and it has read everything.
GRACE = 0.5
STOPPED = ("T", "t")
OUTPUTS = (1, 2)
# The most deliveries in one turn of the loop: each takes about a millisecond, and all of them share one table.
MOST_AT_ONCE = 200


class Reader(NamedTuple):
    """A process that reads the output of others: its own start time, and that of each writer that has to end first."""

    start: int
    writers: dict[int, int]
    # The latest time for its signal after its writers have ended, by the clock of the loop.
    due: float | None
    grace: float


class Delivery:
    """Delivers signal `number` to the session of `leader`; with `only_main`, to the programs that its shells run."""

    def __init__(self, leader: int, number: int, *, only_main: bool, loop: asyncio.AbstractEventLoop) -> None:
        self._leader = leader
        self._number = number
        self._only_main = only_main
        # The process that waits for all others of the session; None if some of them do not get the signal.
        self._holder = None if only_main else leader
        self._loop = loop
        # By the clock of the loop, since the session was first read.
        self._gather_until: float | None = None
        # The processes that each stopped one waits for, with their start times; a stopped process starts no other.
        # None if a process has not been seen to stop.
        self._children: dict[int, dict[int, int]] | None = None
        # The stopped processes, with their start times, which distinguish them from later ones with the same number.
        self._stopped: dict[int, int] = {}
        self._readers: dict[int, Reader] = {}
        self._handle: asyncio.Handle | None = None

    # The number of deliveries in this turn of this loop.
    _at_once = 0
    _turn_began = 0.0
    _turn_of: asyncio.AbstractEventLoop | None = None

    def begin(self) -> bool:
        """Deliver the signal, or begin to. Return False if the processes of the session cannot be found."""
        has_turn = self._has_turn()
        # All deliveries of this turn share it. An older table may lack a program that has just started.
        table = read_process_table(Delivery._turn_began)
        if table is None or self._leader not in table.processes:
            return False
        if has_turn:
            self._gather(table)
        else:
            self._handle = self._loop.call_soon(self._gather_again, table.began)
        return True

    def cancel(self) -> None:
        """Cancel the delivery, because another signal follows, which then continues the stopped processes."""
        if self._handle is not None:
            self._handle.cancel()

    def release(self) -> None:
        """Let the stopped processes get the signal now."""
        self.cancel()
        for pid in self._stopped:
            _send(pid, signal.SIGCONT)
        self._stopped.clear()
        self._readers.clear()

    def _has_turn(self) -> bool:
        if Delivery._at_once == 0 or Delivery._turn_of is not self._loop:
            Delivery._at_once, Delivery._turn_of = 0, self._loop
            Delivery._turn_began = time.monotonic()
            self._loop.call_soon(_begin_turn)
        Delivery._at_once += 1
        return Delivery._at_once <= MOST_AT_ONCE

    # Part one: until all processes in between are stopped.

    def _gather_again(self, since: float) -> None:
        if not self._has_turn():
            self._handle = self._loop.call_soon(self._gather_again, since)
        elif (table := read_process_table(since)) is None:
            # The system lacks descriptors or memory.
            self._handle = self._loop.call_later(LAST_LOOK, self._gather_again, since)
        else:
            self._gather(table)

    def _gather(self, table: ProcessTable) -> None:
        if self._gather_until is None:
            self._gather_until = self._loop.time() + PATIENCE
        members = self._members(table)
        between, programs = self._sort(members)
        children = children_of(members)
        found = [pid for pid in between if pid not in self._stopped and pid not in self._readers]
        for pid in found:
            if _reads_from(pid, children.get(pid, ())):
                self._add_reader(pid, children.get(pid, ()), members, 0)
            else:
                _send(pid, signal.SIGSTOP)
                self._stopped[pid] = members[pid].start
        if not self._only_main:
            for pid, writers in find_readers(_pipes_between(members)).items():
                if pid not in self._stopped and pid not in self._readers:
                    self._add_reader(pid, writers, members, GRACE)
        # This takes a while on a busy machine. A process that has not stopped yet would die of the signal at once.
        moving = [pid for pid in self._stopped if pid in members and members[pid].state not in STOPPED]
        if (found or moving) and self._loop.time() < self._gather_until:
            now = time.monotonic()
            self._handle = self._loop.call_later(0 if found else FIRST_LOOK, self._gather_again, now)
            return
        if not (found or moving):
            self._children = {
                pid: {other: members[other].start for other in held_for(members, pid, self._holder)}
                for pid in self._stopped
            }
        if self._only_main:
            self._tell_programs(programs)
        else:
            self._tell_groups(members)
        self._wait(FIRST_LOOK)

    def _add_reader(self, pid: int, writers: Iterable[int], members: Mapping[int, ProcessStat], grace: float) -> None:
        born = {writer: members[writer].start for writer in writers}
        self._readers[pid] = Reader(members[pid].start, born, None, grace)

    def _members(self, table: ProcessTable) -> dict[int, ProcessStat]:
        """Return the living processes of the session, or with `only_main` all: a program may have left the session."""
        pids = table.processes if self._only_main else table.sessions.get(self._leader, ())
        return {pid: seen for pid in pids if not (seen := table.processes[pid]).is_zombie}

    def _sort(self, members: Mapping[int, ProcessStat]) -> tuple[list[int], list[int]]:
        """Return the processes in between, and with `only_main` the programs that get the signal."""
        if self._only_main:
            return programs_below(members, self._leader, self._number, self._ends, _feeds)
        return in_between(members, self._ends), []

    def _ends(self, pid: int) -> bool:
        if pid in self._stopped or pid in self._readers:
            return True
        return _has(is_fatal, pid, self._number)

    # Part two: the signal.

    def _tell_programs(self, programs: Iterable[int]) -> None:
        for pid in self._stopped:
            _send(pid, self._number)
        for pid in programs:
            _send(pid, self._number)
            _send(pid, signal.SIGCONT)

    def _tell_groups(self, members: Mapping[int, ProcessStat]) -> None:
        ours = groups_of(members, self._leader, os.getpid())
        with_readers = {members[pid].group for pid in self._readers if pid in members}
        for group in ours - with_readers:
            # All at once, so that no process is missed that starts meanwhile.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, self._number)
                if not self._stopped:
                    # A stopped process would not see the signal; systemd does the same.
                    os.killpg(group, signal.SIGCONT)
        for pid, seen in members.items():
            if seen.group not in ours or pid in self._readers:
                continue
            if seen.group in with_readers:
                _send(pid, self._number)
            if pid not in self._stopped and (self._stopped or seen.group in with_readers):
                _send(pid, signal.SIGCONT)

    # Part three: until all processes in between have got it.

    def _wait(self, wait: float) -> None:
        self._handle = None
        if self._stopped or self._readers:
            self._handle = self._loop.call_later(wait, self._look, wait)

    def _look(self, waited: float) -> None:
        if not self._has_turn():
            self._handle = self._loop.call_soon(self._look, waited)
            return
        wait = min(waited * 2, LAST_LOOK)
        try:
            has_progress = self._let_on(self._find_busy())
        except OSError:
            # The system lacks descriptors or memory.
            has_progress = False
        self._wait(FIRST_LOOK if has_progress else wait)

    def _find_busy(self) -> set[int]:
        """Return the stopped processes whose children live. Raises OSError."""
        if self._children is None:
            # The table serves all deliveries, but costs more than reading a few processes.
            table = read_process_table()
            if table is None:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            members = self._members(table)
            return {pid for pid in self._stopped if held_for(members, pid, self._holder)}
        return {
            pid
            for pid in self._stopped
            if any(_is_alive(child, start) for child, start in self._children.get(pid, {}).items())
        }

    def _let_on(self, busy: Container[int]) -> bool:
        """Continue the stopped processes that are not busy. Return whether there were any."""
        has_progress = False
        for pid, start in tuple(self._stopped.items()):
            if pid not in busy:
                del self._stopped[pid]
                if _is_alive(pid, start):
                    _send(pid, signal.SIGCONT)
                    has_progress = True
        for pid, reader in tuple(self._readers.items()):
            if not _is_alive(pid, reader.start):
                del self._readers[pid]
            elif any(_is_alive(writer, born) for writer, born in reader.writers.items()):
                continue
            elif reader.due is None or (reader.grace and _has_unread_input(pid)):
                self._readers[pid] = reader._replace(due=self._loop.time() + reader.grace)
                has_progress = True
            elif self._loop.time() >= reader.due:
                del self._readers[pid]
                _send(pid, self._number)
                _send(pid, signal.SIGCONT)
                has_progress = True
        return has_progress


def _is_alive(pid: int, start: int) -> bool:
    """Return whether this process, with this start time, has not ended. Raises OSError."""
    seen = read_stat(pid)
    return seen is not None and not seen.is_zombie and seen.start == start


def send_to_handlers(leader: int, number: int) -> bool:
    """Send a signal to the programs of a run that handle it, or if none does, to the programs that its shells run.

    Return False if the processes cannot be found.
    """
    table: ProcessTable | None = None
    targets: list[int] = []
    # The programs may be younger than a table that was read for others.
    for since in (None, time.monotonic()):
        table = read_process_table(since)
        if table is not None and leader in table.processes:
            targets = handlers_below(table.processes, leader, number, lambda pid: _has(is_handled, pid, number))
        if targets:
            break
    if not targets and table is not None and leader in table.processes:
        # A program may wait for the signal by sigwait(), which Linux shows to no other process.
        _, targets = programs_below(table.processes, leader, number, lambda pid: _has(is_fatal, pid, number), _feeds)
    for pid in targets:
        _send(pid, number)
        # A stopped process would not see the signal.
        _send(pid, signal.SIGCONT)
    return bool(targets)


def _has(judge: Callable[[bytes, int], bool], pid: int, number: int) -> bool:
    try:
        return judge(proc.read_file(f"/proc/{pid}/status"), number)
    except OSError:
        return False


def _begin_turn() -> None:
    Delivery._at_once = 0


def _send(pid: int, number: int) -> None:
    # PermissionError: it runs as another user.
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _reads_from(pid: int, children: Iterable[int]) -> bool:
    """Return whether a process reads the output of one of its children, by a pipe, or as node does, by a socket."""
    outputs = {link for child in children for number in OUTPUTS if (link := _link(child, number)) is not None}
    if not any(link.startswith(("pipe:", "socket:")) for link in outputs):
        return False
    try:
        numbers = [int(name) for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    held = {_link(pid, number) for number in numbers}
    readable = {_link(pid, number) for number in numbers if _is_readable(pid, number)}
    return any(
        # Two connected sockets have different names; a socket that both processes have was inherited.
        (link.startswith("pipe:") and link in readable) or (link.startswith("socket:") and link not in held)
        for link in outputs
    )


def _feeds(writers: Iterable[int], reader: int) -> bool:
    """Return whether a process reads, from its standard input, the output of one of these."""
    link = _link(reader, 0)
    if link is None or not link.startswith("pipe:"):
        return False
    return any(_link(writer, number) == link for writer in writers for number in OUTPUTS)


def _pipes_between(members: Mapping[int, ProcessStat]) -> dict[int, set[int]]:
    """Return the processes that read, from their standard input, the output of others of these, with the writers."""
    read = {pid: link for pid in members if (link := _link(pid, 0)) is not None and link.startswith("pipe:")}
    if not read:
        return {}
    written = {pid: {_link(pid, number) for number in OUTPUTS} for pid in members}
    found = {pid: {other for other in members if other != pid and link in written[other]} for pid, link in read.items()}
    return {pid: writers for pid, writers in found.items() if writers}


def _has_unread_input(pid: int) -> bool:
    try:
        descriptor = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return any(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _link(pid: int, number: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return None


def _is_readable(pid: int, number: int) -> bool:
    try:
        return bool(os.lstat(f"/proc/{pid}/fd/{number}").st_mode & S_IRUSR)
    except OSError:
        return False
