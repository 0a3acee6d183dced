"""What can be read of a shell command without a shell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.project.simple_commands import find_bash_syntax, find_beyond_posix, split_commands


@pytest.mark.parametrize(
    ("command", "simple"),
    [
        ("cd app && exec ./server -p 80", [("cd app", "&&"), ("exec ./server -p 80", "")]),
        ("a & ./b & wait; ./c", [("a", "&"), ("./b", "&"), ("wait", ";"), ("./c", "")]),
        ("a 2>&1 | tee x; y", [("a", "|"), ("tee x", ";"), ("y", "")]),
        ("a\nb # c; d\ne", [("a", "\n"), ("b", "\n"), ("e", "")]),
        ("a 'b c' \"d e\" f\\ g h#i", [("a b c d e f g h#i", "")]),
        ("a \\\n b", [("a b", "")]),
        ("a 3< b > /dev/null c", [("a c", "")]),
        ('a $X ${Y:-z} $(b) `c` "$(d)" *.py', [("a $X ${Y:-z} $(b) `c` $(d) *.py", "")]),
        # Only a shell can read on.
        ("a; if b; then c; fi", [("a", ";")]),
        ("a; (b; c)", [("a", ";")]),
        ("a; { b; }", [("a", ";")]),
        ("a; b <<x", [("a", ";")]),
        ("a; b <(c)", [("a", ";")]),
        ("a; b 'c", [("a", ";")]),
        ("a; b $((1+2))", [("a", ";")]),
        ("a; b \"$(c 'd')\"", [("a", ";")]),
        ("f() { a; }", []),
        ("", []),
    ],
)
def test_the_simple_commands_at_the_beginning(command: str, simple: list[tuple[str, str]]) -> None:
    assert [(" ".join(word.text for word in item.words), item.joint) for item in split_commands(command)] == simple


@pytest.mark.parametrize(
    ("word", "plain"),
    [
        *[(word, True) for word in ("a", "'$a'", '"a b"', "\\$a", "a~", "a#b", "a=b")],
        *[(word, False) for word in ("$a", '"$a"', "~/a", "a*", "{a,b}", "`a`", "$(a)")],
    ],
)
def test_a_plain_word_is_what_it_looks_like(word: str, plain: bool) -> None:
    [simple] = split_commands(f"x {word}")
    assert simple.words[1].plain is plain


@pytest.mark.parametrize(
    ("command", "writes"), [("a > b", True), ("a >>b", True), ("a >/dev/null 2>&1", False), ("a < b", False)]
)
def test_a_command_that_writes_a_file(command: str, writes: bool) -> None:
    [simple] = split_commands(command)
    assert simple.writes is writes


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("source a", ["source"]),
        ("a && [[ b ]] || X=1 source c", ["[[", "source"]),
        ("if [[ a ]]; then shopt -s b; fi", ["[[", "shopt"]),
        ("(source a)", ["source"]),
        ("while ! [[ a ]]; do b; done", ["[["]),
        ("a &> b", ["&>"]),
        # There the same words are arguments, patterns or text.
        ("echo source [[", []),
        ("a 'source b' \"; source c\" # source d", []),
        ("case $a in source) b;; esac", []),
        ("for x in source; do a; done", []),
        ("a > source", []),
        ("a '&>' b", []),
        ("'[[' a", []),
    ],
)
def test_what_a_posix_shell_need_not_have(command: str, words: list[str]) -> None:
    assert find_beyond_posix(command) == words


@pytest.mark.parametrize(
    ("command", "construct"),
    [
        ("diff <(a) b", "<("),
        ("a <<<b", "<<<"),
        ("a |& b", "|&"),
        ("a=(b c)", "=("),
        ("((a)) && b", "(("),
        ("function a { b; }", "function"),
        ("echo $((1 + 2)) '<('", None),
        ("(a", None),
    ],
)
def test_what_only_bash_can_read(command: str, construct: str | None) -> None:
    assert find_bash_syntax(command) == construct


@given(st.text(alphabet="ab $'\"\\`(){}[]<>&|;#~*=\n!"))
def test_no_command_is_too_much(command: str) -> None:
    split_commands(command)
    find_beyond_posix(command)
