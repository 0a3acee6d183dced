from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.project.values import DURATION_EXAMPLES, DURATION_PATTERN, LONGEST_DURATION, parse_duration


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10.0),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1.5s", 1.5),
        ("1h2m3s4ms", 3723.004),
        ("1m1ms", 60.001),
        ("1m", 60.0),
        ("1ms", 0.001),
        ("0s", 0.0),
        ("90m", 5400.0),
        (10, 10.0),
        (0.25, 0.25),
        (0, 0.0),
    ],
)
def test_duration_is_parsed_into_seconds(value: str | float, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10",
        "s",
        "10 s",
        "1m 30s",
        "-1s",
        "1s1m",
        "1s1s",
        "1.s",
        ".5s",
        "10S",
        "10sec",
        "1d",
        "1e3s",
        "1s\n",
        "\u0661s",
    ],
)
def test_invalid_duration_is_refused_with_its_text(value: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f'"{value}" is not a duration')):
        parse_duration(value)


@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("-inf"), True, False])
def test_negative_and_boolean_durations_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


@pytest.mark.parametrize("value", [float("inf"), LONGEST_DURATION + 1, "87601h", f"{'9' * 400}h", 10**400])
def test_duration_above_ten_years_is_refused(value: str | float) -> None:
    with pytest.raises(ValueError, match="longer than ten years"):
        parse_duration(value)


def test_examples_are_valid_durations() -> None:
    for example in DURATION_EXAMPLES:
        assert parse_duration(example) > 0


@given(st.text("0123456789.hms \n", max_size=6))
def test_pattern_of_the_schema_and_parser_agree(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError as error:
        is_duration = "longer than ten years" in str(error)
    else:
        is_duration = True
    assert is_duration == bool(re.search(DURATION_PATTERN, text))
