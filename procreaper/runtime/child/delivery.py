"""One signal on its way through the session of a run: programs get it first, the shells that run them last.

Rules: Linux only. Each process gets the signal once. Nothing of this delays SIGKILL. What decides who comes when is
pure (`audience`).

Theory of operation. The processes in between, such as the shell that leads the session, are stopped by SIGSTOP, so
that they can neither end before their children nor go on to their next command. Then the whole group gets the signal
at once. On those that are stopped it waits, and it ends them before they do anything else as soon as they go on: when
none of their children lives, and the leader, when no other process of the session lives. A process in between that
reads what its child writes is not stopped, because a child that has filled the pipe would never end; it gets the signal
when the children that it has at that moment have ended.
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

# Seconds between two looks whether children live: at first, and at most.
FIRST_LOOK, LAST_LOOK = 0.002, 0.05
# How long the processes in between may take to stop, and may grow in number, in seconds.
PATIENCE = 0.5
# How long a program of a pipeline has to end, in seconds, when those before it have ended and it has read everything.
GRACE = 0.5
STOPPED = ("T", "t")
OUTPUTS = (1, 2)
# How many deliveries go on in one turn of the loop: each takes about a millisecond, and all of them share one table.
MOST_AT_ONCE = 200


class Reader(NamedTuple):
    """A process that reads what others write: its own birth, and that of each writer that has to end first."""

    start: int
    writers: dict[int, int]
    # When it gets the signal at the latest, by the clock of the loop, once its writers have ended.
    due: float | None
    grace: float


class Delivery:
    """Brings signal `number` to the session of `leader`; with `only_main`, to the programs that its shells run."""

    def __init__(self, leader: int, number: int, *, only_main: bool, loop: asyncio.AbstractEventLoop) -> None:
        self._leader = leader
        self._number = number
        self._only_main = only_main
        # The process that waits for all others of the session; none where some of them do not get the signal.
        self._holder = None if only_main else leader
        self._loop = loop
        # By the clock of the loop, from the first look at the session.
        self._gather_until: float | None = None
        # What each that is stopped waits for, with the moments of their birth; a stopped process starts no other.
        # None where one was not seen to stop.
        self._children: dict[int, dict[int, int]] | None = None
        # Stopped, with the moment of their birth, which tells them from a later process with the same number.
        self._stopped: dict[int, int] = {}
        self._readers: dict[int, Reader] = {}
        self._handle: asyncio.Handle | None = None

    # How many have gone on in this turn of which loop.
    _at_once = 0
    _turn_began = 0.0
    _turn_of: asyncio.AbstractEventLoop | None = None

    def begin(self) -> bool:
        """Deliver the signal, or begin to; False where the processes of the session cannot be found out."""
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
        """Another signal follows; those that are stopped stay so, until that one has them go on."""
        if self._handle is not None:
            self._handle.cancel()

    def release(self) -> None:
        """Let those that are stopped get the signal now."""
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

    # Until all that are in between are stopped.

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
        # On a busy machine it takes a while. One that has not stopped yet would die of the signal at once.
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
        """Those who are alive: of the session, or with `only_main` all, since a program may have left the session."""
        pids = table.processes if self._only_main else table.sessions.get(self._leader, ())
        return {pid: seen for pid in pids if not (seen := table.processes[pid]).is_zombie}

    def _sort(self, members: Mapping[int, ProcessStat]) -> tuple[list[int], list[int]]:
        """Those in between, and with `only_main` the programs that get the signal."""
        if self._only_main:
            return programs_below(members, self._leader, self._number, self._ends, _feeds)
        return in_between(members, self._ends), []

    def _ends(self, pid: int) -> bool:
        if pid in self._stopped or pid in self._readers:
            return True
        return _has(is_fatal, pid, self._number)

    # The signal.

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
            # All at once, so that no process is missed that is born meanwhile.
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

    # Until all that are in between have got it.

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
        """Those that are stopped and have living children; raises OSError."""
        if self._children is None:
            # The table serves all deliveries, and costs more than a look at a few processes.
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
        """Let those go on that are not busy; return whether any was."""
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
    """Whether this process, which began at that moment, has not ended; raises OSError."""
    seen = read_stat(pid)
    return seen is not None and not seen.is_zombie and seen.start == start


def send_to_handlers(leader: int, number: int) -> bool:
    """Send a signal to the programs of a run that handle it, or where none does, to the programs that its shells run.

    False where the processes cannot be found out.
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
    """Whether a process reads what one of its children writes, by a pipe or, as node does, by a socket."""
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
        # Of two sockets that are connected, each has a name of its own; one that both processes have was inherited.
        (link.startswith("pipe:") and link in readable) or (link.startswith("socket:") and link not in held)
        for link in outputs
    )


def _feeds(writers: Iterable[int], reader: int) -> bool:
    """Whether a process reads, from its standard input, what one of these writes."""
    link = _link(reader, 0)
    if link is None or not link.startswith("pipe:"):
        return False
    return any(_link(writer, number) == link for writer in writers for number in OUTPUTS)


def _pipes_between(members: Mapping[int, ProcessStat]) -> dict[int, set[int]]:
    """Those of these that read, from their standard input, what others of these write, with the writers."""
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
