"""New settings for a process that restarts because a file of the project has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.fleet_driver import SIGTERM, App, process, signals, spawns
from support.loops import in_loop
from support.recorder import Witness
from support.survivors import Survivors

from procreaper.cli.app.plan_source import PlanSource
from procreaper.cli.app.rereading import reread_settings
from procreaper.core import fleet
from procreaper.core.events import (
    Action,
    FilesChanged,
    Message,
    ReadSettings,
    RunBegan,
    SettingsRead,
    Shutdown,
    Start,
    State,
)
from procreaper.core.plan import Process, Watch, When
from procreaper.output.hub import Hub
from procreaper.project.configure import Options, find_changed
from procreaper.remote.api import protocol
from procreaper.remote.api.feed import Feed
from procreaper.remote.control.requests import RequestHandler
from procreaper.runtime.supervisor import Supervisor

WATCH = Watch("/", (".env",), debounce=0.1)
WEB = process("web", watch=WATCH)
NEW_WEB = WEB._replace(command="run it")


def saved(app: App, *names: str) -> tuple[Action, ...]:
    """A file that these have their settings from has changed, and it has been quiet since."""
    app.tell(FilesChanged(dict.fromkeys(names, (".env",)), frozenset(names)))
    app.tick(app.now + 0.1)
    return app.actions


class TestRules:
    def test_next_run_waits_for_the_new_settings(self) -> None:
        app = App(WEB).start()
        assert signals(tuple(each for each in saved(app, "web") if not hasattr(each, "text"))) == {"web": SIGTERM}
        assert app.exited("web", -SIGTERM) == (ReadSettings("web"),)
        assert app.state("web") is State.PENDING
        assert spawns(app.tell(SettingsRead("web", NEW_WEB))) == ["web"]
        assert app.fleet.members["web"].process == NEW_WEB

    def test_next_run_keeps_old_settings_without_new_ones(self) -> None:
        app = App(WEB).start()
        saved(app, "web")
        app.exited("web", -SIGTERM)
        assert spawns(app.tell(SettingsRead("web", None))) == ["web"]
        assert app.fleet.members["web"].process == WEB

    def test_change_of_another_file_reads_no_settings(self) -> None:
        app = App(WEB).start()
        app.changed("web")
        app.tick(0.1)
        assert spawns(app.exited("web", -SIGTERM)) == ["web"]

    def test_retry_reads_the_settings(self) -> None:
        app = App(process("web", watch=WATCH._replace(signal=10), restart=When.ALWAYS)).start()
        saved(app, "web")
        app.exited("web", 1)
        assert app.tick(app.now + 2.0) == (ReadSettings("web"),)

    def test_change_during_reading_is_read_again(self) -> None:
        app = App(WEB).start()
        saved(app, "web")
        app.exited("web", -SIGTERM)
        saved(app, "web")
        assert app.tell(SettingsRead("web", WEB)) == (ReadSettings("web"),)
        assert spawns(app.tell(SettingsRead("web", NEW_WEB))) == ["web"]

    def test_each_process_waits_for_its_own_settings(self) -> None:
        app = App(process("web.1", watch=WATCH), process("web.2", watch=WATCH), process("db")).start()
        saved(app, "web.1", "web.2")
        assert app.exited("web.1", -SIGTERM) == (ReadSettings("web.1"),)
        assert app.exited("web.2", -SIGTERM) == (ReadSettings("web.2"),)
        assert spawns(app.tell(SettingsRead("web.2", None))) == ["web.2"]
        assert app.state("db") is State.RUNNING

    def test_stop_during_reading_takes_effect_and_next_start_has_new_settings(self) -> None:
        app = App(WEB).start()
        saved(app, "web")
        app.exited("web", -SIGTERM)
        app.stop("web")
        assert app.tell(SettingsRead("web", NEW_WEB)) == ()
        assert app.state("web") is State.STOPPED
        assert spawns(app.tell(Start(("web",)))) == ["web"]
        assert app.fleet.members["web"].process == NEW_WEB

    def test_start_during_reading_waits(self) -> None:
        app = App(WEB).start()
        saved(app, "web")
        app.exited("web", -SIGTERM)
        app.stop("web")
        assert app.tell(Start(("web",))) == ()
        assert spawns(app.tell(SettingsRead("web", None))) == ["web"]

    def test_process_removed_during_reading_does_not_start(self) -> None:
        app = App(WEB, process("db")).start()
        saved(app, "web")
        app.exited("web", -SIGTERM)
        app.reload(process("db"))
        assert app.tell(SettingsRead("web", NEW_WEB)) == ()
        assert list(app.fleet.members) == ["db"]

    def test_unexpected_settings_change_nothing(self) -> None:
        app = App(WEB).start()
        before = app.fleet
        assert app.tell(SettingsRead("web", NEW_WEB)) == ()
        assert app.tell(SettingsRead("ghost", None)) == ()
        assert app.fleet is before

    def test_stopping_order_follows_the_new_dependencies(self) -> None:
        app = App(WEB, process("db")).start()
        saved(app, "web")
        app.exited("web", -SIGTERM)
        app.tell(SettingsRead("web", process("web", "db", watch=WATCH)))
        app.answer()
        assert signals(app.tell(Shutdown(0))) == {"web": SIGTERM}

    def test_later_changes_are_ignored_without_a_watch(self) -> None:
        app = App(WEB).start()
        saved(app, "web")
        app.exited("web", -SIGTERM)
        app.tell(SettingsRead("web", process("web")))
        app.answer()
        assert saved(app, "web") == ()
        assert fleet.deadline(app.fleet) is None


class Running(Witness):
    """An app of the current directory, without a terminal; its children only say what they were started with."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.source = PlanSource(options, terminal=False)
        self.hub = Hub([self])
        self.supervisor = Supervisor(
            self.source.configuration.plan,
            publish=self.hub.publish,
            stays=True,
            is_project_file=self.source.is_file,
            read_settings=lambda name: reread_settings(self.supervisor, self.source, name),
        )
        self.requests = RequestHandler(
            self.supervisor, self.hub, Feed(1 << 20), groups={}, source=self.source, print_error=print
        )

    async def ask(self, request: protocol.AnyRequest) -> object:
        return await self.requests.answer(request, SimpleNamespace(pid=None))  # type: ignore[arg-type]

    async def has_run(self, name: str, run: int) -> None:
        await self.sees(lambda: len(self.all(RunBegan, name)) >= run)
        await self.sees(lambda: self.output(name).count(b"\n") >= run)

    def save(self, *names: str, path: str = ".env") -> None:
        """What the watcher reports when this file has changed."""
        self.supervisor._see_files(FilesChanged(dict.fromkeys(names, (path,))))

    @property
    def said(self) -> list[str]:
        return [message.text for message in self.all(Message)]

    def environment(self, name: str) -> str | None:
        return (self.supervisor.process(name).env or {}).get("A")


