"""`logs -f` with several apps: the rules of the command alone, with fake apps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from procreaper.cli.commands import logs
from procreaper.core.events import Message, Notice
from procreaper.remote.api.protocol import AnyNotice, GoodbyeNotice, MessageNotice


class App:
    """Something is always there to be read, but what comes of it is what was given, round by round."""

    def __init__(self, *rounds: list[AnyNotice]) -> None:
        self._rounds = list(rounds)
        self._reading, self._writing = os.pipe()
        os.write(self._writing, b"more")

    def fileno(self) -> int:
        return self._reading

    def arrived(self) -> list[AnyNotice]:
        return self._rounds.pop(0)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


class Screen:
    def __init__(self) -> None:
        self.shown: list[Notice] = []

    def show(self, notice: Notice) -> None:
        self.shown.append(notice)


@pytest.fixture
def both() -> Iterator[tuple[App, App]]:
    ending = App([GoodbyeNotice(1.0, 0)])
    # Half a line has come at first, which is nothing yet.
    staying = App([], [MessageNotice(2.0, "hello"), GoodbyeNotice(3.0, 0)])
    yield ending, staying
    for app in (ending, staying):
        app.close()


def test_end_of_one_app_does_not_end_the_other(both: Any) -> None:
    screen: Any = Screen()
    assert logs._follow(both, {}, screen) == 0
    assert screen.shown == [Message(2.0, "hello")]
