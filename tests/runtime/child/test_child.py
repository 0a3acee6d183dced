"""One run of a process, with real children: what is reported, in which order, and what is never lost."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.loops import in_loop
from support.recorder import Witness
from support.survivors import Survivors

from procreaper.core.events import ChildExited, Exit, GroupEnded, Output, Spawned, SpawnFailed
from procreaper.core.plan import Process
from procreaper.runtime.child.child import LAST_LOOK, Child
from procreaper.runtime.child.protocols import DescendantTracker
from procreaper.runtime.system.groups import is_group_alive
from procreaper.runtime.terminal.pty import Pseudoterminal

pytestmark = pytest.mark.usefixtures("survivors")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells zombies from the living in /proc")

RUN = 7


class Observer(Witness):
    """Takes what a child reports; `has_room` is what it answers when output is published."""

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        terminal: bool = False,
        tracker: DescendantTracker | None = None,
        idle_input: bool = False,
    ) -> None:
        super().__init__()
        command = command if isinstance(command, str) else tuple(command)
        process = Process("web", command, cwd=None if cwd is None else str(cwd), env=env)
        self.child = Child(
            process,
            RUN,
            post=self.take,
            publish=self.accept,
            tracker=tracker,
            open_terminal=open_terminal if terminal else None,
            idle_input=idle_input,
        )

    async def closes(self) -> None:
        """Poll until its output has ended."""
        while not self.child.over:
            await asyncio.sleep(0)

    async def dies(self) -> ChildExited:
        await self.child.spawn()
        return await self.gets(ChildExited)


class Stuck:
    """A tracker of a process that nothing ends; `looks` counts the queries."""

    def __init__(self) -> None:
        self.looks = 0

    def environment(self, name: str, run: int, environment: Mapping[str, str] | None) -> Mapping[str, str]:
        return os.environ if environment is None else environment

    def run_started(self, name: str, run: int, group: int) -> None: ...

    def exempt_session(self, session: int) -> None: ...

    def watch_output(self, output: int) -> str:
        return ""

    def forget_output(self, key: str) -> None: ...

    def group_ended(self, group: int) -> None: ...

    def scan_descendants(self) -> None: ...

    def signal_escapees(self, name: str, run: int, number: int) -> None: ...

    def has_escapees(self, name: str, run: int) -> bool:
        self.looks += 1
        return True


def open_terminal() -> Pseudoterminal:
    return Pseudoterminal(os.terminal_size((80, 24)))


def python(source: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", source)


@in_loop
async def test_a_run_is_reported_from_its_start_to_its_end() -> None:
    run = Observer("echo one; echo two >&2; exit 3")
    await run.dies()
    spawned, *output, exited = run.told
    assert isinstance(spawned, Spawned)
    assert (spawned.name, spawned.run) == ("web", RUN)
    assert run.output() == b"one\ntwo\n"
    assert all(isinstance(event, Output) and event.name == "web" for event in output)
    assert exited == ChildExited("web", RUN, Exit(code=3), leftovers=False)


@in_loop
async def test_an_end_by_a_signal_is_told_as_one() -> None:
    assert (await Observer("kill -KILL $$").dies()).exit == Exit(signal=9)


@in_loop
async def test_a_command_has_its_environment_its_directory_and_a_session_of_its_own(tmp_path: Path) -> None:
    show = "import os; print(os.getcwd(), sorted(os.environ), os.getsid(0) == os.getpgid(0) == os.getpid())"
    run = Observer(python(show), cwd=tmp_path, env={"A": "1", "LC_CTYPE": "C.UTF-8"})
    await run.dies()
    assert run.output().decode() == f"{os.path.realpath(tmp_path)} ['A', 'LC_CTYPE'] True\n"


@in_loop
async def test_without_a_shell_nothing_is_interpreted() -> None:
    run = Observer(("echo", "$HOME", "a  b", "*"))
    await run.dies()
    assert run.output() == b"$HOME a  b *\n"


@pytest.mark.parametrize(
    ("command", "cwd", "code", "error"),
    [
        (("/no/such/program",), None, 127, "no such file or directory: /no/such/program"),
        (("/etc/passwd/x",), None, 127, "not a directory: /etc/passwd/x"),
        (("/etc/passwd",), None, 126, "permission denied: /etc/passwd"),
        (("/",), None, 126, "permission denied: /"),
        (("true", "a\0b"), None, 126, "its command or its environment contains a NUL byte"),
        (("true", "x" * 3_000_000), None, 126, "its command or its environment is longer than the system allows"),
        ("true", "/no/such/directory", 127, "no such file or directory: /no/such/directory"),
    ],
)
@in_loop
async def test_what_can_never_be_started_is_told_with_the_code_of_a_shell(
    command: str | tuple[str, ...], cwd: str | None, code: int, error: str
) -> None:
    run = Observer(command, cwd=None if cwd is None else Path(cwd))
    await run.child.spawn()
    assert run.told == [SpawnFailed("web", RUN, error=error, code=code, permanent=True)]
    assert run.child.over


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
@in_loop
async def test_what_may_be_started_later_is_told_as_such(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(asyncio.get_running_loop(), "subprocess_exec", refuse)
    run = Observer("true")
    await run.child.spawn()
    assert run.told == [
        SpawnFailed("web", RUN, error=os.strerror(number).lower(), code=126, permanent=False),
    ]
    assert run.child.over


@in_loop
async def test_an_error_of_ours_comes_out_and_nothing_is_left_to_wait_for() -> None:
    before = len(os.listdir("/dev/fd"))
    run = Observer("true", env={"A": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        await run.child.spawn()
    assert run.told == []
    assert run.child.over
    assert len(os.listdir("/dev/fd")) == before


@in_loop
async def test_a_lack_of_descriptors_starts_nothing_and_leaves_none_open() -> None:
    run = Observer("true")
    before = len(os.listdir("/dev/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Every descriptor below the limit is taken, or free only for the pipe.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 1, limits[1]))
    spare = []
    try:
        while True:
            try:
                spare.append(os.dup(0))
            except OSError:
                break
        for descriptor in spare[-4:]:
            os.close(descriptor)
            spare.remove(descriptor)
        await run.child.spawn()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in spare:
            os.close(descriptor)
    (failed,) = run.told
    assert isinstance(failed, SpawnFailed)
    assert (failed.error, failed.permanent) == ("too many open files", False)
    assert len(os.listdir("/dev/fd")) == before


@in_loop
async def test_a_signal_reaches_the_whole_group() -> None:
    run = Observer("sh -c 'echo ready; exec sleep 600' & wait")
    await run.child.spawn()
    await run.reads(b"ready\n")
    run.child.signal(signal.SIGTERM)
    exited = await run.gets(ChildExited)
    assert exited.exit == Exit(signal=15)
    if exited.leftovers:
        await run.gets(GroupEnded)


@in_loop
async def test_what_outlives_its_leader_is_told_and_so_is_its_end() -> None:
    run = Observer("sh -c 'echo ready; exec sleep 600' & read x < /dev/null; exit 0")
    exited = await run.dies()
    assert exited == ChildExited("web", RUN, Exit(code=0), leftovers=True)
    assert not run.child.ended
    await run.reads(b"ready\n")
    run.child.signal(signal.SIGTERM)
    assert await run.gets(GroupEnded) == GroupEnded("web", RUN)
    assert run.child.ended


@in_loop
async def test_a_stopped_group_obeys_a_signal() -> None:
    run = Observer("trap 'echo obeyed; exit 0' TERM; echo ready; kill -STOP $$; cat < /dev/zero > /dev/null")
    await run.child.spawn()
    await run.reads(b"ready\n")
    run.child.signal(signal.SIGTERM)
    await run.gets(ChildExited)
    assert run.output().endswith(b"obeyed\n")


@in_loop
async def test_no_signal_is_sent_once_the_group_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Observer("exit 0")
    await run.dies()
    assert run.child.ended
    # Another process may have reused the pid by now.
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("a signal was sent"))
    run.child.signal(signal.SIGKILL)


@in_loop
async def test_the_last_words_come_before_the_obituary() -> None:
    run = Observer("seq 5000; printf unfinished; kill -KILL $$")
    await run.dies()
    assert run.output() == b"".join(b"%d\n" % number for number in range(1, 5001)) + b"unfinished"
    assert isinstance(run.told[-1], ChildExited)


@in_loop
async def test_the_last_words_come_before_the_obituary_although_somebody_holds_the_pipe() -> None:
    run = Observer("sleep 600 & printf unfinished; exit 0")
    await run.dies()
    assert [type(event) for event in run.told] == [Spawned, Output, ChildExited]
    run.child.signal(signal.SIGKILL)
    await run.gets(GroupEnded)


@in_loop
async def test_half_a_line_is_shown_after_a_while_and_then_continued(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    run = Observer("printf half; cat fifo; printf ' rest\\n'", cwd=tmp_path)
    await run.child.spawn()
    await run.reads(b"half")
    (tmp_path / "fifo").write_text("")
    await run.gets(ChildExited)
    assert [event.data for event in run.told if isinstance(event, Output)] == [b"half", b" rest\n"]


# Writes as much as is taken, tells how much that was, and ends.
FILL = """
import os
os.write(1, b"first\\n")
with open("began", "w"):
    pass
