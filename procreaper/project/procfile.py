r"""What a Procfile says, where that is not what its writer can have meant, and which processes come of it.

Rules: pure, bytes in, values out. honcho decides what a line means, and which name and port a process has. The parser
never raises: all that is wrong is a `Problem`. Only ``\n`` and ``\r\n`` end a line. What a ``.env`` file comes to is a
word of this module, since there is an `Environment` without a file too; the reading of one (`environment`) is not.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from honcho.environ import PROCFILE_LINE, expand_processes

from procreaper.errors import Level, Problem

# They tell a process who it is; nothing can override them.
OURS = ("PORT", "PS", "HONCHO_PROCESS_NAME")
# How much of a name a message shows: before a colon there may be a whole command.
LONGEST_NAME = 40
NO_PROCESS = "no process is defined"

# A message and a hint.
Complaint = tuple[str, str]


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


class Instance(NamedTuple):
    """One process to run: ``web.2`` of the type ``web``; `env` comes on top of the environment that we were given."""

    name: str
    type: str
    command: str
    quiet: bool
    env: dict[str, str]


def parse_procfile(raw: bytes, path: str) -> Procfile:
    r"""Read a Procfile: the names and commands that honcho finds, less those that are an error.

    Errors: bytes that are not UTF-8, no process, a name twice, a NUL. Warnings: a line that is neither blank nor a
    comment nor a process, a name without a command, a backslash that continues nothing, a lone ``\r``. `path` is only
    quoted.

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
            # honcho and foreman run the other processes too.
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


def split_lines(raw: bytes, path: str) -> tuple[list[str], list[Problem]]:
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
    return lines, [make_problem(path, n, complaint, "warning") for n, line in enumerate(lines, 1) if "\r" in line]


def make_problem(path: str, line: int, complaint: Complaint, level: Level = "error") -> Problem:
    """What is wrong in one line of a file."""
    return Problem(complaint[0], path, line, complaint[1], level)


def is_blank_or_comment(line: str) -> bool:
    """Whether nothing is meant to be said by a line."""
    return line.strip()[:1] in ("", "#")


def name_character(character: str) -> str:
    """A character as it is called in a message."""
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
        message = f"line ignored: {name_character(illegal[0])} cannot stand in the name `{shown}`"
        return message, "use only letters a-z, digits, `_` and `-` in names"
    where = "before" if name[0] in " \t" else "after"
    return f"line ignored: a blank {where} the name `{name.strip()}`", f"remove the blank {where} the name"
