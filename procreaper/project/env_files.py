r"""The ``.env`` files: the values that honcho or python-dotenv reads, and warnings about those that look unintended.

Rules: pure, bytes in, values out. A ``.env`` file may hold secrets. A message names a variable, and the variables that
it refers to, but shows no other part of its value. Imported only if there is such a file. This is the only module that
imports python-dotenv, and it does so only for ``[env] parser = "dotenv"``.

Theory of operation, for honcho's dialect. `honcho.environ.parse` reads each line on its own. Its value is compared with
the value as written: the text after the first ``=``, up to a ``#`` after a blank, or the text within the quotes. If the
two differ, or if honcho drops the line, there is a warning. Its hint proposes a spelling only if honcho reads that
spelling as the value that was written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import IO, NamedTuple, cast

from honcho.environ import parse

from procreaper.errors import Problem
from procreaper.project.procfile import Complaint, is_blank_or_comment, make_problem, name_character, split_lines

# honcho also splits a text at these characters, like `str.splitlines`. So each is replaced by a private-use character
# and its index here, which honcho passes on. That character is itself in the list, because it may occur in a file.
_MARK = "\ue000"
_SEPARATORS = _MARK + "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_PROTECTED = {ord(separator): f"{_MARK}{index}" for index, separator in enumerate(_SEPARATORS)}

# Patterns are strings, which `re` compiles at the first use and caches: most runs need only a few of them.
_QUOTED = r'"(?:[^"\\]|\\.)*"|' + r"'[^']*'"
_VALUE_IN_QUOTES = rf"""(?=["'])((?:{_QUOTED}|[^ \t"'\\#])*)[ \t]*(?:#.*)?"""
_UP_TO_COMMENT = rf"(?:{_QUOTED}|\\.|[^#]|(?<![ \t])#)*"
_ASSIGNMENT = r"[ \t]*(export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*([=:])(.*)"
# A reference to a variable. Two dollar signs are not one: other tools read them as a dollar sign.
_REFERENCE = r"(?<!\$)\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?:[:?+-][^}]*)?\}|(?P<bare>[A-Za-z_][A-Za-z0-9_]*))"
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_LOSSES = {" ": "blanks", "\t": "blanks", '"': "quotes", "'": "quotes", "\\": "backslashes"}
_NO_SPELLING = r"in quotes `\n` is a line end and `\t` a tab; to keep them, set the variable outside this file"


class EnvFile(NamedTuple):
    """A ``.env`` file: the values of its variables, the line of each, and the problems of the file."""

    path: str
    values: dict[str, str]
    lines: dict[str, int]
    problems: tuple[Problem, ...]


class _Stream(NamedTuple):
    """A text with the one method that python-dotenv calls."""

    text: str

    def read(self) -> str:
        return self.text


def parse_env_file(raw: bytes, path: str, known: Collection[str] = ()) -> EnvFile:
    r"""Parse a ``.env`` file with honcho. A later line wins over an earlier one.

    Errors: bytes that are not UTF-8 (then there are no values), a quote that is not closed in its line, a backslash at
    the end of a line, a NUL, a name with ``=`` in it. Warnings: a value that honcho changes, a line that it drops, a
    lone ``\r``, a reference to a variable, because honcho does not replace it. `path` is for messages only; `known` has
    the names of the variables that are set elsewhere.

    >>> parse_env_file(b"A=b c\n", ".env").values
    {'A': 'bc'}
    """
    lines, problems = split_lines(raw, path)
    values: dict[str, str] = {}
    places: dict[str, int] = {}
    # By line: the variable, and the reference in its value.
    references: dict[int, tuple[str, re.Match[str]]] = {}
    skipped_to = 0
    for number, line in enumerate(lines, 1):
        if number <= skipped_to or is_blank_or_comment(line):
            continue
        try:
            found = _read_line(line)
        except ValueError as failure:
            skipped_to = _find_end_of_value(lines, number)
            problems.append(make_problem(path, number, _why_unreadable(line, failure, skipped_to)))
            continue
        error = _find_error(found)
        if error is not None:
            problems.append(make_problem(path, number, error))
            continue
        values.update(found)
        places.update(dict.fromkeys(found, number))
        complaint = _find_complaint(line, found)
        if complaint is not None:
            problems.append(make_problem(path, number, complaint, "warning"))
        for name, value in found.items() if "$" in line else ():
            match = re.search(_REFERENCE, re.sub(_QUOTED + r"|\\.", _remove_literal, line.partition("=")[2]))
            if match is not None and match[0] in value:
                references[number] = name, match
    for number, (name, match) in references.items():
        # An unknown name after a dollar sign may be part of a password.
        if match["braced"] or match["bare"] in known or match["bare"] in values.keys() - {name}:
            problems.append(make_problem(path, number, _describe_kept_reference(name, match), "warning"))
    problems.sort(key=lambda problem: problem.line or 0)
    return EnvFile(path, values, places, tuple(problems))


def parse_with_dotenv(raw: bytes, path: str, environment: Mapping[str, str]) -> EnvFile:
    """Parse a ``.env`` file with python-dotenv.

    Its dialect has ``export``, values of several lines, ``#`` after a blank only, and references: ``${NAME}`` means a
    variable of `environment` or of an earlier line. Errors: python-dotenv is not installed, a line that it cannot read,
    bytes that are not UTF-8, a NUL. Warnings: a name without a value, a reference without braces to a variable that is
    set.
    """
    try:
        from dotenv.parser import parse_stream
        from dotenv.variables import parse_variables
    except ImportError:
        message = "python-dotenv is not installed, but `[env] parser` requires it"
        hint = "pip install 'procreaper[dotenv]', or remove `parser` from `[env]` in .reaper.toml"
        return EnvFile(path, {}, {}, (Problem(message, path, None, hint),))
    lines, problems = split_lines(raw, path)
    values: dict[str, str] = {}
    places: dict[str, int] = {}
    for binding in parse_stream(cast("IO[str]", _Stream("\n".join(lines)))):
        # A binding includes the blank lines and comments before it.
        skipped = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string.count("\n", 0, skipped)
        if binding.error:
            problems.append(Problem("python-dotenv cannot read this line", path, line, 'write NAME="value"'))
        elif binding.key is not None and binding.value is None:
            message = f"`{binding.key}` has no value and is ignored"
            problems.append(Problem(message, path, line, f"for an empty value write {binding.key}=", "warning"))
        elif binding.key is not None and binding.value is not None:
            known = {**environment, **values}
            value = "".join(atom.resolve(known) for atom in parse_variables(binding.value))
            if "\0" in binding.key + value or "=" in binding.key or not binding.key:
                problems.append(Problem("a NUL byte, or a name with `=` or none", path, line, "write NAME=value"))
                continue
            if reference := _find_bare_reference(binding.original.string.partition("=")[2], known):
                message = f"`{binding.key}` is passed on with `${reference}` in it"
                hint = f"write `${{{reference}}}` to have it replaced, or use single quotes to keep it"
                problems.append(Problem(message, path, line, hint, "warning"))
            values[binding.key] = value
            places[binding.key] = line
    return EnvFile(path, values, places, tuple(problems))


def _find_bare_reference(written: str, known: Collection[str]) -> str | None:
    """Return the first of the `known` variables that a value, as written, refers to without braces."""
    text = re.sub(_QUOTED + r"|\\.", _remove_literal, written)
    return next((match["bare"] for match in re.finditer(_REFERENCE, text) if match["bare"] in known), None)


def _remove_literal(match: re.Match[str]) -> str:
    """Remove text in single quotes or after a backslash, which cannot be a reference."""
    return re.sub(r"\\.", "", match[0]) if match[0][0] == '"' else ""


def _describe_kept_reference(name: str, match: re.Match[str]) -> Complaint:
    reference = f"${{{match['braced']}}}" if match["braced"] else f"${match['bare']}"
    write = "" if match["braced"] else f"write `${{{match['bare']}}}`, and "
    hint = (
        f"""to have it replaced, {write}set `[env] parser = "dotenv"` in .reaper.toml; to keep it, use single quotes"""
    )
    return f"{_label(name)} is passed on with `{reference}` in it", hint


def _read_line(line: str) -> dict[str, str]:
    """Read one line with honcho. Raises ValueError if honcho cannot read it."""
    return {_restore(name): _restore(value) for name, value in parse(line.translate(_PROTECTED)).items()}


def _restore(text: str) -> str:
    return re.sub(f"{_MARK}([0-9])", lambda match: _SEPARATORS[int(match[1])], text)


def _find_error(found: dict[str, str]) -> Complaint | None:
    for name, value in found.items():
        if "\0" in name + value:
            return f"a NUL byte in {_label(name)}", "remove it"
        if "=" in name:
            return "a `=` in the name of a variable", "write NAME=value"
    return None


def _label(name: str) -> str:
    return f"`{name}`" if name.isidentifier() else "this variable"


def _find_complaint(line: str, found: dict[str, str]) -> Complaint | None:
    """Return a warning for a line that honcho reads, but probably not as its author intended."""
    if not found:
        return _why_dropped(line)
    [(name, value)] = found.items()
    prefix, _, text = line.partition("=")
    in_quotes = re.fullmatch(_VALUE_IN_QUOTES, text.strip(" \t"))
    if in_quotes is not None:
        if value == re.sub(_QUOTED, _unquote, in_quotes[1]):
            return None
        return rf"`\n` or `\t` in {_label(name)} is not kept by any quotes", _NO_SPELLING
    written = _as_written(text)
    if value not in (written, re.sub(r"\\([ \t\"'#$\\])", r"\1", written)):
        return f"{_label(name)} {_describe_change(written)}", _propose_spelling(f"{prefix}=", written)
    if written.startswith("="):
        return "the value starts with a second `=`", f"remove one `=`, or {_propose_spelling(f'{prefix}=', written)}"
    return None


def _as_written(text: str) -> str:
    match = re.match(_UP_TO_COMMENT, text)
    return match[0].strip(" \t") if match else ""


def _unquote(match: re.Match[str]) -> str:
    body = match[0][1:-1]
    return body if match[0][0] == "'" else re.sub(r'\\([nt"\\])', lambda escape: _ESCAPES[escape[1]], body)


def _why_dropped(line: str) -> Complaint:
    match = re.fullmatch(_ASSIGNMENT, line)
    if match is not None:
        export, name, separator, text = match.groups()
        if export or separator == ":":
            step, rest = _first_step(match)
            cause = "`export`" if export else "the colon after it"
            return f"`{name}` is ignored because of {cause}", _join_hints(step, _propose_remedy(rest))
        written = _as_written(text)
        if not written:
            return f"`{name}` has no value and is ignored", f'for an empty value write {name}=""'
        return f"`{name}` is ignored, its value is read as a comment", _propose_spelling(f"{name}=", written)
    name, equals, _ = line.partition("=")
    if not equals:
        return "line ignored: no `=`", "write NAME=value, or `#` before a comment"
    illegal = re.search(r"^[0-9]|[^A-Za-z0-9_]", name.strip(" \t"))
    if illegal is None:
        return "line ignored: no name before the `=`", "write NAME=value"
    place = "begin" if illegal[0].isdecimal() else "stand in"
    message = f"line ignored: {name_character(illegal[0])} cannot {place} a name"
    return message, "use only letters a-z, digits and `_` in names, and no digit first"


def _first_step(assignment: re.Match[str]) -> tuple[str, str]:
    """Return how to turn an assignment of another tool into one of honcho, and the resulting line."""
    export, name, separator, text = assignment.groups()
    if export:
        return "remove `export`", f"{name}{separator}{text}"
    return ("write `=` instead of the colon" if separator == ":" else ""), f"{name}={text}"


def _propose_remedy(line: str) -> str:
    """Return how to write a line so that honcho reads it as intended; an empty text if it already does."""
    try:
        complaint = _find_complaint(line, _read_line(line))
    except ValueError as failure:
        complaint = _why_unreadable(line, failure)
    return "" if complaint is None else complaint[1]


def _join_hints(step: str, hint: str) -> str:
    return ", and ".join(filter(None, (step, hint)))


def _describe_change(written: str) -> str:
    """Describe how honcho changes an unquoted value: it drops blanks, quotes and backslashes, and ends at any `#`."""
    starts = [piece[0] for piece in re.findall(rf"{_QUOTED}|\\.|.", written)]
    kept = starts[: starts.index("#")] if "#" in starts else starts
    lost = dict.fromkeys(_LOSSES[start] for start in kept if start in _LOSSES)
    changes = [f"loses its {' and '.join(lost)}"] if lost else []
    return " and ".join(changes if kept == starts else [*changes, "is cut at `#`"])


def _propose_spelling(prefix: str, written: str) -> str:
    """Describe a spelling that honcho reads as the value written, without showing the value."""
    escaped = written.replace("\\", r"\\").replace('"', r"\"")
    for words, quote, value in (
        ("in double quotes", '"', written),
        ("in single quotes", "'", written),
        ('in double quotes, with a backslash before each `"` and each `\\` in it', '"', escaped),
    ):
        if _read_value(f"{prefix}{quote}{value}{quote}") == written:
            name = prefix.strip(" \t=")
            return f"put the value {words}" + (f": {name}={quote}...{quote}" if name.isidentifier() else "")
    return _NO_SPELLING


def _read_value(line: str) -> str | None:
    try:
        return next(iter(_read_line(line).values()), None)
    except ValueError:
        return None


def _why_unreadable(line: str, failure: ValueError, end: int = 0) -> Complaint:
    """Describe the mistake in a line that honcho cannot read. `end` is the line that closes its quote, or 0."""
    match = re.fullmatch(_ASSIGNMENT, line)
    if match is None:
        message = "line cannot be read: a quote is not closed, or a backslash is at its end"
        return message, "write NAME=value, or `#` before a comment"
    step, rest = _first_step(match)
    if step:
        message, hint = _why_unreadable(rest, failure, end)
        return message, _join_hints(step, hint)
    name, text = match[2], match[4]
    if end:
        message = f"the quote that opens the value of `{name}` is not closed before line {end}"
        return message, r"write the value in one line, with `\n` for each line end"
    cause = "a backslash at the end of" if "escaped" in str(failure) else "a quote that is not closed in"
    message = f"{cause} the value of `{name}`"
    written = _as_written(text)
    quote, rest = written[:1], written[1:]
    if quote not in ('"', "'"):
        return message, _propose_spelling(f"{name}=", written)
    if not rest.endswith(quote) and _read_value(f"{name}={written}{quote}") is not None:
        return message, f"end the value with `{quote}`, as it begins"
    return message, _propose_spelling(f"{name}=", rest.removesuffix(quote))


def _find_end_of_value(lines: list[str], number: int) -> int:
    """Return the line that closes the quote of the value in line `number`; 0 if the value has only one line."""
    match = re.fullmatch(_ASSIGNMENT, lines[number - 1])
    text = match[4].strip(" \t") if match else ""
    quote = text[:1]
    if quote not in ("'", '"') or quote in _remove_escapes(text[1:], quote):
        return 0
    for later, line in enumerate(lines[number:], number + 1):
        plain = _remove_escapes(line, quote)
        if quote in plain:
            return later if re.fullmatch(rf"[^{quote}]*{quote}[ \t]*(?:#.*)?", plain) else 0
    return 0


def _remove_escapes(text: str, quote: str) -> str:
    return re.sub(r"\\.", "", text) if quote == '"' else text
