"""The terminal of a child, for those who attach to it: with real children that draw, ask and read, or do not read."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import termios
from pathlib import Path

import pytest
from support.loops import in_loop, until
from support.recorder import Witness

from procreaper.core.events import ChildExited, Message
from procreaper.core.plan import Process
from procreaper.runtime.child import console, reader
from procreaper.runtime.child.child import Child
from procreaper.runtime.child.console import Attachment, Console
from procreaper.runtime.terminal.pty import Pseudoterminal

pytestmark = pytest.mark.usefixtures("survivors")
WINDOW = os.terminal_size((80, 24))
LARGE = os.terminal_size((120, 50))


class Screen:
    """An attached client, with all output that it got."""

    def __init__(self, run: Run, size: os.terminal_size = LARGE) -> None:
        self.data = b""
        self._changed = asyncio.Event()
        self.attachment: Attachment = run.console.attach(self._show, size)

    def _show(self, data: bytes) -> None:
        self.data += data
        self._changed.set()

    async def shows(self, data: bytes, count: int = 1) -> None:
        await until(lambda: self.data.count(data) >= count, self._changed)

    async def type(self, data: bytes) -> bool:
        return await self.attachment.type(data)


class Run(Witness):
    """A child with a terminal, and what it reports."""

    def __init__(self, command: str, *, cwd: Path | None = None) -> None:
        super().__init__()
        self._terminal = Pseudoterminal(WINDOW)
        self.child = Child(
            Process("web", command, cwd=None if cwd is None else str(cwd)),
            1,
            post=self.take,
            publish=self.accept,
            open_terminal=lambda: self._terminal,
        )

    @property
    def console(self) -> Console:
        assert self.child.console is not None
        return self.child.console

    @property
    def size(self) -> tuple[int, int]:
        lines, columns = termios.tcgetwinsize(self._terminal.parent_end)
        return columns, lines

    async def begin(self) -> Run:
        await self.child.spawn()
        return self

    async def ends(self) -> None:
        await self.gets(ChildExited)
        while not self.child.over:
            await asyncio.sleep(0)

    async def stop(self) -> None:
        self.child.signal(signal.SIGKILL)
        await self.ends()


async def begin(command: str, cwd: Path | None = None) -> Run:
    return await Run(command, cwd=cwd).begin()


def python(tmp_path: Path, source: str) -> str:
    (tmp_path / "program.py").write_text(source)
    return f"exec {sys.executable} -S {tmp_path / 'program.py'}"


@in_loop
async def test_what_is_typed_is_read_and_echoed_and_each_line_begins_at_the_left() -> None:
    run = await begin('read answer; echo "<$answer>"')
    screen = Screen(run)
    assert await screen.type("grüße\r".encode())
    await screen.shows("grüße\r\n<grüße>\r\n".encode())
    await run.ends()
    # For everybody else lines end as they always do.
    assert run.output() == "grüße\n<grüße>\n".encode()


@in_loop
async def test_ctrl_c_ends_what_runs_there_and_ctrl_d_what_it_reads() -> None:
    run = await begin("cat; trap 'echo interrupted; exit 3' INT; echo ready; while :; do read x; done")
    screen = Screen(run)
    await screen.type(b"\x04")
    await screen.shows(b"ready")
    await screen.type(b"\x03")
    await run.ends()
    assert b"interrupted\n" in run.output()


@in_loop
async def test_who_comes_later_sees_the_last_lines() -> None:
    run = await begin("seq 1000; printf 'Name: '; read x")
    await run.reads(b"Name: ")
    screen = Screen(run, os.terminal_size((80, 5)))
    assert screen.attachment.picture() == b"998\r\n999\r\n1000\r\nName: "
    assert Screen(run, os.terminal_size((80, 1))).attachment.picture() == b"Name: "
    await run.stop()


@in_loop
async def test_what_is_kept_is_bounded_and_begins_with_a_whole_line() -> None:
    run = await begin("seq 100000; echo end; read x")
    await run.reads(b"end\n")
    picture = Screen(run, os.terminal_size((80, 60_000))).attachment.picture()
    assert picture.endswith(b"99999\r\n100000\r\nend\r\n")
    assert len(picture) < 3 * console.MOST_KEPT
    first = int(picture.partition(b"\r\n")[0])
    assert picture == b"".join(b"%d\r\n" % number for number in range(first, 100_001)) + b"end\r\n"
    await run.stop()


# Draws on the alternate screen; again whenever its window changes, with the size.
DRAW = r"""
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
print("before", flush=True)
print("\x1b[?1049h\x1b[?25l", end="")
while True:
    print("\x1b[Hdrawn", *os.get_terminal_size(), flush=True)
    signal.sigwait({signal.SIGWINCH})
