"""Watches files: one watcher for a whole project, whatever number of processes are restarted for them.

Rules: posts what changed, for whom; decides nothing about restarts. `watching` says what is of interest. All of it
happens in a thread of its own, which ends with the coroutine that began it. Only this module imports watchfiles.

Theory of operation. What the system reports is a *hint* where to look; the truth is what `tree` knows of the files.
It looks at everything

    at first              in order to know the files and the directories
    when directories      appear, vanish or are replaced, or an ignore file changes; then the watcher is made anew, and
                          once more afterwards, for what a directory was filled with before it was watched
    after a flood         because watchfiles can lose what comes while it hands over what came before; until then each
                          report says that there is more, so that a branch switch is one change
    at every interval     where nothing is reported (polling)

On Linux each directory of interest is watched by itself. To watch a tree would cost a kernel watch for every directory
in it, ignored ones too: a second and 50,000 watches where a big node_modules lies beside a thousand directories that
take 25 ms. On macOS a tree costs no more than a directory.
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
from procreaper.runtime.watch.tree import Tree, is_within, read
from procreaper.threads import NoThreadError, require_threads, start_thread

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

# watchfiles looks at what was reported every `STEP` ms, and hands it over when nothing was added in the next step, or
# after `GROUP` ms. 4 ms are less than a percent of a processor while nothing happens.
STEP = 4
GROUP = 50
# So many hints at once are a flood; everything is looked at when it has been quiet for `CALM` ms.
FLOOD = 32
CALM = 250
# The longer a flood lasts, the longer it may pause: this many ms for each second of it.
CALM_SHARE = 50
# Seconds between two looks while polling; more where one takes long, so that they take a twentieth of the time at most.
POLL_INTERVAL = 0.3
POLL_SHARE = 20
# RustNotify starts a thread of its own; where it cannot, it aborts the whole program. So this many are tried before,
# since children of ours may be born in the same moment.
SPARE_THREADS = 4
# Seconds until the next try, where there is no thread for us.
NO_THREAD = 5.0
# After watchfiles has failed, in seconds: a name that it cannot take may be written to all the time.
RECOVERY = 0.25
# So often may a directory have vanished before it could be watched.
MAX_REFUSALS = 10

# File systems of Windows as seen from its Linux, where nothing is reported.
SILENT = ("9p", "drvfs")


async def watch_files(
    watches: Mapping[str, Watch],
    *,
    post: Callable[[FilesChanged], None],
    say: Callable[[str], None],
    logs: Collection[str] = (),
) -> None:
    """Post what changes among the files that processes are restarted for, until cancelled.

    Both functions are called in the loop's thread. `logs` are the files that we write, absolute; they are no reason for
    a restart. What changes after this call counts, also while the watching is still being prepared. What cannot be
    watched is said and polled for. Without any watches it returns at once. Cancelling it returns when its thread has
    ended, which takes some milliseconds.
    """
    ways: dict[bool, dict[str, Watch]] = {}
    for name, one in watches.items():
        polled = _needs_polling(one.root) if one.poll is None else one.poll
        ways.setdefault(polled, {})[name] = one
    watchers: list[_Watcher] = []
    running: list[asyncio.Future[None]] = []
    try:
        for polled, some in ways.items():
            watcher = _Watcher(some, logs, polling=polled, post=post, say=say)
            running.append(await watcher.start())
            watchers.append(watcher)
        if running:
            await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for watcher in watchers:
            watcher.stop()
        while any(not ended.done() for ended in running):
            # A cancellation now asks for what is being done.
            with suppress(asyncio.CancelledError):
                await asyncio.wait(running)
        for watcher in watchers:
            watcher.join()
        # All are looked at, or asyncio complains of those that were not.
        errors = [error for ended in running if (error := ended.exception()) is not None]
    for error in errors:
        raise error


class _Watcher:
    """The thread, and its ties to the loop."""

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
        # The directories that are watched, None where that has to be arranged anew.
        self._armed: set[str] | None = None
        self._refused = 0
        # The processes that were promised more.
        self._promised: set[str] = set()

    async def start(self) -> asyncio.Future[None]:
        """Begin, once there is a thread for it; the future is done when that has nothing more to do."""
        ended: asyncio.Future[None] = self._loop.create_future()
        lacked = False
        while True:
            try:
                self._thread = start_thread(lambda: self._work(ended), "procreaper watch", "for watching files")
            except NoThreadError as error:
                if not lacked:
                    self._say(f"{error.message}, so nothing restarts when they change, until it does; {error.hint}")
                lacked = True
                await asyncio.sleep(NO_THREAD)
            else:
                if lacked:
                    self._say("files are watched now")
                return ended

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread, which has nothing more to do."""
        self._thread.join()

    # From here on in the thread.

    def _work(self, ended: asyncio.Future[None]) -> None:
        error: Exception | None = None
        try:
            self._watch()
        except Exception as problem:
            error = problem
        finally:
            if self._notify is not None:
                self._notify.close()
            self._call(lambda: ended.set_exception(error) if error else ended.set_result(None))

    def _call(self, function: Callable[[], None]) -> None:
        # RuntimeError: the loop is closed, and nobody waits any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def _watch(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            paths = self._tree.look()
            arms = not self._polling and self._armed != self._tree.real.keys()
            self._report(paths, more=arms)
            if self._polling:
                self._stop.wait(max(POLL_INTERVAL, POLL_SHARE * (time.monotonic() - began)))
            elif arms:
                self._arm()
            else:
                self._follow()

    def _report(self, paths: Collection[str], *, more: bool) -> None:
        changes = self._matcher.affected(paths)
        if more:
            self._promised.update(changes)
        else:
            changes = {**dict.fromkeys(self._promised, ()), **changes}
            self._promised.clear()
        if changes and not self._stop.is_set():
            self._call(lambda: self._post(FilesChanged(changes, more=more)))

    def _arm(self) -> None:
        """Watch the directories that are of interest now."""
        if self._notify is not None:
            self._notify.close()
            self._notify = None
        self._armed = set(self._tree.real)
        directories = [directory for directory in self._armed if _is_utf_8(directory)]
        try:
            from watchfiles._rust_notify import RustNotify

            require_threads(SPARE_THREADS, "for watching files")
            recursive = sys.platform == "darwin"
            # Not to be told of permissions: watchfiles would then not tell of limits that are reached either.
            self._notify = RustNotify(
                _topmost(directories) if recursive else directories, False, False, 0, recursive, False
            )
            self._refused = 0
        except (FileNotFoundError, PermissionError) as error:
            # One of them has just vanished; the next look knows.
            self._armed = None
            self._refused += 1
            if self._refused > MAX_REFUSALS:
                self._poll_instead(error)
        except (ImportError, OSError, RuntimeError, NoThreadError) as error:
            self._poll_instead(error)

    def _poll_instead(self, error: Exception) -> None:
        self._polling = True
        text = f"{_explain(error)}, so procreaper itself looks for changed files, every {POLL_INTERVAL} s at best"
        self._call(lambda: self._say(text))

    def _follow(self) -> None:
        """Look where the hints say, until it has to be looked at everything."""
        if self._notify is None:
            raise RuntimeError("nothing is watched")
        flood, began, calm = False, time.monotonic(), 0
        while True:
            try:
                hints = self._notify.watch(GROUP, STEP, calm, self._stop)
            except RuntimeError:
                # A name that is not UTF-8; what else was reported is lost, and watchfiles never forgets the error.
                self._armed = None
                self._stop.wait(RECOVERY)
                return
            if isinstance(hints, str):
                return
            found = self._tree.look_at(hints)
            if flood or len(found.changed) >= FLOOD:
                began = began if flood else time.monotonic()
                flood, calm = True, max(CALM, int(CALM_SHARE * (time.monotonic() - began)))
            self._report(found.changed, more=flood or found.replaced or found.unclear)
            if found.replaced:
                self._armed = None
            if found.replaced or found.unclear:
                return


def _needs_polling(root: str) -> bool:
    """Whether nothing is reported of what happens there: the file system of Windows, seen from its Linux.

    watchfiles polls on all of WSL; the file system of that Linux itself does report. Its environment variable counts.
    """
    forced = os.environ.get("WATCHFILES_FORCE_POLLING")
    if forced:
        return forced.lower() not in ("false", "disable", "disabled")
    if "microsoft" not in platform.release().lower():
        return False
    mounts = [line.split(" ") for line in read("/proc/self/mounts").splitlines()]
    root = os.path.realpath(root)
    around = [(len(fields[1]), fields[2]) for fields in mounts if len(fields) > 2 and is_within(root, fields[1])]
    return bool(around) and max(around)[1] in SILENT


def _explain(error: Exception) -> str:
    """Why the system reports nothing, and what can be done."""
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
    """Those that lie in none of the others."""
    found: list[str] = []
    for directory in sorted(directories, key=lambda path: path.split("/")):
        if not found or not is_within(directory, found[-1]):
            found.append(directory)
    return found
