"""Log files as a sink: their content, the back-pressure, and the messages when a disk fails."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.loops import in_loop, until

from procreaper.core.events import Exit, Message, Output, Removed, RunBegan, RunEnded
from procreaper.core.plan import LogFile, Process
from procreaper.output.log_files import HIGH, LogFiles
from procreaper.output.rotation import RotatedFile

# Longer than any test: a wait for it hangs.
FOR_EVER = 3600.0


def process(name: str, path: Path | str | None, *, detached: bool = False, max_size: int = 10_000_000) -> Process:
    log = None if path is None else LogFile(str(path), max_size, 1)
    return Process(name, "true", log=log, detached=detached)


class Disk:
    """Log files, and what they have called."""

    def __init__(self, *processes: Process, retry: float = 0.0) -> None:
        self.room = 0
        self.said: list[str] = []
        self.changed = asyncio.Event()
        self.files = LogFiles(processes, retry=retry, on_room=self._on_room, say=self._say)

    def says(self, data: bytes, name: str = "web.1") -> bool:
        return self.files.accept(Output(0.0, name, data))

    def ends(self, name: str = "web.1") -> None:
        assert self.files.accept(RunEnded(0.0, name, 7, Exit(0), "exited with code 0"))

    async def drain(self) -> None:
        await self.files.drain(FOR_EVER)

    def _on_room(self) -> None:
        self.room += 1
        self.changed.set()

    def _say(self, text: str) -> None:
        self.said.append(text)
        self.changed.set()


class Gate:
    """Holds back every write, as a disk does that takes its time, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], OSError | None] = lambda: None) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        write = RotatedFile.write

        def slowly(file: RotatedFile, data: bytes) -> tuple[int, OSError | None]:
            self.reached.set()
            self.open.wait(45)
            error = fail()
            return (0, error) if error is not None else write(file, data)

        monkeypatch.setattr(RotatedFile, "write", slowly)


@pytest.fixture(autouse=True)
def no_writer_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "log-writer":
            thread.join(45)
            assert not thread.is_alive()


@in_loop
async def test_the_bytes_of_a_process_are_kept_as_they_came(tmp_path: Path) -> None:
    disk = Disk(process("web.1", tmp_path / "a" / "web.log"), process("db.1", None))
    pieces = [b"\x1b[31mred\x1b[0m\r\n", b"\xff\0", b"half", b" a line\n", b"last"]
    assert all(disk.says(piece) for piece in pieces)
    assert disk.says(b"not kept\n", "db.1")
    assert disk.says(b"not known\n", "clock.1")
    assert disk.files.accept(Message(0.0, "not output"))
    assert disk.files.accept(RunBegan(0.0, "web.1", 7))
    await disk.drain()
    assert (tmp_path / "a" / "web.log").read_bytes() == b"".join(pieces)
    assert (disk.room, disk.said) == (0, [])


@in_loop
async def test_a_run_begins_a_line(tmp_path: Path) -> None:
    disk = Disk(process("web.1", tmp_path / "log"))
    for data in (b"half", b"whole\n", b"half"):
        disk.says(data)
        disk.ends()
    await disk.drain()
    assert (tmp_path / "log").read_bytes() == b"half\nwhole\nhalf"


@in_loop
async def test_those_who_share_a_file_write_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    disk = Disk(process("web.1", tmp_path / "log"), process("web.2", tmp_path / "link" / "log"))
    disk.says(b"one\nhalf")
    disk.says(b"two\nhalf", "web.2")
    disk.says(b" of one\nend", "web.1")
    disk.says(b" of two\nend", "web.2")
    disk.ends("web.1")
    await disk.drain()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nhalf of one\nhalf of two\nend\nend\n"


@in_loop
async def test_the_detached_write_theirs_themselves(tmp_path: Path) -> None:
    disk = Disk(process("web.1", tmp_path / "log", detached=True))
    assert disk.says(b"x\n")
    await disk.drain()
    assert not (tmp_path / "log").exists()


@in_loop
async def test_what_cannot_be_opened_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as raised:
        Disk(process("web.1", tmp_path / "log"), process("db.1", tmp_path))
    assert raised.value.filename == str(tmp_path)


