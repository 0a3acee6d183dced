"""Descendants that left the group of their run: found, told to end, reaped. For the command line only.

Rules: Linux only; elsewhere nobody is found, and groups are all there is. It never waits for a child that somebody else
in this process has started: that status is theirs. It looks when a run is to end, and once after it began; it never
looks again and again.

Theory of operation. We are the *subreaper* of all that we start: whoever loses its parent becomes our child, whatever
session it has made for itself. A child of ours outside the groups of the runs was thus *adopted*. Its mark, a path in
`MARK_VARIABLE` that begins with that of the app and goes on with name and run, tells whose it is. Some overwrite their
environment, as nginx and Redis do to say in `ps` what they are; so what was read once is kept. Others never have the
mark, as what `su -` and `env -i` start: these have that of their nearest ancestor, which must be seen while it lives.
So a look comes before each signal. A procreaper among our descendants lengthens the path: what it starts is ours too.

A run is not over before its adopted descendants are gone; they get the signals that its group gets. A descendant whose
parent lives gets none: ending it is up to the parent, which may have to do this in order. Of those who are nobody's,
`end` takes care when the app is over. Whoever belongs to a detached process is left alone, by its mark or by
its session; once there is one of those, so are those without a mark, because they may be its.

All that we start leads a session of its own. So an adopted zombie that leads none is reaped at once; one that does, and
is not known otherwise, after a `GRACE` in which whoever else may have started it would have done so.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from procreaper.core.pauses import lost
from procreaper.runtime.cleanup.descendants import Relatives
from procreaper.runtime.cleanup.process_tree import describe_programs, list_subtrees
from procreaper.runtime.system.marks import DETACHED_MARK, GUARD_MARK, MARK_VARIABLE
from procreaper.runtime.system.proc import ProcessStat, read_stat

if TYPE_CHECKING:
    import asyncio

    from procreaper.runtime.cleanup.commands import CommandTracker, TrackedCommand

PR_SET_CHILD_SUBREAPER = 36
# So many seconds after the start of a run it is looked for who has left its group.
LOOK_AFTER = 0.5
# How long a zombie may be somebody else's to wait for, in seconds.
GRACE = 1.0
# At the end of the app: the seconds between two looks, where no signal comes first, and what SIGKILL is given.
PAUSE, KILL_TIMEOUT = 0.05, 2.0
# How often somebody without an environment is looked at before it is believed to have none.
MOST_LOOKS = 3


def add_mark(environment: MutableMapping[str, str]) -> str:
    """Put the path of a new app into an environment, and return it."""
    environment[MARK_VARIABLE] = f"{environment.get(MARK_VARIABLE, '')}{os.urandom(6).hex()}/"
    return environment[MARK_VARIABLE]


class Adoption(NamedTuple):
    """Whether `complete`, all orphans among our descendants come to us; `strangers`: some were our children before."""

    complete: bool
    strangers: bool


def adopt_orphans() -> Adoption:
    """Have all orphans among our descendants become our children from now on; before the first is started."""
    if sys.platform != "linux":
        return Adoption(complete=False, strangers=False)
    try:
        # Before we have started anything: as after `setsid something & exec procreaper`.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        strangers = True
    except ChildProcessError:
        strangers = False
    try:
        # What ctypes is made of: to import all of that would cost two milliseconds before the first child can start.
        import _ctypes

        prctl = _ctypes.dlsym(_ctypes.dlopen(cast("str", None), 0), "prctl")  # None is the program itself
        complete = _ctypes.call_function(prctl, (PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0
    except (ImportError, AttributeError, OSError):
        complete = False
    return Adoption(complete, strangers)


class Orphans:
    """Knows which descendants belong to a run though they are not of its group.

    `path` is the app's own. `say` tells the user which processes were ended. `add_process(pid, target, start)` and
    `remove_process(pid)` keep the list of processes that must not outlive us, and so do `watch_output(descriptor)` and
    `forget_output(key)`. Where strangers are among our children, those without a mark are left alone.
    """

    def __init__(
        self,
        path: str,
        adoption: Adoption,
        loop: asyncio.AbstractEventLoop,
        *,
        say: Callable[[str], None],
        add_process: Callable[[int, int, int], None],
        remove_process: Callable[[int], None],
        watch_output: Callable[[int], str],
        forget_output: Callable[[str], None],
    ) -> None:
        self._path = path
        self._loop = loop
        self._say = say
        self._add_process = add_process
        self._remove_process = remove_process
        self.watch_output = watch_output
        self.forget_output = forget_output
        self._strangers = adoption.strangers
        self._session = os.getsid(0)
        # The groups of the runs that are under way, with their marks; a group has the number of its leader.
        self._groups: dict[int, str] = {}
        # The sessions of the detached processes; a session has the number of its leader.
        self._exempt: set[int] = set()
        self._has_exempt = False
        # By run: the signal that it was sent last, and who of its descendants got which.
        self._sent: dict[str, int] = {}
        self._told: dict[str, dict[int, tuple[int, str]]] = {}
        # As of the last look, which is good for the rest of this turn of the loop.
        self._is_fresh = False
        self._relatives = Relatives()
        # Descendants that have left their groups; those that are our children.
        self._escaped: dict[int, ProcessStat] = {}
        self._adopted: dict[int, ProcessStat] = {}
        # The marks of the checks that are under way.
        self._checking: set[str] = set()
        self._commands: CommandTracker | None = None
        self._waiting: set[tuple[int, int]] = set()
        self._reaping: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_again = False
        # Processes whose checks leave something behind, as has been said.
        self._littered: set[str] = set()
        self._news: asyncio.Future[None] | None = None
        self._requests = 0
        self._is_over = False
        if sys.platform == "linux":
            loop.add_signal_handler(signal.SIGCHLD, self._child_ended)
            # Who started us may have blocked it.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))

    # What a run tells and asks.

    def environment(self, name: str, run: int, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        """The environment of a run: this one, or ours, with its mark."""
        return {**(os.environ if environment is None else environment), MARK_VARIABLE: self._path_of_run(name, run)}

    def run_started(self, name: str, run: int, group: int) -> None:
        """A run has started, in a group of its own."""
        self.group_started(group, self._path_of_run(name, run))
        self._began_again = True
        if self._timer is None and sys.platform == "linux":
            self._look_later()

    def group_started(self, group: int, path: str) -> None:
        """What we have started leads this group and has this mark."""
        self._exempt.discard(group)
        self._groups[group] = path
        self._adopted.pop(group, None)
        self._escaped.pop(group, None)
        seen = _see(group)
        self._add_process(group, -group, 0 if seen is None else seen.start)
        self._relatives.born(group)

    def track_command(self, name: str, run: int | None = None) -> TrackedCommand:
        """Take a command of this process into custody; with the number of a run, the command checks that run.

        What it leaves behind may live until the app ends; what a check leaves behind is ended soon.
        """
        if self._commands is None:
            # Not at the top: most processes have neither checks nor hooks.
            from procreaper.runtime.cleanup.commands import CommandTracker

            self._commands = CommandTracker(self._loop, self, self._checking, self._end_rest)
        if run is None:
            return self._commands.track(self._path, is_check=False)
        return self._commands.track(self._path_of_run(name, run), is_check=True)

    def exempt_session(self, session: int) -> None:
        """Whoever is of this session is to live on when we end, and so is all that comes from there."""
        self._exempt.add(session)
        self._has_exempt = True

    def group_ended(self, group: int) -> None:
        """Nobody is left in the group, whose number may now become somebody else's."""
        self._exempt.discard(group)
        self._groups.pop(group, None)
        self._remove_process(group)

    def scan_descendants(self) -> None:
        """A run is about to end: see which descendants it has, as long as their parents live."""
        self._look()

    def signal_escapees(self, name: str, run: int, number: int) -> None:
        """Send to those who have left the group of this run what the group is about to be sent."""
        path = self._path_of_run(name, run)
        self._sent[path] = number
        _signal(self._told.setdefault(path, {}), self._find(path), number)

    def has_escapees(self, name: str, run: int) -> bool:
        """Whether somebody who left the group of this run is alive; tells the user in the end who was ended."""
        path = self._path_of_run(name, run)
        if found := self._find(path):
            if path in self._sent:
                # Some come to us only when their parent has obeyed.
                _signal(self._told[path], found, self._sent[path])
            return True
        self._sent.pop(path, None)
        if told := self._told.pop(path, None):
            # Here it is known for certain whose they were to wait for.
            for pid in told.keys() & self._relatives.seen.keys():
                if self._relatives.seen[pid].is_zombie and self._is_adopted(self._relatives.seen[pid]):
                    _reap(pid)
            self._say(f"ended {_names(told)}, which {name} had left behind")
        return False

    # The end of the app.

    def request_end(self) -> None:
        """Somebody asks for the end; the second time, or when little is left to do, that means now."""
        self._requests += 1
        self._wake()

    async def end_leftovers(self, patience: float) -> None:
        """End those of whom nobody knows whose they are: by SIGTERM, and after `patience` seconds by SIGKILL."""
        self._is_over = True
        told: dict[int, tuple[int, str]] = {}
        requests = max(1, self._requests)
        deadline, number = self._loop.time() + patience, signal.SIGTERM
        path = self._path if self._strangers or self._has_exempt else ""
        looks = 0
        while (found := self._find(path)) or (path and self._has_doubts() and looks < MOST_LOOKS):
            looks += 1
            is_late = self._loop.time() >= deadline
            if number is signal.SIGTERM and (is_late or self._requests > requests or requests > 1):
                deadline, number = self._loop.time() + KILL_TIMEOUT, signal.SIGKILL
            elif is_late and found:
                self._say(f"{describe_programs(found)} cannot be ended")
                return
            _signal(told, found, number)
            self._news = self._loop.create_future()
            timer = self._loop.call_later(PAUSE, self._wake)
            await self._news
            timer.cancel()
            deadline += lost(timer.when(), self._loop.time())
        if told:
            self._say(f"ended {_names(told)}, which had been left behind")

    # Looking.

    def _path_of_run(self, name: str, run: int) -> str:
        return f"{self._path}{name}/{run}/"

    def _find(self, path: str) -> dict[int, str]:
        """The adopted whose path begins with this one, and all their descendants; pids with names of programs."""
        self._look()
        roots = [
            pid
            for pid, seen in self._adopted.items()
            if (own := self._relatives.path_of(pid, seen)).startswith(path) and own not in self._checking
        ]
        return list_subtrees(self._relatives.seen, roots, self._is_exempt) if roots else {}

    def _look(self) -> None:
        """See who has left its group, and who of them was adopted."""
        if self._is_fresh or sys.platform != "linux":
            return
        self._is_fresh = True
        self._loop.call_soon(self._grow_stale)
        self._relatives.look(self._groups)
        escaped = {
            pid: seen
            for pid, seen in self._relatives.seen.items()
            if seen.group not in self._groups
            # What is of our own session was started by other means than ours, such as a plug-in's.
            and seen.session != self._session
            and not seen.is_zombie
            and not self._is_exempt(pid, seen)
        }
        for pid in self._escaped.keys() - escaped.keys():
            self._remove_process(pid)
        for pid, seen in escaped.items():
            if pid not in self._escaped or self._escaped[pid].start != seen.start:
                self._add_process(pid, -pid if seen.group == pid else pid, seen.start)
        self._escaped = escaped
        self._adopted = {pid: seen for pid, seen in escaped.items() if self._is_adopted(seen)}

    def _is_adopted(self, seen: ProcessStat) -> bool:
        return seen.parent == os.getpid() and seen.session != self._session

    def _is_exempt(self, pid: int, seen: ProcessStat) -> bool:
        """Whether it belongs to a detached process, or is the guard of a procreaper."""
        if seen.session in self._exempt:
            return True
        path = self._relatives.path_of(pid, seen)
        return path == GUARD_MARK or path.startswith(DETACHED_MARK)

    def _end_rest(self) -> None:
        """End what checks have left behind."""
        from procreaper.runtime.cleanup.commands import is_left

        self._look()
        left: dict[str, list[int]] = {}
        for pid, seen in self._adopted.items():
            path = self._relatives.path_of(pid, seen)
            if path.startswith(self._path) and is_left(path, self._checking):
                left.setdefault(path.removeprefix(self._path).partition("/")[0], []).append(pid)
        for name, pids in left.items():
            found = list_subtrees(self._relatives.seen, pids, self._is_exempt)
            _signal({}, found, signal.SIGKILL)
            if name not in self._littered:
                # Once, since each of its checks may do so.
                self._littered.add(name)
                self._say(f"ended {describe_programs(found)}, which a check of {name} had left behind")

    def _has_doubts(self) -> bool:
        """Whether somebody has no environment: in the midst of an execution, if not by choice."""
        return any(not self._relatives.knows_path(pid, seen) for pid, seen in self._adopted.items())

    def _grow_stale(self) -> None:
        self._is_fresh = False

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _look_later(self) -> None:
        self._began_again = False
        self._timer = self._loop.call_later(LOOK_AFTER, self._look_now)

    def _look_now(self) -> None:
        self._timer = None
        self._look()
        if self._began_again:
            self._look_later()

    # Reaping.

    def _child_ended(self) -> None:
        """Reap the adopted that have ended, as far as they can be seen at once."""
        self._wake()
        self._reap_first()

    def _reap_first(self) -> None:
        """Reap those that the system names first, up to one that somebody else may wait for."""
        while (ended := _peek()) is not None:
            seen = _see(ended) or _see_zombie(ended)
            if seen is None or ended in self._groups or not self._is_ours_to_reap(ended, seen):
                # Somebody else is about to, and hides those behind it.
                if self._reaping is None:
                    self._reaping = self._loop.call_later(GRACE, self._reap_all)
                return
            _reap(ended)

    def _reap_all(self) -> None:
        """Reap those that were hidden, and those that nobody else has waited for."""
        self._relatives.look_at_all(self._groups)
        waiting = set()
        for pid, seen in self._relatives.seen.items():
            if seen.is_zombie and self._is_adopted(seen):
                if self._is_ours_to_reap(pid, seen) or (pid, seen.start) in self._waiting:
                    _reap(pid)
                else:
                    waiting.add((pid, seen.start))
        self._waiting = waiting
        self._reaping = self._loop.call_later(GRACE, self._reap_all) if waiting else None
        # Some are not seen where `/proc` cannot be read.
        self._reap_first()

    def _is_ours_to_reap(self, pid: int, seen: ProcessStat) -> bool:
        """Whether it is certain that nobody else waits for this child."""
        if not self._is_adopted(seen):
            return False
        return seen.session != pid or self._is_over or any(pid in told for told in self._told.values())


def _signal(told: dict[int, tuple[int, str]], found: Mapping[int, str], number: int) -> None:
    """Send a signal to those who were not told the same before."""
    for pid, program in found.items():
        if told.get(pid, (0, ""))[0] == number:
            continue
        # PermissionError: it runs as another user.
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            told[pid] = number, program
            if number != signal.SIGKILL:
                # A stopped process would not see the signal.
                os.kill(pid, signal.SIGCONT)


def _names(told: Mapping[int, tuple[int, str]]) -> str:
    return describe_programs({pid: program for pid, (_, program) in told.items()})


def _see(pid: int) -> ProcessStat | None:
    """A process as it is; None where it has gone, or `/proc` cannot be read."""
    try:
        return read_stat(pid)
    except OSError:
        return None


def _see_zombie(pid: int) -> ProcessStat | None:
    """A child of ours that has ended, where `/proc` does not show it: what the system tells of any child."""
    try:
        return ProcessStat("", "Z", os.getpid(), os.getpgid(pid), os.getsid(pid), 0)
    except ProcessLookupError:
        return None


def _peek() -> int | None:
    """A child that has ended, whose status is left where it is."""
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
