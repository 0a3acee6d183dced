"""Chooses the processes of a session that get a signal, and those that must wait for others.

Rules: pure; the contents of `/proc` come in as bytes and as parsed values.

Theory of operation. A shell that runs a program does not end before the program does, unless a signal ends it. If it
leads a session on a terminal, its end hangs up that terminal: the kernel sends SIGHUP to the programs that are still
ending. So a process is *in between* if the signal would end it at once while children of it live. It gets the signal
after them. A launcher with children, such as make, is in between as well, because it would send them the signal a
second time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from procreaper.runtime.system.proc import ProcessStat

# Programs whose purpose is to run others. A `command` that is a string always runs in one of them.
SHELLS = frozenset({"sh", "ash", "bash", "busybox", "dash", "fish", "ksh", "ksh93", "mksh", "rbash", "yash", "zsh"})
# Programs that end at a signal which they catch, after the program that they run, and that pass SIGTERM on to it. npm
# shows its arguments in its name.
LAUNCHERS = ("make", "gmake", "just", "npm", "uv")
SIGINT = 2
# Signals that by default end no process, in the numbers of Linux: SIGCHLD, SIGCONT, SIGURG, SIGWINCH, and those that
# stop it.
ENDS_NOBODY = frozenset({17, 18, 19, 20, 21, 22, 23, 28})


def is_fatal(status: bytes, number: int) -> bool:
    """Return whether a signal ends a process at once, because it neither catches, ignores nor blocks it.

    `status` is the content of ``/proc/PID/status``.
    """
    masks = 0
    found = False
    for line in status.splitlines():
        name, _, value = line.partition(b":")
        if name in (b"SigBlk", b"SigIgn", b"SigCgt"):
            masks |= int(value, 16)
            found = True
    return found and number not in ENDS_NOBODY and not masks >> (number - 1) & 1


def is_handled(status: bytes, number: int) -> bool:
    """Return whether a process handles a signal: it catches the signal, or blocks it to wait for it.

    `status` is the content of ``/proc/PID/status``.
    """
    masks = 0
    for line in status.splitlines():
        name, _, value = line.partition(b":")
        if name in (b"SigBlk", b"SigCgt"):
            masks |= int(value, 16)
    return bool(masks >> (number - 1) & 1)


def children_of(members: Mapping[int, ProcessStat]) -> dict[int, list[int]]:
    """Return the living children of each of these processes, lowest number first."""
    children: dict[int, list[int]] = {}
    for pid in sorted(members):
        if not members[pid].is_zombie:
            children.setdefault(members[pid].parent, []).append(pid)
    return children


def in_between(members: Mapping[int, ProcessStat], ends: Callable[[int], bool]) -> list[int]:
    """Find launchers with children, and processes that the signal `ends` before their children; parents first."""
    children = children_of(members)
    found = [
        pid
        for pid, seen in members.items()
        if pid in children and not seen.is_zombie and (_is_launcher(seen.program) or ends(pid))
    ]
    return sorted(found, key=lambda pid: (_depth(members, pid), pid))


def programs_below(
    members: Mapping[int, ProcessStat],
    leader: int,
    number: int,
    ends: Callable[[int], bool],
    feeds: Callable[[Iterable[int], int], bool],
) -> tuple[list[int], list[int]]:
    """Find the shells between a leader and the programs that it runs, and those programs.

    If a shell runs several programs, all of them count, except those that only read the output of another one
    (`feeds(writers, reader)`). A shell that handles the signal by a trap is itself a program.
    """
    children = children_of(members)
    shells: list[int] = []
    programs: list[int] = []
    waiting = [leader]
    while waiting:
        pid = waiting.pop(0)
        below = children.get(pid, ())
        if not below or not _passes_on(members.get(pid), number, ends, pid):
            programs.append(pid)
            continue
        shells.append(pid)
        waiting += [child for child in below if not feeds([other for other in below if other != child], child)] or below
    return shells, programs


def handlers_below(
    members: Mapping[int, ProcessStat], leader: int, number: int, handles: Callable[[int], bool]
) -> list[int]:
    """Find the processes of a run that handle a signal: from the leader down, the first ones of each branch.

    The children of such a process are its own business: the workers of a server get the signal from the server, and
    many of them would die of ours.
    """
    children = children_of(members)
    found: list[int] = []
    waiting = [leader]
    while waiting:
        pid = waiting.pop(0)
        below = children.get(pid, ())
        program = members[pid].program
        # While a shell waits for a program, it may catch SIGINT.
        if handles(pid) and not (below and (_is_launcher(program) or (number == SIGINT and program in SHELLS))):
            found.append(pid)
        else:
            waiting += below
    return found


def groups_of(members: Mapping[int, ProcessStat], leader: int, us: int) -> set[int]:
    """Return the groups of a session that get a signal to a run.

    These are the group of the leader, and each group of which we have adopted no member; the other groups get the
    signal in another way.
    """
    adopted = {seen.group for pid, seen in members.items() if seen.parent == us and pid != leader}
    return {leader} | ({seen.group for seen in members.values()} - adopted)


def held_for(members: Mapping[int, ProcessStat], pid: int, leader: int | None) -> list[int]:
    """Find the living processes that have to end before a stopped one goes on and gets the signal.

    They are its children. The end of the leader hangs up the terminal for the whole session, so the leader waits for
    all others: a wrapper, such as node, may end at the signal before the program that it runs. Without `leader` the
    leader waits for its children alone, because the others of the session do not get the signal.
    """
    if pid != leader:
        return children_of(members).get(pid, [])
    return [other for other, seen in members.items() if other != pid and seen.session == pid and not seen.is_zombie]


def find_readers(pipes: Mapping[int, Collection[int]]) -> dict[int, Collection[int]]:
    """Return the readers that can wait until all of their writers have ended: not two that read from each other.

    >>> find_readers({12: [11], 13: [12]})
    {12: [11], 13: [12]}
    >>> find_readers({12: [13], 13: [12]})
    {}
    """
    return {pid: writers for pid, writers in pipes.items() if pid not in _reach(pipes, pid)}


def _reach(pipes: Mapping[int, Collection[int]], pid: int) -> set[int]:
    found: set[int] = set()
    waiting = list(pipes[pid])
    while waiting:
        writer = waiting.pop()
        if writer not in found:
            found.add(writer)
            waiting += pipes.get(writer, ())
    return found


def _passes_on(seen: ProcessStat | None, number: int, ends: Callable[[int], bool], pid: int) -> bool:
    if seen is None or seen.program not in SHELLS:
        return False
    # A shell that waits for a program may catch SIGINT, to find out whether that ends the program; this is no trap.
    return number == SIGINT or ends(pid)


def _is_launcher(program: str) -> bool:
    return program.partition(" ")[0] in LAUNCHERS


def _depth(members: Mapping[int, ProcessStat], pid: int) -> int:
    depth = 0
    while pid in members and depth <= len(members):
        pid = members[pid].parent
        depth += 1
    return depth
