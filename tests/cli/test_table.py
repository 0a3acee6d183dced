from __future__ import annotations

import pytest

from procreaper.cli.table import format_duration, format_size, format_table


def test_columns_are_aligned_and_numbers_are_right_aligned() -> None:
    assert format_table(["NAME", "N", "WHY"], [["web", "10", "a"], ["worker", "5", ""]], right=("N",)) == [
        "NAME     N  WHY",
        "web     10  a",
        "worker   5",
    ]


def test_only_the_last_column_is_cut_to_the_width() -> None:
    assert format_table(["A", "B"], [["long", "a reason that is long"]], width=16) == ["A     B", "long  a reason …"]
    assert format_table(["A", "B"], [["long", "reason"]], width=3)[1] == "long"


def test_optional_columns_are_dropped_for_the_last_column() -> None:
    header, row = ["NAME", "CPU", "PORT", "WHY"], ["web", "1.0%", "5000", "waiting for db"]

    def shown(width: int | None) -> list[str]:
        return [line.rstrip() for line in format_table(header, [row], width=width, spare=("CPU", "PORT"))]

    assert shown(None) == shown(32) == ["NAME  CPU   PORT  WHY", "web   1.0%  5000  waiting for db"]
    assert shown(31) == shown(26) == ["NAME  PORT  WHY", "web   5000  waiting for db"]
    assert shown(25) == shown(20) == ["NAME  WHY", "web   waiting for db"]
    assert shown(19) == ["NAME  WHY", "web   waiting for …"]


def test_long_last_column_is_cut_before_more_columns_are_dropped() -> None:
    lines = format_table(["A", "B", "C"], [["x", "y", "z" * 100]], width=46, spare=("B", "A"))
    assert lines == ["A  B  C", f"x  y  {'z' * 39}…"]
    assert format_table(["A", "B", "C"], [["x", "y", "z" * 100]], width=45, spare=("B", "A"))[0] == "A  C"


def test_control_characters_in_cells_are_escaped() -> None:
    lines = format_table(["A", "ROOT"], [["1", "/a\nb\x1b[31m\udcff"], ["2", "/é ü"]])
    assert lines[1:] == ["1  /a\\nb\\x1b[31m\\udcff", "2  /é ü"]


def test_colour_keeps_the_column_widths() -> None:
    lines = format_table(["A", "B", "C"], [["x", "on", "1"], ["y", "off", "2"]], paint=("B", ["\x1b[32m", ""]))
    assert lines == ["A  B    C", "x  \x1b[32mon \x1b[0m  1", "y  off  2"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (59.9, "59s"), (61, "1m01s"), (3700, "1h01m"), (90_000, "1d01h")],
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (1023, "1023B"), (1024, "1.0K"), (10 << 20, "10M"), (3 << 50, "3072T")]
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert format_size(count) == text
