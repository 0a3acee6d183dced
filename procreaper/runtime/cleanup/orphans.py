"""Find, end and reap descendants that left the group of their run. For the command line only.

Rules: Linux only; elsewhere it finds nothing, and a run is only its group. It never waits for a child that other code
in this process has started, because that code needs the exit status. It scans when a run is to end, and once after each
start; it does not scan periodically.

Theory of operation. We are the *subreaper* of all that we start: a process that loses its parent becomes our child,
whatever session it has created. So a child of ours outside the groups of the runs is an *adopted* orphan. Its mark
says which run it belongs to. Some programs overwrite their environment, as nginx and Redis do to change their name in
`ps`; so a mark, once read, is kept. Other programs never have the mark, such as what `su -` and `env -i` start. These
inherit the mark of their nearest ancestor, which a scan must see while that ancestor lives. So a scan precedes each
signal.

A run is not over before its adopted descendants are gone; they get the signals that its group gets. A descendant whose
parent lives gets none: ending it is up to the parent, which may have to do this in order. `end_leftovers` ends the
orphans that belong to no known run, when the app is over. A process that belongs to a detached process is exempt, by
its mark or by its session. Once there is a detached process, all processes without a mark are exempt, because they may
belong to it.

All that we start leads a session of its own. So an adopted zombie that leads none is reaped at once. One that leads a
session is reaped after `GRACE`, if it is not known otherwise: other code that started it would have reaped it by then.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Container, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from procreaper.core.pauses import lost
from procreaper.runtime.cleanup.descendants import Descendants
from procreaper.runtime.cleanup.process_tree import describe_programs, list_subtrees
from procreaper.runtime.system.marks import DETACHED_MARK, GUARD_MARK, MARK_VARIABLE
from procreaper.runtime.system.proc import ProcessStat, read_stat

if TYPE_CHECKING:
    import asyncio

    from procreaper.runtime.cleanup.commands import CommandTracker, TrackedCommand

PR_SET_CHILD_SUBREAPER = 36
# Seconds between the start of a run and the scan for processes that left its group.
SCAN_DELAY = 0.5
# Seconds for which other code may still want the exit status of a zombie.
GRACE = 1.0
# At the end of the app: seconds between two scans, if no signal comes first; and seconds to wait after SIGKILL.
SCAN_INTERVAL, KILL_TIMEOUT = 0.05, 2.0
# After this many scans, a process whose environment is empty counts as a process without a mark.
MAX_SCANS = 3


def add_mark(environment: MutableMapping[str, str]) -> str:
    """Add the mark of a new app to an environment, below the mark that it has, and return it."""
    environment[MARK_VARIABLE] = f"{environment.get(MARK_VARIABLE, '')}{os.urandom(6).hex()}/"
    return environment[MARK_VARIABLE]


class Adoption(NamedTuple):
    """`complete`: all orphans among our descendants become our children; `had_children`: we had some before."""

    complete: bool
    had_children: bool


def adopt_orphans() -> Adoption:
    """Become the parent of all orphans among our descendants; call it before the first child starts."""
    if sys.platform != "linux":
        return Adoption(complete=False, had_children=False)
    try:
        # A child that we have not started, as after `setsid something & exec procreaper`.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        had_children = True
    except ChildProcessError:
        had_children = False
    try:
        # The core of ctypes: to import the rest would delay the first child by two milliseconds.
        import _ctypes

        prctl = _ctypes.dlsym(_ctypes.dlopen(cast("str", None), 0), "prctl")  # None is the program itself
        complete = _ctypes.call_function(prctl, (PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0
    except (ImportError, AttributeError, OSError):
        complete = False
    return Adoption(complete, had_children)


class Orphans:
    """Knows which descendants belong to a run although they are not in its group.

    `mark` is that of the app. `say` prints which processes were ended. `add_process(pid, target, start)` and
    `remove_process(pid)` keep the list of processes that must not outlive us, and so do `watch_output(descriptor)` and
    `forget_output(key)`. If we had children before the start, children without a mark are left alone.
    """

    def __init__(
        self,
        mark: str,
        adoption: Adoption,
        loop: asyncio.AbstractEventLoop,
        *,
        say: Callable[[str], None],
        add_process: Callable[[int, int, int], None],
        remove_process: Callable[[int], None],
        watch_output: Callable[[int], str],
        forget_output: Callable[[str], None],
    ) -> None:
        self._mark = mark
        self._loop = loop
        self._say = say
        self._add_process = add_process
        self._remove_process = remove_process
        self._watch_output = watch_output
        self._forget_output = forget_output
        # The keys of the outputs of runs that may still be open.
        self._outputs: set[str] = set()
        self._had_children = adoption.had_children
        self._session = os.getsid(0)
        # The groups of what is running, with their marks. A group has the number of its leader.
        self._groups: dict[int, str] = {}
        # The sessions of the detached processes. A session has the number of its leader.
        self._exempt: set[int] = set()
        self._had_exempt = False
        # By mark of a run: the last signal that it got; and by pid, the last signal and the program of each descendant.
        self._last_signals: dict[str, int] = {}
        self._signalled: dict[str, dict[int, tuple[int, str]]] = {}
        # Whether there was a scan in this turn of the loop: its result serves all who need one.
        self._is_fresh = False
        self._descendants = Descendants()
        # Descendants that left their groups; and those of them that are our children.
        self._escaped: dict[int, ProcessStat] = {}
        self._adopted: dict[int, ProcessStat] = {}
        # The marks of the checks that are running.
        self._running_checks: set[str] = set()
        self._commands: CommandTracker | None = None
        # Zombies, by pid and start time, that other code may still want to reap.
        self._unclaimed: set[tuple[int, int]] = set()
        self._reap_timer: asyncio.TimerHandle | None = None
        self._scan_timer: asyncio.TimerHandle | None = None
        self._scan_again = False
        # Names of processes for which a message has said that their checks leave something behind.
        self._reported_checks: set[str] = set()
        self._wake_up: asyncio.Future[None] | None = None
        self._end_requests = 0
        self._app_ended = False
        if sys.platform == "linux":
            loop.add_signal_handler(signal.SIGCHLD, self._on_child_ended)
            # Our parent may have blocked the signal.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))

    # For the runs.

    def environment(self, name: str, run: int, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        """Return this environment, or ours if None, with the mark of a run."""
        return {**(os.environ if environment is None else environment), MARK_VARIABLE: self._mark_of_run(name, run)}

    def run_started(self, name: str, run: int, group: int) -> None:
        """Note that a run has started, in a group of its own."""
        self.group_started(group, self._mark_of_run(name, run))
        self._scan_again = True
        if self._scan_timer is None and sys.platform == "linux":
            self._schedule_scan()

    def group_started(self, group: int, mark: str) -> None:
        """Note a process that we have started: it leads this group and has this mark."""
        self._exempt.discard(group)
        self._groups[group] = mark
        self._adopted.pop(group, None)
        self._escaped.pop(group, None)
        stat = _read_stat(group)
        self._add_process(group, -group, 0 if stat is None else stat.start)
        self._descendants.note_child(group)

    def track_command(self, name: str, run: int | None = None) -> TrackedCommand:
        """Track a side command of a process; with the number of a run, the command is a check of that run.

        What a command leaves behind may live until the app ends; what a check leaves behind ends soon.
        """
        if self._commands is None:
            # Not at the top: most processes have neither checks nor hooks.
            from procreaper.runtime.cleanup.commands import CommandTracker

            self._commands = CommandTracker(self._loop, self, self._running_checks, self._end_leftovers_of_checks)
        if run is None:
            return self._commands.track(self._mark, is_check=False)
        return self._commands.track(self._mark_of_run(name, run), is_check=True)

    def exempt_session(self, session: int) -> None:
        """Never end the processes of this session, nor their descendants."""
        self._exempt.add(session)
        self._had_exempt = True

    def group_ended(self, group: int) -> None:
        """Note that a group has no member any more; the system may use its number again."""
        self._exempt.discard(group)
        self._groups.pop(group, None)
        self._remove_process(group)

    def scan_descendants(self) -> None:
        """Find the descendants of a run that is about to end, while their parents live."""
        self._scan()

    def signal_escapees(self, name: str, run: int, number: int) -> None:
        """Send a signal to the processes that left the group of this run, before the group gets it."""
        mark = self._mark_of_run(name, run)
        self._last_signals[mark] = number
        _send_signal(self._signalled.setdefault(mark, {}), self._find_adopted(mark), number)

    def watch_output(self, output: int) -> str:
        """Take note of a run that is about to start and writes to this descriptor. Return a key for `forget_output`."""
        key = self._watch_output(output)
        if key:
            self._outputs.add(key)
        return key

    def forget_output(self, key: str) -> None:
        """Forget an output whose other end has been closed."""
        self._outputs.discard(key)
        self._forget_output(key)

    def has_escapees(self, name: str, run: int) -> bool:
        """Return whether a process that left the group of this run is alive; if not, report those that were ended."""
        mark = self._mark_of_run(name, run)
        if found := self._find_adopted(mark):
            if mark in self._last_signals:
                # A process may become ours only after its parent has obeyed the signal.
                _send_signal(self._signalled[mark], found, self._last_signals[mark])
            return True
        self._last_signals.pop(mark, None)
        if signalled := self._signalled.pop(mark, None):
            # These zombies are certainly ours to reap.
            processes = self._descendants.processes
            for pid in signalled.keys() & processes.keys():
                if processes[pid].is_zombie and self._is_adopted(processes[pid]):
                    _reap(pid)
            self._say(f"ended {_describe(signalled)}, which {name} had left behind")
        return False

    # The end of the app.

    def request_end(self) -> None:
        """Note a request to end the app. From the second one on, `end_leftovers` sends SIGKILL at once."""
        self._end_requests += 1
        self._wake()

    async def end_leftovers(self, patience: float) -> None:
        """End the orphans that belong to no known run: by SIGTERM, and after `patience` seconds by SIGKILL."""
        self._app_ended = True
        signalled: dict[int, tuple[int, str]] = {}
        requests = max(1, self._end_requests)
        deadline, number = self._loop.time() + patience, signal.SIGTERM
        mark = self._mark if self._had_children or self._had_exempt else ""
        scans = 0
        while (found := self._find_adopted(mark, by_output=True)) or (
            mark and self._has_unread_marks() and scans < MAX_SCANS
        ):
            scans += 1
            is_late = self._loop.time() >= deadline
            if number is signal.SIGTERM and (is_late or self._end_requests > requests or requests > 1):
                deadline, number = self._loop.time() + KILL_TIMEOUT, signal.SIGKILL
            elif is_late and found:
                self._say(f"{describe_programs(found)} cannot be ended")
                return
            _send_signal(signalled, found, number)
            self._wake_up = self._loop.create_future()
            timer = self._loop.call_later(SCAN_INTERVAL, self._wake)
            await self._wake_up
            timer.cancel()
            deadline += lost(timer.when(), self._loop.time())
        if signalled:
            self._say(f"ended {_describe(signalled)}, which had been left behind")

    # Scans.

    def _mark_of_run(self, name: str, run: int) -> str:
        return f"{self._mark}{name}/{run}/"

    def _find_adopted(self, mark: str, *, by_output: bool = False) -> dict[int, str]:
        """Find the adopted processes with this mark or a longer one, and their descendants: programs by pid.

        With `by_output`, a process that has the output of a run open counts as well, for example a daemon that has
        cleared its environment.
        """
        self._scan()
        outputs = self._output_links() if by_output else frozenset()
        roots = [
            pid
            for pid, stat in self._adopted.items()
            if (own := self._descendants.mark_of(pid, stat)) not in self._running_checks
            and (own.startswith(mark) or (outputs and _has_open(pid, outputs)))
        ]
        return list_subtrees(self._descendants.processes, roots, self._is_exempt) if roots else {}

    def _scan(self) -> None:
        """Find the descendants that left their group, and those of them that are adopted."""
        if self._is_fresh or sys.platform != "linux":
            return
        self._is_fresh = True
        self._loop.call_soon(self._grow_stale)
        self._descendants.scan(self._groups)
        escaped = {
            pid: stat
            for pid, stat in self._descendants.processes.items()
            if stat.group not in self._groups
            # A process of our own session was not started by us, but for example by a plug-in.
            and stat.session != self._session
            and not stat.is_zombie
            and not self._is_exempt(pid, stat)
        }
        for pid in self._escaped.keys() - escaped.keys():
            self._remove_process(pid)
        for pid, stat in escaped.items():
            if pid not in self._escaped or self._escaped[pid].start != stat.start:
                self._add_process(pid, -pid if stat.group == pid else pid, stat.start)
        self._escaped = escaped
        self._adopted = {pid: stat for pid, stat in escaped.items() if self._is_adopted(stat)}

    def _output_links(self) -> frozenset[str]:
        """Return what `/proc` shows for the outputs of runs after our ends of them have been closed."""
        outputs = {key.partition("_")[0] for key in self._outputs}
        # Another terminal may have the number of a deleted one by now.
        return frozenset(f"pipe:[{key[1:]}]" if key[0] == "p" else f"/dev/pts/{key[1:]} (deleted)" for key in outputs)

    def _is_adopted(self, stat: ProcessStat) -> bool:
        return stat.parent == os.getpid() and stat.session != self._session

    def _is_exempt(self, pid: int, stat: ProcessStat) -> bool:
        """Return whether the process belongs to a detached process, or is the guard of a procreaper."""
        if stat.session in self._exempt:
            return True
        mark = self._descendants.mark_of(pid, stat)
        return mark == GUARD_MARK or mark.startswith(DETACHED_MARK)

    def _end_leftovers_of_checks(self) -> None:
        """End the processes that checks left behind."""
        from procreaper.runtime.cleanup.commands import is_left_by_check

        self._scan()
        left: dict[str, list[int]] = {}
        for pid, stat in self._adopted.items():
            mark = self._descendants.mark_of(pid, stat)
            if mark.startswith(self._mark) and is_left_by_check(mark, self._running_checks):
                left.setdefault(mark.removeprefix(self._mark).partition("/")[0], []).append(pid)
        for name, pids in left.items():
            found = list_subtrees(self._descendants.processes, pids, self._is_exempt)
            _send_signal({}, found, signal.SIGKILL)
            if name not in self._reported_checks:
                # Once, because each check of the process may leave something behind.
                self._reported_checks.add(name)
                self._say(f"ended {describe_programs(found)}, which a check of {name} had left behind")

    def _has_unread_marks(self) -> bool:
        """Return whether an adopted process has no environment: it has cleared it, or is in the middle of an exec."""
        return any(not self._descendants.has_read_mark(pid, stat) for pid, stat in self._adopted.items())

    def _grow_stale(self) -> None:
        self._is_fresh = False

    def _wake(self) -> None:
        if self._wake_up is not None and not self._wake_up.done():
            self._wake_up.set_result(None)

    def _schedule_scan(self) -> None:
        self._scan_again = False
        self._scan_timer = self._loop.call_later(SCAN_DELAY, self._run_scheduled_scan)

    def _run_scheduled_scan(self) -> None:
        self._scan_timer = None
        self._scan()
        if self._scan_again:
            self._schedule_scan()

    # Reaping.

    def _on_child_ended(self) -> None:
        """Reap the adopted processes that have ended, as far as the system shows them at once."""
        self._wake()
        self._reap_first()

    def _reap_first(self) -> None:
        """Reap the zombies that the system names first, up to one that other code may want to reap."""
        while (ended := _peek_zombie()) is not None:
            stat = _read_stat(ended) or _read_zombie_stat(ended)
            if stat is None or ended in self._groups or not self._is_ours_to_reap(ended, stat):
                # Other code is about to reap it. Until then it hides the zombies behind it.
                if self._reap_timer is None:
                    self._reap_timer = self._loop.call_later(GRACE, self._reap_all)
                return
            _reap(ended)

    def _reap_all(self) -> None:
        """Reap the zombies that were hidden, and those that other code has not reaped since the last call."""
        self._descendants.scan_afresh(self._groups)
        unclaimed = set()
        for pid, stat in self._descendants.processes.items():
            if stat.is_zombie and self._is_adopted(stat):
                if self._is_ours_to_reap(pid, stat) or (pid, stat.start) in self._unclaimed:
                    _reap(pid)
                else:
                    unclaimed.add((pid, stat.start))
        self._unclaimed = unclaimed
        self._reap_timer = self._loop.call_later(GRACE, self._reap_all) if unclaimed else None
        # If `/proc` cannot be read, the scan misses some.
        self._reap_first()

    def _is_ours_to_reap(self, pid: int, stat: ProcessStat) -> bool:
        """Return whether it is certain that no other code waits for this child."""
        if not self._is_adopted(stat):
            return False
        return stat.session != pid or self._app_ended or any(pid in pids for pids in self._signalled.values())


def _send_signal(signalled: dict[int, tuple[int, str]], found: Mapping[int, str], number: int) -> None:
    """Send a signal to the processes that have not got the same one already."""
    for pid, program in found.items():
        if signalled.get(pid, (0, ""))[0] == number:
            continue
        # PermissionError: it runs as another user.
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            signalled[pid] = number, program
            if number != signal.SIGKILL:
                # A stopped process would not see the signal.
                os.kill(pid, signal.SIGCONT)


def _describe(signalled: Mapping[int, tuple[int, str]]) -> str:
    return describe_programs({pid: program for pid, (_, program) in signalled.items()})


def _read_stat(pid: int) -> ProcessStat | None:
    """Read the state of a process; None if it has gone, or `/proc` cannot be read."""
    try:
        return read_stat(pid)
    except OSError:
        return None


def _read_zombie_stat(pid: int) -> ProcessStat | None:
    """Read the state of a zombie child that `/proc` does not show: what the system says of any child."""
    try:
        return ProcessStat("", "Z", os.getpid(), os.getpgid(pid), os.getsid(pid), 0)
    except ProcessLookupError:
        return None


def _peek_zombie() -> int | None:
    """Return the pid of a child that has ended, without reaping it."""
    if sys.platform != "linux":
        return None
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if ended is None else ended.si_pid


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _has_open(pid: int, links: Container[str]) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{name}") in links for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        # It has ended, or is of another user, or the system lacks descriptors.
        return False