os.set_blocking(1, False)
written = 0
try:
    while True:
        written += os.write(1, b"x" * 99 + b"\\n")
except BlockingIOError:
    pass
with open("filled", "w") as fifo:
    fifo.write(str(written))
"""


@in_loop
async def test_where_there_is_no_room_nothing_is_read_until_there_is(tmp_path: Path) -> None:
    for name in ("began", "filled"):
        os.mkfifo(tmp_path / name)
    run = Observer(python(FILL), cwd=tmp_path)
    run.has_room = False
    await run.child.spawn()
    await run.reads(b"first\n")
    await asyncio.to_thread((tmp_path / "began").read_text)
    written = int(await asyncio.to_thread((tmp_path / "filled").read_text))
    assert written > 0
    # Its end is told all the same, and does not wait for room for ever.
    await run.gets(ChildExited)
    assert run.output() == b"first\n"
    assert not run.child.over
    run.has_room = True
    run.child.resume()
    await run.closes()
    assert len(run.output()) == len(b"first\n") + written


@in_loop
async def test_room_that_comes_before_the_obituary_lets_the_last_words_in(tmp_path: Path) -> None:
    for name in ("began", "filled"):
        os.mkfifo(tmp_path / name)
    run = Observer(python(FILL), cwd=tmp_path)
    run.has_room = False
    await run.child.spawn()
    await run.reads(b"first\n")
    await asyncio.to_thread((tmp_path / "began").read_text)
    written = int(await asyncio.to_thread((tmp_path / "filled").read_text))
    run.has_room = True
    run.child.resume()
    await run.gets(ChildExited)
    assert isinstance(run.told[-1], ChildExited)
    assert len(run.output()) == len(b"first\n") + written


# Leaves its session, holds the pipe, and writes when it is told to.
ESCAPE = """
import os, sys
if os.fork():
    sys.exit(5)
