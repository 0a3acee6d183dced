from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from procreaper import descriptors
from procreaper.descriptors import Reserve, count_readable_bytes, limit_connections, retry_with_reserve


def test_available_is_the_number_of_unread_bytes() -> None:
    reading, writing = os.pipe()
    try:
        assert count_readable_bytes(reading) == 0
        os.write(writing, b"hello")
        assert count_readable_bytes(reading) == 5
        os.read(reading, 2)
        assert count_readable_bytes(reading) == 3
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(("limit", "most"), [(256, 64), (1024, 128), (resource.RLIM_INFINITY, 128)])
def test_connections_leave_most_of_the_descriptors_to_the_app(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert limit_connections(128) == most


def exhaust() -> list[int]:
    taken = [os.dup(0)]
    with suppress(OSError):
        while True:
            taken.append(os.dup(0))
    return taken


@pytest.fixture
def few() -> Iterator[None]:
    """Lower the limit on descriptors, so that a test can exhaust them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_reserve_opens_a_file_when_no_descriptor_is_left(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve()
    monkeypatch.setattr(descriptors, "RESERVE", reserve)
    reserve.keep(2)
    taken = exhaust()
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.listdir("/")
        assert retry_with_reserve(lambda: os.listdir("/"))
        # A second call works too.
        assert retry_with_reserve(lambda: os.listdir("/"))
        assert reserve.is_full
    finally:
        reserve.empty()
        for descriptor in taken:
            os.close(descriptor)


def test_reserve_is_filled_again_after_other_code_took_a_descriptor(few: None) -> None:
    reserve = Reserve()
    reserve.keep(1)
    taken = exhaust()
    with reserve.freed():
        taken.append(os.dup(0))
    assert not reserve.is_full
    reserve.fill()
    assert not reserve.is_full
    for descriptor in taken:
        os.close(descriptor)
    reserve.fill()
    assert reserve.is_full
    reserve.empty()
    assert not reserve.is_full


def test_other_errors_are_raised_at_once() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        retry_with_reserve(fail)
    assert len(calls) == 1


# Import, without free descriptors, a Python module, which imports another one and an extension module.
IMPORTING = """
import os, resource, sys
from procreaper.descriptors import RESERVE, import_with_reserve
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
if "keep" in sys.argv:
    RESERVE.keep()
    import_with_reserve()
try:
    while True: os.dup(0)
except OSError: pass
import first
assert first.__spec__.loader is first.__loader__ and type(first.__loader__).__name__ == "SourceFileLoader"
assert RESERVE.is_full
print(first.value)
"""


@pytest.mark.parametrize("kept", ["keep", ""])
def test_reserve_imports_a_module_when_no_descriptor_is_left(kept: str, tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text("import second, _lsprof\nvalue = second.value\n")
    (tmp_path / "second.py").write_text("value = 5\n")
    command = (sys.executable, "-W", "error", "-c", IMPORTING, str(tmp_path), kept)
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if kept:
        assert (ran.stdout, ran.stderr) == ("5\n", "")
    else:
        assert "Too many open files" in ran.stderr
