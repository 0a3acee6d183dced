"""Open a TCP connection, IPv4 first.

Rules: nothing blocks the loop. A literal address and `localhost` need no thread. Another name is resolved in a thread,
by one question at a time: all checks that need the name meanwhile share the answer. The caller limits the whole with
`asyncio.timeout`; the `timeout` here is shared out between the addresses, so that one that swallows packets cannot keep
the others from being tried.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress

from procreaper.errors import reason_of
from procreaper.runtime.health.errors import UnhealthyError, no_answer, of_system
from procreaper.threads import NoThreadError, start_thread

# What says that there is no way to an address, and nothing of what is there: the failure of another says more.
NO_WAY = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

IPv4 = tuple[str, int]
IPv6 = tuple[str, int, int, int]
Address = tuple[socket.AddressFamily, IPv4 | IPv6]

_questions: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[list[Address]]] = {}


async def check(endpoint: tuple[str, int], timeout: float) -> None:
    """Return if a connection can be opened, raise UnhealthyError if not."""
    (await connect(*endpoint, timeout)).close()


async def connect(host: str, port: int, timeout: float) -> socket.socket:
    """Return a connected socket that does not block; raise UnhealthyError if the host gives none in time."""
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
    raise UnhealthyError(no_answer(timeout) if isinstance(cause, TimeoutError) else of_system(cause)) from cause


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, IPv4 before IPv6; raise UnhealthyError if it has none."""
    if host.lower() == "localhost":
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
    try:
        try:
            addresses = _look_up(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            addresses = [(family, (address[0], port, *address[2:])) for family, address in await _ask(host, port)]
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


async def _ask(host: str, port: int) -> list[Address]:
    """The addresses of a name, from the question that is under way, or from a new one.

    Where the system does not answer, a question may take minutes. A check gives up earlier; the next one joins in.
    """
    loop = asyncio.get_running_loop()
    answer = _questions.get((loop, host))
    if answer is None:
        answer = _questions[loop, host] = loop.create_future()
        try:
            # Not `asyncio.to_thread`: a loop that ends waits for its own threads, however long.
            start_thread(lambda: _answer(answer, host, port), f"resolve {host}", "for that")
        except NoThreadError as error:
            del _questions[loop, host]
            raise UnhealthyError(f"`{host}` cannot be resolved: {error.message}") from error
    # When one check gives up, the others still wait.
    return await asyncio.shield(answer)


def _answer(answer: asyncio.Future[list[Address]], host: str, port: int) -> None:
    """Ask the system for the addresses of a name; runs in a thread."""
    result: list[Address] = []
    failure: Exception | None = None
    try:
        result = _look_up(host, port)
    except Exception as error:
        failure = error

    def tell() -> None:
        if failure is None:
            answer.set_result(result)
        else:
            answer.set_exception(failure)
            # Where all checks have given up, none retrieves it.
            answer.exception()

    loop = answer.get_loop()
    _questions.pop((loop, host), None)
    # RuntimeError: the loop is closed by now.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(tell)


async def _connect(family: socket.AddressFamily, address: IPv4 | IPv6) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, address)
        if connection.getsockname()[:2] == address[:2]:
            # Where nobody listens on a port that the system gives to clients, it may by chance give it to this one,
            # and a socket that calls itself is answered.
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except BaseException:
        connection.close()
        raise
    return connection
