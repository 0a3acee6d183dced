"""What all tests share: nothing that a test started may outlive it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from survivors import MARKER, Survivors


@pytest.fixture
def survivors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Survivors]:
    """Marks the environment of whatever the test starts; afterwards nothing that has the mark may be alive.

    Without a /proc there is nobody to ask, and nothing is checked.
    """
    marker = uuid.uuid4().hex
    monkeypatch.setenv(MARKER, marker)
    survivors = Survivors(marker)
    yield survivors
    left = survivors.find()
    survivors.kill()
    assert left == []
