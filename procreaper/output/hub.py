"""The hub: each published notice goes to every sink, and a sink says when it has had enough.

Rules: runs in the thread of the loop and never blocks. The hub knows neither the publishers nor what a sink does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from procreaper.core.events import Notice


class Sink(Protocol):
    """Takes notices in order, and never blocks."""

    def accept(self, notice: Notice) -> bool:
        """Take the notice in any case; False asks the publisher to pause until there is room again."""


class Hub:
    """Passes every notice to every sink, in the order in which they were added."""

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._sinks = tuple(sinks)

    def publish(self, notice: Notice) -> bool:
        """Pass a notice to all sinks. Return False if one of them asks for a pause."""
        room = True
        for sink in self._sinks:
            room &= sink.accept(notice)
        return room

    def add(self, sink: Sink) -> None:
        """Pass notices to this sink too, from the next one on."""
        self._sinks = (*self._sinks, sink)

    def remove(self, sink: Sink) -> None:
        """Pass no more notices to this sink. An unknown one is no error."""
        self._sinks = tuple(other for other in self._sinks if other is not sink)
