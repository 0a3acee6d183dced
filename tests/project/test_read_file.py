"""Files of the project, also pipes and devices."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from procreaper.cli.main import execute
from procreaper.project import read_file as reading
from procreaper.project.read_file import read_file


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setattr(reading, "WRITER_TIMEOUT", 0.01)
    Path("Procfile").write_text("web: sleep 1\n")


def test_whole_file_is_read() -> None:
    Path("file").write_bytes(b"a\0\xff" * 1_000_000)
    assert read_file("file") == b"a\0\xff" * 1_000_000
    assert read_file(os.devnull) == b""


def test_huge_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("file", "wb") as file:
        file.truncate(1 << 30)
    for path in ("file", "/dev/zero"):
        with pytest.raises(OSError, match="it has more than 10 MB"):
            read_file(path)
    monkeypatch.setattr(reading, "MOST_BYTES", 3)
    Path("file").write_bytes(b"abc")
    assert read_file("file") == b"abc"
    Path("file").write_bytes(b"abcd")
    with pytest.raises(OSError, match="it has more than"):
        read_file("file")


def test_directory_and_missing_file_are_refused() -> None:
    with pytest.raises(IsADirectoryError):
        read_file(".")
    with pytest.raises(FileNotFoundError):
        read_file("nowhere")


def test_pipe_without_a_writer_is_refused() -> None:
    os.mkfifo("pipe")
    with pytest.raises(OSError, match="it is a pipe to which nothing is written"):
        read_file("pipe")


def test_pipe_with_a_silent_writer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DATA_TIMEOUT", 0.01)
    os.mkfifo("pipe")
    end = os.open("pipe", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="it is a pipe to which nothing is written"):
            read_file("pipe")
    finally:
        os.close(end)


def test_pipe_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WRITER_TIMEOUT", 60)
    os.mkfifo("pipe")
    text = b"A=1\n" * 100_000
    writer = threading.Thread(target=Path("pipe").write_bytes, args=[text])
    writer.start()
    assert read_file("pipe") == text
    writer.join()


@pytest.mark.parametrize("text", [b"A=1\n", b""])
def test_output_of_a_command_is_read(text: bytes) -> None:
    """This is what `-e <(command)` does."""
    read, write = os.pipe()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=write) as cat:
        os.close(write)
        try:
            cat.communicate(text)
            assert read_file(f"/dev/fd/{read}") == text
        finally:
            os.close(read)


@pytest.mark.parametrize("option", ["-e", "-f", "--config"])
@pytest.mark.parametrize(("kind", "reason"), [("zero", "more than 10 MB"), ("pipe", "nothing is written")])
def test_pipe_or_device_as_a_file_is_one_error_with_a_remedy(
    option: str, kind: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    path = "/dev/zero" if kind == "zero" else "pipe"
    assert execute(["check", option, path]) == 1
    message, hint = capfd.readouterr().err.splitlines()
    assert message.startswith(f"{path}: error: cannot be read: it")
    assert reason in message
    assert hint == f"  hint: name another file with {option}"


def test_silent_pipe_as_env_file_is_an_error_at_its_setting(capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    Path(".reaper.toml").write_text("[process.web]\nenv_file = 'pipe'\n")
    assert execute(["check"]) == 1
    message = ".reaper.toml:2: error: the environment file `pipe` of `web` cannot be read: it is a pipe"
    assert message in capfd.readouterr().err


def test_dot_foreman_is_read_with_the_same_limits(capfd: pytest.CaptureFixture[str]) -> None:
    Path(".foreman").symlink_to("/dev/zero")
    assert execute(["start"]) == 1
    assert ".foreman: error: cannot be read: it has more than 10 MB" in capfd.readouterr().err
