"""`ps` and `ls`: list the processes of an app with their states, once or until Ctrl-C; list the running apps.

Rules: a table is for people. It is cut to the width, and refreshed, only on a terminal. `--json` is for programs, and
its keys never change. CPU and memory are measured here, so the app does no work for that.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from procreaper.cli.find_app import (
    AppSelector,
    NoAppError,
    ask_status,
    assign_names,
    find_all_apps,
    find_apps,
    interruptible,
    warn_of_leftovers,
)
from procreaper.cli.messages import print_problems, print_result
from procreaper.cli.table import format_duration, format_size, format_table
from procreaper.errors import ProcreaperError
from procreaper.output.text import Style
from procreaper.runtime.system.usage import Usage, measure_usage

if TYPE_CHECKING:
    from procreaper.remote.api.protocol import Greeting, ProcessStatus
    from procreaper.remote.control.client import Client

# By pid. None, the pid of a process that does not run, is never a key.
Usages = Mapping[int | None, Usage]
STDOUT = 1
HEADER = ("NAME", "STATE", "PID", "UPTIME", "CPU", "MEMORY", "RETRIES", "RESTARTS", "PORT", "REASON")
APP_KEYS = ("root", "pid", "version", "started_at", "uptime", "up", "total")
# The columns that are dropped on a narrow screen, in this order, to make room for the reason.
SPARE = ("RETRIES", "MEMORY", "CPU", "RESTARTS", "UPTIME", "PORT", "PID")
NUMBERS = ("PID", "UPTIME", "CPU", "MEMORY", "RETRIES", "RESTARTS", "PORT")
# With `-w`: seconds between two refreshes without a change, and the shortest time between two refreshes.
PERIOD, PAUSE = 2.0, 0.1
# The alternate screen, without line wrapping: a wrapped line would move all lines below it.
OTHER_SCREEN, BACK = "\x1b[?1049h\x1b[?7l", "\x1b[?7h\x1b[?1049l"
FROM_THE_TOP, ERASE_LINE, ERASE_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def show_processes(selector: AppSelector, names: Sequence[str], style: Style, *, json: bool) -> int:
    """Print the processes of these names (none: all) in the selected apps; return the exit status.

    Raises NoAppError, and RefusedError if a name matches no process.
    """
    now = time.time()
    seen, silent = ask_status(assign_names(names, _find_apps_with_lines(selector, style)))
    if not seen:
        hint = "`procreaper start` starts it again"
        raise silent[0][1] if silent else ProcreaperError("the app has ended just now", hint=hint)
    print_problems(error for _, error in silent)
    found = [(app.greeting.pid, process) for app in seen for process in app.processes]
    processes = [process for _, process in found]
    warn_of_leftovers(selector.root, processes, (process.pid for process in processes))
    taken = _measure(process for _, process in found)
    if json:
        return _print_json([_to_json(pid, process, taken.get(process.pid), now) for pid, process in found])
    shares = {pid: _average_share(process, taken[pid], now) for _, process in found if (pid := process.pid) in taken}
    print_result("\n".join(_lines(found, taken, shares, style, now)))
    return 0


def watch_processes(selector: AppSelector, names: Sequence[str], style: Style) -> int:
    """Show the processes until Ctrl-C; return the exit status. Raises as `show_processes` does."""
    if not style.terminal:
        hint = "leave out `-w` to print the list once, or use `--json`"
        raise ProcreaperError("`ps -w` needs a terminal", hint=hint)
    view = _View(assign_names(names, _find_apps_with_lines(selector, style)), style)
    try:
        with interruptible():
            sys.stdout.write(OTHER_SCREEN)
            view.show()
            while view.apps:
                view.wait()
                view.show()
    except KeyboardInterrupt:
        return 0
    finally:
        sys.stdout.write(BACK)
        sys.stdout.flush()
    print_result("the app has ended")
    return 0


def _find_apps_with_lines(selector: AppSelector, style: Style) -> list[Client]:
    """Find the selected apps. Add to a NoAppError the last lines of the process that caused the end of the last app."""
    try:
        return find_apps(selector)
    except NoAppError as error:
        if error.last is not None and error.last.name is not None:
            from procreaper.cli.commands.logs import last_lines

            error.lines = last_lines(error.last, error.last.name, style)
        raise


def show_apps(style: Style, *, json: bool) -> int:
    """Print every app of this user; return the exit status."""
    now = time.time()
    clients, silent = find_all_apps()
    seen, hanging = ask_status([(app, ()) for app in clients])
    print_problems(error for _, error in hanging)
    apps: list[tuple[Greeting, int | None, int | None]] = [
        (app.greeting, sum(process.up for process in app.processes), len(app.processes)) for app in seen
    ]
    apps += [(app.greeting, None, None) for app, _ in hanging]
    if json:
        return _print_json(
            [
                {
                    "root": greeting.root,
                    "pid": greeting.pid,
                    "version": greeting.version,
                    "started_at": _to_iso(greeting.started_at),
                    "uptime": _seconds(now - greeting.started_at),
                    "up": up,
                    "total": total,
                }
                for greeting, up, total in apps
            ]
            + [dict.fromkeys(APP_KEYS) | {"root": app.root, "pid": app.pid} for app in silent]
        )
    rows = [
        [
            str(greeting.pid),
            "-" if up is None else f"{up}/{total}",
            format_duration(now - greeting.started_at),
            greeting.root,
        ]
        for greeting, up, total in apps
    ]
    rows += [[_or_dash(app.pid), "-", "-", app.root or "-"] for app in silent]
    print_result(
        "\n".join(
            format_table(
                ["PID", "UP", "UPTIME", "ROOT"], rows, width=_table_width(style), right=("PID", "UP", "UPTIME")
            )
        )
    )
    return 0


class _View:
    """Shows the current state of the selected processes on the alternate screen."""

    def __init__(self, asked: Iterable[tuple[Client, tuple[str, ...]]], style: Style) -> None:
        from procreaper.remote.api.protocol import FollowRequest

        self._style = style
        self._processes = {
            app: {item.name: item for item in app.ask(FollowRequest(0, its)).processes} for app, its in asked
        }
        self.apps = list(self._processes)
        self._before: tuple[float, Usages] = (0.0, {})

    def wait(self) -> None:
        """Wait until a process changes, or PERIOD has passed."""
        from procreaper.remote.control.client import GoneError

        ready, _, _ = select.select(self.apps, [], [], PERIOD)
        if ready:
            # Many changes may come at once: show them together.
            time.sleep(PAUSE)
        for app in ready:
            try:
                self._take(app)
            except GoneError:
                self.apps.remove(app)
                app.close()

    def show(self) -> None:
        now, clock = time.time(), time.monotonic()
        found = [(app.greeting.pid, process) for app in self.apps for process in self._processes[app].values()]
        taken = _measure(process for _, process in found)
        since, before = self._before
        shares: dict[int | None, float] = {}
        for _, process in found:
            pid = process.pid
            if pid in taken and pid in before and clock > since:
                shares[pid] = (taken[pid].cpu_seconds - before[pid].cpu_seconds) / (clock - since)
            elif pid in taken:
                shares[pid] = _average_share(process, taken[pid], now)
        if clock >= since + PERIOD:
            self._before = (clock, taken)
        lines = _lines(found, taken, shares, self._style, now)[: os.get_terminal_size(STDOUT).lines - 1]
        screen = "".join(f"{line}{ERASE_LINE}\n" for line in lines)
        sys.stdout.write(f"{FROM_THE_TOP}{screen}{ERASE_BELOW}")
        sys.stdout.flush()

    def _take(self, app: Client) -> None:
        from procreaper.remote.api.protocol import RemovedNotice, StatusNotice

        for notice in app.arrived():
            if isinstance(notice, StatusNotice):
                self._processes[app][notice.process.name] = notice.process
            elif isinstance(notice, RemovedNotice):
                self._processes[app].pop(notice.name, None)


def _lines(
    found: Sequence[tuple[int, ProcessStatus]],
    taken: Usages,
    shares: Mapping[int | None, float],
    style: Style,
    now: float,
) -> list[str]:
    several = len({pid for pid, _ in found}) > 1
    header = [*(("APP",) if several else ()), *HEADER]
    rows = [
        [*((str(pid),) if several else ()), *_row(process, taken.get(process.pid), shares.get(process.pid), now)]
        for pid, process in found
    ]
    colours = _colours() if style.colour else {}
    codes = [colours.get(process.state, "") for _, process in found]
    return format_table(
        header, rows, width=_table_width(style), right=(*NUMBERS, "APP"), spare=SPARE, paint=("STATE", codes)
    )


def _colours() -> Mapping[str, str]:
    """Map each state to a colour: green for good, yellow for in transition, red for failed."""
    # Imported here: a pipe needs no colours.
    from colorama import Fore

    return {
        **dict.fromkeys(("running", "healthy", "completed"), Fore.GREEN),
        **dict.fromkeys(("pending", "starting", "stopping", "restarting"), Fore.YELLOW),
        **dict.fromkeys(("unhealthy", "failed", "skipped"), Fore.RED),
    }


def _row(process: ProcessStatus, taken: Usage | None, share: float | None, now: float) -> list[str]:
    return [
        process.name,
        process.state,
        _or_dash(process.pid),
        "-" if process.started_at is None else format_duration(now - process.started_at),
        "-" if share is None else f"{100 * max(0.0, share):.1f}%",
        "-" if taken is None else format_size(taken.resident_bytes),
        str(process.retries),
        str(process.restarts),
        _or_dash(process.port),
        # Do not repeat the state.
        "" if process.reason == process.state else process.reason,
    ]


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _measure(processes: Iterable[ProcessStatus]) -> Usages:
    """Measure each process with all its descendants, by pid."""
    taken = measure_usage({str(process.pid): process.pid for process in processes if process.pid is not None})
    return {int(pid): its for pid, its in taken.items()}


def _average_share(process: ProcessStatus, taken: Usage, now: float) -> float:
    """Return the average share of a processor since the start of the process, as ps(1) does."""
    started = now if process.started_at is None else process.started_at
    return taken.cpu_seconds / max(0.01, now - started)


def _to_json(app: int, process: ProcessStatus, taken: Usage | None, now: float) -> dict[str, Any]:
    """Make the JSON object of one process: times in seconds, memory in bytes."""
    started = process.started_at
    return {
        "name": process.name,
        "type": process.type,
        "state": process.state,
        "reason": process.reason,
        "up": process.up,
        "pid": process.pid,
        "run": process.run,
        "started_at": None if started is None else _to_iso(started),
        "uptime": None if started is None else _seconds(now - started),
        "retries": process.retries,
        "restarts": process.restarts,
        "backoff": process.backoff,
        "exit_code": process.exit_code,
        "out_of_reach": process.out_of_reach,
        "port": process.port,
        "cpu": None if taken is None else _seconds(taken.cpu_seconds),
        "memory": None if taken is None else taken.resident_bytes,
        "pty": process.pty,
        "log": process.log,
        "detached": process.detached,
        "app": app,
    }


def _print_json(records: Sequence[dict[str, Any]]) -> int:
    from json import dumps

    print_result(dumps(records, indent=2, ensure_ascii=False))
    return 0


def _table_width(style: Style) -> int | None:
    if not style.terminal:
        return None
    try:
        return os.get_terminal_size(STDOUT).columns or 80
    except OSError:
        return 80


def _to_iso(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def _seconds(seconds: float) -> float:
    # The clock may have been set back.
    return round(max(0.0, seconds), 3)
