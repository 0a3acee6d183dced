"""Regular expressions that may take exponential time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.project.backtracking import find_nested_quantifier


@pytest.mark.parametrize(
    ("pattern", "group"),
    [
        (r"(\w+\s?)+ready", r"(\w+\s?)+"),
        (r"x(?:a*)*y", r"(?:a*)*"),
        (r"(a+)+?b", r"(a+)+?"),
        (r"(a{2,})+b", r"(a{2,})+"),
        (r"(a+){3,}b", r"(a+){3,}"),
        (r"((\w+)\s?)+!", r"((\w+)\s?)+"),
        (r"((ab)+c?)*!", r"((ab)+c?)*"),
        (r"(?P<word>\w+|,)+!", r"(?P<word>\w+|,)+"),
        (r"([^\]]+(?:,)?)+!", r"([^\]]+(?:,)?)+"),
        (r"([)]*x?)+!", r"([)]*x?)+"),
        (r"(.*.*)*!", r"(.*.*)*"),
        (r"(^\d+$)+!", r"(^\d+$)+"),
    ],
)
def test_ambiguous_repeated_group_is_found(pattern: str, group: str) -> None:
    assert re.compile(pattern)
    assert find_nested_quantifier(pattern) == group


@pytest.mark.parametrize(
    "pattern",
    [
        "ready",
        "Listening on .* port",
        r"(\w+,)+!",
        r"(\w+\s)+!",
        r"(\w+)!",
        r"(\w+)?!",
        r"(a+b|c)+!",
        r"(?:\d+\.){3}\d+",
        r"(a{1,3})+!",
        r"(\w++\s?)+!",
        r"(?>\w+)+!",
        r"(\w+\s?)++!",
        r"\(\w+\)+!",
        r"[(\w+)+]",
        r"(a(?=b*)c)+",
        r"(x(a+)?)+",
        r"(?i)a+(?#(b+)+)",
        r"(a)(?P<b>b+)(?P=b)+",
        r"a{,}",
        "(a+",
        "a)+",
    ],
)
def test_fast_pattern_is_not_reported(pattern: str) -> None:
    assert find_nested_quantifier(pattern) is None


@given(st.text(r"ab()[]{}?*+|\^$.,1:<>=!#P"))
def test_any_text_is_handled(pattern: str) -> None:
    group = find_nested_quantifier(pattern)
    assert group is None or group in pattern
