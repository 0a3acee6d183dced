r"""Splits a shell command into its simple commands (POSIX, 2.9.1), as far as this is certain.

Rules: pure. This is not a shell, so it errs on the safe side: it stops at the first construct that only a shell can
parse, such as a compound command, a here-document or nested quotes.

>>> [[word.text for word in simple.words] for simple in split("cd app && exec ./server -p 80")]
[['cd', 'app'], ['exec', './server', '-p', '80']]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# Words that begin, join or end a compound command, at the place of a command.
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
# After these words, another command may begin.
_LEADING = frozenset(["!", "do", "elif", "else", "if", "then", "time", "until", "while", "{"])
# Commands of bash, ksh or zsh that POSIX does not require.
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
# Operators that end a simple command. The next one can still be parsed.
_OPERATORS = frozenset(("&&", "||", ";", "&", "|", "\n"))
# Syntax of bash: both streams to one file. A POSIX shell reads it as `&` and `>`.
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
    """A word without its quotes. `plain`: the shell replaces nothing in it. `quoted`: it had quotes."""

    text: str
    plain: bool = True
    quoted: bool = False

    @property
    def assigned(self) -> str | None:
        """The variable that this word sets if it comes before a program."""
        match = None if self.quoted and "=" not in self.text else _ASSIGNMENT.match(self.text)
        return None if match is None else match[0].rstrip("+=")


class SimpleCommand(NamedTuple):
    """The words of a command. `joint` is the operator after it. `writes`: its output goes to a file."""

    words: tuple[Word, ...]
    joint: str
    writes: bool


def split_commands(command: str) -> list[SimpleCommand]:
    """Return the simple commands at the beginning of a command, in order."""
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
    """Return the commands, also within compound commands, that POSIX does not require a shell to have."""
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
                # Stop here, because its patterns look like commands.
                break
            if item.text in BEYOND_POSIX:
                found[item.text] = None
            at_start = item.text in _LEADING or item.assigned is not None
        else:
            at_start = False
    return list(found)


def find_bash_syntax(command: str) -> str | None:
    """Return the first construct of bash, as written, that is a syntax error for a POSIX shell."""
    match = re.search(r"[<>]\(|<<<|\|&|(?<=\w)\+?=\(|(?<!\$)\(\(|\bfunction\s", re.sub(r"'[^']*'", "''", command))
    return None if match is None else match[0].strip()


def _tokens(command: str) -> Iterator[Word | str]:
    """Yield words, operators, ``<`` and ``>`` for redirections, and `BOTH_STREAMS`; end with "" at other constructs."""
    position, text, plain, quoted, has_word = 0, "", True, False, False
    while position < len(command):
        match = _TOKEN.match(command, position)
        kind = None if match is None else match.lastgroup
        piece = "" if match is None else match[0]
        if kind == "redirect" and has_word and text.isdecimal() and not quoted:
            # It is the number of a descriptor, not a word.
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
