"""Removes escape sequences from output, to search it and to show it.

Rules: pure. The sequences are those of ECMA-48 (5.4, control sequences; 5.6, control strings) and ECMA-35.
"""

from __future__ import annotations

import re

# In characters.
LONGEST_PHRASE = 300

_WHOLE = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # control sequences, among them the colours
    r"|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)"  # control strings: titles, links
    r"|[ -/]+[0-~]|[0-OQ-WYZ\\`-~]"
    r")"
)
# One of which only the beginning has come, at the end of the text.
_CUT = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)\Z")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0]+")


def without_escapes(text: str, *, keep_cut: bool = False) -> str:
    """Return the text without escape sequences. Without `keep_cut`, also drop the beginning of one at its end."""
    if "\x1b" not in text:
        return text
    text = _WHOLE.sub("", text)
    return text if keep_cut else _CUT.sub("", text)


def one_phrase(text: str, longest: int = LONGEST_PHRASE) -> str:
    """Return the text as part of one line for people: without escape and control sequences, shortened if needed."""
    text = _CONTROL.sub(" ", without_escapes(text)).strip()
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
