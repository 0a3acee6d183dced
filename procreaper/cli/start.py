"""`start`: run the application in this terminal until it ends.

Rules: nothing heavy is imported before the files have been read, so that a mistake in them is answered at once.
"""

from __future__ import annotations

import gc
import os
import stat
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from procreaper.cli.problems import complain, report
from procreaper.cli.project import Source
from procreaper.cli.rendering import make_format
from procreaper.config import Listen, Options
from procreaper.errors import Problem, ProcreaperError
from procreaper.formats import Style
from procreaper.guard import Guard
from procreaper.kinship import GUARD, VARIABLE
from procreaper.orphans import Adoption, Orphans, add_mark, adopt

if TYPE_CHECKING:
    import asyncio
    import socket
    from types import ModuleType

    from procreaper.address import Address
    from procreaper.cli.background import Background
    from procreaper.output.files import LogFiles
    from procreaper.output.rotation import Passage
    from procreaper.plan import Plan

STDOUT, STDERR = 1, 2
STREAMS = (0, 1, 2)
# What a shell reports when a program ended because the reader of its output had gone (128 + SIGPIPE).
READER_GONE = 141
OUTPUT_LOST = 1
UNREACHABLE = 1
INTERNAL_ERROR = 70
# So many seconds a reader may rest before what it has not read is given up, at least.
PATIENCE = 5.0
FROM_ANOTHER = "from a second terminal: procreaper ps, logs -f, attach NAME, restart NAME"


def start(options: Options, style: Style) -> int:
    """Run the application; the answer is the exit status. Raises ConfigError for anything wrong with the project."""
    # Before the environments of the processes are made of ours.
    path = add_mark(os.environ)
    source = Source(options, terminal=style.terminal)
    configuration = source.configuration
    report(configuration.warnings)
    plan = configuration.plan
    if not plan.processes or plan.names == ():
        why = (
            "nothing is named, and nothing starts by itself"
            if plan.processes
            else "every process type has a concurrency of 0"
        )
        complain(f"procreaper: nothing to start: {why}")
        return 0
    style = style._replace(timestamps=configuration.timestamps)
    if not options.detach:
        return _run(source, style, options, path)
    from procreaper.cli import background
    from procreaper.screen import size

    window = size(STDOUT, os.environ)
    names = [process.name for process in plan.processes] if plan.names is None else plan.names
    is_app, descriptor = background.part()
    if not is_app:
        from procreaper.choices import read_seconds
        from procreaper.cli.arrival import Wanted, attend

        limit = None if options.wait_timeout is None else read_seconds(options.wait_timeout)
        return attend(descriptor, Wanted(options.wait, limit, options.root or options.app_root))
    from procreaper.cli.main import guarded

    app = background.Background(descriptor, names, waits=options.wait, size=window)
    style = style._replace(terminal=False)
    return app.end(guarded(lambda: _run(source, style, options, path, app)))


def _run(source: Source, style: Style, options: Options, path: str, background: Background | None = None) -> int:
    http = source.configuration.http
    listening = None if http is None else _listen(http)
    adoption = adopt()
    # Before there is anything to be guarded; it comes up while we go on.
    guard = Guard(f"{VARIABLE}={path}", {VARIABLE: GUARD}, complain)
    guard.start()

    plan = source.configuration.plan
    with_ssl = listening is not None or any(process.health is not None for process in plan.processes)
    asyncio = _import_asyncio(with_ssl=with_ssl)
    loop = asyncio.new_event_loop()
    _watch_children_by_descriptor(loop)
    guard.attend(loop)
    # Neither `asyncio.run` nor a close of the loop: both give SIGINT back its traceback before we are gone.
    with _kept_modes() if background is None else nullcontext():
        supervising = _supervise(source, style, guard, adoption, options, background, listening)
        status: int = loop.run_until_complete(supervising)
    return status


def _listen(where: Listen) -> tuple[socket.socket, Address]:
    from procreaper.http.listening import listen

    return listen(where)


def _kept_modes() -> AbstractContextManager[None]:
    if not any(map(os.isatty, STREAMS)):
        return nullcontext()
    from procreaper.screen import kept_modes

    return kept_modes()


