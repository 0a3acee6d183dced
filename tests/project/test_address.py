from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.project.address import Address, is_host_allowed, parse_address


@pytest.mark.parametrize(
    ("text", "address", "written", "is_loopback"),
    [
        ("9464", ("127.0.0.1", 9464), "127.0.0.1:9464", True),
        (":9464", ("127.0.0.1", 9464), "127.0.0.1:9464", True),
        ("0", ("127.0.0.1", 0), "127.0.0.1:0", True),
        ("127.1.2.3:65535", ("127.1.2.3", 65535), "127.1.2.3:65535", True),
        ("[::1]:9464", ("::1", 9464), "[::1]:9464", True),
        ("localhost:1", ("localhost", 1), "localhost:1", True),
        ("LOCALHOST.:1", ("LOCALHOST.", 1), "LOCALHOST.:1", True),
        ("0.0.0.0:80", ("0.0.0.0", 80), "0.0.0.0:80", False),
        ("[::]:80", ("::", 80), "[::]:80", False),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80), "[fe80::1%eth0]:80", False),
        ("box:80", ("box", 80), "box:80", False),
        ("my_box-2.example.org.:80", ("my_box-2.example.org.", 80), "my_box-2.example.org.:80", False),
        ("4ever:80", ("4ever", 80), "4ever:80", False),
    ],
)
def test_address_is_parsed(text: str, address: tuple[str, int], written: str, is_loopback: bool) -> None:
    parsed = parse_address(text)
    assert (parsed, str(parsed), parsed.is_loopback) == (address, written, is_loopback)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the port is missing"),
        ("localhost", "the port is missing"),
        ("::1", "`:` is neither an address nor the name of a host"),
        ("::1:9464", "an IPv6 address needs brackets, as in `[::1]:9464`"),
        ("localhost:", "`` is not a port, which is a number from 0 to 65535"),
        ("localhost:http", "`http` is not a port, which is a number from 0 to 65535"),
        ("65536", "`65536` is not a port, which is a number from 0 to 65535"),
        ("0000065536", "`0000065536` is not a port, which is a number from 0 to 65535"),
        ("1:-1", "`-1` is not a port, which is a number from 0 to 65535"),
        ("1:\u0663", "`\u0663` is not a port, which is a number from 0 to 65535"),
        ("http://localhost:80", "`http://localhost` is neither an address nor the name of a host"),
        ("256.1.1.1:80", "`256.1.1.1` is neither an address nor the name of a host"),
        ("1:80", "`1` is neither an address nor the name of a host"),
        ("[localhost]:80", "`[localhost]` is neither an address nor the name of a host"),
        ("[127.0.0.1]:80", "`[127.0.0.1]` is neither an address nor the name of a host"),
        ("[::1:80", "an IPv6 address needs brackets, as in `[::1]:80`"),
        ("*:80", "`*` is neither an address nor the name of a host"),
        ("a..b:80", "`a..b` is neither an address nor the name of a host"),
        ("-a:80", "`-a` is neither an address nor the name of a host"),
        (f"{'a' * 64}:80", f"`{'a' * 64}` is neither an address nor the name of a host"),
        ("local host:80", "`local host` is neither an address nor the name of a host"),
    ],
)
def test_invalid_address_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_address(text)
    assert str(caught.value) == reason


@given(st.text())
def test_any_text_is_refused_or_survives_a_round_trip(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address


LOCAL, ALL, NAMED = Address("127.0.0.1", 9464), Address("0.0.0.0", 9464), Address("metrics.lan", 9464)


@pytest.mark.parametrize(
    ("header", "bound", "answers"),
    [
        ("127.0.0.1:9464", LOCAL, True),
        ("localhost:9464", LOCAL, True),
        ("LocalHost.", LOCAL, True),
        ("[::1]:9464", LOCAL, True),
        # Through a tunnel.
        ("localhost:8080", LOCAL, True),
        ("127.0.0.2:9464", LOCAL, False),
        ("127.0.0.2:9464", Address("127.0.0.2", 0), True),
        ("evil.example", LOCAL, False),
        ("evil.example:9464", LOCAL, False),
        ("localhost.evil.example", LOCAL, False),
        ("127.0.0.1.evil.example", LOCAL, False),
        ("192.168.1.2:9464", LOCAL, False),
        ("box.lan:9464", LOCAL, False),
        ("192.168.1.2:9464", ALL, True),
        ("[fe80::2]:9464", ALL, True),
        ("box.lan:9464", ALL, True),
        ("BOX:9464", ALL, True),
        ("localhost", ALL, True),
        ("evil.example:9464", ALL, False),
        ("evil.example:9464", NAMED, False),
        ("metrics.lan:9464", NAMED, True),
        ("", LOCAL, False),
        ("", ALL, False),
        (":9464", ALL, False),
        ("localhost:x", LOCAL, False),
        ("::1", LOCAL, False),
        ("evil@localhost", LOCAL, False),
        ("localhost evil", LOCAL, False),
        ("[localhost", LOCAL, False),
    ],
)
def test_server_accepts_only_its_own_names(header: str, bound: Address, answers: bool) -> None:
    assert is_host_allowed(header, bound, "box.lan") == answers


def test_machine_without_a_name_refuses_an_empty_host() -> None:
    assert not is_host_allowed("", ALL, "")
