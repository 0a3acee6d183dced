"""The events that are posted when real files change.

No test waits for a time. To show that a change is *not* posted, a test makes another change, which is posted alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from procreaper.core.events import FilesChanged
from procreaper.core.plan import Watch
from procreaper.runtime.watch import watcher as module
from procreaper.runtime.watch.watcher import watch_files

LIMIT = 60.0


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll so often that the tests need not wait."""
    monkeypatch.setattr(module, "POLL_INTERVAL", 0.03)


class Watching:
    """A running watch, and the events that it posts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        self.posted: asyncio.Queue[FilesChanged] = asyncio.Queue()
        self._marks = 0

    def write(self, path: str, text: str = "") -> None:
        """Write in one step: a file that is emptied and then written may change twice."""
        target, draft = self.root / path, self.root / "ignored/draft"
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.parent.mkdir(exist_ok=True)
        draft.write_text(text)
        draft.replace(target)

    async def next(self) -> set[str]:
        """Return the paths of the next event, for any process."""
        while True:
            changes = (await self.posted.get()).changes
            # An event may only say that no more will follow.
            if any(changes.values()):
                return {path for paths in changes.values() for path in paths}

    async def until(self, *wanted: str) -> set[str]:
        """Return all paths that are posted until these have been."""
        seen: set[str] = set()
        while not seen.issuperset(wanted):
            seen |= await self.next()
        return seen

    async def settled(self) -> set[str]:
        """Return all paths that were not taken yet, up to a change that is made now."""
        seen: set[str] = set()
        # The files in a new directory come after the other files of the same report, so one mark is not enough.
        for _ in range(2):
            self._marks += 1
            mark = f"mark{self._marks}"
            self.write(mark)
            seen |= await self.until(mark)
        return {path for path in seen if not path.startswith("mark")}


def unexpected(what: object) -> None:
    pytest.fail(f"unexpected: {what}")


Scenario = Callable[[Watching], Awaitable[None]]


def run(root: Path, scenario: Scenario, *paths: str, poll: bool | None = None, logs: tuple[str, ...] = ()) -> Watching:
    """Play a scenario while `paths` and `mark*` are watched, once the watch has begun."""
    watching = Watching(root)
    before = threading.active_count()

    async def main() -> None:
        watches = {"web": Watch(str(root), (*paths, "mark*"), ("ignored",), poll=poll)}
        # In a group, so that an error of the watch ends the test.
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(
                watch_files(watches, post=watching.posted.put_nowait, say=watching.said.append, logs=logs)
            )
            while watching.posted.empty():
                # A change in the very first moments may be too early.
                watching.write("mark0")
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        watching.posted.put_nowait(await watching.posted.get())
            await watching.settled()
            await scenario(watching)
            task.cancel()

    asyncio.run(main())
    assert threading.active_count() == before
    return watching


@pytest.fixture(params=[False, True], ids=["events", "polling"])
def poll(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_written_created_and_removed_files_are_posted(tmp_path: Path, poll: bool) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/old.py").write_text("1")

    async def scenario(watching: Watching) -> None:
        watching.write("app/old.py", "2")
        assert await watching.next() == {"app/old.py"}
        watching.write("app/new.py")
        assert await watching.next() == {"app/new.py"}
        (tmp_path / "app/old.py").unlink()
        assert await watching.next() == {"app/old.py"}

    assert run(tmp_path, scenario, "app", poll=poll).said == []


def save_in_place(path: Path) -> None:
    path.write_text("new")


def save_atomically(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("new")
    temporary.replace(path)


def save_like_vim(path: Path) -> None:
    probe = path.with_name("4913")
    probe.write_text("")
    probe.unlink()
    path.rename(path.with_name(path.name + "~"))
    path.write_text("new")
    path.chmod(0o644)
    path.with_name(path.name + "~").unlink()


def save_like_emacs(path: Path) -> None:
    lock = path.with_name(f".#{path.name}")
    lock.symlink_to("somebody@somewhere.1:2")
    shutil.copy(path, path.with_name(path.name + "~"))
    path.write_text("new")
    lock.unlink()


def save_by_deleting(path: Path) -> None:
    path.unlink()
    path.write_text("new")


SAVES = [save_in_place, save_atomically, save_like_vim, save_like_emacs, save_by_deleting]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("named", ["app", "app/main.py", "*.py"])
def test_each_way_to_save_a_file_is_posted(tmp_path: Path, save: Callable[[Path], None], named: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/main.py").write_text("old")

    async def scenario(watching: Watching) -> None:
        for _ in range(3):
            save(tmp_path / "app/main.py")
            # If all of a directory is watched, the temporary file of an editor may be posted too.
            assert await watching.until("app/main.py") - {"app/.main.py.tmp"} == {"app/main.py"}
            await watching.settled()

    run(tmp_path, scenario, named)


def test_files_in_a_new_directory_are_posted(tmp_path: Path, poll: bool) -> None:
    async def scenario(watching: Watching) -> None:
        names = {f"app/a/b/c{number}/x.py" for number in range(20)}
        for name in names:
            watching.write(name)
        assert await watching.until(*names) == names
        watching.write("app/a/b/c7/y.py")
        assert await watching.next() == {"app/a/b/c7/y.py"}

    run(tmp_path, scenario, "app", poll=poll)


def test_files_of_a_moved_directory_are_posted(tmp_path: Path, poll: bool) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "outside/deep").mkdir(parents=True)
    (tmp_path / "outside/deep/x.py").write_text("")

    async def scenario(watching: Watching) -> None:
        (tmp_path / "outside").rename(tmp_path / "app/inside")
        assert await watching.next() == {"app/inside/deep/x.py"}
        await watching.settled()
        (tmp_path / "app/inside").rename(tmp_path / "app/moved")
        assert await watching.until("app/inside/deep/x.py", "app/moved/deep/x.py")
        await watching.settled()
        watching.write("app/moved/deep/x.py", "changed")
        assert await watching.next() == {"app/moved/deep/x.py"}
        (tmp_path / "app/moved").rename(tmp_path / "outside")
        assert await watching.next() == {"app/moved/deep/x.py"}

    run(tmp_path, scenario, "app", poll=poll)


def test_recreated_directory_is_watched(tmp_path: Path, poll: bool) -> None:
    (tmp_path / "app/sub").mkdir(parents=True)
    (tmp_path / "app/sub/x.py").write_text("")

    async def scenario(watching: Watching) -> None:
        for _ in range(3):
            shutil.rmtree(tmp_path / "app")
            assert await watching.next() == {"app/sub/x.py"}
            watching.write("app/sub/x.py")
            assert await watching.next() == {"app/sub/x.py"}
            # At once, so that it may get the inode of the old one.
            shutil.rmtree(tmp_path / "app")
            watching.write("app/sub/x.py", "again")
            await watching.until("app/sub/x.py")
            await watching.settled()

    run(tmp_path, scenario, "app", poll=poll)


def test_path_that_appears_later_is_watched(tmp_path: Path, poll: bool) -> None:
    async def scenario(watching: Watching) -> None:
        watching.write("later/else.txt")
        watching.write("later/then/x.py")
        assert await watching.next() == {"later/then/x.py"}
        watching.write("later/config.toml")
        assert await watching.next() == {"later/config.toml"}

    run(tmp_path, scenario, "later/then", "later/config.toml", poll=poll)


def test_path_outside_of_the_root_is_watched(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "project").mkdir()

    async def scenario(watching: Watching) -> None:
        watching.write("../lib/x.py")
        assert await watching.next() == {"../lib/x.py"}

    run(tmp_path / "project", scenario, "../lib")


def test_permissions_and_reading_are_not_changes(tmp_path: Path) -> None:
    path = tmp_path / "main.py"
    path.write_text("x")

    async def scenario(watching: Watching) -> None:
        path.chmod(0o600)
        path.read_text()
        os.utime(tmp_path)
        os.link(path, tmp_path / "other.name")
        assert await watching.settled() == set()
        path.touch()
        assert await watching.next() == {"main.py"}

    run(tmp_path, scenario, "*.py")


def test_sockets_and_pipes_are_not_changes(tmp_path: Path, poll: bool) -> None:
    async def scenario(watching: Watching) -> None:
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "empty").mkdir()
        (tmp_path / "nowhere").symlink_to("missing")
        assert await watching.settled() == set()

    run(tmp_path, scenario, ".", poll=poll)


def test_ignored_files_are_not_posted(tmp_path: Path, poll: bool) -> None:
    (tmp_path / ".gitignore").write_text("/dist/\n*.log\n")
    for directory in (".git", "node_modules/x", "dist", "ignored", "src"):
        (tmp_path / directory).mkdir(parents=True)
    log = tmp_path / "log/web.txt"
    log.parent.mkdir()

    async def scenario(watching: Watching) -> None:
        for path in (
            ".git/index",
            "node_modules/x/y.js",
            "dist/x",
            "ignored/x",
            "src/a.log",
            "src/x.py~",
            "log/web.txt",
        ):
            watching.write(path)
        for directory in ("node_modules/z", "src/__pycache__", "src/node_modules/a", "log/ignored"):
            watching.write(f"{directory}/x")
        assert await watching.settled() == set()
        watching.write("src/x.py")
        assert await watching.next() == {"src/x.py"}

    run(tmp_path, scenario, ".", poll=poll, logs=(str(log),))


def test_ignored_directories_are_not_watched(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("counts what Linux says is watched")
    for number in range(200):
        (tmp_path / f"node_modules/package{number}/lib").mkdir(parents=True)
    (tmp_path / "app").mkdir()

    async def scenario(watching: Watching) -> None:
        assert await asyncio.to_thread(count_watches) == 2

    run(tmp_path, scenario, ".")


def count_watches() -> int:
    count = 0
    for file in Path("/proc/self/fdinfo").iterdir():
        # The descriptor that reads the directory is closed by now.
        with suppress(OSError):
            count += sum(line.startswith("inotify") for line in file.read_text().splitlines())
    return count


def test_changed_ignore_file_applies(tmp_path: Path, poll: bool) -> None:
    for name in ("a/one", "a/two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x").write_text("")
    (tmp_path / "a/.gitignore").write_text("one\n")

    async def scenario(watching: Watching) -> None:
        watching.write("a/one/x", "1")
        watching.write("a/two/x", "1")
        assert await watching.next() == {"a/two/x"}
        watching.write("a/.gitignore", "two\n")
        # An old file does not change only because it is no longer ignored.
        assert await watching.until("a/.gitignore") == {"a/.gitignore"}
        assert await watching.settled() == set()
        watching.write("a/two/x", "22")
        watching.write("a/one/x", "22")
        assert await watching.next() == {"a/one/x"}
        (tmp_path / "a/.gitignore").unlink()
        assert await watching.until("a/.gitignore") == {"a/.gitignore"}
        await watching.settled()
        watching.write("a/two/x", "333")
        assert await watching.next() == {"a/two/x"}

    run(tmp_path, scenario, "a", poll=poll)


def test_ignore_files_of_the_outer_repository_apply(tmp_path: Path) -> None:
    root = tmp_path / "backend"
    root.mkdir()
    (tmp_path / ".git/info").mkdir(parents=True)
    (tmp_path / ".git/info/exclude").write_text("*.private\n*.log\n")
    (tmp_path / ".gitignore").write_text("*.gen\n!keep.log\n")

    async def scenario(watching: Watching) -> None:
        for name in ("a.private", "a.log", "a.gen"):
            watching.write(name)
        assert await watching.settled() == set()
        watching.write("keep.log")
        assert await watching.next() == {"keep.log"}
        (tmp_path / ".gitignore").write_text("")
        while await watching.settled() != {"b.gen"}:
            watching.write("b.gen", f"{watching.posted.qsize()}")

    run(root, scenario, ".")


def test_exclude_file_of_a_work_tree_applies(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (tmp_path / "main/.git/info").mkdir(parents=True)
    (tmp_path / "main/.git/info/exclude").write_text("*.private\n")
    (tmp_path / "main/.git/worktrees/tree").mkdir(parents=True)
    (tmp_path / "main/.git/worktrees/tree/commondir").write_text("../..\n")
    (root / ".git").write_text(f"gitdir: {tmp_path}/main/.git/worktrees/tree\n")

    async def scenario(watching: Watching) -> None:
        watching.write("a.private")
        assert await watching.settled() == set()

    run(root, scenario, ".")


def test_branch_switch_is_one_change(tmp_path: Path) -> None:
    names = {f"app/package{number % 50}/module{number}.py" for number in range(2000)}
    for name in list(names)[:1000]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")

    async def scenario(watching: Watching) -> None:
        def switch() -> None:
            for name in names:
                watching.write(name, "new")

        await asyncio.to_thread(switch)
        seen: set[str] = set()
        posts = 0
        while seen != names:
            seen |= await watching.next()
            posts += 1
        # About ten, and more if writing the files takes longer.
        assert posts < 200

    run(tmp_path, scenario, "app")


def test_last_event_of_many_says_that_no_more_will_follow(tmp_path: Path) -> None:
    names = {f"app/{directory}/{number}.py" for directory in range(10) for number in range(20)}

    async def scenario(watching: Watching) -> None:
        for name in sorted(names):
            watching.write(name)
        seen: set[str] = set()
        while not seen >= names:
            event = await watching.posted.get()
            seen.update(*event.changes.values())
        while event.more:
            event = await watching.posted.get()
        assert "web" in event.changes

    run(tmp_path, scenario, "app")


def test_each_process_gets_only_changes_of_its_files(tmp_path: Path) -> None:
    posted: list[FilesChanged] = []
    watches = {
        "web.1": Watch(str(tmp_path), ("app",)),
        "web.2": Watch(str(tmp_path), ("app",)),
        "polled": Watch(str(tmp_path), ("lib",), poll=True),
        "deaf": Watch(str(tmp_path), ()),
    }

    async def main() -> None:
        names: set[str] = set()
        changed = asyncio.Event()

        def post(event: FilesChanged) -> None:
            posted.append(event)
            names.update(event.changes)
            changed.set()

        async with asyncio.timeout(LIMIT):
            task = asyncio.create_task(watch_files(watches, post=post, say=unexpected))
            for directory in ("app", "lib"):
                (tmp_path / directory).mkdir()
            while names != {"web.1", "web.2", "polled"}:
                changed.clear()
                for directory in ("app", "lib"):
                    (tmp_path / directory / "x.py").write_text(str(len(posted)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await changed.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert all(
        event.changes in ({"web.1": ("app/x.py",), "web.2": ("app/x.py",)}, {"polled": ("lib/x.py",)})
        for event in posted
        if any(event.changes.values())
    )


def test_symbolic_links_are_followed(tmp_path: Path, poll: bool) -> None:
    root = tmp_path / "project"
    (root / "app").mkdir(parents=True)
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "x.py").write_text(release)
    (root / "current").symlink_to("../one")
    (root / "app/linked").symlink_to("../../one")
    (root / "app/loop").symlink_to("..")
    (root / "settings.toml").symlink_to("../one/settings.toml")
    (tmp_path / "one/settings.toml").write_text("")

    async def scenario(watching: Watching) -> None:
        watching.write("../one/x.py", "changed")
        both = {"current/x.py", "app/linked/x.py"}
        assert await watching.until(*both) == both
        watching.write("../one/settings.toml", "changed")
        assert "settings.toml" in await watching.until("settings.toml")
        await watching.settled()
        (root / "next").symlink_to("../two")
        (root / "next").replace(root / "current")
        assert "current/x.py" in await watching.until("current/x.py")
        await watching.settled()
        watching.write("../two/x.py", "changed")
        assert await watching.next() == {"current/x.py"}

    run(root, scenario, "current", "app", "settings.toml", poll=poll)


def test_names_that_are_not_utf_8_are_posted(tmp_path: Path, poll: bool) -> None:
    async def scenario(watching: Watching) -> None:
        with open(os.fsencode(tmp_path) + b"/caf\xe9", "w") as file:
            file.write("x")
        watching.write("good", "y")
        wanted = {"caf\N{REPLACEMENT CHARACTER}", "good"}
        assert await watching.until(*wanted) == wanted
        os.mkdir(os.fsencode(tmp_path) + b"/dir\xe9")
        with open(os.fsencode(tmp_path) + b"/dir\xe9/x", "w") as file:
            file.write("x")
        await watching.settled()
        watching.write("good", "z")
        assert "good" in await watching.until("good")

    if sys.platform == "darwin":
        pytest.skip("macOS has no such names")
    run(tmp_path, scenario, ".", poll=poll)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("OS file watch limit reached. about [...]"), "fs.inotify.max_user_watches"),
        (
            RuntimeError("Error creating recommended watcher: Too many open files (os error 24)"),
            "fs.inotify.max_user_instances",
        ),
        (FileNotFoundError("gone"), "does not report changed files (gone)"),
        (ImportError("no watchfiles"), "(no watchfiles)"),
    ],
)
def test_reached_limit_leads_to_polling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("watchfiles._rust_notify.RustNotify", refuse)

    async def scenario(watching: Watching) -> None:
        watching.write("app/x.py")
        assert await watching.next() == {"app/x.py"}
        while not watching.said:
            await asyncio.sleep(0.001)

    (text,) = run(tmp_path, scenario, "app").said
    assert said in text


def refuse_threads(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make the system refuse threads with these names."""
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_others)


