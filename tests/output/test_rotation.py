"""A log file is rotated by whole lines, and no writer loses any."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from procreaper.core.plan import LogFile
from procreaper.output import rotation
from procreaper.output.rotation import RotatedFile


class Log:
    """A log in a directory, and what is in its files, the newest first."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "log" / "web.log"
        self.opened: list[RotatedFile] = []

    def open(self, max_size: int = 100, max_files: int = 2) -> RotatedFile:
        file = RotatedFile(LogFile(str(self.path), max_size, max_files))
        self.opened.append(file)
        file.open()
        return file

    def write(self, file: RotatedFile, *pieces: bytes) -> None:
        for piece in pieces:
            assert file.write(piece) == (len(piece), None)

    @property
    def files(self) -> list[bytes]:

        paths = [self.path, *(self.path.with_name(f"web.log.{number}") for number in range(1, 1001))]
        return [path.read_bytes() for path in paths if path.exists()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    for file in log.opened:
        file.close()


@pytest.mark.parametrize(
    ("max_size", "max_files", "pieces", "expected"),
    [
        (10, 2, [b"aaaa\n", b"bbbb\n"], [b"aaaa\nbbbb\n"]),
        (10, 2, [b"aaaa\n", b"bbbb\n", b"c\n"], [b"c\n", b"aaaa\nbbbb\n"]),
        (10, 2, [b"aaaa\nbbbb\nc\n"], [b"c\n", b"aaaa\nbbbb\n"]),
        (9, 2, [b"aaaa\nbbbb\nc\n"], [b"bbbb\nc\n", b"aaaa\n"]),
        (5, 2, [b"aaaa\nbbbb\ncccc\ndddd\n"], [b"dddd\n", b"cccc\n", b"bbbb\n"]),
        (5, 0, [b"aaaa\nbbbb\ncccc\n"], [b"cccc\n"]),
        (5, 1, [b"aaaa\nbbbb\ncccc\n"], [b"cccc\n", b"bbbb\n"]),
        # A line goes on in the file in which it began.
        (10, 2, [b"aaaa\nbbb", b"bbb\nc\n"], [b"c\n", b"aaaa\nbbbbbb\n"]),
        (10, 2, [b"aaaa\nbbb", b"b", b"b", b"b", b"\n", b"c\n"], [b"c\n", b"aaaa\nbbbbbb\n"]),
        # One that is longer than a file is torn, and then only.
        (4, 3, [b"a\n", b"bbbbbbbbbb\n"], [b"bb\n", b"bbbb", b"bbbb", b"a\n"]),
        (4, 3, [b"bb", b"bb", b"bb", b"\n"], [b"bb\n", b"bbbb"]),
        (1, 9, [b"abc\n"], [b"\n", b"c", b"b", b"a"]),
    ],
)
def test_a_file_that_is_full_makes_way_between_two_lines(
    log: Log, max_size: int, max_files: int, pieces: Sequence[bytes], expected: Sequence[bytes]
) -> None:
    log.write(log.open(max_size, max_files), *pieces)
    assert log.files == list(expected)


def test_no_line_is_torn_or_lost_whatever_pieces_it_comes_in(log: Log) -> None:
    generator = random.Random(5)
    for _ in range(10):
        lines = [b"%d " % number + b"x" * generator.randrange(60) + b"\n" for number in range(200)]
        data = b"".join(lines)
        file = log.open(max_size=generator.randrange(70, 1000), max_files=1000)
        while data:
            size = generator.randrange(1, 300)
            log.write(file, data[:size])
            data = data[size:]
        file.close()
        files = log.files
        assert b"".join(reversed(files)) == b"".join(lines)
        assert all(content.endswith(b"\n") for content in files)
        for path in log.path.parent.iterdir():
            path.unlink()


def test_what_was_there_is_appended_to(log: Log) -> None:
    log.path.parent.mkdir()
    log.path.write_bytes(b"old\n")
    log.write(log.open(), b"new\n")
    assert log.files == [b"old\nnew\n"]


def test_behind_the_rest_of_a_line_that_somebody_was_killed_in_a_line_begins(log: Log) -> None:
    log.path.parent.mkdir()
    log.path.write_bytes(b"old\nhal")
    log.write(log.open(), b"new\n")
    assert log.files == [b"old\nhal\nnew\n"]


@pytest.mark.parametrize("how", ["moved", "removed", "with its directory"])
def test_a_file_that_is_taken_away_is_made_anew(log: Log, how: str, tmp_path: Path) -> None:
    file = log.open()
    log.write(file, b"before\n", b"half")
    match how:
        case "moved":
            log.path.rename(tmp_path / "moved")
        case "removed":
            log.path.unlink()
        case _:
            shutil.rmtree(log.path.parent)
    log.write(file, b" a line\n", b"after\n")
    assert log.files == [b" a line\nafter\n"]


def test_a_link_is_followed(log: Log, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    log.path.parent.symlink_to(tmp_path / "real")
    log.write(log.open(5), b"aaaa\nbbbb\n")
    assert sorted(os.listdir(tmp_path / "real")) == ["web.log", "web.log.1"]


def test_a_device_is_not_rotated(tmp_path: Path) -> None:
    file = RotatedFile(LogFile("/dev/null", 5, 1))
    file.open()
    assert file.write(b"aaaa\nbbbb\ncccc\n") == (15, None)
    file.close()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("kind", ["directory", "pipe", "file above"])
def test_what_can_be_no_log_is_an_error_with_its_path(log: Log, kind: str) -> None:
    match kind:
        case "directory":
            log.path.mkdir(parents=True)
        case "pipe":
            log.path.parent.mkdir()
            os.mkfifo(log.path)
            # Even if it has a reader.
            reading = os.open(log.path, os.O_RDONLY | os.O_NONBLOCK)
        case _:
            log.path.parent.touch()
    with pytest.raises(OSError, match=r".") as raised:
        log.open()
    assert raised.value.filename == str(log.path)
    if kind == "pipe":
        os.close(reading)


def test_a_file_that_cannot_be_rotated_grows(log: Log) -> None:
    file = log.open(5, 1)
    (log.path.parent / "web.log.1").mkdir()
    log.write(file, b"aaaa\n", b"bbbb\n", b"cccc\n")
    assert log.path.read_bytes() == b"aaaa\nbbbb\ncccc\n"
    assert isinstance(file.stuck, IsADirectoryError)
    (log.path.parent / "web.log.1").rmdir()
    file.stuck = None
    log.write(file, b"dddd\n")
    assert log.files == [b"dddd\n", b"aaaa\nbbbb\ncccc\n"]


def test_whoever_is_stopped_while_it_rotates_is_not_waited_for(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "MOST_TRIES", 3)
    file = log.open(5, 1)
    log.write(file, b"aaaa\n")
    with open(log.path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        log.write(file, b"bbbb\n")
    assert log.files == [b"aaaa\nbbbb\n"]
    file.stuck = None
    log.write(file, b"cccc\n")
    assert log.files == [b"cccc\n", b"aaaa\nbbbb\n"]


def test_how_much_is_written_when_a_disk_is_full_is_told() -> None:
    file = RotatedFile(LogFile("/dev/full"))
    file.open()
    count, error = file.write(b"aaaa\n")
    file.close()
    assert (count, error is not None and error.errno) == (0, errno.ENOSPC)


def test_where_something_was_written_is_remembered_over_rotations_and_what_others_write(log: Log) -> None:
    log.path.parent.mkdir()
    log.path.write_bytes(b"old\n")
    file = log.open(20, 3)
    assert file.find(0) is None
    pieces = [b"one\n", b"two\n", b"three\n", b"four\n", b"five\n", b"six\n"]
    for number, piece in enumerate(pieces):
        if number == 2:
            with open(log.path, "ab") as other:
                other.write(b"x\n")
        log.write(file, piece)
    assert log.files == [b"four\nfive\nsix\n", b"old\none\ntwo\nx\nthree\n"]
    by_inode = {(path.stat().st_dev, path.stat().st_ino): path.read_bytes() for path in log.path.parent.iterdir()}
    position = 0
    for piece in pieces:
        found = file.find(position)
        assert found is not None
        assert by_inode[found[1:3]][found.offset :].startswith(piece)
        position += len(piece)


# Writes numbers to a log, as one of several.
WRITER = """
import sys
from procreaper.output.rotation import RotatedFile
from procreaper.core.plan import LogFile
file = RotatedFile(LogFile(sys.argv[1], 2000, 1000))
file.open()
print("ready", flush=True)
sys.stdin.readline()
for number in range(3000):
    data = f"{sys.argv[2]} {number}\\n".encode()
    assert file.write(data) == (len(data), None)
"""


def test_several_who_write_and_rotate_one_file_lose_nothing(log: Log) -> None:
    names = ("a", "b", "c")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(log.path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in names
    ]
    with ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
            assert writer.stdout is not None
            writer.stdout.readline()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
        assert [writer.wait() for writer in writers] == [0, 0, 0]
    paths = sorted(log.path.parent.iterdir(), key=lambda path: -int(path.suffix.removeprefix(".log")[1:] or 0))
    lines = [line for path in paths for line in path.read_text().splitlines()]
    assert len(paths) > 10
    for name in names:
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(3000)]
