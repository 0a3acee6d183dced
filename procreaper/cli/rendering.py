"""Make the format for notices: text or JSON, with the clock and the signal names of this system."""

from __future__ import annotations

import time
from collections.abc import Iterable
from signal import Signals
from typing import Protocol

from procreaper.output.text import Format, Style, TextFormat

# The time of output whose time is unknown, such as a line of a log file.
LONG_AGO = 0.0


class Named(Protocol):
    """The name of a process, and whether it has its own terminal."""

    @property
    def name(self) -> str: ...

    @property
    def pty(self) -> bool: ...


def make_format(log_format: str, processes: Iterable[Named], style: Style, *, filter_all: bool = False) -> Format:
    """Make the format ``text`` or ``json``. The processes get their colours in this order.

    `filter_all`: also filter the output of processes without their own terminal.
    """
    if log_format == "json":
        from procreaper.output.json_lines import RecordFormat

        return RecordFormat(timestamp=_timestamp, signal_name=_signal_name)
    processes = tuple(processes)
    return TextFormat(
        (process.name for process in processes),
        style,
        clock=_time_of_day,
        signal_name=_signal_name,
        filtered=(process.name for process in processes if process.pty),
        filter_all=filter_all,
    )


def _signal_name(number: int) -> str:
    return Signals(number).name if number in Signals.__members__.values() else f"signal {number}"


def _timestamp(seconds: float) -> str | None:
    from datetime import datetime

    if seconds == LONG_AGO:
        return None
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def _time_of_day(seconds: float) -> str:
    return "--:--:--" if seconds == LONG_AGO else time.strftime("%H:%M:%S", time.localtime(seconds))
