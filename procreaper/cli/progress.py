"""One line about what is still waited for, where somebody looks on."""

from __future__ import annotations

import os
import sys

STDERR = 2
ERASE_LINE = "\r\x1b[K"


class Progress:
    """One line on a terminal, which is written over and over; elsewhere nothing. A context manager that removes it."""

    def __init__(self) -> None:
        self._terminal = os.isatty(STDERR)
        self._shown = ""

    def show(self, text: str) -> None:
        """Show this line instead of the one before."""
        if not self._terminal or text == self._shown:
            return
        columns = os.get_terminal_size(STDERR).columns or 80
        cut = text if len(text) < columns else text[: columns - 2] + "…"
        self._shown = text
        self._write(ERASE_LINE + cut)

    def clear(self) -> None:
        """Remove the line, before something else is printed."""
        if self._shown:
            self._shown = ""
            self._write(ERASE_LINE)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
