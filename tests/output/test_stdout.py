"""Standard output as a sink: bounded, never blocking the loop, and nothing lost while it works."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections.abc import Collection, Iterator
from types import TracebackType

import pytest
from support.loops import in_loop, until

from procreaper.core.events import Message, Output
from procreaper.output import stdout as module
from procreaper.output.stdout import HIGH, LAST_WRITES, PIECES_AT_ONCE, Terminal
from procreaper.output.text import Style, TextFormat

# Longer than any test: a wait for it hangs.
FOR_EVER = 3600.0


class Screen:
    """A pipe with a terminal at its writing end, and what it has called."""

    def __init__(self, descriptor: int | None = None, *, quiet: Collection[str] = ()) -> None:
        self.reading, writing = os.pipe()
        self.writing = writing if descriptor is None else descriptor
        self.room = 0
        self.errors: list[OSError] = []
        self.changed = asyncio.Event()
        text = TextFormat(
            ["web.1", "db.1"], Style(prefix=False, terminal=False), clock=lambda _: "", signal_name=lambda _: ""
        )
        self.terminal = Terminal(self.writing, text, quiet=quiet, on_room=self._on_room, on_broken=self._on_broken)

    def says(self, data: bytes, name: str = "web.1") -> bool:
        return self.terminal.accept(Output(0.0, name, data))

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        data = b""
        while len(data) < size:
            data += os.read(self.reading, size - len(data))
        return data

    async def read_to_the_end(self, patience: float = FOR_EVER) -> bytes:
        """Drain the terminal while a thread reads; return all output."""
        reader = asyncio.create_task(asyncio.to_thread(self._read_all))
        await self.terminal.drain(patience)
        os.close(self.writing)
        return await reader

    def _read_all(self) -> bytes:
        data = b""
        while piece := os.read(self.reading, 1 << 16):
            data += piece
        return data

    def _on_room(self) -> None:
        self.room += 1
        self.changed.set()

    def _on_broken(self, error: OSError) -> None:
        self.errors.append(error)
        self.changed.set()


@pytest.fixture(autouse=True)
def no_writer_is_left() -> Iterator[None]:
    """The writer ends with its terminal, unless it is left behind on purpose."""
    yield
    for thread in threading.enumerate():
        if thread.name == "terminal-writer":
            thread.join(45)
            assert not thread.is_alive()


@in_loop
async def test_all_that_was_accepted_comes_out_in_order() -> None:
    screen = Screen()
    lines = [b"%d\n" % number for number in range(3 * PIECES_AT_ONCE)]
    assert all(screen.says(line) for line in lines)
    assert await screen.read_to_the_end() == b"".join(lines)
    assert not screen.terminal.lost
    assert (screen.room, screen.errors) == (0, [])


@in_loop
async def test_a_piece_larger_than_the_pipe_comes_out_whole() -> None:
    screen = Screen()
    data = b"".join(b"%d\n" % number for number in range(400_000))
    assert not screen.says(data)
    assert await screen.read_to_the_end() == data


@in_loop
async def test_the_output_of_the_quiet_is_not_shown_and_everything_else_is() -> None:
    screen = Screen(quiet=("db.1",))
    assert screen.says(b"hidden\n", "db.1")
    screen.says(b"shown\n")
    screen.terminal.accept(Message(0.0, "db.1 stopped"))
    assert await screen.read_to_the_end() == b"shown\ndb.1 stopped\n"


@in_loop
async def test_who_is_quiet_may_change() -> None:
    quiet = {"db.1"}
    screen = Screen(quiet=quiet)
    screen.says(b"hidden\n", "db.1")
    quiet.clear()
    screen.says(b"shown\n", "db.1")
    assert await screen.read_to_the_end() == b"shown\n"


@in_loop
async def test_an_open_line_is_ended_at_the_end() -> None:
    screen = Screen()
    screen.says(b"half")
    assert await screen.read_to_the_end() == b"half\n"


@in_loop
async def test_a_full_queue_asks_for_a_pause_and_tells_when_there_is_room() -> None:
    screen = Screen()
    line = b"x" * 4095 + b"\n"
    accepted = 0
    while screen.says(line):
        accepted += 1
    accepted += 1
    # What is in the pipe is not in the queue any more.
    assert HIGH < accepted * len(line) <= HIGH + (1 << 20)
    # A producer that does not pause is not refused, but asked again.
    assert not screen.says(line)
    accepted += 1
    assert screen.room == 0
    screen.read(accepted * len(line))
    await until(lambda: screen.room == 1, screen.changed)
    assert screen.says(line)
    assert await screen.read_to_the_end() == line
    assert screen.room == 1


@in_loop
async def test_a_reader_that_has_gone_is_reported_once_and_nobody_waits_for_room() -> None:
    screen = Screen()
    while screen.says(b"x" * 4096):
        pass
    os.close(screen.reading)
    await until(lambda: bool(screen.errors and screen.room), screen.changed)
    assert all(screen.says(b"x" * HIGH) for _ in range(10))
    await screen.terminal.drain(FOR_EVER)
    assert [error.errno for error in screen.errors] == [errno.EPIPE]
    assert screen.errors[0].errno in module.NOBODY_READS
    assert screen.terminal.lost


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a /dev/full")
@in_loop
async def test_a_full_disk_is_reported_with_its_reason() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        screen = Screen(full.fileno())
        screen.says(b"hello\n")
        await until(lambda: bool(screen.errors), screen.changed)
        await screen.terminal.drain(FOR_EVER)
    assert [error.errno for error in screen.errors] == [errno.ENOSPC]
    assert errno.ENOSPC not in module.NOBODY_READS
    assert screen.terminal.lost


@in_loop
async def test_non_blocking_output_is_waited_for() -> None:
    screen = Screen()
    os.set_blocking(screen.writing, False)
    data = b"".join(b"%d\n" % number for number in range(100_000))
    screen.says(data)
    assert await screen.read_to_the_end() == data


@in_loop
async def test_a_reader_that_reads_nothing_any_more_is_given_up() -> None:
    screen = Screen()
    while screen.says(b"x" * 4096):
        pass
    await screen.terminal.drain(patience=0.05)
    assert screen.terminal.lost
    os.close(screen.reading)


@in_loop
async def test_a_reader_that_reads_a_little_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    size = 10 * LAST_WRITES
    os.set_blocking(screen.writing, True)
    filled = 0
    while screen.says(b"x" * size):
        filled += size
    filled += size
    read = 0

    class Patience:
        """Over as soon as the reader has read, and the writer has written, a little."""

        async def __aenter__(self) -> None:
            return

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
        ) -> bool:
            return False

    async def wait() -> bool:
        nonlocal read
        before = screen.terminal._writer.written
        while screen.terminal._writer.written == before:
            if read < filled:
                read += len(os.read(screen.reading, 1 << 16))
            await asyncio.sleep(0)
        if screen.terminal._writer.waiting:
            raise TimeoutError
        return await original()

    monkeypatch.setattr(asyncio, "timeout", lambda _: Patience())
    original = screen.terminal._writer._done.wait
    monkeypatch.setattr(screen.terminal._writer._done, "wait", wait)
    await screen.terminal.drain(patience=0.0)
    assert not screen.terminal.lost


@in_loop
async def test_whoever_insists_does_not_wait_for_a_reader() -> None:
    screen = Screen()
    while screen.says(b"x" * 4096):
        pass
    draining = asyncio.create_task(screen.terminal.drain(FOR_EVER))
    await asyncio.sleep(0)
    screen.terminal.abandon()
    await draining
    assert screen.terminal.lost
    os.close(screen.reading)


def test_a_writer_that_was_left_behind_does_not_mind_that_the_loop_is_gone() -> None:
    screens = []

    async def leave() -> None:
        screen = Screen()
        screens.append(screen)
        while screen.says(b"x" * 4096):
            pass
        screen.terminal.abandon()
        await screen.terminal.drain(FOR_EVER)

    asyncio.run(leave())
    # It keeps writing, but the loop to report to is gone.
    screens[0].read(HIGH)
    os.close(screens[0].reading)