"""


@in_loop
async def test_who_comes_to_a_program_that_draws_is_put_into_its_modes_and_sees_it_draw_anew(tmp_path: Path) -> None:
    run = await begin(python(tmp_path, DRAW))
    await run.sees(lambda: run.console.alternate)
    screen = Screen(run)
    await screen.shows(b"drawn 120 50\r\n")
    assert screen.attachment.picture().startswith(b"\x1b[?1049h\x1b[2J\x1b[H\x1b[?25l\x1b[Hdrawn")
    assert screen.attachment.picture().endswith(b"\x1b[Hdrawn 120 50\r\n")
    # Of the same size: the size changes for a moment.
    second = Screen(run)
    await second.shows(b"drawn 120 50")
    assert b"\x1b[2J\x1b[H\x1b[?1049h\x1b[2J\x1b[H\x1b[?25l\x1b[Hdrawn" in second.attachment.picture_anew()
    await second.shows(b"drawn 120 50", count=2)
    await run.stop()


@in_loop
async def test_what_is_drawn_is_no_output_and_it_is_said_where_it_can_be_seen(tmp_path: Path) -> None:
    run = await begin("printf 'before\\n\\033[?1049h\\033[Hdrawn\\n'; read x; printf '\\033[?1049lafter\\n'; read x")
    await run.gets(Message)
    assert [message.text for message in run.all(Message)] == [
        "web draws on the whole screen: `procreaper attach web` shows it"
    ]
    screen = Screen(run)
    await screen.type(b"\r")
    await screen.shows(b"after")
    await run.reads(b"after\n")
    assert run.output() == b"before\nafter\n"
    # On the main screen it is as if nothing had been.
    assert screen.attachment.picture() == b"before\r\nafter\r\n"
    await run.stop()


@in_loop
async def test_who_ends_while_it_draws_may_have_said_why_there() -> None:
    run = await begin("printf '\\033[?1049h\\033[Hdrawn\\nTraceback: no'; exit 1")
    await run.ends()
    assert run.output().endswith(b"drawn\nTraceback: no")


@in_loop
async def test_the_size_is_the_smallest_of_all_and_at_last_that_of_our_window() -> None:
    run = await begin("read x")
    one = Screen(run, os.terminal_size((100, 20)))
    assert run.size == (100, 20)
    two = Screen(run, os.terminal_size((90, 30)))
    assert run.size == (90, 20)
    two.attachment.resize(os.terminal_size((110, 10)))
    assert run.size == (100, 10)
    run.child.resize(os.terminal_size((70, 7)))
    assert run.size == (100, 10)
    two.attachment.leave()
    two.attachment.leave()
    assert run.size == (100, 20)
    one.attachment.leave()
    assert run.size == (70, 7)
    await run.stop()


@in_loop
async def test_all_see_the_same_and_one_of_them_is_asked() -> None:
    run = await begin("read x; printf '\\033[6nwhere\\n'; read x")
    one, two = Screen(run), Screen(run)
    await two.type(b"\r")
    await one.shows(b"where")
    assert one.data == b"\r\n\x1b[6nwhere\r\n"
    assert two.data == b"\r\nwhere\r\n"
    assert b"\x1b[6n" not in one.attachment.picture()
    await run.stop()


@in_loop
async def test_who_has_left_is_shown_nothing() -> None:
    run = await begin("read x; echo more; read x")
    one, two = Screen(run), Screen(run)
    one.attachment.leave()
    await two.type(b"\r")
    await two.shows(b"more")
    assert one.data == b""
    await run.stop()


@in_loop
async def test_a_line_that_is_being_typed_is_told_once_it_is_whole_or_nobody_is_attached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "QUIET", 0.0)
    run = await begin("printf 'Name: '; read x; read x")
    await run.reads(b"Name: ")
    screen = Screen(run)
    for key in (b"a", b"b", b"c"):
        await screen.type(key)
        await screen.shows(key)
        for _ in range(5):
            await asyncio.sleep(0)
    assert run.output() == b"Name: "
    await screen.type(b"\r")
    await run.reads(b"Name: abc\n")
    await screen.type(b"d")
    await screen.shows(b"d")
    screen.attachment.leave()
    assert run.output() == b"Name: abc\nd"
    await run.stop()


@in_loop
async def test_what_is_typed_at_a_program_that_does_not_read_is_refused_and_none_of_what_was_taken_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PATIENCE", 0.05)
    os.mkfifo(tmp_path / "read")
    copy = """
