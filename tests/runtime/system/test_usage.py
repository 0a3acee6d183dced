"""CPU time and memory of process trees, with real children that use both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procreaper.runtime.system import usage as module
from procreaper.runtime.system.usage import Usage, measure_usage

pytestmark = [
    pytest.mark.usefixtures("survivors"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the usage of processes in /proc"),
]

MEGABYTE = 1 << 20
# Uses a known CPU time, by the same clock as the tested function.
BURN = "import os\nwhile sum(os.times()[:2]) < 0.5: pass\n"
READY = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n"

Trees = list[subprocess.Popen[bytes]]


@pytest.fixture
def trees() -> Iterator[Trees]:
    started: Trees = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start(trees: Trees, *command: str, ready: int = 1) -> int:
    """Start a command in a session of its own, like a run, wait for `ready` lines, and return its pid."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    trees.append(process)
    assert process.stdout is not None
    for _ in range(ready):
        assert process.stdout.readline() == b"ready\n"
    return process.pid


def python(*parts: str) -> tuple[str, str, str]:
    return sys.executable, "-c", "".join(parts)


def test_time_and_memory_of_one_process(trees: Trees) -> None:
    idle = start(trees, *python(READY))
    busy = start(trees, *python(BURN, READY))
    big = start(trees, *python(f"held = b'x' * {64 * MEGABYTE}\n", READY))
    found = measure_usage({"idle": idle, "busy": busy, "big": big})
    assert {name: each.processes for name, each in found.items()} == {"idle": 1, "busy": 1, "big": 1}
    assert found["busy"].cpu_seconds >= 0.5 > found["idle"].cpu_seconds
    more = found["big"].resident_bytes - found["idle"].resident_bytes
    assert 62 * MEGABYTE < more < 80 * MEGABYTE


def test_whole_tree_is_counted(trees: Trees) -> None:
    # A process; its child in another session; and a child of that child.
    inner = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {READY!r}], stdin=0); {READY}"
    outer = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {inner!r}], start_new_session=True)\n"
    alone = start(trees, *python(READY))
    tree = start(trees, *python(outer, READY), ready=3)
    found = measure_usage({"alone": alone, "tree": tree})
    assert found["tree"].processes == 3
    assert found["tree"].resident_bytes > 2 * found["alone"].resident_bytes
    # The end of its input ends the child, which is in another group.
    trees[-1].communicate()
    assert measure_usage({"tree": tree}) == {}


def test_time_of_ended_workers_still_counts(trees: Trees) -> None:
    pid = start(trees, "sh", "-c", f'"{sys.executable}" -c "$0"; echo ready; read line', BURN)
    found = measure_usage({"web": pid})
    assert found["web"].cpu_seconds >= 0.5
    assert found["web"].processes == 1


def test_group_is_counted_although_its_leader_has_gone(trees: Trees) -> None:
    pid = start(trees, "sh", "-c", "sleep 600 & echo ready")
    trees[-1].wait()
    assert measure_usage({"web": pid})["web"].processes == 1
    os.killpg(pid, signal.SIGKILL)


def test_zombie_counts_its_time_but_not_as_a_process(trees: Trees) -> None:
    burn = f"import os\nif not os.fork():\n  exec({BURN!r})\n  os._exit(0)\n"
    wait = "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\n"
    found = measure_usage({"web": start(trees, *python(burn, wait, READY))})
    assert found["web"].processes == 1
    assert found["web"].cpu_seconds >= 0.5


def test_nested_tree_is_counted_separately(trees: Trees) -> None:
    source = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {READY!r}]).pid); {READY}"
    outer = subprocess.Popen(python(source), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    trees.append(outer)
    assert outer.stdout is not None
    lines = {outer.stdout.readline() for _ in range(3)}
    inner = next(int(line) for line in lines if line != b"ready\n")
    assert {name: each.processes for name, each in measure_usage({"outer": outer.pid, "inner": inner}).items()} == {
        "outer": 1,
        "inner": 1,
    }


def test_ended_tree_is_left_out(trees: Trees) -> None:
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()
    alive = start(trees, *python(READY))
    assert list(measure_usage({"gone": process.pid, "alive": alive})) == ["alive"]
    assert measure_usage({}) == {}


def test_usage_is_empty_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PROC", str(tmp_path / "proc"))
    assert measure_usage({"web": os.getpid()}) == {}


def test_unreadable_process_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    times = "1 2 3 4"
    for pid, text in {
        # A circle, because a pid was used again during the reading.
        1: f"1 (a) b) S 2 0 0 {'0 ' * 7}{times} {'0 ' * 6}10 0",
        2: f"2 (\xe9) S 1 0 0 {'0 ' * 7}{times} {'0 ' * 6}10 0",
        3: f"3 (web) S 9 3 3 {'0 ' * 7}{times} {'0 ' * 6}10 0",
        4: f"4 () Z 3 4 4 {'0 ' * 7}{times} {'0 ' * 6}0 0",
        5: "5 (web) S 3 3 3",
        6: "",
    }.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(text, encoding="latin-1")
    (tmp_path / "7").mkdir()
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(module, "PROC", str(tmp_path))
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert measure_usage({"web": 3, "other": 8}) == {"web": Usage(20 / ticks, 10 * page, 1)}
