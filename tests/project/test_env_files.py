from __future__ import annotations

import re

import honcho.environ
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.hand_written import CHARACTERS, ODD_SEPARATORS, check_problems, only_problem

from procreaper.errors import Problem
from procreaper.project.env_files import EnvFile, parse_env_file


def environment(text: str) -> EnvFile:
    return parse_env_file(text.encode(), ".env")


@pytest.mark.parametrize(
    ("raw", "line", "column", "byte"),
    [
        (b"\xff", 1, 1, "0xff"),
        (b"A=a\nB=\xc3\xa9\xe9!", 2, 4, "0xe9"),
    ],
)
def test_invalid_utf_8_is_one_error_with_line_and_column(raw: bytes, line: int, column: int, byte: str) -> None:
    problem = Problem(f"byte {byte} in column {column} is not UTF-8", "f", line, "save the file as UTF-8")
    assert parse_env_file(raw, "f") == EnvFile("f", {}, {}, (problem,))


def test_byte_order_mark_is_skipped() -> None:
    assert environment("\ufeffA=b").values == {"A": "b"}


@given(st.binary())
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    parse_env_file(raw, "f")


@given(st.text(CHARACTERS + "\n\r\0\x0c\u2028\ue0001"))
def test_every_problem_has_a_place_in_the_file_and_a_hint(text: str) -> None:
    check_problems(environment(text).problems, ".env", text)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("  A = b  ", "b"),
        ("A= b", "b"),
        ('A="b c"', "b c"),
        ("A='b c'", "b c"),
        ("A='b' # c", "b"),
        ('A="b"#c', "b"),
        ("A=b # it's", "b"),
        ("A=b\t#c", "b"),
        ('A=""', ""),
        ("A=''", ""),
        ("A=b=c", "b=c"),
        ("A=https://u:p@h:1/x?y=z&a=[b]", "https://u:p@h:1/x?y=z&a=[b]"),
        ("A=$HOME/$x", "$HOME/$x"),
        ("A='$B/${x}'", "$B/${x}"),
        ("A=a$$B", "a$$B"),
        ("A=$2b$12$KIXQ", "$2b$12$KIXQ"),
        (r'A="a\nb\tc"', "a\nb\tc"),
        (r'A="say \"hi\" C:\path \\"', 'say "hi" C:\\path \\'),
        (r"A='C:\path'", r"C:\path"),
        (r"A=b\ c\#d\"e\\f\$g", r'b c#d"e\f$g'),
        ("A='it'\"'\"'s'", "it's"),
        ('A="b c"/d', "b c/d"),
        ("A=é✓", "é✓"),
        ("A=b\r", "b\r"),
    ],
)
def test_ordinary_line_sets_its_value_without_a_warning(line: str, value: str) -> None:
    found = environment(line)
    assert found.values == {"A": value}
    assert found.lines == {"A": 1}
    assert found.problems == () or "\r" in line


def test_blank_lines_and_comments_set_nothing() -> None:
    assert environment("\n  \n\t\r\n# it's\n  # A=b c\n\x0c\n") == EnvFile(".env", {}, {}, ())


def test_last_line_of_a_variable_wins_and_is_recorded() -> None:
    found = environment("A=b\r\nC=d\nA=e\n")
    assert (found.values, found.lines, found.problems) == ({"A": "e", "C": "d"}, {"A": 3, "C": 2}, ())


@pytest.mark.parametrize("separator", [*ODD_SEPARATORS, "\ue000", "\ue0001"])
@pytest.mark.parametrize("form", ["{}b", "a{}b", '"a {} b"', "'{}'"])
def test_only_a_line_feed_ends_a_line(form: str, separator: str) -> None:
    found = environment(f"A={form.format(separator)}\nB=c")
    assert found.values == {"A": form.format(separator).strip("\"'"), "B": "c"}
    assert found.lines == {"A": 1, "B": 2}
    assert [problem.line for problem in found.problems] == ([1] if separator == "\r" else [])


