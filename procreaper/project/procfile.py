r"""The Procfile: its process types, their instances, and warnings about lines that look unintended.

Rules: pure, bytes in, values out. honcho decides the meaning of a line, and the name and port of a process. The parser
never raises: every mistake is a `Problem`. Only ``\n`` and ``\r\n`` end a line. The helpers for lines and messages also
serve `env_files`.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from honcho.environ import PROCFILE_LINE, expand_processes

from procreaper.errors import Level, Problem

# These variables identify a process. No setting can override them.
OURS = ("PORT", "PS", "HONCHO_PROCESS_NAME")
# A message shows at most this many characters of a name, because the text before a colon may be a whole command.
LONGEST_NAME = 40
NO_PROCESS = "no process is defined"

# A message and a hint.
Complaint = tuple[str, str]


class Entry(NamedTuple):
    """A process type: one line ``name: command`` of the Procfile."""

    name: str
    command: str
    line: int


class Procfile(NamedTuple):
    """The process types of a Procfile, in the order of the file, and its problems."""

    path: str
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


class Instance(NamedTuple):
    """One process to run, such as ``web.2`` of the type ``web``. `env` is added to our own environment."""

    name: str
    type: str
    command: str
    quiet: bool
    env: dict[str, str]


def parse_procfile(raw: bytes, path: str) -> Procfile:
    r"""Parse a Procfile: return the names and commands that honcho finds, without the erroneous ones.

    Errors: bytes that are not UTF-8, no process, a name twice, a NUL. Warnings: a line that is neither blank nor a
    comment nor a process, a name without a command, a backslash at the end of a line, a lone ``\r``. `path` is for
    messages only.

    >>> parse_procfile(b"web: python app.py\n", "Procfile").entries
    (Entry(name='web', command='python app.py', line=1),)
    """
    lines, problems = split_lines(raw, path)
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if is_blank_or_comment(line):
            continue
        match = PROCFILE_LINE.match(line) or re.fullmatch(r"([A-Za-z0-9_-]+):()", line)
        if match is None:
            problems.append(make_problem(path, number, _explain_ignored(line), "warning"))
            continue
        entry = Entry(match[1], match[2], number)
        if not entry.command.strip():
            # A warning only, because honcho and foreman run the other processes.
            complaint = (
                f"line ignored: no command after `{entry.name}:`",
                f"write `{entry.name}: command`, or remove it",
            )
            problems.append(make_problem(path, number, complaint, "warning"))
            continue
        error = _find_error(entry, entries.get(entry.name))
        if error is not None:
            problems.append(make_problem(path, number, error))
            continue
        entries[entry.name] = entry
        if entry.command.endswith("\\"):
            message = f"the backslash at the end of `{entry.name}` does not join the next line to it"
            problems.append(Problem(message, path, number, "write the whole command in one line", "warning"))
    if not entries and all(problem.level == "warning" for problem in problems):
        problems.append(Problem(NO_PROCESS, path, None, "add a line such as `web: command`"))
    return Procfile(path, tuple(entries.values()), tuple(problems))


def make_instances(
    entries: Iterable[Entry],
    *,
    concurrency: Mapping[str, int],
    environment: Mapping[str, str],
    quiet: Collection[str],
    port: int,
) -> tuple[Instance, ...]:
    """Return the processes to run, with honcho's names and ports: `port`, +100 per type, +1 per instance.

    A type that is not in `concurrency` runs once. A type with 0 instances still takes up its hundred ports. `quiet` has
    names of types or instances. `environment` cannot override ``PORT``, ``HONCHO_PROCESS_NAME`` and ``PS``, which is
    foreman's variable for the name of the process.
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


def split_lines(raw: bytes, path: str) -> tuple[list[str], list[Problem]]:
    """Return the lines of a UTF-8 file, without a BOM, and its problems. A file in another encoding has no lines."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        lines = re.split(r"\r?\n", raw.decode())
    except UnicodeDecodeError as error:
        start = raw.rfind(b"\n", 0, error.start) + 1
        column = len(raw[start : error.start].decode()) + 1
        message = f"byte 0x{raw[error.start]:02x} in column {column} is not UTF-8"
        return [], [Problem(message, path, raw.count(b"\n", 0, error.start) + 1, "save the file as UTF-8")]
    complaint = "a lone carriage return does not end a line", "end each line with a line feed"
    return lines, [make_problem(path, n, complaint, "warning") for n, line in enumerate(lines, 1) if "\r" in line]


def make_problem(path: str, line: int, complaint: Complaint, level: Level = "error") -> Problem:
    """Make a problem of one line of a file."""
    return Problem(complaint[0], path, line, complaint[1], level)


def is_blank_or_comment(line: str) -> bool:
    """Return whether a line is blank or a comment."""
    return line.strip()[:1] in ("", "#")


def name_character(character: str) -> str:
    """Return how messages call a character: a blank, the character itself, or its code point."""
    if character in " \t":
        return "a blank"
    return f"`{character}`" if character.isprintable() else f"U+{ord(character):04X}"


def _find_error(entry: Entry, earlier: Entry | None) -> Complaint | None:
    if "\0" in entry.command:
        return f"a NUL byte in the command of `{entry.name}`", "remove it"
    if earlier is not None:
        return f"process type `{entry.name}` is defined twice, first in line {earlier.line}", "rename one of them"
    return None


def _explain_ignored(line: str) -> Complaint:
    name, colon, _ = line.partition(":")
    if not colon:
        return "line ignored: no colon after a name", "write `name: command`, or `#` before a comment"
    if not name.strip():
        return "line ignored: no name before the colon", "write `name: command`"
    illegal = re.search(r"[^A-Za-z0-9_-]", name.strip(" \t"))
    if illegal is not None:
        shown = "".join(letter if letter.isprintable() else "?" for letter in name.strip(" \t"))
        shown = shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}..."
        message = f"line ignored: {name_character(illegal[0])} is not allowed in the name `{shown}`"
        return message, "use only letters a-z, digits, `_` and `-` in names"
    where = "before" if name[0] in " \t" else "after"
    return f"line ignored: a blank {where} the name `{name.strip()}`", f"remove the blank {where} the name"
