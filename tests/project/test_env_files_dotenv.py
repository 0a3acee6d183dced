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
def test_file_has_the_values_of_python_dotenv(text: str, values: dict[str, str]) -> None:
    found = parsed(text, C="ours")
    assert (found.values, found.problems) == (values, ())


def test_each_variable_has_its_line() -> None:
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
def test_invalid_line_is_reported_with_its_place(text: str | bytes, line: int, level: str, message: str) -> None:
    [problem] = parsed(text).problems
    assert (problem.path, problem.line, problem.level) == (".env", line, level)
    assert message in problem.message
    assert problem.hint


def test_missing_python_dotenv_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dotenv.parser", None)
    [problem] = parsed("A=1").problems
    assert problem == Problem(
        "python-dotenv is not installed, but `[env] parser` requires it",
        ".env",
        None,
        "pip install 'procreaper[dotenv]', or remove `parser` from `[env]` in .reaper.toml",
    )


@given(st.text("AB=\"'#$ {}:-\\n\n\t;"))
def test_random_file_without_errors_has_the_values_of_python_dotenv(text: str) -> None:
    found = parsed(text)
    if not found.problems:
        assert found.values == dotenv.dotenv_values(stream=StringIO(text), interpolate=True)


def test_reference_without_braces_to_a_known_variable_is_a_warning() -> None:
    found = parsed("A=1\nB=x:$C\nD=$A$X\nPATH=x:$PATH\n", C="ours", PATH="y")
    assert found.values["B"] == "x:$C"
    assert [(problem.line, problem.message, problem.level) for problem in found.problems] == [
        (2, "`B` is passed on with `$C` in it", "warning"),
        (3, "`D` is passed on with `$A` in it", "warning"),
        (4, "`PATH` is passed on with `$PATH` in it", "warning"),
    ]
