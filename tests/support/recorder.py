"""A recorder of notices, which can wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from procreaper.core.events import Event, Notice, Output
from support.loops import until

Kind = TypeVar("Kind", bound=Event | Notice)


class Witness:
    """Takes events, notices or both; `has_room` is what it answers to a notice."""

    def __init__(self) -> None:
        self.told: list[Event | Notice] = []
        self.has_room = True
        self._changed = asyncio.Event()

    def take(self, what: Event | Notice) -> None:
        self.told.append(what)
        self._changed.set()

    def accept(self, notice: Notice) -> bool:
        self.take(notice)
        return self.has_room

    def all(self, kind: type[Kind], name: str | None = None) -> list[Kind]:
        kinds = [each for each in self.told if isinstance(each, kind)]
        return [each for each in kinds if name is None or getattr(each, "name", None) == name]

    def output(self, name: str | None = None) -> bytes:
        return b"".join(each.data for each in self.all(Output, name))

    async def sees(self, happened: Callable[[], bool]) -> None:
        """Wait until something is so."""
        await until(happened, self._changed)

    async def gets(self, kind: type[Kind]) -> Kind:
        """Wait for the first of this kind."""
        await self.sees(lambda: bool(self.all(kind)))
        return self.all(kind)[0]

    async def reads(self, data: bytes, name: str | None = None) -> None:
        """Wait for output that contains this."""
        await self.sees(lambda: data in self.output(name))
