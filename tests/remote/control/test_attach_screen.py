"""The output for an attached client: all of it in order, or the current screen if it is too much."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from procreaper.remote.api.protocol import AnyNotice, ScreenNotice, TerminalClosedNotice
from procreaper.remote.control import attach_screen as screen
from procreaper.remote.control.attach_screen import Screen


class Client:
    """The attached client."""

    def __init__(self) -> None:
        self.arrivals = self.pictures = self.closed = 0
        self.screen = Screen(self._arrive, self._redraw, self._close)

    def _arrive(self) -> None:
        self.arrivals += 1

    def _redraw(self) -> bytes:
        self.pictures += 1
        return b"<the present>"

    def _close(self) -> None:
        self.closed += 1

    def notices(self) -> Iterator[AnyNotice]:
        while (line := self.screen.read()) is not None:
            assert line.endswith(b"\n")
            yield msgspec.json.decode(line, type=AnyNotice)

    def shown(self) -> bytes:
        return b"".join(notice.data for notice in self.notices() if isinstance(notice, ScreenNotice))


def test_output_arrives_in_order_and_unchanged() -> None:
    client = Client()
    pieces = [b"\x1b[31mred", b"\xff\xfe\0", "grüße".encode(), b"x" * (3 * screen.SLICE)]
    for piece in pieces:
        client.screen.show(piece)
    assert client.arrivals == len(pieces)
    assert client.shown() == b"".join(pieces)
    assert client.screen.read() is None


def test_slow_client_gets_the_waiting_output_and_then_the_current_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "MOST_WAITING", 10)
    client = Client()
    for piece in (b"0123456789", b"lost", b"lost too"):
        client.screen.show(piece)
    assert client.pictures == 0
    assert client.shown() == b"0123456789<the present>"
    client.screen.show(b"again")
    assert client.shown() == b"again"
    assert client.pictures == 1


def test_end_is_reported_once_after_the_output() -> None:
    client = Client()
    client.screen.show(b"last words")
    client.screen.end("exited with code 1")
    told = list(client.notices())
    assert [type(notice) for notice in told] == [ScreenNotice, TerminalClosedNotice]
    assert isinstance(told[-1], TerminalClosedNotice)
    assert told[-1].reason == "exited with code 1"
    assert client.screen.read() is None


def test_replies_do_not_wait_for_output() -> None:
    client = Client()
    client.screen.show(b"much")
    assert list(client.screen.until_now()) == []
    client.screen.close()
    assert client.closed == 1
