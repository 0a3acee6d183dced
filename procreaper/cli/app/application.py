"""Run an app in this process: connect the supervisor with the outputs, the sockets and the signals.

Rules: this module connects the parts, and decides nothing about processes. It is imported after asyncio, and only when
the files are free of errors. Parts that only some apps need are imported where they are used.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from procreaper.cli.app.control_socket import ControlSocket
from procreaper.cli.app.plan_source import PlanSource
from procreaper.cli.app.signals import handle_signals, watch_window_size
from procreaper.cli.messages import make_output_error, print_error, print_problems
from procreaper.cli.rendering import make_format
from procreaper.core.events import Shutdown
from procreaper.core.plan import Plan
from procreaper.descriptors import RESERVE, import_with_reserve
from procreaper.errors import FAILED, INTERNAL_ERROR, READER_GONE, Problem, ProcreaperError, reason_of
from procreaper.output.history import History
from procreaper.output.hub import Hub
from procreaper.output.stdout import HIGH, HIGH_ON_SCREEN, NOBODY_READS, Terminal
from procreaper.output.text import Style
from procreaper.project.configure import Options
from procreaper.runtime.child.child import BIG_READ, SMALL_READ
from procreaper.runtime.cleanup.guard import Guard
from procreaper.runtime.cleanup.orphans import Adoption, Orphans
from procreaper.runtime.supervisor import Supervisor
from procreaper.runtime.system.marks import MARK_VARIABLE

if TYPE_CHECKING:
    import socket

    from procreaper.cli.app.background import Background
    from procreaper.cli.commands.ended import AppRecord
    from procreaper.output.log_files import LogFiles
    from procreaper.output.rotation import Passage
    from procreaper.project.address import Address
    from procreaper.remote.http.server import Server

STDIN, STDOUT, STDERR = 0, 1, 2
# The shortest time, in seconds, after which the unread output for a stalled reader is dropped.
PATIENCE = 5.0
# Warn about a slow reader after this many seconds.
WARN_AFTER = 1.0
FROM_ANOTHER = "in another terminal: procreaper ps, logs, attach, restart"


class StartContext(NamedTuple):
    """The parts that exist before the app: the guard, the adoption of orphans, the background and the HTTP socket.

    `background` is None if the app runs in this terminal, and `listening` is None without HTTP.
    """

    guard: Guard
    adoption: Adoption
    background: Background | None = None
    listening: tuple[socket.socket, Address] | None = None


class Application:
    """Runs the plan of `source` in the running loop. Raises ProcreaperError if a log file cannot be opened."""

    def __init__(self, source: PlanSource, style: Style, options: Options, context: StartContext) -> None:
        configuration = source.configuration
        self._source = source
        self._style = style
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._supervision: asyncio.Task[int] | None = None
        self._errors: list[BaseException] = []
        self._is_over = False
        self._quiet = set(configuration.quiet)
        self._logs = _list_written_files(configuration.plan)
        self._text = make_format(configuration.log_format, configuration.plan.processes, style)
        self._hub = Hub()
        self._history = History()
        self._files = self._open_files(configuration.plan)
        self._shown = context.background or self._open_terminal()
        self._orphans = Orphans(
            os.environ[MARK_VARIABLE],
            context.adoption,
            self._loop,
            say=lambda text: self._supervisor.say(text),
            add_process=context.guard.add_process,
            remove_process=context.guard.remove_process,
            watch_output=context.guard.watch_output,
            forget_output=context.guard.forget_output,
        )
        root = options.root or options.app_root or "."
        self._control = ControlSocket(
            root,
            self._hub,
            lambda: self._supervisor,
            source,
            self._history.tail,
            find=self._find_in_files,
            tried=self._on_control_socket,
        )
        # After the control socket: clients can connect before any output is shown.
        for sink in (self._history, self._shown, self._files):
            if sink is not None:
                self._hub.add(sink)
        # A program that runs procreaper in place of honcho would not know these lines.
        explains = style.terminal or configuration.supervised or context.background is not None
        if explains and options.procfile and options.root is None and not options.app_root and options.cwd is None:
            from procreaper.cli.app.misplaced import suggest_root

            # After the terminal: the hint follows the message that the run has ended.
            suggest_root(options, self._hub, lambda text: self._supervisor.say(text))
        self._root = root
        self._record: AppRecord | None = None
        self._supervisor = Supervisor(
            configuration.plan,
            publish=self._hub.publish,
            largest_read=SMALL_READ if style.terminal else BIG_READ,
            logs=self._logs,
            tracker=self._orphans,
            window=self._window,
            on_plan=self._use_plan,
            root=root,
            idle_input=context.background is not None,
            explains=explains,
            is_project_file=source.is_file,
            read_settings=self._read_settings,
        )

    async def run(self) -> int:
        """Supervise until the app has ended and all output is written; return the exit status."""
        self._supervision = asyncio.current_task()
        self._loop.set_exception_handler(self._on_loop_error)
        handle_signals(self._on_signal, self._supervisor.say)
        if self._style.terminal:
            watch_window_size(self._supervisor.resize)
        # Imports from here on may happen when no descriptor is left.
        RESERVE.keep()
        import_with_reserve()
        site = await self._serve()
        # All objects so far live as long as the app, so the collector can skip them.
        gc.freeze()
        gc.enable()
        code = INTERNAL_ERROR
        try:
            code = await self._supervisor.run()
            await self._orphans.end_leftovers(patience=self._longest_stop())
            self._dismiss_guard()
        except asyncio.CancelledError:
            raise self._errors[0] from None
        finally:
            self._is_over = True
            if site is not None:
                await site.end(code)
            patience = max(PATIENCE, self._longest_stop())
            if self._files is not None:
                # Before the terminal: the log files may report an error there.
                await self._files.drain(patience=patience)
            telling = self._loop.call_later(WARN_AFTER, _warn_slow_reader, patience)
            await self._shown.drain(patience=patience)
            telling.cancel()
            code = code if code or not self._shown.lost else FAILED
            self._record_end(code)
            await self._control.end(code, self._supervisor.end)
        return code

    def _dismiss_guard(self) -> None:
        if self._context.adoption.complete:
            self._context.guard.kill()
        else:
            # The guard finds by their mark the processes that we did not adopt.
            self._context.guard.end_leftovers()

    def _longest_stop(self) -> float:
        """The longest stop timeout of all processes, in seconds."""
        return max((process.stop.timeout for process in self._supervisor.processes), default=0.0)

    # Terminal and log files.

    def _open_terminal(self) -> Terminal:
        high = HIGH_ON_SCREEN if self._style.terminal else HIGH
        return Terminal(
            STDOUT, self._text, quiet=self._quiet, high=high, on_room=self._on_room, on_broken=self._on_broken
        )

    def _open_files(self, plan: Plan) -> LogFiles | None:
        if all(process.log is None for process in plan.processes):
            return None
        from procreaper.cli.app.open_logs import open_logs

        return open_logs(plan, self._source.project, on_room=self._on_room, say=lambda text: self._supervisor.say(text))

    def _use_plan(self, plan: Plan) -> None:
        """Take over a new plan of the supervisor: quiet processes, log files and colours."""
        self._quiet.clear()
        self._quiet.update(process.name for process in plan.processes if process.quiet)
        self._logs[:] = _list_written_files(plan)
        if self._files is None and any(process.log is not None for process in plan.processes):
            from procreaper.output.log_files import LogFiles

            try:
                self._files = LogFiles((), on_room=self._on_room, say=self._supervisor.say)
            except ProcreaperError as error:
                self._supervisor.say(f"no log file is written: {error.message}; `procreaper reload` tries it again")
            else:
                self._hub.add(self._files)
        if self._files is not None:
            self._files.assign(plan.processes)
        margin = self._text.margin
        self._text.expect(process.name for process in plan.processes)
        if self._text.margin != margin:
            self._supervisor.resize()

    async def _read_settings(self, name: str) -> None:
        from procreaper.cli.app.rereading import reread_settings

        await reread_settings(self._supervisor, self._source, name)

    def _window(self) -> os.terminal_size:
        from procreaper.runtime.terminal.window import read_terminal_size

        background = self._context.background
        return (
            read_terminal_size(STDOUT, os.environ, margin=self._text.margin) if background is None else background.size
        )

    # Events from outside.

    def _on_room(self) -> None:
        # The output must have room in both.
        if self._shown.has_room and (self._files is None or self._files.has_room):
            self._supervisor.resume()

    def _on_broken(self, error: OSError) -> None:
        if error.errno in NOBODY_READS:
            self._supervisor.post(Shutdown(READER_GONE, by="the end of the reader of its output"))
            return
        print_error(str(make_output_error(error)))
        self._supervisor.post(Shutdown(FAILED, by="the loss of its output"))

    def _on_signal(self, request: Shutdown) -> None:
        if self._is_over:
            self._shown.abandon()
            if self._files is not None:
                self._files.abandon()
        self._orphans.request_end()
        self._supervisor.post(request)

    def _on_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        if "handle" not in context:
            # For example a failed connection. asyncio would log it with a traceback, and continue.
            self._supervisor.say(f"{context['message']}: {error}")
            return
        # One of our callbacks raised it and did not finish its work, so the state of the app is unreliable.
        self._errors.append(error)
        if len(self._errors) == 1 and self._supervision is not None:
            self._supervision.cancel()

    # Control socket and HTTP.

    async def _serve(self) -> Server | None:
        """Serve status and metrics over HTTP, if the settings or the flags ask for it."""
        if self._context.listening is None:
            return None
        from procreaper.remote.http.server import Server

        site = Server(
            *self._context.listening,
            supervisor=self._supervisor,
            hub=self._hub,
            history=self._history,
            groups=lambda: self._source.configuration.groups,
            print_error=print_error,
        )
        await site.begin()
        return site

    def _on_control_socket(self, succeeded: bool) -> None:
        """Continue once the control socket is open, or could not be opened."""
        background, style = self._context.background, self._style
        if succeeded:
            self._record_start()
            self._warn_of_leftovers()
        if background is not None:
            if succeeded:
                background.ready(self._supervisor, self._last_lines)
            else:
                hint = "fix that, or start it without `-D`"
                print_problems(
                    [
                        Problem(
                            "`start -D` needs a control socket, so the app does not start",
                            hint=hint,
                        )
                    ]
                )
                self._supervisor.post(Shutdown(FAILED))
        elif succeeded and style.terminal and style.prefix and self._source.configuration.log_format == "text":
            self._supervisor.say(FROM_ANOTHER)
        if succeeded and background is None and style.terminal and os.isatty(STDIN):
            # Imported here: only a user at a terminal can type.
            from procreaper.cli.app.unread import watch_typing

            watch_typing(self._warn_of_unread_input)

    def _warn_of_unread_input(self) -> None:
        """Warn about an unread line. A process without its own terminal shares our input, and may read the line."""
        processes = self._supervisor.processes
        if all(process.pty or process.detached for process in processes):
            name = processes[0].name if len(processes) == 1 else "NAME"
            self._supervisor.say(f"no process reads what is typed here; in another terminal: procreaper attach {name}")

    # The record of the app, for after its end.

    def _record_start(self) -> None:
        """Write the record of a background app; in any case, remove the records of earlier apps."""
        if self._context.background is None:
            self._remove_old_records()
            return
        from procreaper.cli.commands.ended import AppRecord

        record = AppRecord(self._root, os.environ, lambda lines: self._history.tail(None, lines).notices)
        try:
            record.begin()
        except OSError as error:
            hint = "set XDG_STATE_HOME to a directory of your own"
            text = f"the end of the app will not be recorded: {error.filename}: {reason_of(error)}"
            print_problems([Problem(text, hint=hint, level="warning")])
        else:
            self._record = record

    def _warn_of_leftovers(self) -> None:
        from procreaper.remote.control.socket_directory import state_files

        if state_files(os.environ, ".json"):
            # Imported here: most projects have no detached process.
            from procreaper.cli.commands.leftovers import find_leftovers

            print_problems(find_leftovers(os.path.realpath(self._root), os.environ, self._supervisor.processes))

    def _remove_old_records(self) -> None:
        from procreaper.remote.control.socket_directory import hash_root, state_files

        root = os.path.realpath(self._root)
        if any(name.startswith(hash_root(root)) for name in state_files(os.environ, ".app")):
            # Imported here: most users have no app in the background.
            from procreaper.cli.commands.ended import remove_old_records

            remove_old_records(root, os.environ)

    def _record_end(self, code: int) -> None:
        if self._record is None:
            return
        from procreaper.cli.messages import describe_error

        error = sys.exc_info()[1]
        reason = "" if error is None else f"internal error: {describe_error(error)}"
        end = self._supervisor.end if error is None else None
        try:
            self._record.end(code, end, reason)
        except OSError as failure:
            print_error(
                str(Problem(f"the end of the app could not be recorded: {reason_of(failure)}", level="warning"))
            )

    def _last_lines(self, name: str) -> bytes:
        from procreaper.cli.app.background import render_last_lines

        plain = make_format("text", self._supervisor.processes, self._style)
        return render_last_lines(self._supervisor.process(name), self._history, plain)

    def _find_in_files(self, name: str, size: int) -> Passage | None:
        return None if self._files is None else self._files.find(name, size)


def _warn_slow_reader(patience: float) -> None:
    """Say what the shutdown waits for, unless standard error is full too, and would block."""
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    if poll.poll(0):
        text = f"waiting up to {patience:g} s for its output to be read"
        print_error(
            str(Problem(text, hint="another signal ends the wait, and the unread output is lost", level="warning"))
        )


def _list_written_files(plan: Plan) -> list[str]:
    """The files that procreaper writes while this plan runs."""
    return [*_list_own_files(), *(process.log.path for process in plan.processes if process.log is not None)]


def _list_own_files() -> list[str]:
    """The files behind standard output and standard error, if the system shows their names."""
    found = []
    for descriptor in (STDOUT, STDERR):
        with suppress(OSError):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return found
