"""The listening socket of the HTTP server: opened before any process starts, so that a mistake is reported at once.

Rules: knows where the address was configured, for error messages; knows nothing of HTTP.
"""

from __future__ import annotations

import errno
import socket
from contextlib import closing
from importlib import import_module

from procreaper.errors import ConfigError, Problem, reason_of
from procreaper.project.address import Address
from procreaper.project.configure import Listen

# The modules that the extra installs.
NEEDED = ("aiohttp.web", "prometheus_client")
EXTRA = "procreaper[http]"
BACKLOG = 128


def listen(where: Listen) -> tuple[socket.socket, Address]:
    """Open a listening socket and return it with its actual address: port 0 becomes a free port.

    A name may have several addresses; the first one is used, IPv4 before IPv6. Raises ConfigError if the socket cannot
    be opened, or if the packages for HTTP are not installed.
    """
    _import_packages(where)
    host, port = where.address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise _config_error(
            where, f"there is no host `{host}`", "`localhost`, or just a port, is this machine"
        ) from None
    family, kind, protocol, _, place = min(found, key=lambda info: info[0] is not socket.AF_INET)
    listening = socket.socket(family, kind, protocol)
    try:
        # So that old connections of an app that has just ended do not block the port.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        with closing(listening):
            raise _config_error(where, *_describe_error(error, where.address)) from None
    listening.setblocking(False)
    host, port = listening.getsockname()[:2]
    return listening, Address(host, port)


def _import_packages(where: Listen) -> None:
    try:
        for name in NEEDED:
            import_module(name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {name.partition(".")[0] for name in NEEDED}:
            raise
        hint = f"pip install '{EXTRA}'"
        raise _config_error(where, f"HTTP needs `{missing}`, which is not installed", hint) from None


def _describe_error(error: OSError, address: Address) -> tuple[str, str]:
    free = f"`{Address(address.host, 0)}` finds a free port"
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {address.port} is taken", f"end the program that uses it, or choose another port; {free}"
        case errno.EACCES:
            return f"port {address.port} is for root only", f"choose one from 1024; {free}"
        case errno.EADDRNOTAVAIL:
            return f"`{address.host}` is no address of this machine", "`0.0.0.0` is all of its IPv4 addresses"
        case _:
            return reason_of(error), "choose another address"


def _config_error(where: Listen, message: str, hint: str) -> ConfigError:
    problem: Problem = where.problem(message, hint)
    return ConfigError([problem])
