"""Find detached processes of an earlier start that still run, although the settings no longer say `detached`.

Rules: read the records of detached processes, and change none. This module is imported only if there are such records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from procreaper.errors import Problem
from procreaper.runtime.child.detached_record import Record, living
from procreaper.runtime.system.proc import read_boot_id, read_start_time


class Named(Protocol):
    """The name of a process, and whether it is detached."""

    @property
    def name(self) -> str: ...

    @property
    def detached(self) -> bool: ...


def find_leftovers(
    root: str, environment: Mapping[str, str], processes: Iterable[Named], running: Iterable[int | None] = ()
) -> Iterator[Problem]:
    """Yield a warning for each process that is not detached, but still runs detached since an earlier start.

    `root` is a real path. `running` are the pids of the processes of the app; they are not reported.
    """
    attached = {process.name for process in processes if not process.detached}
    known = set(running)
    for record in living(root, environment, _lives):
        if record.name in attached and record.pid not in known:
            yield Problem(
                f"{record.name} of an earlier start was detached and still runs (pid {record.pid})",
                hint=f"`kill {record.pid}` ends it; `detached = true` under `[process.{_type(record.name)}]` adopts it",
                level="warning",
            )


def _lives(record: Record) -> bool:
    return record.boot == read_boot_id() and read_start_time(record.pid) == record.born


def _type(name: str) -> str:
    return name.rpartition(".")[0] or name
