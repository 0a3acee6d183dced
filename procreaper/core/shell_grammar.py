"""The plain part of the grammar of the shell: the simple commands of a text, their places, and what encloses them.

Rules: pure. It raises an error for a text that has more: here-documents, `case`, functions, arrays, process
substitution, jobs in the background.

Theory of operation. One pass splits the text into words, redirections and operators. Reserved words and parentheses
open and close levels. The parser skips text in quotes and expansions.
"""

import re
from functools import cache

OPENING = {"if": "fi", "while": "done", "until": "done", "for": "done", "{": "}"}
BETWEEN = frozenset(("then", "do", "else", "elif"))
CLOSING = frozenset(OPENING.values())
UNREAD = frozenset(
    ("case", "esac", "function", "select", "time", "coproc", "repeat", "foreach", "end", "in", "[[", "]]")
)
RESERVED = BETWEEN | CLOSING | UNREAD | OPENING.keys() | {"!"}

# Plain text: outside of everything, and within `"..."`, `${...}` and `$(...)`.
PLAIN = r"(?:[^ \t\n'\"\\$`|&;()<>]+|'[^']*'|\\.)+"
IN_QUOTES = r"(?:[^\"\\$`]+|\\.)+"
IN_BRACES = r"[^{}'\"`\\$()<>|&;\n]+"
IN_PARENTHESES = r"(?:[^'\"\\$`()#<]+|'[^']*'|\\.|(?<![ \t\n;|&(])#|<(?!<))+"
NOTHING = r"(?:[ \t]|\\\n)+|#[^\n]*"
REDIRECTION = r"([0-9]*)(?:>>|>\||>&|<&|<>|>|<(?!<))(?:[ \t]|\\\n)*"
OPERATOR = r"&&|\|\||;(?!;)|\n|\|(?!&)|\((?!\()|\)"
PARAMETER = r"#?(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])"
EXPANSIONS = ('"', "$", "`")


class UnclearError(Exception):
    """The parser does not understand the text."""


class SimpleCommand:
    """A simple command, or the end of a compound one: its words as written, and the place of the first.

    `is_part`: it is part of a pipeline, or follows `!`. `is_fallback`: it follows `||`.
    """

    __slots__ = ("is_blank", "is_compound", "is_fallback", "is_part", "place", "words")

    def __init__(self, operator: str = "") -> None:
        self.words: list[str] = []
        self.place = 0
        self.is_part = operator == "|"
        self.is_fallback = operator == "||"
        self.is_compound = False
        self.is_blank = True


def simple_commands(text: str) -> list[SimpleCommand]:
    """Return the simple commands of a text, at least one, and the ends of compound ones. Raises UnclearError."""
    return _Parser(text).found


@cache
def _pattern(source: str) -> re.Pattern[str]:
    # Compiled when needed: together they would take a good part of a start.
    return re.compile(source, re.DOTALL)


def _match(source: str, text: str, position: int) -> re.Match[str] | None:
    return _pattern(source).match(text, position)


