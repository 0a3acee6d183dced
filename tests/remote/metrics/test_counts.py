"""The counts after each kind of notice."""

from __future__ import annotations

import pytest

from procreaper.core.events import (
    Checked,
    Exit,
    Message,
    Notice,
    Output,
    Removed,
    RestartReason,
    RunBegan,
    RunEnded,
    SignalSent,
    State,
    Transition,
)
from procreaper.remote.metrics.counts import BOUNDS, Count, Counts


def counted(*notices: Notice) -> Count:
    counts = Counts()
    for notice in notices:
        assert counts.accept(notice)
    return counts.of("web")


def transition(state: State, end: Exit | None = None, restart: RestartReason | None = None) -> Transition:
    return Transition(0.0, "web", State.RUNNING, state, "because", exit=end, restart=restart)


def test_counts_start_at_zero() -> None:
    count = counted(Message(0.0, "hello"), Output(0.0, "other", b"x"), SignalSent(0.0, "web", 7, 15))
    assert (count.output_bytes, sum(count.restarts.values()), count.last_exit) == (0, 0, None)
    assert (count.check_failures, count.check_seconds, sum(count.checks)) == (0, 0.0, 0)


def test_output_is_counted_in_bytes() -> None:
    assert counted(Output(0.0, "web", b"one\n"), Output(0.0, "web", "\u00e9".encode())).output_bytes == 6


def test_restarts_are_counted_by_their_reason() -> None:
    count = counted(
        transition(State.STARTING),
        transition(State.RESTARTING, restart=RestartReason.EXIT),
        transition(State.PENDING, restart=RestartReason.MANUAL),
        transition(State.RESTARTING, restart=RestartReason.EXIT),
    )
    assert count.restarts == {**dict.fromkeys(RestartReason, 0), RestartReason.EXIT: 2, RestartReason.MANUAL: 1}


@pytest.mark.parametrize(
    ("notices", "code"),
    [
        ([RunEnded(0.0, "web", 7, Exit(code=3), "")], 3),
        ([RunEnded(0.0, "web", 7, Exit(signal=9), "")], 137),
        # A new run does not change how the last one ended.
        ([RunEnded(0.0, "web", 7, Exit(code=3), ""), transition(State.STARTING), RunBegan(0.0, "web", 8)], 3),
        # The run was ended because it was not healthy in time.
        ([RunEnded(0.0, "web", 7, Exit(signal=15), ""), transition(State.RESTARTING, Exit(code=124))], 124),
    ],
)
def test_last_exit_code_is_kept_until_the_next(notices: list[Notice], code: int) -> None:
    assert counted(*notices).last_exit == code


@pytest.mark.parametrize(
    ("duration", "bucket"),
    [(0.0, 0), (0.005, 0), (0.0051, 1), (1.0, BOUNDS.index(1.0)), (10.0, len(BOUNDS) - 1), (10.1, len(BOUNDS))],
)
def test_check_is_counted_under_the_smallest_bound_that_it_does_not_exceed(duration: float, bucket: int) -> None:
    checks = counted(Checked(0.0, "web", None, duration)).checks
    assert checks == [int(index == bucket) for index in range(len(BOUNDS) + 1)]


def test_unknown_end_has_no_exit_code() -> None:
    unknown = Exit()
    assert counted(RunEnded(0.0, "web", 7, unknown, ""), transition(State.FAILED, unknown)).last_exit is None


def test_counts_of_a_removed_process_restart_at_zero() -> None:
    count = counted(Output(0.0, "web", b"one\n"), Removed(0.0, "web"), Output(0.0, "web", b"x"))
    assert count.output_bytes == 1


def test_failed_checks_are_counted_as_checks_too() -> None:
    count = counted(Checked(0.0, "web", None, 0.5), Checked(0.0, "web", "no answer", 2.0))
    assert (count.check_failures, count.check_seconds, sum(count.checks)) == (1, 2.5, 2)
