r"""What a Procfile and a ``.env`` file say, and where that is not what their writers can have meant.

Rules: pure, bytes in, values out. honcho decides what a line means, and no other module imports it. The parsers never
raise: all that is wrong is a `Problem`. Only ``\n`` and ``\r\n`` end a line. What stands in a ``.env`` file may be a
secret: a message names a variable, never (a part of) its value.

Theory of operation, ``.env``: each line is handed to `honcho.environ.parse` on its own. Its value is compared with the
value as written: what follows the first ``=``, up to a ``#`` after a blank, or what stands within the quotes. Where
the two differ, or honcho drops the line, the writer is told; a spelling is proposed only if honcho has read it back.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from honcho.environ import PROCFILE_LINE, expand_processes, parse

from procreaper.errors import Level, Problem

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
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_LOSSES = {" ": "blanks", "\t": "blanks", '"': "quotes", "'": "quotes", "\\": "backslashes"}
_NO_SPELLING = r"in quotes `\n` is a line end and `\t` a tab; to keep them, set the variable outside this file"

# They tell a process who it is; nothing can override them.
OURS = ("PORT", "PS", "HONCHO_PROCESS_NAME")
NO_PROCESS = "no process is defined"

# A message and a hint.
_Complaint = tuple[str, str]


class Entry(NamedTuple):
    """A process type: a line ``name: command`` of the Procfile."""

    name: str
    command: str
    line: int


class Procfile(NamedTuple):
    """The process types of a Procfile in their order, and what is wrong in it."""

    path: str
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


class Environment(NamedTuple):
    """The variables of a ``.env`` file, the line that set each, and what is wrong in the file."""

    path: str
    values: dict[str, str]
    lines: dict[str, int]
    problems: tuple[Problem, ...]


class Instance(NamedTuple):
    """One process to run: ``web.2`` of the type ``web``; `env` comes on top of the environment that we were given."""

    name: str
    type: str
    command: str
    quiet: bool
    env: dict[str, str]


def parse_procfile(raw: bytes, path: str) -> Procfile:
    r"""Read a Procfile: the names and commands that honcho finds, less those that are an error.

    Errors: bytes that are not UTF-8, no process, no command, a name twice, a NUL. Warnings: a line that is neither
    blank nor a comment nor a process, a backslash that continues nothing, a lone ``\r``. `path` is only quoted.

    >>> parse_procfile(b"web: python app.py\n", "Procfile").entries
    (Entry(name='web', command='python app.py', line=1),)
    """
    lines, problems = decode(raw, path)
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if _is_blank_or_comment(line):
            continue
        match = PROCFILE_LINE.match(line) or re.fullmatch(r"([A-Za-z0-9_-]+):()", line)
        if match is None:
            problems.append(_problem(path, number, _why_no_process(line), "warning"))
            continue
        entry = Entry(match[1], match[2], number)
        error = _entry_error(entry, entries.get(entry.name))
        if error is not None:
            problems.append(_problem(path, number, error))
            continue
        entries[entry.name] = entry
        if entry.command.endswith("\\"):
            message = f"the backslash at the end of `{entry.name}` does not join the next line to it"
            problems.append(Problem(message, path, number, "write the whole command in one line", "warning"))
    if not entries and all(problem.level == "warning" for problem in problems):
        problems.append(Problem(NO_PROCESS, path, None, "add a line such as `web: command`"))
    return Procfile(path, tuple(entries.values()), tuple(problems))


def parse_environment(raw: bytes, path: str) -> Environment:
    r"""Read a ``.env`` file: the values are those that honcho gives, and a later line wins over an earlier one.

    Errors: bytes that are not UTF-8 (there are no values then), a quote not closed in its line, a backslash at the end
    of a line, a NUL, a name with ``=`` in it. Warnings: a value that honcho changes, a line that it drops, a lone
    ``\r``. `path` is only quoted.

    >>> parse_environment(b"A=b c\n", ".env").values
    {'A': 'bc'}
    """
    lines, problems = decode(raw, path)
    values: dict[str, str] = {}
    places: dict[str, int] = {}
    skipped_to = 0
    for number, line in enumerate(lines, 1):
        if number <= skipped_to or _is_blank_or_comment(line):
            continue
        try:
            found = _read(line)
        except ValueError as failure:
            skipped_to = _end_of_value(lines, number)
            problems.append(_problem(path, number, _why_unreadable(line, failure, skipped_to)))
            continue
        error = _variable_error(found)
        if error is not None:
            problems.append(_problem(path, number, error))
            continue
        values.update(found)
        places.update(dict.fromkeys(found, number))
        complaint = _complaint(line, found)
        if complaint is not None:
            problems.append(_problem(path, number, complaint, "warning"))
    return Environment(path, values, places, tuple(problems))


def expand(
    entries: Iterable[Entry],
    *,
    concurrency: Mapping[str, int],
    environment: Mapping[str, str],
    quiet: Collection[str],
    port: int,
) -> tuple[Instance, ...]:
    """Say which processes are to run, with honcho's names and ports: `port`, +100 per type, +1 per instance.

    A type that `concurrency` does not list runs once; one at 0 keeps its hundred ports. `quiet` has names of types or
    of instances. `environment` cannot override ``PORT``, ``HONCHO_PROCESS_NAME`` and ``PS`` (foreman's name for it).
    """
    instances = expand_processes(
        {entry.name: entry.command for entry in entries},
        concurrency=concurrency,
        env={name: value for name, value in environment.items() if name not in OURS},
        quiet=quiet,
        port=port,
    )
    return tuple(
        Instance(
            name=instance.name,
            type=instance.name.rpartition(".")[0],
            command=instance.cmd,
            quiet=instance.quiet or instance.name in quiet,
            env={**instance.env, "PS": instance.name},
        )
        for instance in instances
    )


def decode(raw: bytes, path: str) -> tuple[list[str], list[Problem]]:
    """The lines of a file in UTF-8, without a BOM; no lines, and why, where it is not in UTF-8."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        lines = re.split(r"\r?\n", raw.decode())
    except UnicodeDecodeError as error:
        start = raw.rfind(b"\n", 0, error.start) + 1
        column = len(raw[start : error.start].decode()) + 1
        message = f"byte 0x{raw[error.start]:02x} in column {column} is not UTF-8"
        return [], [Problem(message, path, raw.count(b"\n", 0, error.start) + 1, "save the file as UTF-8")]
    complaint = "a lone carriage return does not end a line", "end each line with a line feed"
    return lines, [_problem(path, n, complaint, "warning") for n, line in enumerate(lines, 1) if "\r" in line]


def _problem(path: str, line: int, complaint: _Complaint, level: Level = "error") -> Problem:
    return Problem(complaint[0], path, line, complaint[1], level)


def _is_blank_or_comment(line: str) -> bool:
    return line.strip()[:1] in ("", "#")


def _character(character: str) -> str:
    if character in " \t":
        return "a blank"
    return f"`{character}`" if character.isprintable() else f"U+{ord(character):04X}"


def _entry_error(entry: Entry, earlier: Entry | None) -> _Complaint | None:
    if not entry.command.strip():
        return f"process type `{entry.name}` has no command", f"write `{entry.name}: command`"
    if "\0" in entry.command:
        return f"a NUL byte in the command of `{entry.name}`", "remove it"
    if earlier is not None:
        return f"process type `{entry.name}` is defined twice, first in line {earlier.line}", "rename one of them"
    return None


def _why_no_process(line: str) -> _Complaint:
    name, colon, _ = line.partition(":")
    if not colon:
        return "line ignored: no colon after a name", "write `name: command`, or `#` before a comment"
    if not name.strip():
        return "line ignored: no name before the colon", "write `name: command`"
    illegal = re.search(r"[^A-Za-z0-9_-]", name.strip(" \t"))
    if illegal is not None:
        message = f"line ignored: {_character(illegal[0])} cannot stand in a name"
        return message, "use only letters a-z, digits, `_` and `-` in names"
    where = "before" if name[0] in " \t" else "after"
    return f"line ignored: a blank {where} the name `{name.strip()}`", f"remove the blank {where} the name"


def _read(line: str) -> dict[str, str]:
    """Honcho's reading of one line; ValueError if it has none."""
    return {_restored(name): _restored(value) for name, value in parse(line.translate(_PROTECTED)).items()}


def _restored(text: str) -> str:
    return re.sub(f"{_MARK}([0-9])", lambda match: _SEPARATORS[int(match[1])], text)


def _variable_error(found: dict[str, str]) -> _Complaint | None:
    for name, value in found.items():
        if "\0" in name + value:
            return f"a NUL byte in {_label(name)}", "remove it"
        if "=" in name:
            return "a `=` in the name of a variable", "write NAME=value"
    return None


def _label(name: str) -> str:
    return f"`{name}`" if name.isidentifier() else "this variable"


def _complaint(line: str, found: dict[str, str]) -> _Complaint | None:
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


def _why_dropped(line: str) -> _Complaint:
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
    message = (
        f"line ignored: {_character(illegal[0])} cannot {'begin' if illegal[0].isdecimal() else 'stand in'} a name"
    )
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


def _why_unreadable(line: str, failure: ValueError, end: int = 0) -> _Complaint:
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
