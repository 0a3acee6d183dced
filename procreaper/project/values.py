r"""The values of settings: durations, sizes, and texts with variables such as ``$PORT`` in them.

Rules: pure. The JSON Schema uses the same patterns as the parsers, so that an editor and procreaper agree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

# Each unit once, the largest first. The look-aheads refuse the empty text and a line feed at the end, and keep `1m`
# apart from `1ms`.
DURATION_PATTERN = (
    r"^(?=[0-9])([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m(?!s))?"
    r"([0-9]+(\.[0-9]+)?s)?([0-9]+(\.[0-9]+)?ms)?$(?!\n)"
)
DURATION_EXAMPLES = ("500ms", "10s", "1m30s", "2h")
DURATION_HINT = 'write it as "500ms", "10s" or "1m30s"; a bare number is seconds'
# Ten years. A longer duration is a typing mistake, and could be too large for a clock.
LONGEST_DURATION = 10 * 365 * 24 * 3600.0
_SECONDS = (3600.0, 60.0, 1.0, 0.001)

SIZE_PATTERN = r"^([0-9]+(\.[0-9]+)?) ?(([kKMGT])(i?))?B$(?!\n)"
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}

_REFERENCE = r"\$(?:(?P<escaped>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|)"


class UnsetVariableError(ValueError):
    """A text uses a variable that is not set; `name` is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"`${name}` is not set")
        self.name = name


def parse_duration(value: str | float) -> float:
    """Return a duration in seconds: ``"500ms"``, ``"10s"``, ``"1m30s"``, ``"2h"``, or a bare number of seconds.

    Raises ValueError if the value is not a duration, is below 0, or is longer than ten years.

    >>> parse_duration("1m30s")
    90.0
    """
    if isinstance(value, str):
        match = re.match(DURATION_PATTERN, value)
        if match is None:
            raise ValueError(f'"{value}" is not a duration')
        amounts = (match[1], match[3], match[5], match[7])
        seconds = sum(
            float(amount.rstrip("hms")) * unit for amount, unit in zip(amounts, _SECONDS, strict=True) if amount
        )
    elif isinstance(value, bool):
        raise ValueError(f"`{str(value).lower()}` is not a duration")
    else:
        seconds = value
    # Compare before `float()`: an integer of any size can be compared with a float, but not converted into one.
    if seconds > LONGEST_DURATION:
        raise ValueError(f"{value} is longer than ten years")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{value} is not a duration: it is less than 0")
    return float(seconds)


def format_seconds(duration: float) -> str:
    """Format a duration as a plain number of seconds, to the millisecond: ``30``, ``0.5``."""
    return f"{duration:.3f}".rstrip("0").rstrip(".")


def parse_size(value: str | int) -> int:
    """Return a size in bytes, at least 1: ``"10MB"``, ``"512KiB"``, or a bare number of bytes.

    `k` is 1000 and `Ki` is 1024. Raises ValueError if the value is not a size.

    >>> parse_size("10MB")
    10000000
    """
    if isinstance(value, int):
        size = value
    else:
        match = re.match(SIZE_PATTERN, value)
        if match is None:
            raise ValueError(f'"{value}" is not a size')
        size = int(float(match[1]) * (1024 if match[5] else 1000) ** _POWERS.get(match[4], 0))
    return max(1, size)


def substitute_variables(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}`` with the values of the variables, and ``$$`` with a dollar sign.

    References in the values themselves are not replaced. Raises UnsetVariableError if a variable is not in
    `environment`, and ValueError if a ``$`` is followed by neither a name nor another ``$``.

    >>> substitute_variables("$HOST:${PORT} costs $$5", {"HOST": "db", "PORT": "5432"})
    'db:5432 costs $5'
    """

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name = match["bare"] or match["braced"]
        if name is None:
            raise ValueError("no name follows the `$`")
        if name not in environment:
            raise UnsetVariableError(name)
        return environment[name]

    return re.sub(_REFERENCE, value, text)