@pytest.mark.parametrize(
    ("line", "value", "message", "hint"),
    [
        ("A=b c", "bc", "`A` loses its blanks", 'A="..."'),
        ("URL=postgres://u:p#w@h", "postgres://u:p", "`URL` is cut at `#`", 'URL="..."'),
        ("A=a b#c", "ab", "`A` loses its blanks and is cut at `#`", 'A="..."'),
        ('JSON={"a": 1}', "{a:1}", "`JSON` loses its quotes and blanks", "JSON='...'"),
        (r"A=C:\path", "C:path", "`A` loses its backslashes", 'A="..."'),
        (r"A=\\server\x", r"\serverx", "`A` loses its backslashes", "A='...'"),
        ("""A=say "it's" now""", "sayit'snow", "`A` loses its blanks and quotes", "a backslash before each"),
        ('A="b" c', "bc", "`A` loses its quotes and blanks", "A='...'"),
        (r"A=C:\new", "C:new", "`A` loses its backslashes", "outside this file"),
        (r"A='C:\new'", "C:\new", r"`\n` or `\t` in `A` is not kept", "outside this file"),
        (r'A="C:\\temp"', "C:\temp", r"`\n` or `\t` in `A` is not kept", "outside this file"),
        ("A==b", "=b", "a second `=`", 'remove one `=`, or put the value in double quotes: A="..."'),
        ("'A B'=c d", "cd", "this variable loses its blanks", "put the value in double quotes"),
    ],
)
def test_value_that_honcho_changes_is_a_warning(line: str, value: str, message: str, hint: str) -> None:
    found = environment(f"# first\n{line}\nZ=z")
    problem = only_problem(found.problems)
    assert list(found.values.values()) == [value, "z"]
    assert (problem.level, problem.place) == ("warning", ".env:2")
    assert message in problem.message
    assert hint in str(problem.hint)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("export A=1", "`A` is ignored because of `export`", "remove `export`"),
        ("export A=b c", "because of `export`", 'remove `export`, and put the value in double quotes: A="..."'),
        ("export A=", "because of `export`", 'remove `export`, and for an empty value write A=""'),
        ("A=", "`A` has no value", 'A=""'),
        ("A = # c", "`A` has no value", 'A=""'),
        ("A=#b", "read as a comment", 'A="..."'),
        ("A", "no `=`", "NAME=value"),
        ("}", "no `=`", "NAME=value"),
        ("FOO: bar", "`FOO` is ignored because of the colon", "write `=` instead of the colon"),
        ("export FOO: bar", "because of `export`", "remove `export`, and write `=` instead of the colon"),
        ("FOO: b c", "`FOO` is ignored because of the colon", 'put the value in double quotes: FOO="..."'),
        ("1A=x", "`1` cannot begin a name", "use only"),
        ("MY-VAR=x", "`-` cannot stand in a name", "use only"),
        ("A B=x", "a blank cannot stand in a name", "use only"),
        ("A\0=x", "U+0000 cannot stand in a name", "use only"),
        ("=b", "no name", "NAME=value"),
    ],
)
def test_line_that_honcho_drops_is_a_warning(line: str, message: str, hint: str) -> None:
    found = environment(f"# first\n{line}\nZ=z")
    problem = only_problem(found.problems)
    assert found.values == {"Z": "z"}
    assert (problem.level, problem.place) == ("warning", ".env:2")
    assert message in problem.message
    assert hint in str(problem.hint)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("X=it's", "a quote that is not closed in the value of `X`", 'X="..."'),
        ("export X=it's", "a quote that is not closed", 'remove `export`, and put the value in double quotes: X="..."'),
        ('X=it\'s "x" or', "a quote that is not closed", "a backslash before each"),
        ('X="abc', "a quote that is not closed", 'end the value with `"`'),
        ("X='it's'", "a quote that is not closed", 'X="..."'),
        (r'X="C:\dir\"', "a quote that is not closed", "X='...'"),
        ("X=b\\", "a backslash at the end of the value of `X`", "X='...'"),
        ("X: it's", "a quote that is not closed", 'instead of the colon, and put the value in double quotes: X="..."'),
        ("it's", "line cannot be read", "NAME=value"),
        ("A=b\0c", "a NUL byte in `A`", "remove it"),
        (r"A\==b", "a `=` in the name", "NAME=value"),
    ],
)
def test_invalid_line_is_an_error_with_its_place(line: str, message: str, hint: str) -> None:
    found = environment(f"# first\n{line}\nZ=z")
    problem = only_problem(found.problems)
    assert found.values == {"Z": "z"}
    assert (problem.level, problem.place) == ("error", ".env:2")
    assert message in problem.message
    assert hint in str(problem.hint)


@pytest.mark.parametrize(
    "value",
    ['"-----BEGIN KEY-----\nMIIE=\nA=b c\n-----END KEY-----"', "'{\n  \"a\": 1,\n\n}' # json"],
)
def test_value_of_several_lines_is_one_error_at_its_first_line(value: str) -> None:
    found = environment(f"A=a\nK={value}\nB=b")
    problem = only_problem(found.problems)
    assert (problem.level, problem.line) == ("error", 2)
    assert problem.message == "the quote that opens the value of `K` is not closed before line 5"
    assert found.lines == {"A": 1, "B": 6}


@pytest.mark.parametrize("later", ["Y='b c'", "Y=b\n# don't care", "Y=d's"])
def test_later_apostrophe_does_not_hide_the_lines_between(later: str) -> None:
    found = environment(f"X='tis\nA=b\n{later}")
    assert found.problems[0].message == "a quote that is not closed in the value of `X`"
    assert found.values["A"] == "b"


