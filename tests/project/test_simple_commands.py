"""Shell commands, as far as they can be parsed without a shell."""

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
        # Only a shell can parse the rest.
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
def test_simple_commands_at_the_beginning_are_found(command: str, simple: list[tuple[str, str]]) -> None:
    assert [(" ".join(word.text for word in item.words), item.joint) for item in split_commands(command)] == simple


@pytest.mark.parametrize(
    ("word", "plain"),
    [
        *[(word, True) for word in ("a", "'$a'", '"a b"', "\\$a", "a~", "a#b", "a=b")],
        *[(word, False) for word in ("$a", '"$a"', "~/a", "a*", "{a,b}", "`a`", "$(a)")],
    ],
)
def test_plain_word_has_no_replacements(word: str, plain: bool) -> None:
    [simple] = split_commands(f"x {word}")
    assert simple.words[1].plain is plain


@pytest.mark.parametrize(
    ("command", "writes"), [("a > b", True), ("a >>b", True), ("a >/dev/null 2>&1", False), ("a < b", False)]
)
def test_redirection_to_a_file_is_recognized(command: str, writes: bool) -> None:
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
        # Here, the same words are arguments, patterns or text.
        ("echo source [[", []),
        ("a 'source b' \"; source c\" # source d", []),
        ("case $a in source) b;; esac", []),
        ("for x in source; do a; done", []),
        ("a > source", []),
        ("a '&>' b", []),
        ("'[[' a", []),
    ],
)
def test_words_beyond_posix_are_found(command: str, words: list[str]) -> None:
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
def test_syntax_of_bash_is_found(command: str, construct: str | None) -> None:
    assert find_bash_syntax(command) == construct


@given(st.text(alphabet="ab $'\"\\`(){}[]<>&|;#~*=\n!"))
def test_any_command_is_handled(command: str) -> None:
    split_commands(command)
    find_beyond_posix(command)
