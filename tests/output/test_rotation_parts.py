from __future__ import annotations

from pathlib import Path

import pytest

from procreaper.output.rotation import rotate_file


def found(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_each_part_becomes_the_next_older_one_and_the_oldest_goes(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    for text in ("a", "b", "c", "d"):
        log.write_text(text)
        rotate_file(str(log), 3)
    assert found(tmp_path) == {"web.log.1": "d", "web.log.2": "c", "web.log.3": "b"}


def test_a_part_that_is_missing_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "web.log").write_text("a")
    (tmp_path / "web.log.2").write_text("b")
    rotate_file(str(tmp_path / "web.log"), 3)
    assert found(tmp_path) == {"web.log.1": "a", "web.log.3": "b"}


def test_a_file_that_is_missing_is_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rotate_file(str(tmp_path / "web.log"), 1)
