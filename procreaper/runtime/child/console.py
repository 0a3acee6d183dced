"""The terminal of a child for attached clients: its output, its input, its size.

Rules: bounded in bytes, even if the child does not read its input or a client does not read the output. No client
delays the child. Knows nothing about where the clients are.

Theory of operation. The console keeps at least the last `MOST_KEPT` bytes that were written to the main screen, and the
modes that the child has set on its terminal (`modes`). So a late client sees the same screen as an early one. A change
of the size makes a program redraw that reads single keys or draws on the alternate screen. The size is the smallest of
all clients, or that of our own window without clients. The content of the alternate screen does not consist of lines;
it is published only if the run ends there, because it may be the last output.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from typing import Protocol

from procreaper.runtime.terminal.modes import RESET, Modes, strip_mode_changes, strip_queries

MOST_KEPT = 1 << 15
# After this number of bytes without a client, no carriage returns are added to the line ends of a child. Such a child
# is hardly an interactive program, which would return to the modes that it found while a client is attached.
FLOOD = 1 << 20
# What is typed waits in the kernel for the child to read it, and then here.
MOST_TYPED = 1 << 16
# Seconds for which input waits for room.
PATIENCE = 5.0
# Seconds for which the terminal has another size, so that its program notices the change.
MOMENT = 0.05
LINE_END = re.compile(rb"(?<!\r)\n")
CLEAR = b"\x1b[2J\x1b[H"


class OwnTerminal(Protocol):
    """A terminal for one child, which has `child_end` as its three streams; its output is read at `parent_end`."""

    parent_end: int
    child_end: int
    size: os.terminal_size

    def wrap_command(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that runs `argv` with this controlling terminal."""

    def resize(self, size: os.terminal_size) -> None:
        """Set the size."""

    @property
    def takes_keys(self) -> bool:
        """Whether the program on it reads single keys, not lines."""

    def add_carriage_returns(self) -> bool:
        """From now on, end each line of output with a carriage return. Return whether this was a change."""

    def omit_carriage_returns(self) -> None:
        """From now on, pass output unchanged, unless the program has modes of its own."""

    def resume_output(self) -> None:
        """Resume output that was stopped by Ctrl-S."""


