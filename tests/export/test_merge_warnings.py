"""What is to be said of several processes is said once, and nothing of it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.exported import SETTINGS, app_of

from procreaper.errors import Problem
from procreaper.export.merge_warnings import together
from procreaper.export.registry import OURS, find_exporter


def warning(message: str, line: int | None = None, hint: str | None = None) -> Problem:
    return Problem(message, None if line is None else ".reaper.toml", line, hint, "warning")


def test_what_differs_only_in_the_process_is_told_at_the_place_of_the_first() -> None:
    found = together(
        [
            warning("`watch` of `web` is left out", 3, "a unit"),
            warning("--image is left out"),
            warning("`watch` of `db` is left out", 9, "a unit"),
            warning("`watch` of `web` is left out", 4, "a unit"),
            warning("--image is left out"),
        ]
    )
    assert found == [warning("`watch` of `web`, `db` is left out", 3, "a unit"), warning("--image is left out")]


@pytest.mark.parametrize(
    "other",
    [
        warning("`pty` of `db` is left out", 3, "a unit"),
        warning("`watch` of `db` is lost", 3, "a unit"),
        warning("`watch` of `db` is left out", 3, "a job"),
        warning("`watch` of `db` is left out", None, "a unit"),
        warning("`watch` of db is left out", 3, "a unit"),
        warning("`watch` of `db` is left out", 3, "a unit")._replace(level="error"),
    ],
)
def test_what_differs_in_anything_else_is_told_by_itself(other: Problem) -> None:
    first = warning("`watch` of `web` is left out", 3, "a unit")
    assert together([first, other]) == [first, other]


def test_a_backslash_and_a_name_like_a_template_stay_as_they_are() -> None:
    found = together([warning(r"the value of `\1` is not written: systemd would not leave `\g<0>` as it is")])
    assert found[0].message == r"the value of `\1` is not written: systemd would not leave `\g<0>` as it is"


@pytest.mark.parametrize("format_", OURS)
def test_nothing_is_told_twice_of_an_app_of_many_processes(tmp_path: Path, format_: str) -> None:
    more = "".join(
        f'[process.more{number}]\ncommand = "run"\nwatch = ["app"]\npty = true\nstop = "SIGHUP"\n'
        'depends_on = { db = "healthy", queue = "healthy" }\nhealth = "tcp://127.0.0.1:1"\n'
        for number in range(3)
    )
    app = app_of(tmp_path, settings=SETTINGS + more, image="shop:1")
    warnings = find_exporter(format_).render(app).warnings
    found = [problem.message for problem in together(warnings)]
    assert len(set(found)) == len(found)
    assert not [text for text in found if "more" in text and not all(f"`more{number}`" in text for number in range(3))]
    # Each process and each key is named still.
    words = {word for problem in warnings for word in problem.message.split("`")[1::2]}
    assert words <= {word for text in found for word in text.split("`")[1::2]}
