"""A project in a directory of its own; after each test nothing that it started may be alive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .driver import Project

if TYPE_CHECKING:
    from ..conftest import Survivors


@pytest.fixture
def project(tmp_path: Path, survivors: Survivors) -> Iterator[Project]:
    """An empty directory in which the program can be run."""
    project = Project(tmp_path)
    yield project
    left = survivors.find()
    survivors.kill()
    project.clean_up()
    assert left == []