PROCFILE = 'web: echo "A=$A"; exec sleep 600\ndb: echo "A=$A"; exec sleep 600\n'
# Nothing but the tests themselves reports changes.
SETTINGS = '[process.web]\nwatch = { paths = ["elsewhere"], debounce = 0 }\n'


@asynccontextmanager
async def running(**options: object) -> AsyncIterator[Running]:
    app = Running(Options(**options))  # type: ignore[arg-type]
    task = asyncio.ensure_future(app.supervisor.run())
    try:
        for name in [process.name for process in app.supervisor.processes]:
            await app.has_run(name, 1)
        yield app
    finally:
        app.supervisor.post(Shutdown(0))
        await task


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("Procfile").write_text(PROCFILE)
    Path(".env").write_text("A=1\n")
    Path(".reaper.toml").write_text(SETTINGS)
    return tmp_path


@pytest.mark.usefixtures("project")
class TestRunning:
    @in_loop
    async def test_saved_file_is_read_again(self, survivors: Survivors) -> None:
        Path(".reaper.toml").write_text(SETTINGS.replace("elsewhere", ".env"))
        async with running() as app:
            # The clock of the file system may be behind ours by some milliseconds.
            while len(app.all(RunBegan, "web.1")) < 2:
                Path("new").write_text("A=2\n")
                Path("new").rename(".env")
                await asyncio.sleep(0)
            await app.sees(lambda: b"A=2" in app.output("web.1"))
            assert app.environment("db.1") == "1"
            assert "web.1 has new settings: env: A" in app.said
            assert "the files also change db.1; `procreaper reload` applies that" in app.said

    @in_loop
    async def test_reload_updates_other_processes_and_restarts_none_twice(self, survivors: Survivors) -> None:
        async with running() as app:
            Path(".env").write_text("A=2\n")
            app.save("web.1")
            await app.has_run("web.1", 2)
            changes = await app.ask(protocol.ReloadRequest(1))
            assert isinstance(changes, protocol.PlanResult)
            assert (changes.restarted, changes.unchanged) == (("db.1",), ("web.1",))

    @in_loop
    async def test_errors_keep_old_settings_and_are_reported_with_their_place(self, survivors: Survivors) -> None:
        async with running() as app:
            Path("Procfile").write_text(PROCFILE + "web: x\nweb: y\n")
            app.save("web.1", path="Procfile")
            await app.has_run("web.1", 2)
            [said] = [text for text in app.said if "old settings" in text]
            assert said.startswith("web.1 keeps its old settings: Procfile:3: process type `web` is defined twice")
            assert app.supervisor.process("web.1").command == PROCFILE.partition(": ")[2].partition("\n")[0]

    @in_loop
    async def test_process_removed_from_the_files_keeps_running(self, survivors: Survivors) -> None:
        async with running() as app:
            Path("Procfile").write_text("db: exec sleep 600\n")
            Path(".reaper.toml").unlink()
            app.save("web.1", path="Procfile")
            await app.has_run("web.1", 2)
            expected = "web.1 keeps its old settings: the files no longer define `web.1`; "
            assert any(text.startswith(expected) for text in app.said)

    @in_loop
    async def test_port_of_another_process_is_refused(self, survivors: Survivors) -> None:
        async with running() as app:
            Path("Procfile").write_text(f"api: exec sleep 600\n{PROCFILE}")
            app.save("web.1", path="Procfile")
            await app.has_run("web.1", 2)
            assert any("its new PORT 5100 is still that of db.1" in text for text in app.said)
            assert (app.supervisor.process("web.1").env or {})["PORT"] == "5000"

    @in_loop
    async def test_dependency_cycle_with_old_settings_is_avoided(self, survivors: Survivors) -> None:
        Path(".reaper.toml").write_text(f'{SETTINGS}[process.db]\ndepends_on = ["web"]\n')
        async with running() as app:
            Path(".env").write_text("A=2\n")
            Path(".reaper.toml").write_text(f'{SETTINGS}depends_on = ["db"]\n')
            app.save("web.1")
            await app.has_run("web.1", 2)
            assert app.supervisor.process("web.1").depends_on == ()
            assert app.environment("web.1") == "2"

    @in_loop
    async def test_present_and_later_instances_have_the_new_settings(self, survivors: Survivors) -> None:
        async with running(concurrency="web=2") as app:
            Path(".env").write_text("A=2\n")
            app.save("web.1", "web.2")
            await app.has_run("web.1", 2)
            await app.has_run("web.2", 2)
            changes = await app.ask(protocol.ScaleRequest(1, {"web": 3}))
            assert isinstance(changes, protocol.PlanResult)
            assert (changes.added, changes.restarted) == (("web.3",), ())
            assert [app.environment(name) for name in ("web.1", "web.2", "web.3", "db.1")] == ["2", "2", "2", "1"]

    @in_loop
    async def test_concurrent_reload_wins(self, survivors: Survivors) -> None:
        async with running() as app:
            Path(".env").write_text("A=2\n")
            app.save("web.1")
            reloading = asyncio.ensure_future(app.ask(protocol.ReloadRequest(1)))
            await app.sees(lambda: "2" in (app.environment("web.1"), app.environment("db.1")))
            Path(".env").write_text("A=3\n")
            await reloading
            await app.ask(protocol.ReloadRequest(2))
            assert (app.environment("web.1"), app.environment("db.1")) == ("3", "3")
            await app.sees(lambda: b"A=3" in app.output("web.1"))

    @in_loop
    async def test_restart_warns_about_changed_files(self, survivors: Survivors) -> None:
        async with running() as app:
            os.utime(".env", (0, 0))
            assert await app.ask(protocol.RestartRequest(1, ("db",))) == protocol.ActionResult({"db.1": 1})
            await app.has_run("db.1", 2)
            Path(".env").write_text("A=2\n")
            asked = await app.ask(protocol.RestartRequest(2, ("db",)))
            assert isinstance(asked, protocol.ActionResult)
            [warning] = asked.warnings
            assert "`.env` has changed; `db.1` keeps its old settings" in warning
            assert "`procreaper reload` applies the new ones" in warning
            Path("Procfile").write_text("\n")
            asked = await app.ask(protocol.RestartRequest(3, ("db",)))
            assert isinstance(asked, protocol.ActionResult)
            assert "`procreaper check` lists their errors" in asked.warnings[0]

    @in_loop
    async def test_irrelevant_change_is_not_reported(self, survivors: Survivors) -> None:
        async with running() as app:
            Path("Procfile").write_text(PROCFILE + "# a comment\njobs: exec sleep 600\n")
            assert await app.ask(protocol.RestartRequest(1, ("db",))) == protocol.ActionResult({"db.1": 1})


