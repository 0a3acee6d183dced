"""`start -D` if an app of this directory already runs: start the processes in that app, and no second app.

Rules: only send requests to running apps. A process *runs* if it is wanted and has not ended; this includes a process
that is still starting, and a `oneshot` that is done. Flags that would need another plan have no effect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from procreaper.cli.commands.change import Waiting
from procreaper.cli.commands.logs import to_event
from procreaper.cli.commands.start_report import make_hint, make_running_hint
from procreaper.cli.find_app import AppSelector, NoAppError, find_apps, interruptible
from procreaper.cli.messages import Progress, print_error, print_problems, print_result
from procreaper.cli.rendering import LONG_AGO, make_format
from procreaper.core.events import Output
from procreaper.core.outcome import Goal
from procreaper.core.ports import AUTO, is_derived
from procreaper.errors import FAILED, INTERRUPTED, Problem, ProcreaperError, enumerate_words
from procreaper.output.history import History
from procreaper.output.log_tail import RotatedLog
from procreaper.output.text import Style
from procreaper.project.configure import Configuration
from procreaper.project.options import Options, parse_seconds
from procreaper.remote.api import protocol
from procreaper.remote.api.to_wire import read_port
from procreaper.remote.control.client import Client, GoneError, RefusedError
from procreaper.remote.control.socket_directory import BusyError, Lock, acquire_lock

# Seconds that another `start -D` of the same directory may take until its app can be found.
PATIENCE = 60.0
LAST_LINES = 20
RUNNING = frozenset({"pending", "starting", "running", "healthy", "unhealthy", "restarting"})
# By field of the options: the flags that would need another plan or another output.
FLAGS = {
    "procfile": "-f",
    "env": "-e",
    "config": "--config",
    "port": "-p",
    "concurrency": "-c",
    "formation": "-m",
    "restart": "-r",
    "can_die": "--can-die",
    "timeout": "-t",
    "watch": "-w",
    "no_watch": "--no-watch",
    "http": "--http",
    "pty": "--pty",
    "quiet": "-q",
    "log_format": "--log-format",
}
NEW = "`procreaper start -D --new` starts another app"


class RunningApp(NamedTuple):
    """A running app, its processes by name, and the names that `start` would start (`meant`)."""

    app: Client
    processes: Mapping[str, protocol.ProcessStatus]
    meant: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The meant processes that do not run there."""
        return tuple(name for name in self.meant if not is_running(self.processes.get(name)))

    @property
    def knows_all(self) -> bool:
        """Whether the app has all meant processes."""
        return all(name in self.processes for name in self.meant)


def lock_root(options: Options) -> Lock | None:
    """Lock the directory against other `start -D` commands; return None if no lock file can be made.

    Raises BusyError if another command holds the lock for too long. Later the app itself reports why it has no control
    socket.
    """
    try:
        return acquire_lock(os.path.realpath(options.root or options.app_root or "."), os.environ, PATIENCE)
    except BusyError:
        raise
    except ProcreaperError:
        return None


def is_running(process: protocol.ProcessStatus | None) -> bool:
    """Whether a process is wanted and has not ended, or is a `oneshot` that is done."""
    return process is not None and (process.up or process.state in RUNNING)


def join(
    configuration: Configuration, options: Options, style: Style, typed: Collection[str], lock: Lock
) -> int | None:
    """Start the processes in a running app of this directory. Return the exit status, or None if no app runs.

    `typed` are the fields of the options given on the command line. The `lock` is released before any waiting. Raises
    ProcreaperError if several apps match, or if the app does not know a process.
    """
    directory = options.root or options.app_root
    place = AppSelector.of(directory or ".", None)
    limit = None if options.wait_timeout is None else parse_seconds(options.wait_timeout)
    until = None if limit is None else time.monotonic() + limit
    while True:
        with ExitStack() as stack:
            try:
                apps = find_apps(place)
            except NoAppError:
                return None
            for app in apps:
                stack.enter_context(app)
            try:
                found = [running for app in apps if (running := _inspect(app, configuration)) is not None]
                if not found:
                    # All apps were ending: search again.
                    continue
                chosen = _choose_app(found)
                _warn_of_unused_flags(chosen, configuration, options, typed)
                watch = _Watch(chosen.app, chosen.meant, style) if options.wait else None
                _start_missing(chosen)
            except GoneError:
                continue
            lock.release()
            status = 0 if watch is None else watch.wait(directory, until, limit)
            if not status:
                _print_started(chosen, directory, waits=options.wait)
            return status


