"""Watch files: one watcher for a whole project, for any number of processes.

Rules: it posts which files changed and which processes they affect; it decides nothing about restarts. `matcher` says
which files matter. All work happens in a thread, which ends with the coroutine that started it. Only this module
imports watchfiles.

Theory of operation. A report of the system is only a *hint*; `tree` knows the true state of the files. The watcher
scans everything

    at the start          to know the files and the directories
    when directories      appear, vanish or are replaced, or an ignore file changes; then it makes a new watch, and
                          scans once more, for files that came into a directory before it was watched
    after a flood         because watchfiles can lose a report while it hands over earlier ones; until then each event
                          says that more will follow, so that a branch switch is one change
    at every interval     if the system reports nothing (polling)

On Linux each directory that matters is watched separately. Watching a tree costs a kernel watch for every directory in
it, also for ignored ones. With a big node_modules beside a thousand directories, that is 50,000 watches and a second,
instead of 25 ms. On macOS a tree costs no more than a directory.

watchfiles's `RustNotify` is private, but only it takes a timeout for each call. The public functions do not.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from procreaper.core.events import FilesChanged
from procreaper.core.plan import Watch
from procreaper.runtime.watch.matcher import Matcher
from procreaper.runtime.watch.tree import Tree, is_within, read_text
from procreaper.threads import NoThreadError, require_threads, start_thread

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

# watchfiles collects reports every `STEP` ms. It hands them over when a step has added none, or after `GROUP` ms. A
# step of 4 ms costs less than a percent of a processor while nothing happens.
STEP = 4
GROUP = 50
# This many changed files at once are a flood. A scan follows when there were no reports for `CALM` ms.
FLOOD = 32
CALM = 250
# The pauses within a long flood may be longer: by this many ms for each second of it.
CALM_SHARE = 50
# Seconds between two scans while polling; more if a scan takes long, so that scans take at most a twentieth of the
# time.
POLL_INTERVAL = 0.3
POLL_SHARE = 20
# RustNotify starts a thread of its own, and aborts the whole program if it cannot. So this many threads are tried
# first; more than one, because children of ours may start in the same moment.
SPARE_THREADS = 4
# Seconds until the next try, if the system gives us no thread.
NO_THREAD = 5.0
# Seconds to wait after watchfiles has failed: a file whose name it cannot handle may be written all the time.
RECOVERY = 0.25
# The most times in a row that a directory may vanish before it can be watched.
MAX_REFUSALS = 10

# File systems of Windows as seen from its Linux. They report no changes.
SILENT = ("9p", "drvfs")


async def watch_files(
    watches: Mapping[str, Watch],
    *,
    post: Callable[[FilesChanged], None],
    say: Callable[[str], None],
    logs: Collection[str] = (),
) -> None:
    """Post an event for each change of the watched files, until cancelled.

    `post` and `say` are called in the thread of the loop. `logs` are the absolute paths of files that we write: they
    are no reason for a restart. Each change after this call counts, also while the watch is still being prepared. If
    files cannot be watched, `say` gets a message, and they are polled. Without any watches it returns at once. After a
    cancellation it returns when its thread has ended, which takes some milliseconds.
    """
    by_polling: dict[bool, dict[str, Watch]] = {}
    for name, one in watches.items():
        polled = _needs_polling(one.root) if one.poll is None else one.poll
        by_polling.setdefault(polled, {})[name] = one
    watchers: list[_Watcher] = []
    running: list[asyncio.Future[None]] = []
    try:
        for polled, some in by_polling.items():
            watcher = _Watcher(some, logs, polling=polled, post=post, say=say)
            running.append(await watcher.start())
            watchers.append(watcher)
        if running:
            await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for watcher in watchers:
            watcher.stop()
        while any(not ended.done() for ended in running):
            # A cancellation now only repeats the request to stop.
            with suppress(asyncio.CancelledError):
                await asyncio.wait(running)
        for watcher in watchers:
            watcher.join()
        # Retrieve all exceptions, or asyncio logs those that were never retrieved.
        errors = [error for ended in running if (error := ended.exception()) is not None]
    for error in errors:
        raise error


class _Watcher:
    """A thread that watches files, and its connection to the loop."""

    def __init__(
        self,
        watches: Mapping[str, Watch],
        logs: Collection[str],
        *,
        polling: bool,
        post: Callable[[FilesChanged], None],
        say: Callable[[str], None],
    ) -> None:
        self._polling = polling
        self._post = post
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._matcher = Matcher(watches, logs=logs)
        self._tree = Tree(self._matcher, {one.root for one in watches.values()}, self._stop)
        self._notify: RustNotify | None = None
        # The directories that are watched now; None if a new watch is needed.
        self._watched: set[str] | None = None
        self._refused = 0
        # The processes whose last event said that more will follow.
        self._promised: set[str] = set()

    async def start(self) -> asyncio.Future[None]:
        """Start the thread, as soon as the system gives one. The returned future is done when the thread has ended."""
        ended: asyncio.Future[None] = self._loop.create_future()
        is_waiting = False
        while True:
            try:
                self._thread = start_thread(lambda: self._work(ended), "procreaper watch", "for watching files")
            except NoThreadError as error:
                if not is_waiting:
                    self._say(f"{error.message}, so nothing restarts when they change, until it does; {error.hint}")
                is_waiting = True
                await asyncio.sleep(NO_THREAD)
            else:
                if is_waiting:
                    self._say("files are watched now")
                return ended

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread, which has ended its work."""
        self._thread.join()

    # All that follows runs in the thread.

    def _work(self, ended: asyncio.Future[None]) -> None:
        error: Exception | None = None
        try:
            self._watch_until_stopped()
        except Exception as problem:
            error = problem
        finally:
            if self._notify is not None:
                self._notify.close()
            self._call(lambda: ended.set_exception(error) if error else ended.set_result(None))

    def _call(self, function: Callable[[], None]) -> None:
        # RuntimeError: the loop is closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def _watch_until_stopped(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            paths = self._tree.scan()
            needs_watch = not self._polling and self._watched != self._tree.directories.keys()
            self._report(paths, more=needs_watch)
            if self._polling:
                self._stop.wait(max(POLL_INTERVAL, POLL_SHARE * (time.monotonic() - began)))
            elif needs_watch:
                self._watch_directories()
            else:
                self._check_hints()

    def _report(self, paths: Collection[str], *, more: bool) -> None:
        changes = self._matcher.find_affected(paths)
        if more:
            self._promised.update(changes)
        else:
            changes = {**dict.fromkeys(self._promised, ()), **changes}
            self._promised.clear()
        if changes and not self._stop.is_set():
            self._call(lambda: self._post(FilesChanged(changes, more=more)))

    def _watch_directories(self) -> None:
        """Make a new watch, of the directories that matter now."""
        if self._notify is not None:
            self._notify.close()
            self._notify = None
        self._watched = set(self._tree.directories)
        directories = [directory for directory in self._watched if _is_utf_8(directory)]
        try:
            from watchfiles._rust_notify import RustNotify

            require_threads(SPARE_THREADS, "for watching files")
            recursive = sys.platform == "darwin"
            # Do not ignore permission errors: watchfiles would then not report reached limits either.
            self._notify = RustNotify(
                _topmost(directories) if recursive else directories, False, False, 0, recursive, False
            )
            self._refused = 0
        except (FileNotFoundError, PermissionError) as error:
            # One of the directories has just vanished. The next scan will show it.
            self._watched = None
            self._refused += 1
            if self._refused > MAX_REFUSALS:
                self._poll_instead(error)
        except (ImportError, OSError, RuntimeError, NoThreadError) as error:
            self._poll_instead(error)

    def _poll_instead(self, error: Exception) -> None:
        self._polling = True
        text = f"{_explain(error)}, so procreaper itself looks for changed files, every {POLL_INTERVAL} s at best"
        self._call(lambda: self._say(text))

    def _check_hints(self) -> None:
        """Check what the hints point to, until a scan is needed."""
        if self._notify is None:
            raise RuntimeError("nothing is watched")
        flood, began, calm = False, time.monotonic(), 0
        while True:
            try:
                hints = self._notify.watch(GROUP, STEP, calm, self._stop)
            except RuntimeError:
                # A name that is not UTF-8. The other reports are lost, and this watch keeps failing.
                self._watched = None
                self._stop.wait(RECOVERY)
                return
            if isinstance(hints, str):
                return
            found = self._tree.check_hints(hints)
            if flood or len(found.changed) >= FLOOD:
                began = began if flood else time.monotonic()
                flood, calm = True, max(CALM, int(CALM_SHARE * (time.monotonic() - began)))
            self._report(found.changed, more=flood or found.replaced or found.needs_scan)
            if found.replaced:
                self._watched = None
            if found.replaced or found.needs_scan:
                return


