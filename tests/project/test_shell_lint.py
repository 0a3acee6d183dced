"""Mistakes in shell commands."""

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
    """Return the messages for a command of `web` in /srv/app, where ./run, bin/run and /opt/run are executable."""
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
def test_missing_program_directory_or_file_is_reported(command: str, message: str) -> None:
    assert messages(command) == [message]


@pytest.mark.parametrize(
    "command",
    [
        "known x",
        "./run",
        "cd bin && ./run",
        "cd bin && cd .. && ./run",
        "cd /opt && ./run",
        # An earlier part may create or install it, or change the PATH.
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
        # Its meaning is unknown here.
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
def test_uncertain_mistake_is_not_reported(command: str) -> None:
    assert messages(command) == []


def test_file_that_another_process_may_create_is_not_reported() -> None:
    for command in ("./nope", "./main.py", "cd nope", ". ./nope"):
        assert messages(command)
        assert messages(command, may_change=True) == []
    assert messages("unknown", may_change=True)


def test_cdpath_disables_the_check_of_directories() -> None:
    assert messages("cd nope && ./nope", CDPATH="/x") == []


def test_path_with_an_unreplaced_reference_disables_the_check_of_programs() -> None:
    assert messages("unknown", PATH="bin:$PATH") == []


def test_hint_is_a_valid_command() -> None:
    command = Command("cd bin && ./a.py", "`web`", {}, "/srv/app")
    [(_, hint)] = find_file_problems(command, FILES)
    assert hint == "`chmod +x /srv/app/bin/a.py`"


def test_first_item_of_a_list_is_its_program() -> None:
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
def test_words_that_the_shell_lacks_are_reported(command: str, hint: str) -> None:
    [(_, said)] = find_shell_problems(Command(command, "`web`", {}), lambda _: True)
    assert hint in said
    assert list(find_shell_problems(Command(command, "`web`", {}), lambda _: False)) == []


def test_only_a_main_command_gets_the_hint_of_a_list() -> None:
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
def test_syntax_error_is_quoted_with_a_hint(command: str, reason: str, hint: str) -> None:
    message, said = describe_syntax_error(Command(command, "`web`", {}), reason)
    assert message == f"the shell cannot read the command of `web`: {reason}"
    assert hint in said


@pytest.mark.parametrize(
    ("command", "several"),
    [("./a x", False), ("cd a && exec ./b", False), ("make && ./a", True), ("if a; then b; fi", True), ("", True)],
)
def test_commands_with_several_programs_are_recognized(command: str, several: bool) -> None:
    assert runs_several(command) is several
