"""A project in a directory of its own; after each test nothing that it started may be alive."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from survivors import Survivors

from .driver import Project, project_in


@pytest.fixture(autouse=True, scope="session")
def no_signal_is_ignored() -> Iterator[None]:
    """What a shell's background, or nohup, has had ignored here would be ignored by every program too."""
    ignored = [
        number
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def project(tmp_path: Path, survivors: Survivors) -> Iterator[Project]:
    """An empty directory in which the program can be run."""
    with project_in(tmp_path, survivors) as project:
        yield project
