"""One place to publish a notice; every sink gets it, and says when it has had enough.

Rules: runs in the loop's thread and never blocks. The hub knows neither who publishes nor what a sink does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from procreaper.events import Notice


class Sink(Protocol):
    """Something that takes notices, in order, without ever blocking."""

    def accept(self, notice: Notice) -> bool:
        """Take the notice in any case; False asks the publisher to pause until there is room again."""


class Hub:
    """Passes every notice to every sink."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._publish = tuple(sink.accept for sink in sinks)

    def publish(self, notice: Notice) -> bool:
        """Tell all sinks; False where one of them asks for a pause."""
        room = True
        for accept in self._publish:
            room &= accept(notice)
        return room


Publish = Callable[[Notice], bool]