os.setsid()
print("ready", flush=True)
with open("fifo") as fifo:
    fifo.read()
os.write(1, b"late\\n" * 3)
"""


@in_loop
async def test_what_comes_through_a_held_pipe_later_is_still_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    run = Observer(python(ESCAPE), cwd=tmp_path)
    exited = await run.dies()
    assert exited.exit == Exit(code=5)
    if exited.leftovers:
        await run.gets(GroupEnded)
    await run.reads(b"ready\n")
    assert run.child.ended
    assert not run.child.over
    (tmp_path / "fifo").write_text("")
    await run.reads(b"late\n" * 3)
    await run.closes()


@in_loop
async def test_finish_reads_what_is_there_and_lets_go_of_the_pipe(tmp_path: Path, survivors: Survivors) -> None:
    os.mkfifo(tmp_path / "fifo")
    run = Observer(python(ESCAPE), cwd=tmp_path)
    await run.dies()
    await run.reads(b"ready\n")
    before = len(os.listdir("/dev/fd"))
    run.child.finish()
    assert run.child.over or not run.child.ended
    assert len(os.listdir("/dev/fd")) == before - 1
    survivors.kill()


@in_loop
async def test_who_outlives_the_app_is_looked_at_no_more() -> None:
    stuck = Stuck()
    run = Observer("exit 0", tracker=stuck)
    assert (await run.dies()).leftovers
    run.child.finish()
    before = stuck.looks
    # Nothing tells that nothing happens.
    await asyncio.sleep(3 * LAST_LOOK)
    assert stuck.looks == before


@in_loop
async def test_finish_needs_no_room() -> None:
    run = Observer("printf 'one\\n'; exec printf 'two\\nunfinished'")
    run.has_room = False
    await run.dies()
    run.child.finish()
    assert run.output() == b"one\ntwo\nunfinished"


@in_loop
async def test_a_flood_is_whole() -> None:
    run = Observer("seq 400000")
    await run.dies()
    assert run.output() == b"".join(b"%d\n" % number for number in range(1, 400_001))


@pytest.mark.parametrize("terminal", [False, True])
@in_loop
async def test_no_descriptor_is_left_open(terminal: bool) -> None:
    before = len(os.listdir("/dev/fd"))
    nowhere = Path("/no/such/directory")
    for command, cwd in (
        ("echo hello", None),
        (("/no/such/program",), None),
        ("true", nowhere),
        ("sleep 600 & exit 0", None),
    ):
        run = Observer(command, cwd=cwd, terminal=terminal)
        await run.child.spawn()
        if run.child.over:
            continue
        if (await run.gets(ChildExited)).leftovers:
            run.child.signal(signal.SIGKILL)
            await run.gets(GroupEnded)
        await run.closes()
    assert len(os.listdir("/dev/fd")) == before


# The same with a terminal.


@in_loop
async def test_on_a_terminal_the_last_words_come_before_the_obituary() -> None:
    run = Observer("seq 5000; printf unfinished; kill -KILL $$", terminal=True)
    await run.dies()
    assert run.output() == b"".join(b"%d\n" % number for number in range(1, 5001)) + b"unfinished"
    assert isinstance(run.told[-1], ChildExited)


@in_loop
async def test_on_a_terminal_the_last_words_come_first_although_somebody_holds_it() -> None:
    run = Observer("trap '' HUP; sleep 600 & printf unfinished; exit 0", terminal=True)
    await run.dies()
    assert [type(event) for event in run.told] == [Spawned, Output, ChildExited]
    run.child.signal(signal.SIGKILL)
    await run.gets(GroupEnded)
    await run.closes()


@in_loop
async def test_on_a_terminal_a_flood_is_whole() -> None:
    run = Observer("seq 400000", terminal=True)
    await run.dies()
    assert run.output() == b"".join(b"%d\n" % number for number in range(1, 400_001))


@in_loop
async def test_on_a_terminal_where_there_is_no_room_nothing_is_read_until_there_is(tmp_path: Path) -> None:
    for name in ("began", "filled"):
        os.mkfifo(tmp_path / name)
    run = Observer(python(FILL), cwd=tmp_path, terminal=True)
    run.has_room = False
    await run.child.spawn()
    await run.reads(b"first\n")
    await asyncio.to_thread((tmp_path / "began").read_text)
    written = int(await asyncio.to_thread((tmp_path / "filled").read_text))
    assert written > 0
    await run.gets(ChildExited)
    assert run.output() == b"first\n"
    run.has_room = True
    run.child.resume()
    await run.closes()
    assert len(run.output()) == len(b"first\n") + written


@in_loop
async def test_a_child_that_closes_its_terminal_is_not_hung_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    run = Observer("exec < /dev/null > /dev/null 2>&1; cat fifo; echo again > /dev/tty", cwd=tmp_path, terminal=True)
    await run.child.spawn()
    await asyncio.to_thread((tmp_path / "fifo").write_text, "")
    await run.gets(ChildExited)
    assert run.output() == b"again\n"


@in_loop
async def test_a_bar_that_never_rests_is_shown_all_the_same() -> None:
    move = "import itertools, os, time\nfor n in itertools.count(): os.write(1, b'\\r%d' % n); time.sleep(0.01)"
    run = Observer(python(move), terminal=True)
    await run.child.spawn()
    await run.reads(b"\r0\r1")
    run.child.signal(signal.SIGKILL)
    await run.gets(ChildExited)


@in_loop
async def test_finish_hangs_a_terminal_up() -> None:
    run = Observer("echo ready; exec sleep 600", terminal=True)
    await run.child.spawn()
    await run.reads(b"ready\n")
    run.child.finish()
    assert (await run.gets(ChildExited)).exit == Exit(signal=signal.SIGHUP)
    assert run.child.over


@in_loop
async def test_without_a_terminal_to_be_had_it_has_a_pipe() -> None:
    run = Observer("[ -t 1 ] || echo a pipe")
    run.child = Child(
        Process("web", "[ -t 1 ] || echo a pipe"), RUN, post=run.take, publish=run.accept, open_terminal=lambda: None
    )
    await run.dies()
    assert run.output() == b"a pipe\n"


@in_loop
async def test_a_lack_of_descriptors_for_a_terminal_starts_nothing_and_leaves_none_open() -> None:
    def lack() -> Pseudoterminal:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    run = Observer("true")
    before = len(os.listdir("/dev/fd"))
    child = Child(Process("web", "true"), RUN, post=run.take, publish=run.accept, open_terminal=lack)
    await child.spawn()
    assert run.told == [SpawnFailed("web", RUN, error="too many open files", code=126, permanent=False)]
    assert child.over
    assert len(os.listdir("/dev/fd")) == before


@linux_only
@pytest.mark.parametrize("name", ["plain", "with blank", "x) Z 1", "(((", "a\nb"])
def test_a_group_lives_as_long_as_a_member_that_is_no_zombie(tmp_path: Path, name: str) -> None:
    os.symlink("/bin/cat", tmp_path / name)
    with subprocess.Popen([tmp_path / name], stdin=subprocess.PIPE, start_new_session=True) as program:
        assert program.stdin is not None
        assert is_group_alive(program.pid)
        program.stdin.close()
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        # It is a zombie now.
        assert not is_group_alive(program.pid)
    assert not is_group_alive(program.pid)


# Prints what can be read from its standard input at this moment, and the descriptors that it has besides its streams.
INPUT = """
import os, select, signal, sys
readable, _, _ = select.select([0], [], [], 0)
kind = "at its end" if readable and not os.read(0, 1) else "open"
others = [number for number in range(3, 64) if os.path.exists(f"/dev/fd/{number}")]
if len(sys.argv) > 1:
    os.set_blocking(0, False)
