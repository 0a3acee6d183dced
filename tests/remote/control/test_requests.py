"""The effect of requests on a running app, with real children."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.loops import in_loop
from support.recorder import Witness
from support.survivors import Survivors

from procreaper.core.events import Exit, Message, Output, Shutdown, State, Transition
from procreaper.core.plan import Condition, Dependency, LogFile, Plan, Process, When
from procreaper.errors import ConfigError, Problem, ProcreaperError
from procreaper.output.hub import Hub
from procreaper.project.configure import Configuration
from procreaper.remote.api import protocol
from procreaper.remote.api.feed import Feed, Line, Reader
from procreaper.remote.control import replan as replanning
from procreaper.remote.control.requests import SLICE, RequestHandler
from procreaper.runtime.supervisor import Supervisor

STAY = "exec sleep 600"


class Connection:
    """Records what a handler sends to a client."""

    pid = 4711

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.before: list[dict[str, Any]] = []
        self.reader: Reader | None = None

    def follow(
        self,
        wants: Callable[[Line], bool] | None,
        missed: Callable[[int, int], Iterable[bytes]],
        before: Iterable[bytes],
    ) -> None:
        self.before = [json.loads(line) for line in before]
        self.reader = None if wants is None else self._feed.follow(wants, missed, lambda: None)

    def told(self) -> list[dict[str, Any]]:
        assert self.reader is not None
        return [json.loads(line) for line in iter(self.reader.read, None)]


class Source:
    """The files of an app, with these processes; without processes they are invalid."""

    def __init__(self, *processes: Process) -> None:
        self._processes = processes

    def scale(self, counts: Mapping[str, int]) -> Configuration:
        return self.reload()

    def reload(self) -> Configuration:
        if not self._processes:
            raise ConfigError([Problem("wrong", "Procfile", 1)])
        return Configuration(Plan(self._processes), frozenset(), ())

    def join(self, names: Sequence[str]) -> Configuration:
        return self.reload()

    def left_out(self, names: Iterable[str]) -> tuple[str, ...]:
        return ()

    def is_none(self, name: str) -> bool:
        return False

    def find_changed(self) -> tuple[list[str], Configuration | None]:
        return [], None

    def give_up(self) -> None:
        raise AssertionError("it was read at once")


class App(Witness):
    """A supervisor with its hub, and requests to it."""

    def __init__(self, *processes: Process, names: tuple[str, ...] | None = None, **options: Any) -> None:
        super().__init__()
        self.complaints: list[str] = []
        self.hub = Hub([self])
        self.feed = Feed(options.pop("most", 4 << 20))
        self.supervisor = Supervisor(Plan(processes, names), publish=self.hub.publish, stays=True)
        options = {"groups": {}, "source": Source(), "print_error": self.complaints.append} | options
        self.requests = RequestHandler(self.supervisor, self.hub, self.feed, **options)

    def connection(self) -> Connection:
        return Connection(self.feed)

    async def ask(self, request: protocol.AnyRequest, connection: Connection | None = None) -> Any:
        return await self.requests.answer(request, connection or self.connection())  # type: ignore[arg-type]

    async def refused(self, request: protocol.AnyRequest) -> ProcreaperError:
        with pytest.raises(ProcreaperError) as caught:
            await self.ask(request)
        return caught.value

    async def is_in(self, state: State, *names: str) -> None:
        await self.sees(lambda: all(self.supervisor.status_of(name).state is state for name in names))


@asynccontextmanager
async def running(*processes: Process, **options: Any) -> AsyncIterator[App]:
    app = App(*processes, **options)
    task = asyncio.ensure_future(app.supervisor.run())
    await app.supervisor.settled()
    try:
        yield app
    finally:
        app.supervisor.post(Shutdown(0))
        await task


def stay(name: str, **options: Any) -> Process:
    return Process(name, STAY, **options)


@in_loop
async def test_status_lists_each_process_in_order(survivors: Survivors) -> None:
    web = stay("web.2", env={"PORT": "5001", "PATH": "/bin:/usr/bin"}, pty=False, log=LogFile("/tmp/web.log"))
    async with running(web, Process("db.1", "exit 3", stop_all=When.NEVER)) as app:
        await app.is_in(State.RUNNING, "web.2")
        await app.is_in(State.FAILED, "db.1")
        first, second = (await app.ask(protocol.StatusRequest(1))).processes
        status = app.supervisor.status_of("web.2")
        assert first == protocol.ProcessStatus(
            name="web.2",
            type="web",
            state="running",
            reason="running",
            run=1,
            pid=status.pid,
            retries=0,
            restarts=0,
            backoff=0.0,
            started_at=first.started_at,
            exit_code=None,
            up=True,
            port=5001,
            log="/tmp/web.log",
        )
        assert status.started_at is not None
        assert first.started_at == pytest.approx(status.started_at.timestamp())
        assert (second.name, second.state, second.exit_code, second.port) == ("db.1", "failed", 3, None)
        assert (await app.ask(protocol.StatusRequest(1, ("db",)))).processes == (second,)


@pytest.mark.parametrize("kind", [protocol.UpRequest, protocol.StopRequest, protocol.RestartRequest])
@in_loop
async def test_unknown_name_changes_nothing(kind: Any, survivors: Survivors) -> None:
    async with running(stay("web.1"), Process("db.1", STAY), names=("web.1",)) as app:
        await app.is_in(State.RUNNING, "web.1")
        before = app.supervisor.status()
        error = await app.refused(kind(1, ("web", "db", "wbe")))
        assert (error.message, error.hint) == (
            "there is no process `wbe`",
            "did you mean `web`? there is `web` and `db`",
        )
        assert (await app.refused(kind(1, ()))).message == "no process is named"
        await app.supervisor.settled()
        assert app.supervisor.status() == before


@pytest.mark.parametrize("request_", [protocol.StatusRequest(1, ("wbe",)), protocol.FollowRequest(1, ("wbe",))])
@in_loop
async def test_unknown_name_is_refused_with_a_reason(request_: protocol.AnyRequest, survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        assert (await app.refused(request_)).message == "there is no process `wbe`"
        assert not app.feed.is_followed


@in_loop
async def test_stop_ends_the_named_processes_and_returns_their_runs(survivors: Survivors) -> None:
    async with running(stay("web.1"), stay("web.2"), stay("db.1"), groups={"front": ["web"]}) as app:
        await app.is_in(State.RUNNING, "web.1", "web.2", "db.1")
        assert await app.ask(protocol.StopRequest(1, ("web.2",))) == protocol.ActionResult({"web.2": 1})
        await app.is_in(State.STOPPED, "web.2")
        asked = await app.ask(protocol.StopRequest(2, ("front",)))
        assert asked == protocol.ActionResult({"web.1": 1, "web.2": 1}, ("web.2",))
        await app.is_in(State.STOPPED, "web.1")
        assert app.supervisor.status_of("db.1").state is State.RUNNING


@in_loop
async def test_restart_starts_a_later_run_of_each(survivors: Survivors) -> None:
    async with running(stay("web.1"), stay("db.1")) as app:
        await app.is_in(State.RUNNING, "web.1", "db.1")
        assert await app.ask(protocol.RestartRequest(1, ("*",))) == protocol.ActionResult({"web.1": 1, "db.1": 1})
        await app.sees(lambda: all(status.run == 2 and status.up for status in app.supervisor.status()))
        assert await app.ask(protocol.RestartRequest(2, ("web",))) == protocol.ActionResult({"web.1": 2})


@in_loop
async def test_returned_runs_are_those_at_the_time_of_the_request(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        await app.is_in(State.RUNNING, "web.1")
        answers = await asyncio.gather(*(app.ask(protocol.RestartRequest(number, ("web",))) for number in range(5)))
        assert [answer.runs for answer in answers] == [{"web.1": 1}] * 5
        await app.sees(lambda: app.supervisor.status_of("web.1").run == 2 and app.supervisor.status_of("web.1").up)


@in_loop
async def test_up_starts_processes_that_are_not_up_and_their_dependencies(survivors: Survivors) -> None:
    migrate = Process("migrate.1", "exit 0", oneshot=True, stop_all=When.NEVER)
    api = stay("api.1", depends_on=(Dependency("db.1"), Dependency("migrate.1", Condition.COMPLETED)))
    web = stay("web.1", depends_on=(Dependency("api.1"),))
    async with running(stay("db.1"), migrate, api, web, stay("mail.1"), names=("migrate.1", "mail.1")) as app:
        await app.is_in(State.COMPLETED, "migrate.1")
        await app.is_in(State.RUNNING, "mail.1")
        asked = await app.ask(protocol.UpRequest(1, ("web", "mail", "migrate")))
        assert asked.runs == {"web.1": 0, "api.1": 0, "db.1": 0, "mail.1": 1, "migrate.1": 1}
        assert set(asked.already) == {"mail.1", "migrate.1"}
        await app.is_in(State.RUNNING, "web.1", "api.1", "db.1")
        assert (app.supervisor.status_of("migrate.1").run, app.supervisor.status_of("mail.1").run) == (1, 1)


@in_loop
async def test_quit_ends_the_app(survivors: Survivors) -> None:
    app = App(stay("web.1"))
    task = asyncio.ensure_future(app.supervisor.run())
    await app.is_in(State.RUNNING, "web.1")
    assert await app.ask(protocol.QuitRequest(1)) is None
    assert await task == 0


@in_loop
async def test_during_a_shutdown_changes_are_refused_and_status_works(survivors: Survivors) -> None:
    stubborn = Process("web.1", "trap '' TERM; echo ready; while :; do sleep 600; done")
    app = App(stubborn)
    task = asyncio.ensure_future(app.supervisor.run())
    await app.sees(lambda: any(isinstance(notice, Output) for notice in app.told))
    app.supervisor.post(Shutdown(0, insistent=True))
    for request in (
        protocol.UpRequest(1, ("web",)),
        protocol.StopRequest(1, ("web",)),
        protocol.RestartRequest(1, ("all",)),
    ):
        assert (await app.refused(request)).message == "the app is ending"
    assert (await app.ask(protocol.StatusRequest(1))).processes[0].state == "stopping"
    assert await app.ask(protocol.QuitRequest(1)) is None
    app.supervisor.post(Shutdown(0, insistent=True))
    await task


@in_loop
async def test_reload_is_answered_before_its_effect(survivors: Survivors) -> None:
    source = Source(stay("web.1"), stay("db.1"))
    async with running(stay("web.1"), stay("cache.1"), source=source) as app:
        changes = await app.ask(protocol.ReloadRequest(1))
        assert (changes.added, changes.removed, changes.unchanged) == (("db.1",), ("cache.1",), ("web.1",))
        assert changes.runs == {"db.1": 0}


@in_loop
async def test_concurrent_reloads_run_one_after_the_other(survivors: Survivors) -> None:
    source = Source(stay("web.1"), stay("db.1"))
    async with running(stay("web.1"), source=source) as app:
        first, second = await asyncio.gather(app.ask(protocol.ReloadRequest(1)), app.ask(protocol.ReloadRequest(2)))
        assert (first.added, second.added, second.unchanged) == (("db.1",), (), ("web.1", "db.1"))


@in_loop
async def test_invalid_files_change_nothing(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        error = await app.refused(protocol.ReloadRequest(1))
        assert error.message == "1 error, so nothing has been changed"
        assert [str(problem) for problem in error.problems] == ["Procfile:1: error: wrong"]
        assert await app.ask(protocol.StatusRequest(1)) == await app.ask(protocol.StatusRequest(2))


@in_loop
async def test_slow_files_time_out_and_delay_no_other(survivors: Survivors, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(Source):
        """Files with a pipe among them that has no writer at the first reading."""

        def __init__(self) -> None:
            super().__init__(stay("web.1"), stay("db.1"))
            self.written = threading.Event()
            self.was_given_up = False

        def reload(self) -> Configuration:
            if not self.was_given_up:
                self.written.wait(45)
            return super().reload()

        def give_up(self) -> None:
            self.was_given_up = True

    source = Pipe()
    async with running(stay("web.1"), source=source) as app:
        with monkeypatch.context() as patch:
            patch.setattr(replanning, "READING_LIMIT", 0.01)
            error = await app.refused(protocol.ReloadRequest(1))
        assert "could not be read within 0.01 s, so nothing has been changed" in error.message
        assert source.was_given_up
        assert (await app.ask(protocol.ReloadRequest(2))).added == ("db.1",)
        source.written.set()


@in_loop
async def test_empty_scale_is_refused(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        assert (await app.refused(protocol.ScaleRequest(1, {}))).message == "no process type is named"


# Followers.


@in_loop
async def test_follower_gets_a_snapshot_and_every_later_change(survivors: Survivors) -> None:
    async with running(stay("web.1"), stay("db.1")) as app:
        await app.is_in(State.RUNNING, "web.1", "db.1")
        connection = app.connection()
        followed = await app.ask(protocol.FollowRequest(1, ("web",)), connection)
        assert [(process.name, process.state) for process in followed.processes] == [("web.1", "running")]
        assert connection.told() == []
        await app.ask(protocol.RestartRequest(2, ("all",)))
        await app.sees(lambda: all(status.run == 2 and status.up for status in app.supervisor.status()))
        told = connection.told()
        assert {line["name"] if "name" in line else line["process"]["name"] for line in told} == {"web.1"}
        assert {line["notice"] for line in told} == {"status", "signal", "ended", "began"}
        states = [line["process"]["state"] for line in told if line["notice"] == "status"]
        assert states[0] == "stopping"
        assert states[-1] == "running"
        (ended,) = [line for line in told if line["notice"] == "ended"]
        assert (ended["signal"], ended["code"], ended["asked"]) == (15, None, True)
        last = [line["process"] for line in told if line["notice"] == "status"][-1]
        assert (last["run"], last["pid"]) == (2, app.supervisor.status_of("web.1").pid)


@in_loop
async def test_output_and_messages_are_only_for_followers_of_output(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        await app.is_in(State.RUNNING, "web.1")
        with_output, without = app.connection(), app.connection()
        await app.ask(protocol.FollowRequest(1, output=True), with_output)
        await app.ask(protocol.FollowRequest(1), without)
        app.hub.publish(Output(1.0, "web.1", b"\xffhello\n"))
        app.hub.publish(Message(2.0, "hello \udcff"))
        output, message = with_output.told()
        assert output == {"notice": "output", "time": 1.0, "name": "web.1", "data": "/2hlbGxvCg=="}
        assert (message["notice"], message["text"]) == ("message", "hello �")
        assert without.told() == []


@in_loop
async def test_long_output_is_sent_in_slices(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        connection = app.connection()
        await app.ask(protocol.FollowRequest(1, output=True), connection)
        await app.is_in(State.RUNNING, "web.1")
        connection.told()
        data = b"0123456789" * SLICE
        app.hub.publish(Output(1.0, "web.1", data))
        slices = connection.told()
        assert len(slices) == 10
        assert all(len(line["data"]) <= SLICE * 4 / 3 + 4 for line in slices)


@in_loop
async def test_slow_follower_gets_the_current_status_of_all(survivors: Survivors) -> None:
    async with running(stay("web.1"), stay("db.1"), most=20_000) as app:
        await app.is_in(State.RUNNING, "web.1", "db.1")
        connection = app.connection()
        await app.ask(protocol.FollowRequest(1, ("web",), output=True), connection)
        for _ in range(100):
            app.hub.publish(Output(1.0, "web.1", b"x" * 1000))
            app.hub.publish(Output(1.0, "db.1", b"x" * 1000))
        dropped, status, *rest = connection.told()
        assert dropped["notice"] == "dropped"
        assert dropped["notices"] + len(rest) == 100
        assert dropped["bytes"] == 1000 * dropped["notices"]
        assert (status["notice"], status["process"]["name"], status["process"]["state"]) == (
            "status",
            "web.1",
            "running",
        )


@in_loop
async def test_slices_end_at_line_ends(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        connection = app.connection()
        await app.ask(protocol.FollowRequest(1, output=True), connection)
        line = b"\x1b[31mred\x1b[0m\n"
        app.hub.publish(Output(1.0, "web.1", line * SLICE))
        slices = [base64.b64decode(each["data"]) for each in connection.told() if each["notice"] == "output"]
        assert b"".join(slices) == line * SLICE
        assert {each.count(b"\n") * len(line) == len(each) for each in slices} == {True}


@in_loop
async def test_followers_of_output_get_transitions(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        connection = app.connection()
        await app.is_in(State.RUNNING, "web.1")
        await app.ask(protocol.FollowRequest(1, output=True), connection)
        notice = Transition(
            1.0, "web.1", State.RUNNING, State.RESTARTING, "exited", 1, 2.0, Exit(signal=9), reason_before="running"
        )
        app.hub.publish(notice)
        (told,) = [line for line in connection.told() if line["notice"] == "transition"]
        assert told == {
            "notice": "transition",
            "time": 1.0,
            "name": "web.1",
            "before": "running",
            "state": "restarting",
            "reason": "exited",
            "reason_before": "running",
            "retries": 1,
            "backoff": 2.0,
            "code": None,
            "signal": 9,
            "restart": None,
        }


@in_loop
async def test_hub_has_no_sink_without_followers(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        connection = app.connection()
        await app.ask(protocol.FollowRequest(1), connection)
        assert app.requests in app.hub._sinks
        assert connection.reader is not None
        connection.reader.close()
        app.hub.publish(Message(1.0, "hello"))
        assert app.requests not in app.hub._sinks
        await app.ask(protocol.FollowRequest(1), again := app.connection())
        app.hub.publish(Output(1.0, "web.1", b""))
        assert app.requests in app.hub._sinks
        assert again.reader is not None


@in_loop
async def test_internal_error_does_not_reach_the_supervisor(survivors: Survivors) -> None:
    async with running(stay("web.1")) as app:
        await app.ask(protocol.FollowRequest(1), app.connection())
        assert app.requests.accept(Output(1.0, "web.1", None))  # type: ignore[arg-type]
        assert app.complaints[0].startswith(
            "procreaper: internal error: a notice cannot be sent to followers: TypeError"
        )


@in_loop
async def test_earlier_output_comes_first_and_may_be_all(survivors: Survivors) -> None:
    asked: list[tuple[list[str], int | None]] = []

    def history(names: list[str], lines: int | None) -> tuple[list[Output], tuple[str, ...]]:
        asked.append((names, lines))
        return [Output(1.0, "web.1", b"old\n")], ("web.1",)

    async with running(stay("web.1"), stay("db.1"), history=history) as app:
        await app.is_in(State.RUNNING, "web.1", "db.1")
        connection = app.connection()
        followed = await app.ask(protocol.FollowRequest(1, ("web",), output=True, lines=5, until_now=True), connection)
        assert (followed.truncated, asked) == (("web.1",), [(["web.1"], 5)])
        assert [line["data"] for line in connection.before] == ["b2xkCg=="]
        assert connection.reader is None
        await app.ask(protocol.FollowRequest(1, output=True), connection)
        assert (connection.before, len(asked)) == ([], 1)
