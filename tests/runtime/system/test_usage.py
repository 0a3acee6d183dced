"""What process trees take, with real children that use up time and memory."""

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
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes take in /proc"),
]

MEGABYTE = 1 << 20
# Uses a known time, counted by the same clock as that which is tested.
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


def begin(trees: Trees, *command: str, ready: int = 1) -> int:
    """Start a command as a run is started, in a session of its own, and wait until it has said so many lines."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    trees.append(process)
    assert process.stdout is not None
    for _ in range(ready):
        assert process.stdout.readline() == b"ready\n"
    return process.pid


def python(*parts: str) -> tuple[str, str, str]:
    return sys.executable, "-c", "".join(parts)


def test_time_and_memory_of_one_process(trees: Trees) -> None:
    idle = begin(trees, *python(READY))
    busy = begin(trees, *python(BURN, READY))
    big = begin(trees, *python(f"held = b'x' * {64 * MEGABYTE}\n", READY))
    found = measure_usage({"idle": idle, "busy": busy, "big": big})
    assert {name: each.processes for name, each in found.items()} == {"idle": 1, "busy": 1, "big": 1}
    assert found["busy"].cpu_seconds >= 0.5 > found["idle"].cpu_seconds
    more = found["big"].resident_bytes - found["idle"].resident_bytes
    assert 62 * MEGABYTE < more < 80 * MEGABYTE


def test_all_that_belongs_to_a_tree_is_counted(trees: Trees) -> None:
    # A child, one in a session of its own, and the child of that one.
    inner = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {READY!r}], stdin=0); {READY}"
    outer = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {inner!r}], start_new_session=True)\n"
    alone = begin(trees, *python(READY))
    tree = begin(trees, *python(outer, READY), ready=3)
    found = measure_usage({"alone": alone, "tree": tree})
    assert found["tree"].processes == 3
    assert found["tree"].resident_bytes > 2 * found["alone"].resident_bytes
    # Left to itself it would outlive its parent, whose group it is not in: it ends when its input does.
    trees[-1].communicate()
    assert measure_usage({"tree": tree}) == {}


def test_the_time_of_workers_that_have_ended_stays(trees: Trees) -> None:
    pid = begin(trees, "sh", "-c", f'"{sys.executable}" -c "$0"; echo ready; read line', BURN)
    found = measure_usage({"web": pid})
    assert found["web"].cpu_seconds >= 0.5
    assert found["web"].processes == 1


def test_a_group_is_counted_though_its_leader_is_gone(trees: Trees) -> None:
    pid = begin(trees, "sh", "-c", "sleep 600 & echo ready")
    trees[-1].wait()
    assert measure_usage({"web": pid})["web"].processes == 1
    os.killpg(pid, signal.SIGKILL)


def test_a_zombie_is_no_process_but_has_taken_time(trees: Trees) -> None:
    burn = f"import os\nif not os.fork():\n  exec({BURN!r})\n  os._exit(0)\n"
    wait = "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\n"
    found = measure_usage({"web": begin(trees, *python(burn, wait, READY))})
    assert found["web"].processes == 1
    assert found["web"].cpu_seconds >= 0.5


def test_a_tree_within_another_is_its_own(trees: Trees) -> None:
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


def test_one_that_is_gone_is_left_out(trees: Trees) -> None:
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()
    alive = begin(trees, *python(READY))
    assert list(measure_usage({"gone": process.pid, "alive": alive})) == ["alive"]
    assert measure_usage({}) == {}


def test_nothing_is_known_where_nothing_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PROC", str(tmp_path / "proc"))
    assert measure_usage({"web": os.getpid()}) == {}


def test_what_cannot_be_read_is_as_if_it_were_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    times = "1 2 3 4"
    for pid, text in {
        # Numbers that were used again while they were read may make a circle.
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
