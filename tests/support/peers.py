"""Peers for health checks: small servers in threads, each with its own misbehaviour."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LOCALHOST = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
# Seconds between two bytes of a peer that drips.
DRIP = 0.01

Serve = Callable[[socket.socket], object]


@contextmanager
def peer(serve: Serve, listener: socket.socket | None = None) -> Iterator[int]:
    """Call `serve` in a thread for every connection, and give the port. End all threads afterwards."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def serve_one(connection: socket.socket) -> None:
        # The behaviour of the client is not tested here.
        with suppress(OSError):
            serve(connection)
        connection.close()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            if stop.is_set():
                connection.close()
                return
            connections.append(connection)
            threads.append(threading.Thread(target=serve_one, args=(connection,)))
            threads[-1].start()

    with listener or bound(socket.AF_INET) as listener:
        listener.listen()
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            socket.create_connection(listener.getsockname()[:2]).close()
            accepting.join()
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def read_request(connection: socket.socket) -> bytes:
    request = b""
    while not request.endswith(b"\r\n\r\n") and (data := connection.recv(65536)):
        request += data
    return request


def until_gone(connection: socket.socket) -> None:
    """Wait until the client has closed the connection."""
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass


def answers(answer: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    return serve


def answers_and_stays(answer: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.sendall(answer)
        until_gone(connection)

    return serve


def repeats(beginning: bytes, data: bytes, *, pause: float = 0.0) -> Serve:
    """Send `data` again and again until the client closes the connection."""

    def serve(connection: socket.socket) -> None:
        never = threading.Event()
        connection.sendall(beginning)
        while True:
            connection.sendall(data)
            never.wait(pause)

    return serve


def drips(beginning: bytes, byte: bytes = b"x") -> Serve:
    return repeats(beginning, byte, pause=DRIP)


def resets(connection: socket.socket) -> None:
    read_request(connection)
    resets_at_once(connection)


def resets_at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def closes_at_once(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    until_gone(connection)


@contextmanager
def full_listener(listener: socket.socket | None = None) -> Iterator[int]:
    """Give a port where packets get no answer: its queue of connections is full, and no program accepts."""
    with listener or bound(socket.AF_INET) as listener:
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as one_more:
            one_more.setblocking(False)
            one_more.connect_ex(address)
            yield address[1]


def bound(family: socket.AddressFamily, port: int = 0) -> socket.socket:
    """Bind a port without listening: no other program can use the port, and a connection is refused."""
    taken = socket.socket(family)
    try:
        taken.bind((LOCALHOST[family], port))
    except OSError:
        taken.close()
        raise
    return taken


def bound_twice() -> tuple[socket.socket, socket.socket]:
    """Bind one port of IPv4 and IPv6, as `bound` does."""
    while True:
        ipv4 = bound(socket.AF_INET)
        try:
            return ipv4, bound(socket.AF_INET6, ipv4.getsockname()[1])
        except OSError as error:
            ipv4.close()
            if error.errno != errno.EADDRINUSE:
                raise


def has_ipv6() -> bool:
    """Whether this machine can listen on its own IPv6 address."""
    try:
        bound(socket.AF_INET6).close()
    except OSError:
        return False
    return True
