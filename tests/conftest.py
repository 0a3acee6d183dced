"""What all tests share: nothing that a test started may outlive it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.leftovers import Lifeline, nothing_is_left
from support.survivors import MARKER, Survivors

# However slow the machine is, and with the same examples each time.
settings.register_profile(
    "tests", deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.fixture(autouse=True, scope="session")
def runtime_directory() -> Iterator[None]:
    """A place of the tests' own for the sockets of apps, whose path is short enough for them."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    directory = tempfile.mkdtemp(prefix="run-")
    os.environ["XDG_RUNTIME_DIR"] = directory
    yield
    shutil.rmtree(directory)
    if before is None:
        del os.environ["XDG_RUNTIME_DIR"]
    else:
        os.environ["XDG_RUNTIME_DIR"] = before


@pytest.fixture(autouse=True, scope="session")
def state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A place of the tests' own for what outlives an app."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def no_signal_is_ignored() -> Iterator[None]:
    """What a shell's background, or nohup, has had ignored here would be ignored by every program too."""
    ignored = [
        number
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        # As Python itself does where it is not ignored.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


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


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Afterwards no descriptor of ours is open, and no child is there, that was not before."""
    with nothing_is_left():
        yield


@pytest.fixture
def lifeline(tmp_path: Path, leaves_nothing: None) -> Iterator[Lifeline]:
    """What tells when nobody is left of a command."""
    lifeline = Lifeline(tmp_path)
    yield lifeline
    lifeline.close()
