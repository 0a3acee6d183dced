"""`ps` and `ls`: what the processes of an app do and why; which apps run.

Rules: a table is for people, in a pipe too: columns are aligned, and colour means nothing that is not in words. Only on
a terminal is a line cut to its width. `--json` is for programs, and its keys stay.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from procreaper.cli.control import Place, find_all, find_apps
from procreaper.cli.problems import say
from procreaper.formats import Style

if TYPE_CHECKING:
    from procreaper.control.client import Client
    from procreaper.control.protocol import Process

STDOUT = 1
GAP = "  "
# Escape codes by state: what is as it should be, what is on its way, and what is not.
COLOURS = {
    **dict.fromkeys(("running", "healthy", "completed"), "32"),
    **dict.fromkeys(("pending", "starting", "stopping", "restarting"), "33"),
    **dict.fromkeys(("unhealthy", "failed", "skipped"), "31"),
}
MINUTE, HOUR, DAY = 60, 3600, 86400


def show_processes(place: Place, style: Style, *, json: bool) -> int:
    """Print every process of the apps of this place; the answer is the exit status. Raises NoAppError."""
    now = time.time()
    found = [(app.greeting.pid, process) for app in find_apps(place) for process in _processes(app)]
    if json:
        return _say_json([_record(pid, process, now) for pid, process in found])
    several = len({pid for pid, _ in found}) > 1
    header = [*(("APP",) if several else ()), "NAME", "STATE", "PID", "UPTIME", "RESTARTS", "PORT", "REASON"]
    rows = [[*((str(pid),) if several else ()), *_row(process, now)] for pid, process in found]
    states = [process.state for _, process in found]
    column = header.index("STATE")
    _say_table(header, rows, style, paint=(column, [COLOURS.get(state, "") for state in states]))
    return 0


def show_apps(style: Style, *, json: bool) -> int:
    """Print every app of this user; the answer is the exit status."""
    now = time.time()
    apps = []
    for app in find_all():
        processes = _processes(app)
        up = sum(process.up for process in processes)
        apps.append((app.greeting, up, len(processes)))
    if json:
        return _say_json(
            [
                {
                    "root": greeting.root,
                    "pid": greeting.pid,
                    "version": greeting.version,
                    "started_at": _moment(greeting.started_at),
                    "uptime": _seconds(now - greeting.started_at),
                    "up": up,
                    "total": total,
                }
                for greeting, up, total in apps
            ]
        )
    rows = [
        [str(greeting.pid), f"{up}/{total}", _duration(now - greeting.started_at), greeting.root]
        for greeting, up, total in apps
    ]
    _say_table(["PID", "UP", "UPTIME", "ROOT"], rows, style)
    return 0


def _processes(app: Client) -> tuple[Process, ...]:
    from procreaper.control.protocol import Look

    with app:
        return app.ask(Look(0)).processes


def _row(process: Process, now: float) -> list[str]:
    uptime = "-" if process.started_at is None else _duration(now - process.started_at)
    pid, port = (("-" if number is None else str(number)) for number in (process.pid, process.port))
    return [process.name, process.state, pid, uptime, str(process.restarts), port, process.reason]


def _record(app: int, process: Process, now: float) -> dict[str, Any]:
    """One process as programs get it."""
    started = process.started_at
    return {
        "name": process.name,
        "type": process.type,
        "state": process.state,
        "reason": process.reason,
        "up": process.up,
        "pid": process.pid,
        "run": process.run,
        "started_at": None if started is None else _moment(started),
        "uptime": None if started is None else _seconds(now - started),
        "retries": process.retries,
        "restarts": process.restarts,
        "backoff": process.backoff,
        "exit_code": process.exit_code,
        "out_of_reach": process.out_of_reach,
        "port": process.port,
        "pty": process.pty,
        "log": process.log,
        "detached": process.detached,
        "app": app,
    }


def _say_json(records: Sequence[dict[str, Any]]) -> int:
    from json import dumps

    say(dumps(records, indent=2, ensure_ascii=False))
    return 0


def _say_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    style: Style,
    *,
    paint: tuple[int, Sequence[str]] | None = None,
) -> None:
    """A line of titles and then a line for each row, whose last column is as long as there is room."""
    widths = [max(map(len, cells)) for cells in zip(header, *rows, strict=True)]
    most = _columns() if style.terminal else None
    lines = []
    for number, row in enumerate((header, *rows)):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        room = None if most is None else max(0, most - sum(widths[:-1]) - len(GAP) * len(cells))
        last = row[-1] if room is None or len(row[-1]) <= room else row[-1][: max(0, room - 1)] + "…"
        if style.colour and number and paint is not None and (code := paint[1][number - 1]):
            cells[paint[0]] = f"\x1b[{code}m{cells[paint[0]]}\x1b[0m"
        lines.append(GAP.join((*cells, last)).rstrip())
    say("\n".join(lines))


def _columns() -> int:
    try:
        return os.get_terminal_size(STDOUT).columns or 80
    except OSError:
        return 80


def _moment(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def _seconds(seconds: float) -> float:
    # A clock may have been set back.
    return round(max(0.0, seconds), 3)


def _duration(seconds: float) -> str:
    """How long something has gone on, in its two largest units."""
    whole = int(max(0.0, seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02}h"
