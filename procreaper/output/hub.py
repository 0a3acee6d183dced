"""One place to publish a notice; every sink gets it, and says when it has had enough.

Rules: runs in the loop's thread and never blocks. The hub knows neither who publishes nor what a sink does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from procreaper.core.events import Notice


class Sink(Protocol):
    """Something that takes notices, in order, without ever blocking."""

    def accept(self, notice: Notice) -> bool:
        """Take the notice in any case; False asks the publisher to pause until there is room again."""


class Hub:
    """Passes every notice to every sink, in the order in which they were added."""

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._sinks = tuple(sinks)

    def publish(self, notice: Notice) -> bool:
        """Tell all sinks; False where one of them asks for a pause."""
        room = True
        for sink in self._sinks:
            room &= sink.accept(notice)
        return room

    def add(self, sink: Sink) -> None:
        """From the next notice on, tell this one too."""
        self._sinks = (*self._sinks, sink)

    def remove(self, sink: Sink) -> None:
        """Tell this one no more; one that is not there is no error."""
        self._sinks = tuple(other for other in self._sinks if other is not sink)
