"""Parsing `/proc/PID/stat`."""

from __future__ import annotations

import pytest

from procreaper.runtime.system.proc import ProcessStat, parse_stat


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
