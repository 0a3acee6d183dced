"""The reports of a background app to the command that started it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
from support.loops import in_loop

from procreaper.cli.app import background
from procreaper.cli.app.background import Background
from procreaper.cli.messages import print_error
from procreaper.core.events import Message, RunBegan, State
from procreaper.core.notices import AppEnd
from procreaper.core.outcome import CONFIRMED_AFTER
from procreaper.core.status import Status
from procreaper.runtime.supervisor import Supervisor

SIZE = os.terminal_size((80, 24))


class StandIn:
    """Stands for the owner: knows a status of each process, and hears what is said."""

    def __init__(self) -> None:
        self.statuses: dict[str, Status] = {}
        self.end: AppEnd | None = None
        self.causes: dict[str, str] = {}
        self.said: list[str] = []

    def status(self) -> tuple[Status, ...]:
        return tuple(self.statuses.values())

    @property
    def is_ending(self) -> bool:
        return self.end is not None

    def blame(self, name: str) -> str:
        return self.causes.get(name, name)

    def say(self, text: str) -> None:
        self.said.append(text)

    def has(self, name: str, state: State, reason: str = "", *, run: int = 1) -> None:
        """This process is in this state now."""
        up = state in (State.RUNNING, State.HEALTHY, State.COMPLETED)
        self.statuses[name] = Status(name, state, reason, run, None, 0, 0, 0.0, None, None, up)


class App:
    """An app in the background, and what it has reported."""

    def __init__(self, *names: str, waits: bool = True) -> None:
        self.reading, writing = os.pipe()
        self.background = Background(writing, names, waits=waits, size=SIZE)
        self.supervisor = StandIn()
        for name in names:
            self.supervisor.has(name, State.PENDING)

    def reports(self) -> list[dict[str, Any]]:
        """What has been reported since the last look."""
        os.set_blocking(self.reading, False)
        try:
            return [json.loads(line) for line in os.read(self.reading, 1 << 20).splitlines()]
        except BlockingIOError:
            return []

    def ready(self) -> None:
        self.background.ready(cast("Supervisor", self.supervisor), lambda name: f"{name} | last\n".encode())
        assert self.reports() == [{"pid": os.getpid()}, {"ready": os.getpid()}]

    def sees(self, name: str, state: State, reason: str = "", *, run: int = 1) -> list[dict[str, Any]]:
        """Something has become of a process; what is reported of that."""
        self.supervisor.has(name, state, reason, run=run)
        assert self.background.accept(RunBegan(0.0, name, 7))
        return self.reports()

    def close(self) -> None:
        self.background.end(0)
        os.close(self.reading)


@pytest.fixture(autouse=True)
def kept_streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The standard error of the tests is not given up."""
    before = sys.stderr
    monkeypatch.setattr(background, "_redirect_to_null", lambda streams: None)
    yield
    sys.stderr = before


@in_loop
async def test_waiting_processes_are_reported_when_they_change() -> None:
    app = App("web", "db")
    assert app.sees("web", State.STARTING, "waiting") == [{"pid": os.getpid()}]
    app.background.ready(cast("Supervisor", app.supervisor), lambda name: b"")
    app.reports()
    assert app.sees("db", State.STARTING, "a while") == [
        {"waiting": {"web": "starting: waiting", "db": "starting: a while"}}
    ]
    assert app.sees("db", State.STARTING, "a while") == []
    assert app.sees("web", State.COMPLETED) == [{"waiting": {"db": "starting: a while"}}]
    assert app.sees("db", State.COMPLETED) == [{"up": True}]
    # No command waits any more.
    assert app.sees("db", State.FAILED) == []
    app.close()


@pytest.mark.parametrize("state", [State.RUNNING, State.HEALTHY])
@in_loop
async def test_process_counts_as_up_after_a_moment(state: State) -> None:
    app = App("web")
    app.ready()
    (report,) = app.sees("web", state)
    assert "waiting" in report
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(app.reading, readable.set)
    began = loop.time()
    await readable.wait()
    assert loop.time() - began > CONFIRMED_AFTER / 2
    loop.remove_reader(app.reading)
    assert app.reports() == [{"up": True}]
    app.close()


