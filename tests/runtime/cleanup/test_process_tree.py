"""Process trees, on tables of parsed `/proc/PID/stat` files."""

from __future__ import annotations

import pytest

from procreaper.runtime.cleanup.process_tree import describe_programs, find_descendants, list_subtrees
from procreaper.runtime.system.proc import ProcessStat


def stat_of(parent: int, state: str = "S", program: str = "x") -> ProcessStat:
    return ProcessStat(program, state, parent, 0, 0, 0)


US = 100


@pytest.mark.parametrize(
    ("parents", "known", "strangers", "ours", "foreign"),
    [
        ({}, set(), set(), set(), set()),
        ({5: US}, set(), set(), {5}, set()),
        ({5: 6, 6: US}, set(), set(), {5, 6}, set()),
        ({6: US, 5: 6}, set(), set(), {5, 6}, set()),
        # A leader is known to descend from us, and need not be in the table.
        ({5: 7}, {7}, set(), {5}, set()),
        ({5: 1, 1: 0}, set(), set(), set(), {1, 5}),
        ({5: 3}, set(), {3}, set(), {5}),
        # Neither we nor our ancestors are descendants.
        ({US: 50, 50: 1, 1: 0, 5: US}, set(), set(), {5}, {50, 1}),
        # A process in between has ended: the next scan decides.
        ({5: 6, 4: 5}, set(), set(), set(), set()),
        # A circle, because a pid was used again during the reading.
        ({5: 6, 6: 5}, set(), set(), set(), set()),
        # We are the first process of a container.
        ({5: US, 6: 0}, set(), set(), {5}, {6}),
    ],
)
def test_descendants_and_strangers_are_found(
    parents: dict[int, int], known: set[int], strangers: set[int], ours: set[int], foreign: set[int]
) -> None:
    table = {pid: stat_of(parent) for pid, parent in parents.items()}
    found, others = find_descendants(table, US, known, strangers)
    assert (set(found), others) == (ours, foreign)


def test_subtrees_have_all_descendants_but_zombies() -> None:
    table = {1: stat_of(US), 2: stat_of(1), 3: stat_of(2, "Z"), 4: stat_of(3), 5: stat_of(US), 6: stat_of(5)}
    assert set(list_subtrees(table, [1])) == {1, 2, 4}
    assert set(list_subtrees(table, [1, 2, 9])) == {1, 2, 4}
    assert list_subtrees(table, []) == {}


def test_exempt_process_is_left_out_with_its_descendants() -> None:
    table = {1: stat_of(US), 2: stat_of(1, program="exempt"), 3: stat_of(2), 4: stat_of(1)}
    assert set(list_subtrees(table, [1, 2], lambda pid, each: each.program == "exempt")) == {1, 4}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "p0 (pid 0)"),
        (3, "p0 (pid 0), p1 (pid 1), p2 (pid 2)"),
        (5, "p0 (pid 0), p1 (pid 1), p2 (pid 2) and 2 more"),
    ],
)
def test_message_names_at_most_three_programs(count: int, text: str) -> None:
    assert describe_programs({pid: f"p{pid}" for pid in range(count)}) == text