import os, tty
tty.setraw(0)
os.write(1, b"ready")
open("read").close()
out = open("typed", "wb", 0)
while (data := os.read(0, 65536)) and not data.endswith(b"."):
    out.write(data)
out.write(data)
os.write(1, b"done")
"""
    run = await begin(python(tmp_path, copy), tmp_path)
    await run.reads(b"ready")
    screen = Screen(run)
    taken = []
    while await screen.type(piece := b"%08d" % len(taken) * 1000):
        taken.append(piece)
        assert len(taken) < 100
    # At once: it is known to be stuck.
    monkeypatch.setattr(console, "PATIENCE", 600)
    assert not await screen.type(b"x" * 8000)
    await asyncio.to_thread((tmp_path / "read").write_text, "")
    while not await screen.type(b"."):
        await asyncio.sleep(0)
    await run.reads(b"done")
    assert (tmp_path / "typed").read_bytes() == b"".join(taken) + b"."
    await run.stop()


@in_loop
async def test_a_large_paste_waits_for_room_and_arrives_whole(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "read")
    text = b"".join(b"%07d\r" % number for number in range(50_000))
    run = await begin("stty raw -echo; echo ready; cat read; head -c 400000 > typed; echo done", tmp_path)
    screen = Screen(run)
    await screen.shows(b"ready")

    async def paste() -> None:
        for start in range(0, len(text), 10_000):
            assert await screen.type(text[start : start + 10_000])

    pasting = asyncio.create_task(paste())
    await asyncio.to_thread((tmp_path / "read").write_text, "")
    await pasting
    await screen.shows(b"done")
    assert (tmp_path / "typed").read_bytes() == text
    await run.ends()


@in_loop
async def test_the_end_of_the_run_ends_all_that_waits(tmp_path: Path) -> None:
    run = await begin("stty raw; echo ready; sleep 600")
    screen = Screen(run)
    await screen.shows(b"ready")

    async def paste() -> None:
        while not run.console.ended:
            await screen.type(b"x" * 10_000)

    pasting = asyncio.create_task(paste())
    while len(run.console._typed) < 50_000:
        await asyncio.sleep(0)
    await run.stop()
    await pasting
    assert await screen.type(b"more")
    screen.attachment.leave()


@in_loop
async def test_somebody_who_leaves_it_stopped_does_not_leave_it_so() -> None:
    run = await begin("read x; seq 100000; echo done; read x")
    screen = Screen(run)
    await screen.type(b"\x13")
    await screen.type(b"x\r")
    screen.attachment.leave()
    await run.reads(b"\ndone\n")
    await run.stop()


@in_loop
@pytest.mark.parametrize("written", ["", "seq 300000;"])
async def test_a_program_that_goes_back_to_the_modes_that_it_found_does_not_draw_stairs(
    tmp_path: Path, written: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    found = f"{written} cat fifo; found=$(stty -g); echo ready; cat fifo; stty $found; echo one; echo two; read x"
    run = await begin(found, tmp_path)
    await run.reads(b"300000\n" if written else b"")
    await asyncio.to_thread((tmp_path / "fifo").write_text, "")
    await run.reads(b"ready")
    screen = Screen(run)
    await asyncio.to_thread((tmp_path / "fifo").write_text, "")
    await screen.shows(b"two\r\n")
    assert not re.search(rb"(?<!\r)\n", screen.data)
    await run.stop()


# As Python's own prompt does: between two of them there is hardly a moment in which its terminal is not raw.
PROMPT = """
import os, termios, tty
while True:
    found = termios.tcgetattr(0)
    tty.setraw(0)
    os.write(1, b"> ")
    os.read(0, 1)
    termios.tcsetattr(0, termios.TCSADRAIN, found)
    os.write(1, b"one\\ntwo\\n")
"""


@in_loop
async def test_a_program_that_is_at_a_prompt_when_somebody_comes_does_not_draw_stairs(tmp_path: Path) -> None:
    run = await begin(python(tmp_path, PROMPT))
    await run.reads(b"> ")
    screen = Screen(run)
    for count in range(1, 20):
        await screen.type(b"x")
        await screen.shows(b"two\r\n> ", count=count)
    assert not re.search(rb"(?<!\r)\n", screen.data)
    await run.stop()


@in_loop
async def test_what_is_written_by_the_returns_of_a_program_itself_is_left_to_it() -> None:
    run = await begin("printf 'one\\r\\ntwo\\n'; read x; printf 'three\\r\\nfour\\n'; read x")
    await run.reads(b"two\n")
    assert run.output() == b"one\r\ntwo\n"
    screen = Screen(run)
    await screen.type(b"\r")
    await run.reads(b"three\r\nfour\n")
    await run.stop()
