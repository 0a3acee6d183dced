"""Merge warnings that differ only in the process that they are about.

Rules: pure. The process of a warning is the first name after an `of`: "`watch` of `web` is left out". A merged warning
has the line of the first one. Only warnings with the same remedy are merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from procreaper.errors import Problem

_SUBJECT = re.compile(r" of (`[^`]+`)(?!`)")


def together(problems: Iterable[Problem]) -> list[Problem]:
    """Merge the problems that differ only in their process, and remove duplicates. Keeps the order.

    >>> [problem.message for problem in together([Problem("`pty` of `web` is lost"), Problem("`pty` of `db` is lost")])]
    ['`pty` of `web`, `db` is lost']
    """
    found: dict[Problem, dict[str, None]] = {}
    lines: dict[Problem, int | None] = {}
    for problem in problems:
        before, name, after = _parts(problem.message)
        # The problem without its line, and with a NUL in place of the process name.
        template = problem._replace(message=f"{before}\0{after}" if name else before, line=None)
        lines.setdefault(template, problem.line)
        names = found.setdefault(template, {})
        if name:
            names[name] = None
    return [
        template._replace(message=template.message.replace("\0", ", ".join(names)), line=lines[template])
        for template, names in found.items()
    ]


def _parts(message: str) -> tuple[str, str, str]:
    match = _SUBJECT.search(message)
    return (message, "", "") if match is None else (message[: match.start(1)], match[1], message[match.end(1) :])
