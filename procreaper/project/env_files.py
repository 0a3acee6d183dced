r"""What a ``.env`` file says as honcho reads it, and where that is not what its writer can have meant.

Rules: as in `procfile`, pure, and honcho decides what a line means. What stands in a ``.env`` file may be a secret: a
message names a variable, and those to which it refers, but shows nothing else of its value. Imported only where there
is such a file.

Theory of operation. Each line is handed to `honcho.environ.parse` on its own. Its value is compared with the value as
written: what follows the first ``=``, up to a ``#`` after a blank, or what stands within the quotes. Where the two
differ, or honcho drops the line, the writer is told; a spelling is proposed only if honcho has read it back.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from honcho.environ import parse

from procreaper.project.procfile import Complaint, Environment, decode, is_blank_or_comment, name_of, problem_in

# honcho splits what it is given at these too, as `str.splitlines` does. They travel as a private-use character and
# their index, which honcho passes on; that character is itself in the list, because it may occur in a file.
_MARK = "\ue000"
_SEPARATORS = _MARK + "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_PROTECTED = {ord(separator): f"{_MARK}{index}" for index, separator in enumerate(_SEPARATORS)}

# Patterns are strings, which `re` compiles and keeps at their first use: most runs use few of them.
_QUOTED = r'"(?:[^"\\]|\\.)*"|' + r"'[^']*'"
_VALUE_IN_QUOTES = rf"""(?=["'])((?:{_QUOTED}|[^ \t"'\\#])*)[ \t]*(?:#.*)?"""
_UP_TO_COMMENT = rf"(?:{_QUOTED}|\\.|[^#]|(?<![ \t])#)*"
_ASSIGNMENT = r"[ \t]*(export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*([=:])(.*)"
# What a reference to a variable looks like; two dollar signs are one elsewhere.
_REFERENCE = r"(?<!\$)\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?:[:?+-][^}]*)?\}|(?P<bare>[A-Za-z_][A-Za-z0-9_]*))"
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_LOSSES = {" ": "blanks", "\t": "blanks", '"': "quotes", "'": "quotes", "\\": "backslashes"}
_NO_SPELLING = r"in quotes `\n` is a line end and `\t` a tab; to keep them, set the variable outside this file"


def parse_environment(raw: bytes, path: str, known: Collection[str] = ()) -> Environment:
    r"""Read a ``.env`` file: the values are those that honcho gives, and a later line wins over an earlier one.

    Errors: bytes that are not UTF-8 (there are no values then), a quote not closed in its line, a backslash at the end
    of a line, a NUL, a name with ``=`` in it. Warnings: a value that honcho changes, a line that it drops, a lone
    ``\r``, a reference to a variable, which honcho leaves as it stands. `path` is only quoted; `known` are the names of
    variables that are set elsewhere.

    >>> parse_environment(b"A=b c\n", ".env").values
    {'A': 'bc'}
    """
    lines, problems = decode(raw, path)
    values: dict[str, str] = {}
    places: dict[str, int] = {}
    # By line: the variable whose value has a reference in it, and that reference.
    references: dict[int, tuple[str, re.Match[str]]] = {}
    skipped_to = 0
    for number, line in enumerate(lines, 1):
        if number <= skipped_to or is_blank_or_comment(line):
            continue
        try:
            found = _read(line)
        except ValueError as failure:
            skipped_to = _end_of_value(lines, number)
            problems.append(problem_in(path, number, _why_unreadable(line, failure, skipped_to)))
            continue
        error = _variable_error(found)
        if error is not None:
            problems.append(problem_in(path, number, error))
            continue
        values.update(found)
        places.update(dict.fromkeys(found, number))
        complaint = _complaint(line, found)
        if complaint is not None:
            problems.append(problem_in(path, number, complaint, "warning"))
        for name, value in found.items() if "$" in line else ():
            match = re.search(_REFERENCE, re.sub(_QUOTED + r"|\\.", _without_literal, line.partition("=")[2]))
            if match is not None and match[0] in value:
                references[number] = name, match
    for number, (name, match) in references.items():
        # A dollar sign may well stand in a password.
        if match["braced"] or match["bare"] in known or match["bare"] in values.keys() - {name}:
            problems.append(problem_in(path, number, _kept_reference(name, match), "warning"))
    problems.sort(key=lambda problem: problem.line or 0)
    return Environment(path, values, places, tuple(problems))


def bare_reference(written: str, known: Collection[str]) -> str | None:
    """The first of these `known` variables to which a value as written refers without braces."""
    text = re.sub(_QUOTED + r"|\\.", _without_literal, written)
    return next((match["bare"] for match in re.finditer(_REFERENCE, text) if match["bare"] in known), None)


def _without_literal(match: re.Match[str]) -> str:
    """What stands in single quotes or behind a backslash is no reference."""
    return re.sub(r"\\.", "", match[0]) if match[0][0] == '"' else ""


def _kept_reference(name: str, match: re.Match[str]) -> Complaint:
    reference = f"${{{match['braced']}}}" if match["braced"] else f"${match['bare']}"
    write = "" if match["braced"] else f"write `${{{match['bare']}}}`, and "
    hint = (
        f"""to have it replaced, {write}set `[env] parser = "dotenv"` in .reaper.toml; to keep it, use single quotes"""
    )
    return f"{_label(name)} is passed on with `{reference}` in it", hint


def _read(line: str) -> dict[str, str]:
    """Honcho's reading of one line; ValueError if it has none."""
    return {_restored(name): _restored(value) for name, value in parse(line.translate(_PROTECTED)).items()}


def _restored(text: str) -> str:
    return re.sub(f"{_MARK}([0-9])", lambda match: _SEPARATORS[int(match[1])], text)


def _variable_error(found: dict[str, str]) -> Complaint | None:
    for name, value in found.items():
        if "\0" in name + value:
            return f"a NUL byte in {_label(name)}", "remove it"
        if "=" in name:
            return "a `=` in the name of a variable", "write NAME=value"
    return None


def _label(name: str) -> str:
    return f"`{name}`" if name.isidentifier() else "this variable"


def _complaint(line: str, found: dict[str, str]) -> Complaint | None:
    """What the writer of a line that honcho could read should know, if anything."""
    if not found:
        return _why_dropped(line)
    [(name, value)] = found.items()
    prefix, _, text = line.partition("=")
    in_quotes = re.fullmatch(_VALUE_IN_QUOTES, text.strip(" \t"))
    if in_quotes is not None:
        if value == re.sub(_QUOTED, _unquoted, in_quotes[1]):
            return None
        return rf"`\n` or `\t` in {_label(name)} is not kept, whatever the quotes", _NO_SPELLING
    written = _as_written(text)
    if value not in (written, re.sub(r"\\([ \t\"'#$\\])", r"\1", written)):
        return f"{_label(name)} {_change(written)}", _spelling(f"{prefix}=", written)
    if written.startswith("="):
        return "the value starts with a second `=`", f"remove one `=`, or {_spelling(f'{prefix}=', written)}"
    return None


def _as_written(text: str) -> str:
    match = re.match(_UP_TO_COMMENT, text)
    return match[0].strip(" \t") if match else ""


def _unquoted(match: re.Match[str]) -> str:
    body = match[0][1:-1]
    return body if match[0][0] == "'" else re.sub(r'\\([nt"\\])', lambda escape: _ESCAPES[escape[1]], body)


def _why_dropped(line: str) -> Complaint:
    match = re.fullmatch(_ASSIGNMENT, line)
    if match is not None:
        export, name, separator, text = match.groups()
        if export or separator == ":":
            step, rest = _first_step(match)
            cause = "`export`" if export else "the colon after it"
            return f"`{name}` is ignored because of {cause}", _and(step, _hint(rest))
        written = _as_written(text)
        if not written:
            return f"`{name}` has no value and is ignored", f'for an empty value write {name}=""'
        return f"`{name}` is ignored, its value is read as a comment", _spelling(f"{name}=", written)
    name, equals, _ = line.partition("=")
    if not equals:
        return "line ignored: no `=`", "write NAME=value, or `#` before a comment"
    illegal = re.search(r"^[0-9]|[^A-Za-z0-9_]", name.strip(" \t"))
    if illegal is None:
        return "line ignored: no name before the `=`", "write NAME=value"
    message = f"line ignored: {name_of(illegal[0])} cannot {'begin' if illegal[0].isdecimal() else 'stand in'} a name"
    return message, "use only letters a-z, digits and `_` in names, and no digit first"


def _first_step(assignment: re.Match[str]) -> tuple[str, str]:
    """What makes an assignment of another tool one of ours, and the line after that."""
    export, name, separator, text = assignment.groups()
    if export:
        return "remove `export`", f"{name}{separator}{text}"
    return ("write `=` instead of the colon" if separator == ":" else ""), f"{name}={text}"


def _hint(line: str) -> str:
    """What would make honcho read the line as it is meant; nothing where it does."""
    try:
        complaint = _complaint(line, _read(line))
    except ValueError as failure:
        complaint = _why_unreadable(line, failure)
    return "" if complaint is None else complaint[1]


def _and(step: str, hint: str) -> str:
    return ", and ".join(filter(None, (step, hint)))


def _change(written: str) -> str:
    """What honcho does to an unquoted value: joins its words, drops quotes and backslashes, ends it at any `#`."""
    starts = [piece[0] for piece in re.findall(rf"{_QUOTED}|\\.|.", written)]
    kept = starts[: starts.index("#")] if "#" in starts else starts
    lost = dict.fromkeys(_LOSSES[start] for start in kept if start in _LOSSES)
    changes = [f"loses its {' and '.join(lost)}"] if lost else []
    return " and ".join(changes if kept == starts else [*changes, "is cut at `#`"])


def _spelling(prefix: str, written: str) -> str:
    """How to write the value so that honcho reads it as written, without showing it."""
    escaped = written.replace("\\", r"\\").replace('"', r"\"")
    for words, quote, value in (
        ("in double quotes", '"', written),
        ("in single quotes", "'", written),
        ('in double quotes, with a backslash before each `"` and each `\\` in it', '"', escaped),
    ):
        if _value(f"{prefix}{quote}{value}{quote}") == written:
            name = prefix.strip(" \t=")
            return f"put the value {words}" + (f": {name}={quote}...{quote}" if name.isidentifier() else "")
    return _NO_SPELLING


def _value(line: str) -> str | None:
    try:
        return next(iter(_read(line).values()), None)
    except ValueError:
        return None


def _why_unreadable(line: str, failure: ValueError, end: int = 0) -> Complaint:
    """What is wrong in a line that honcho cannot read; `end` is the line that closes its quote, if one does."""
    match = re.fullmatch(_ASSIGNMENT, line)
    if match is None:
        message = "line cannot be read: a quote is not closed, or a backslash is at its end"
        return message, "write NAME=value, or `#` before a comment"
    step, rest = _first_step(match)
    if step:
        message, hint = _why_unreadable(rest, failure, end)
        return message, _and(step, hint)
    name, text = match[2], match[4]
    if end:
        message = f"the quote that opens the value of `{name}` is closed only in line {end}"
        return message, r"write the value in one line, with `\n` for each line end"
    cause = "a backslash at the end of" if "escaped" in str(failure) else "a quote that is not closed in"
    message = f"{cause} the value of `{name}`"
    written = _as_written(text)
    quote, rest = written[:1], written[1:]
    if quote not in ('"', "'"):
        return message, _spelling(f"{name}=", written)
    if not rest.endswith(quote) and _value(f"{name}={written}{quote}") is not None:
        return message, f"end the value with `{quote}`, as it begins"
    return message, _spelling(f"{name}=", rest.removesuffix(quote))


def _end_of_value(lines: list[str], number: int) -> int:
    """The line that closes the quote which opens the value in line `number`; 0 if it is not a value of many lines."""
    match = re.fullmatch(_ASSIGNMENT, lines[number - 1])
    text = match[4].strip(" \t") if match else ""
    quote = text[:1]
    if quote not in ("'", '"') or quote in _without_escapes(text[1:], quote):
        return 0
    for later, line in enumerate(lines[number:], number + 1):
        plain = _without_escapes(line, quote)
        if quote in plain:
            return later if re.fullmatch(rf"[^{quote}]*{quote}[ \t]*(?:#.*)?", plain) else 0
    return 0


def _without_escapes(text: str, quote: str) -> str:
    return re.sub(r"\\.", "", text) if quote == '"' else text
