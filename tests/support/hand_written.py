"""Characters for random Procfiles and `.env` files, and checks of the problems that the parsers report."""

from __future__ import annotations

from procreaper.errors import Problem

ODD_SEPARATORS = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
# Characters with a meaning in one of these formats, and a few without.
CHARACTERS = "AB1_-.=: \t#'\"\\nt{$é"


def only_problem(problems: tuple[Problem, ...]) -> Problem:
    [problem] = problems
    assert problem.hint
    return problem


def check_problems(problems: tuple[Problem, ...], path: str, text: str) -> None:
    """Check that every problem has a place in the file and a hint, and follows the rules for messages."""
    for problem in problems:
        assert problem.path == path
        assert problem.line is None or 1 <= problem.line <= text.count("\n") + 1
        assert problem.hint
        assert problem.message[0].islower() or problem.message[0] == "`"
        assert not problem.message.endswith(".")
        assert not problem.hint.endswith("`.")
