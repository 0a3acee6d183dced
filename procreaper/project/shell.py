"""The variables that a shell command uses, as far as that is plain without running it.

Rules: pure, and on the safe side: this is no shell. Where a command might mean something else, nothing is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Words that need no program: of POSIX, and of the shells that stand in as /bin/sh.
_BUILTINS = """
    . : [ alias bg break builtin case cd command continue declare dirs do echo enable eval exec exit export false fc fg
    for function getopts hash help history if jobs kill let local logout popd printf pushd pwd read readonly return
    select set shift shopt source suspend test time times trap true type typeset ulimit umask unalias unset until wait
    while
"""
# Variables that a shell sets by itself.
_SET_BY_SHELL = """
    _ CDPATH COLUMNS EUID FUNCNAME GROUPS HISTFILE HOME HOSTNAME HOSTTYPE IFS LINENO LINES LOGNAME MACHTYPE MAIL OLDPWD
    OPTARG OPTERR OPTIND OSTYPE PATH PIPESTATUS PPID PS1 PS2 PS4 PWD RANDOM REPLY SECONDS SHELL SHELLOPTS SHLVL UID USER
"""
BUILTINS, SET_BY_SHELL = frozenset(_BUILTINS.split()), frozenset(_SET_BY_SHELL.split())
# What may set variables that are not named here.
_SETS_OTHERS = re.compile(r"(?:^|[\s;&|(){])(?:\.|source|eval|set\s+-a|read|mapfile|readarray)(?=[\s;]|$)|<<")
# What tests a value, and so expects that there may be none; and expansions that say what to do then.
_TEST = re.compile(r"(?:^|[\s;&|(){!])(?:\[\[\s.*?\]\]|(?:\[|test|case)\s[^;&|\n]*)", re.DOTALL)
_NAME = re.compile(r"\$\{?([A-Za-z_]\w*)", re.ASCII)
_WITH_DEFAULT = re.compile(r"\$\{([A-Za-z_]\w*):?[-+=]", re.ASCII)
_USE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)([^}]?))", re.ASCII)


def find_variables(command: str) -> list[str]:
    """The variables that a command uses as if they were set, and does not set itself, in their order.

    One that the command tests, or of which it gives a default, may be empty wherever else it stands.
    """
    if _SETS_OTHERS.search(command):
        return []
    plain = "".join(_unquoted(command))
    expected = set(_WITH_DEFAULT.findall(plain))
    expected.update(name for test in _TEST.findall(plain) for name in _NAME.findall(test))
    found = []
    for match in _USE.finditer(plain):
        # After the name in braces: the end, or what cuts something off; anything else may give a default.
        name = match[1] or (match[2] if match[3] in ("", "%", "#", "/") else None)
        if name is None or name in SET_BY_SHELL or name in expected:
            continue
        # A loop, an assignment and an arithmetic expression all mention a name without a dollar sign.
        if not re.search(rf"(?<![\w${{]){name}(?!\w)", command):
            found.append(name)
    return list(dict.fromkeys(found))


def _unquoted(command: str) -> Iterator[str]:
    """The command without what the shell does not look into: single quotes, what follows a backslash, comments."""
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
