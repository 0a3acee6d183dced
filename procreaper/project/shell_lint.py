"""Finds mistakes in shell commands: missing programs and directories, and syntax of another shell.

Rules: pure; the probes of `lint` query the machine. When in doubt, nothing is reported: neither a file that an earlier
part of the command may create, nor a part that may never run.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from procreaper.project.shell import BUILTINS
from procreaper.project.simple_commands import (
    BOTH_STREAMS,
    SimpleCommand,
    Word,
    find_bash_syntax,
    find_beyond_posix,
    split_commands,
)

# The reasons why a path cannot be run as a program.
Defect = Literal["missing", "directory", "not executable", "no interpreter"]
# A message and a hint.
Complaint = tuple[str, str]

BASH_HINT = "run it with bash: `bash -c '...'`"
LIST_HINT = """`command = ["bash", "-c", "..."]` in .reaper.toml"""
# Commands that run another command. Their options are not understood here.
_WRAPPERS = frozenset(("command", "env", "exec", "nohup"))
# Builtins that change no file and do not affect which command runs next.
_HARMLESS = frozenset(
    [":", "echo", "export", "printf", "readonly", "set", "trap", "true", "ulimit", "umask", "unset", "wait"]
)
# Programs that change no file.
_IDLE = frozenset(("date", "sleep"))
_BUILTINS = BUILTINS - _WRAPPERS
_TESTS = frozenset(("[", "[[", "test"))


class Files(NamedTuple):
    """The probes of files: the `defect` of a path as a program, and whether a PATH has a program."""

    defect: Callable[[str], Defect | None]
    has_program: Callable[[str, str], bool]


class Command(NamedTuple):
    """A command with its environment and working directory. Messages call it `name`.

    `may_change`: files may be different when it runs. `is_main`: it is the command of the process, so it may be a list.
    """

    text: str
    name: str
    env: Mapping[str, str]
    cwd: str | None = None
    may_change: bool = False
    is_main: bool = True

    @property
    def bash_hint(self) -> str:
        """How to run it with bash."""
        return f"{BASH_HINT}, or {LIST_HINT}" if self.is_main else BASH_HINT


def describe_syntax_error(command: Command, reason: str) -> Complaint:
    """Describe a command that the shell cannot parse. `reason` is the message of the shell."""
    construct = find_bash_syntax(command.text)
    if construct is not None:
        hint = f"not every shell has `{construct}`; {command.bash_hint}"
    elif "unterminated quoted string" in reason or "looking for matching" in reason or "unmatched" in reason:
        hint = """close the quote; for an apostrophe write `"it's"` or `it\\'s`"""
    else:
        hint = "correct it, and try it with `sh -n -c '...'`, which runs nothing"
    return f"the shell cannot read the command of {command.name}: {reason}", hint


def find_shell_problems(command: Command, is_missing: Callable[[str], bool]) -> Iterator[Complaint]:
    """Find commands and syntax of bash that the shell of this machine does not have."""
    for word in filter(is_missing, find_beyond_posix(command.text)):
        if word == BOTH_STREAMS:
            message = (
                f"{command.name} uses `&>`, which this machine's `/bin/sh` reads as `&`, a start in the background"
            )
            yield message, "write `> FILE 2>&1`"
            continue
        message = f"{command.name} uses `{word}`, which this machine's `/bin/sh` does not have"
        if word == "source":
            yield message, "write `.` instead of `source`, with a slash in the path: `. ./FILE`"
        elif word == "[[":
            yield message, f"write `[ ... ]`, with `=` instead of `==`; or {command.bash_hint}"
        else:
            yield message, command.bash_hint


def find_file_problems(command: Command, files: Files) -> Iterator[Complaint]:
    """Find missing programs, directories and scripts."""
    yield from _Walk(command, files).find_problems()


def find_list_problems(command: Command, program: str, files: Files) -> Iterator[Complaint]:
    """Check the program of a command that is a list."""
    walk = _Walk(command, files)
    yield from walk.check_program(program)


def runs_several(command: str) -> bool:
    """Return whether a command may run a program before its last one, or is too complicated to know."""
    simple = split_commands(command)
    programs = [item for item in simple if item.words and item.words[0].text not in _BUILTINS]
    return len(programs) != 1 or bool(simple[-1].joint)


class _Walk:
    """Follows the parts of a command in the order in which they run."""

    def __init__(self, command: Command, files: Files) -> None:
        self._command = command
        self._files = files
        self._directory = command.cwd or "."
        self._path = command.env.get("PATH")
        # A reference that was not replaced breaks the PATH. It is reported in its own file.
        if self._path is not None and "$" in self._path:
            self._path = None

    def find_problems(self) -> Iterator[Complaint]:
        has_run = pending = False
        for simple in split_commands(self._command.text):
            words = self._without_assignments(list(simple.words))
            # A command before `||` may fail on purpose.
            is_certain = simple.joint != "||" and not has_run
            if words and words[0].plain and words[0].text in _BUILTINS:
                if is_certain:
                    yield from self._check_builtin(words)
                if not self._continues(simple, words):
                    return
            elif (program := self._find_program(words)) is not None:
                if is_certain:
                    yield from self.check_program(program)
                pending = pending or program not in _IDLE
            elif words:
                pending = True
            pending = pending or simple.writes
            if simple.joint == "||":
                return
            if simple.joint not in ("|", "&"):
                has_run, pending = has_run or pending, False

    def check_program(self, program: str) -> Iterator[Complaint]:
        name = self._command.name
        if "/" not in program:
            if self._path is None:
                return
            path = ":".join(posixpath.join(self._directory, item) for item in self._path.split(":"))
            if not self._files.has_program(program, path):
                hint = "install it, or correct the name or the PATH"
                yield f"the program `{program}` of {name} is not found", hint
            return
        path = posixpath.join(self._directory, program)
        defect = None if self._command.may_change else self._files.defect(path)
        if defect == "missing":
            yield f"the program `{program}` of {name} does not exist", self._missing_hint(program)
        elif defect == "directory":
            yield f"the program `{program}` of {name} is a directory", "name a file in it"
        elif defect == "no interpreter":
            message = f"the program `{program}` of {name} needs an interpreter that does not exist"
            yield (
                message,
                "correct its first line, which begins with `#!`; a carriage return at its end is part of the name",
            )
        elif defect == "not executable":
            # Not normalised with `..`: `link/..` is the parent of the target of the link.
            shown = path if ".." in path.split("/") else posixpath.normpath(path)
            yield f"the program `{program}` of {name} is not executable", f"`chmod +x {shlex.quote(shown)}`"

    def _missing_hint(self, path: str) -> str:
        if path.startswith("/"):
            return "create it, or correct the path"
        where = "the current directory" if self._directory == "." else f"`{self._directory}`"
        return f"create it, or correct the path, which is relative to {where}"

    def _without_assignments(self, words: list[Word]) -> list[Word]:
        while words and words[0].assigned is not None:
            if words[0].assigned == "PATH":
                self._path = None
            words.pop(0)
        return words

    def _find_program(self, words: list[Word]) -> str | None:
        """Return the program that the words run; None if it is not certain."""
        while words and words[0].plain and words[0].text in _WRAPPERS:
            wrapper = words.pop(0).text
            if wrapper == "env":
                words = self._without_assignments(words)
        if not words or not words[0].plain or words[0].text.startswith("-") or words[0].text in BUILTINS:
            return None
        return words[0].text or None

    def _check_builtin(self, words: list[Word]) -> Iterator[Complaint]:
        if len(words) != 2 or not words[1].plain or words[1].text[:1] in ("-", ""):
            return
        name, path = words[0].text, words[1].text
        if name == "cd" and not self._command.may_change and "CDPATH" not in self._command.env:
            defect = self._files.defect(posixpath.join(self._directory, path))
            if defect == "missing":
                message = f"the directory `{path}`, to which {self._command.name} changes, does not exist"
                yield message, self._missing_hint(path)
            elif defect != "directory":
                message = f"`{path}`, to which {self._command.name} changes, is not a directory"
                yield message, "correct the path"
        elif name in (".", "source") and "/" in path and not self._command.may_change:
            defect = self._files.defect(posixpath.join(self._directory, path))
            if defect == "missing":
                message = f"the file `{path}`, which {self._command.name} reads, does not exist"
                yield message, self._missing_hint(path)

    def _continues(self, simple: SimpleCommand, words: list[Word]) -> bool:
        """Return whether it is certain which command runs after a builtin."""
        name = words[0].text
        if name in _TESTS:
            return simple.joint not in ("&&", "||")
        if name == "cd":
            if simple.joint in ("|", "&"):
                return True
            if len(words) != 2 or not words[1].plain or words[1].text[:1] in ("-", ""):
                return False
            self._directory = posixpath.join(self._directory, words[1].text)
            return "CDPATH" not in self._command.env and self._files.defect(self._directory) == "directory"
        if name == "export" and any(word.assigned == "PATH" for word in words[1:]):
            self._path = None
        return name in _HARMLESS
