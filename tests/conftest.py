"""Fixtures for all tests: no process that a test starts may outlive it."""

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

# Without a deadline, because the machine may be slow; with the same examples each time.
settings.register_profile(
    "tests", deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.fixture(autouse=True, scope="session")
def runtime_directory() -> Iterator[None]:
    """Use a directory of the tests for the sockets of apps, with a path that is short enough for a socket."""
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
    """Use a directory of the tests for the files that outlive an app."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def no_signal_is_ignored() -> Iterator[None]:
    """Reset ignored signals: a program would inherit those that nohup, or a shell in the background, ignores."""
    ignored = [
        number
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        # The handlers that Python sets if the signal is not ignored.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def survivors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Survivors]:
    """Mark the environment of all processes that the test starts. Afterwards, none with the mark may be alive.

    Without a /proc, this checks nothing.
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
    """Check that after the test we have no other open descriptors and no other children than before."""
    with nothing_is_left():
        yield


@pytest.fixture
def lifeline(tmp_path: Path, leaves_nothing: None) -> Iterator[Lifeline]:
    """Show when the last process of a command has ended."""
    lifeline = Lifeline(tmp_path)
    yield lifeline
    lifeline.close()
