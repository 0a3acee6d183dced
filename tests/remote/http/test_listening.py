"""The listening socket of the HTTP server: its actual address, and why it cannot be opened."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from procreaper.errors import ConfigError, Problem
from procreaper.project.address import parse_address
from procreaper.project.configure import Listen
from procreaper.remote.http.listening import listen


def at(text: str, path: str | None = None, line: int | None = None) -> Listen:
    return Listen(parse_address(text), text, path, line)


def refused(where: Listen) -> Problem:
    with pytest.raises(ConfigError) as caught:
        listen(where)[0].close()
    [problem] = caught.value.problems
    return problem


@pytest.mark.parametrize("text", ["0", "127.0.0.1:0", "localhost:0"])
def test_port_0_finds_a_free_port_and_returns_it(text: str) -> None:
    listening, bound = listen(at(text))
    with listening:
        assert bound.host == "127.0.0.1"
        assert bound.port > 0
        with socket.create_connection(bound):
            pass
        assert not os.get_inheritable(listening.fileno())


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    listening, bound = listen(at("[::1]:0"))
    with listening:
        assert str(bound) == f"[::1]:{bound.port}"


def test_taken_port_is_reported_with_its_place() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        problem = refused(at(f"{port}"))
        assert problem.message == f"--http {port}: port {port} is taken"
        assert "`127.0.0.1:0` finds a free port" in (problem.hint or "")
        problem = refused(at(f"{port}", ".reaper.toml", 3))
        assert problem.place == ".reaper.toml:3"
        assert problem.message == f"`control.http` {port}: port {port} is taken"


def test_port_can_be_reused_at_once() -> None:
    listening, bound = listen(at("0"))
    with listening, socket.create_connection(bound), _accepted(listening):
        # The server closes first, so the system keeps its port for a while.
        pass
    listening, again = listen(at(str(bound)))
    listening.close()
    assert again == bound


def _accepted(listening: socket.socket) -> socket.socket:
    listening.setblocking(True)
    connection, _ = listening.accept()
    return connection


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no-such-host.invalid:0", "there is no host `no-such-host.invalid`"),
        ("192.0.2.1:0", "`192.0.2.1` is no address of this machine"),
    ],
)
def test_foreign_address_is_reported(text: str, message: str) -> None:
    problem = refused(at(text))
    assert problem.message == f"--http {text}: {message}"
    assert problem.hint


def test_privileged_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, place: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert refused(at("80")).message == "--http 80: port 80 is for root only"


@pytest.mark.parametrize("name", ["aiohttp", "prometheus_client"])
def test_missing_package_is_reported_with_an_install_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.setitem(sys.modules, module, None)
    problem = refused(at("0"))
    assert problem.message == f"--http 0: HTTP needs `{name}`, which is not installed"
    assert problem.hint == "pip install 'procreaper[http]'"
