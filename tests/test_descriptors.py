from __future__ import annotations

import os
import resource

import pytest

from procreaper.descriptors import available, most_connections


def test_as_much_is_available_as_was_written_and_not_read() -> None:
    reading, writing = os.pipe()
    try:
        assert available(reading) == 0
        os.write(writing, b"hello")
        assert available(reading) == 5
        os.read(reading, 2)
        assert available(reading) == 3
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(("limit", "most"), [(256, 64), (1024, 128), (resource.RLIM_INFINITY, 128)])
def test_connections_leave_most_of_the_descriptors_to_the_app(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert most_connections(128) == most
