"""The older parts of a log file, beside it: `web.log.1` is the newest of them."""

from __future__ import annotations

import os
from contextlib import suppress


def rotate_file(path: str, most: int) -> None:
    """Rotate `path` to `path.1`, shift the older parts, and keep at most `most` of them (at least one).

    Raises OSError.
    """
    for number in range(most - 1, 0, -1):
        with suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")
    os.replace(path, f"{path}.1")
