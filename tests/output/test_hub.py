"""The hub: every sink gets every notice, and the slowest one decides about a pause."""

from __future__ import annotations

import pytest

from procreaper.core.events import Message, Notice
from procreaper.output.hub import Hub


class Sink:
    def __init__(self, room: bool) -> None:
        self.room = room
        self.notices: list[Notice] = []

    def accept(self, notice: Notice) -> bool:
        self.notices.append(notice)
        return self.room


@pytest.mark.parametrize(
    ("rooms", "room"), [([], True), ([True], True), ([False], False), ([False, True], False), ([True, False], False)]
)
def test_every_sink_gets_every_notice_and_any_may_ask_for_a_pause(rooms: list[bool], room: bool) -> None:
    sinks = [Sink(its_room) for its_room in rooms]
    hub = Hub(sinks)
    notices = [Message(0.0, "one"), Message(1.0, "two")]
    assert [hub.publish(notice) for notice in notices] == [room, room]
    assert [sink.notices for sink in sinks] == [notices] * len(rooms)
