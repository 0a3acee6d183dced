r"""Durations: ``"500ms"``, ``"10s"``, ``"1m30s"``, ``"2h"``, and a bare number, which is seconds.

Rules: pure. The pattern is also that of the JSON Schema, so that an editor and procreaper say the same.
"""

from __future__ import annotations

import math
import re

# Each unit once, the largest first. The look-aheads refuse the empty text and a line feed at the end, and keep `1m`
# apart from `1ms`.
PATTERN = (
    r"^(?=[0-9])([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m(?!s))?"
    r"([0-9]+(\.[0-9]+)?s)?([0-9]+(\.[0-9]+)?ms)?$(?!\n)"
)
EXAMPLES = ("500ms", "10s", "1m30s", "2h")
# Ten years: more is a slip of the pen, and no clock has to cope with it.
LONGEST = 10 * 365 * 24 * 3600.0
HINT = 'write it as "500ms", "10s" or "1m30s"; a bare number is seconds'

_SECONDS = (3600.0, 60.0, 1.0, 0.001)


def parse_duration(value: str | float) -> float:
    """The duration in seconds. Raises ValueError for what is none, is below 0, or is longer than ten years.

    >>> parse_duration("1m30s")
    90.0
    """
    if isinstance(value, str):
        match = re.match(PATTERN, value)
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
    # An integer of any size compares with a float, but does not become one.
    if seconds > LONGEST:
        raise ValueError(f"{value} is longer than ten years")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{value} is not a duration: it is less than 0")
    return float(seconds)


def as_seconds(duration: float) -> str:
    """A duration as a plain number of seconds, to the millisecond: ``30``, ``0.5``."""
    return f"{duration:.3f}".rstrip("0").rstrip(".")