class Console:
    """The terminal of one run, to which clients can attach. Its first size is that of our own window.

    `left()` is called when the last client has left.
    """

    def __init__(self, terminal: OwnTerminal) -> None:
        self.left: Callable[[], None] = lambda: None
        self._terminal = terminal
        self._window = self._size = terminal.size
        self._loop = asyncio.get_running_loop()
        self._modes = Modes()
        # Bytes written without a client.
        self._unseen = 0
        self._kept = bytearray()
        self._drawn = bytearray()
        self._attached: list[Attachment] = []
        self._typed = bytearray()
        self._was_read = asyncio.Event()
        self._is_stuck = False
        self._resize_timer: asyncio.TimerHandle | None = None
        self.ended = False

    # For the run.

    @property
    def attended(self) -> bool:
        """Whether a client is attached."""
        return bool(self._attached)

    @property
    def alternate(self) -> bool:
        """Whether it shows the alternate screen, to which nothing scrolls back."""
        return self._modes.is_alternate

    def take(self, data: bytes) -> bytes:
        """Show the output to all clients, and return the part of it that is for the main screen, in lines."""
        written = self._modes.feed(data)
        if not self._modes.is_alternate:
            self._drawn.clear()
        if written.alternate and self._modes.is_alternate:
            _keep_end(self._drawn, written.alternate)
        if written.main:
            _keep_end(self._kept, written.main)
        if self._attached:
            if self._terminal.add_carriage_returns():
                data = LINE_END.sub(b"\r\n", data)
            self._attached[0].show(data)
            if len(self._attached) > 1:
                # One answer to each query of the program is enough.
                asked_nothing = strip_queries(data)
                for attachment in self._attached[1:]:
                    attachment.show(asked_nothing)
        elif self._unseen <= FLOOD:
            self._unseen += len(data)
            if self._unseen > FLOOD:
                self._terminal.omit_carriage_returns()
        return written.main

    def take_rest(self) -> bytes:
        """Return an incomplete escape sequence as text, and the last content of the alternate screen if it is shown."""
        rest = bytes(self._drawn) + self._modes.take_unfinished()
        self._drawn.clear()
        return rest

    def resize(self, window: os.terminal_size) -> None:
        """Our own window has a new size; the terminal gets it when no client is attached."""
        self._window = window
        self.fit()

    def end(self) -> None:
        """The terminal is about to be closed."""
        self.ended = True
        if self._typed:
            self._loop.remove_writer(self._terminal.parent_end)
            self._typed.clear()
        if self._resize_timer is not None:
            self._resize_timer.cancel()
        self._was_read.set()

    # For attached clients.

    def attach(self, show: Callable[[bytes], None], size: os.terminal_size) -> Attachment:
        """Show all output from now on to a client whose terminal has this size."""
        attachment = Attachment(self, show, size)
        self._terminal.add_carriage_returns()
        self._unseen = 0
        self._attached.append(attachment)
        if not self.fit():
            self.redraw()
        return attachment

    def part(self, attachment: Attachment) -> None:
        """Detach a client; nothing happens if it has left before."""
        if attachment not in self._attached:
            return
        self._attached.remove(attachment)
        self.fit()
        if not self._attached:
            if not self.ended:
                self._terminal.resume_output()
            self.left()

    def picture(self, lines: int) -> bytes:
        """Return the last lines of the main screen, and the modes that a terminal with the usual modes needs."""
        if self._modes.is_alternate:
            # A part of the screen would look wrong, but the program will redraw it.
            drawn = b"" if len(self._drawn) >= MOST_KEPT else strip_mode_changes(bytes(self._drawn))
            return self._modes.enter_sequence() + drawn
        return LINE_END.sub(b"\r\n", strip_queries(self._last_lines(lines))) + self._modes.enter_sequence()

    def redraw(self) -> None:
        """Make the program redraw the screen, if it draws."""
        if self._resize_timer is not None or self.ended:
            return
        if self._modes.is_alternate or self._terminal.takes_keys:
            lines = self._size.lines + (1 if self._size.lines < 2 else -1)
            self._terminal.resize(os.terminal_size((self._size.columns, lines)))
            self._resize_timer = self._loop.call_later(MOMENT, self._resize_back)

    async def type(self, data: bytes) -> bool:
        """Type this as soon as there is room for it. Return False if there is none for `PATIENCE` seconds."""
        while len(self._typed) + len(data) > max(MOST_TYPED, len(data)):
            if self._is_stuck:
                return False
            self._was_read.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._was_read.wait()
            except TimeoutError:
                self._is_stuck = True
        if self.ended:
            return True
        if not self._typed:
            data = data[self._write(data) :]
            if data:
                self._loop.add_writer(self._terminal.parent_end, self._write_more)
        self._typed += data
        return True

    def _write_more(self) -> None:
        count = self._write(self._typed)
        del self._typed[:count]
        if count:
            self._is_stuck = False
            self._was_read.set()
        if not self._typed:
            self._loop.remove_writer(self._terminal.parent_end)

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._terminal.parent_end, data)
        except BlockingIOError:
            return 0
        except OSError:
            # No process has it open.
            return len(data)

    def fit(self) -> bool:
        """Set the size that all clients can show. Return whether it has changed."""
        sizes = [attachment.size for attachment in self._attached] or [self._window]
        size = os.terminal_size((min(size.columns for size in sizes), min(size.lines for size in sizes)))
        if size == self._size:
            return False
        self._size = size
        if self._resize_timer is None and not self.ended:
            self._terminal.resize(size)
        return True

    def _resize_back(self) -> None:
        self._resize_timer = None
        self._terminal.resize(self._size)

    def _last_lines(self, count: int) -> bytes:
        """Return the last lines of the main screen, as far as they are kept."""
        end = len(self._kept)
        for _ in range(count):
            end = self._kept.rfind(b"\n", 0, end)
            if end < 0:
                break
        if end >= 0:
            return bytes(self._kept[end + 1 :])
        whole = len(self._kept) < MOST_KEPT
        # The first line may be what is left of one, or of an escape sequence.
        return bytes(self._kept if whole else self._kept[self._kept.find(b"\n") + 1 :])


class Attachment:
    """An attached client, with a terminal of this size."""

    def __init__(self, console: Console, show: Callable[[bytes], None], size: os.terminal_size) -> None:
        self.show = show
        self.size = size
        self._console = console

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is shown."""
        return self._console.alternate

    def picture(self) -> bytes:
        """Return the last lines of the main screen, and the modes that a terminal with the usual modes needs."""
        # The cursor has a line too.
        return self._console.picture(max(1, self.size.lines - 1))

    def picture_anew(self) -> bytes:
        """Return the same for a terminal that has missed output, whatever modes it is in."""
        self._console.redraw()
        return RESET + CLEAR + self.picture()

    async def type(self, data: bytes) -> bool:
        """Type this as soon as there is room for it. Return False if there is none for `PATIENCE` seconds."""
        return await self._console.type(data)

    def resize(self, size: os.terminal_size) -> None:
        """Their terminal has another size."""
        self.size = size
        self._console.fit()

    def leave(self) -> None:
        """Stop showing output to the client, and stop taking its input."""
        self._console.part(self)


def _keep_end(kept: bytearray, data: bytes) -> None:
    if len(data) >= MOST_KEPT:
        kept[:] = data[-MOST_KEPT:]
        return
    kept += data
    # Not at each byte, because a removal at the beginning moves all the rest.
    if len(kept) > 2 * MOST_KEPT:
        del kept[:-MOST_KEPT]
