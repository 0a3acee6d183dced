"""What is to run: the words and their numbers."""

from __future__ import annotations

import pytest

from procreaper.core.checks import Health, LogCheck
from procreaper.core.plan import Backoff, Condition, Dependency, Plan, Process, StopPolicy, When, find_cycle, reachable


@pytest.mark.parametrize(
    ("when", "on_success", "on_failure"),
    [(When.NEVER, False, False), (When.ON_FAILURE, False, True), (When.ALWAYS, True, True)],
)
def test_when_applies_to(when: When, on_success: bool, on_failure: bool) -> None:
    assert (when.applies(success=True), when.applies(success=False)) == (on_success, on_failure)


def test_when_is_written_as_in_the_files() -> None:
    assert [str(when) for when in When] == ["never", "on-failure", "always"]
    assert When("on-failure") is When.ON_FAILURE


def test_back_off_doubles_up_to_its_maximum() -> None:
    backoff = Backoff(initial=2.0, maximum=30.0)
    assert [backoff.wait(retries) for retries in range(1, 8)] == [2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize("retries", [61, 1024, 1025, 10**9])
def test_back_off_stays_at_its_maximum_for_ever(retries: int) -> None:
    assert Backoff(initial=0.001, maximum=30.0).wait(retries) == 30.0


def test_back_off_of_nothing_is_no_wait_at_all() -> None:
    assert Backoff(initial=0.0).wait(1) == Backoff(initial=0.0).wait(5000) == 0.0


def test_back_off_never_waits_longer_than_the_maximum_even_at_first() -> None:
    assert Backoff(initial=60.0, maximum=30.0).wait(1) == 30.0


def test_a_process_behaves_as_under_foreman_and_honcho_unless_told_otherwise() -> None:
    process = Process("web", "serve")
    assert (process.restart, process.stop_all) == (When.NEVER, When.ALWAYS)
    assert (process.success_codes, process.stop) == (frozenset({0}), StopPolicy(15, 5.0))
    assert process.max_retries is None


def test_a_process_cannot_be_changed() -> None:
    process = Process("web", "serve")
    with pytest.raises(AttributeError):
        process.name = "db"  # type: ignore[misc]


def test_a_plan_keeps_the_order_of_its_processes() -> None:
    names = ("web", "db", "all", "a.2", "a.1")
    assert [process.name for process in Plan(tuple(Process(name, "run") for name in names)).processes] == list(names)


@pytest.mark.parametrize(
    ("oneshot", "checked", "condition"),
    [
        (False, False, Condition.STARTED),
        (False, True, Condition.HEALTHY),
        (True, False, Condition.COMPLETED),
        (True, True, Condition.COMPLETED),
    ],
)
def test_up_is_what_its_kind_says(oneshot: bool, checked: bool, condition: Condition) -> None:
    health = Health(log=LogCheck("ready")) if checked else None
    assert Process("web", "serve", oneshot=oneshot, health=health).up is condition


def test_a_dependency_waits_for_the_start_and_does_not_follow_restarts_unless_told_otherwise() -> None:
    assert Dependency("db") == Dependency("db", Condition.STARTED, restart=False)
    assert [str(condition) for condition in Condition] == ["started", "healthy", "completed"]


@pytest.mark.parametrize(("name", "kind"), [("web.2", "web"), ("web", "web"), ("web.x", "web.x")])
def test_the_type_is_the_name_without_its_number(name: str, kind: str) -> None:
    assert Process(name, "serve").type == kind


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({}, ()),
        ({"web": ["db"], "db": []}, ()),
        ({"web": ["db", "api"], "api": ["db"]}, ()),
        ({"web": ["web"]}, ("web", "web")),
        ({"web": ["db"], "db": ["web"]}, ("web", "db", "web")),
        ({"web": ["api"], "api": ["db"], "db": ["mail", "api"]}, ("api", "db", "api")),
        ({"web": ["ghost"]}, ()),
    ],
    ids=["nothing", "chain", "triangle", "itself", "pair", "behind a tail", "unknown"],
)
def test_a_circle_is_found_and_named(edges: dict[str, list[str]], cycle: tuple[str, ...]) -> None:
    assert find_cycle(edges) == cycle


def test_a_ladder_of_diamonds_is_searched_in_no_time() -> None:
    """Every way through it would be 2 to the power of 200."""
    edges = {f"{side}{number}": [f"a{number + 1}", f"b{number + 1}"] for number in range(200) for side in "ab"}
    assert find_cycle(edges) == ()
    assert len(reachable(["a0"], edges)) == 401


def test_what_can_be_reached_comes_once_and_in_order() -> None:
    edges = {"web": ["api", "db"], "api": ["db"], "db": ["disk"]}
    assert list(reachable(["web"], edges)) == ["web", "api", "db", "disk"]
    assert list(reachable(["db", "web"], edges)) == ["db", "web", "disk", "api"]
    assert list(reachable([], edges)) == []
