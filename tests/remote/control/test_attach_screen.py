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
        self.screen = Screen(self._arrive, self._draw_anew, self._close)

    def _arrive(self) -> None:
        self.arrivals += 1

    def _draw_anew(self) -> bytes:
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


def test_what_is_shown_comes_in_order_and_byte_by_byte_as_it_was() -> None:
    client = Client()
    pieces = [b"\x1b[31mred", b"\xff\xfe\0", "grüße".encode(), b"x" * (3 * screen.SLICE)]
    for piece in pieces:
        client.screen.show(piece)
    assert client.arrivals == len(pieces)
    assert client.shown() == b"".join(pieces)
    assert client.screen.read() is None


def test_who_is_too_far_behind_is_shown_what_waits_and_then_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "MOST_WAITING", 10)
    client = Client()
    for piece in (b"0123456789", b"lost", b"lost too"):
        client.screen.show(piece)
    assert client.pictures == 0
    assert client.shown() == b"0123456789<the present>"
    client.screen.show(b"again")
    assert client.shown() == b"again"
    assert client.pictures == 1


def test_the_end_is_told_behind_what_was_shown_once() -> None:
    client = Client()
    client.screen.show(b"last words")
    client.screen.end("exited with code 1")
    told = list(client.notices())
    assert [type(notice) for notice in told] == [ScreenNotice, TerminalClosedNotice]
    assert isinstance(told[-1], TerminalClosedNotice)
    assert told[-1].reason == "exited with code 1"
    assert client.screen.read() is None


def test_no_reply_waits_for_what_is_shown() -> None:
    client = Client()
    client.screen.show(b"much")
    assert list(client.screen.until_now()) == []
    client.screen.close()
    assert client.closed == 1