def _inspect(app: Client, configuration: Configuration) -> RunningApp | None:
    """Compare the app with the processes that `start` would start. If the app is ending, wait and return None."""
    seen = app.ask(protocol.StatusRequest(0))
    if seen.ending:
        _wait_for_end(app)
        return None
    processes = {process.name: process for process in seen.processes}
    types = {process.type for process in seen.processes}
    plan = configuration.plan
    names = [process.name for process in plan.processes] if plan.names is None else plan.names
    kinds = {process.name: process.type for process in plan.processes}
    # The running app decides how many processes of a type there are.
    return RunningApp(app, processes, tuple(name for name in names if name in processes or kinds[name] not in types))


def _wait_for_end(app: Client) -> None:
    with interruptible(), Progress() as progress:
        progress.show(f"waiting until the running app has ended (pid {app.greeting.pid})")
        try:
            app.ask(protocol.FollowRequest(0))
            for _ in app.notices():
                continue
        except (GoneError, RefusedError):
            return
        except KeyboardInterrupt:
            hint = f"the app with pid {app.greeting.pid} is about to end"
            raise ProcreaperError("stopped waiting", hint=hint, exit_code=INTERRUPTED) from None


def _choose_app(found: Sequence[RunningApp]) -> RunningApp:
    """Choose the app that has all the processes. Raises ProcreaperError if several apps match."""
    for candidates in (
        [running for running in found if not running.missing],
        found if len(found) == 1 else [running for running in found if running.knows_all],
    ):
        if len(candidates) == 1 or (candidates and not candidates[0].missing):
            return candidates[0]
    pids = enumerate_words(f"--pid {running.app.greeting.pid}" for running in found)
    missing = dict.fromkeys(name for running in found for name in running.missing)
    hint = f"`procreaper up {' '.join(missing)}` with {pids} starts them in one of these, {NEW}"
    text = (
        f"{len(found)} apps of this directory are running, and it is not clear which one should start these processes"
    )
    raise ProcreaperError(text, hint=hint)


def _warn_of_unused_flags(
    running: RunningApp, configuration: Configuration, options: Options, typed: Collection[str]
) -> None:
    """Warn about flags that have no effect, except for those that the app was evidently started with."""
    ours = {process.name: read_port(process) for process in configuration.plan.processes}
    its = {process.name: process.port for process in running.processes.values()}
    alike = set()
    both = ours.keys() & its.keys()
    # A derived port of the app is in use now, so our plan has another one.
    if all(ours[name] == its[name] or (options.port == AUTO and is_derived(its[name])) for name in both):
        alike.add("port")
    if ours.keys() == its.keys():
        alike |= {"concurrency", "formation"}
    flags = [flag for field, flag in FLAGS.items() if field in typed and field not in alike]
    if flags:
        pid = running.app.greeting.pid
        text = f"the running app (pid {pid}) is not changed by {enumerate_words(flags)}"
        print_problems(
            [Problem(text, hint=f"{NEW} with them" if len(flags) > 1 else f"{NEW} with it", level="warning")]
        )


def _start_missing(running: RunningApp) -> None:
    """Request the missing processes. Raises GoneError if the app has ended or is ending."""
    app = running.app
    if not running.missing:
        return
    try:
        app.ask(protocol.UpRequest(0, running.missing))
    except RefusedError as error:
        if app.ask(protocol.StatusRequest(0)).ending:
            raise GoneError("the app ends") from error
        hint = f"`procreaper reload` reads the files again, {NEW}"
        message = f"the running app (pid {app.greeting.pid}): {error.message}"
        raise ProcreaperError(message, hint=hint) from error


def _print_started(running: RunningApp, directory: str | None, *, waits: bool) -> None:
    pid, missing = running.app.greeting.pid, running.missing
    text = f"already up (pid {pid})"
    if missing:
        verb = ("is up" if waits else "starts") if len(missing) == 1 else ("are up" if waits else "start")
        text = f"{', '.join(missing)} {verb} in the running app (pid {pid})"
    print_result(f"{text}\n  hint: {make_hint(directory)}")