class _Parser:
    """Collects the simple commands of a text. Raises UnclearError."""

    def __init__(self, text: str) -> None:
        # Blanks of other kinds, and control characters, are not the same to every shell.
        if not text.replace("\t", "").replace("\n", "").isprintable():
            raise UnclearError
        self._text = text
        self._current = SimpleCommand()
        # Whether a command must follow, as after `&&`.
        self._is_owed = False
        # The words that close the open levels.
        self._levels: list[str] = []
        self.found: list[SimpleCommand] = []
        position = 0
        while position < len(text):
            position = self._take(position)
        if self._levels or self._is_owed:
            raise UnclearError
        if not self._current.is_blank:
            self.found.append(self._current)
        if not self.found:
            raise UnclearError

    def _take(self, position: int) -> int:
        """Take the word, the redirection or the operator at this position, and return where it ends."""
        text = self._text
        if match := _match(NOTHING, text, position):
            return match.end()
        if match := _match(REDIRECTION, text, position):
            end = _end_of_word(text, match.end())
            if end == match.end() or match[1] not in ("", "0", "1", "2"):
                raise UnclearError
            self._current.is_blank = self._is_owed = False
            return end
        if match := _match(OPERATOR, text, position):
            self._operator(match[0])
            return match.end()
        end = _end_of_word(text, position)
        if end == position:
            raise UnclearError
        self._word(text[position:end], position)
        return end

    def _operator(self, operator: str) -> None:
        if operator == "(":
            if not self._current.is_blank:
                raise UnclearError
            self._levels.append(")")
            self._is_owed = True
        elif not self._current.is_blank:
            self.found.append(self._current)
            self._current = SimpleCommand(operator)
            self._is_owed = operator in ("&&", "||", "|")
            if operator == ")":
                self._close(operator)
        elif operator == ")":
            self._close(operator)
        elif operator != "\n":
            raise UnclearError

    def _word(self, word: str, place: int) -> None:
        current = self._current
        if current.is_compound:
            raise UnclearError
        if current.is_blank and word in RESERVED:
            self._reserved(word)
            return
        current.is_blank = self._is_owed = False
        if not current.words:
            if _is_assignment(word):
                return
            current.place = place
        current.words.append(word)

    def _reserved(self, word: str) -> None:
        if word in UNREAD:
            raise UnclearError
        if word in CLOSING:
            self._close(word)
            return
        if word in BETWEEN and (not self._levels or self._is_owed):
            raise UnclearError
        if word == "!":
            self._current.is_part = True
        if word in OPENING:
            self._levels.append(OPENING[word])
        self._is_owed = word != "for"
        if word == "for":
            self._current.is_blank = False
            self._current.words.append(word)

    def _close(self, word: str) -> None:
        if self._is_owed or not self._levels or self._levels.pop() != word:
            raise UnclearError
        self._current.is_compound, self._current.is_blank = True, False


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return equals == "=" and name.isascii() and name.isidentifier()


def _end_of_word(text: str, position: int) -> int:
    """Return the end of the word that begins here; the position itself if none does."""
    while True:
        if match := _match(PLAIN, text, position):
            position = match.end()
        elif text.startswith(EXPANSIONS, position):
            position = _end_of_expansion(text, position)
        else:
            return position


def _end_of_expansion(text: str, position: int, *, is_quoted: bool = False) -> int:
    """Return the end of what a double quote, a dollar sign or a backquote begins."""
    if text[position] == '"':
        return _end(text, position + 1, IN_QUOTES, '"', is_quoted=True)
    if text[position] == "`":
        end = text.find("`", position + 1) + 1
        if not end or not {"'", '"', "\\"}.isdisjoint(text[position:end]):
            raise UnclearError
        return end
    position += 1
    match text[position : position + 1]:
        case "(":
            end = _end_of_parentheses(text, position)
            # The parentheses of its patterns do not come in pairs.
            if text.find("case", position, end) >= 0:
                raise UnclearError
            return end
        case "{":
            if (match := _match(PARAMETER, text, position + 1)) is None:
                raise UnclearError
            return _end(text, match.end(), IN_BRACES, "}", is_quoted=is_quoted)
        case "[":
            raise UnclearError
        case "'" | '"' if not is_quoted:
            raise UnclearError
    match = _match(PARAMETER, text, position)
    return position if match is None else match.end()


def _end(text: str, position: int, inner: str, closing: str, *, is_quoted: bool) -> int:
    """Return the position behind `closing`, past plain text that `inner` matches and past expansions."""
    while not text.startswith(closing, position):
        if match := _match(inner, text, position):
            position = match.end()
        elif text.startswith(("$", "`"), position):
            position = _end_of_expansion(text, position, is_quoted=is_quoted)
        else:
            raise UnclearError
    return position + 1


def _end_of_parentheses(text: str, position: int) -> int:
    position += 1
    while not text.startswith(")", position):
        if match := _match(IN_PARENTHESES, text, position):
            position = match.end()
        elif text.startswith("(", position):
            position = _end_of_parentheses(text, position)
        elif text.startswith(EXPANSIONS, position):
            position = _end_of_expansion(text, position)
        else:
            raise UnclearError
    return position + 1
