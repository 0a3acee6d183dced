"""Which ports are in use, and which of those a plan needs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from procreaper.cli.commands.start_ports import FreePorts, find_taken_ports
from procreaper.core.plan import Plan, Process
from procreaper.core.ports import AutoPorts, derive_port, variable_of
from procreaper.project.machine import is_port_taken


def needs_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


def listen(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_port_is_port_taken_while_a_program_listens_on_it(host: str) -> None:
    if ":" in host:
        needs_ipv6()
    with listen(host) as server:
        port = server.getsockname()[1]
        assert is_port_taken(port)
    assert not is_port_taken(port)


def test_a_port_is_port_taken_by_a_program_that_listens_on_both_loopback_addresses_through_ipv6() -> None:
    needs_ipv6()
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        assert is_port_taken(server.getsockname()[1])


@pytest.mark.parametrize("port", [-1, 0, 65536, 10**30])
def test_a_number_that_is_no_port_is_never_taken(port: int) -> None:
    assert not is_port_taken(port)


def test_a_port_with_a_connection_that_has_ended_is_free() -> None:
    with listen("127.0.0.1") as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0] as connection:
            # This end closes first, and so keeps the port in TIME_WAIT.
            connection.close()
    assert not is_port_taken(port)


@pytest.mark.parametrize(
    ("command", "is_used"),
    [
        ("serve $PORT", True),
        ("serve ${PORT:-80}", True),
        (("sh", "-c", "serve $PORT"), True),
        ("serve", False),
        ("serve $PORTAL", False),
        (("serve", "$PORT"), False),
    ],
)
def test_only_a_port_that_the_process_uses_is_looked_at(
    command: str | tuple[str, ...], is_used: bool, tmp_path: Path
) -> None:
    with listen("127.0.0.1") as server:
        port = server.getsockname()[1]
        process = Process("web.1", command, env={"PORT": str(port)})
        found = list(find_taken_ports(Plan((process,)), str(tmp_path)))
        assert [(taken.process, taken.port, taken.by_this_app) for taken in found] == [(process, port, False)] * is_used
        assert list(find_taken_ports(Plan((process,), ()), str(tmp_path))) == []
        assert list(find_taken_ports(Plan((process._replace(detached=True),)), str(tmp_path))) == []


# Ports for `auto`.


def test_a_derived_port_depends_on_the_root_and_the_process_alone() -> None:
    names = [f"{kind}.{number}" for kind in ("web", "api") for number in range(1, 20)]
    ports = {(root, name): derive_port(root, name) for root in ("/a", "/b") for name in names}
    assert all(20000 <= port < 30000 for port in ports.values())
    assert len(set(ports.values())) > len(ports) * 0.9
    # It must be the same in each release.
    assert derive_port("/srv/shop", "web.1") == 29869


def test_a_port_that_is_not_free_is_replaced_by_the_next_one_that_is() -> None:
    first = derive_port("/a", "web.1")
    free = AutoPorts("/a", lambda port: port != first + 2)
    assert free.find_port("web.1", {first, first + 1}) == first + 3
    # A process keeps its port, whatever is free later.
    assert free.find_port("web.1", ()) == first + 3


def test_no_two_processes_share_a_port() -> None:
    ports = AutoPorts("/a", lambda port: port in (29999, 20000, 20001))
    assert {ports.find_port(f"web.{number}", ()) for number in range(3)} == {29999, 20000, 20001}


def test_where_no_port_is_free_the_derived_one_is_given() -> None:
    assert AutoPorts("/a", lambda _: False).find_port("web.1", ()) == derive_port("/a", "web.1")


@pytest.mark.parametrize(
    ("kind", "variable"),
    [("web", "PROCREAPER_PORT_WEB"), ("my-api_2", "PROCREAPER_PORT_MY_API_2"), ("9", "PROCREAPER_PORT_9")],
)
def test_the_variable_of_a_type_is_one_for_every_shell(kind: str, variable: str) -> None:
    assert variable_of(kind) == variable


def test_a_port_on_which_a_program_listens_is_not_free() -> None:
    with listen("127.0.0.1") as server:
        port = server.getsockname()[1]
        assert not FreePorts().is_free(port)
    assert FreePorts().is_free(port)
