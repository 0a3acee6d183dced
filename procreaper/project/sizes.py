r"""Sizes: ``"10MB"``, ``"512KiB"``, and a bare number, which is bytes.

Rules: pure. The pattern is also that of the JSON Schema, so that an editor and procreaper say the same.
"""

from __future__ import annotations

import re

PATTERN = r"^([0-9]+(\.[0-9]+)?) ?(([kKMGT])(i?))?B$(?!\n)"
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(value: str | int) -> int:
    """The size in bytes, 1 at least: `k` is 1000 and `Ki` 1024. Raises ValueError for what is none.

    >>> parse_size("10MB")
    10000000
    """
    if isinstance(value, int):
        size = value
    else:
        match = re.match(PATTERN, value)
        if match is None:
            raise ValueError(f'"{value}" is not a size')
        size = int(float(match[1]) * (1024 if match[5] else 1000) ** _POWERS.get(match[4], 0))
    return max(1, size)
