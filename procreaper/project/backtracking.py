r"""Finds regular expressions that may take exponential time on a line without a match.

Rules: pure, and a simple test. It finds a repeated group whose body consists of one repeated item and optional items,
as in `(\w+\s?)+`. There are 2**n ways to divide n letters among the rounds of such a group, and `re` tries all of them.
"""

from __future__ import annotations

import re

# One item of a pattern: an escape, a class, a parenthesis, a bar, a quantifier, or a character.
_ITEM = re.compile(
    r"\\(?:[xu][0-9A-Fa-f]+|.)|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?:P<\w+>|P=\w+\)|#[^)]*\)|<?[=!]|>|[aiLmsux-]*[:)]))?"
    r"|\)|\||[*+?][+?]?|\{\d*,?\d*\}[+?]?|.",
    re.DOTALL,
)


# These match at a position, without a character.
_PLACES = frozenset(("^", "$", r"\b", r"\B", r"\A", r"\Z"))
_ATOMIC, _LOOK = "(?>", ("(?=", "(?!", "(?<=", "(?<!")


class _Branch:
    """One alternative of a group: the number of items that must match, and of those that repeat without a limit."""

    def __init__(self) -> None:
        self.fixed = self.loops = 0

    def add(self, quantifier: str, *, loops: bool = False, fixed: bool = True) -> None:
        """Add an item. It repeats if its quantifier is unbounded, or by itself if `loops`."""
        if loops or _is_unbounded(quantifier):
            self.loops += 1
        elif fixed and not quantifier.startswith(("?", "*", "{0,", "{,", "{0}")):
            self.fixed += 1

    @property
    def is_ambiguous(self) -> bool:
        """Whether several rounds can match the same text as one round."""
        return self.loops > 0 and self.fixed == 0


class _Group:
    def __init__(self, opening: str, start: int) -> None:
        self.opening = opening
        self.start = start
        self.branches = [_Branch()]


def find_nested_quantifier(pattern: str) -> str | None:
    r"""Return the first group of a pattern that may take exponential time, as written; None if there is none.

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
    """Return whether a quantifier repeats without a limit and backtracks; ``++`` does not backtrack."""
    return re.fullmatch(r"(?:[*+]|\{\d*,\})\??", quantifier) is not None
