from __future__ import annotations

from typing import NamedTuple

import pytest

from procreaper.core.events import State
from procreaper.core.outcome import (
    CONFIRMED_AFTER,
    PENDING,
    REACHED,
    Confirmation,
    Goal,
    Outcome,
    find_blocker,
    find_outcome,
)


class Process(NamedTuple):
    state: State
    run: int = 1
    up: bool = False
    reason: str = "because"
    out_of_reach: bool = False
    waits_for: tuple[str, ...] = ()


RUNNING = Process(State.RUNNING, run=1, up=True)


@pytest.mark.parametrize("state", [State.PENDING, State.STARTING, State.STOPPING])
@pytest.mark.parametrize("goal", [Goal.UP, Goal.RESTARTED])
def test_what_is_on_its_way_up_is_waited_for(goal: Goal, state: State) -> None:
    assert find_outcome(goal, 1, Process(state, run=2)) == PENDING


def test_what_is_up_already_is_up() -> None:
    assert find_outcome(Goal.UP, 1, RUNNING) == REACHED


def test_a_restart_is_not_over_while_the_old_run_is_up() -> None:
    assert find_outcome(Goal.RESTARTED, 1, RUNNING) == PENDING
    assert find_outcome(Goal.RESTARTED, 1, RUNNING._replace(run=2)) == REACHED


def test_a_completed_run_is_up() -> None:
    assert find_outcome(Goal.RESTARTED, 1, Process(State.COMPLETED, run=2, up=True)) == REACHED


@pytest.mark.parametrize("state", [State.FAILED, State.SKIPPED, State.STOPPED])
def test_what_has_ended_is_not_waited_for(state: State) -> None:
    assert find_outcome(Goal.UP, 1, Process(state, run=2)) == Outcome(obstacle=f"{state}: because")


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (State.STOPPED, "stopped", "stopped"),
        (State.SKIPPED, "skipped: db.1 failed", "skipped: db.1 failed"),
        (State.FAILED, "exited with code 1", "failed: exited with code 1"),
        (State.FAILED, "", "failed"),
    ],
)
def test_a_reason_that_names_the_state_is_not_told_twice(state: State, reason: str, expected: str) -> None:
    assert find_outcome(Goal.UP, 1, Process(state, run=2, reason=reason)).obstacle == expected


def test_a_new_run_that_failed_is_an_obstacle_although_it_will_be_tried_again() -> None:
    assert find_outcome(Goal.UP, 1, Process(State.RESTARTING, run=2)).obstacle == "restarting: because"


def test_for_who_can_wait_a_run_that_failed_is_none_where_it_will_be_tried_again() -> None:
    assert find_outcome(Goal.UP_IN_THE_END, 1, Process(State.RESTARTING, run=2)) == PENDING
    assert find_outcome(Goal.UP_IN_THE_END, 1, Process(State.FAILED, run=2)).obstacle == "failed: because"
    assert find_outcome(Goal.UP_IN_THE_END, 1, RUNNING) == REACHED


def test_a_run_that_had_failed_before_somebody_asked_is_none() -> None:
    assert find_outcome(Goal.UP, 2, Process(State.RESTARTING, run=2)) == PENDING


def test_to_wait_for_what_is_unhealthy_and_is_left_so_would_be_for_ever() -> None:
    assert find_outcome(Goal.UP, 1, Process(State.UNHEALTHY)).obstacle == "unhealthy: because"
    assert find_outcome(Goal.RESTARTED, 1, Process(State.UNHEALTHY)) == PENDING


def test_what_is_removed_meanwhile_never_comes_up() -> None:
    assert find_outcome(Goal.RESTARTED, 1, None).obstacle == "it has been removed"


