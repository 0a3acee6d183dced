"""The time in which procreaper did not run, by how late it wakes up."""

from __future__ import annotations

import pytest

from procreaper.core.pauses import STRIDE, TOLERANCE, lost


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        pytest.param(4.0, 0.0, id="an event wakes it early"),
        pytest.param(5.0, 0.0, id="in time"),
        pytest.param(5.0 + TOLERANCE, 0.0, id="late on a busy machine"),
        pytest.param(5.0 + 2 * TOLERANCE, 2 * TOLERANCE, id="a short pause counts from the expected moment"),
        pytest.param(3605.0, 3600.0, id="a long pause"),
    ],
)
def test_a_late_wake_up_shows_a_pause(now: float, seconds: float) -> None:
    assert lost(5.0, now) == seconds


def test_limits_end_on_a_machine_on_which_each_wake_up_is_late() -> None:
    now, limit = 0.0, 5.0
    for _ in range(round(5.0 / STRIDE)):
        expected, now = now + STRIDE, now + STRIDE + 1.5 * TOLERANCE
        limit += lost(expected, now)
    assert now >= limit
