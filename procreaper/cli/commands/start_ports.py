"""Ports that are in use already, before the process starts that needs one: for `start` and `check`.

Rules: looks only at ports that a process of the plan uses for sure. A process whose port is taken fails, and while it
does, the holder of the port answers its health checks, so that it seems to be healthy for a moment.
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

# To try a thousand of them would take too long.
MOST_PORTS = 100
# Seconds that another app may take to answer.
PATIENCE = 1.0
HINT = "end what uses it, or choose another base port with `-p`"
OWN_HINT = "end what uses it, or choose another `port` in the settings"
RUNS_ALREADY = "the app is already running: `procreaper ps` shows it, `procreaper quit` ends it"
SHELLS = frozenset({"bash", "dash", "ksh", "sh", "zsh"})


class Taken(NamedTuple):
    """The port of a process, in use. `by_this_app`: a running app of the same root gave it to one of its processes."""

    process: Process
    port: int
    by_this_app: bool

    @property
    def message(self) -> str:
        """What is wrong."""
        return f"port {self.port}, the PORT of `{self.process.name}`, is in use"

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.by_this_app:
            return RUNS_ALREADY
        return HINT if self.process.port is None else OWN_HINT

    @property
    def problem(self) -> Problem:
        """The warning, without a place."""
        return Problem(self.message, hint=self.hint, level="warning")


def find_taken(plan: Plan, directory: str) -> Iterator[Taken]:
    """Find the ports in use among those of the processes that start. `directory` is the root, as it was given."""
    # Not at the top, here and below: `socket` costs time where no port is looked at.
    from procreaper.project.machine import is_port_taken

    own: frozenset[int] | None = None
    starting = [process for process in plan.processes if plan.names is None or process.name in plan.names]
    for process in starting[:MOST_PORTS]:
        port = _port(process)
        if port and is_port_taken(port):
            own = _ports_of_apps(directory) if own is None else own
            yield Taken(process, port, port in own)


def _port(process: Process) -> int:
    """The PORT of a process that uses it; 0 where that is not known, or where the process itself may hold it."""
    port = int((process.env or {}).get("PORT", "0"))
    if process.detached or not port:
        return 0
    is_used = process.port is not None or re.search(r"\$\{?PORT\b", _script(process)) or _checks(process, port)
    return port if is_used else 0


def _script(process: Process) -> str:
    """What a shell reads of the command."""
    if isinstance(process.command, str):
        return process.command
    return " ".join(process.command) if process.command[0].rpartition("/")[2] in SHELLS else ""


def _checks(process: Process, port: int) -> bool:
    if process.health is None:
        return False
    # Not at the top: with all that it takes it costs a tenth of the time until the first child.
    from procreaper.core.checks import HTTPCheck, TCPCheck

    check = process.health.check
    if isinstance(check, HTTPCheck):
        return re.search(rf"^https?://(127\.0\.0\.1|localhost|\[::1\]):{port}(/|$)", check.url) is not None
    return isinstance(check, TCPCheck) and check.endpoint in (("127.0.0.1", port), ("localhost", port), ("::1", port))


class FreePorts:
    """Tells whether a port is free: no program listens on it, and no other running app gave it to a process.

    It asks the other apps once; `forget` has it ask them again.
    """

    def __init__(self) -> None:
        self._given: frozenset[int] | None = None

    def is_free(self, port: int) -> bool:
        """Whether this port is free."""
        from procreaper.project.machine import is_port_taken

        if is_port_taken(port):
            return False
        if self._given is None:
            self._given = _given_ports()
        return port not in self._given

    def forget(self) -> None:
        """Other apps may have started or ended since."""
        self._given = None


def _given_ports() -> frozenset[int]:
    """The ports of all processes of the other running apps; a process that has one may not listen yet."""
    from procreaper.cli.find_app import find_others
    from procreaper.remote.api.protocol import StatusRequest

    ports: set[int] = set()
    with ExitStack() as stack:
        for app in [stack.enter_context(app) for app in find_others(PATIENCE)]:
            # A suspended app does not answer. Where it listens can be seen all the same.
            with suppress(ProcreaperError, OSError):
                ports.update(
                    process.port for process in app.ask(StatusRequest(0), limit=PATIENCE).processes if process.port
                )
    return frozenset(ports)


def _ports_of_apps(directory: str) -> frozenset[int]:
    """The ports of the processes that run in the apps of a root."""
    return frozenset(process.port for process in _processes_of_apps(directory) if process.pid and process.port)


def ports_of_running(directory: str) -> dict[str, int]:
    """The ports of the first processes of all types of the running app of a root; of several apps, the last one's."""
    return {
        process.type: process.port
        for process in _processes_of_apps(directory)
        if process.port is not None and process.name == f"{process.type}.1"
    }


def _processes_of_apps(directory: str) -> list[protocol.ProcessStatus]:
    from procreaper.cli.find_app import AppSelector, find_apps
    from procreaper.remote.api.protocol import StatusRequest

    found: list[protocol.ProcessStatus] = []
    # An app that does not answer, or ends just now, counts as another program.
    with suppress(ProcreaperError, OSError), ExitStack() as stack:
        for app in [stack.enter_context(app) for app in find_apps(AppSelector.of(directory, None))]:
            found += app.ask(StatusRequest(0), limit=PATIENCE).processes
    return found
