"""What is wrong with the commands that a shell runs."""

from __future__ import annotations

import posixpath

import pytest

from procreaper.project.shell_lint import (
    Command,
    Defect,
    Files,
    describe_syntax_error,
    find_file_problems,
    find_list_problems,
    find_shell_problems,
    runs_several,
)

DIRECTORIES = ("/srv/app", "/srv/app/bin", "/opt")
PROGRAMS = ("/srv/app/run", "/srv/app/bin/run", "/opt/run")


def defect(path: str) -> Defect | None:
    path = posixpath.normpath(path)
    if path in DIRECTORIES:
        return "directory"
    if path.endswith(".sh"):
        return "no interpreter"
    return None if path in PROGRAMS else "not executable" if path.endswith(".py") else "missing"


FILES = Files(defect, lambda name, path: name in ("known", "sleep") and path.endswith("/bin"))


def messages(text: str, *, may_change: bool = False, **environment: str) -> list[str]:
    """The messages for a command of `web` that runs in /srv/app, where ./run, bin/run and /opt/run can be run."""
    command = Command(text, "`web`", {"PATH": "/bin", **environment}, "/srv/app", may_change)
    return [message for message, _ in find_file_problems(command, FILES)]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("unknown x", "the program `unknown` of `web` is not found"),
        ("./nope", "the program `./nope` of `web` does not exist"),
        ("'bin/no pe' x", "the program `bin/no pe` of `web` does not exist"),
        ("/opt/nope", "the program `/opt/nope` of `web` does not exist"),
        ("./main.py", "the program `./main.py` of `web` is not executable"),
        ("./bin", "the program `./bin` of `web` is a directory"),
        ("./a.sh", "the program `./a.sh` of `web` needs an interpreter that does not exist"),
        ("exec ./nope", "the program `./nope` of `web` does not exist"),
        ("X=1 Y='a b' ./nope", "the program `./nope` of `web` does not exist"),
        ("env X=1 ./nope", "the program `./nope` of `web` does not exist"),
        ("exec env X=$Y nohup ./nope", "the program `./nope` of `web` does not exist"),
        ("cd bin && ./nope", "the program `./nope` of `web` does not exist"),
        ("cd bin; exec ../nope", "the program `../nope` of `web` does not exist"),
        ("export X=1; sleep 1; ./nope", "the program `./nope` of `web` does not exist"),
        ("exec 2>&1; ./nope", "the program `./nope` of `web` does not exist"),
        ("known & ./nope & wait", "the program `./nope` of `web` does not exist"),
        ("known | ./nope", "the program `./nope` of `web` does not exist"),
        ("cd nope && known", "the directory `nope`, to which `web` changes, does not exist"),
        ("cd run && known", "`run`, to which `web` changes, is not a directory"),
        (". nope/activate && known", "the file `nope/activate`, which `web` reads, does not exist"),
        ("source ./nope; known", "the file `./nope`, which `web` reads, does not exist"),
    ],
)
def test_what_is_missing(command: str, message: str) -> None:
    assert messages(command) == [message]


@pytest.mark.parametrize(
    "command",
    [
        "known x",
        "./run",
        "cd bin && ./run",
        "cd bin && cd .. && ./run",
        "cd /opt && ./run",
        # An earlier part may create or install it, or change what is found.
        "known && ./nope",
        "known; ./nope",
        "known > nope; ./nope",
        "known && cd nope && ./run",
        ". ./run && ./nope && unknown",
        'eval "$X"; ./nope',
        "$X; ./nope",
        "PATH=x unknown",
        "export PATH=x; unknown",
        # It may never run, or it may fail.
        "[ -x ./nope ] && ./nope",
        "test -d nope && cd nope",
        "[[ -x ./nope ]] && ./nope",
        "./nope || known",
        "cd nope || exit",
        "./run || ./nope",
        "if known; then ./nope; fi",
        "(cd nope; ./nope)",
        "! ./nope",
        # What it means is not known here.
        "cd $X && ./nope",
        "cd && ./nope",
        "cd - && ./nope",
        "cd ~/x && ./nope",
        "$X/nope",
        "~/nope",
        "./nope*",
        "exec -a x ./nope",
        "env -i ./nope",
        "command -v nope",
        "echo ./nope",
        "known ./nope",
        ". nope",
    ],
)
def test_what_may_be_right_is_not_reported(command: str) -> None:
    assert messages(command) == []


def test_files_that_another_process_may_create_are_not_reported() -> None:
    for command in ("./nope", "./main.py", "cd nope", ". ./nope"):
        assert messages(command)
        assert messages(command, may_change=True) == []
    assert messages("unknown", may_change=True)


def test_cdpath_makes_every_directory_possible() -> None:
    assert messages("cd nope && ./nope", CDPATH="/x") == []


def test_a_path_with_a_reference_that_stays_finds_no_program_and_says_nothing_of_it() -> None:
    assert messages("unknown", PATH="bin:$PATH") == []


def test_the_hint_can_be_typed() -> None:
    command = Command("cd bin && ./a.py", "`web`", {}, "/srv/app")
    [(_, hint)] = find_file_problems(command, FILES)
    assert hint == "`chmod +x /srv/app/bin/a.py`"


def test_a_list_names_its_program_first() -> None:
    command = Command("", "`web`", {"PATH": "/bin"}, "/srv/app")
    assert [list(find_list_problems(command, program, FILES)) for program in ("known", "./run")] == [[], []]
    [(message, _)] = find_list_problems(command, "bin/nope", FILES)
    assert message == "the program `bin/nope` of `web` does not exist"


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("source a", "write `.` instead of `source`"),
        ("[[ a == b ]]", "write `[ ... ]`, with `=` instead of `==`"),
        ("shopt -s a", "bash -c"),
        ("a &> b", "write `> FILE 2>&1`"),
    ],
)
def test_a_shell_without_the_words_of_bash(command: str, hint: str) -> None:
    [(_, said)] = find_shell_problems(Command(command, "`web`", {}), lambda _: True)
    assert hint in said
    assert list(find_shell_problems(Command(command, "`web`", {}), lambda _: False)) == []


def test_only_the_command_of_a_process_can_be_a_list() -> None:
    for is_main in (True, False):
        command = Command("shopt -s a", "`web`", {}, is_main=is_main)
        [(_, hint)] = find_shell_problems(command, lambda _: True)
        assert ("command = [" in hint) is is_main


@pytest.mark.parametrize(
    ("command", "reason", "hint"),
    [
        ("echo it's", "unterminated quoted string", "close the quote"),
        ("diff <(a) b", '"(" unexpected', "not every shell has `<(`; run it with bash: `bash -c"),
        ("(a", "end of file unexpected", "sh -n -c"),
    ],
)
def test_a_syntax_error_is_quoted_with_what_helps(command: str, reason: str, hint: str) -> None:
    message, said = describe_syntax_error(Command(command, "`web`", {}), reason)
    assert message == f"the shell cannot read the command of `web`: {reason}"
    assert hint in said


@pytest.mark.parametrize(
    ("command", "several"),
    [("./a x", False), ("cd a && exec ./b", False), ("make && ./a", True), ("if a; then b; fi", True), ("", True)],
)
def test_whether_a_command_runs_several_programs(command: str, several: bool) -> None:
    assert runs_several(command) is several
