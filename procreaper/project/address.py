"""Addresses to listen at: `9464`, `127.0.0.1:9464`, `[::1]:9464`, `box.local:9464`; and the check of `Host` headers.

Rules: pure; no name is resolved. The default host is the loopback address, so that a port is not opened to other
machines by mistake.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from procreaper.core.plan import HIGHEST_PORT

LOOPBACK = "127.0.0.1"
MOST_DIGITS = 5
HINT = "for example `9464`, `127.0.0.1:9464` or `[::1]:9464`"
# These names always mean this machine.
OWN_NAMES = frozenset({"localhost", LOOPBACK, "::1"})
_LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?=[0-9-]*[a-z_]){_LABEL}\.?", re.IGNORECASE)


class Address(NamedTuple):
    """A host (a name, or an IP address without brackets) and a port. Port 0 means a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        address = _address(self.host)
        return self.host.lower().rstrip(".") == "localhost" if address is None else address.is_loopback


def parse_address(text: str) -> Address:
    """Parse an address. Raises ValueError, with a phrase for the reason, if it is invalid.

    >>> parse_address("9464"), str(parse_address("[::1]:0"))
    (Address(host='127.0.0.1', port=9464), '[::1]:0')
    """
    before, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal()) and not colon:
        raise ValueError("the port is missing")
    if not (port.isascii() and port.isdecimal() and len(port) <= MOST_DIGITS and int(port) <= HIGHEST_PORT):
        raise ValueError(f"`{port}` is not a port, which is a number from 0 to {HIGHEST_PORT}")
    if not before:
        return Address(LOOPBACK, int(port))
    host = before.removeprefix("[").removesuffix("]")
    bracketed = before == f"[{host}]"
    address = _address(host)
    if isinstance(address, IPv6Address) and not bracketed:
        raise ValueError(f"an IPv6 address needs brackets, as in `[{host}]:{port}`")
    if isinstance(address, IPv6Address) or (not bracketed and (address is not None or _NAME.fullmatch(host))):
        return Address(host, int(port))
    raise ValueError(f"`{before}` is neither an address nor the name of a host")


def is_host_allowed(header: str, bound: Address, host_name: str) -> bool:
    """Return whether the `Host` header of a request is a name of the server at the address `bound`.

    This stops DNS rebinding: a web page can make its own name resolve to an address of this machine, and then send
    requests here; but it cannot make the browser send another name. `host_name` is the name of this machine.
    """
    # Ignore the port, which may differ behind a tunnel or in a container.
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(:[0-9]*)?", header.strip())
    if match is None:
        return False
    asked = match[1].removeprefix("[").removesuffix("]").lower().rstrip(".")
    if asked in OWN_NAMES or asked == bound.host.lower().rstrip("."):
        return True
    if bound.is_loopback:
        return False
    own = host_name.lower().rstrip(".")
    return bool(asked) and (asked in (own, own.partition(".")[0]) or _address(asked) is not None)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
