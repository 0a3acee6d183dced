"""Finds the variables that a shell command uses, as far as this is possible without running it.

Rules: pure. This is not a shell, so it errs on the safe side: an ambiguous use of a variable is not reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Words that need no program: those of POSIX, and of the shells that are installed as /bin/sh.
_BUILTINS = """
    . : [ alias bg break builtin case cd command continue declare dirs do echo enable eval exec exit export false fc fg
    for function getopts hash help history if jobs kill let local logout popd printf pushd pwd read readonly return
    select set shift shopt source suspend test time times trap true type typeset ulimit umask unalias unset until wait
    while
"""
# Variables that a shell itself sets.
_SET_BY_SHELL = """
    _ CDPATH COLUMNS EUID FUNCNAME GROUPS HISTFILE HOME HOSTNAME HOSTTYPE IFS LINENO LINES LOGNAME MACHTYPE MAIL OLDPWD
    OPTARG OPTERR OPTIND OSTYPE PATH PIPESTATUS PPID PS1 PS2 PS4 PWD RANDOM REPLY SECONDS SHELL SHELLOPTS SHLVL UID USER
"""
BUILTINS, SET_BY_SHELL = frozenset(_BUILTINS.split()), frozenset(_SET_BY_SHELL.split())
# Commands that may set variables without naming them in the command.
_SETS_OTHERS = re.compile(r"(?:^|[\s;&|(){])(?:\.|source|eval|set\s+-a|read|mapfile|readarray)(?=[\s;]|$)|<<")
# Tests of a value, which allow it to be empty; and expansions with a default for this case.
_TEST = re.compile(r"(?:^|[\s;&|(){!])(?:\[\[\s.*?\]\]|(?:\[|test|case)\s[^;&|\n]*)", re.DOTALL)
_NAME = re.compile(r"\$\{?([A-Za-z_]\w*)", re.ASCII)
_WITH_DEFAULT = re.compile(r"\$\{([A-Za-z_]\w*):?[-+=]", re.ASCII)
_USE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)([^}]?))", re.ASCII)


def find_variables(command: str) -> list[str]:
    """Return the variables that a command expects to be set and does not set itself, in order of use.

    A variable that the command tests somewhere, or that has a default somewhere, may be empty everywhere.
    """
    if _SETS_OTHERS.search(command):
        return []
    plain = "".join(_remove_literals(command))
    expected = set(_WITH_DEFAULT.findall(plain))
    expected.update(name for test in _TEST.findall(plain) for name in _NAME.findall(test))
    found = []
    for match in _USE.finditer(plain):
        # After a name in braces, only the end or a removal of a part (`%`, `#`, `/`) is certain to use the value.
        name = match[1] or (match[2] if match[3] in ("", "%", "#", "/") else None)
        if name is None or name in SET_BY_SHELL or name in expected:
            continue
        # A loop, an assignment or an arithmetic expression may set it: there, the name has no dollar sign.
        if not re.search(rf"(?<![\w${{]){name}(?!\w)", command):
            found.append(name)
    return list(dict.fromkeys(found))


def _remove_literals(command: str) -> Iterator[str]:
    """Yield the command without single quotes, escaped characters and comments, where the shell replaces nothing."""
    position, in_double = 0, False
    while position < len(command):
        character = command[position]
        if character == "\\":
            position += 2
            continue
        if character == "'" and not in_double:
            end = command.find("'", position + 1)
            if end < 0:
                return
            position = end + 1
            yield "'"
            continue
        if character == '"':
            in_double = not in_double
        elif character == "#" and not in_double and (position == 0 or command[position - 1] in " \t;&|("):
            return
        yield character
        position += 1
