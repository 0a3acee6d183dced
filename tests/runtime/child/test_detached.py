"""A run that outlives us, with real processes: when there is a new one, what is adopted, who is never signalled."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.loops import in_loop
from support.recorder import Witness
from support.survivors import Survivors

from procreaper.core.events import ChildExited, Exit, GroupEnded, Spawned, SpawnFailed
from procreaper.core.plan import LogFile, Process
from procreaper.runtime.child import detached
from procreaper.runtime.child.detached import DetachedRun
from procreaper.runtime.child.detached_record import Record, Register
from procreaper.runtime.system.groups import is_group_alive
from procreaper.runtime.system.marks import DETACHED_MARK
from procreaper.runtime.system.proc import read_boot_id, read_start_time

pytestmark = pytest.mark.usefixtures("survivors", "state")

RUN = 3
STAY = "echo ready; exec sleep 600"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which is remembered what runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "procreaper"


class Observer(Witness):
    """Takes what a run reports and says."""

    def __init__(self, root: Path, command: str | Sequence[str] = STAY, **settings: Any) -> None:
        super().__init__()
        self.said: list[str] = []
        self.log = root / "log" / "tunnel.log"
        command = command if isinstance(command, str) else tuple(command)
        process = Process("tunnel.1", command, detached=True, log=LogFile(str(self.log)))._replace(**settings)
        self.run = DetachedRun(process, RUN, root=str(root), post=self.take, say=self.said.append)

    async def begins(self) -> int:
        """Start it and return its pid."""
        await self.run.spawn()
        return (await self.gets(Spawned)).pid

    async def dies(self) -> ChildExited:
        await self.run.spawn()
        return await self.gets(ChildExited)

    async def ends(self, number: int = signal.SIGKILL) -> ChildExited:
        self.run.signal(number)
        return await self.gets(ChildExited)


async def written(path: Path, text: str) -> None:
    """Poll until a file that another process writes contains a text."""
    while not path.exists() or text not in path.read_text():
        await asyncio.sleep(0.005)


def records(state: Path) -> list[Path]:
    return sorted(state.glob("*"))


def another_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], start_new_session=True)


def forge(directory: Path, pid: int, **changes: Any) -> None:
    """A record about the process `tunnel.1` that has this number."""
    register = Register(str(directory), "tunnel.1", os.environ)
    lock = register.lock()
    assert lock is not None
    os.close(lock)
    record = Record(pid, read_start_time(pid) or "", read_boot_id(), register.root, "tunnel.1", STAY, "", time.time())
    register.write(record._replace(**changes))


@in_loop
async def test_a_run_is_reported_from_its_start_to_its_end_and_then_forgotten(tmp_path: Path, state: Path) -> None:
    run = Observer(tmp_path, "echo one; echo two >&2; read answer || exit 3")
    exited = await run.dies()
    assert [type(event) for event in run.told] == [Spawned, ChildExited]
    assert exited == ChildExited("tunnel.1", RUN, Exit(code=3), leftovers=False)
    assert run.log.read_text() == "one\ntwo\n"
    assert run.run.over
    assert records(state) == []


@in_loop
async def test_it_has_a_session_of_its_own_and_nothing_of_ours(tmp_path: Path) -> None:
    shown = "import os; print(os.getsid(0) == os.getpgid(0) == os.getpid(), os.environ['PROCREAPER_APP'], os.getcwd(),"
    shown += " sorted(os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)), len(os.listdir('/proc/self/fd')))"
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        run = Observer(tmp_path, (sys.executable, "-S", "-c", shown), cwd=str(tmp_path))
        await run.dies()
    finally:
        os.close(reading)
        os.close(writing)
    log = str(run.log)
    # The last descriptor is the one with which it reads the directory.
    assert run.log.read_text() == f"True {DETACHED_MARK} {tmp_path} {['/dev/null', log, log]} 4\n"


@in_loop
@pytest.mark.parametrize(
    ("command", "settings", "error", "code"),
    [
        (("frobnicate",), {}, "no such file or directory: frobnicate", 127),
        (("./here",), {}, "permission denied: ./here", 126),
        (("true",), {"cwd": "/nowhere"}, "no such file or directory: /nowhere", 127),
        (("echo", "\0"), {}, "its command or its environment contains a NUL byte", 126),
        (("echo", "x" * 3_000_000), {}, "its command or its environment is longer than the system allows", 126),
    ],
)
async def test_what_cannot_be_run_is_told_as_of_every_other_process(
    tmp_path: Path, state: Path, command: tuple[str, ...], settings: dict[str, Any], error: str, code: int
) -> None:
    (tmp_path / "here").touch()
    run = Observer(tmp_path, command, **{"cwd": str(tmp_path), **settings})
    await run.run.spawn()
    assert run.told == [SpawnFailed("tunnel.1", RUN, error, code, permanent=True)]
    assert run.run.over
    assert records(state) == []


@in_loop
async def test_it_goes_on_when_we_go_and_is_adopted_by_who_comes_next(tmp_path: Path, state: Path) -> None:
    first = Observer(tmp_path)
    pid = await first.begins()
    await written(first.log, "ready\n")
    first.run.finish()
    assert first.run.over
    second = Observer(tmp_path)
    assert await second.begins() == pid
    assert first.run.began_at is None
    assert second.run.began_at is not None
    assert 0 <= time.time() - second.run.began_at < 60
    (said,) = second.said
    assert said.startswith("tunnel.1 runs since ")
    assert said.endswith(f"; adopted (pid {pid})")
    assert second.log.read_text() == "ready\n"
    assert len(records(state)) == 1
    # The exit status of a process that is not our child is unknown.
    assert await second.ends(signal.SIGTERM) == ChildExited("tunnel.1", RUN, Exit(), leftovers=False)
    assert records(state) == []
    os.waitpid(pid, 0)


@in_loop
async def test_two_at_once_start_one(tmp_path: Path) -> None:
    runs = [Observer(tmp_path) for _ in range(5)]
    await asyncio.gather(*(run.run.spawn() for run in runs))
    assert len({(await run.gets(Spawned)).pid for run in runs}) == 1
    runs[0].run.signal(signal.SIGKILL)
    exits = [(await run.gets(ChildExited)).exit for run in runs]
    assert (exits.count(Exit(signal=9)), exits.count(Exit())) == (1, 4)


@in_loop
async def test_who_has_the_lock_is_waited_for(tmp_path: Path) -> None:
    lock = Register(str(tmp_path), "tunnel.1", os.environ).lock()
    assert lock is not None
    run = Observer(tmp_path, "true")
    spawning = asyncio.ensure_future(run.run.spawn())
    await asyncio.sleep(0)
    cancelled = Observer(tmp_path)
    waiting = asyncio.ensure_future(cancelled.run.spawn())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert cancelled.run.over
    assert (run.told, cancelled.told) == ([], [])
    os.close(lock)
    await spawning
    await run.gets(ChildExited)


@in_loop
async def test_the_lock_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "LOCK_PATIENCE", 0.0)
    register = Register(str(tmp_path), "tunnel.1", os.environ)
    lock = register.lock()
    assert lock is not None
    run = Observer(tmp_path)
    await run.run.spawn()
    error = f"another procreaper is busy with it: {register.path}"
    assert run.told == [SpawnFailed("tunnel.1", RUN, error, 126, permanent=False)]
    os.close(lock)


@in_loop
async def test_a_command_that_has_changed_since_is_told(tmp_path: Path) -> None:
    first = Observer(tmp_path)
    pid = await first.begins()
    second = Observer(tmp_path, ("sleep", "600"))
    assert await second.begins() == pid
    assert second.said[1:] == [
        "tunnel.1 was started with another command than it has now; `procreaper restart tunnel` changes that"
    ]
    await first.ends()
    await second.gets(ChildExited)


@in_loop
@pytest.mark.parametrize(
    "changes",
    [
        {"born": "1"},
        {"boot": "another"},
        {"root": "/elsewhere"},
        {"name": "tunnel.2"},
    ],
)
async def test_what_the_record_does_not_mean_is_neither_adopted_nor_signalled(
    tmp_path: Path, state: Path, changes: dict[str, str]
) -> None:
    other = another_process()
    forge(tmp_path, other.pid, **changes)
    run = Observer(tmp_path)
    assert await run.begins() != other.pid
    await run.ends(signal.SIGTERM)
    assert other.poll() is None
    other.kill()
    other.wait()


@in_loop
async def test_who_leads_no_session_is_not_adopted(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "600"])
    forge(tmp_path, other.pid)
    run = Observer(tmp_path)
    assert await run.begins() != other.pid
    await run.ends()
    other.kill()
    other.wait()


@in_loop
async def test_one_that_has_ended_and_is_not_reaped_is_not_adopted(tmp_path: Path) -> None:
    other = another_process()
    forge(tmp_path, other.pid)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    run = Observer(tmp_path)
    assert await run.begins() != other.pid
    await run.ends()
    other.wait()


@in_loop
@pytest.mark.parametrize("only_main", [False, True])
async def test_a_number_that_has_become_somebody_elses_is_not_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_main: bool
) -> None:
    run = Observer(tmp_path)
    pid = await run.begins()
    with monkeypatch.context() as patch:
        patch.setattr(detached, "read_start_time", lambda pid: "later")
        run.run.signal(signal.SIGKILL, only_main=only_main)
        assert not run.run.held
    run.run.signal(signal.SIGTERM, only_main=only_main)
    assert (await run.gets(ChildExited)).exit == Exit(signal=15)
    assert not is_group_alive(pid)


def spoil(path: Path, kind: str) -> None:
    whole = path.read_text()
    path.unlink()
    match kind:
        case "half":
            path.write_text(whole[:50])
        case "empty":
            path.touch()
        case "list":
            path.write_text("[1]")
        case "words":
            path.write_text(json.dumps({**json.loads(whole), "command": [1]}))
        case "pid":
            path.write_text(json.dumps({**json.loads(whole), "pid": -1}))
        case "number":
            path.write_text(json.dumps({**json.loads(whole), "pid": 10**11}))
        case "never" | "late":
            path.write_text(json.dumps({**json.loads(whole), "started_at": math.nan if kind == "never" else 1e300}))
        case "deep":
            path.write_text("[" * 100_000)
        case "link":
            (path.parent / "elsewhere").write_text(whole)
            path.symlink_to("elsewhere")
        case "fifo":
            os.mkfifo(path)
        case "foreign":
            path.write_text(whole)
            os.chown(path, 12345, -1)


@in_loop
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("half", "it is not whole"),
        ("empty", "it is not whole"),
        ("list", "it is not whole"),
        ("words", "it does not say what it should"),
        ("deep", "it is not whole"),
        ("pid", "it does not say what it should"),
        ("number", "it does not say what it should"),
        ("never", "it does not say what it should"),
        ("late", "it does not say what it should"),
        ("link", "too many levels of symbolic links"),
        ("fifo", "it is no file"),
        ("foreign", "it belongs to another user"),
    ],
)
async def test_a_record_that_cannot_be_believed_is_ignored_and_told(
    tmp_path: Path, state: Path, kind: str, reason: str
) -> None:
    if kind == "foreign" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    other = another_process()
    forge(tmp_path, other.pid)
    (path,) = records(state)
    spoil(path, kind)
    run = Observer(tmp_path)
    assert await run.begins() != other.pid
    assert run.said == [f"what is known of an earlier tunnel.1 is ignored: {reason} ({path})"]
    # Replaced by one that is whole.
    assert json.loads(path.read_text())["name"] == "tunnel.1"
    await run.ends()
    other.kill()
    other.wait()


def test_a_record_that_no_descriptor_is_left_for_is_not_taken_for_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(tmp_path, os.getpid())

    def lack(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", lack)
    # A broken one would be ignored, and a twin of the process started.
    with pytest.raises(OSError, match="Too many open files"):
        Register(str(tmp_path), "tunnel.1", os.environ).read()


@in_loop
async def test_the_directory_is_closed_to_others(tmp_path: Path, state: Path) -> None:
    state.mkdir(parents=True)
    state.chmod(0o755)
    await Observer(tmp_path, "true").dies()
    assert state.stat().st_mode & 0o777 == 0o700


@in_loop
async def test_without_a_place_for_the_record_nothing_is_started(tmp_path: Path, state: Path) -> None:
    state.parent.mkdir()
    state.symlink_to(tmp_path)
    run = Observer(tmp_path, "touch started")
    await run.run.spawn()
    error = f"there is no place to remember it in, set XDG_STATE_HOME to one: not a directory: {state}"
    assert run.told == [SpawnFailed("tunnel.1", RUN, error, 127, permanent=True)]
    assert not (tmp_path / "started").exists()


@in_loop
async def test_a_relative_place_for_the_record_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = Register(str(tmp_path), "tunnel.1", {"XDG_STATE_HOME": "state"})
    assert register.path.startswith(os.path.expanduser("~/.local/state/procreaper/"))


@in_loop
async def test_where_the_record_cannot_be_written_nothing_is_started(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(register: Register, record: Record) -> None:
        raise OSError(28, "No space left on device", register.path)

    monkeypatch.setattr(Register, "write", write)
    run = Observer(tmp_path, f"touch {tmp_path}/started")
    await run.run.spawn()
    (failed,) = run.told
    assert isinstance(failed, SpawnFailed)
    assert (failed.error.partition(":")[0], failed.permanent) == ("no space left on device", False)
    assert not (tmp_path / "started").exists()


# Runs what is in `tmp_path` and is killed before, or right after, the record is written.
KILLED = """
import asyncio, os, signal, sys
from procreaper.runtime.child.detached import DetachedRun
from procreaper.runtime.child.detached_record import Register
from procreaper.core.plan import LogFile, Process

