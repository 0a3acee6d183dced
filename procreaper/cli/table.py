"""Format tables for people: aligned columns, also in a pipe, that are readable without colour.

Rules: pure text. If a width is given, drop the optional columns that the last column needs the room of; cut only the
last column. Write control characters as escapes, so that the terminal does not execute the text of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "
# An optional column is dropped while the last column has less width than this.
READABLE = 40
MINUTE, HOUR, DAY = 60, 3600, 86400
UNITS = ("B", "K", "M", "G", "T")


def format_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
    paint: tuple[str, Sequence[str]] | None = None,
) -> list[str]:
    """Return a line of titles and a line for each row, at most `width` columns wide.

    Align the columns named in `right` to the right. Drop the columns named in `spare` one after another while the last
    column needs their room. `paint` names a column, with an escape sequence (or an empty string) for each row.
    """
    rows = [[_escape(cell) for cell in row] for row in rows]
    header, rows = _drop_columns(header, rows, width, spare)
    widths = _widths(header, rows)
    painted = None if paint is None else header.index(paint[0])
    lines = []
    for number, row in enumerate((header, *rows)):
        cells = [
            cell.rjust(size) if title in right else cell.ljust(size)
            for title, cell, size in zip(header[:-1], row[:-1], widths[:-1], strict=True)
        ]
        room = None if width is None else _last_width(width, widths)
        last = row[-1]
        if room is not None and len(last) > room:
            last = f"{last[: room - 1]}…" if room else ""
        if painted is not None and paint is not None and number and (code := paint[1][number - 1]):
            cells[painted] = f"{code}{cells[painted]}\x1b[0m"
        lines.append(GAP.join((*cells, last)).rstrip())
    return lines


def _drop_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, spare: Sequence[str]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Drop the optional columns that there is no room for."""
    for title in spare:
        widths = _widths(header, rows)
        if width is None or _last_width(width, widths) >= min(widths[-1], READABLE):
            break
        at = header.index(title)
        header, rows = _remove_cell(header, at), [_remove_cell(row, at) for row in rows]
    return header, rows


def _remove_cell(cells: Sequence[str], at: int) -> Sequence[str]:
    return (*cells[:at], *cells[at + 1 :])


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, cells)) for cells in zip(header, *rows, strict=True)]


def _last_width(width: int, widths: Sequence[int]) -> int:
    """The width that is left for the last cell."""
    return max(0, width - sum(widths[:-1]) - len(GAP) * (len(widths) - 1))


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def format_duration(seconds: float) -> str:
    """Write a duration in its two largest units, for example `2h05m`."""
    # The clock may have been set back.
    whole = int(max(0.0, seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02}h"


def format_size(count: int) -> str:
    """Write a number of bytes in the largest unit (powers of 1024) that gives at least 1, as `top` and `free -h` do."""
    number, unit = float(count), 0
    while number >= 1024 and unit < len(UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f}{UNITS[unit]}" if unit and number < 10 else f"{number:.0f}{UNITS[unit]}"
