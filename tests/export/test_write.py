"""An export writes all files or none, only below the named directory, and replaces only its own files."""

from __future__ import annotations

import os
import re
import resource
import stat
from pathlib import Path

import pytest

from procreaper.errors import ConfigError
from procreaper.export.exporter import MARK, File
from procreaper.export.write import write_files

MINE = f"# {MARK}\n"


def write(location: Path, *files: File, force: bool = False) -> list[str]:
    """Write, and return what was told."""
    told: list[str] = []
    warnings = write_files(str(location), files, force=force, tell=told.append)
    assert warnings == []
    return told


def refused(location: Path, *files: File, force: bool = False) -> list[str]:
    before = {path: path.read_bytes() for path in location.parent.rglob("*") if path.is_file()}
    told: list[str] = []
    with pytest.raises(ConfigError) as caught:
        write_files(str(location), files, force=force, tell=told.append)
    assert told == []
    assert {path: path.read_bytes() for path in location.parent.rglob("*") if path.is_file()} == before
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_files_are_written_with_their_modes(tmp_path: Path) -> None:
    location = tmp_path / "a" / "b"
    mask = os.umask(0o027)
    try:
        told = write(location, File("x/run", "1", executable=True), File("x/env/ü", "2\udcff"), File("y", ""))
    finally:
        os.umask(mask)
    assert told == [f"{location}/x/run", f"{location}/x/env/ü", f"{location}/y"]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in location.rglob("*") if path.is_file()} == {
        "run": 0o755,
        "ü": 0o640,
        "y": 0o640,
    }
    assert (location / "x/env/ü").read_bytes() == b"2\xff"
    assert not list(location.rglob(".*"))


def test_a_file_of_an_earlier_export_is_replaced_and_stays_private(tmp_path: Path) -> None:
    write(tmp_path, File("x", MINE + "1"))
    (tmp_path / "x").chmod(0o600)
    write(tmp_path, File("x", MINE + "2"))
    assert (tmp_path / "x").read_text() == MINE + "2"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_a_file_that_is_the_same_already_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("theirs")
    write(tmp_path, File("x", "theirs"))


def test_files_of_others_are_all_named_and_nothing_is_written(tmp_path: Path) -> None:
    location = tmp_path / "out"
    location.mkdir()
    (location / "x").write_text("theirs")
    (location / "y").mkdir()
    os.mkfifo(location / "z")
    (location / "known").write_text("shape 1")
    files = (File("new", "1"), File("x", MINE), File("y", MINE), File("z", MINE), File("known", "", known_by="shape"))
    assert refused(location, *files) == [
        f"{location}/x: exists, and is not from an earlier export",
        f"{location}/y: this is a directory, and a file is to be written there",
        f"{location}/z: exists, and is not from an earlier export",
    ]
    assert sorted(os.listdir(location)) == ["known", "x", "y", "z"]
    # Not even force replaces a directory.
    assert len(refused(location, *files, force=True)) == 1


def test_force_replaces_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("theirs")
    write(tmp_path, File("x", MINE), force=True)
    assert (tmp_path / "x").read_text() == MINE


def test_a_bare_value_belongs_to_what_is_in_the_same_directory(tmp_path: Path) -> None:
    location = tmp_path / "out"
    write(location, File("web/run", MINE), File("web/env/A", "1", known_by=None))
    write(location, File("web/run", MINE), File("web/env/A", "2", known_by=None))
    assert (location / "web/env/A").read_text() == "2"
    (location / "web/run").write_text("theirs")
    found = refused(location, File("web/run", MINE), File("web/env/A", "3", known_by=None))
    assert found == [f"{location}/web/{name}: exists, and is not from an earlier export" for name in ("run", "env/A")]


@pytest.mark.parametrize("path", ["../x", "/x", "a/../x", "a//x", "", ".", "a/", "a/\0"])
def test_nothing_is_written_outside(tmp_path: Path, path: str) -> None:
    (message,) = refused(tmp_path / "out", File(path, "1"))
    assert message.endswith("is not written: it is not below the directory to export to")
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (message,) = refused(tmp_path / "out", File("x", "1"), File("x", "1"))
    assert message == "None: two processes would both be exported to `x`"


