"""Health checks and their times, as frozen values.

Rules: values only; `runtime.health` runs the checks. An impossible value raises `ValueError` when it is made. Durations
are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from procreaper.core.plan import HIGHEST_PORT

DEFAULT_PORTS = {"http": 80, "https": 443}


class Target(NamedTuple):
    """The run that is checked: the name of the process, its pid, environment and working directory."""

    name: str
    pid: int
    env: Mapping[str, str]
    cwd: str | None


class HealthCheck(Protocol):
    """Anything that can tell whether a process is healthy.

    Whatever `check` raises means unhealthy, and its text is the reason that is shown. It is cancelled after the timeout
    and when the run ends, so it must let `asyncio.CancelledError` pass; two never run at once for one process.

    >>> class Answers:
    ...     async def check(self, target: Target) -> None:
    ...         raise RuntimeError("no answer")
    """

    async def check(self, target: Target) -> None:
        """Return if the process is healthy, raise if it is not."""
        ...


@dataclass(frozen=True, slots=True)
class TCPCheck:
    """Healthy while a TCP connection to `address` can be opened: ``host:port``, ``[::1]:port``, ``:port`` (local).

    If a name has several addresses, IPv4 comes first, then IPv6. Raises ValueError for anything else.
    """

    address: str

    def __post_init__(self) -> None:
        _ = self.endpoint

    @property
    def endpoint(self) -> tuple[str, int]:
        """The host and the port."""
        host, colon, port = self.address.rpartition(":")
        if not colon:
            raise ValueError(f"`{self.address}` has no port; write host:port")
        if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= HIGHEST_PORT):
            raise ValueError(f"`{port}` is not a port from 1 to {HIGHEST_PORT}")
        bracketed = host.startswith("[") and host.endswith("]")
        if ":" in host and not bracketed:
            raise ValueError(f"`{host}` is not a host; write an IPv6 address in brackets, as in [::1]:{port}")
        return (host[1:-1] if bracketed else host) or "localhost", int(port)


@dataclass(frozen=True, slots=True)
class HTTPCheck:
    """Healthy while a GET of `url` has a status of `status`; empty means any of 200 to 299.

    The check follows no redirect and uses no proxy. It verifies the certificate of an ``https`` address unless `verify`
    is False: against the authorities of the system, or only those in the file `ca` (PEM). Raises ValueError for a URL
    that is not ``http://host/`` or ``https://host/``, an impossible status, and `ca` without `verify`.
    """

    url: str
    status: Collection[int] = ()
    verify: bool = True
    ca: str | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
        except ValueError:
            # The bracket is not closed, or has no IPv6 address in it.
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`{self.url}` is not a URL such as http://127.0.0.1:8000/healthz")
        try:
            port = parts.port
        except ValueError:
            port = 0
        if port == 0:
            raise ValueError(f"`{self.url}` has a port that is not a number from 1 to {HIGHEST_PORT}")
        for status in self.status:
            if not 100 <= status <= 599:
                raise ValueError(f"{status} is not an HTTP status")
        if self.ca is not None and not self.verify:
            raise ValueError("the file `ca` has no effect without `verify`")


@dataclass(frozen=True, slots=True)
class ExecCheck:
    """Healthy while `command` exits with 0. A string runs through the shell, a sequence without one.

    It runs in the environment and the directory of the process, in a group that is killed when it is over.
    """

    command: str | Sequence[str]

    def __post_init__(self) -> None:
        if not self.command or not (self.command if isinstance(self.command, str) else self.command[0]).strip():
            raise ValueError("the command of a check is empty")

    @property
    def argv(self) -> tuple[str, ...]:
        """The arguments of the command, with the shell if there is one."""
        return ("/bin/sh", "-c", self.command) if isinstance(self.command, str) else tuple(self.command)


@dataclass(frozen=True, slots=True)
class LogCheck:
    """Ready once a line of output matches the regular expression `pattern`, anywhere in the line.

    It shows readiness only: after the first match it checks nothing. Raises ValueError for a bad pattern.
    """

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"`{self.pattern}` is not a regular expression: {error}") from error


Check = TCPCheck | HTTPCheck | ExecCheck | HealthCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The checks of a process and their times.

    `check` and `log` may each be None, but not both. With both, the process is healthy once the log has matched and the
    check has succeeded. Until the first success, a check runs every `start_interval` seconds, and failures do not count
    until `start_timeout`. After it, a check runs every `interval`, and `retries` failures in a row mean unhealthy. Each
    check may take `timeout`. The defaults are those of compose, reaper and systemd.
    """

    check: Check | None = None
    log: LogCheck | None = None
    interval: float = 10.0
    timeout: float = 5.0
    retries: int = 3
    start_interval: float = 0.5
    start_timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.check is None and self.log is None:
            raise ValueError("nothing is checked: give a check or a log pattern")
        for name in ("interval", "timeout", "start_interval", "start_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 seconds")
        if self.retries < 1:
            raise ValueError("retries must be at least 1")
