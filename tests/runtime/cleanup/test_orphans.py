"""Marks, exemptions and reaping. Tests with the whole program, in `faults`, show how escapees are ended."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.loops import in_loop

from procreaper.runtime.cleanup.commands import CommandTracker, is_left_by_check
from procreaper.runtime.cleanup.orphans import Adoption, Orphans, add_mark
from procreaper.runtime.system.marks import MARK_VARIABLE

PRELUDE = """
import asyncio, os, subprocess, sys, time
from pathlib import Path
from procreaper.runtime.cleanup.orphans import Orphans, add_mark, adopt_orphans

adoption = adopt_orphans()
assert adoption == (True, False)
path = add_mark(os.environ)

def children():
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_bytes().rpartition(b") ")[2].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.append(int(entry.name))
    return found

def make_orphans(said):
    ignore = lambda *arguments: None
    loop = asyncio.get_running_loop()
    ignored = dict.fromkeys(("add_process", "remove_process", "watch_output", "forget_output"), ignore)
    return Orphans(path, adoption, loop, say=said.append, **ignored)
"""


def test_nested_app_has_a_longer_mark() -> None:
    environment: dict[str, str] = {}
    outer = add_mark(environment)
    assert environment == {MARK_VARIABLE: outer}
    inner = add_mark(environment)
    assert inner.startswith(outer)
    assert inner != outer != add_mark({})


@in_loop
async def test_run_has_a_mark_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    listed: dict[int, tuple[int, int]] = {}

    def add_process(pid: int, target: int, start: int) -> None:
        listed[pid] = target, start

    loop = asyncio.get_running_loop()
    orphans = Orphans(
        "app/",
        Adoption(False, False),
        loop,
        say=lambda text: None,
        add_process=add_process,
        remove_process=listed.pop,
        watch_output=str,
        forget_output=lambda key: None,
    )
    assert orphans.environment("web.1", 2, {"A": "1"}) == {"A": "1", MARK_VARIABLE: "app/web.1/2/"}
    assert orphans.environment("web.1", 2, None)["OURS"] == "1"
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    orphans.run_started("web.1", 1, process.pid)
    (target, _) = listed[process.pid]
    assert target == -process.pid
    assert not orphans.has_escapees("web.1", 2)
    orphans.signal_escapees("web.1", 2, 15)
    process.kill()
    process.wait()
    orphans.group_ended(process.pid)
    assert listed == {}
    await orphans.end_leftovers(patience=3600)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
@pytest.mark.parametrize("session", [False, True])
def test_children_of_other_code_keep_their_exit_status(session: bool) -> None:
    run(
        f"""
def work(code):
    return subprocess.run(["sh", "-c", f"exit {{code}}"], start_new_session={session}).returncode

async def main():
    orphans = make_orphans([])
    codes = await asyncio.gather(*(asyncio.to_thread(work, code) for code in range(100)))
    assert codes == list(range(100)), codes