@in_loop
async def test_a_slow_disk_holds_back_those_who_write_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    disk = Disk(process("web.1", tmp_path / "log"), process("db.1", None))
    line = b"x" * 4095 + b"\n"
    accepted = 1
    while disk.says(line):
        accepted += 1
    assert accepted == HIGH // len(line) + 1
    assert not disk.files.has_room
    assert disk.says(b"x\n", "db.1")
    assert not disk.says(b"still accepted\n")
    assert disk.room == 0
    gate.open.set()
    await until(lambda: disk.room == 1, disk.changed)
    assert disk.files.has_room
    assert disk.says(b"last\n")
    await disk.drain()
    assert (tmp_path / "log").read_bytes() == accepted * line + b"still accepted\nlast\n"


@in_loop
async def test_a_disk_that_is_stuck_is_given_up_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    disk = Disk(process("web.1", tmp_path / "log"))
    disk.says(b"lost\n")
    await disk.files.drain(0.01)
    assert disk.said == ["5 bytes of output could not be written to log files in time"]
    gate.open.set()


@in_loop
async def test_whoever_insists_on_the_end_does_not_wait_for_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    disk = Disk(process("web.1", tmp_path / "log"))
    disk.says(b"lost\n")
    asyncio.get_running_loop().call_later(0.01, disk.files.abandon)
    await disk.drain()
    gate.open.set()


@in_loop
async def test_a_disk_that_is_full_is_told_once_and_what_is_missing_at_the_end() -> None:
    disk = Disk(process("web.1", "/dev/full"), retry=FOR_EVER)
    for _ in range(3):
        # Each is seen by itself.
        assert disk.says(b"12345\n")
        await until(lambda: len(disk.said) == 1, disk.changed)
    await disk.drain()
    assert disk.said == [
        "`/dev/full` cannot be written: no space left on device; what is missing is counted until it can be",
        "`/dev/full`: 18 bytes of output are missing in it",
    ]


