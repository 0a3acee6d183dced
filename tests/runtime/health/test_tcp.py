"""The TCP check: both address families, names, peers that do not answer, and nothing left of it."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
from support.checking import LONG, SHORT, examine_here, run_check
from support.peers import bound, bound_twice, full_listener, has_ipv6, peer, until_gone

from procreaper.core.checks import TCPCheck
from procreaper.runtime.health import tcp

pytestmark = pytest.mark.usefixtures("leaves_nothing")

with_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does a full listener swallow packets")


@pytest.fixture
def unused_port(leaves_nothing: None) -> Iterator[int]:
    """A port where nobody listens: taken, so that nobody else begins to."""
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
    """Have `resolve` called in the thread that would have asked the system for a name."""
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
def test_a_listener_is_healthy_without_a_resolver(host: str) -> None:
    with peer(until_gone) as port:
        assert run_check(TCPCheck(f"{host}:{port}")) is None


@with_ipv6
@pytest.mark.usefixtures("no_resolver")
@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_a_listener_that_has_only_ipv6_is_healthy(host: str) -> None:
    refusing, listening = bound_twice()
    with refusing, peer(until_gone, listening) as port:
        assert run_check(TCPCheck(f"{host}:{port}")) is None


@with_ipv6
@on_linux
def test_an_address_that_swallows_packets_does_not_keep_the_next_from_being_tried() -> None:
    full, listening = bound_twice()
    with full_listener(full), peer(until_gone, listening) as port:
        assert run_check(TCPCheck(f"localhost:{port}"), timeout=4.0) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_where_nobody_listens_the_connection_is_refused(host: str, unused_port: int) -> None:
    assert run_check(TCPCheck(f"{host}:{unused_port}")) == "connection refused"


@on_linux
def test_without_an_answer_it_ends_after_the_timeout() -> None:
    with full_listener() as port:
        assert run_check(TCPCheck(f"127.0.0.1:{port}"), timeout=SHORT) == "no answer within 0.2 s"


def test_ipv4_is_tried_first_whatever_the_resolver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    tried: list[str] = []

    async def sock_connect(loop: object, connection: socket.socket, address: tuple[str, int]) -> NoReturn:
        tried.append(address[0])
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    run_check(TCPCheck("db.example:5432"))
    assert tried == ["127.0.0.1", "::1"]


def test_a_name_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    with peer(until_gone) as port:
        assert run_check(TCPCheck(f"db.example:{port}")) is None


def test_a_name_that_is_not_known_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    patch_resolver(monkeypatch, getaddrinfo)
    assert run_check(TCPCheck("db.example:1")) == "`db.example` has no address: name or service not known"


@pytest.mark.parametrize("host", ["x" * 70, "a..b", "\udcff"])
def test_what_cannot_be_a_name_is_the_reason(host: str) -> None:
    assert run_check(TCPCheck(f"{host}:1")) == f"`{host}` is not a host name"


def test_a_resolver_that_hangs_is_not_waited_for_not_even_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    threads: list[threading.Thread] = []

    def getaddrinfo(host: str, port: int) -> NoReturn:
        threads.append(threading.current_thread())
        answering.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    patch_resolver(monkeypatch, getaddrinfo)
    # Were the loop to wait for the thread, this would not end; and its late answer must not be an error.
    assert run_check(TCPCheck("db.example:1"), timeout=SHORT) == "no answer within 0.2 s"
    answering.set()
    threads[0].join()


def test_a_name_is_asked_for_once_at_a_time_however_many_checks_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    asked: list[str] = []

    def getaddrinfo(host: str, port: int) -> list[Any]:
        asked.append(host)
        answering.wait()
        return socket.getaddrinfo("127.0.0.1", port, flags=socket.AI_NUMERICHOST)

    patch_resolver(monkeypatch, getaddrinfo)

    async def main(ports: list[int]) -> list[str | None]:
        # The first gives up, and asks again: it joins the question that is under way.
        assert await examine_here(TCPCheck(f"db.example:{ports[0]}"), SHORT) == "no answer within 0.2 s"
        checks = [asyncio.create_task(examine_here(TCPCheck(f"db.example:{port}"))) for port in ports]
        checks.append(asyncio.create_task(examine_here(TCPCheck(f"other.example:{ports[0]}"))))
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
        # The answer is not kept.
        assert run_check(TCPCheck(f"db.example:{first}")) is None
        assert asked == ["db.example", "other.example", "db.example"]


def test_an_answer_of_the_resolver_that_comes_too_late_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()
    threads: list[threading.Thread] = []

    def getaddrinfo(host: str, port: int) -> list[Any]:
        threads.append(threading.current_thread())
        answering.wait()
        return []

    async def main() -> None:
        assert await examine_here(TCPCheck("db.example:1"), timeout=SHORT) == "no answer within 0.2 s"
        answering.set()
        await asyncio.to_thread(threads[0].join)
        await asyncio.sleep(0)

    patch_resolver(monkeypatch, getaddrinfo)
    asyncio.run(main())


def test_a_name_without_an_address_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_resolver(monkeypatch, lambda host, port: [])
    assert run_check(TCPCheck("db.example:1")) == "`db.example` has no address"


def test_the_failure_that_says_most_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sock_connect(loop: object, connection: socket.socket, address: tuple[str, int]) -> NoReturn:
        code = errno.ENETUNREACH if connection.family == socket.AF_INET else errno.ECONNREFUSED
        raise OSError(code, "Connect call failed")

    resolve_to(monkeypatch, "127.0.0.1", "::1")
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    assert run_check(TCPCheck("db.example:1")) == "connection refused"


def test_a_socket_connected_to_itself_is_not_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    # A client may be given the very port that it connects to; then TCP connects it to itself.
    real = asyncio.SelectorEventLoop.sock_connect

    async def sock_connect(loop: Any, connection: socket.socket, address: tuple[str, int]) -> None:
        # The port was kept for it by another socket, so that nobody else could take it.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        connection.bind(address)
        await real(loop, connection, address)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        assert run_check(TCPCheck(f"127.0.0.1:{kept.getsockname()[1]}")) == "connection refused"


def test_the_connection_is_closed_when_the_check_is_over() -> None:
    gone = threading.Event()

    def serve(connection: socket.socket) -> None:
        until_gone(connection)
        gone.set()

    async def main() -> None:
        assert await examine_here(TCPCheck(f":{port}")) is None
        assert await asyncio.to_thread(gone.wait, LONG)

    with peer(serve) as port:
        asyncio.run(main())


@on_linux
def test_cancelled_while_it_connects_it_leaves_nothing() -> None:
    async def main() -> None:
        with full_listener() as port:
            check = asyncio.create_task(examine_here(TCPCheck(f"127.0.0.1:{port}")))
            for _ in range(5):
                await asyncio.sleep(0)
            check.cancel()
            with pytest.raises(asyncio.CancelledError):
                await check

    asyncio.run(main())