asyncio.run(main())
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
@pytest.mark.parametrize("command", ["(setsid true &)", "setsid sh -c '(true &)'", "(true &)"])
def test_ended_orphans_are_reaped(command: str) -> None:
    run(
        f"""
async def main():
    orphans = make_orphans([])
    process = await asyncio.create_subprocess_shell({command!r} + "; exit 7", start_new_session=True)
    orphans.run_started("web.1", 1, process.pid)
    assert await process.wait() == 7
    orphans.group_ended(process.pid)
    # Wait for all children, because a SIGCHLD must not arrive while the loop is being closed.
    while children():
        await asyncio.sleep(0.01)

asyncio.run(main())
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
@pytest.mark.parametrize(
    "trouble", ["list_pids = set; proc.read_file = lambda path: b''", "list_pids = proc.read_file = lack"]
)
def test_orphan_of_a_group_is_reaped_if_proc_cannot_be_read(trouble: str) -> None:
    run(
        f"""
import errno
from procreaper.runtime.system import proc

def lack(*_):
    raise OSError(errno.EMFILE, "too many open files")

async def main():
    orphans = make_orphans([])
    process = await asyncio.create_subprocess_shell("(true &); exit 7", start_new_session=True)
    orphans.run_started("web.1", 1, process.pid)
    proc.{trouble}
    assert await process.wait() == 7
    orphans.has_escapees("web.1", 1)
    while children():
        await asyncio.sleep(0.01)

asyncio.run(main())
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_process_that_cannot_be_ended_is_reported() -> None:
    run(
        """
from procreaper.runtime.cleanup import orphans as module
module.KILL_TIMEOUT = 0.1
# As if the process belonged to another user.
def refuse(pid, number):
    raise PermissionError
module.os.kill, kill = refuse, os.kill

async def main():
    said = []
    orphans = make_orphans(said)
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_shell(
        f"(setsid sh -c 'echo $$ >&{writing}; exec sleep 600' &)", start_new_session=True, pass_fds=[writing])
    await process.wait()
    pid = int(os.read(reading, 100))
    await orphans.end_leftovers(patience=0.1)
    assert len(said) == 1 and said[0].endswith(f" (pid {pid}) cannot be ended"), said
    # Block SIGCHLD: if it arrived while the loop is being closed, Python would print a warning.
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    kill(pid, 9)

asyncio.run(main())
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_pause_of_procreaper_does_not_count_as_patience() -> None:
    run(
        """
from procreaper.runtime.cleanup import orphans as module
import signal, time
lost, sent = [0.0], []
asyncio.BaseEventLoop.time = lambda loop: time.monotonic() + lost[0]

def record(pid, number):
    sent.append(number)
    # procreaper is suspended while it waits, and continues after an hour.
    asyncio.get_running_loop().call_soon(lost.__setitem__, 0, 3600.0)
module.os.kill, kill = record, os.kill

async def main():
    orphans = make_orphans([])
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_shell(
        f"(setsid sh -c 'echo $$ >&{writing}; exec sleep 600' &)", start_new_session=True, pass_fds=[writing])
    await process.wait()
    pid = int(os.read(reading, 100))
    scans, find = [], orphans._find_adopted

    def find_until_it_ends(mark, **options):
        scans.append(mark)
        if len(scans) == 4:
            kill(pid, signal.SIGKILL)
        return find(mark, **options)

    orphans._find_adopted = find_until_it_ends
    await orphans.end_leftovers(patience=60.0)
    assert set(sent) - {signal.SIGCONT} == {signal.SIGTERM}, sent

asyncio.run(main())
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
@pytest.mark.parametrize(
    ("mark", "is_exempt"),
    [
        # The mark of a detached process of any procreaper, also of a nested one.
        ("PROCREAPER_APP=detached/", False),
        ("PROCREAPER_APP=detached/3f9c2ab14d07/web.1/1/", False),
        # It has overwritten its environment, but its session is known.
        ("A=1", True),
    ],
)
@pytest.mark.parametrize("escape", ["", "setsid "])
def test_processes_of_a_detached_process_are_left_alone(mark: str, is_exempt: bool, escape: str) -> None:
    run(
        f"""
async def main():
    said = []
    orphans = make_orphans(said)
    process = subprocess.Popen(
        ["sh", "-c", "({escape}sh -c 'echo $$; exec sleep 600' &); exec sleep 600"],
        env={{"PATH": os.environ["PATH"], **dict([{mark!r}.split("=", 1)])}},
        start_new_session=True, stdout=subprocess.PIPE)
    if {is_exempt}:
        orphans.exempt_session(process.pid)
    daemon = int(process.stdout.readline())
    await orphans.end_leftovers(patience=3600)
    assert said == [], said
    assert process.poll() is None
    # As above.
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    for pid in daemon, process.pid:
        os.kill(pid, 9)
    process.wait()
    process.stdout.close()

asyncio.run(main())
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_marked_process_is_ended_although_there_is_a_detached_process() -> None:
    run(
        """
async def main():
    said = []
    orphans = make_orphans(said)
    detached = subprocess.Popen(["sleep", "600"], env={"PROCREAPER_APP": "detached/"}, start_new_session=True)
    orphans.exempt_session(detached.pid)
    process = subprocess.Popen(["sh", "-c", "(setsid sh -c 'echo $$; exec sleep 600' &); exec sleep 600"],
        env=orphans.environment("web.1", 1, None), start_new_session=True, stdout=subprocess.PIPE)
    orphans.run_started("web.1", 1, process.pid)
    escaped = int(process.stdout.readline())
    process.stdout.close()
    process.kill()
    process.wait()
    orphans.group_ended(process.pid)
    await orphans.end_leftovers(patience=3600)
    # The process may not have become `sleep` yet.
    assert len(said) == 1 and said[0].endswith(f" (pid {escaped}), which had been left behind"), said
    assert detached.poll() is None
    detached.kill()
    detached.wait()

asyncio.run(main())
"""
    )


def test_checks_cause_at_most_one_scan_a_second() -> None:
    class Loop(asyncio.SelectorEventLoop):
        now = 100.0
        due: tuple[float, Callable[[], object]] | None = None

        def time(self) -> float:
            return self.now

        def call_at(self, when: float, callback: Callable[[], object], *_: object, **__: object) -> object:
            assert self.due is None
            self.due = when, callback
            return object()

    class Descendants:
        watch_output = str
        forget_output = str

        def group_started(self, group: int, path: str) -> None: ...

        def group_ended(self, group: int) -> None: ...

        def scan_descendants(self) -> None: ...

    def end_leftovers() -> None:
        scans.append(loop.now)

    scans: list[float] = []
    checking: set[str] = set()
    loop = Loop()
    tracker = CommandTracker(loop, Descendants(), checking, end_leftovers)
    for _ in range(300):
        loop.now += 0.01
        check = tracker.track("app/web.1/1/", is_check=True)
        check.before_spawn(0)
        (path,) = checking
        assert path.startswith("app/web.1/1/")
        assert not is_left_by_check(path, checking)
        check.ended()
        assert is_left_by_check(path, checking)
        if loop.due is not None and loop.due[0] <= loop.now:
            (_, callback), loop.due = loop.due, None
            callback()
    loop.close()
    assert 3 <= len(scans) <= 4
    assert not is_left_by_check("app/web.1/1/", checking)


def run(source: str) -> None:
    """Run a source in an interpreter of its own, because a subreaper stays one."""
    program = [sys.executable, "-W", "error", "-c", PRELUDE + source]
    ran = subprocess.run(program, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent.parent)
    assert (ran.returncode, ran.stderr) == (0, "")