root, moment = sys.argv[1:]
write = Register.write

def killed(register, record):
    if moment == "after":
        write(register, record)
    os.kill(os.getpid(), signal.SIGKILL)

Register.write = killed
process = Process("tunnel.1", "echo ready; exec sleep 600", detached=True, log=LogFile(root + "/log/tunnel.log"))

async def main():
    await DetachedRun(process, 1, root=root, post=print, say=print).spawn()

asyncio.run(main())
"""


@in_loop
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_between_the_spawn_and_the_record_we_leave_no_twin(
    tmp_path: Path, survivors: Survivors, moment: str
) -> None:
    killed = subprocess.run([sys.executable, "-S", "-c", KILLED, str(tmp_path), moment], env=environment(), check=False)
    assert killed.returncode == -signal.SIGKILL
    while survivors.find():
        await asyncio.sleep(0.005)
    record = Register(str(tmp_path), "tunnel.1", os.environ).read()
    assert (record is not None) == (moment == "after")
    # The mark goes with its memory, and so a moment before the process itself.
    while record is not None and read_start_time(record.pid) == record.born:
        await asyncio.sleep(0.005)
    assert (tmp_path / "log" / "tunnel.log").read_text() == ""
    run = Observer(tmp_path)
    await run.begins()
    assert run.said == []
    await written(run.log, "ready\n")
    await run.ends()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@in_loop
async def test_killed_later_we_leave_one_that_is_adopted(tmp_path: Path) -> None:
    source = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "").replace(
        ".spawn()", ".spawn(); os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-S", "-c", source, str(tmp_path), "after"],
        env=environment(),
        check=False,
        stdout=subprocess.DEVNULL,
    )
    run = Observer(tmp_path)
    pid = await run.begins()
    assert [text.partition(";")[2] for text in run.said] == [f" adopted (pid {pid})"]
    await written(run.log, "ready\n")
    await run.ends()


@in_loop
@pytest.mark.parametrize("adopted", [False, True])
async def test_where_nobody_tells_of_an_end_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adopted: bool
) -> None:
    monkeypatch.setattr(detached, "_end_of", lambda pid: None)
    monkeypatch.setattr(detached, "POLL", 0.01)
    first = Observer(tmp_path)
    await first.begins()
    run = Observer(tmp_path) if adopted else first
    if adopted:
        await run.begins()
    assert (await run.ends()).exit == (Exit() if adopted else Exit(signal=9))
    await first.gets(ChildExited)


@in_loop
async def test_the_run_is_over_when_its_whole_group_is(tmp_path: Path, state: Path) -> None:
    run = Observer(tmp_path, "sleep 600 & echo ready; exit 3")
    assert await run.dies() == ChildExited("tunnel.1", RUN, Exit(code=3), leftovers=True)
    assert not run.run.over
    run.run.signal(signal.SIGTERM)
    await run.gets(GroupEnded)
    assert run.run.over
    assert records(state) == []


@in_loop
async def test_only_the_program_can_be_signalled(tmp_path: Path) -> None:
    run = Observer(tmp_path, "sh -c 'trap \"echo obeyed; exit 7\" TERM; sleep 600 & echo ready; wait'; :")
    pid = await run.begins()
    await written(run.log, "ready\n")
    run.run.signal(signal.SIGTERM, only_main=True)
    # What the program has started goes on.
    assert (await run.gets(ChildExited)).leftovers
    assert "obeyed\n" in run.log.read_text()
    assert is_group_alive(pid)
    run.run.signal(signal.SIGKILL)
    await run.gets(GroupEnded)


@in_loop
async def test_a_stopped_one_is_held_and_sees_a_signal_all_the_same(tmp_path: Path) -> None:
    run = Observer(tmp_path)
    pid = await run.begins()
    await written(run.log, "ready\n")
    assert not run.run.held
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    assert run.run.held
    await run.ends(signal.SIGTERM)
    assert not run.run.held


@in_loop
async def test_what_was_let_go_reports_nothing(tmp_path: Path) -> None:
    run = Observer(tmp_path)
    pid = await run.begins()
    run.run.finish()
    run.run.signal(signal.SIGTERM)
    assert is_group_alive(pid)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    await asyncio.sleep(0)
    assert run.told == [Spawned("tunnel.1", RUN, pid)]


@in_loop
@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, {}), (1, {".1": "long enough\n"}), (2, {".1": "long enough\n", ".2": "older\n"})],
)
async def test_a_log_that_is_too_large_is_put_aside_before_a_run(
    tmp_path: Path, most: int, expected: dict[str, str]
) -> None:
    log = tmp_path / "tunnel.log"
    log.write_text("long enough\n")
    if most:
        Path(f"{log}.1").write_text("older\n")
    await Observer(tmp_path, "echo new", log=LogFile(str(log), max_size=5, max_files=most)).dies()
    assert log.read_text() == "new\n"
    assert {
        path.name.removeprefix("tunnel.log"): path.read_text() for path in tmp_path.glob("tunnel.log.*")
    } == expected


@in_loop
async def test_a_log_that_is_not_too_large_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        run = Observer(tmp_path, "echo again")
        await run.dies()
    assert run.log.read_text() == "again\nagain\n"


@in_loop
async def test_a_record_is_forgotten_by_whom_it_is_about_only(tmp_path: Path, state: Path) -> None:
    register = Register(str(tmp_path), "tunnel.1", os.environ)
    forge(tmp_path, os.getpid())
    register.forget(os.getpid(), "earlier")
    assert len(records(state)) == 1
    lock = register.lock()
    assert lock is not None
    register.forget(os.getpid(), read_start_time(os.getpid()) or "")
    assert len(records(state)) == 1
    os.close(lock)
    register.forget(os.getpid(), read_start_time(os.getpid()) or "")
    assert records(state) == []
