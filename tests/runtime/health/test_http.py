"""The HTTP check: the request, the healthy responses, and peers with a bad response or none."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.checking import LONG, SHORT, run_check, run_check_here
from support.peers import (
    Serve,
    answers,
    answers_and_stays,
    bound_twice,
    closes_at_once,
    drips,
    full_listener,
    has_ipv6,
    peer,
    read_request,
    repeats,
    resets,
    resets_at_once,
    until_gone,
)

import procreaper
from procreaper.core.checks import HTTPCheck
from procreaper.runtime.health import http, tls
from procreaper.runtime.health.errors import UnhealthyError
from procreaper.runtime.health.http import StatusReader

pytestmark = pytest.mark.usefixtures("leaves_nothing")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MOVED = b"HTTP/1.1 301 Moved Permanently\r\nLocation: http://127.0.0.1:1/\r\n\r\n"
NOT_TLS = "answered something that is not TLS"
NOT_HTTP = "answered something that is not HTTP"
ENDLESS = "answered with a header that does not end"
NO_ANSWER = "no answer within 0.2 s"


def ask(serve: Serve, *, status: tuple[int, ...] = (), timeout: float = LONG, path: str = "/healthz") -> str | None:
    with peer(serve) as port:
        return run_check(HTTPCheck(f"http://127.0.0.1:{port}{path}", status), timeout)


def asked(url: str) -> bytes:
    """Return what a peer receives for a URL, in which ``PORT`` stands for the port of the peer."""
    requests: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        connection.sendall(OK)

    with peer(serve) as port:
        assert run_check(HTTPCheck(url.replace("PORT", str(port)))) is None
    (request,) = requests
    return request.replace(b"%d" % port, b"PORT")


@pytest.mark.parametrize("url", ["http://[::1", "http://[x]/", "http:///", "ftp://host/", "", "http://host:0/"])
def test_invalid_url_is_an_error_that_names_it(url: str) -> None:
    with pytest.raises(ValueError, match="^`" + re.escape(url) + "` (is not a URL such as|has a port that is not)"):
        HTTPCheck(url)


# The request.


def test_request_has_the_expected_lines() -> None:
    assert asked("http://127.0.0.1:PORT/healthz?deep=1#top").decode().split("\r\n") == [
        "GET /healthz?deep=1 HTTP/1.1",
        "Host: 127.0.0.1:PORT",
        f"User-Agent: procreaper/{procreaper.__version__}",
        "Accept: */*",
        "Connection: close",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://localhost:PORT", "GET / HTTP/1.1"),
        ("http://localhost:PORT?a=b", "GET /?a=b HTTP/1.1"),
        ("http://localhost:PORT/a%2Fb/%E2%82%AC", "GET /a%2Fb/%E2%82%AC HTTP/1.1"),
        ("http://localhost:PORT/ä/€?q=ü&r=a b", "GET /%C3%A4/%E2%82%AC?q=%C3%BC&r=a%20b HTTP/1.1"),
        ("http://localhost:PORT/a HTTP/1.1\r\nX-Evil: 1\r\n\r\n", "GET /a%20HTTP/1.1X-Evil:%201 HTTP/1.1"),
        ("http://localhost:PORT//double//slash", "GET //double//slash HTTP/1.1"),
    ],
)
def test_path_and_query_arrive_unchanged_or_encoded(url: str, line: str) -> None:
    assert asked(url).decode("ascii").split("\r\n")[0] == line


def test_user_in_the_url_becomes_basic_authentication() -> None:
    encoded = b64encode("jo:pä:ss".encode())
    assert b"\r\nAuthorization: Basic " + encoded + b"\r\n" in asked("http://jo:p%C3%A4:ss@localhost:PORT/")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.org/", "example.org"),
        ("http://example.org:80/", "example.org"),
        ("https://example.org:443/", "example.org"),
        ("http://example.org:443/", "example.org:443"),
        ("http://[::1]:8000/", "[::1]:8000"),
        ("http://[fe80::1%25lo]/", "[fe80::1]"),
        ("http://bücher.example/", "xn--bcher-kva.example"),
    ],
)
def test_host_header_matches_the_url(url: str, host: str) -> None:
    assert f"\r\nHost: {host}\r\n".encode() in http.build_request(urlsplit(url))


@given(st.text(), st.text(), st.text(), st.sampled_from(["", "jo:pass@"]))
def test_no_url_can_add_a_line_to_the_request(host: str, path: str, query: str, user: str) -> None:
    try:
        parts = urlsplit(f"http://{user}{host}/{path}?{query}")
        assume(parts.hostname)
        _ = parts.port
        request = http.build_request(parts)
    except ValueError:
        return
    lines = request.decode("ascii").split("\r\n")
    assert len(lines) == (8 if parts.username is not None else 7)
    assert all(line.isprintable() for line in lines)
    assert lines[0].count(" ") == 2
    assert lines[1].count(" ") == 1


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ask(answers(OK)) is None


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_server_with_only_ipv6_is_healthy(host: str) -> None:
    refusing, listening = bound_twice()
    with refusing, peer(answers(OK), listening) as port:
        assert run_check(HTTPCheck(f"http://{host}:{port}/")) is None


# The response.


@pytest.mark.parametrize("status", [200, 204, 226, 299])
def test_any_success_status_is_healthy(status: int) -> None:
    assert ask(answers(b"HTTP/1.1 %d\r\n\r\n" % status)) is None


@pytest.mark.parametrize("status", [301, 404, 500, 503])
def test_any_other_status_is_the_reason(status: int) -> None:
    assert ask(answers(b"HTTP/1.0 %d Something\r\n\r\n" % status)) == f"status {status}"


def test_only_listed_statuses_are_healthy() -> None:
    assert ask(answers(MOVED), status=(301, 401)) is None
    assert ask(answers(OK), status=(301, 401)) == "status 200"


REMEDY = "add `status = 302` to `health`, or check another path"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"Location: /login\r\n", f"status 302, redirects to /login; {REMEDY}"),
        (b"A: b\r\nlocation:/a\x1b[31m b\r\n", f"status 302, redirects to /a b; {REMEDY}"),
        (b"Location: /" + b"a" * 100 + b"\r\n", f"status 302, redirects to /{'a' * 76}...; {REMEDY}"),
        (b"Location: \r\n", "status 302"),
        (b"A: b\r\n", "status 302"),
    ],
)
def test_redirect_is_named_and_not_followed(header: bytes, reason: str) -> None:
    assert (
        ask(answers(b"HTTP/1.1 103 Hints\r\nLocation: /no\r\n\r\nHTTP/1.1 302 Found\r\n" + header + b"\r\n")) == reason
    )


def test_redirect_with_a_cut_header_is_still_a_redirect() -> None:
    assert ask(answers(b"HTTP/1.1 302 Found\r\nA: b\r\n")) == "status 302"


def test_interim_responses_are_skipped() -> None:
    assert ask(answers(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)) is None
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert ask(answers(hints + hints + b"HTTP/1.1 503 Unavailable\r\n\r\n")) == "status 503"


def test_switch_of_protocols_is_a_final_response() -> None:
    assert ask(answers_and_stays(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), status=(101,)) is None


@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(drips(OK[:-2]), id="drips-its-body"),
        pytest.param(drips(b"HTTP/1.1 200 OK\r\nX: "), id="drips-its-header"),
        pytest.param(repeats(OK, bytes(65536)), id="floods"),
        pytest.param(repeats(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000), id="endless-header"),
        pytest.param(answers_and_stays(OK), id="keeps-the-connection"),
        pytest.param(answers(OK + bytes(50_000_000)), id="huge-body"),
    ],
)
def test_data_after_the_status_does_not_matter(serve: Serve) -> None:
    assert ask(serve) is None


def test_short_response_is_read_to_its_end() -> None:
    # Many servers log an error if the client leaves earlier.
    ended: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        for part in (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n\r\n", bytes(100_000)):
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        ended.append(connection.recv(1))

    assert ask(serve) is None
    assert ended == [b""]


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        pytest.param(closes_at_once, "closed the connection without an answer", id="closes-at-once"),
        pytest.param(answers(b""), "closed the connection without an answer", id="closes"),
        pytest.param(answers(b"HTTP/1.1 20"), "closed the connection in the middle of its answer", id="half"),
        pytest.param(answers(b"HTTP/1.1 100\r\n\r\n"), "closed the connection in the middle of its answer", id="100"),
        pytest.param(resets, "connection reset by peer", id="resets"),
        pytest.param(answers(b"SSH-2.0-OpenSSH_9.6\r\n"), NOT_HTTP, id="ssh"),
        pytest.param(answers_and_stays(b"\0\xff\x80"), NOT_HTTP, id="bytes-without-a-line"),
        pytest.param(answers(b"HTTP/1.1 OK\r\n\r\n"), NOT_HTTP, id="no-status"),
        pytest.param(answers(b"HTTP/1.1 2000 OK\r\n\r\n"), NOT_HTTP, id="four-digits"),
        pytest.param(answers(b"HTTP/1.1 099 OK\r\n\r\n"), NOT_HTTP, id="too-small"),
        pytest.param(answers(b"\r\n" + OK), NOT_HTTP, id="empty-line"),
        pytest.param(repeats(b"HTTP/1.1 200 ", b"O" * 1000), ENDLESS, id="endless-status-line"),
        pytest.param(repeats(b"HTTP/1.1 100\r\n", b"X: y\r\n" * 100), ENDLESS, id="endless-interim-header"),
        pytest.param(repeats(b"", b"HTTP/1.1 100\r\n\r\n" * 100), ENDLESS, id="endless-interim-answers"),
    ],
)
def test_invalid_response_is_the_reason(serve: Serve, reason: str) -> None:
    assert ask(serve) == reason


@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(until_gone, id="never-answers"),
        pytest.param(drips(b"HTTP/1.1 200 "), id="drips-its-status-line"),
        pytest.param(drips(b"HTTP/1.1 100 Continue\r\nX: "), id="drips-an-interim-header"),
        pytest.param(drips(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "), id="drips-after-an-interim-answer"),
    ],
)
def test_missing_response_ends_at_the_timeout(serve: Serve) -> None:
    assert ask(serve, timeout=SHORT) == NO_ANSWER


@given(st.data())
def test_response_means_the_same_in_any_pieces(data: st.DataObject) -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 102\n\nHTTP/1.0 503 Service Unavailable\r\nX: y\r\n\r\nbody"
    )
    end = answer.index(b"Unavailable\r\n") + len(b"Unavailable\r\n")
    statuses, position, status = StatusReader(), 0, None
    while status is None:
        size = data.draw(st.integers(1, 20))
        status = statuses.feed(answer[position : position + size])
        position += size
        assert (status is not None) is (position >= end)
    assert status == 503


@given(st.lists(st.binary(min_size=1)))
def test_any_data_is_a_status_or_a_reason(pieces: list[bytes]) -> None:
    statuses = StatusReader()
    try:
        for piece in pieces:
            status = statuses.feed(piece)
            assert status is None or 100 <= status <= 599
    except UnhealthyError:
        pass


# Cancellation.


@pytest.mark.parametrize(
    ("scheme", "beginning"),
    [("http", b""), ("http", b"HTTP/1.1 100 Continue\r\n\r\n"), ("https", b""), ("https", b"\x16\x03")],
)
def test_cancellation_closes_the_connection(scheme: str, beginning: bytes) -> None:
    asked, gone = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(beginning)
        asked.set()
        until_gone(connection)
        gone.set()

    async def main(port: int) -> None:
        check = asyncio.create_task(run_check_here(HTTPCheck(f"{scheme}://127.0.0.1:{port}/")))
        assert await asyncio.to_thread(asked.wait, LONG)
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check
        assert await asyncio.to_thread(gone.wait, LONG)

    with peer(serve) as port:
        asyncio.run(main(port))


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does a full listener swallow packets")
def test_cancellation_while_connecting_leaves_nothing() -> None:
    async def main() -> None:
        with full_listener() as port:
            check = asyncio.create_task(run_check_here(HTTPCheck(f"http://127.0.0.1:{port}/")))
            for _ in range(5):
                await asyncio.sleep(0)
            check.cancel()
            with pytest.raises(asyncio.CancelledError):
                await check

    asyncio.run(main())


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a self-signed certificate for localhost, and its key."""
    directory = tmp_path_factory.mktemp("certificate")
    files = directory / "certificate.pem", directory / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    argv += ["-addext", "subjectAltName=DNS:localhost", "-addext", "keyUsage=digitalSignature,keyCertSign"]
    try:
        subprocess.run([*argv, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl makes no certificate: {error}")
    return files


@pytest.fixture
def _forget_trust() -> Iterator[None]:
    tls._context.cache_clear()
    yield
    tls._context.cache_clear()


@pytest.fixture
def _trust(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, _forget_trust: None) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))


