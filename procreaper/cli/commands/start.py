"""`start`: run the app in this terminal until it ends.

Rules: import nothing slow before the files have been read, so that an error in them is reported at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from procreaper.cli.app.plan_source import PlanSource
from procreaper.cli.messages import print_error, print_problems, run_guarded
from procreaper.errors import ProcreaperError
from procreaper.output.text import Style
from procreaper.project.configure import Listen, Options
from procreaper.runtime.cleanup.guard import Guard
from procreaper.runtime.cleanup.orphans import add_mark, adopt_orphans
from procreaper.runtime.system.marks import GUARD_MARK, MARK_VARIABLE

if TYPE_CHECKING:
    import asyncio
    import socket
    from types import ModuleType

    from procreaper.cli.app.application import StartContext
    from procreaper.cli.app.background import Background
    from procreaper.project.address import Address

STDOUT = 1
STREAMS = (0, 1, 2)


def start(options: Options, style: Style, typed: frozenset[str] = frozenset()) -> int:
    """Run the app; return the exit status. Raises ConfigError for any error in the project.

    `typed` are the fields of the options given on the command line.
    """
    # First: the environments of the processes are copied from ours.
    path = add_mark(os.environ)
    source = PlanSource(options, terminal=style.terminal)
    configuration = source.configuration
    print_problems(configuration.warnings)
    plan = configuration.plan
    if not plan.processes or plan.names == ():
        why = (
            "no process is named, and none starts by default"
            if plan.processes
            else "the concurrency of every process type is 0"
        )
        print_error(f"procreaper: nothing to start: {why}")
        return 0
    lock = None
    if options.detach and not options.new:
        from procreaper.cli.commands.joining import join, lock_root

        lock = lock_root(options)
        status = None if lock is None else join(configuration, options, style, typed, lock)
        if status is not None:
            return status
    from procreaper.cli.commands.start_ports import find_taken_ports

    print_problems(taken.problem for taken in find_taken_ports(plan, options.root or options.app_root or "."))
    style = style._replace(timestamps=configuration.timestamps)
    if not options.detach:
        return _run(source, style, options, path)
    from procreaper.cli.app import background
    from procreaper.runtime.terminal.window import read_terminal_size

    window = read_terminal_size(STDOUT, os.environ)
    names = [process.name for process in plan.processes] if plan.names is None else plan.names
    is_app, descriptor = background.fork_app()
    if not is_app:
        from procreaper.cli.commands.start_report import WaitOptions, report_start
        from procreaper.project.options import parse_seconds

        limit = None if options.wait_timeout is None else parse_seconds(options.wait_timeout)
        awaited = WaitOptions(options.wait, limit, options.root or options.app_root)
        return report_start(descriptor, awaited, lambda: None if lock is None else lock.release())

    app = background.Background(descriptor, names, waits=options.wait, size=window)
    style = style._replace(terminal=False)
    return app.end(run_guarded(lambda: _run(source, style, options, path, app)))


def _run(source: PlanSource, style: Style, options: Options, path: str, background: Background | None = None) -> int:
    http = source.configuration.http
    listening = None if http is None else _listen(http)
    adoption = adopt_orphans()
    # Before the first child; the guard starts in parallel.
    guard = Guard(f"{MARK_VARIABLE}={path}", {MARK_VARIABLE: GUARD_MARK}, print_error)
    guard.start()

    plan = source.configuration.plan
    with_ssl = listening is not None or any(process.health is not None for process in plan.processes)
    asyncio = _import_asyncio(with_ssl=with_ssl)
    loop = asyncio.new_event_loop()
    _watch_children_by_descriptor(loop)
    guard.use_loop(loop)
    # Neither `asyncio.run` nor a close of the loop: both give SIGINT back its traceback before we are gone.
    with _preserve_terminal_modes() if background is None else nullcontext():
        from procreaper.cli.app.application import StartContext

        context = StartContext(guard, adoption, background, listening)
        status: int = loop.run_until_complete(_supervise(source, style, options, context))
    return status


def _listen(where: Listen) -> tuple[socket.socket, Address]:
    from procreaper.remote.http.listening import listen

    return listen(where)


def _preserve_terminal_modes() -> AbstractContextManager[None]:
    if not any(map(os.isatty, STREAMS)):
        return nullcontext()
    from procreaper.runtime.terminal.window import preserve_modes

    return preserve_modes()


async def _supervise(source: PlanSource, style: Style, options: Options, context: StartContext) -> int:
    from procreaper.cli.app.application import Application

    try:
        application = Application(source, style, options, context)
    except ProcreaperError:
        context.guard.kill()
        raise
    return await application.run()


def _import_asyncio(*, with_ssl: bool) -> ModuleType:
    """Import asyncio, without `ssl` if the app does not need it; that saves a seventh of the start-up time."""
    if not with_ssl and "ssl" not in sys.modules:
        # asyncio supports a Python that was built without ssl.
        sys.modules["ssl"] = None  # type: ignore[assignment]
        try:
            import asyncio
        finally:
            del sys.modules["ssl"]
    import asyncio

    return asyncio


def _watch_children_by_descriptor(loop: asyncio.AbstractEventLoop) -> None:
    """Make asyncio wait for children by pidfd. Before Python 3.12 its default is a thread for each child."""
    if sys.version_info >= (3, 12) or not hasattr(os, "pidfd_open"):
        return
    import asyncio

    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(loop)
    asyncio.set_child_watcher(watcher)
