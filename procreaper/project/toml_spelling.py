"""Keys and values as they are written in a TOML file, for messages.

Rules: pure, and made for people: what is printed need not be read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def spell(keys: Iterable[str | int]) -> str:
    """A path of keys as it is written in the file: ``process.web.restart``."""
    parts = []
    for key in keys:
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif re.fullmatch(r"[A-Za-z0-9_-]+", key):
            parts.append(f".{key}")
        else:
            parts.append("." + quote(key))
    return "".join(parts).removeprefix(".")


def quote(text: str) -> str:
    """A text as TOML writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def as_toml(value: object) -> str:
    """A value as TOML writes it, in one line."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quote(value)
        case list():
            return f"[{', '.join(map(as_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {as_toml(item)}' for key, item in value.items())} }}"
        case _:
            return str(value)
