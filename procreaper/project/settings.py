"""Reads `.reaper.toml`, and finds every value that does not fit the schema.

Rules: pure, bytes in, values out, never raises. A value that does not fit is left out, so that the rest can be checked.
`broken` has the keys of these values, so that their consequences are not reported. Messages use the terms of the file.

Theory of operation. msgspec converts the whole file at once, which nearly always succeeds. Because msgspec stops at the
first mistake, a file with mistakes is then read again, key by key, and msgspec checks each value on its own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from procreaper.errors import Level, Problem
from procreaper.project.schema import Document
from procreaper.project.settings_errors import describe_mismatch, describe_unknown_key, types_of, value_types_of
from procreaper.project.toml import Keys, find_line, find_statements, format_keys, quote_text

# How the messages of tomllib show a path of keys.
QUOTE, QUOTED_COMMA = "'", "', '"
_SYNTAX_HINTS = {
    "invalid value": "put text in double quotes",
    "expected '=' after a key": "write `key = value`; a table begins with `[name]`",
    "expected newline or end of document": "write one `key = value` a line, and put text in double quotes",
    "cannot declare": "put all its keys under the first one",
    "cannot overwrite a value": "remove one of the two",
    "cannot mutate immutable": "write all of its keys in one place",
    "illegal character": "remove it",
    "expected ']'": "a table begins with `[name]`",
    "invalid initial character": "write `key = value`; a table begins with `[name]`",
    "unclosed array": "close it with `]`",
    "unclosed inline table": "close it with `}` in the same line",
    "unterminated string": "close it with a quote",
    "": "https://toml.io shows how TOML is written",
}


MISFIT: object = object()
Table = TypeVar("Table", bound=Struct)


class Settings(NamedTuple):
    """The settings that fit the schema, and the problems of the others. `broken` has the keys of the others."""

    path: str
    document: Document
    problems: tuple[Problem, ...] = ()
    broken: frozenset[Keys] = frozenset()
    text: str = ""

    def problem(
        self, keys: Keys, message: str, hint: str | None = None, level: Level = "error", value: object = None
    ) -> Problem:
        """Make a problem at the line of these keys, or of `value` in a list of several lines."""
        return Problem(message, self.path, find_line(self.text, keys, value), hint, level)

    def is_broken(self, keys: Keys) -> bool:
        """Return whether a value at, below or above these keys was left out."""
        return any(keys[: len(broken)] == broken[: len(keys)] for broken in self.broken)


def parse_settings(raw: bytes, path: str) -> Settings:
    r"""Parse a `.reaper.toml`. `path` is for messages only.

    >>> parse_settings(b'[process.web]\nrestart = "always"\n', ".reaper.toml").document.process["web"].restart
    'always'
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = Problem(f"byte 0x{raw[error.start]:02x} is not UTF-8", path, line, "save the file as UTF-8")
        return unusable_settings(problem)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return unusable_settings(_syntax_problem(error, text, path))
    try:
        settings = Settings(path, msgspec.convert(data, Document), text=text)
    except (msgspec.ValidationError, RecursionError):
        reader = _SettingsReader(Settings(path, Document(), text=text))
        document = reader.read_table(data, Document, ())
        settings = Settings(path, document, tuple(reader.problems), frozenset(reader.broken), text)
    problems = (*settings.problems, *_nul_problems(settings, data), *_control_problems(settings))
    return settings._replace(problems=tuple(sorted(problems, key=lambda problem: problem.line or 0)))


def _nul_problems(settings: Settings, data: Mapping[str, object]) -> Iterator[Problem]:
    """Find NUL characters, which no command, path or variable can contain. In TOML, a NUL is always an escape."""
    if re.search(r"\\(u0000|U00000000|x00)", settings.text):
        waiting: list[tuple[Keys, object]] = [((), data)]
        while waiting:
            keys, value = waiting.pop()
            if isinstance(value, dict):
                waiting += [((*keys, key), item) for key, item in value.items()]
            elif isinstance(value, list):
                waiting += [((*keys, index), item) for index, item in enumerate(value)]
            if "\0" in str(keys[-1] if keys else "") or (isinstance(value, str) and "\0" in value):
                yield settings.problem(keys, f"a NUL in `{format_keys(keys)}`", "remove it")