def _needs_polling(root: str) -> bool:
    """Return whether the system reports no changes below `root`: on a file system of Windows, seen from its Linux.

    watchfiles polls everywhere on WSL, but the file system of that Linux itself does report changes. The environment
    variable of watchfiles takes precedence.
    """
    forced = os.environ.get("WATCHFILES_FORCE_POLLING")
    if forced:
        return forced.lower() not in ("false", "disable", "disabled")
    if "microsoft" not in platform.release().lower():
        return False
    mounts = [line.split(" ") for line in read_text("/proc/self/mounts").splitlines()]
    root = os.path.realpath(root)
    around = [(len(fields[1]), fields[2]) for fields in mounts if len(fields) > 2 and is_within(root, fields[1])]
    return bool(around) and max(around)[1] in SILENT


def _explain(error: Exception) -> str:
    """Say why the system reports no changes, and what can be done about it."""
    if isinstance(error, NoThreadError):
        return f"{error.message} ({error.hint})"
    text = str(error)
    if "watch limit" in text:
        return "more directories are watched than fs.inotify.max_user_watches allows (raise it with `sysctl`)"
    if "Too many open files" in text:
        return "there are more watchers than fs.inotify.max_user_instances allows, or too many open files (`ulimit -n`)"
    return f"the system does not report changed files ({text})"


def _is_utf_8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _topmost(directories: Iterable[str]) -> list[str]:
    """Return the directories that are in none of the others."""
    found: list[str] = []
    for directory in sorted(directories, key=lambda path: path.split("/")):
        if not found or not is_within(directory, found[-1]):
            found.append(directory)
    return found
