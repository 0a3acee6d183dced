"""The project for the tests of faults."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.driver import Project, project_in
from support.survivors import Survivors


@pytest.fixture
def project(tmp_path: Path, survivors: Survivors) -> Iterator[Project]:
    """An empty directory in which to run the program. After the test, no process of it may be alive."""
    if sys.platform != "linux":
        pytest.skip("only Linux shows which processes have left their group")
    with project_in(tmp_path, survivors) as project:
        yield project
