"""What somebody may have meant who wrote a name that there is not.

Rules: pure; only ever needed for a mistake, so `difflib` is imported when it comes to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# How many names a hint lists.
MOST_WORDS = 20


def enumerate_words(words: Iterable[str], conjunction: str = "or") -> str:
    """`a`, `b` or `c`, each in backticks."""
    *first, last = [f"`{word}`" for word in words]
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def did_you_mean(name: str, known: Iterable[str], *, otherwise: bool = True) -> str | None:
    """A hint: the known name that is nearest, or else (unless not `otherwise`) which there are."""
    from difflib import get_close_matches

    known = list(dict.fromkeys(known))
    by_lower_case = {item.lower(): item for item in known}
    # Letters that have changed places are the likeliest mistake, but not the nearest for difflib.
    close = [item for item in by_lower_case if sorted(item) == sorted(name.lower())]
    close = close or get_close_matches(name.lower(), by_lower_case, 1)
    if close:
        return f"did you mean `{by_lower_case[close[0]]}`?"
    return list_words(known) if otherwise else None


def list_words(known: Sequence[str]) -> str | None:
    """A hint: which names there are; the first of them, where there are many."""
    if not known:
        return None
    if len(known) > MOST_WORDS:
        return f"there is `{'`, `'.join(known[:MOST_WORDS])}` and {len(known) - MOST_WORDS} more"
    return f"there is {enumerate_words(known, 'and')}"