def _control_problems(settings: Settings) -> Iterator[Problem]:
    control = settings.document.control
    if control and control.http:
        # Imported here, because it imports ipaddress.
        from procreaper.project.address import HINT, parse_address

        keys = ("control", "http")
        try:
            address = parse_address(control.http)
        except ValueError as error:
            message = f"`{format_keys(keys)}` must be a host and a port, not {quote_text(control.http)}: {error}"
            yield settings.problem(keys, message, HINT)
        else:
            if not address.is_loopback:
                # All developers of the project share this file. Each of them decides alone about opening a port.
                message = (
                    f"`{format_keys(keys)}` must be an address of this machine's own, not {quote_text(address.host)}"
                )
                hint = f'for example "127.0.0.1:{address.port}"; `start --http {address}` opens it to others'
                yield settings.problem(keys, message, hint)


def unusable_settings(problem: Problem) -> Settings:
    """Return the settings of a file that is completely unusable because of `problem`."""
    return Settings(problem.path or "", Document(), (problem,), frozenset({()}))


def _syntax_problem(error: Exception, text: str, path: str) -> Problem:
    # Either a statement never ends, or the last statement contradicts an earlier one.
    line = find_statements(text).open or text.rstrip().count("\n") + 1
    if isinstance(error, RecursionError):
        return Problem("nested too deeply", path, line, "use at most four levels")
    message = str(error)
    if not isinstance(error, tomllib.TOMLDecodeError):
        return Problem("a number with too many digits", path, line, "use a smaller number")
    place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if place is not None:
        line = int(place[1])
        message = message[: place.start()]
    message = message.removesuffix(" (at end of document)")
    message = message[:1].lower() + message[1:]
    hint = next(hint for start, hint in _SYNTAX_HINTS.items() if message.startswith(start))
    message = re.sub(r"\(('.*'),?\)", lambda match: f"`{match[1].replace(QUOTED_COMMA, '.').strip(QUOTE)}`", message)
    where = "" if place is None else f" (column {place[2]})"
    return Problem(f"this is not TOML: {message}{where}", path, line, hint)


def _empty(annotation: object) -> object:
    """Return an empty list or table if the type allows one."""
    for member in value_types_of(annotation):
        kind = get_origin(member.type) or member.type
        if isinstance(kind, type) and (kind is list or issubclass(kind, Struct)):
            return kind()
    return MISFIT


class _SettingsReader:
    """Reads data key by key according to the schema, and collects the values that do not fit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.problems: list[Problem] = []
        self.broken: set[Keys] = set()

    def read_table(self, data: Mapping[str, object], table: type[Table], keys: Keys) -> Table:
        """Read a table of the schema, without the keys whose values do not fit."""
        types = types_of(table)
        found = {}
        for key, value in data.items():
            if key in types:
                fitting = self._read(value, types[key], (*keys, key))
                if fitting is not MISFIT:
                    found[key] = fitting
            else:
                self._add_problem((*keys, key), *describe_unknown_key(key, value, table, keys))
        return table(**found)

    def _read(self, value: object, annotation: object, keys: Keys) -> object:
        for member in value_types_of(annotation):
            kind, arguments = get_origin(member.type) or member.type, get_args(member.type)
            if isinstance(value, dict):
                if kind is dict:
                    return self._read_entries(value, arguments[0], arguments[1], keys)
                if isinstance(kind, type) and issubclass(kind, Struct):
                    return self.read_table(value, kind, keys)
            elif isinstance(value, list) and kind is list and (value or not (member.meta and member.meta.min_length)):
                items = [self._read(item, arguments[0], (*keys, index)) for index, item in enumerate(value)]
                return [item for item in items if item is not MISFIT]
        if not isinstance(value, dict | list):
            try:
                fitting: object = msgspec.convert(value, annotation)
            except msgspec.ValidationError:
                pass
            else:
                return fitting
        self._add_problem(keys, *describe_mismatch(value, value_types_of(annotation), keys), value)
        return MISFIT

    def _read_entries(self, data: Mapping[str, object], names: object, values: object, keys: Keys) -> dict[str, object]:
        found = {}
        for key, value in data.items():
            try:
                msgspec.convert(key, names)
            except msgspec.ValidationError:
                message = f"`{format_keys((*keys, key))}`: {quote_text(key)} is not a name"
                self._add_problem((*keys, key), message, "use only letters a-z, digits, `_` and `-` in names")
                continue
            fitting = self._read(value, values, (*keys, key))
            if fitting is MISFIT:
                # Keep the name, because other settings may refer to it.
                fitting = _empty(values)
            if fitting is not MISFIT:
                found[key] = fitting
        return found

    def _add_problem(self, keys: Keys, message: str, hint: str | None, value: object = None) -> None:
        self.problems.append(self._settings.problem(keys, message, hint, value=value))
        self.broken.add(keys)