def test_watchfiles_is_not_used_if_it_would_get_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # watchfiles would abort the whole program.
    asked: list[object] = []
    monkeypatch.setattr("watchfiles._rust_notify.RustNotify", lambda *_: asked.append(_))
    refuse_threads(monkeypatch, "probe")

    async def scenario(watching: Watching) -> None:
        watching.write("app/x.py")
        assert await watching.next() == {"app/x.py"}

    (text,) = run(tmp_path, scenario, "app").said
    assert "the system gives no thread for watching files" in text
    assert asked == []


def test_lack_of_threads_later_leads_to_polling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(watching: Watching) -> None:
        await watching.settled()
        refuse_threads(monkeypatch, "probe")
        watching.write("app/new/x.py")
        assert "app/new/x.py" in await watching.until("app/new/x.py")
        watching.write("app/new/y.py")
        assert "app/new/y.py" in await watching.until("app/new/y.py")

    (text,) = run(tmp_path, scenario, ".").said
    assert "the system gives no thread for watching files" in text


def test_watch_begins_as_soon_as_the_system_gives_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NO_THREAD", 0.01)
    said: list[str] = []

    async def main() -> None:
        posted: asyncio.Queue[FilesChanged] = asyncio.Queue()
        with monkeypatch.context() as refusing:
            refuse_threads(refusing, "procreaper watch")
            watching = watch_files({"web": Watch(str(tmp_path), (".",))}, post=posted.put_nowait, say=said.append)
            task = asyncio.create_task(watching)
            while not said:
                await asyncio.sleep(0)
        while len(said) == 1:
            await asyncio.sleep(0.01)
        while posted.empty():
            (tmp_path / "new.py").write_text("")
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await main()

    asyncio.run(limited())
    assert "the system gives no thread for watching files, so nothing restarts" in said[0]
    assert said[1:] == ["files are watched now"]


