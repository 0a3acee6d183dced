"""Puts `exec` before the last program of a shell command, so that the shell becomes that program.

bash does so by itself with the last program of ``sh -c "cd app && server"``; Debian's dash does not. With `exec`, the
pid, the signals, the exit status and the memory of a run are those of the program, with every /bin/sh.

Rules: pure, and on the safe side: a command stays as it is if `exec` could make another difference, or if
`shell_grammar` does not understand it. Only the last command can get `exec`. It must name a program and must not be
part of a pipeline. Each command before it must also name a program, or a builtin that sets no trap, defines no function
or alias, and traces nothing. A job in the background would become a child of the program.

Commands of plain words between `&&` and `||` need no parser, and so do not slow down a start.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procreaper.core.shell_grammar import SimpleCommand

SHELL, EXPORTED_FUNCTION = "/bin/sh", "BASH_FUNC_"
NOWHERE = -1
# Words that are no program in at least one of POSIX sh, bash, dash, busybox, ksh and zsh.
_NO_PROGRAMS = """
    . : [ [[ ]] alias autoload bg bind break builtin bye caller case cd chdir command compgen complete compopt
    continue coproc declare dirs disable disown do done echo elif else emulate enable end esac eval exec exit
    export false fc fg fi float for foreach function functions getopts hash help history if in integer jobs kill
    let limit local logout mapfile namespace nameref nocorrect noglob popd print printf pushd pwd r read readarray
    readonly rehash repeat return sched select set setopt shift shopt source suspend test then time times trap true
    type typeset ulimit umask unalias unfunction unhash unlimit unset unsetopt until vared wait whence where which
    while zcompile zmodload zstyle
"""
NO_PROGRAMS = frozenset(_NO_PROGRAMS.split())
# Builtins after which `exec` makes no difference.
_HARMLESS_BUILTINS = """
    : [ break cd continue echo exec exit export false kill printf pwd read test true ulimit umask
"""
_HARMLESS = frozenset(_HARMLESS_BUILTINS.split())
# Characters of program names, and of words that all shells read in the same way.
_IN_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+-@:,%")
_IN_WORDS = _IN_NAMES | frozenset("=$ &|")


def argv_of(command: str | tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arguments that run a command: the command itself if it is a list, else those of a shell."""
    if not isinstance(command, str):
        return command
    functions = {name[len(EXPORTED_FUNCTION) : -2] for name in environment if name.startswith(EXPORTED_FUNCTION)}
    if any(name in command for name in functions):
        # bash calls the function, and `exec` would find only a program of that name.
        return (SHELL, "-c", command)
    return (SHELL, "-c", with_exec(command))


@lru_cache(maxsize=64)
def with_exec(command: str) -> str:
    """Return the command with `exec` before its last program, or unchanged if that could make another difference.

    >>> with_exec("cd app && PORT=1 python main.py"), with_exec("trap 'rm x' EXIT; server"), with_exec("a | b")
    ('cd app && PORT=1 exec python main.py', "trap 'rm x' EXIT; server", 'a | b')
    """
    place = _place_among_words(command)
    if place is None:
        place = _place(command)
    return command if place in (None, NOWHERE) else f"{command[:place]}exec {command[place:]}"


def shell_stays(command: str) -> bool:
    """Return whether the shell of `argv_of` remains beside the program, instead of becoming it.

    >>> shell_stays("cd app && server"), shell_stays(". ./env; exec server"), shell_stays("server || other")
    (False, False, True)
    """
    from procreaper.core.shell_grammar import UnclearError, simple_commands

    try:
        *before, last = simple_commands(command)
    except UnclearError:
        return True
    if last.is_part or last.is_fallback:
        return True
    if not before and last.words and last.words[0] in _HARMLESS - {"exec"}:
        # It runs within the shell.
        return False
    return with_exec(command) == command and (last.words[:1] != ["exec"] or len(last.words) == 1)


def _place_among_words(command: str) -> int | None:
    """Return the place for `exec`, or NOWHERE; None if only a parser can find it."""
    if not _IN_WORDS.issuperset(command):
        return None
    place: int | None = None
    name, position, is_inside = "true", 0, False
    for word in command.split(" "):
        if word in ("&&", "||"):
            if not is_inside:
                return None
            is_inside = False
        elif "&" in word or "|" in word:
            return None
        elif word and not is_inside and "=" not in word:
            if not _is_name(name) and name not in _HARMLESS:
                return None
            name, place, is_inside = word, position, True
        elif word and not is_inside and not word.partition("=")[0].isidentifier():
            return None
        position += len(word) + 1
    if not is_inside or place is None:
        return None
    return NOWHERE if name in NO_PROGRAMS else place if _is_name(name) else None


def _place(command: str) -> int | None:
    """Return the place for `exec` that a parser finds."""
    from procreaper.core.shell_grammar import UnclearError, simple_commands

    try:
        *before, last = simple_commands(command)
    except UnclearError:
        return None
    return last.place if not last.is_part and _is_program(last) and all(map(_is_harmless, before)) else None


def _is_name(word: str) -> bool:
    """Return whether a word is the name of a program that no expansion changes."""
    return word not in NO_PROGRAMS and _IN_NAMES.issuperset(word) and word[:1] not in ("-", "@", ":", ",", "%")


def _is_program(command: "SimpleCommand") -> bool:
    if command.is_compound or not command.words:
        return False
    name = command.words[0]
    if name.startswith("~"):
        # A home directory is not split into words.
        return "/" in name and _IN_NAMES.issuperset(name[1:])
    return _is_name(name) or ('"' in name and _is_path(name))


def _is_path(name: str) -> bool:
    """Return whether a name has a slash whatever its variables are; they stand in double quotes."""
    import re

    if re.fullmatch(r"(?:[\w./+@,-]|\"(?:[\w./+@, -]|\$\w+|\$\{\w+\})*\")+", name, re.ASCII) is None:
        return False
    return "/" in re.sub(r"\$\w+|\$\{\w+\}", "", name, flags=re.ASCII)


def _is_harmless(command: "SimpleCommand") -> bool:
    """Return whether `exec` after this command is the same as a plain call."""
    if not command.words or _is_program(command):
        return True
    name, *arguments = command.words
    match name:
        case "set":
            return _is_harmless_setting(arguments)
        case "command":
            return arguments[:1] in (["-v"], ["-V"])
        case "for":
            return arguments[1:2] in ([], ["in"])
        case _:
            return name in _HARMLESS


def _is_harmless_setting(arguments: list[str]) -> bool:
    """Return whether these arguments of `set` only make errors count: ``-e``, ``-u``, ``-euo pipefail``."""
    match arguments:
        case [flags]:
            return flags[:1] == "-" and frozenset("eu").issuperset(flags[1:]) and len(flags) > 1
        case [flags, "errexit" | "nounset" | "pipefail"]:
            return flags[:1] == "-" and flags[-1] == "o" and frozenset("eu").issuperset(flags[1:-1])
        case _:
            return False
