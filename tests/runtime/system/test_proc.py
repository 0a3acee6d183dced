"""Parsing `/proc/PID/stat`, and start times."""

from __future__ import annotations

import os
import subprocess

import pytest

from procreaper.runtime.system.proc import ProcessStat, parse_stat, read_boot_id, read_start_time


@pytest.mark.parametrize("name", ["sh", "a b", "a) b", ") S 1 (", "", "a\nb", "\u00e9"])
def test_any_name_of_a_program_is_parsed(name: str) -> None:
    data = f"7 ({name}) S 1 2 3 {'0 ' * 15}4711 0 0\n".encode()
    assert parse_stat(data) == ProcessStat(name, "S", 1, 2, 3, 4711)


@pytest.mark.parametrize("data", [b"", b"7 (sh", b"7 (sh) S 1 2"])
def test_stat_of_a_process_that_has_gone_is_none(data: bytes) -> None:
    assert parse_stat(data) is None


@pytest.mark.parametrize(("state", "is_zombie"), [("S", False), ("R", False), ("T", False), ("Z", True), ("X", True)])
def test_zombie_is_recognized(state: str, is_zombie: bool) -> None:
    assert ProcessStat("x", state, 1, 0, 0, 0).is_zombie == is_zombie


@pytest.mark.usefixtures("survivors")
def test_start_time_stays_the_same_until_the_process_ends() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        started = read_start_time(process.pid)
        assert started
        assert read_start_time(process.pid) == started
        process.communicate()
    assert read_start_time(process.pid) is None


def test_zombie_has_no_start_time() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert read_start_time(process.pid) is None


def test_boot_id_stays_the_same() -> None:
    assert read_boot_id() == read_boot_id() != ""
