r"""Cuts bytes into whole lines.

Rules: pure. It changes, decodes and drops no byte; only ``\n`` ends a line. An incomplete line is held until its end
comes, until `flush`, or until it exceeds `LONGEST_LINE`.
"""

from __future__ import annotations

# A line beyond this many bytes is passed on in parts, so that an endless one cannot eat the memory.
LONGEST_LINE = 12 * 1024 * 1024
# What C's and Python's block buffers hold is a multiple of this: output that stops exactly there has been cut by a
# buffer in the middle of a line, and was not left unfinished on purpose, as a prompt is.
BLOCK = 4096


class Lines:
    """Cuts one stream at its line ends."""

    __slots__ = ("_held", "_held_parts", "_total")

    def __init__(self) -> None:
        self._held_parts: list[bytes] = []
        self._held = 0
        self._total = 0

    def feed(self, data: bytes) -> bytes:
        """Take bytes, and return all lines that they complete, as one piece, or nothing."""
        self._total += len(data)
        end = data.rfind(b"\n") + 1
        if end == len(data) and not self._held:
            return data
        if not end:
            self._hold(data)
            return self.flush() if self._held > LONGEST_LINE else b""
        whole = data[:end]
        if self._held:
            self._held_parts.append(whole)
            whole = self.flush()
        if end < len(data):
            self._hold(data[end:])
        return whole

    def flush(self) -> bytes:
        """Return the part of a line that is held, and hold it no more."""
        held = b"".join(self._held_parts)
        self._held_parts.clear()
        self._held = 0
        return held

    @property
    def unfinished(self) -> bool:
        """Whether a part of a line is held."""
        return self._held > 0

    @property
    def cut_by_a_buffer(self) -> bool:
        """Whether the stream has stopped exactly where a block buffer ends; the rest of the line is still to come."""
        return self._total % BLOCK == 0

    def _hold(self, data: bytes) -> None:
        self._held_parts.append(data)
        self._held += len(data)
