"""``$NAME`` and ``${NAME}`` in a text, and ``$$`` for a dollar sign.

Rules: pure. Nothing is guessed: a variable that is not set, and a dollar sign that begins neither, raise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = r"\$(?:(?P<escaped>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|)"


class UnsetVariableError(ValueError):
    """A text uses a variable that is not set; `name` is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"`${name}` is not set")
        self.name = name


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """The text with its variables replaced, once: a value is not looked at again.

    Raises UnsetVariableError for a variable that is not in `environment`, ValueError for a lone ``$``.

    >>> substitute("$HOST:${PORT} costs $$5", {"HOST": "db", "PORT": "5432"})
    'db:5432 costs $5'
    """

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name = match["bare"] or match["braced"]
        if name is None:
            raise ValueError("`$` stands before no name")
        if name not in environment:
            raise UnsetVariableError(name)
        return environment[name]

    return re.sub(_REFERENCE, value, text)
