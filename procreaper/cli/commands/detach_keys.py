r"""Recognize the keys that end `attach`, written in docker's form: `ctrl-p,ctrl-q`.

Rules: pure. A key matches as the byte that terminals send for it, and as the escape sequences of kitty and xterm, which
a program may have enabled. As in docker, the first keys of a sequence are held until the next key. If that key does not
continue the sequence, the held keys go to the process.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from procreaper.errors import USAGE_ERROR, ProcreaperError

DEFAULT = "ctrl-]"
SINGLE = re.compile(r"[!-+\--~]")
CONTROL = re.compile(r"ctrl-([a-z@\[\\\]^_])")
# Kitty also reports the release of a key, if a program has enabled that.
RELEASE = rb"(?:\x1b\[[0-9;]*:3u)*"


class Typed(NamedTuple):
    """The typed bytes for the process, and whether the detach keys follow them."""

    data: bytes
    leaves: bool


class DetachKeys:
    """Finds a sequence of keys in the input, also if it arrives in pieces.

    `name` is the sequence for people. Raises ProcreaperError if `text` is not in docker's form.
    """

    def __init__(self, text: str = DEFAULT) -> None:
        keys = [_Key.of(word, text) for word in text.split(",")]
        self.name = " ".join(key.name for key in keys)
        pattern = keys[-1].pattern + b"(?P<whole>)"
        for key in reversed(keys[:-1]):
            pattern = key.pattern + RELEASE + rb"(?:\Z|" + pattern + b")"
        self._pattern = re.compile(pattern, re.DOTALL)
        self._held = b""

    def feed(self, data: bytes) -> Typed:
        """Process typed bytes. Hold a possible beginning of the sequence until more is typed."""
        data, self._held = self._held + data, b""
        found = self._pattern.search(data)
        if found is None:
            return Typed(data, leaves=False)
        leaves = found["whole"] is not None
        if not leaves:
            self._held = data[found.start() :]
        return Typed(data[: found.start()], leaves)

    def forget(self) -> None:
        """Drop the held bytes: the run that they were for has ended."""
        self._held = b""


class _Key(NamedTuple):
    name: str
    pattern: bytes

    @classmethod
    def of(cls, word: str, text: str) -> _Key:
        if word == "DEL":
            return cls("Backspace", rb"\x7f")
        if SINGLE.fullmatch(word):
            return cls(word, re.escape(word.encode()))
        match = CONTROL.fullmatch(word)
        if match is None:
            hint = "write `ctrl-` and a letter or one of @ [ \\ ] ^ _, or a single character; `,` between two keys"
            raise ProcreaperError(f"--detach-keys {text}: `{word}` is no key", hint=hint, exit_code=USAGE_ERROR)
        byte, code = ord(match[1].upper()) & 0x1F, ord(match[1])
        pattern = rb"(?:\x%02x|\x1b\[%d;5(?::1)?u|\x1b\[27;5;%d~)" % (byte, code, code)
        return cls(f"Ctrl-{match[1].upper()}", pattern)
