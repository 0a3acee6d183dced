from __future__ import annotations

import sys
from io import StringIO

import dotenv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.errors import Problem
from procreaper.project.env_files import EnvFile, parse_with_dotenv


def parsed(text: str | bytes, **environment: str) -> EnvFile:
    return parse_with_dotenv(text.encode() if isinstance(text, str) else text, ".env", environment)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("A=b c", {"A": "b c"}),
        ("A=b#c # d", {"A": "b#c"}),
        ("A=", {"A": ""}),
        ("A='it is ${B}'", {"A": "it is "}),
        ("A=1\nB=${A}${C}${D:-d}", {"A": "1", "B": "1oursd"}),
        ("A='$C'", {"A": "$C"}),
        ("A=$X", {"A": "$X"}),
        ('A="b\nc"\nB=1', {"A": "b\nc", "B": "1"}),
        ("\ufeffA=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1\nA=2", {"A": "2"}),
        ("# comment\n\n", {}),
    ],
)
def test_a_file_means_what_python_dotenv_says(text: str, values: dict[str, str]) -> None:
    found = parsed(text, C="ours")
    assert (found.values, found.problems) == (values, ())


def test_each_variable_knows_its_line() -> None:
    assert parsed('\n# c\nA="b\nc"\n\nexport B=1\n').lines == {"A": 3, "B": 6}


@pytest.mark.parametrize(
    ("text", "line", "level", "message"),
    [
        ("\nA", 2, "warning", "`A` has no value and is ignored"),
        ("A=1\nA B=1", 2, "error", "python-dotenv cannot read this line"),
        ('A=1\n\nB="b', 3, "error", "python-dotenv cannot read this line"),
        (b"A=1\nB=\xff", 2, "error", "byte 0xff in column 3 is not UTF-8"),
        ("A=1\nB=\0", 2, "error", "a NUL byte"),
    ],
)
def test_a_line_that_cannot_be_used_is_told_with_its_place(
    text: str | bytes, line: int, level: str, message: str
) -> None:
    [problem] = parsed(text).problems
    assert (problem.path, problem.line, problem.level) == (".env", line, level)
    assert message in problem.message
    assert problem.hint


def test_without_python_dotenv_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dotenv.parser", None)
    [problem] = parsed("A=1").problems
    assert problem == Problem(
        "python-dotenv, which is to read it, is not installed",
        ".env",
        None,
        "pip install 'procreaper[dotenv]', or remove `parser` from `[env]` in .reaper.toml",
    )


@given(st.text("AB=\"'#$ {}:-\\n\n\t;"))
def test_a_file_without_errors_means_what_python_dotenv_says_whatever_it_is(text: str) -> None:
    found = parsed(text)
    if not found.problems:
        assert found.values == dotenv.dotenv_values(stream=StringIO(text), interpolate=True)


def test_a_reference_without_braces_is_reported_where_it_means_a_variable() -> None:
    found = parsed("A=1\nB=x:$C\nD=$A$X\nPATH=x:$PATH\n", C="ours", PATH="y")
    assert found.values["B"] == "x:$C"
    assert [(problem.line, problem.message, problem.level) for problem in found.problems] == [
        (2, "`B` is passed on with `$C` in it", "warning"),
        (3, "`D` is passed on with `$A` in it", "warning"),
        (4, "`PATH` is passed on with `$PATH` in it", "warning"),
    ]
