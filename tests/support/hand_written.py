"""Texts as people write them into a Procfile or a `.env` file, and what a parser has to say of them."""

from __future__ import annotations

from procreaper.errors import Problem

ODD_SEPARATORS = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
# What has a meaning to some reader of these files, and a little that has none.
TELLING = "AB1_-.=: \t#'\"\\nt{$é"


def only(problems: tuple[Problem, ...]) -> Problem:
    [problem] = problems
    assert problem.hint
    return problem


def check_problems(problems: tuple[Problem, ...], path: str, text: str) -> None:
    """Every problem has a place in the file and a hint, and is written as the house writes."""
    for problem in problems:
        assert problem.path == path
        assert problem.line is None or 1 <= problem.line <= text.count("\n") + 1
        assert problem.hint
        assert problem.message[0].islower() or problem.message[0] == "`"
        assert not problem.message.endswith(".")
        assert not problem.hint.endswith("`.")
