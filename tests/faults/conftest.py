"""A project whose processes do their best to survive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.driver import Project, project_in
from support.survivors import Survivors


@pytest.fixture
def project(tmp_path: Path, survivors: Survivors) -> Iterator[Project]:
    """An empty directory in which the program can be run; after the test nothing that it started may be alive."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells who left its group, and who is still there")
    with project_in(tmp_path, survivors) as project:
        yield project
