"""The older parts of a log file, which stand beside it: `web.log.1` is the newest of them."""

from __future__ import annotations

import os
from contextlib import suppress


def rotate_file(path: str, most: int) -> None:
    """Have the file become the newest of its older parts, of which there are then at most so many: one or more.

    Raises OSError.
    """
    for number in range(most - 1, 0, -1):
        with suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")
    os.replace(path, f"{path}.1")
