"""One process table serves all runs that need it at the same time; and the groups that it shows."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from procreaper.runtime.system import proc
from procreaper.runtime.system import process_table as module
from procreaper.runtime.system.groups import is_group_alive, is_group_suspended
from procreaper.runtime.system.process_table import latest_process_table, read_process_table

pytestmark = [
    pytest.mark.usefixtures("survivors"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a /proc"),
]


@pytest.fixture(autouse=True)
def no_table_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_latest", None)


def lack(*_: object) -> bytes:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_table_has_every_process_with_its_group_and_session() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        table = read_process_table()
        assert table is not None
        assert table.processes[program.pid].parent == os.getpid()
        assert table.groups[program.pid] == table.sessions[program.pid] == [program.pid]


def test_requests_at_the_same_time_share_a_table() -> None:
    first = read_process_table()
    assert first is not None
    assert read_process_table(first.began) is first
    assert latest_process_table() is first
    later = read_process_table(time.monotonic())
    assert later is not first
    assert read_process_table() is not first


def test_recent_table_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_process_table()
    assert first is not None
    monkeypatch.setattr(time, "monotonic", lambda: first.ended)
    assert read_process_table() is first
    monkeypatch.setattr(time, "monotonic", lambda: first.ended + 1)
    assert read_process_table() is not first


def test_lack_of_descriptors_gives_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lack)
    assert read_process_table() is None


@pytest.mark.parametrize("refused", ["listdir", "open"])
def test_group_that_cannot_be_read_is_alive(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        with monkeypatch.context() as patch:
            patch.setattr(os, refused, lack)
            assert is_group_alive(program.pid)
            assert not is_group_suspended(program.pid)
        # The table that exists by now makes no difference.
        assert is_group_alive(program.pid)
        with monkeypatch.context() as patch:
            patch.setattr(os, refused, lack)
            assert is_group_alive(program.pid)
    assert not is_group_alive(program.pid)


def test_group_is_alive_although_proc_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "list_pids", set)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        assert is_group_alive(program.pid)
    assert not is_group_alive(program.pid)


def test_group_younger_than_the_table_is_alive() -> None:
    read_process_table()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        assert is_group_alive(program.pid)


def test_zombie_that_was_alive_in_the_table_is_not_alive() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        assert program.stdin is not None
        read_process_table()
        program.stdin.close()
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        assert not is_group_alive(program.pid)


def test_many_groups_of_zombies_cost_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [subprocess.Popen(["true"], start_new_session=True) for _ in range(20)]
    for program in programs:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    listed = 0
    list_pids = proc.list_pids

    def count() -> set[int]:
        nonlocal listed
        listed += 1
        return list_pids()

    monkeypatch.setattr(proc, "list_pids", count)
    # The machine may be slow.
    monkeypatch.setattr("procreaper.runtime.system.groups.MAX_AGE", 60.0)
    assert not any(is_group_alive(program.pid) for program in programs)
    assert listed == 1
    for program in programs:
        program.wait()


def test_slowly_read_table_serves_all_groups_that_end_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    program = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    seen = read_process_table(time.monotonic())
    assert seen is not None
    monkeypatch.setattr("procreaper.runtime.system.process_table._latest", seen._replace(began=seen.began - 60))
    monkeypatch.setattr(proc, "list_pids", lambda: pytest.fail("another table"))
    assert not is_group_alive(program.pid)
    program.wait()


def test_many_living_groups_cost_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) for _ in range(20)]
    read_process_table()
    monkeypatch.setattr(proc, "list_pids", lambda: pytest.fail("another table"))
    assert all(is_group_alive(program.pid) for program in programs)
    for program in programs:
        program.communicate()