@pytest.mark.parametrize(
    ("line", "reference"),
    [
        ("A=x/${B}/y", "${B}"),
        ('A="x ${B:-c}"', "${B}"),
        ("A=$B", "$B"),
        ("A=x:$HOME", "$HOME"),
        ("A=\"it's $HOME's\"", "$HOME"),
    ],
)
def test_reference_that_honcho_does_not_replace_is_a_warning(line: str, reference: str) -> None:
    found = parse_env_file(f"{line}\nB=1\nC=2\n".encode(), ".env", {"HOME"})
    assert reference.rstrip("}") in found.values["A"]
    [problem] = found.problems
    assert (problem.message, problem.line, problem.level) == (
        f"`A` is passed on with `{reference}` in it",
        1,
        "warning",
    )
    assert 'set `[env] parser = "dotenv"`' in str(problem.hint)
    assert ("write `${" in str(problem.hint)) is ("{" not in reference)


@pytest.mark.parametrize("line", ["A='${B}'", r"A=\$B", "A=x$UNKNOWN", "A=$1$B2", "A=b # $B", "A=$", "A=$$B", "A=x$A"])
def test_intended_dollar_sign_is_not_reported(line: str) -> None:
    assert environment(f"{line}\nB=1\n").problems == ()


def mend(line: str, hint: str) -> str:
    """Apply a hint to a line, which is an assignment to ``A``."""
    line = re.sub(r"^export ", "", line) if "remove `export`" in hint else line
    value = line[2:]
    if "for an empty value" in hint:
        return 'A=""'
    if "instead of the colon" in hint and " and " not in hint:
        return f"A={value}"
    if "with a backslash before each" in hint:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    if "end the value with" in hint:
        return line + value[0]
    if "in double quotes" in hint:
        return f'A="{value}"'
    return f"A='{value}'" if "in single quotes" in hint else f"A={value}"


@given(
    st.sampled_from(["A=", "export A=", "A:"]),
    st.text(CHARACTERS.replace(" ", "").replace("\t", ""), max_size=8),
    st.text(CHARACTERS, max_size=8),
)
def test_every_proposed_spelling_works(start: str, value: str, more: str) -> None:
    # Remove the comment of the line, and the quotes around the value.
    value = (value + more).strip()
    assume(not re.search(r"\s#", value) and value[:1] not in ("'", '"', "="))
    line = start + value
    for problem in environment(line).problems:
        hint = str(problem.hint)
        if "outside this file" in hint or "second `=`" in problem.message:
            continue
        mended = environment(mend(line, hint))
        # Without quotes, a backslash before a special character may have the meaning of the shell.
        escaped = "quotes" not in hint and re.sub(r"\\([ \t\"'#$\\])", r"\1", value)
        assert mended.values in ({"A": value}, {"A": escaped}), (line, hint)
        assert mended.problems == ()


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('A="C:\\dir\\"', "C:\\dir\\"),
        ("A='it's'", "it's"),
        ('A="say "hi"', 'say "hi'),
    ],
)
def test_hint_for_a_quote_within_quotes_works(line: str, value: str) -> None:
    problem = only_problem(environment(line).problems)
    assert environment(mend(f"A={value}", str(problem.hint))).values == {"A": value}


def test_hint_to_close_the_quote_works() -> None:
    problem = only_problem(environment('A="b c').problems)
    assert environment(mend('A="b c', str(problem.hint))).values == {"A": "b c"}


@given(st.text("AB1=: #'\"\\nt{\r\x0c", max_size=12))
def test_no_quotes_preserve_a_value_without_a_proposed_spelling(value: str) -> None:
    if any("outside this file" in str(problem.hint) for problem in environment(f"A={value}").problems):
        assert re.search(r"\\+['\"]*[nt]", value)


@given(st.text("Ω'\"\\ #=:nt", max_size=12), st.sampled_from(["TOKEN=", "export TOKEN=", "TOKEN:", "TO-KEN: x=", ""]))
def test_no_message_shows_a_value(value: str, start: str) -> None:
    text = f"{start}{value}\nZ=Ω'"
    if start or "=" not in value:
        assert "Ω" not in "".join(map(str, environment(text).problems))


@given(
    st.lists(
        st.one_of(
            st.text(CHARACTERS),
            st.text(CHARACTERS).map("A={}".format),
            st.text(CHARACTERS).map("B='{}'".format),
        )
    )
)
def test_file_without_errors_has_the_values_of_honcho(lines: list[str]) -> None:
    readable = [line for line in lines if all(problem.level == "warning" for problem in environment(line).problems)]
    text = "\n".join(readable)
    found = environment(text)
    assert found.values == honcho.environ.parse(text)
    assert found.lines.keys() == found.values.keys()
