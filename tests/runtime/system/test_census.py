"""One look at all processes serves all who ask at the same time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from procreaper.runtime.system import census as module
from procreaper.runtime.system import proc
from procreaper.runtime.system.census import latest_census, take_census
from procreaper.runtime.system.groups import group_lives, is_held

pytestmark = [
    pytest.mark.usefixtures("survivors"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a /proc"),
]


@pytest.fixture(autouse=True)
def no_census_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_latest", None)


def lack(*_: object) -> bytes:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_census_has_every_process_its_group_and_its_session() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        census = take_census()
        assert census is not None
        assert census.processes[program.pid].parent == os.getpid()
        assert census.groups[program.pid] == census.sessions[program.pid] == [program.pid]


def test_those_who_ask_at_the_same_time_share_a_census() -> None:
    first = take_census()
    assert first is not None
    assert take_census(first.began) is first
    assert latest_census() is first
    later = take_census(time.monotonic())
    assert later is not first
    assert take_census() is not first


def test_a_recent_census_is_as_good_as_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first = take_census()
    assert first is not None
    monkeypatch.setattr(time, "monotonic", lambda: first.ended)
    assert take_census() is first
    monkeypatch.setattr(time, "monotonic", lambda: first.ended + 1)
    assert take_census() is not first


def test_without_descriptors_there_is_no_census(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lack)
    assert take_census() is None


@pytest.mark.parametrize("refused", ["listdir", "open"])
def test_a_group_that_cannot_be_looked_at_lives(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        with monkeypatch.context() as patch:
            patch.setattr(os, refused, lack)
            assert group_lives(program.pid)
            assert not is_held(program.pid)
        # What is known of it by now makes no difference.
        assert group_lives(program.pid)
        with monkeypatch.context() as patch:
            patch.setattr(os, refused, lack)
            assert group_lives(program.pid)
    assert not group_lives(program.pid)


def test_a_group_lives_although_proc_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "list_pids", set)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        assert group_lives(program.pid)
    assert not group_lives(program.pid)


def test_a_group_that_is_younger_than_the_census_lives() -> None:
    take_census()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        assert group_lives(program.pid)


def test_a_zombie_that_lived_at_the_census_does_not_live_any_more() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as program:
        assert program.stdin is not None
        take_census()
        program.stdin.close()
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        assert not group_lives(program.pid)


def test_many_groups_of_zombies_cost_one_census(monkeypatch: pytest.MonkeyPatch) -> None:
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
    # However slow the machine is.
    monkeypatch.setattr("procreaper.runtime.system.groups.OLD", 60.0)
    assert not any(group_lives(program.pid) for program in programs)
    assert listed == 1
    for program in programs:
        program.wait()


def test_a_census_that_took_long_serves_all_groups_that_end_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    program = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    seen = take_census(time.monotonic())
    assert seen is not None
    monkeypatch.setattr("procreaper.runtime.system.census._latest", seen._replace(began=seen.began - 60))
    monkeypatch.setattr(proc, "list_pids", lambda: pytest.fail("another census"))
    assert not group_lives(program.pid)
    program.wait()


def test_many_groups_that_live_cost_one_census(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) for _ in range(20)]
    take_census()
    monkeypatch.setattr(proc, "list_pids", lambda: pytest.fail("another census"))
    assert all(group_lives(program.pid) for program in programs)
    for program in programs:
        program.communicate()
