"""The library: supervise processes from a Python program.

Rules: a reaper changes no signal handler, no root logger and no other global state, and waits only for its own
children. It works in the event loop of any thread. It decides nothing about processes: it posts requests to the
supervisor and waits for their effect.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from procreaper.core import plan
from procreaper.core.events import Event, Notice, Output, Restart, Shutdown, Start, Stop, Transition, with_reason
from procreaper.core.plan import Plan, When
from procreaper.core.ports import AutoPorts
from procreaper.errors import NotReadyError, UnknownProcessError, UsageError, enumerate_words
from procreaper.library.process import Process, resolve_dependencies
from procreaper.output.hub import Hub
from procreaper.output.stdlib_log import Log
from procreaper.output.subscription import Subscription
from procreaper.project.machine import is_port_taken
from procreaper.remote.metrics.counts import Counts
from procreaper.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from types import TracebackType

    from procreaper.core.status import Status
    from procreaper.library.blocking import BlockingReaper
    from procreaper.remote.metrics.collector import Collector


class Reaper:
    """Supervises processes while its `with` block runs.

    ``async with Reaper([...]) as reaper:`` runs the processes in the current event loop. ``with Reaper([...]) as
    reaper:`` runs them in a thread with a loop of its own and gives a `BlockingReaper`, whose methods block.

    Entering the block starts all processes and returns at once; `ready` waits until they are up. Leaving the block,
    also by an exception or a cancellation, stops all processes in the reverse order of their dependencies and waits
    until no process is left. A second cancellation kills them at once.

    The `procreaper` logger reports starts, ends and restarts. `on_output(name, data)` receives the output of the
    processes in whole lines, as bytes. It is called in the thread of the event loop and must not block; an exception
    from it is logged.

    Raises ValueError for a duplicate name, and TypeError for an item that is not a `Process`. Entering the block raises
    ValueError for an unknown dependency or a dependency cycle.

    >>> async def main() -> None:
    ...     async with Reaper([Process("web", ["python", "-m", "http.server"])]) as reaper:
    ...         await reaper.ready(timeout=10)
    """

    def __init__(
        self, processes: Iterable[Process | plan.Process] = (), *, on_output: Callable[[str, bytes], None] | None = None
    ) -> None:
        self._processes: list[Process | plan.Process] = []
        self._names: tuple[str, ...] | None = None
        self._root = "."
        self._on_output = on_output
        self._supervisor: Supervisor | None = None
        self._running: asyncio.Task[int] | None = None
        self._hub = Hub()
        self._subscriptions: set[Subscription] = set()
        self._transition = asyncio.Event()
        self._blocking: BlockingReaper | None = None
        self._collector: Collector | None = None
        if isinstance(processes, Process | plan.Process):
            raise TypeError("a Reaper takes an iterable of processes, not a single one")
        for process in processes:
            self.add(process)

    @classmethod
    def from_procfile(
        cls,
        path: str | os.PathLike[str] = "Procfile",
        *,
        names: Iterable[str] = (),
        env: str | None = None,
        config: str | os.PathLike[str] | None = None,
        concurrency: Mapping[str, int] | None = None,
        port: int | None = None,
        on_output: Callable[[str, bytes], None] | None = None,
    ) -> Reaper:
        """Create a reaper for the processes of a Procfile, as `procreaper start` does.

        The ``.env`` and ``.reaper.toml`` beside the Procfile are read too. `names` are the process types to start
        (default: all). `env` names the environment files, separated by commas. `config` is another file instead of
        ``.reaper.toml``. `concurrency` is the number of processes of each type. `port` is the base of the ports
        (`PORT`). `on_output` is as for `Reaper`.

        The end of a process does not end the others, whatever the files say: `stop_all` is ``never``.

        Raises ConfigError with all problems of the files.

        >>> reaper = Reaper.from_procfile("shop/Procfile", concurrency={"worker": 2})  # doctest: +SKIP
        """
        from procreaper.project.configure import Options, configure

        directory, name = os.path.split(os.path.abspath(path))
        counts = None if concurrency is None else ",".join(f"{key}={count}" for key, count in concurrency.items())
        options = Options(
            app_root=directory,
            procfile=name,
            env=env,
            config=None if config is None else os.fspath(config),
            concurrency=counts,
            port=None if port is None else str(port),
            names=tuple(names),
        )
        ports = AutoPorts(os.path.realpath(directory), lambda port: not is_port_taken(port))
        configured = configure(options, os.environ, find_port=ports.find_port).plan
        reaper = cls((process._replace(stop_all=When.NEVER) for process in configured.processes), on_output=on_output)
        reaper._names = configured.names
        reaper._root = directory
        return reaper

    def add(self, process: Process | plan.Process) -> None:
        """Add a process. Call this before entering the block.

        Raises ValueError for a duplicate name, UsageError once the reaper has started, and TypeError for any other
        object than a `Process`.
        """
        if not isinstance(process, Process | plan.Process):
            raise TypeError(f"{process!r} is not a Process")
        if self._supervisor is not None:
            raise UsageError("this reaper runs already", hint="add processes before entering its block")
        if any(other.name == process.name for other in self._processes):
            raise ValueError(f"two processes are named `{process.name}`")
        self._processes.append(process)

    def status(self) -> tuple[Status, ...]:
        """Return the status of all processes at one moment, in the order in which they were added.

        This also works after the block has ended. Raises UsageError before it begins.
        """
        return self._started.status()

    async def ready(self, *names: str, timeout: float | None = None) -> None:
        """Wait until these processes (default: all that start on their own) are up.

        A process is up once it has completed (a oneshot), is healthy (with a health check), or else runs.

        Raises NotReadyError if a process ends before it is up, TimeoutError after `timeout` seconds (default: no
        limit), and UnknownProcessError for an unknown name. Cancelling stops the wait and leaves the processes alone.
        """
        wanted = self._check_names(names or self._wanted)
        try:
            async with asyncio.timeout(timeout) as limit:
                for name in wanted:
                    await self._wait_until(name, _has_come_up)
        except TimeoutError:
            if not limit.expired():
                raise
            late = [status for status in self.status() if status.name in wanted and not status.up]
            late_states = ", ".join(f"`{status.name}` is {with_reason(status.state, status.reason)}" for status in late)
            raise TimeoutError(f"not ready after {timeout:g} s: {late_states}") from None

    async def start(self, *names: str) -> None:
        """Start these processes and wait until they are up. A process that already runs is left alone.

        Raises NotReadyError and UnknownProcessError as `ready` does. Cancelling stops the wait; the processes still
        start.
        """
        self._request(Start(self._check_names(names)))
        await self.ready(*names)

    async def stop(self, *names: str) -> None:
        """Stop these processes and wait until no child of them is left.

        All other processes continue, even those that depend on these. If another request starts a process again, `stop`
        waits only for the end of the run that it stops.

        Raises NotReadyError for a process that survives SIGKILL, and UnknownProcessError for an unknown name.
        Cancelling stops the wait; the processes still stop.
        """
        self._request(Stop(self._check_names(names)))
        before = await self._find_runs_when_asked(names)
        for name in names:
            await self._wait_until(name, lambda status: _has_stopped(status) or status.run > before[status.name])

    async def restart(self, *names: str) -> None:
        """Stop these processes, start a new run of each without back-off, and wait until they are up.

        Raises NotReadyError and UnknownProcessError as `ready` does; NotReadyError also if a later `stop` prevents the
        new run. Cancelling stops the wait; the processes still restart.
        """
        self._request(Restart(self._check_names(names)))
        before = await self._find_runs_when_asked(names)
        for name in names:
            await self._wait_until(name, lambda status: _has_come_up(status) and status.run > before[status.name])

    async def wait(self, *names: str) -> tuple[Status, ...]:
        """Wait until these processes (default: all that start on their own) have ended and will not restart.

        Returns their final status, in the order of the names. Raises UnknownProcessError for an unknown name.
        Cancelling stops the wait and leaves the processes alone.
        """
        known = self._check_names(names or self._wanted)
        return tuple([await self._wait_until(name, lambda status: status.ended) for name in known])

    def subscribe(self) -> Subscription:
        """Return a subscription to all notices from now on; its `snapshot` is the current status of all processes.

        The iteration ends with the reaper. A subscriber that is too slow loses notices and gets a `Dropped` with their
        number; it never delays a process. Raises UsageError while the reaper does not run.

        >>> async def print_notices(reaper: Reaper) -> None:
        ...     async for notice in reaper.subscribe():
        ...         print(notice)
        """
        subscription = Subscription(self._started.status(), self._unsubscribe)
        self._subscriptions.add(subscription)
        self._hub.add(subscription)
        return subscription

    def collector(self) -> Collector:
        """Return a collector of the metrics of these processes, for any registry of `prometheus_client`.

        All calls return the same collector. It counts from the first call on, so call this before entering the block.
        Any thread may collect, also before the reaper runs (without processes) and after it has ended. The metrics have
        the names and labels of `procreaper start --http`, which `docs/metrics.md` lists.

        Raises UsageError if `prometheus-client` is not installed.

        >>> prometheus_client.REGISTRY.register(reaper.collector())  # doctest: +SKIP
        """
        if self._collector is None:
            try:
                from procreaper.remote.metrics.collector import Collector
            except ImportError as error:
                if (error.name or "").partition(".")[0] != "prometheus_client":
                    raise
                message = "metrics need `prometheus-client`, which is not installed"
                raise UsageError(message, hint="pip install 'procreaper[http]'") from None
            counts = Counts()
            self._hub.add(counts)
            self._collector = Collector(lambda: () if self._supervisor is None else self._supervisor.snapshot(), counts)
        return self._collector

    async def __aenter__(self) -> Reaper:
        self._enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    def __enter__(self) -> BlockingReaper:
        from procreaper.library.blocking import BlockingReaper

        self._blocking = BlockingReaper(self)
        self._blocking.begin()
        return self._blocking

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._blocking is not None:
            self._blocking.end()

    def accept(self, notice: Notice) -> bool:
        """Receive a notice from the hub: wake waiting calls after a transition, and pass output to `on_output`."""
        if isinstance(notice, Transition):
            self._transition.set()
            self._transition = asyncio.Event()
        elif isinstance(notice, Output) and self._on_output is not None:
            try:
                self._on_output(notice.name, notice.data)
            except Exception:
                # The error belongs to the application; supervision continues.
                logging.getLogger("procreaper").exception("on_output failed for %s", notice.name)
        return True

    @property
    def _started(self) -> Supervisor:
        if self._supervisor is None:
            raise UsageError("this reaper does not run", hint="enter it first: `async with` or `with`")
        return self._supervisor

    @property
    def _wanted(self) -> tuple[str, ...]:
        return tuple(process.name for process in self._processes) if self._names is None else self._names

    def _enter(self) -> None:
        if self._supervisor is not None:
            raise UsageError("this reaper was started already", hint="make a new one")
        resolved = resolve_dependencies(self._processes)
        waiting = {
            process.name for process in self._processes if isinstance(process, Process) and not process.autostart
        }
        if self._names is None and waiting:
            self._names = tuple(process.name for process in self._processes if process.name not in waiting)
        for sink in (self, Log()):
            self._hub.add(sink)
        self._supervisor = Supervisor(
            Plan(resolved, self._names), publish=self._hub.publish, stays=True, root=self._root
        )
        self._running = asyncio.get_running_loop().create_task(self._supervisor.run(), name="procreaper")
        self._running.add_done_callback(self._finish)

    async def _leave(self) -> None:
        """Stop all processes and wait for their end. A cancellation meanwhile kills them, and is raised at the end."""
        running = self._running
        if running is None:
            return
        self._started.post(Shutdown(0, insistent=True))
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
                self._started.post(Shutdown(0, insistent=True))
        if cancelled is not None:
            raise cancelled
        running.result()

    def _finish(self, _: asyncio.Task[int]) -> None:
        for subscription in tuple(self._subscriptions):
            subscription.close()
        self._transition.set()

    def _unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        self._hub.remove(subscription)

    def _request(self, request: Event) -> None:
        if self._running is None or self._running.done():
            raise UsageError("this reaper does not run", hint="enter it first: `async with` or `with`")
        self._started.post(request)

    def _check_names(self, names: Iterable[str]) -> tuple[str, ...]:
        names = tuple(names)
        known = [process.name for process in self._processes]
        for name in names:
            if name not in known:
                hint = f"there is {enumerate_words(known, 'and')}" if known else "there is none"
                raise UnknownProcessError(f"there is no process `{name}`", hint=hint)
        return names

    async def _find_runs_when_asked(self, names: Iterable[str]) -> dict[str, int]:
        supervisor = self._started
        await supervisor.settled()
        return {name: supervisor.run_when_asked(name) for name in names}

    async def _wait_until(self, name: str, reached: Callable[[Status], bool]) -> Status:
        # The status must reflect all events that were posted before this call.
        await self._started.settled()
        while True:
            transition = self._transition
            status = next(status for status in self.status() if status.name == name)
            if reached(status):
                return status
            if self._running is None or self._running.done():
                raise NotReadyError(f"the reaper ended before `{name}` got there", status)
            await transition.wait()


def _has_come_up(status: Status) -> bool:
    if status.ended and not status.up:
        raise NotReadyError(f"`{status.name}` is {with_reason(status.state, status.reason)}", status)
    return status.up


def _has_stopped(status: Status) -> bool:
    if status.out_of_reach:
        raise NotReadyError(f"`{status.name}` cannot be stopped: it is {status.reason}", status)
    return status.ended