class _Watch:
    """Follows an app until certain processes are up, or one of them cannot come up."""

    def __init__(self, app: Client, names: Sequence[str], style: Style) -> None:
        self._app = app
        followed = app.ask(protocol.FollowRequest(0, output=True, lines=LAST_LINES))
        self._waiting = Waiting(dict.fromkeys(names, (Goal.UP_IN_THE_END, 0)), followed.processes)
        self._processes = {process.name: process for process in followed.processes}
        self._style = style
        self._history = History()

    def wait(self, directory: str | None, until: float | None, limit: float | None) -> int:
        """Wait until all are up, or print why one is not; return the exit status."""
        pid = self._app.greeting.pid
        with interruptible(), Progress() as progress:
            try:
                # The status from before the request may belong to an earlier run.
                self._refresh()
                failed = self._wait(until, progress)
                progress.clear()
            except TimeoutError:
                progress.clear()
                lines = [f"  {name}: {why}" for name, why in self._waiting.states().items()]
                print_error("\n".join((str(Problem(f"not all processes are up after {limit:g} s")), *lines)))
                failed = True
            except KeyboardInterrupt:
                progress.clear()
                print_error(str(Problem("stopped waiting", hint=make_running_hint(pid, directory))))
                return INTERRUPTED
            except (_EndError, GoneError) as error:
                progress.clear()
                goodbye = error.goodbye if isinstance(error, _EndError) else self._find_goodbye()
                if goodbye is None:
                    print_error(str(Problem("the app has ended without giving a reason", hint="was it killed?")))
                    return FAILED
                return self._tell_end(goodbye)
        if failed:
            print_error(f"  hint: {make_running_hint(pid, directory)}")
        return FAILED if failed else 0

    def _refresh(self) -> None:
        seen = self._app.ask(protocol.StatusRequest(0))
        for process in seen.processes:
            self._take(protocol.StatusNotice(time.time(), process))

    def _wait(self, until: float | None, progress: Progress) -> bool:
        """Return False once all are up; print the reason and return True if a process cannot come up."""
        while True:
            for notice in self._app.arrived_so_far():
                self._take(notice)
            found = self._waiting.check(time.monotonic())
            obstacles = [name for name in found if self._waiting.outcomes[name].obstacle is not None]
            if obstacles:
                self._raise_if_ending()
                # A skipped process is not the cause.
                name = min(obstacles, key=lambda name: self._state(name) == "skipped")
                progress.clear()
                print_error(str(Problem(f"{name} is not up: {self._waiting.outcomes[name].obstacle}")))
                self._show_lines(name)
                return True
            if not self._waiting.left:
                return False
            progress.show("waiting for " + self._waiting.progress())
            times = [moment for moment in (until, self._waiting.deadline) if moment is not None]
            arrived = self._app.next_notice(max(0.0, min(times) - time.monotonic()) if times else None)
            if arrived is not None:
                self._take(arrived)
            elif until is not None and time.monotonic() >= until:
                raise TimeoutError

    def _take(self, notice: protocol.AnyNotice) -> None:
        if isinstance(notice, protocol.GoodbyeNotice):
            raise _EndError(notice)
        if isinstance(notice, protocol.StatusNotice):
            self._processes[notice.process.name] = notice.process
        self._waiting.take(notice)
        if (event := to_event(notice)) is not None:
            self._history.accept(event)

    def _find_goodbye(self) -> protocol.GoodbyeNotice | None:
        """Find the goodbye that arrived instead of a reply."""
        try:
            for notice in self._app.arrived_so_far():
                self._take(notice)
        except _EndError as error:
            return error.goodbye
        return None

    def _raise_if_ending(self) -> None:
        """Raise _EndError if the app is ending: then the obstacle is an effect of that, and not the cause."""
        try:
            if not self._app.ask(protocol.StatusRequest(0)).ending:
                return
        except GoneError:
            pass
        for notice in self._app.notices():
            self._take(notice)

    def _state(self, name: str) -> str:
        process = self._processes.get(name)
        return "" if process is None else process.state

    def _tell_end(self, goodbye: protocol.GoodbyeNotice) -> int:
        print_error(str(Problem(goodbye.reason or "the app has ended")))
        if goodbye.name is not None:
            self._show_lines(goodbye.name)
        print_error(f"  hint: the app has ended, with exit code {goodbye.code}")
        return goodbye.code or FAILED

    def _show_lines(self, name: str) -> None:
        """Print the last lines of a process; for a detached process, from its log file."""
        text = make_format("text", self._processes.values(), self._style)
        process = self._processes.get(name)
        if process is not None and process.detached and process.log is not None:
            try:
                with RotatedLog(process.log) as tail:
                    found = [Output(LONG_AGO, name, data) for data in tail.last_lines(LAST_LINES)]
            except OSError:
                found = []
        else:
            notices = self._history.tail({name}, LAST_LINES).notices
            found = [notice for notice in notices if isinstance(notice, Output)]
        lines = b"".join(map(text.render, found)) + text.finish()
        if lines:
            print_error(os.fsdecode(lines).removesuffix("\n"))


class _EndError(Exception):
    """The app has ended, with this goodbye."""

    def __init__(self, goodbye: protocol.GoodbyeNotice) -> None:
        super().__init__(goodbye.reason)
        self.goodbye = goodbye
