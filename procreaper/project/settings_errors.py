"""Messages and hints for keys and values in `.reaper.toml` that do not fit the schema.

Rules: pure. A message names the expected and the actual value in the terms of the schema. A hint can be copied into the
file. A message never shows the value of an environment variable, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, UnsetType

from procreaper.errors import did_you_mean
from procreaper.project.schema import Document, ProcessSettings
from procreaper.project.toml import Keys, format_keys, format_value, quote_text

LONGEST_QUOTE = 40
# The only string in a table `env` that is not an environment variable.
PARSER: Keys = ("env", "parser")


class ValueType(NamedTuple):
    """One of the types that a value may have, with the descriptions of the schema."""

    type: object
    expected: str | None = None
    hint: str | None = None
    words: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = {}
    examples: tuple[object, ...] = ()
    meta: Meta | None = None


@cache
def types_of(table: type[Struct]) -> Mapping[str, object]:
    """Return the type of each key of a table."""
    # Cached, because msgspec evaluates the annotations at each call.
    return {field.name: field.type for field in msgspec.structs.fields(table)}


@cache
def value_types_of(annotation: object) -> tuple[ValueType, ...]:
    """Split a type of the schema into the members of its unions, each with the descriptions around it."""
    if get_origin(annotation) is Annotated:
        inner, *metas = get_args(annotation)
        return tuple(_add_descriptions(member, metas) for member in value_types_of(inner))
    if get_origin(annotation) in (Union, UnionType):
        parts = (part for part in get_args(annotation) if part is not UnsetType)
        return tuple(member for part in parts for member in value_types_of(part))
    words = get_args(annotation) if get_origin(annotation) is Literal else ()
    return (ValueType(annotation, words=words),)


def _add_descriptions(member: ValueType, metas: Iterable[object]) -> ValueType:
    for meta in metas:
        if isinstance(meta, Meta):
            extra = meta.extra or {}
            member = member._replace(
                expected=extra.get("expected", member.expected),
                hint=extra.get("hint", member.hint),
                words=extra.get("words", member.words),
                synonyms=extra.get("synonyms", member.synonyms),
                examples=tuple(meta.examples or member.examples),
                meta=member.meta or meta,
            )
    return member


def describe_unknown_key(key: str, value: object, table: type[Struct], keys: Keys) -> tuple[str, str | None]:
    """Return a message and a hint for a key that the table does not have."""
    fields = types_of(table)
    message = f"there is no key `{format_keys((*keys, key))}`"
    if table is ProcessSettings and key.isdecimal() and isinstance(value, dict):
        return message, f"all instances share the settings of their type: write `[{format_keys(keys)}]`"
    if table is Document and (hint := _find_table(key, value)) is not None:
        return message, hint
    for name, annotation in fields.items():
        if key.lower() in _foreign_names(annotation):
            return message, f"did you mean `{name}`?"
    return message, did_you_mean(key, fields)


def _find_table(key: str, value: object) -> str | None:
    """Return a hint with the right table for a key at the top of the file."""
    of_process = set(ProcessSettings.__struct_fields__)
    if not isinstance(value, dict) and key not in types_of(Document):
        meant = key if key in of_process else _find_nearest(key, of_process)
        if meant is not None:
            return f"write it under `[process.NAME]`, or under `[defaults]` for all processes: `{meant} = ...`"
    if isinstance(value, dict) and value.keys() and value.keys() <= of_process:
        # The key is either a misspelling of `defaults`, or the name of a process.
        return None if _find_nearest(key, ("defaults", "default")) else f"write `[process.{key}]`"
    if isinstance(value, dict) and key in of_process:
        return f"write `[process.NAME.{key}]`, or `[defaults.{key}]` for all processes"
    return None


def _find_nearest(key: str, known: Iterable[str]) -> str | None:
    """Return the known word that is very similar, if there is one."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(key.lower(), sorted(known), 1, 0.75)), None)


def _foreign_names(annotation: object) -> tuple[str, ...]:
    """Return the names of this key in other tools."""
    if get_origin(annotation) is not Annotated:
        return ()
    extras = (meta.extra or {} for meta in get_args(annotation)[1:] if isinstance(meta, Meta))
    return tuple(name for extra in extras for name in extra.get("also", ()))


def describe_mismatch(value: object, members: tuple[ValueType, ...], keys: Keys) -> tuple[str, str | None]:
    """Return a message and a hint for a value that does not fit."""
    name, words = format_keys(keys), [word for member in members for word in member.words]
    if value == "" and any(member.meta is not None and member.meta.min_length for member in members):
        return f"`{name}` must not be empty", "leave it out, or give it a value"
    *first, last = dict.fromkeys(text for member in members for text in _describe_expected(member))
    message = f"`{name}` must be {', '.join(first) + ' or ' if first else ''}{last}, not {_describe_value(value, keys)}"
    return message, _describe_remedy(value, members, words, str(keys[-1]) if isinstance(keys[-1], str) else None)


def _describe_remedy(value: object, members: tuple[ValueType, ...], words: list[str], key: str | None) -> str | None:
    types = {get_origin(member.type) or member.type for member in members}
    if "never" in words and isinstance(value, bool):
        return f"write {quote_text('always' if value else 'never')}"
    if isinstance(value, str) and (
        (bool in types and value in ("true", "false")) or (int in types and re.fullmatch("[0-9]{1,9}", value))
    ):
        return f"write it without the quotes: `{f'{key} = ' if key else ''}{value}`"
    if words and isinstance(value, str):
        synonyms = {word: meant for member in members for word, meant in member.synonyms.items()}
        meant = synonyms.get(value.lower())
        return f"did you mean `{meant}`?" if meant else did_you_mean(value, words, otherwise=False)
    if (hint := next((member.hint for member in members if member.hint), None)) is not None:
        return hint
    if isinstance(value, str) and list in types and key:
        return f"write `{key} = [{quote_text(value)}]`"
    if examples := next((member.examples for member in members if member.examples), ()):
        return (
            f"for example `{key} = {format_value(examples[0])}`" if key else f"for example {format_value(examples[0])}"
        )
    if isinstance(value, int | float) and str in types and key:
        return f"put it in double quotes: `{key} = {quote_text(format_value(value))}`"
    return f"for example `{key} = 2`" if int in types and key else None


def _describe_expected(member: ValueType) -> tuple[str, ...]:
    """Return the valid words, or else one phrase for the valid values."""
    if member.words and member.expected is None:
        return tuple(f"`{word}`" for word in member.words)
    return (member.expected or _describe_type(member),)


def _describe_type(member: ValueType) -> str:
    kind = get_origin(member.type) or member.type
    if kind is int:
        lowest = member.meta.ge if member.meta is not None else None
        highest = member.meta.le if member.meta is not None else None
        number = "a whole number"
        if lowest is not None:
            number += f" from {lowest} to {highest}" if highest is not None else f" of at least {lowest}"
        return number
    names = {str: "a string", bool: "`true` or `false`", float: "a number", list: "a list", dict: "a table"}
    return names.get(kind, "a table") if isinstance(kind, type) else "a value"


def _describe_value(value: object, keys: Keys) -> str:
    match value:
        case str() if "env" in keys and keys != PARSER:
            return "a string"
        case bool() | int() | float():
            text = format_value(value)
        case str():
            text = quote_text(value)
        case dict():
            return "a table"
        case list():
            return "a list" if value else "an empty list"
        case _:
            return "a date or a time"
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
