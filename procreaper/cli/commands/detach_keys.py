r"""The keys that leave `attach`, in docker's form: `ctrl-p,ctrl-q`.

Rules: pure. A key is found as the byte that terminals send for it, and as the sequences of kitty and xterm, which a
program may have asked for. The first keys of a sequence of several wait for the next key, as they do in docker: they
are for the process where that is another one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from procreaper.errors import USAGE_ERROR, ProcreaperError

DEFAULT = "ctrl-]"
SINGLE = re.compile(r"[!-+\--~]")
CONTROL = re.compile(r"ctrl-([a-z@\[\\\]^_])")
# Kitty also reports that a key is released, where a program has asked for that.
RELEASE = rb"(?:\x1b\[[0-9;]*:3u)*"


class Typed(NamedTuple):
    """What of the typed bytes is for the process, and whether the keys that leave stand behind it."""

    data: bytes
    leaves: bool


class DetachKeys:
    """A sequence of keys, found in what is typed, also where it comes in pieces.

    `name` is the sequence for people. Raises ProcreaperError where `text` is not in docker's form.
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
        """Take what was typed. What may be the beginning of the sequence is kept until more is typed."""
        data, self._held = self._held + data, b""
        found = self._pattern.search(data)
        if found is None:
            return Typed(data, leaves=False)
        leaves = found["whole"] is not None
        if not leaves:
            self._held = data[found.start() :]
        return Typed(data[: found.start()], leaves)

    def forget(self) -> None:
        """Keep nothing of what was typed: the process that it was for has ended."""
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