@pytest.mark.parametrize("force", [False, True])
def test_no_link_to_a_directory_is_followed(tmp_path: Path, force: bool) -> None:
    location, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    location.mkdir()
    elsewhere.mkdir()
    (location / "web").symlink_to(elsewhere)
    assert "`web` in the directory to export to is a link" in refused(location, File("web/run", MINE), force=force)[0]
    assert list(elsewhere.iterdir()) == []


def test_a_link_to_a_file_is_replaced_itself_with_force_only(tmp_path: Path) -> None:
    location, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    location.mkdir()
    elsewhere.write_text(MINE)
    (location / "x").symlink_to(elsewhere)
    refused(location, File("x", MINE + "1"))
    write(location, File("x", MINE + "1"), force=True)
    assert elsewhere.read_text() == MINE
    assert not (location / "x").is_symlink()


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    write(tmp_path / "out", File("x", MINE))
    assert (tmp_path / "real" / "x").read_text() == MINE


def test_a_file_in_the_place_of_a_directory_is_told(tmp_path: Path) -> None:
    location = tmp_path / "out"
    location.mkdir()
    (location / "web").write_text("")
    assert "not a directory" in refused(location, File("web/run", MINE))[0]


def test_a_file_that_cannot_be_written_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, File("x", MINE + "1"), File("y", MINE + "1"))

    def full(descriptor: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space") as caught:
        write(tmp_path, File("new", MINE), File("a/b/new", MINE), File("x", MINE + "2"))
    assert caught.value.filename == f"{tmp_path}/x"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x": MINE + "1", "y": MINE + "1"}


def test_there_may_be_more_directories_than_files_can_be_open(tmp_path: Path) -> None:
    files = [File(f"{number}/run", "") for number in range(200)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 100, hard))
    try:
        write(tmp_path, *files)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(list(tmp_path.glob("*/run"))) == len(files)


def test_what_is_wrong_with_a_directory_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "web").mkdir()
    opened = os.open

    def refuse(path: str, flags: int, *arguments: int, **places: int) -> int:
        if path == "web":
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *arguments, **places)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        write(tmp_path, File("web/run", MINE))
    assert caught.value.filename == f"{tmp_path}/web/run"


def test_names_may_be_as_long_as_there_can_be_any(tmp_path: Path) -> None:
    names = [f"{'x' * 254}{number}" for number in range(3)]
    write(tmp_path, *(File(name, "") for name in names))
    assert sorted(os.listdir(tmp_path)) == names


def test_no_location_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="not a directory to export to"):
        write_files("", [File("x", "")], force=False, tell=print)
    assert os.listdir(tmp_path) == []


def test_what_an_earlier_export_has_left_in_a_directory_is_told(tmp_path: Path) -> None:
    write(tmp_path, File("web/run", MINE), File("web/env/A", "1"), File("web/env/OLD", "1"), File("web/down", ""))
    files = [File("web/run", MINE), File("web/env/A", "1")]
    warnings = write_files(str(tmp_path), files, force=False, tell=lambda path: None)
    (warning,) = warnings
    assert (warning.path, warning.level) == (str(tmp_path), "warning")
    assert warning.message == "not from this export, but still there: `web/down`, `web/env/OLD`"


def test_what_an_earlier_export_has_left_beside_is_told_if_it_is_of_this_app(tmp_path: Path) -> None:
    mine = [File("app-old.x", MINE), File("app-old/run", MINE), File("other-old.x", MINE), File("app-old.y", MINE)]
    write(tmp_path, *mine)
    (tmp_path / "app-own.x").write_text("theirs")
    (tmp_path / "app-link.x").symlink_to("app-old.x")
    os.mkfifo(tmp_path / "app-pipe.x")
    files = [File("app-new.x", MINE), File("app-new/run", MINE)]
    (warning,) = write_files(str(tmp_path), files, force=False, tell=lambda path: None, names=r"app-.+\.x|app-[a-z]+")
    assert (warning.path, warning.level) == (str(tmp_path), "warning")
    assert warning.message == "from an earlier export, but not from this one: `app-old`, `app-old.x`"
    assert write_files(str(tmp_path), files, force=False, tell=lambda path: None) == []


def test_the_marker_stands_in_no_pattern() -> None:
    assert re.search(str(File("x", "").known_by), MINE)