print(kind, others, flush=True)
if len(sys.argv) > 1:
    signal.pause()
"""


@in_loop
async def test_an_idle_input_stays_open_and_belongs_to_one_child_alone() -> None:
    before = len(os.listdir("/dev/fd"))
    first = Observer((sys.executable, "-S", "-c", INPUT, "reads on"), idle_input=True)
    await first.child.spawn()
    await first.reads(b"open []\n")
    # A child that makes its input non-blocking does not change that of another.
    blocking = "import os; print(os.get_blocking(0))"
    second = Observer((sys.executable, "-S", "-c", blocking), idle_input=True)
    assert (await second.dies()).exit == Exit(code=0)
    assert second.output() == b"True\n"
    third = Observer((sys.executable, "-S", "-c", INPUT), idle_input=True)
    await third.dies()
    assert third.output() == b"open []\n"
    first.child.signal(signal.SIGKILL)
    await first.gets(ChildExited)
    for run in (first, second, third):
        await run.closes()
    assert len(os.listdir("/dev/fd")) == before


@in_loop
async def test_an_idle_input_ends_with_the_app() -> None:
    run = Observer(("sh", "-c", "echo ready; cat; echo closed; exec sleep 600"), idle_input=True)
    await run.child.spawn()
    await run.reads(b"ready\n")
    # As the kernel closes it when the app is killed.
    run.child._end_input()
    await run.reads(b"closed\n")
    run.child.signal(signal.SIGKILL)
    await run.gets(ChildExited)
    await run.closes()


@in_loop
async def test_a_spawn_that_fails_leaves_no_idle_input_open() -> None:
    before = len(os.listdir("/dev/fd"))
    run = Observer(("/there/is/no/such/program",), idle_input=True)
    await run.child.spawn()
    assert run.all(SpawnFailed)
    assert len(os.listdir("/dev/fd")) == before
