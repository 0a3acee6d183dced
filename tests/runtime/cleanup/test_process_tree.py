"""Who descends from whom: pure, on tables of what /proc would say."""

from __future__ import annotations

import pytest

from procreaper.runtime.cleanup.process_tree import describe_programs, find_descendants, list_subtrees
from procreaper.runtime.system.proc import ProcessStat


def seen(parent: int, state: str = "S", program: str = "x") -> ProcessStat:
    return ProcessStat(program, state, parent, 0, 0, 0)


US = 100


@pytest.mark.parametrize(
    ("parents", "known", "strangers", "ours", "foreign"),
    [
        ({}, set(), set(), set(), set()),
        ({5: US}, set(), set(), {5}, set()),
        ({5: 6, 6: US}, set(), set(), {5, 6}, set()),
        ({6: US, 5: 6}, set(), set(), {5, 6}, set()),
        # A leader is known to descend from us, and need not be looked at.
        ({5: 7}, {7}, set(), {5}, set()),
        ({5: 1, 1: 0}, set(), set(), set(), {1, 5}),
        ({5: 3}, set(), {3}, set(), {5}),
        # We ourselves are not our relative, nor are our ancestors.
        ({US: 50, 50: 1, 1: 0, 5: US}, set(), set(), {5}, {50, 1}),
        # Somebody in between has gone: next time.
        ({5: 6, 4: 5}, set(), set(), set(), set()),
        # Numbers that were used again while they were read.
        ({5: 6, 6: 5}, set(), set(), set(), set()),
        # As the first process of a container.
        ({5: US, 6: 0}, set(), set(), {5}, {6}),
    ],
)
def test_relatives(
    parents: dict[int, int], known: set[int], strangers: set[int], ours: set[int], foreign: set[int]
) -> None:
    table = {pid: seen(parent) for pid, parent in parents.items()}
    found, others = find_descendants(table, US, known, strangers)
    assert (set(found), others) == (ours, foreign)


def test_all_that_descend_from_a_root_are_below_it_but_zombies() -> None:
    table = {1: seen(US), 2: seen(1), 3: seen(2, "Z"), 4: seen(3), 5: seen(US), 6: seen(5)}
    assert set(list_subtrees(table, [1])) == {1, 2, 4}
    assert set(list_subtrees(table, [1, 2, 9])) == {1, 2, 4}
    assert list_subtrees(table, []) == {}


def test_who_is_spared_is_left_out_with_all_that_is_below() -> None:
    table = {1: seen(US), 2: seen(1, program="spared"), 3: seen(2), 4: seen(1)}
    assert set(list_subtrees(table, [1, 2], lambda pid, each: each.program == "spared")) == {1, 4}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "p0 (pid 0)"),
        (3, "p0 (pid 0), p1 (pid 1), p2 (pid 2)"),
        (5, "p0 (pid 0), p1 (pid 1), p2 (pid 2) and 2 more"),
    ],
)
def test_few_are_named(count: int, text: str) -> None:
    assert describe_programs({pid: f"p{pid}" for pid in range(count)}) == text
