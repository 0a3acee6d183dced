"""The processes of a session that a signal reaches first, by rules alone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from procreaper.runtime.child.audience import (
    find_readers,
    groups_of,
    handlers_below,
    held_for,
    in_between,
    is_fatal,
    is_handled,
    programs_below,
)
from procreaper.runtime.system.proc import ProcessStat

US, LEADER = 1, 10
SIGINT, SIGTERM, SIGCHLD = 2, 15, 17


def session(*members: tuple[int, int, str], group: int = LEADER) -> dict[int, ProcessStat]:
    """Processes as (pid, parent, program)."""
    return {pid: ProcessStat(program, "S", parent, group, LEADER, pid) for pid, parent, program in members}


def status(blocked: int = 0, ignored: int = 0, caught: int = 0) -> bytes:
    return f"Name:\tx\nSigQ:\t1/2\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n".encode()


def never(writers: Iterable[int], reader: int) -> bool:
    return False


@pytest.mark.parametrize(
    ("told", "number", "fatal"),
    [
        (status(), SIGTERM, True),
        (status(caught=1 << 14), SIGTERM, False),
        (status(ignored=1 << 14), SIGTERM, False),
        (status(blocked=1 << 14), SIGTERM, False),
        (status(caught=1 << 1), SIGTERM, True),
        (status(), SIGCHLD, False),
        (b"", SIGTERM, False),
    ],
)
def test_a_signal_is_fatal_unless_it_is_caught_ignored_or_blocked(told: bytes, number: int, fatal: bool) -> None:
    assert is_fatal(told, number) is fatal


@pytest.mark.parametrize(
    ("told", "handled"),
    [
        (status(), False),
        (status(caught=1 << 14), True),
        (status(blocked=1 << 14), True),
        (status(ignored=1 << 14), False),
        (status(caught=1 << 1), False),
        (b"", False),
    ],
)
def test_a_signal_is_handled_where_it_is_caught_or_blocked(told: bytes, handled: bool) -> None:
    assert is_handled(told, SIGTERM) is handled


@pytest.mark.parametrize(
    ("handling", "found"),
    [
        ({12, 13}, [12]),  # The master of a server, not its worker.
        ({13}, [13]),
        ({10, 12}, [10]),  # A shell with a trap.
        ({11, 12, 14}, [14, 12]),  # Each branch has its own; make would end, were it to get the signal.
        (set(), []),
    ],
)
def test_the_first_process_of_a_branch_that_handles_a_signal_gets_it(handling: set[int], found: list[int]) -> None:
    members = session((10, US, "sh"), (11, 10, "make"), (12, 11, "server"), (13, 12, "server"), (14, 10, "other"))
    assert handlers_below(members, LEADER, SIGTERM, handling.__contains__) == found


@pytest.mark.parametrize("launcher", ["make", "npm run dev"])
def test_a_launcher_that_runs_nothing_handles_its_signals_itself(launcher: str) -> None:
    assert handlers_below(session((10, US, launcher)), LEADER, SIGTERM, lambda _: True) == [10]
    members = session((10, US, launcher), (11, 10, "server"))
    assert handlers_below(members, LEADER, SIGTERM, lambda _: True) == [11]


def test_a_shell_that_waits_for_a_program_does_not_handle_sigint() -> None:
    members = session((10, US, "bash"), (11, 10, "server"))
    assert handlers_below(members, LEADER, SIGINT, lambda _: True) == [11]
    assert handlers_below(members, LEADER, SIGTERM, lambda _: True) == [10]


def test_those_in_between_have_living_children_and_come_parents_first() -> None:
    # The nurse catches the signal; number 9 is older than its parent, as numbers are used again.
    members = session((10, US, "sh"), (11, 10, "nurse"), (12, 11, "sh"), (9, 12, "sh"), (14, 9, "node"))
    assert in_between(members, lambda pid: pid != 11) == [10, 12, 9]
    members[14] = members[14]._replace(state="Z")
    assert in_between(members, lambda pid: pid != 11) == [10, 12]


@pytest.mark.parametrize("program", ["make", "npm run dev", "uv"])
def test_launcher_with_children_is_in_between_because_it_sends_them_the_signal_again(program: str) -> None:
    members = session((10, US, program), (11, 10, "server"))
    assert in_between(members, lambda _: False) == [10]
    assert in_between(session((10, US, program)), lambda _: False) == []


def test_leader_is_held_for_its_children_alone_where_others_do_not_get_the_signal() -> None:
    members = session((10, US, "sh"), (11, 10, "server"), (12, 11, "worker"))
    assert held_for(members, 10, None) == [11]


def test_stopped_process_is_held_for_its_children_and_the_leader_for_all_others() -> None:
    members = session((10, US, "sh"), (11, 10, "sh"), (12, 11, "node"), (13, 12, "server"))
    members[14] = ProcessStat("other session", "S", 13, 14, 14, 14)
    assert [held_for(members, pid, LEADER) for pid in (10, 11, 12, 13)] == [[11, 12, 13], [12], [13], [14]]
    # node has ended at the signal: the leader, whose end would hang up the terminal, still waits for the server.
    members[12] = members[12]._replace(state="Z")
    assert [held_for(members, pid, LEADER) for pid in (10, 11)] == [[11, 13], []]


def test_the_programs_stand_below_all_shells() -> None:
    members = session((10, US, "sh"), (11, 10, "bash"), (12, 11, "celery"), (13, 12, "celery"), (14, 12, "sh"))
    assert programs_below(members, LEADER, SIGTERM, lambda _: True, never) == ([10, 11], [12])


@pytest.mark.parametrize(("number", "found"), [(SIGTERM, ([], [10])), (SIGINT, ([10], [11]))])
def test_a_shell_that_catches_the_signal_is_a_program(number: int, found: tuple[list[int], list[int]]) -> None:
    members = session((10, US, "bash"), (11, 10, "server"))
    assert programs_below(members, LEADER, number, lambda _: False, never) == found


def test_a_shell_without_children_and_a_wrapper_are_programs() -> None:
    assert programs_below(session((10, US, "sh")), LEADER, SIGTERM, lambda _: True, never) == ([], [10])
    members = session((10, US, "python3"), (11, 10, "server"))
    assert programs_below(members, LEADER, SIGTERM, lambda _: True, never) == ([], [10])


def test_what_only_reads_a_program_is_none() -> None:
    members = session((10, US, "sh"), (11, 10, "server"), (12, 10, "tee"), (13, 10, "other"))
    found = programs_below(members, LEADER, SIGTERM, lambda _: True, lambda writers, reader: reader == 12)
    assert found == ([10], [11, 13])
    found = programs_below(members, LEADER, SIGTERM, lambda _: True, lambda writers, reader: True)
    assert found == ([10], [11, 12, 13])


@pytest.mark.parametrize(
    ("pipes", "waiting"),
    [
        ({12: [11]}, [12]),
        ({12: [11, 13], 14: [12]}, [12, 14]),
        # Each reads what the other writes, so that neither ends before the other.
        ({12: [13], 13: [12]}, []),
        ({12: [11], 13: [14], 14: [13], 15: [14]}, [12, 15]),
    ],
)
def test_a_reader_waits_for_its_writers_unless_they_wait_for_it(
    pipes: dict[int, list[int]], waiting: list[int]
) -> None:
    assert sorted(find_readers(pipes)) == waiting


def test_a_signal_is_for_all_groups_of_a_session_but_those_that_we_adopted() -> None:
    members = session((10, US, "sh"), (11, US, "orphan of the group"))
    members |= session((12, 10, "job"), group=12) | session((13, US, "daemon"), (14, 13, "worker"), group=13)
    assert groups_of(members, LEADER, US) == {10, 12}