def test_changes_before_the_watch_is_ready_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.py").write_text("")

    async def main() -> dict[str, tuple[str, ...]]:
        posted: asyncio.Queue[FilesChanged] = asyncio.Queue()
        async with asyncio.timeout(LIMIT):
            task = asyncio.create_task(
                watch_files({"web": Watch(str(tmp_path), (".",))}, post=posted.put_nowait, say=unexpected)
            )
            await asyncio.sleep(0)
            # The clock of the file system may be some milliseconds behind ours.
            while posted.empty():
                (tmp_path / "new.py").write_text("")
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return dict(posted.get_nowait().changes)

    assert asyncio.run(main()) == {"web": ("new.py",)}


def test_watch_can_be_cancelled_at_once(tmp_path: Path) -> None:
    before = threading.active_count()

    async def main(turns: int) -> None:
        task = asyncio.create_task(watch_files({"web": Watch(str(tmp_path), (".",))}, post=unexpected, say=unexpected))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for turns in range(6):
        asyncio.run(main(turns))
        assert threading.active_count() == before


def test_internal_error_ends_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procreaper.runtime.watch.tree.Tree.scan", lambda self: 1 // 0)
    before = threading.active_count()

    async def main() -> None:
        async with asyncio.timeout(LIMIT):
            await watch_files({"web": Watch(str(tmp_path), (".",))}, post=unexpected, say=unexpected)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert threading.active_count() == before


def test_no_watches_return_at_once() -> None:
    asyncio.run(watch_files({}, post=unexpected, say=unexpected))
