"""The library: supervise processes from within a Python program.

Rules: touches no signal handler, no root logger and no global, and waits for no process but its own; works in the loop
of any thread. Nothing here decides about processes: it posts requests to the owner and waits for what becomes of them.
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
from procreaper.library.process import resolve
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
    """Supervises processes for as long as its block lasts.

    ``async with Reaper([...]) as reaper:`` runs them in this loop; ``with Reaper([...]) as reaper:`` in a thread of its
    own, and what is awaited below blocks there. Entering starts everything and does not wait for it (`ready` does);
    leaving it, also by an exception or a cancellation, stops everything in order and waits until nothing is left.
    Supervision is logged by the `procreaper` logger; `on_output(name, data)` gets what the processes write, in whole
    lines, in the thread of the loop, and must not block.

    Raises ValueError for a name given twice, an unknown dependency, or a dependency cycle.
    """

    def __init__(
        self, processes: Iterable[plan.Process] = (), *, on_output: Callable[[str, bytes], None] | None = None
    ) -> None:
        self._processes: list[plan.Process] = []
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
        if isinstance(processes, plan.Process):
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
        """The processes of a Procfile, with the ``.env`` and ``.reaper.toml`` beside it, as `procreaper start` does.

        `names` are the process types to start (default: all), `env` the environment files separated by commas, `config`
        another file than ``.reaper.toml``. No process ends the others (`stop_all` is ``never``). Raises ConfigError
        with every problem found.
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
        configured = configure(options, os.environ, find_port=ports.find).plan
        reaper = cls((process._replace(stop_all=When.NEVER) for process in configured.processes), on_output=on_output)
        reaper._names = configured.names
        reaper._root = directory
        return reaper

    def add(self, process: plan.Process) -> None:
        """Supervise this one too. Raises ValueError for a name given twice, UsageError once the reaper runs.

        Raises TypeError for what is no `Process`.
        """
        if not isinstance(process, plan.Process):
            raise TypeError(f"{process!r} is not a Process")
        if self._supervisor is not None:
            raise UsageError("this reaper runs already", hint="add processes before entering its block")
        if any(other.name == process.name for other in self._processes):
            raise ValueError(f"two processes are named `{process.name}`")
        self._processes.append(process)

    def status(self) -> tuple[Status, ...]:
        """What every process is doing, all at the same moment. Also tells after the end. Raises UsageError before."""
        return self._started.status()

    async def ready(self, *names: str, timeout: float | None = None) -> None:
        """Wait until these processes (default: all that start by themselves) are up.

        Up means completed for a oneshot, healthy with a health check, else running. Raises NotReadyError when one of
        them has ended instead, TimeoutError after `timeout` seconds, UnknownProcessError. Cancelling changes nothing.
        """
        wanted = self._known(names or self._wanted)
        try:
            async with asyncio.timeout(timeout) as limit:
                for name in wanted:
                    await self._until(name, _has_come_up)
        except TimeoutError:
            if not limit.expired():
                raise
            late = [status for status in self.status() if status.name in wanted and not status.up]
            told = ", ".join(f"`{status.name}` is {with_reason(status.state, status.reason)}" for status in late)
            raise TimeoutError(f"not ready after {timeout:g} s: {told}") from None

    async def start(self, *names: str) -> None:
        """Start these and wait until they are up; raises as `ready`. What runs already is left alone."""
        self._request(Start(self._known(names)))
        await self.ready(*names)

    async def stop(self, *names: str) -> None:
        """Stop these and wait until nothing of them is left; others go on, also those that depend on them.

        Where a later request starts one again, the wait is for the end of the run that was to be stopped. Raises
        NotReadyError for one that even SIGKILL does not end, UnknownProcessError. Cancelling changes nothing.
        """
        self._request(Stop(self._known(names)))
        before = await self._runs_when_asked(names)
        for name in names:
            await self._until(name, lambda status: _has_ended(status) or status.run > before[status.name])

    async def restart(self, *names: str) -> None:
        """Stop these, start a new run of each, without back-off, and wait until they are up; raises as `ready`.

        So it raises NotReadyError where a later `stop` leaves no new run.
        """
        self._request(Restart(self._known(names)))
        before = await self._runs_when_asked(names)
        for name in names:
            await self._until(name, lambda status: _has_come_up(status) and status.run > before[status.name])

    async def wait(self, *names: str) -> tuple[Status, ...]:
        """Wait until these (default: all that start by themselves) have ended for good, and return their status."""
        known = self._known(names or self._wanted)
        return tuple([await self._until(name, lambda status: status.ended) for name in known])

    def subscribe(self) -> Subscription:
        """Follow everything that happens: `snapshot` is the state now, iterating gives every notice from now on.

        ``async for notice in subscription``; it ends with the reaper. A follower that is too slow loses notices and is
        told how many (`Dropped`); it never holds up a process. Raises UsageError while the reaper does not run.
        """
        subscription = Subscription(self._started.status(), self._unsubscribe)
        self._subscriptions.add(subscription)
        self._hub.add(subscription)
        return subscription

    def collector(self) -> Collector:
        """A collector of the metrics of these processes, for any registry of `prometheus_client`.

        It counts from the first call on, so call it before entering; all calls give the same one. It can be asked in
        any thread, before the reaper runs (there are no processes then) and after. Names and labels of the metrics are
        those of `procreaper start --http`. Raises UsageError where `prometheus-client` is not installed.

        >>> prometheus_client.REGISTRY.register(reaper.collector())  # doctest: +SKIP
        """
        if self._collector is None:
            try:
                from procreaper.remote.metrics.collector import Collector
            except ImportError as error:
                if (error.name or "").partition(".")[0] != "prometheus_client":
                    raise
                message = "to collect metrics takes `prometheus-client`, which is not installed"
                raise UsageError(message, hint="pip install 'procreaper[http]'") from None
            counts = Counts()
            self._hub.add(counts)
            self._collector = Collector(lambda: () if self._supervisor is None else self._supervisor.look(), counts)
        return self._collector

    async def __aenter__(self) -> Reaper:
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

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
        """Take a notice from the hub, which may end a wait."""
        if isinstance(notice, Transition):
            self._transition.set()
            self._transition = asyncio.Event()
        elif isinstance(notice, Output) and self._on_output is not None:
            try:
                self._on_output(notice.name, notice.data)
            except Exception:
                # The error is the application's; supervision goes on.
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

    def _begin(self) -> None:
        if self._supervisor is not None:
            raise UsageError("this reaper was started already", hint="make a new one")
        resolved = resolve(self._processes)
        if self._names is None and any(not getattr(process, "autostart", True) for process in self._processes):
            self._names = tuple(process.name for process in self._processes if getattr(process, "autostart", True))
        for sink in (self, Log()):
            self._hub.add(sink)
        self._supervisor = Supervisor(
            Plan(resolved, self._names), publish=self._hub.publish, stays=True, root=self._root
        )
        self._running = asyncio.get_running_loop().create_task(self._supervisor.run(), name="procreaper")
        self._running.add_done_callback(self._has_ended)

    async def _end(self) -> None:
        """Stop everything and wait; a cancellation meanwhile makes it quick and is passed on at the end."""
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

    def _has_ended(self, _: asyncio.Task[int]) -> None:
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

    def _known(self, names: Iterable[str]) -> tuple[str, ...]:
        names = tuple(names)
        known = [process.name for process in self._processes]
        for name in names:
            if name not in known:
                hint = f"there is {enumerate_words(known, 'and')}" if known else "there is none"
                raise UnknownProcessError(f"there is no process `{name}`", hint=hint)
        return names

    async def _runs_when_asked(self, names: Iterable[str]) -> dict[str, int]:
        supervisor = self._started
        await supervisor.settled()
        return {name: supervisor.run_when_asked(name) for name in names}

    async def _until(self, name: str, reached: Callable[[Status], bool]) -> Status:
        # What was posted just now has to have been seen before the state tells anything.
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


def _has_ended(status: Status) -> bool:
    if status.out_of_reach:
        raise NotReadyError(f"`{status.name}` cannot be stopped: it is {status.reason}", status)
    return status.ended