def test_project_files_are_recognized_by_path(project: Path) -> None:
    Path("shared.env").write_text("B=1\n")
    Path("local.env").symlink_to("shared.env")
    Path(".reaper.toml").write_text('[process.web]\nenv_file = "local.env"\n')
    source = PlanSource(Options(), terminal=False)
    names = ("Procfile", ".env", ".reaper.toml", "local.env", "shared.env", "sub/../.env")
    assert all(source.is_file(str(project / name)) for name in names)
    assert not any(source.is_file(str(project / name)) for name in ("main.py", "sub/.env", "Procfile/x"))


def test_file_counts_as_changed_if_its_content_differs(project: Path) -> None:
    os.mkfifo("pipe")
    contents: dict[str, bytes | None] = {"Procfile": PROCFILE.encode(), "absent": None, "pipe": b"A=1\n"}
    os.utime("Procfile", (0, 0))
    assert find_changed(contents) == []
    Path("absent").write_text("")
    Path("Procfile").unlink()
    assert find_changed(contents) == ["Procfile", "absent"]


def test_unchanged_files_give_an_equal_process(project: Path) -> None:
    source = PlanSource(Options(), terminal=False)
    _, configuration = source.read_again()
    assert configuration.plan == source.configuration.plan
    assert isinstance(configuration.plan.processes[0], Process)
