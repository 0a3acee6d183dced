"""Who descends from whom: pure, on tables of what /proc would say."""

from __future__ import annotations

import pytest

from procreaper.runtime.system.ancestry import (
    Seen,
    below,
    enumerate_programs,
    find_relatives,
    find_variable,
    parse_stat,
)


def seen(parent: int, state: str = "S", program: str = "x") -> Seen:
    return Seen(program, state, parent, 0, 0, 0)


@pytest.mark.parametrize("name", ["sh", "a b", "a) b", ") S 1 (", "", "a\nb", "\u00e9"])
def test_any_name_of_a_program_is_understood(name: str) -> None:
    data = f"7 ({name}) S 1 2 3 {'0 ' * 15}4711 0 0\n".encode()
    assert parse_stat(data) == Seen(name, "S", 1, 2, 3, 4711)


@pytest.mark.parametrize("data", [b"", b"7 (sh", b"7 (sh) S 1 2"])
def test_a_process_that_has_gone_meanwhile_is_none(data: bytes) -> None:
    assert parse_stat(data) is None


@pytest.mark.parametrize(("state", "is_zombie"), [("S", False), ("R", False), ("T", False), ("Z", True), ("X", True)])
def test_a_zombie_has_ended(state: str, is_zombie: bool) -> None:
    assert seen(1, state).is_zombie == is_zombie


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
    found, others = find_relatives(table, US, known, strangers)
    assert (set(found), others) == (ours, foreign)


def test_all_that_descend_from_a_root_are_below_it_but_zombies() -> None:
    table = {1: seen(US), 2: seen(1), 3: seen(2, "Z"), 4: seen(3), 5: seen(US), 6: seen(5)}
    assert set(below(table, [1])) == {1, 2, 4}
    assert set(below(table, [1, 2, 9])) == {1, 2, 4}
    assert below(table, []) == {}


def test_who_is_spared_is_left_out_with_all_that_is_below() -> None:
    table = {1: seen(US), 2: seen(1, program="spared"), 3: seen(2), 4: seen(1)}
    assert set(below(table, [1, 2], lambda pid, each: each.program == "spared")) == {1, 4}


@pytest.mark.parametrize(
    ("environment", "value"),
    [
        (b"", b""),
        (b"A=1\0B=2=3\0C=\0", b"2=3"),
        (b"AB=1\0XB=2\0", b""),
        (b"\0\0\0\0", b""),
        (b"nginx: master process\0\0\0", b""),
    ],
)
def test_a_variable_is_found_where_it_is(environment: bytes, value: bytes) -> None:
    assert find_variable(environment, "B") == value


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "p0 (pid 0)"),
        (3, "p0 (pid 0), p1 (pid 1), p2 (pid 2)"),
        (5, "p0 (pid 0), p1 (pid 1), p2 (pid 2) and 2 more"),
    ],
)
def test_few_are_named(count: int, text: str) -> None:
    assert enumerate_programs({pid: f"p{pid}" for pid in range(count)}) == text