def secured(serve: Serve, certificate: tuple[Path, Path]) -> Serve:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def serve_secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            serve(inner)

    return serve_secured


def ask_secured(
    serve: Serve, *, host: str = "localhost", timeout: float = LONG, verify: bool = True, ca: str | None = None
) -> str | None:
    with peer(serve) as port:
        return run_check(HTTPCheck(f"https://{host}:{port}/healthz", verify=verify, ca=ca), timeout)


@pytest.mark.usefixtures("_forget_trust")
def test_unverified_certificate_is_refused_and_both_remedies_are_named(
    certificate: tuple[Path, Path],
) -> None:
    reason = ask_secured(secured(answers(OK), certificate)) or ""
    assert reason.startswith("its certificate is not valid: self")
    assert reason.endswith(
        " (name the file that has signed it as `ca` in `health`; `verify = false` in `health` accepts it)"
    )


@pytest.mark.usefixtures("_forget_trust")
def test_ca_file_replaces_the_authorities_of_the_system(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    serve = secured(answers(OK), certificate)
    assert ask_secured(serve, ca=str(certificate[0])) is None
    reason = ask_secured(serve, host="127.0.0.1", ca=str(certificate[0])) or ""
    assert reason.startswith("its certificate is not valid: IP address mismatch")
    assert reason.endswith(" (`verify = false` in `health` accepts it)")
    # The store of the system does not change: without the file, the certificate is still refused.
    assert (ask_secured(serve) or "").startswith("its certificate is not valid: self")
    missing = str(tmp_path / "missing.pem")
    assert ask_secured(serve, ca=missing) == f"the file `{missing}` of `ca` cannot be read: no such file or directory"
    (tmp_path / "empty.pem").touch()
    empty = str(tmp_path / "empty.pem")
    assert ask_secured(serve, ca=empty) == f"the file `{empty}` of `ca` has no certificate (PEM)"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_any_certificate_is_accepted_without_verification(certificate: tuple[Path, Path], host: str) -> None:
    serve = secured(answers(OK), certificate)
    assert ask_secured(serve, host=host, verify=False) is None


def test_ca_file_without_verification_is_an_error() -> None:
    with pytest.raises(ValueError, match="the file `ca` has no effect without `verify`"):
        HTTPCheck("https://localhost/", verify=False, ca="ca.pem")


@pytest.mark.usefixtures("_trust")
def test_trusted_certificate_is_healthy(certificate: tuple[Path, Path]) -> None:
    assert ask_secured(secured(answers(OK), certificate)) is None
    assert ask_secured(secured(answers(b"HTTP/1.1 503\r\n\r\n"), certificate)) == "status 503"


@pytest.mark.usefixtures("_trust")
def test_certificate_for_another_host_is_refused(certificate: tuple[Path, Path]) -> None:
    reason = ask_secured(secured(answers(OK), certificate), host="127.0.0.1")
    assert (reason or "").startswith("its certificate is not valid: IP address mismatch")


@pytest.mark.usefixtures("_trust")
@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        pytest.param(answers(b""), "closed the connection without an answer", id="closes"),
        pytest.param(answers(b"garbage"), NOT_HTTP, id="garbage"),
        pytest.param(repeats(b"", b"HTTP/1.1 100\r\n\r\n" * 100), ENDLESS, id="endless-interim-answers"),
        pytest.param(answers(OK + bytes(10_000_000)), None, id="huge-body"),
        pytest.param(answers_and_stays(OK), None, id="keeps-the-connection"),
    ],
)
def test_responses_over_tls(certificate: tuple[Path, Path], serve: Serve, reason: str | None) -> None:
    assert ask_secured(secured(serve, certificate)) == reason


