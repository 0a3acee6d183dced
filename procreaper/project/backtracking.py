r"""Whether a regular expression may take exponential time on a line that it does not match.

Rules: pure, and a simple test: it finds a repeated group whose body is, but for what may be absent, one repeated item,
as in `(\w+\s?)+`. A run of letters then splits among the rounds in 2**n ways, and `re` tries them all.
"""

from __future__ import annotations

import re

# One item of a pattern: an escape, a class, a parenthesis, a bar, a quantifier, or a character.
_ITEM = re.compile(
    r"\\(?:[xu][0-9A-Fa-f]+|.)|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?:P<\w+>|P=\w+\)|#[^)]*\)|<?[=!]|>|[aiLmsux-]*[:)]))?"
    r"|\)|\||[*+?][+?]?|\{\d*,?\d*\}[+?]?|.",
    re.DOTALL,
)


# These match at a place, and no character.
_PLACES = frozenset(("^", "$", r"\b", r"\B", r"\A", r"\Z"))
_ATOMIC, _LOOK = "(?>", ("(?=", "(?!", "(?<=", "(?<!")


class _Branch:
    """One alternative of a group: `fixed` items in it match at least once, and `loops` match as often as one likes."""

    def __init__(self) -> None:
        self.fixed = self.loops = 0

    def add(self, quantifier: str, *, loops: bool = False, fixed: bool = True) -> None:
        """Add an item, which `loops` by itself, or by its quantifier."""
        if loops or _is_unbounded(quantifier):
            self.loops += 1
        elif fixed and not quantifier.startswith(("?", "*", "{0,", "{,", "{0}")):
            self.fixed += 1

    @property
    def is_ambiguous(self) -> bool:
        """Whether several rounds of it match what one does."""
        return self.loops > 0 and self.fixed == 0


class _Group:
    def __init__(self, opening: str, start: int) -> None:
        self.opening = opening
        self.start = start
        self.branches = [_Branch()]


def find_nested_quantifier(pattern: str) -> str | None:
    r"""The first group of a pattern that may take exponential time, as it is written; None where there is none.

    >>> nested_quantifier(r"ready (\w+\s?)+!"), nested_quantifier(r"ready (\w+,)+")
    ('(\\w+\\s?)+', None)
    """
    items = [(match[0], match.start()) for match in _ITEM.finditer(pattern)]
    groups = [_Group("", 0)]
    for (item, start), (following, _) in zip(items, [*items[1:], ("", 0)], strict=False):
        quantifier = following if _is_quantifier(following) else ""
        if item == "|":
            groups[-1].branches.append(_Branch())
        elif item.startswith("(") and (item == "(" or not item.endswith(")")):
            groups.append(_Group(item, start))
        elif item == ")" and len(groups) > 1:
            group = groups.pop()
            is_ambiguous = group.opening != _ATOMIC and any(branch.is_ambiguous for branch in group.branches)
            if is_ambiguous and _is_unbounded(quantifier):
                return pattern[group.start : start + 1 + len(quantifier)]
            if group.opening not in _LOOK:
                fixed = all(branch.fixed for branch in group.branches) or group.opening == _ATOMIC
                groups[-1].branches[-1].add(quantifier, loops=is_ambiguous, fixed=fixed)
        elif not _is_quantifier(item) and not item.startswith("(") and item not in _PLACES:
            groups[-1].branches[-1].add(quantifier)
    return None


def _is_quantifier(item: str) -> bool:
    return item[:1] in ("*", "+", "?") or re.match(r"\{(?:\d+,?|\d*,\d*)\}", item) is not None


def _is_unbounded(quantifier: str) -> bool:
    """Whether it repeats without a limit, and gives back what it took; ``++`` does not."""
    return re.fullmatch(r"(?:[*+]|\{\d*,\})\??", quantifier) is not None
