"""The record of a background app: written, trusted or ignored, and removed by the next start."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from procreaper.cli.commands import ended
from procreaper.cli.commands.ended import AppRecord, EndedApp, find_last_end, remove_old_records
from procreaper.cli.commands.logs import last_lines
from procreaper.core.events import Notice, Output
from procreaper.core.notices import AppEnd
from procreaper.output.text import Style
from procreaper.runtime.system.proc import read_boot_id

CULPRIT = AppEnd("web.1", "web.1 has ended (exit code 3), and that ended the app")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "shop").mkdir()
    return os.path.realpath(tmp_path / "shop")


def written(lines: int) -> Sequence[Notice]:
    return [Output(0.0, "web.1", b"line %d\n" % number) for number in range(lines)]


def file_of(environment: dict[str, str]) -> Path:
    (path,) = Path(environment["XDG_STATE_HOME"], "procreaper").iterdir()
    return path


def alter(environment: dict[str, str], **fields: object) -> None:
    """Change what the only record says."""
    path = file_of(environment)
    head, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps({**json.loads(head), **fields}).encode() + b"\n" + rest)


def test_running_app_has_no_end(environment: dict[str, str], root: str) -> None:
    AppRecord(root, environment, written).begin()
    assert find_last_end(root, environment) is None
    assert stat.S_IMODE(file_of(environment).stat().st_mode) == 0o600
    assert stat.S_IMODE(file_of(environment).parent.stat().st_mode) == 0o700


def test_end_has_its_reason_and_the_last_lines(environment: dict[str, str], root: str) -> None:
    record = AppRecord(root, environment, written)
    record.begin()
    record.end(3, CULPRIT, "")
    last = find_last_end(root, environment, os.getpid())
    assert last is not None
    assert (last.pid, last.code, last.name, last.reason) == (os.getpid(), 3, "web.1", CULPRIT.text)
    assert last.notices.count(b"\n") == 20
    assert last.ended_at is not None
    # Days are counted by the clock of this machine.
    assert last.explain(last.ended_at + 61).endswith(f"(1m01s ago) with exit code 3: {CULPRIT.text}")
    assert find_last_end(root, environment, 1) is None
    assert find_last_end(os.path.dirname(root), environment) is None


def test_internal_error_is_a_reason(environment: dict[str, str], root: str) -> None:
    record = AppRecord(root, environment, written)
    record.begin()
    record.end(70, None, "internal error: RuntimeError: oh")
    last = find_last_end(root, environment)
    assert last is not None
    assert (last.name, last.reason) == (None, "internal error: RuntimeError: oh")


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"born": "1"}, "it was killed, or ran out of memory"), ({"boot": "another"}, "the machine was restarted")],
)
def test_app_without_a_recorded_end_was_killed(
    environment: dict[str, str], root: str, fields: dict[str, str], why: str
) -> None:
    AppRecord(root, environment, written).begin()
    alter(environment, **fields)
    last = find_last_end(root, environment)
    assert last is not None
    assert last.code is None
    assert last.explain(last.started_at).endswith(f", has ended without giving a reason: {why}")
    assert read_boot_id() != "another"


def test_next_start_removes_earlier_records(environment: dict[str, str], root: str) -> None:
    record = AppRecord(root, environment, written)
    record.begin()
    record.end(3, CULPRIT, "")
    file_of(environment).rename(file_of(environment).with_name(f"{file_of(environment).name[:9]}1.app"))
    AppRecord(root, environment, written).begin()
    assert find_last_end(root, environment) is None
    assert file_of(environment).name.endswith(f"-{os.getpid()}.app")


def test_size_of_a_record_is_limited(environment: dict[str, str], root: str) -> None:
    record = AppRecord(root, environment, lambda lines: [Output(0.0, "web.1", b"x" * 50_000 + b"\n")] * 4 * lines)
    record.begin()
    record.end(3, CULPRIT, "")
    last = find_last_end(root, environment)
    assert last is not None
    assert 0 < len(last.notices) <= ended.MOST_BYTES
    assert all(json.loads(line)["notice"] == "output" for line in last.notices.splitlines())


@pytest.mark.parametrize(
    "data", [b"", b"junk\n", b"[]\n", b"{}\n", b'{"pid": "x"}\n', b"[" * 100_000, b'{"root": 1, "pid": null}\n']
)
def test_incomplete_record_is_skipped(environment: dict[str, str], root: str, data: bytes) -> None:
    record = AppRecord(root, environment, written)
    record.begin()
    record.end(3, CULPRIT, "")
    file_of(environment).write_bytes(data)
    assert find_last_end(root, environment) is None


def test_pipe_in_place_of_a_record_does_not_block(environment: dict[str, str], root: str) -> None:
    AppRecord(root, environment, written).begin()
    path = file_of(environment)
    path.unlink()
    os.mkfifo(path)
    assert find_last_end(root, environment) is None


def test_outdated_records_of_other_roots_are_removed(environment: dict[str, str], root: str) -> None:
    record = AppRecord(root, environment, written)
    record.begin()
    record.end(3, CULPRIT, "")
    remove_old_records("/another", environment)
    assert find_last_end(root, environment) is not None
    os.utime(file_of(environment), (0, 0))
    remove_old_records("/another", environment)
    assert find_last_end(root, environment) is None


def test_escape_sequences_of_a_process_do_not_clear_the_screen(environment: dict[str, str], root: str) -> None:
    record = AppRecord(root, environment, lambda _: [Output(0.0, "web.1", b"\x1b[2J\x1b[1;1Hno database\n")])
    record.begin()
    record.end(3, CULPRIT, "")
    last = find_last_end(root, environment)
    assert last is not None
    lines = last_lines(last, "web.1", Style(colour=False))
    assert lines.endswith("no database")
    assert "\x1b[2J" not in lines
    assert last_lines(last, "worker.1", Style(colour=False)) == ""


def test_missing_state_directory_has_no_records(environment: dict[str, str], root: str) -> None:
    assert find_last_end(root, environment) is None
    remove_old_records(root, environment)
    Path(environment["XDG_STATE_HOME"]).write_text("")
    assert find_last_end(root, environment) is None
    with pytest.raises(OSError, match="state"):
        AppRecord(root, environment, written).begin()


def test_date_is_shown_unless_it_is_today() -> None:
    last = EndedApp(7, 0.0, 0.0, 0, None, "all processes have ended")
    assert "1970" in last.explain(10 * 86400.0) or "1969" in last.explain(10 * 86400.0)