@pytest.mark.usefixtures("_trust")
def test_missing_response_over_tls_ends_at_the_timeout(certificate: tuple[Path, Path]) -> None:
    assert ask_secured(secured(until_gone, certificate), timeout=1.0) == "no answer within 1 s"


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        pytest.param(answers_and_stays(b"HTTP/1.1 400 Bad Request\r\n\r\n"), NOT_TLS, id="plain-http"),
        pytest.param(answers_and_stays(b"SSH-2.0-OpenSSH_9.6\r\n"), NOT_TLS, id="ssh"),
        pytest.param(closes_at_once, "closed the connection without an answer", id="closes-at-once"),
        pytest.param(resets_at_once, "connection reset by peer", id="resets"),
    ],
)
def test_peer_without_tls_is_the_reason(serve: Serve, reason: str) -> None:
    assert ask_secured(serve) == reason


def test_alert_of_the_peer_is_the_reason() -> None:
    reason = ask_secured(answers_and_stays(b"\x15\x03\x03\x00\x02\x02\x28")) or ""
    assert reason.startswith("TLS failed: ")
    assert reason.endswith("alert handshake failure")


def test_peer_without_a_handshake_ends_at_the_timeout() -> None:
    assert ask_secured(until_gone, timeout=1.0) == "no answer within 1 s"