@in_loop
async def test_cause_is_reported_when_several_processes_cannot_come_up() -> None:
    app = App("web", "db")
    app.ready()
    app.supervisor.has("web", State.SKIPPED, "db failed")
    report = {"failed": "db is not up: failed: oh", "lines": "db | last\n", "ending": False}
    assert app.sees("db", State.FAILED, "oh") == [report]
    app.close()


@in_loop
async def test_process_that_ended_the_app_is_the_only_one_reported() -> None:
    app = App("web", "css")
    app.ready()
    app.supervisor.has("css", State.COMPLETED)
    app.supervisor.end = AppEnd("css", "css has ended (exit code 0), and that ended the app")
    report = {"failed": app.supervisor.end.text, "lines": "css | last\n", "ending": True}
    assert app.sees("web", State.STOPPED, "stopped") == [report]
    app.close()


@in_loop
async def test_requested_end_names_no_process() -> None:
    app = App("web")
    app.ready()
    app.supervisor.end = AppEnd(None, "SIGTERM ended the app")
    report = {"failed": "SIGTERM ended the app", "lines": "", "ending": True}
    assert app.sees("web", State.STOPPED, "stopped") == [report]
    app.close()


@in_loop
async def test_failed_dependency_is_reported_with_its_last_lines() -> None:
    app = App("web")
    app.ready()
    app.supervisor.has("db", State.FAILED, "oh")
    app.supervisor.causes["web"] = "db"
    (report,) = app.sees("web", State.SKIPPED, "db failed")
    assert report == {
        "failed": "db is not up: failed: oh; so web was not started",
        "lines": "db | last\n",
        "ending": False,
    }
    app.close()


@in_loop
async def test_removed_process_ends_the_wait_for_it() -> None:
    app = App("web", "db")
    app.ready()
    del app.supervisor.statuses["db"]
    (report,) = app.sees("web", State.HEALTHY)
    assert report == {"failed": "db is not up: it has been removed", "lines": "", "ending": False}
    app.close()


@in_loop
async def test_without_wait_only_start_and_end_are_reported() -> None:
    app = App("web", waits=False)
    app.ready()
    assert app.sees("web", State.FAILED) == []
    assert app.background.end(3) == 3
    assert app.reports() == [{"over": 3}]
    os.close(app.reading)


@in_loop
async def test_absent_or_stopped_reader_does_not_block_the_app() -> None:
    app = App("web")
    app.ready()
    for number in range(10_000):
        app.supervisor.has("web", State.STARTING, f"attempt {number} " + "x" * 100)
        app.background.accept(RunBegan(0.0, "web", 7))
    assert app.sees("web", State.HEALTHY)
    os.close(app.reading)
    app.background.accept(Message(0.0, "text"))
    app.background.end(0)


@in_loop
async def test_report_that_does_not_fit_is_sent_later() -> None:
    app = App("web")
    app.background.ready(cast("Supervisor", app.supervisor), lambda name: b"x" * 200_000)
    app.supervisor.has("web", State.FAILED)
    app.background.accept(RunBegan(0.0, "web", 7))
    os.set_blocking(app.reading, False)
    data = b""
    while data.count(b"\n") < 3:
        await asyncio.sleep(0)
        with suppress(BlockingIOError):
            data += os.read(app.reading, 1 << 16)
    assert json.loads(data.splitlines()[-1])["lines"] == "x" * 200_000
    app.close()


@in_loop
async def test_later_errors_become_messages_of_the_app() -> None:
    app = App("web")
    app.ready()
    print_error("procreaper: warning: no guard\n  hint: \udcff")
    assert app.supervisor.said == ["procreaper: warning: no guard", "  hint: \udcff"]
    app.close()