class Full:
    """A disk on which each write to `web.log` has room for the next number of bytes of `room`; None: for all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *room: int | None) -> None:
        self.others = 0
        self.changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        write = RotatedFile.write
        left = list(room)

        def limited(file: RotatedFile, data: bytes) -> tuple[int, OSError | None]:
            if not file.path.endswith("web.log"):
                loop.call_soon_threadsafe(self._wrote)
                return write(file, data)
            limit = left.pop(0) if left else None
            result = write(file, data[:limit])
            return result if limit is None else (limit, OSError(errno.ENOSPC, "No space left on device"))

        monkeypatch.setattr(RotatedFile, "write", limited)

    def _wrote(self) -> None:
        self.others += 1
        self.changed.set()


@pytest.mark.parametrize(
    ("room", "pieces", "expected", "missing"),
    [
        # Part of a line is in the file: it stays, and its end does not follow.
        ((None, 4), (b"before\n", b"cut off\n", b"after\n"), b"before\ncut \nafter\n", 4),
        ((None, 4), (b"before\n", b"cut off and", b" on\nafter\n"), b"before\ncut \nafter\n", 11),
        # The end of a line is missing, whose beginning was written in time.
        ((None, 0), (b"whole\nhalf", b" a line\n", b"after\n"), b"whole\nhalf\nafter\n", 8),
        ((None, 0, 0), (b"before\n", b"one\n", b"two\n", b"after\n"), b"before\nafter\n", 8),
        ((0,), (b"one line", b" without end", b"\nafter\n"), b"after\n", 21),
    ],
)
@in_loop
async def test_a_disk_that_has_room_again_gets_whole_lines_and_is_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: tuple[int | None, ...],
    pieces: tuple[bytes, ...],
    expected: bytes,
    missing: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    full = Full(monkeypatch, *room)
    disk = Disk(process("web.1", tmp_path / "web.log"), process("db.1", tmp_path / "db.log"))
    for number, piece in enumerate(pieces, 1):
        disk.says(piece)
        # It is the turn of this file after the other one.
        disk.says(b"x\n", "db.1")
        await until(lambda: full.others == number, full.changed)  # noqa: B023
    await disk.drain()
    assert (tmp_path / "web.log").read_bytes() == expected
    assert disk.said == [
        "`web.log` cannot be written: no space left on device; what is missing is counted until it can be",
        f"`web.log` is written again; {missing} bytes of output are missing in it",
    ]


@in_loop
async def test_a_file_that_cannot_be_rotated_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    disk = Disk(process("web.1", tmp_path / "web.log", max_size=5), retry=FOR_EVER)
    (tmp_path / "web.log.1").mkdir()
    for _ in range(3):
        disk.says(b"aaaa\n")
    await until(lambda: len(disk.said) == 1, disk.changed)
    disk.says(b"bbbb\n")
    await disk.drain()
    assert disk.said == ["`web.log` cannot be rotated: is a directory; it grows until it can be"]
    assert (tmp_path / "web.log").read_bytes() == b"aaaa\n" * 3 + b"bbbb\n"


@in_loop
async def test_where_the_last_bytes_of_a_process_are_is_known_as_long_as_it_is_sure(tmp_path: Path) -> None:
    shared = [process(name, tmp_path / "shared") for name in ("db.1", "db.2")]
    disk = Disk(process("web.1", tmp_path / "web"), process("worker.1", tmp_path / "worker"), *shared)
    for name in ("web.1", "worker.1", "db.1"):
        disk.says(b"12345\nhalf", name)
    # Something is put in.
    disk.ends("worker.1")
    disk.says(b"more\n", "worker.1")
    await disk.drain()
    inode = (tmp_path / "web").stat().st_ino
    found = [disk.files.find("web.1", size) for size in (0, 4, 10)]
    assert [passage and (passage.inode, passage.offset) for passage in found] == [(inode, 10), (inode, 6), (inode, 0)]
    for name, size in (("web.1", 11), ("worker.1", 4), ("db.1", 4), ("clock.1", 0)):
        assert disk.files.find(name, size) is None


@in_loop
async def test_a_reload_changes_who_writes_where(tmp_path: Path) -> None:
    before = [process(name, tmp_path / name) for name in ("web.1", "db.1", "old.1")]
    disk = Disk(*before)
    disk.says(b"one\n")
    disk.files.assign([before[0], process("db.1", None), process("new.1", tmp_path / "new.1")])
    for name in ("web.1", "db.1", "new.1", "old.1"):
        disk.says(b"two\n", name)
    assert disk.files.accept(Removed(0.0, "old.1"))
    disk.says(b"not written\n", "old.1")
    await disk.drain()
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents == {"web.1": b"one\ntwo\n", "db.1": b"", "new.1": b"two\n", "old.1": b"two\n"}


@in_loop
async def test_a_reload_changes_how_large_a_file_becomes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    disk = Disk(process("web.1", path, max_size=1000))
    disk.says(b"one\n")
    disk.files.assign([process("web.1", path, max_size=4)])
    disk.says(b"two\n")
    await disk.drain()
    assert (path.read_bytes(), (tmp_path / "log.1").read_bytes()) == (b"two\n", b"one\n")


@in_loop
async def test_the_rest_of_a_line_stays_in_the_file_in_which_it_began(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    disk = Disk(process("web.1", shared), process("db.1", shared))
    disk.says(b"one\nhal")
    disk.files.assign([process("web.1", own), process("db.1", None)])
    disk.says(b"two\n")
    await disk.drain()
    assert (shared.read_bytes(), own.read_bytes()) == (b"one\nhal\n", b"two\n")


@in_loop
async def test_a_file_that_nobody_writes_to_any_more_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    close = RotatedFile.close

    def closing(file: RotatedFile) -> None:
        close(file)
        closed.append(Path(file.path).name)
        loop.call_soon_threadsafe(changed.set)

    monkeypatch.setattr(RotatedFile, "close", closing)
    both = [process(name, tmp_path / name) for name in ("web.1", "db.1")]
    disk = Disk(*both)
    disk.says(b"one\n")
    # What is removed still writes until it has ended.
    disk.files.assign([process("web.1", tmp_path / "other")])
    # Twice where the writer is just about to write to it: what then waits for it is written and closed again.
    await until(lambda: set(closed) == {"web.1"}, changed)
    disk.says(b"last\n", "db.1")
    assert disk.files.accept(Removed(0.0, "db.1"))
    await until(lambda: set(closed) == {"web.1", "db.1"}, changed)
    disk.files.assign([process("web.1", tmp_path / "web.1")])
    disk.says(b"two\n")
    await disk.drain()
    assert (tmp_path / "web.1").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "db.1").read_bytes() == b"last\n"
