"""Warn about ports that are already in use, before the processes that need them start; for `start` and `check`.

Rules: check only ports that a process of the plan certainly uses. A process whose port is taken fails. Until then the
program that holds the port answers the health checks, so the process seems healthy for a moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from procreaper.core.plan import Plan, Process
from procreaper.errors import Problem, ProcreaperError

if TYPE_CHECKING:
    from procreaper.remote.api import protocol

# The most ports to check: to check a thousand would take too long.
MOST_PORTS = 100
# Seconds that another app may take to answer.
PATIENCE = 1.0
HINT = "end what uses it, or choose another base port with `-p`"
OWN_HINT = "end what uses it, or choose another `port` in the settings"
RUNS_ALREADY = "the app is already running: `procreaper ps` shows it, `procreaper quit` ends it"
SHELLS = frozenset({"bash", "dash", "ksh", "sh", "zsh"})


class TakenPort(NamedTuple):
    """A port that is in use, and its process. `by_this_app`: a process of a running app of the same root has it."""

    process: Process
    port: int
    by_this_app: bool

    @property
    def message(self) -> str:
        """The text of the warning."""
        return f"port {self.port}, the PORT of `{self.process.name}`, is in use"

    @property
    def hint(self) -> str:
        """The hint of the warning."""
        if self.by_this_app:
            return RUNS_ALREADY
        return HINT if self.process.port is None else OWN_HINT

    @property
    def problem(self) -> Problem:
        """The warning, without a place."""
        return Problem(self.message, hint=self.hint, level="warning")


def find_taken_ports(plan: Plan, directory: str) -> Iterator[TakenPort]:
    """Find the ports in use among those of the processes to start. `directory` is the root as it was given."""
    # Imported here and below: `socket` is slow to import, and often no port is checked.
    from procreaper.project.machine import is_port_taken

    own: frozenset[int] | None = None
    starting = [process for process in plan.processes if plan.names is None or process.name in plan.names]
    for process in starting[:MOST_PORTS]:
        port = _port(process)
        if port and is_port_taken(port):
            own = _find_used_ports(directory) if own is None else own
            yield TakenPort(process, port, port in own)


def _port(process: Process) -> int:
    """Return the PORT of a process; 0 if the process may not use it, or may already hold it itself."""
    port = int((process.env or {}).get("PORT", "0"))
    if process.detached or not port:
        return 0
    is_used = process.port is not None or re.search(r"\$\{?PORT\b", _script(process)) or _is_checked(process, port)
    return port if is_used else 0


def _script(process: Process) -> str:
    """The part of the command that a shell expands."""
    if isinstance(process.command, str):
        return process.command
    return " ".join(process.command) if process.command[0].rpartition("/")[2] in SHELLS else ""


def _is_checked(process: Process, port: int) -> bool:
    if process.health is None:
        return False
    # Imported here: it takes a tenth of the time to the first child.
    from procreaper.core.checks import HTTPCheck, TCPCheck

    check = process.health.check
    if isinstance(check, HTTPCheck):
        return re.search(rf"^https?://(127\.0\.0\.1|localhost|\[::1\]):{port}(/|$)", check.url) is not None
    return isinstance(check, TCPCheck) and check.endpoint in (("127.0.0.1", port), ("localhost", port), ("::1", port))


class FreePorts:
    """Knows whether a port is free: no program listens on it, and no other running app assigned it to a process.

    It asks the other apps once, and again after `forget`.
    """

    def __init__(self) -> None:
        self._given: frozenset[int] | None = None

    def is_free(self, port: int) -> bool:
        """Whether this port is free."""
        from procreaper.project.machine import is_port_taken

        if is_port_taken(port):
            return False
        if self._given is None:
            self._given = _find_assigned_ports()
        return port not in self._given

    def forget(self) -> None:
        """Ask the other apps again at the next call: apps may have started or ended."""
        self._given = None


def _find_assigned_ports() -> frozenset[int]:
    """Return the ports of all processes of other running apps, including ports that no process listens on yet."""
    from procreaper.cli.find_app import find_other_apps
    from procreaper.remote.api.protocol import StatusRequest

    ports: set[int] = set()
    with ExitStack() as stack:
        for app in [stack.enter_context(app) for app in find_other_apps(PATIENCE)]:
            # A suspended app does not answer, but its listening ports still show as taken.
            with suppress(ProcreaperError, OSError):
                ports.update(
                    process.port for process in app.ask(StatusRequest(0), limit=PATIENCE).processes if process.port
                )
    return frozenset(ports)


def _find_used_ports(directory: str) -> frozenset[int]:
    """Return the ports of the running processes in the apps of a root."""
    return frozenset(process.port for process in _find_processes(directory) if process.pid and process.port)


def find_running_ports(directory: str) -> dict[str, int]:
    """Return by type the port of its first process in the running app of a root; the last app wins."""
    return {
        process.type: process.port
        for process in _find_processes(directory)
        if process.port is not None and process.name == f"{process.type}.1"
    }


def _find_processes(directory: str) -> list[protocol.ProcessStatus]:
    from procreaper.cli.find_app import AppSelector, find_apps
    from procreaper.remote.api.protocol import StatusRequest

    found: list[protocol.ProcessStatus] = []
    # An app that does not answer, or is ending, counts as another program.
    with suppress(ProcreaperError, OSError), ExitStack() as stack:
        for app in [stack.enter_context(app) for app in find_apps(AppSelector.of(directory, None))]:
            found += app.ask(StatusRequest(0), limit=PATIENCE).processes
    return found
