"""Errors name the place, the value and the remedy."""

from __future__ import annotations

import pytest

from procreaper.errors import ConfigError, OutputError, Problem, ProcreaperError, reason_of


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("no such file", "Procfile"), "Procfile: error: no such file"),
        (Problem("`web` is defined twice", "Procfile", 3), "Procfile:3: error: `web` is defined twice"),
        (
            Problem("`web` is defined twice", "Procfile", 3, "rename one of them"),
            "Procfile:3: error: `web` is defined twice\n  hint: rename one of them",
        ),
        (
            Problem("unknown key `prot`", ".reaper.toml", 7, level="warning"),
            ".reaper.toml:7: warning: unknown key `prot`",
        ),
        (Problem("unknown process `ghost`"), "procreaper: error: unknown process `ghost`"),
    ],
)
def test_problem_names_place_and_remedy(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_error_reads_like_a_problem() -> None:
    error = ProcreaperError("no app runs here", hint="run `procreaper start` first")
    assert str(error) == "procreaper: error: no app runs here\n  hint: run `procreaper start` first"
    assert (error.message, error.hint) == ("no app runs here", "run `procreaper start` first")


def test_default_exit_code_of_an_error_is_1() -> None:
    assert ProcreaperError("no").exit_code == 1
    assert ProcreaperError("no", exit_code=2).exit_code == 2
    assert ProcreaperError.exit_code == 1


def test_config_error_lists_all_problems_in_order() -> None:
    problems = [
        Problem("`web` is defined twice", "Procfile", 3, "rename one of them"),
        Problem("unknown key `prot`", ".reaper.toml", 7, level="warning"),
    ]
    error = ConfigError(iter(problems))
    assert error.problems == tuple(problems)
    assert str(error) == f"{problems[0]}\n{problems[1]}"
    assert error.exit_code == 1


@pytest.mark.parametrize(
    "error", [ConfigError([]), OutputError("the disk is full")], ids=lambda error: type(error).__name__
)
def test_each_error_is_a_procreaper_error(error: ProcreaperError) -> None:
    assert isinstance(error, ProcreaperError)
    assert isinstance(error, Exception)


def test_system_error_becomes_a_lower_case_phrase() -> None:
    assert reason_of(FileNotFoundError(2, "No such file or directory", "Procfile")) == "no such file or directory"
    assert reason_of(OSError("Timed out")) == "timed out"