async def _supervise(
    source: Source,
    style: Style,
    guard: Guard,
    adoption: Adoption,
    options: Options,
    background: Background | None,
    listening: tuple[socket.socket, Address] | None,
) -> int:
    import asyncio

    from procreaper.child import BIG_READ, SMALL_READ
    from procreaper.cli.serve import Control
    from procreaper.events import Shutdown
    from procreaper.output.history import History
    from procreaper.output.hub import Hub
    from procreaper.output.terminal import HIGH, HIGH_ON_SCREEN, Terminal
    from procreaper.output.terminal import READER_GONE as GONE
    from procreaper.reaper import Owner
    from procreaper.signals import follow_window, signals_as_requests

    configuration = source.configuration
    quiet = set(configuration.quiet)
    logs = _written_files(configuration.plan)
    files: LogFiles | None = None

    def on_plan(plan: Plan) -> None:
        quiet.clear()
        quiet.update(process.name for process in plan.processes if process.quiet)
        nonlocal files
        logs[:] = _written_files(plan)
        if files is None and any(process.log is not None for process in plan.processes):
            from procreaper.output.files import LogFiles

            files = LogFiles((), on_room=on_room, say=owner.say)
            hub.add(files)
        if files is not None:
            files.assign(plan.processes)

    def patience() -> float:
        """How long whoever is slowest to end may take, in seconds."""
        return max((process.ending.timeout for process in owner.processes), default=0.0)

    def on_broken(error: OSError) -> None:
        if error.errno in GONE:
            owner.post(Shutdown(READER_GONE))
            return
        reason = (error.strerror or str(error)).lower()
        problem = Problem(f"standard output cannot be written: {reason}", hint="make room, or redirect it elsewhere")
        complain(str(problem))
        owner.post(Shutdown(OUTPUT_LOST))

    def on_room() -> None:
        # What one of them has room for must not be pressed upon the other.
        if terminal.has_room and (files is None or files.has_room):
            owner.resume()

    def find(name: str, size: int) -> Passage | None:
        return None if files is None else files.find(name, size)

    def on_signal(request: Shutdown) -> None:
        if over.is_set():
            terminal.abandon()
            if files is not None:
                files.abandon()
        orphans.insist()
        owner.post(request)

    def on_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        if "handle" not in context:
            # A connection that failed, for one: asyncio would log it with its traceback, and goes on.
            owner.say(f"{context['message']}: {error}")
            return
        # A callback of ours raised it; what it was to do stays undone, so nothing can be relied upon any more.
        errors.append(error)
        if len(errors) == 1 and supervising is not None:
            supervising.cancel()

    def window() -> os.terminal_size:
        from procreaper.screen import size

        return size(STDOUT, os.environ, margin=text.margin) if background is None else background.size

    def tail(name: str) -> bytes:
        from procreaper.cli.background import last_lines

        plain = make_format("text", owner.processes, style)
        return last_lines(owner.process(name), history, plain)

    def control_tried(succeeded: bool) -> None:
        if background is not None:
            if succeeded:
                background.ready(owner, tail)
            else:
                owner.post(Shutdown(UNREACHABLE))
        elif succeeded and style.terminal and style.prefix and configuration.log_format == "text":
            owner.say(FROM_ANOTHER)

    errors: list[BaseException] = []
    supervising = asyncio.current_task()
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    over = asyncio.Event()
    text = make_format(configuration.log_format, configuration.plan.processes, style)
    high, largest_read = (HIGH_ON_SCREEN, SMALL_READ) if style.terminal else (HIGH, BIG_READ)
    if any(process.log is not None for process in configuration.plan.processes):
        from procreaper.cli.logfiles import open_logs

        try:
            files = open_logs(configuration.plan, options, on_room=on_room, say=lambda text: owner.say(text))
        except ProcreaperError:
            guard.dismiss()
            raise
    terminal = background or Terminal(STDOUT, text, quiet=quiet, high=high, on_room=on_room, on_broken=on_broken)
    orphans = Orphans(
        os.environ[VARIABLE],
        adoption,
        asyncio.get_running_loop(),
        say=lambda text: owner.say(text),
        enlist=guard.enlist,
        discharge=guard.discharge,
    )
    hub = Hub()
    root = options.root or options.app_root or "."
    history = History()
    control = Control(root, hub, lambda: owner, source, history.tail, find=find, tried=control_tried)
    # Behind the one above: what is shown is told after the socket is there.
    for sink in (history, terminal, files):
        if sink is not None:
            hub.add(sink)
    owner = Owner(
        configuration.plan,
        publish=hub.publish,
        largest_read=largest_read,
        logs=logs,
        custody=orphans,
        window=window,
        on_plan=on_plan,
        root=root,
    )
    signals_as_requests(on_signal, owner.say)
    if style.terminal:
        follow_window(owner.resize)
    site = None
    if listening is not None:
        from procreaper.http.server import Server

        site = Server(
            *listening,
            owner=owner,
            hub=hub,
            history=history,
            groups=lambda: source.configuration.groups,
            complain=complain,
        )
        await site.begin()
    # What has been made so far stays for good.
    gc.freeze()
    gc.enable()
    code = INTERNAL_ERROR
    try:
        code = await owner.run()
        await orphans.end(patience=patience())
        if adoption.complete:
            guard.dismiss()
        else:
            # It finds by their mark those who did not come to us.
            guard.release()
    except asyncio.CancelledError:
        raise errors[0] from None
    finally:
        over.set()
        if site is not None:
            await site.end(code)
        if files is not None:
            # It may have something to tell.
            await files.drain(patience=max(PATIENCE, patience()))
        await terminal.drain(patience=max(PATIENCE, patience()))
        code = code if code or not terminal.lost else OUTPUT_LOST
        await control.end(code)
    return code


def _import_asyncio(*, with_ssl: bool) -> ModuleType:
    """Import asyncio, without `ssl` where nothing will need it: that is a seventh of the time until the first child."""
    if not with_ssl and "ssl" not in sys.modules:
        # asyncio provides for a Python that was built without it.
        sys.modules["ssl"] = None  # type: ignore[assignment]
        try:
            import asyncio
        finally:
            del sys.modules["ssl"]
    import asyncio

    return asyncio


def _written_files(plan: Plan) -> list[str]:
    """The files that we write while this plan runs."""
    return [*_own_files(), *(process.log.path for process in plan.processes if process.log is not None)]


def _own_files() -> list[str]:
    """The files that our standard output and error go to, as far as the system tells their names."""
    found = []
    for descriptor in (STDOUT, STDERR):
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return found


def _watch_children_by_descriptor(loop: asyncio.AbstractEventLoop) -> None:
    """Before Python 3.12 asyncio waits for each child in a thread of its own, unless told otherwise."""
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
