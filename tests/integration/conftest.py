"""A project in a directory of its own; after each test nothing that it started may be alive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.driver import Project, project_in
from support.survivors import Survivors


@pytest.fixture
def project(tmp_path: Path, survivors: Survivors) -> Iterator[Project]:
    """An empty directory in which the program can be run."""
    with project_in(tmp_path, survivors) as project:
        yield project
