"""Open a TCP connection, IPv4 first.

Rules: nothing blocks the loop. A literal address and `localhost` need no thread. Any other name is resolved in a
thread, in one lookup at a time: all checks that need the name meanwhile share the answer. The caller limits the total
time with `asyncio.timeout`. The `timeout` here is divided among the addresses, so that each of them is tried even if
another one drops packets.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress

from procreaper.errors import reason_of
from procreaper.runtime.health.errors import UnhealthyError, describe_os_error, describe_timeout
from procreaper.threads import NoThreadError, start_thread

# Errors that say only that no route leads to an address. The error of another address says more.
NO_WAY = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

IPv4 = tuple[str, int]
IPv6 = tuple[str, int, int, int]
Address = tuple[socket.AddressFamily, IPv4 | IPv6]

_lookups: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[list[Address]]] = {}


async def check(endpoint: tuple[str, int], timeout: float) -> None:
    """Return if a connection can be opened, raise UnhealthyError if not."""
    (await connect(*endpoint, timeout)).close()


async def connect(host: str, port: int, timeout: float) -> socket.socket:
    """Return a connected, non-blocking socket; raise UnhealthyError if no address accepts within `timeout` seconds."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + timeout
    addresses = await resolve(host, port)
    failures: list[OSError] = []
    for position, address in enumerate(addresses):
        now = loop.time()
        try:
            async with asyncio.timeout_at(now + (limit - now) / (len(addresses) - position)):
                return await _connect(*address)
        except OSError as error:
            failures.append(error)
    cause = next((failure for failure in failures if failure.errno not in NO_WAY), failures[0])
    reason = describe_timeout(timeout) if isinstance(cause, TimeoutError) else describe_os_error(cause)
    raise UnhealthyError(reason) from cause


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, IPv4 before IPv6; raise UnhealthyError if it has none."""
    if host.lower() == "localhost":
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
    try:
        try:
            addresses = _look_up(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = await _share_lookup(host, port)
            addresses = [(family, (address[0], port, *address[2:])) for family, address in found]
    except socket.gaierror as error:
        raise UnhealthyError(f"`{host}` has no address: {reason_of(error)}") from error
    except ValueError as error:
        raise UnhealthyError(f"`{host}` is not a host name") from error
    if not addresses:
        raise UnhealthyError(f"`{host}` has no address")
    return addresses


def _look_up(host: str, port: int, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    addresses: list[Address] = []
    for wanted in (socket.AF_INET, socket.AF_INET6):
        for family, _, _, _, address in found:
            if family == wanted and isinstance(address[0], str):
                addresses.append((family, address))
    # /etc/hosts may have a line twice.
    return list(dict.fromkeys(addresses))


async def _share_lookup(host: str, port: int) -> list[Address]:
    """Return the addresses of a name, from a lookup that is already running or from a new one.

    If the system does not answer, a lookup may take minutes. A check gives up earlier; the next check joins the same
    lookup.
    """
    loop = asyncio.get_running_loop()
    answer = _lookups.get((loop, host))
    if answer is None:
        answer = _lookups[loop, host] = loop.create_future()
        try:
            # Not `asyncio.to_thread`: at its end, a loop waits for such threads without a limit.
            start_thread(lambda: _look_up_in_thread(answer, host, port), f"resolve {host}", "for that")
        except NoThreadError as error:
            del _lookups[loop, host]
            raise UnhealthyError(f"`{host}` cannot be resolved: {error.message}") from error
    # The others go on waiting when one check gives up.
    return await asyncio.shield(answer)


def _look_up_in_thread(answer: asyncio.Future[list[Address]], host: str, port: int) -> None:
    """Ask the system for the addresses of a name, and hand them to the loop; runs in a thread."""
    result: list[Address] = []
    failure: Exception | None = None
    try:
        result = _look_up(host, port)
    except Exception as error:
        failure = error

    def settle() -> None:
        if failure is None:
            answer.set_result(result)
        else:
            answer.set_exception(failure)
            # Mark it as retrieved: if all checks have given up, none of them does.
            answer.exception()

    loop = answer.get_loop()
    _lookups.pop((loop, host), None)
    # RuntimeError: the loop is closed by now.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)


async def _connect(family: socket.AddressFamily, address: IPv4 | IPv6) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, address)
        if connection.getsockname()[:2] == address[:2]:
            # If no server listens on the port, the system may give this very port to our socket as its own. The
            # socket then connects to itself, and answers.
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except BaseException:
        connection.close()
        raise
    return connection
