from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.project.shell import find_variables


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ('a $X ${Y} "$Z" $X', ["X", "Y", "Z"]),
        ("a ${X%.*} ${Y##*/}", ["X", "Y"]),
        ("a $X:$Y/z", ["X", "Y"]),
        ("a ${X:-1} ${X-1} ${X:=1} ${X:?no} ${X:+1} ${X+1}", []),
        ("a '$X' \\$X", []),
        ("a \"'$X'\"", ["X"]),
        ("a $1 $? $$ $! $# $@ $* $- $0 ${1}", []),
        ("a ${#X} $(b) $((PORT - 100))", []),
        ("X=1; a $X", []),
        ("X=1 && a $X", []),
        ("for X in 1 2; do a $X; done", []),
        ("while read X; do a $X $Y; done", []),
        ("export X=1; a $X", []),
        ("a # $X", []),
        ("a b#$X", ["X"]),
        (". ./env; a $X", []),
        ("source env && a $X", []),
        ("eval `env`; a $X", []),
        ("set -a; a $X", []),
        ("a <<E\n$X", []),
        ("a $HOME $PWD $RANDOM $USER", []),
        ("a $XY; XYZ=1", ["XY"]),
        ("a 'unclosed $X", []),
        ("sh -c 'a $X' $Y", ["Y"]),
        ("a $(b $X)", ["X"]),
        # Their values are tested.
        ('[ -n "$X" ] && a $X', []),
        ('test -z "$X" || a $Y', ["Y"]),
        ('if [ "$X" = y ]; then a ${Y}; fi', ["Y"]),
        ("[[ -n $X && $Y == z ]] && a $Z", ["Z"]),
        ('a; ! [ "$X" ]', []),
        ('case "$X" in y) a;; esac', []),
        # They have a default.
        (": ${X:=y}; a $X", []),
        ("a ${X:-} $X ${Y+z} $Y", []),
        ("a ${X:?no} $X", ["X"]),
        # These are not tests.
        ("latest $X; a test; b[ $Y ]", ["X", "Y"]),
    ],
)
def test_variables_that_a_command_uses_and_does_not_set(command: str, names: list[str]) -> None:
    assert find_variables(command) == names


@given(st.text("ab $X{}'\"\\()=;#:-<\n"))
def test_any_command_is_handled(command: str) -> None:
    assert all(name.isidentifier() for name in find_variables(command))
