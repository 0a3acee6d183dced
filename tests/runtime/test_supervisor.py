"""The owner, with real children: it carries out what the rules decide, and nothing outlives it, however it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.loops import LIMIT, in_loop
from support.recorder import Witness
from support.survivors import Survivors

from procreaper.core.checks import ExecCheck, Health, TCPCheck
from procreaper.core.events import (
    Checked,
    CheckFinished,
    ChildExited,
    Event,
    Exit,
    Message,
    Notice,
    Output,
    Reload,
    Removed,
    Restart,
    RestartReason,
    RunBegan,
    RunEnded,
    Shutdown,
    SignalSent,
    Spawned,
    Start,
    State,
    Stop,
    Transition,
)
from procreaper.core.plan import Backoff, Plan, Process, StopPolicy, Watch, When
from procreaper.runtime.supervisor import Supervisor
from procreaper.runtime.system.groups import is_group_alive

STAY = "echo ready; exec sleep 600"
# Neither SIGTERM nor the end of its leader ends it.
STUBBORN = "trap '' TERM INT HUP; (echo ready; while :; do sleep 600; done) & wait"


class App(Witness):
    """An owner, and all that it has told."""

    def __init__(self, *processes: Process, told: Callable[[Notice], bool] | None = None) -> None:
        super().__init__()
        self._answer = told
        self.supervisor = Supervisor(Plan(processes), publish=self._publish)

    def _publish(self, notice: Notice) -> bool:
        room = self.accept(notice)
        return room if self._answer is None else self._answer(notice)

    def states(self, name: str) -> list[State]:
        return [notice.state for notice in self.all(Transition, name)]

    async def is_ready(self, count: int = 1) -> None:
        """Wait until `count` children have printed `ready`."""
        await self.sees(lambda: sum(notice.data.count(b"ready\n") for notice in self.all(Output)) >= count)


def process(name: str, command: str, **options: object) -> Process:
    return Process(name, command, **options)  # type: ignore[arg-type]


@in_loop
async def test_a_run_is_told_from_its_start_to_its_end(survivors: Survivors) -> None:
    app = App(process("web", "echo hello; exit 3"))
    assert await app.supervisor.run() == 3
    began, ended = app.all(RunBegan)[0], app.all(RunEnded)[0]
    assert (began.pid, ended.exit.code, ended.reason) == (ended.pid, 3, "exited with code 3")
    assert app.states("web") == [State.STARTING, State.RUNNING, State.FAILED]
    order = [type(notice) for notice in app.told if not isinstance(notice, Transition)]
    assert order == [RunBegan, Output, RunEnded]


@in_loop
async def test_what_cannot_be_started_is_told_with_its_reason(survivors: Survivors) -> None:
    app = App(Process("web", ("/no/such/program",)))
    assert await app.supervisor.run() == 127
    assert [(notice.pid, notice.reason) for notice in app.all(RunEnded)] == [
        (None, "no such file or directory: /no/such/program")
    ]


@in_loop
async def test_an_app_that_an_error_ends_takes_on_no_more_work(survivors: Survivors) -> None:
    async def fail() -> None:
        raise ValueError("an error of ours")

    async def answer() -> None:
        raise AssertionError("too late")

    app = App(process("web", STAY))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    failing = app.supervisor.accompany(fail())
    assert failing is not None
    await asyncio.wait([failing])
    assert app.supervisor.accompany(answer()) is None
    with pytest.raises(ExceptionGroup):
        await running


@in_loop
async def test_a_shutdown_ends_all_and_the_code_is_its_own(survivors: Survivors) -> None:
    app = App(process("web", STAY), process("db", STAY))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready(2)
    app.supervisor.post(Shutdown(130))
    assert await running == 130
    assert [(notice.name, notice.signal) for notice in app.all(SignalSent)] == [("web", 15), ("db", 15)]


@in_loop
async def test_a_process_that_fails_is_restarted_until_its_retries_are_used_up(survivors: Survivors) -> None:
    backoff = Backoff(initial=0.001, maximum=0.001)
    app = App(process("web", "echo run; exit 4", restart=When.ON_FAILURE, max_retries=2, backoff=backoff))
    assert await app.supervisor.run() == 4
    assert app.output("web") == b"run\n" * 3
    assert app.states("web").count(State.RESTARTING) == 2
    assert app.states("web")[-1] is State.FAILED


@in_loop
async def test_each_restart_is_told_with_its_reason(survivors: Survivors) -> None:
    app = App(process("web", STAY, restart=When.ALWAYS, backoff=Backoff(initial=0.001)))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    os.kill(app.all(RunBegan)[0].pid, signal.SIGKILL)
    await app.is_ready(2)
    app.supervisor.post(Restart(("web",)))
    await app.is_ready(3)
    app.supervisor.post(Shutdown(0))
    await running
    reasons = [notice.restart for notice in app.all(Transition) if notice.restart is not None]
    assert reasons == [RestartReason.EXIT, RestartReason.MANUAL]
    assert [status.restarts for status in app.supervisor.status()] == [2]


@in_loop
async def test_each_health_check_is_told_with_its_outcome_and_how_long_it_took(
    survivors: Survivors, tmp_path: Path
) -> None:
    check = ExecCheck(("test", "-f", str(tmp_path / "up")))
    app = App(process("web", STAY, health=Health(check=check, start_interval=0.001)))
    running = asyncio.create_task(app.supervisor.run())
    await app.sees(lambda: len(app.all(Checked)) >= 2)
    (tmp_path / "up").touch()
    await app.sees(lambda: app.states("web")[-1] is State.HEALTHY)
    app.supervisor.post(Shutdown(0))
    await running
    *failed, passed = app.all(Checked)
    assert passed.error is None
    assert all(check.error is not None for check in failed)
    assert all(0 < check.duration < LIMIT for check in (*failed, passed))


@in_loop
async def test_who_is_stopped_by_hand_keeps_the_app_and_can_be_started_again(survivors: Survivors) -> None:
    app = App(process("web", STAY))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    app.supervisor.post(Stop(("web",)))
    await app.sees(lambda: app.states("web")[-1] is State.STOPPED)
    app.supervisor.post(Start(("web",)))
    await app.is_ready(2)
    app.supervisor.post(Restart(("web",)))
    await app.is_ready(3)
    assert not running.done()
    app.supervisor.post(Shutdown(0))
    assert await running == 0
    assert len(app.all(RunBegan)) == 3


@in_loop
async def test_a_second_run_starts_only_when_the_whole_group_of_the_first_is_gone(survivors: Survivors) -> None:
    app = App(process("web", STUBBORN, stop=StopPolicy(timeout=0.05)))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    first = app.all(RunBegan)[0].pid
    app.supervisor.post(Restart(("web",)))
    await app.sees(lambda: len(app.all(RunBegan)) == 2)
    assert not is_group_alive(first)
    app.supervisor.post(Shutdown(0))
    await running


@in_loop
async def test_what_it_says_is_a_message() -> None:
    app = App()
    app.supervisor.say("hello")
    assert [notice.text for notice in app.all(Message)] == ["hello"]


@in_loop
async def test_output_that_was_paused_goes_on_after_resume(survivors: Survivors) -> None:
    room = False
    app = App(process("web", "seq 200000"), told=lambda notice: room)
    running = asyncio.create_task(app.supervisor.run())
    await app.sees(lambda: bool(app.all(Output)))
    room = True
    app.supervisor.resume()
    assert await running == 0
    assert app.output("web").count(b"\n") == 200_000


@in_loop
async def test_what_is_unread_at_the_end_is_read_room_or_not(survivors: Survivors, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    app = App(process("web", "echo one; cat fifo; exit 0", cwd=str(tmp_path)), told=lambda _: False)
    running = asyncio.create_task(app.supervisor.run())
    await app.sees(lambda: app.output("web") == b"one\n")
    await asyncio.to_thread((tmp_path / "fifo").write_text, "two\n")
    assert await running == 0
    assert app.output("web") == b"one\ntwo\n"


# However it ends.


@in_loop
async def test_a_cancellation_ends_every_group(survivors: Survivors) -> None:
    app = App(process("web", STUBBORN), process("db", STAY))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready(2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert survivors.find() == []


@pytest.mark.parametrize("turns", range(12))
@in_loop
async def test_a_cancellation_at_any_moment_of_the_start_leaves_nothing(turns: int, survivors: Survivors) -> None:
    app = App(*(process(f"web.{number}", STAY) for number in range(8)))
    running = asyncio.create_task(app.supervisor.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    before = asyncio.get_running_loop().time()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert survivors.find() == []
    # It did not give up after the time that SIGKILL is granted.
    assert asyncio.get_running_loop().time() - before < 4


class OurBugError(Exception):
    """What no rule foresees."""


@pytest.mark.parametrize("kind", [Transition, RunBegan, Output, RunEnded])
@in_loop
async def test_an_error_of_ours_ends_every_group_and_comes_out(kind: type[Notice], survivors: Survivors) -> None:
    def told(notice: Notice) -> bool:
        if isinstance(notice, kind) and notice.name == "web":
            raise OurBugError
        return True

    app = App(process("db", STUBBORN), process("web", "echo ready; exit 3"), process("worker", STUBBORN), told=told)
    with pytest.raises(ExceptionGroup) as caught:
        await app.supervisor.run()
    assert caught.group_contains(OurBugError)
    assert survivors.find() == []


@in_loop
async def test_an_error_of_the_rules_ends_every_group_and_comes_out(
    survivors: Survivors, monkeypatch: pytest.MonkeyPatch
) -> None:
    from procreaper.core import fleet

    app = App(process("web", STUBBORN), process("db", STUBBORN))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready(2)

    def broken(*_: object) -> None:
        raise OurBugError

    monkeypatch.setattr(fleet, "step", broken)
    app.supervisor.post(Stop(("web",)))
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert caught.group_contains(OurBugError)
    assert survivors.find() == []


@in_loop
async def test_an_error_of_a_spawn_ends_every_group_and_comes_out(survivors: Survivors) -> None:
    # The kernel takes only strings; the plan was not validated.
    app = App(process("db", STUBBORN), Process("web", ("true",), env={"A": 1}))  # type: ignore[dict-item]
    with pytest.raises(ExceptionGroup) as caught:
        await app.supervisor.run()
    assert caught.group_contains(TypeError)
    assert survivors.find() == []


# As a library in another program.


@in_loop
async def test_it_touches_no_signal_handler_and_no_logger(survivors: Survivors) -> None:
    def state() -> list[object]:
        numbers = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
        return [[signal.getsignal(number) for number in numbers], logging.getLogger().handlers[:], sys.excepthook]

    app = App(process("web", STAY))
    before = state()
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    assert state() == before
    app.supervisor.post(Shutdown(0))
    await running
    assert state() == before


@in_loop
async def test_it_leaves_the_children_of_others_alone(survivors: Survivors) -> None:
    with subprocess.Popen(["sh", "-c", "read x; exit 9"], stdin=subprocess.PIPE) as theirs:
        app = App(process("web", "exit 3"), process("db", STAY))
        assert theirs.stdin is not None
        theirs.stdin.close()
        assert await app.supervisor.run() == 3
        assert await asyncio.to_thread(theirs.wait, LIMIT) == 9


def test_it_works_in_any_thread(survivors: Survivors) -> None:
    codes: list[int] = []

    async def main() -> None:
        app = App(process("web", "echo hello; exit 3"), process("db", STAY))
        codes.append(await app.supervisor.run())

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(LIMIT)
    assert codes == [3]


@in_loop
async def test_two_apps_in_one_loop_do_not_meet(survivors: Survivors) -> None:
    one, other = App(process("web", "exit 3"), process("db", STAY)), App(process("web", STAY))
    running = asyncio.create_task(other.supervisor.run())
    await other.is_ready()
    assert await one.supervisor.run() == 3
    other.supervisor.post(Shutdown(5))
    assert await running == 5


@in_loop
async def test_while_there_is_no_room_nobody_is_read(survivors: Survivors, tmp_path: Path) -> None:
    """A hundred children that each add one big read to a full output would be a hundred megabytes."""
    for name in ("gate", "done"):
        os.mkfifo(tmp_path / name)
    refusing = [True]
    late = process("late", "read _ <gate; echo late; echo . >done; exec sleep 600", cwd=str(tmp_path))
    app = App(process("first", STAY), late, told=lambda notice: not (isinstance(notice, Output) and refusing[0]))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    await app.sees(lambda: len(app.all(RunBegan)) == 2)
    await asyncio.to_thread((tmp_path / "gate").write_text, "go\n")
    await asyncio.to_thread((tmp_path / "done").read_text)
    # It has written; a read would happen in the next rounds of the loop.
    for _ in range(100):
        await asyncio.sleep(0)
    assert app.output("late") == b""
    refusing[0] = False
    app.supervisor.resume()
    await app.sees(lambda: app.output("late") == b"late\n")
    app.supervisor.post(Shutdown(0))
    assert await running == 0


@in_loop
async def test_a_new_plan_brings_some_and_removes_others(survivors: Survivors) -> None:
    web, db = process("web", STAY), process("db", STAY)
    app = App(web)
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    app.supervisor.post(Reload(Plan((db,))))
    await app.sees(lambda: bool(app.all(Removed)))
    await app.is_ready(2)
    assert [notice.name for notice in app.all(Removed)] == ["web"]
    order = [type(notice) for notice in app.told if getattr(notice, "name", "") == "web"]
    assert order[-2:] == [RunEnded, Removed]
    assert [status.name for status in app.supervisor.status()] == ["db"]
    assert app.supervisor.plan == Plan((db,))
    assert (app.supervisor.process("db"), app.supervisor.status_of("db").state) == (db, State.RUNNING)
    with pytest.raises(KeyError):
        app.supervisor.status_of("web")
    app.supervisor.post(Shutdown(0))
    assert await running == 0


@in_loop
async def test_an_app_of_which_everything_was_removed_stays(survivors: Survivors) -> None:
    web = process("web", STAY)
    app = App(web)
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    app.supervisor.post(Reload(Plan(())))
    await app.sees(lambda: bool(app.all(Removed)))
    app.supervisor.post(Reload(Plan((web,))))
    await app.is_ready(2)
    assert not running.done()
    app.supervisor.post(Shutdown(0))
    assert await running == 0


@in_loop
async def test_the_run_that_a_new_plan_ends_is_known_to_who_waits_for_the_next(survivors: Survivors) -> None:
    app = App(process("web", STAY), process("db", STAY))
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready(2)
    other = process("web", "echo other; exec sleep 600")
    app.supervisor.post(Reload(Plan((other, process("db", STAY)))))
    await app.sees(lambda: b"other\n" in app.output("web"))
    assert (app.supervisor.run_when_asked("web"), app.supervisor.status_of("web").run) == (1, 2)
    assert app.supervisor.run_when_asked("db") == app.supervisor.status_of("db").run == 1
    app.supervisor.post(Shutdown(0))
    assert await running == 0


@in_loop
async def test_the_old_run_is_stopped_by_the_command_and_in_the_environment_that_it_began_with(
    survivors: Survivors, tmp_path: Path
) -> None:
    env = {**os.environ, "WORD": "old"}
    stop = StopPolicy(command='echo "bye $WORD"; kill "$(cat pid)"')
    web = process("web", "echo $$ >pid; echo ready; exec sleep 600", env=env, cwd=str(tmp_path), stop=stop)
    app = App(web)
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    app.supervisor.post(Reload(Plan((web._replace(env={**env, "WORD": "new"}, stop=StopPolicy()),))))
    await app.is_ready(2)
    assert b"bye old\n" in app.output("web")
    app.supervisor.post(Shutdown(0))
    assert await running == 0


@in_loop
async def test_with_a_new_plan_other_files_are_watched(survivors: Survivors, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    (tmp_path / "new").write_text("")
    web = process("web", STAY, watch=Watch(str(tmp_path), ("old",), debounce=0.0))
    app = App(web)
    running = asyncio.create_task(app.supervisor.run())
    await app.is_ready()
    app.supervisor.post(Reload(Plan((web._replace(watch=Watch(str(tmp_path), ("new",), debounce=0.0)),))))
    await app.supervisor.settled()
    # Now the watcher begins.
    await asyncio.sleep(0)
    # The clock of the file system may be behind ours by some milliseconds.
    while app.output("web").count(b"ready\n") < 2:
        (tmp_path / "old").write_text("not of interest any more")
        (tmp_path / "new").write_text("newer")
        await asyncio.sleep(0)
    told = [notice.text for notice in app.all(Message) if "changed" in notice.text]
    assert told[0] == "web: new changed; restarting"
    app.supervisor.post(Shutdown(0))
    assert await running == 0


class Stand:
    """Stands for a child whose hand lets it live on; ends when it is signalled."""

    over = ended = False
    read_at = 0.0
    began_at = None

    def __init__(self, process: Process, run: int, *, post: Callable[[Event], None], **_: object) -> None:
        self.name, self.run, self.post = process.name, run, post
        self.finished = False
        self.signals: list[int] = []

    async def spawn(self) -> None:
        self.post(Spawned(self.name, self.run, 4711))

    def signal(self, number: int, *, only_main: bool = False, only_handlers: bool = False) -> None:
        self.signals.append(number)
        asyncio.get_running_loop().call_soon(self._end, number)

    def _end(self, number: int) -> None:
        self.ended = True
        self.post(ChildExited(self.name, self.run, Exit(signal=number), leftovers=False))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch) -> dict[str, Stand]:
    made: dict[str, Stand] = {}

    def make(process: Process, run: int, **options: Any) -> Stand:
        made[process.name] = Stand(process, run, **options)
        return made[process.name]

    monkeypatch.setattr("procreaper.runtime.runs.Child", make)
    monkeypatch.setattr("procreaper.runtime.child.detached.DetachedRun", make)
    return made


@in_loop
async def test_what_is_let_go_is_not_ended_and_nothing_is_expected_of_it(stands: dict[str, Stand]) -> None:
    app = App(process("web", STAY), process("db", STAY, detached=True))
    running = asyncio.create_task(app.supervisor.run())
    await app.sees(lambda: len(app.all(RunBegan)) == 2)
    app.supervisor.post(Shutdown(130))
    assert await running == 130
    assert (stands["db"].signals, stands["db"].finished) == ([], True)
    assert (stands["web"].signals, stands["web"].finished) == ([15], True)
    assert "db: keeps running without procreaper (pid 4711)" in [notice.text for notice in app.all(Message)]


@in_loop
async def test_what_may_live_on_does_so_after_an_error_of_our_own_too(stands: dict[str, Stand]) -> None:
    app = App(process("web", STAY), process("db", STAY, detached=True))
    running = asyncio.create_task(app.supervisor.run())
    await app.sees(lambda: len(app.all(RunBegan)) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (stands["web"].signals, stands["db"].signals) == ([9], [])


@in_loop
async def test_the_result_of_a_check_that_a_new_plan_has_cancelled_is_not_taken_for_that_of_the_next(
    stands: dict[str, Stand], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object, **__: object) -> str | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr("procreaper.runtime.health.check.run_check", hang)
    web = process("web", STAY, health=Health(check=TCPCheck("localhost:1")))
    app = App(web)
    running = asyncio.create_task(app.supervisor.run())
    await app.sees(lambda: len(app.all(RunBegan)) == 1)
    app.supervisor.post(Reload(Plan((web._replace(health=Health(check=TCPCheck("localhost:2"))),))))
    app.supervisor.post(CheckFinished("web", 1))
    await app.supervisor.settled()
    assert app.supervisor.status_of("web").state is State.STARTING
    app.supervisor.post(Shutdown(0))
    assert await running == 0
