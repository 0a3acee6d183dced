"""The TCP check: both address families, names, peers that do not answer, and no open connection afterwards."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
from support.checking import LONG, SHORT, run_check, run_check_here
from support.peers import bound, bound_twice, full_listener, has_ipv6, peer, until_gone

from procreaper.core.checks import TCPCheck
from procreaper.runtime.health import tcp

pytestmark = pytest.mark.usefixtures("leaves_nothing")

with_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does a full listener swallow packets")


@pytest.fixture
def unused_port(leaves_nothing: None) -> Iterator[int]:
    """Reserve a port on which no server listens."""
    taken = bound_twice() if has_ipv6() else (bound(socket.AF_INET),)
    yield taken[0].getsockname()[1]
    for each in taken:
        each.close()


@pytest.fixture
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int) -> NoReturn:
        raise AssertionError("a thread was asked to resolve a name")

    patch_resolver(monkeypatch, getaddrinfo)


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    def getaddrinfo(host: str, port: int) -> list[Any]:
        return [entry for numeric in hosts for entry in socket.getaddrinfo(numeric, port, flags=socket.AI_NUMERICHOST)]

    patch_resolver(monkeypatch, getaddrinfo)


def patch_resolver(monkeypatch: pytest.MonkeyPatch, resolve: Callable[[str, int], list[Any]]) -> None:
    """Call `resolve` in the lookup thread, in place of the system's resolver."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *arguments: Any, flags: int = 0, **more: Any) -> list[Any]:
        try:
            return real(host, port, *arguments, flags=flags | socket.AI_NUMERICHOST, **more)
        except socket.gaierror:
            if flags & socket.AI_NUMERICHOST:
                raise
        return resolve(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("no_resolver")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost", ""])
def test_listener_is_healthy_without_a_resolver(host: str) -> None:
    with peer(until_gone) as port:
        assert run_check(TCPCheck(f"{host}:{port}")) is None


@with_ipv6
@pytest.mark.usefixtures("no_resolver")
@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_listener_with_only_ipv6_is_healthy(host: str) -> None:
    refusing, listening = bound_twice()
    with refusing, peer(until_gone, listening) as port:
        assert run_check(TCPCheck(f"{host}:{port}")) is None


@with_ipv6
@on_linux
def test_next_address_is_tried_if_one_drops_packets() -> None:
    full, listening = bound_twice()
    with full_listener(full), peer(until_gone, listening) as port:
        assert run_check(TCPCheck(f"localhost:{port}"), timeout=4.0) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_without_a_listener_refuses_the_connection(host: str, unused_port: int) -> None:
    assert run_check(TCPCheck(f"{host}:{unused_port}")) == "connection refused"


@on_linux
def test_missing_answer_ends_at_the_timeout() -> None:
    with full_listener() as port:
        assert run_check(TCPCheck(f"127.0.0.1:{port}"), timeout=SHORT) == "no answer within 0.2 s"


def test_ipv4_is_tried_first_in_any_order_of_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    tried: list[str] = []

    async def sock_connect(loop: object, connection: socket.socket, address: tuple[str, int]) -> NoReturn:
        tried.append(address[0])
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    run_check(TCPCheck("db.example:5432"))
    assert tried == ["127.0.0.1", "::1"]


def test_name_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    with peer(until_gone) as port:
        assert run_check(TCPCheck(f"db.example:{port}")) is None


def test_unknown_name_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    patch_resolver(monkeypatch, getaddrinfo)
    assert run_check(TCPCheck("db.example:1")) == "`db.example` has no address: name or service not known"


@pytest.mark.parametrize("host", ["x" * 70, "a..b", "\udcff"])
def test_invalid_name_is_the_reason(host: str) -> None:
    assert run_check(TCPCheck(f"{host}:1")) == f"`{host}` is not a host name"


def test_hanging_resolver_delays_neither_the_check_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    threads: list[threading.Thread] = []

    def getaddrinfo(host: str, port: int) -> NoReturn:
        threads.append(threading.current_thread())
        answering.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    patch_resolver(monkeypatch, getaddrinfo)
    # This would not end if the loop waited for the thread. The late answer must not be an error either.
    assert run_check(TCPCheck("db.example:1"), timeout=SHORT) == "no answer within 0.2 s"
    answering.set()
    threads[0].join()


def test_checks_share_one_lookup_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    asked: list[str] = []

    def getaddrinfo(host: str, port: int) -> list[Any]:
        asked.append(host)
        answering.wait()
        return socket.getaddrinfo("127.0.0.1", port, flags=socket.AI_NUMERICHOST)

    patch_resolver(monkeypatch, getaddrinfo)

    async def main(ports: list[int]) -> list[str | None]:
        # The first check gives up and asks again: it joins the running lookup.
        assert await run_check_here(TCPCheck(f"db.example:{ports[0]}"), SHORT) == "no answer within 0.2 s"
        checks = [asyncio.create_task(run_check_here(TCPCheck(f"db.example:{port}"))) for port in ports]
        checks.append(asyncio.create_task(run_check_here(TCPCheck(f"other.example:{ports[0]}"))))
        while len(asked) < 2:
            await asyncio.sleep(0)
        checks[0].cancel()
        answering.set()
        await asyncio.wait(checks)
        assert checks[0].cancelled()
        return [check.result() for check in checks[1:]]

    with peer(until_gone) as first, peer(until_gone) as second:
        assert asyncio.run(main([first, second])) == [None, None]
        assert asked == ["db.example", "other.example"]
        assert tcp._lookups == {}
        # The answer is not cached.
        assert run_check(TCPCheck(f"db.example:{first}")) is None
        assert asked == ["db.example", "other.example", "db.example"]


def test_late_answer_of_the_resolver_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    threads: list[threading.Thread] = []

    def getaddrinfo(host: str, port: int) -> list[Any]:
        threads.append(threading.current_thread())
        answering.wait()
        return []

    async def main() -> None:
        assert await run_check_here(TCPCheck("db.example:1"), timeout=SHORT) == "no answer within 0.2 s"
        answering.set()
        await asyncio.to_thread(threads[0].join)
        await asyncio.sleep(0)

    patch_resolver(monkeypatch, getaddrinfo)
    asyncio.run(main())


def test_name_without_an_address_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_resolver(monkeypatch, lambda host, port: [])
    assert run_check(TCPCheck("db.example:1")) == "`db.example` has no address"


def test_most_informative_failure_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sock_connect(loop: object, connection: socket.socket, address: tuple[str, int]) -> NoReturn:
        code = errno.ENETUNREACH if connection.family == socket.AF_INET else errno.ECONNREFUSED
        raise OSError(code, "Connect call failed")

    resolve_to(monkeypatch, "127.0.0.1", "::1")
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    assert run_check(TCPCheck("db.example:1")) == "connection refused"


def test_socket_connected_to_itself_is_not_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    # The system may give a client the very port that it connects to; then TCP connects the client to itself.
    real = asyncio.SelectorEventLoop.sock_connect

    async def sock_connect(loop: Any, connection: socket.socket, address: tuple[str, int]) -> None:
        # Another socket has reserved the port, so that no other program could take it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        connection.bind(address)
        await real(loop, connection, address)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        assert run_check(TCPCheck(f"127.0.0.1:{kept.getsockname()[1]}")) == "connection refused"


def test_connection_is_closed_after_the_check() -> None:
    gone = threading.Event()

    def serve(connection: socket.socket) -> None:
        until_gone(connection)
        gone.set()

    async def main() -> None:
        assert await run_check_here(TCPCheck(f":{port}")) is None
        assert await asyncio.to_thread(gone.wait, LONG)

    with peer(serve) as port:
        asyncio.run(main())


@on_linux
def test_cancellation_while_connecting_leaves_nothing() -> None:
    async def main() -> None:
        with full_listener() as port:
            check = asyncio.create_task(run_check_here(TCPCheck(f"127.0.0.1:{port}")))
            for _ in range(5):
                await asyncio.sleep(0)
            check.cancel()
            with pytest.raises(asyncio.CancelledError):
                await check

    asyncio.run(main())
