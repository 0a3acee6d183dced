"""What the pages of docs/ say is so: their blocks are run, and what they show is compared with what comes out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import LIMIT, ROOT, environment, python_blocks

DOCS = ROOT / "docs"
LIBRARY = (DOCS / "library.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("block", "shown"), python_blocks(LIBRARY))
def test_python_block_runs_and_prints_what_the_page_shows(block: str, shown: str | None, tmp_path: Path) -> None:
    if "redis-server" in block and shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        encoding="utf-8",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    if shown is not None:
        assert ran.stdout == shown