@pytest.mark.parametrize(
    ("db", "obstacle"),
    [
        (Process(State.STOPPED, reason="stopped"), "it waits for db, which is stopped"),
        (Process(State.FAILED, reason="exited with code 1"), "it waits for db, which is failed: exited with code 1"),
        (Process(State.RESTARTING, run=2), "it waits for db, which is restarting: because"),
        (Process(State.UNHEALTHY), "it waits for db, which is unhealthy: because"),
        (Process(State.RESTARTING, run=1), None),
        (Process(State.STARTING), None),
        (Process(State.STOPPING), None),
        (Process(State.PENDING), None),
        (None, None),
    ],
)
def test_what_waits_for_a_dependency_that_does_not_come_up_has_an_obstacle(
    db: Process | None, obstacle: str | None
) -> None:
    processes = {"web": Process(State.PENDING, waits_for=("db",))} | ({} if db is None else {"db": db})
    found = find_blocker("web", processes, {"web": 1, "db": 1})
    assert found == (None if obstacle is None else Outcome(obstacle=obstacle, blocker="db"))


def test_a_retry_is_an_obstacle_where_the_dependency_was_not_asked_for() -> None:
    processes = {"web": Process(State.PENDING, waits_for=("db",)), "db": Process(State.RESTARTING, run=1)}
    assert find_blocker("web", processes, {"web": 1}) is not None


def test_the_obstacle_may_be_far_away() -> None:
    processes = {
        "web": Process(State.PENDING, waits_for=("api",)),
        "api": Process(State.PENDING, waits_for=("db",)),
        "db": Process(State.STOPPED, reason="stopped"),
    }
    expected = Outcome(obstacle="it waits for api: it waits for db, which is stopped", blocker="db")
    assert find_blocker("web", processes) == expected


def test_what_waits_for_nothing_has_none() -> None:
    assert (
        find_blocker("web", {"web": Process(State.STARTING, waits_for=("db",)), "db": Process(State.STOPPED)}) is None
    )


@pytest.mark.parametrize("state", [State.STOPPED, State.COMPLETED, State.FAILED, State.SKIPPED])
def test_whatever_has_ended_is_stopped(state: State) -> None:
    assert find_outcome(Goal.STOPPED, 1, Process(state)) == REACHED


def test_a_stop_is_over_when_somebody_has_started_the_next_run() -> None:
    assert find_outcome(Goal.STOPPED, 1, RUNNING) == PENDING
    assert find_outcome(Goal.STOPPED, 1, RUNNING._replace(run=2)) == REACHED


@pytest.mark.parametrize("goal", [Goal.STOPPED, Goal.REMOVED])
def test_what_survives_sigkill_is_told_of(goal: Goal) -> None:
    stuck = Process(State.STOPPING, reason="still there after SIGKILL", out_of_reach=True)
    assert find_outcome(goal, 1, stuck).obstacle == "it cannot be stopped: it is still there after SIGKILL"


def test_what_is_removed_is_gone_only_when_it_is_not_there_any_more() -> None:
    assert find_outcome(Goal.REMOVED, 1, Process(State.STOPPED)) == PENDING
    assert find_outcome(Goal.REMOVED, 1, None) == REACHED


@pytest.mark.parametrize("state", [State.RUNNING, State.HEALTHY])
def test_what_is_up_is_believed_to_be_so_after_a_moment(state: State) -> None:
    confirmation, seen = Confirmation(), Process(state, up=True)
    assert confirmation.due("web.1", seen, 10.0) == 10.0 + CONFIRMED_AFTER
    assert confirmation.due("web.1", seen, 10.1) == 10.0 + CONFIRMED_AFTER
    assert confirmation.due("web.1", seen, 10.0 + CONFIRMED_AFTER) is None


def test_what_has_completed_is_believed_at_once() -> None:
    assert Confirmation().due("migrate.1", Process(State.COMPLETED, up=True), 10.0) is None


def test_each_run_of_each_process_has_its_own_moment() -> None:
    confirmation = Confirmation()
    confirmation.due("web.1", RUNNING, 10.0)
    assert confirmation.due("web.1", RUNNING._replace(run=2), 11.0) == 11.0 + CONFIRMED_AFTER
    assert confirmation.due("web.2", RUNNING, 12.0) == 12.0 + CONFIRMED_AFTER
