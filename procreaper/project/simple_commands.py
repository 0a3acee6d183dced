r"""The simple commands of a shell command (POSIX, 2.9.1), as far as they are plain to see.

Rules: pure, and on the safe side: this is no shell. Reading stops at the first thing that only a shell can read: a
compound command, a here-document, nested quotes.

>>> [[word.text for word in simple.words] for simple in split("cd app && exec ./server -p 80")]
[['cd', 'app'], ['exec', './server', '-p', '80']]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# Words that begin, join or end a compound command where a command may begin.
_KEYWORDS = frozenset(
    [
        "!",
        "case",
        "coproc",
        "do",
        "done",
        "elif",
        "else",
        "esac",
        "fi",
        "for",
        "function",
        "if",
        "in",
        "select",
        "then",
        "time",
        "until",
        "while",
        "{",
        "}",
    ]
)
# After these a command may begin again.
_LEADING = frozenset(["!", "do", "elif", "else", "if", "then", "time", "until", "while", "{"])
# Commands of bash, ksh or zsh that a plain POSIX shell need not have.
BEYOND_POSIX = frozenset(
    [
        "[[",
        "builtin",
        "declare",
        "disown",
        "function",
        "let",
        "mapfile",
        "popd",
        "pushd",
        "readarray",
        "shopt",
        "source",
        "typeset",
    ]
)
# These end a simple command without ending what can be read.
_OPERATORS = frozenset(("&&", "||", ";", "&", "|", "\n"))
# Of bash as well: both streams to one file. A POSIX shell reads it as `&` and `>`.
BOTH_STREAMS = "&>"

_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+|\\\n|(?<![^\s;&|()])\#[^\n]*)
    |(?P<stop>[<>]\(|<<)
    |(?P<both>&>>?)
    |(?P<redirect>[0-9]*(?:>>|>\||<>|[<>]&|[<>]))
    |(?P<operator>&&|\|\||[;&|()\n])
    |(?P<plain>'[^']*'|"[^"\\$`]*"|\\[^\n]|(?<=[^\s;&|()])[~\#]+|[^\s'"\\`$;&|()<>*?\[\]{}~\#]+)
    |(?P<replaced>"(?:\\.|[^"\\`$]|\$\{[^{}'"`]*\}|\$\([^()'"`]*\)|\$(?![({]))*"|\$\{[^{}'"`]*\}|\$\([^()'"`]*\)
        |\$(?:\w+|[@*\#?$!-])?(?![({'"])|`[^`'"]*`|[*?\[\]{}~])""",
    re.VERBOSE | re.DOTALL,
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=", re.ASCII)


class Word(NamedTuple):
    """A word without its quotes. `plain`: the shell replaces nothing in it; `quoted`: there were quotes in it."""

    text: str
    plain: bool = True
    quoted: bool = False

    @property
    def assigned(self) -> str | None:
        """The variable that this word sets where it stands before a program."""
        match = None if self.quoted and "=" not in self.text else _ASSIGNMENT.match(self.text)
        return None if match is None else match[0].rstrip("+=")


class SimpleCommand(NamedTuple):
    """The words of a command; `joint` is the operator behind it, `writes` whether its output goes to a file."""

    words: tuple[Word, ...]
    joint: str
    writes: bool


def split_commands(command: str) -> list[SimpleCommand]:
    """The simple commands at the beginning of a command, in their order."""
    found: list[SimpleCommand] = []
    words: list[Word] = []
    target, writes = "", False
    for item in _tokens(command):
        if isinstance(item, Word):
            if target:
                writes = writes or (target == ">" and item.text != "/dev/null")
                target = ""
            elif not words and item.text in _KEYWORDS and not item.quoted:
                return found
            else:
                words.append(item)
        elif item in ("<", ">"):
            target = item
        elif item in _OPERATORS:
            if words or writes:
                found.append(SimpleCommand(tuple(words), item, writes))
            words, target, writes = [], "", False
        else:
            return found
    if words or writes:
        found.append(SimpleCommand(tuple(words), "", writes))
    return found


def find_beyond_posix(command: str) -> list[str]:
    """What a POSIX shell need not have, of all that is seen where a command begins, in compound commands too."""
    found: dict[str, None] = {}
    at_start, is_target = True, False
    for item in _tokens(command):
        if not isinstance(item, Word):
            if item == BOTH_STREAMS:
                found[BOTH_STREAMS] = None
            is_target = item in ("<", ">", BOTH_STREAMS)
            at_start = at_start or not is_target
        elif is_target:
            is_target = False
        elif at_start and not item.quoted:
            if item.text == "case":
                # A pattern looks like a command.
                break
            if item.text in BEYOND_POSIX:
                found[item.text] = None
            at_start = item.text in _LEADING or item.assigned is not None
        else:
            at_start = False
    return list(found)


def find_bash_syntax(command: str) -> str | None:
    """The first construct of bash that is a syntax error for a POSIX shell, as it is written there."""
    match = re.search(r"[<>]\(|<<<|\|&|(?<=\w)\+?=\(|(?<!\$)\(\(|\bfunction\s", re.sub(r"'[^']*'", "''", command))
    return None if match is None else match[0].strip()


def _tokens(command: str) -> Iterator[Word | str]:
    """Words, operators, ``<`` and ``>`` for redirections, `BOTH_STREAMS`; ends early with "" at what is not plain."""
    position, text, plain, quoted, has_word = 0, "", True, False, False
    while position < len(command):
        match = _TOKEN.match(command, position)
        kind = None if match is None else match.lastgroup
        piece = "" if match is None else match[0]
        if kind == "redirect" and has_word and text.isdecimal() and not quoted:
            # The number of a descriptor.
            text, has_word = "", False
        if kind in ("plain", "replaced"):
            has_word, plain = True, plain and kind == "plain"
            quoted = quoted or piece[0] in "'\"\\"
            text += piece[1:-1] if piece[0] in "'\"" else piece.removeprefix("\\")
        else:
            if has_word:
                yield Word(text, plain, quoted)
            text, plain, quoted, has_word = "", True, False, False
            if kind is None or kind == "stop":
                yield ""
                return
            if kind == "both":
                yield BOTH_STREAMS
            elif kind == "redirect":
                yield ">" if piece.endswith((">", "|")) else "<"
            elif kind == "operator":
                yield piece
        position += len(piece)
    if has_word:
        yield Word(text, plain, quoted)
