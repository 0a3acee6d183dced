"""`exec` before the last program of a command: where it belongs, and that nothing else comes of it.

Real shells hold it: with and without `exec`, a program must get the same arguments, environment and descriptors, and
the end must have the same status.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.core.last_command import argv_of, shell_stays, with_exec

SHELLS = [(["dash"], 90), (["bash", "--posix"], 60), (["busybox", "sh"], 30), (["zsh", "--emulate", "sh"], 30)]
# What a shell alone says of a program that a signal ends, and that it cannot run; bash says some of it twice.
SIGNALLED = re.compile(rb"(?m)^(?:Terminated|Killed|Hangup|Segmentation fault|User defined signal 1)[^\n]*\n")
NOT_RUN = re.compile(rb"(?m)^.*(?:not found|[Pp]ermission denied|Is a directory|is a directory|No such file).*\n")


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        ("python app.py", "exec python app.py"),
        ("  python app.py --port $PORT", "  exec python app.py --port $PORT"),
        ("X=1 Y=$Z server", "X=1 Y=$Z exec server"),
        ("X='a b' server", "X='a b' exec server"),
        ("X=$(cat 'a)') server", "X=$(cat 'a)') exec server"),
        ("cd a && server", "cd a && exec server"),
        ("cd a&&server", "cd a&&exec server"),
        ("cd a && X=1 server || other", "cd a && X=1 server || exec other"),
        ("a; server", "a; exec server"),
        ("a\nserver\n", "a\nexec server\n"),
        ("a\n\n\nserver;", "a\n\n\nexec server;"),
        ("a || b; c", "a || b; exec c"),
        ("a | b; c", "a | b; exec c"),
        ("a &&\n  server", "a &&\n  exec server"),
        ("a && \\\n  server", "a && \\\n  exec server"),
        ("server >log 2>&1", "exec server >log 2>&1"),
        ("2>&1 >log server", "2>&1 >log exec server"),
        ("server </dev/null >>$LOG", "exec server </dev/null >>$LOG"),
        ("server # a; b", "exec server # a; b"),
        ("# first\nserver", "# first\nexec server"),
        ("server 'a; b' \"c | d\" e\\;f", "exec server 'a; b' \"c | d\" e\\;f"),
        ("server ${X:-1} $((1 + 2)) `a` $(b | c)", "exec server ${X:-1} $((1 + 2)) `a` $(b | c)"),
        ('server "$(a "b)")" "${X:-$(c)}"', 'exec server "$(a "b)")" "${X:-$(c)}"'),
        ("export X=1; server", "export X=1; exec server"),
        ("set -e; a; server", "set -e; a; exec server"),
        ("set -euo pipefail; server", "set -euo pipefail; exec server"),
        ("ulimit -n 1024; umask 022; server", "ulimit -n 1024; umask 022; exec server"),
        ("[ -f x ] || exit 1; server", "[ -f x ] || exit 1; exec server"),
        ("command -v node >/dev/null && node app", "command -v node >/dev/null && exec node app"),
        ("until nc -z db 1; do sleep 1; done; server", "until nc -z db 1; do sleep 1; done; exec server"),
        ("if a; then b; else c; fi; server", "if a; then b; else c; fi; exec server"),
        ("for x in 1 2; do echo $x; done && server", "for x in 1 2; do echo $x; done && exec server"),
        ("(cd a; b); server", "(cd a; b); exec server"),
        ("{ a; b; }; server", "{ a; b; }; exec server"),
        ("./server", "exec ./server"),
        ("~/bin/server", "exec ~/bin/server"),
        ('"$HOME"/bin/server', 'exec "$HOME"/bin/server'),
        ('"${HOME}/bin/server" x', 'exec "${HOME}/bin/server" x'),
        ("env X=1 server", "exec env X=1 server"),
        ("exec 2>&1; server", "exec 2>&1; exec server"),
    ],
)
def test_the_last_program_replaces_the_shell(command: str, changed: str) -> None:
    assert with_exec(command) == changed
    assert shell_stays(command) == ("||" in command and "&&" in command)


@pytest.mark.parametrize(
    "command",
    [
        # A builtin, a reserved word, or nothing comes last.
        *("echo hi", "a && true", "a; exit", "a; wait", ":", "a && . ./b", "a || source b", "eval a", "time a"),
        *("X=1", "a; X=1", ">log", "a; >log", "", "   ", "# a", "a;\n X=1", "command a", "X=1 builtin a"),
        # A compound command comes last.
        *(
            "(a)",
            "{ a; }",
            "if a; then b; fi",
            "while :; do a; done",
            "for x in 1; do a; done",
            "case x in x) a;; esac",
        ),
        *("a; (b)", "cd a && { b; }", "until a; do b; done >log", "[[ -f a ]] && b", "((1)); b"),
        # A pipeline, a negation, a job in the background.
        *("a | b", "a |\nb", "a; b | c", "a |& b", "! a", "b; ! a", "a &", "a & b", "a & wait", "(a &); b", "a &>log"),
        # What comes before could make a difference.
        *("trap 'x' EXIT; a", "trap x 0 && a", "(trap x 0); a", ". ./env; a", ". ./env && a", "eval x; a"),
        *("source x && a", "f() { b; }; a", "a() { b; }; a", "function a { b; }; a", "alias a=b\na", "set -x; a"),
        *("set -m; a", "set -v\na", "set -o xtrace; a", "set - ; a", "enable -n a; a", "hash -p x a; a", "$X; a"),
        *('"$X" && a', "\\trap x 0; a", "'trap' x 0; a", '"."  ./env; a', "command . ./env; a", "readonly X=1; X=2 a"),
        *("if a; then trap x 0; fi; b", "while eval b; do c; done; d", "for x do trap x 0; done; a", "shopt -s x; a"),
        # No plain name.
        *(
            "$X",
            "$X a",
            "${X} a",
            "`a`",
            "$(a) b",
            '"$X"',
            "'a b'",
            "-a",
            "a* b",
            "{a,b}",
            "%1",
            "'echo' x",
            "\\echo x",
        ),
        *('"$@"/a', '"${X:-a/b}"', "$X/a", "e\\\ncho x", "a=(1) b", "a[0]=1", "a+=1"),
        # More than the module understands.
        *(
            "a <<E\nb\nE",
            "a <<<b",
            "a <(b)",
            "a 3>b",
            "a $'b'",
            'a $"b"',
            "a $[1]",
            "a `b 'c'`",
            "a $(case x in x) b;; esac)",
        ),
        *(
            "a $(b # )\n)",
            "a \r",
            "a\u00a0b",
            "a\0",
            "a (b)",
            "a; ;b",
            "a;;b",
            "&& a",
            "a &&",
            "a; | b",
            "a |",
            "(a",
            "a)",
        ),
        *("a 'b", 'a "b', "a `b", "a $(b", "a ${b", "if a; b", "{ a; ", "fi; a", "a; }", "then a", "if a; then fi; b"),
        *("a >", "( ) ; a", "{ a; } b", "(a) b", "a > (b)", "select x in a; do b; done; c", "coproc a; b"),
    ],
)
def test_a_command_stays_as_it_is(command: str) -> None:
    assert with_exec(command) == command
    assert shell_stays(command) == (command not in ("echo hi", ":"))


@pytest.mark.parametrize(
    "command", ["exec a", "cd x && exec a", ". ./env; exec a", "X=1 exec a", "trap - 0; exec a >b"]
)
def test_a_command_that_has_exec_needs_none(command: str) -> None:
    assert with_exec(command) == command
    assert not shell_stays(command)


def test_a_list_runs_without_a_shell() -> None:
    assert argv_of(("a", "b && c"), {}) == ("a", "b && c")
    assert argv_of("a && b", {}) == ("/bin/sh", "-c", "a && exec b")


def test_a_function_from_the_environment_is_still_called() -> None:
    assert argv_of("cd x && a", {"BASH_FUNC_a%%": "() { b; }"})[2] == "cd x && a"
    assert argv_of("cd x && a", {"BASH_FUNC_b%%": "() { b; }"})[2] == "cd x && exec a"


WORDS = [
    "a",
    "server",
    " ",
    " ",
    "&&",
    "||",
    ";",
    "\n",
    "|",
    "&",
    "(",
    ")",
    "'",
    '"',
    "$(",
    "`",
    "\\",
    "{",
    "}",
    "$X",
    ">",
]
WORDS += [
    "if",
    "then",
    "fi",
    "do",
    "done",
    "while",
    "#",
    "X=1",
    "trap",
    "exec",
    "!",
    "<",
    "<<",
    "case",
    "esac",
    "cd",
    "${",
    "é",
]


@given(st.lists(st.sampled_from(WORDS)).map("".join))
def test_any_text_can_be_looked_at(command: str) -> None:
    changed = with_exec(command)
    assert changed == command or changed.replace("exec ", "", 1) == command.replace("exec ", "", 0)
    # What has its `exec` gets no other, and the shell is gone.
    assert with_exec(changed) == changed or "||" in changed
    shell_stays(command)


@given(st.lists(st.sampled_from([*WORDS, " ", "a", "&&"])).map(" ".join))
def test_the_quick_way_finds_what_the_parser_finds(command: str) -> None:
    from procreaper.core.last_command import NOWHERE, _place, _place_among_words

    quick, found = _place_among_words(command), _place(command)
    assert quick is None or quick == (NOWHERE if found is None else found)


# It shows all that it is given, and ends as it is told.
SHOW = r"""#!/bin/sh
printf '<%s>' "${0##*/}" "$@"
echo
env
pwd
echo /proc/self/fd/*
case $END in
    [0-9]*) exit "$END" ;;
    ?*) kill -s "$END" $$ ;;
esac
"""
FINAL_STATES = ["", "END=0 ", "END=3 ", "END=126 ", "END=TERM ", "END=KILL ", "END=HUP ", "END=SEGV "]
LASTS = [
    "show",
    "./bin/show",
    '"$BIN"/show',
    "show 'a b' \"$TEXT\" $TEXT",
    "show $(echo a; echo b) `echo c`",
    "show ${NONE:-x} $((1+1))",
]
LASTS += [
    "show * \\; ~",
    "plain",
    "missing",
    "./missing",
    # By its name alone, dash finds a file that it cannot run with `exec` only: 126 instead of 127.
    "./bin/locked",
    "./bin",
    "env",
    "cat out",
    "sh -c 'exit 5'",
    'sh -c "kill -9 \\$\\$"',
]
REDIRECTIONS = [
    "",
    "",
    "",
    " >out",
    " 2>&1",
    " >out 2>&1",
    " </none",
    " >/none/x",
    " <&-",
    " >>out",
    " 2>/dev/null",
    " >&$TEXT",
]
BEFORE = [
    "",
    "",
    "true && ",
    "false && ",
    "false || ",
    "true || ",
    "cd bin; ",
    "cd bin && ",
    "cd none && ",
    "export X=$TEXT; ",
]
BEFORE += [
    "X=1; ",
    "set -e; ",
    "set -e; false; ",
    "set -u; ",
    "(exit 4); ",
    "show | cat; ",
    "echo one >out; ",
    "umask 027; ",
]
BEFORE += [
    "if show; then echo yes; fi; ",
    "for x in 1 2; do echo $x; done; ",
    "{ echo a; }; ",
    "exec 2>&1; ",
    "exec >out; ",
]
BEFORE += [
    "while read x; do echo $x; done <words; ",
    "command -v show && ",
    ": # note\n",
    "show\n\n",
    "false\n",
    "[ -d bin ] && ",
]
ASSIGNMENTS = ["", "", "", "X=1 ", "X='a b' ", "X=$TEXT ", "PATH=/none ", "PATH=$PWD/bin ", "IFS=: ", "X=1 X=2 "]


class Seen(NamedTuple):
    status: int
    output: bytes
    errors: bytes
    files: list[bytes]


def made_commands(count: int) -> Iterator[str]:
    random_ = random.Random(20)
    for _ in range(count):
        before = "".join(random_.choice(BEFORE) for _ in range(random_.randrange(3)))
        end = random_.choice(FINAL_STATES)
        last = random_.choice(LASTS) + random_.choice(REDIRECTIONS)
        yield f"{before}{random_.choice(ASSIGNMENTS)}{end}{last}"


def seen(shell: list[str], command: str, directory: Path) -> Seen:
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "bin").mkdir(parents=True)
    for name, text, mode in (
        ("show", SHOW, 0o755),
        ("plain", "echo plain $1\n", 0o755),
        ("locked", SHOW, 0o644),
    ):
        (directory / "bin" / name).write_text(text)
        (directory / "bin" / name).chmod(mode)
    (directory / "words").write_text("one\ntwo\n")
    environment = {"PATH": f"{directory}/bin:/usr/bin:/bin", "BIN": f"{directory}/bin", "TEXT": "x  y", "HOME": "/"}
    ran = subprocess.run(
        [*shell, "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    status = 128 - ran.returncode if ran.returncode < 0 else ran.returncode
    files = [path.read_bytes() for path in (directory / "out", directory / "bin/out") if path.exists()]
    return Seen(status, comparable(ran.stdout), comparable(ran.stderr), [comparable(text) for text in files])


def comparable(text: bytes) -> bytes:
    lines = NOT_RUN.sub(b"", SIGNALLED.sub(b"", text)).split(b"\n")
    # `env` has an order of its own; bash counts the shells, and says of itself how it was called.
    return b"\n".join(sorted(line for line in lines if not line.startswith((b"_=", b"SHLVL="))))


@pytest.mark.parametrize(("shell", "count"), SHELLS, ids=lambda value: value[0] if isinstance(value, list) else None)
def test_nothing_else_changes(shell: list[str], count: int, tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]}")
    changes = {command: with_exec(command) for command in made_commands(count)}
    assert all(changed != command for command, changed in changes.items())
    for command, changed in changes.items():
        assert seen(shell, changed, tmp_path / "d") == seen(shell, command, tmp_path / "d"), command
