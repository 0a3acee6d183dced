"""`logs`: print the output of the processes, and with `-f` also new output, in the format of `start`.

Rules: a slow reader never delays the app. The app drops output that comes too fast, and `logs` reports the gap. If no
app runs, read the log files instead.

Theory of operation. Each app sends the output that it keeps in memory, and then the new output, without a gap. It also
sends the place in the log file where the kept output begins, and earlier lines are read from the file. The notices of
several apps are merged by time. A detached process writes its log file itself, and this module reads that file.
"""

from __future__ import annotations

import heapq
import os
import select
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from procreaper.cli.find_app import AppSelector, NoAppError, assign_names, find_apps, interruptible
from procreaper.cli.messages import make_output_error, print_error, print_result
from procreaper.cli.rendering import LONG_AGO, make_format
from procreaper.core import events
from procreaper.core.events import Exit, Notice, Output, State
from procreaper.core.plan import Process
from procreaper.errors import FAILED, INTERRUPTED, USAGE_ERROR, ConfigError, Problem, ProcreaperError, reason_of
from procreaper.output.log_tail import RotatedLog
from procreaper.output.text import Format, Style
from procreaper.project.configure import Options
from procreaper.project.options import LOG_FORMATS
from procreaper.remote.api import protocol
from procreaper.remote.control.client import Client, GoneError

if TYPE_CHECKING:
    from procreaper.cli.commands.ended import EndedApp

STDOUT = 1
# The number of lines of a process that are shown with the reason for the end of its app.
SHOWN_LINES = 20
ALL = "all"
# Milliseconds between two checks of the log file of a detached process.
POLL_INTERVAL = 150


class LogSelection(NamedTuple):
    """The output to print: the last `lines` of each process (None: all kept lines), and the format."""

    names: tuple[str, ...] = ()
    lines: int | None = None
    follow: bool = False
    log_format: str = "text"


def parse_selection(names: Sequence[str], lines: str | None, log_format: str, *, follow: bool) -> LogSelection:
    """Read the flags. Raises ProcreaperError for an unknown format or a wrong number of lines."""
    if log_format not in LOG_FORMATS:
        hint = "use `text` or `json`"
        raise ProcreaperError(f"--log-format {log_format}: there is no such format", hint=hint, exit_code=USAGE_ERROR)
    number = None
    if lines not in (None, ALL):
        if not (lines.isascii() and lines.isdecimal()) or len(lines) > 9:
            hint = "write a number such as `-n 100`, or `all`"
            raise ProcreaperError(f"-n {lines}: not a number of lines", hint=hint, exit_code=USAGE_ERROR)
        number = int(lines)
    return LogSelection(tuple(names), number, follow, log_format)


def show_logs(place: AppSelector, options: Options, style: Style, selection: LogSelection) -> int:
    """Print the selected output; return the exit status. Raises NoAppError if no app runs and no output is kept."""
    try:
        with interruptible(), ExitStack() as stack:
            try:
                apps = find_apps(place)
            except NoAppError as error:
                if selection.follow:
                    raise
                return _show_ended_app(options, style, selection, error)
            for app in apps:
                stack.enter_context(app)
            return _show_apps(apps, style, selection, stack)
    except KeyboardInterrupt:
        if style.terminal:
            # Put the prompt on a new line, after the `^C`.
            print_result("")
        return INTERRUPTED


class _Screen:
    """Standard output, in a format."""

    def __init__(self, format_: Format) -> None:
        self._format = format_

    def show(self, notice: Notice) -> None:
        self._write(self._format.render(notice))

    def end(self) -> None:
        self._write(self._format.finish())

    def _write(self, data: bytes) -> None:
        """Raises BrokenPipeError if the reader is gone, OutputError if the write fails."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(STDOUT, view) :]
            except BlockingIOError:
                # Another process that shares our standard output has made it non-blocking.
                poll = select.poll()
                poll.register(STDOUT, select.POLLOUT)
                poll.poll()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise make_output_error(error) from error


def _show_apps(apps: Sequence[Client], style: Style, selection: LogSelection, stack: ExitStack) -> int:
    processes = [process for app in apps for process in app.ask(protocol.StatusRequest(0)).processes]
    # Filter all output. A process that wrote to a pipe did not write for this terminal, and its lines may contain text
    # of strangers, for example in an access log.
    screen = _Screen(make_format(selection.log_format, processes, style, filter_all=style.terminal))
    followed: list[Client] = []
    tails: dict[str, RotatedLog] = {}
    for app, names in assign_names(selection.names, apps):
        request = protocol.FollowRequest(0, names, output=True, lines=selection.lines, until_now=not selection.follow)
        found = app.ask(request)
        followed.append(app)
        _warn_of_missing_lines(found, selection)
        for process in found.processes:
            if (place := found.earlier.get(process.name)) is not None and process.log is not None:
                before = (place.device, place.inode, place.offset)
                for data in _read_log(process.log, place.lines, before):
                    screen.show(Output(LONG_AGO, process.name, data))
            if process.detached and process.log is not None:
                try:
                    tails[process.name] = stack.enter_context(RotatedLog(process.log))
                except OSError as error:
                    _warn_unreadable(process.log, error)
    for name, tail in tails.items():
        for data in tail.last_lines(selection.lines):
            screen.show(Output(LONG_AGO, name, data))
    if selection.follow:
        status = _follow(followed, tails, screen)
    else:
        status = 0
        for notice in heapq.merge(*(app.rest() for app in followed), key=lambda notice: notice.time):
            _show_notice(notice, screen)
    screen.end()
    return status


def _follow(apps: Iterable[Client], tails: dict[str, RotatedLog], screen: _Screen) -> int:
    """Show new output until all apps have ended, or the reader is gone; return the exit status."""
    status = 0
    following = {app.fileno(): app for app in apps}
    poll = select.poll()
    poll.register(STDOUT, 0)
    for descriptor in following:
        poll.register(descriptor, select.POLLIN)
    ready = [(descriptor, select.POLLIN) for descriptor in following]
    while following:
        arrived: list[protocol.AnyNotice] = []
        for descriptor, _ in ready:
            if descriptor == STDOUT:
                raise BrokenPipeError
            try:
                told = following[descriptor].arrived()
            except GoneError as error:
                print_error(str(error))
                status = FAILED
                poll.unregister(descriptor)
                del following[descriptor]
                continue
            arrived += told
            if told and isinstance(told[-1], protocol.GoodbyeNotice):
                poll.unregister(descriptor)
                del following[descriptor]
        for notice in sorted(arrived, key=lambda notice: notice.time):
            _show_notice(notice, screen)
        for name, tail in tails.items():
            for data in tail.grown():
                screen.show(Output(time.time(), name, data))
        if following:
            ready = poll.poll(POLL_INTERVAL if tails else None)
    return status


def _show_notice(notice: protocol.AnyNotice, screen: _Screen) -> None:
    if isinstance(notice, protocol.DroppedNotice):
        print_error(
            f"procreaper: {notice.notices:,} notices, with {notice.bytes:,} bytes of output, are missing here: "
            "they came faster than they were read"
        )
    elif (event := to_event(notice)) is not None:
        screen.show(event)


def to_event(notice: protocol.AnyNotice) -> Notice | None:
    """Turn a notice of the protocol into one of the app; return None if it is not shown."""
    match notice:
        case protocol.OutputNotice(time=time, name=name, data=data):
            return Output(time, name, data)
        case protocol.BeganNotice(time=time, name=name, pid=pid, pty=pty):
            return events.RunBegan(time, name, pid, pty, notice.since)
        case protocol.EndedNotice(time=time, name=name, pid=ended, code=code, signal=number):
            return events.RunEnded(time, name, ended, Exit(code, number), notice.reason, notice.asked)
        case protocol.SignalNotice(time=time, name=name, pid=pid, signal=number):
            return events.SignalSent(time, name, pid, number)
        case protocol.TransitionNotice(code=code, signal=number):
            return events.Transition(
                time=notice.time,
                name=notice.name,
                before=State(notice.before),
                state=State(notice.state),
                reason=notice.reason,
                retries=notice.retries,
                backoff=notice.backoff,
                exit=None if code is None and number is None else Exit(code, number),
                reason_before=notice.reason_before,
            )
        case protocol.RemovedNotice(time=time, name=name):
            return events.Removed(time, name)
        case protocol.MessageNotice(time=time, text=text):
            return events.Message(time, text)
        case _:
            return None


def _warn_of_missing_lines(found: protocol.FollowResult, selection: LogSelection) -> None:
    logs = {process.name: process.log for process in found.processes}
    for name in found.truncated if selection.lines is not None else ():
        if name in found.earlier:
            continue
        log = logs.get(name)
        hint = "`log` in .reaper.toml keeps more" if log is None else f"`{log}` has more"
        print_error(str(Problem(f"fewer lines of {name} are kept than {selection.lines}", hint=hint, level="warning")))


def _warn_unreadable(path: str, error: OSError) -> None:
    reason = reason_of(error)
    print_error(str(Problem(f"`{path}` cannot be read: {reason}", level="warning")))


# If no app runs.


def last_lines(ended: EndedApp, name: str, style: Style) -> str:
    """Return the last lines of one process of an ended app, as `logs` prints them."""
    notices = _read_notices(ended, LogSelection((name,), SHOWN_LINES))
    text = make_format("text", _list_names(notices), style)
    outputs = [notice for notice in notices if isinstance(notice, Output)]
    return os.fsdecode(b"".join(map(text.render, outputs)) + text.finish()).removesuffix("\n")


def _show_ended_app(options: Options, style: Style, selection: LogSelection, error: NoAppError) -> int:
    """Show the output of an ended app: its log files, else the last lines in its record."""
    if error.last is None:
        directory = options.root or options.app_root or "."
        if not os.path.exists(os.path.join(directory, options.procfile or "Procfile")):
            # `logs` has no flag for the Procfile, so its absence is not an error of the user.
            raise error
        return _show_files(options, style, selection, error)
    try:
        return _show_files(options, style, selection, error)
    except (ConfigError, NoAppError):
        notices = _read_notices(error.last, selection)
    if not notices:
        raise error
    print_error(
        f"procreaper: {error.message}: showing the last lines that were kept\n  {error.last.explain(time.time())}"
    )
    screen = _Screen(make_format(selection.log_format, _list_names(notices), style))
    for notice in notices:
        screen.show(notice)
    screen.end()
    return 0


def _read_notices(ended: EndedApp, selection: LogSelection) -> Sequence[Notice]:
    """Read the last lines of the selected processes from the record of an ended app."""
    import msgspec

    from procreaper.core.selection import choose
    from procreaper.output.history import History

    history = History()
    names: dict[str, None] = {}
    for line in ended.notices.splitlines():
        try:
            event = to_event(msgspec.json.decode(line, type=protocol.AnyNotice))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if event is not None:
            history.accept(event)
            names[getattr(event, "name", "")] = None
    chosen = choose(selection.names, {})
    return history.tail({name for name in names if name and chosen(name)}, selection.lines).notices


class _Name(NamedTuple):
    """A process, for a format. It may have had a terminal, so its output must be filtered."""

    name: str
    pty: bool = True


def _list_names(notices: Iterable[Notice]) -> list[_Name]:
    return [_Name(name) for name in dict.fromkeys(getattr(notice, "name", "") for notice in notices) if name]


def _show_files(options: Options, style: Style, selection: LogSelection, error: NoAppError) -> int:
    from procreaper.cli.app.plan_source import inspect_files
    from procreaper.core.selection import select
    from procreaper.project.configure import raise_errors

    _, configuration = inspect_files(options)
    raise_errors(configuration.warnings)
    processes = configuration.plan.processes
    chosen = set(select(selection.names or (ALL,), processes, configuration.groups))
    logs: dict[str, list[Process]] = {}
    for process in processes:
        if process.name in chosen and process.log is not None:
            logs.setdefault(process.log.path, []).append(process)
    if not logs:
        hint = "`procreaper start` starts it; `log` in .reaper.toml keeps what it writes"
        raise NoAppError(error.message, hint=hint)
    print_error(f"procreaper: {error.message}: showing its log files")
    # The files may contain output for a terminal.
    shown = [process._replace(pty=style.terminal) for process in processes]
    shown += [process._replace(name=_label(sharing), pty=style.terminal) for sharing in logs.values()]
    screen = _Screen(make_format(selection.log_format, {process.name: process for process in shown}.values(), style))
    for path, sharing in logs.items():
        for data in _read_log(path, selection.lines):
            screen.show(Output(LONG_AGO, _label(sharing), data))
    screen.end()
    return 0


def _label(sharing: Sequence[Process]) -> str:
    """Return the name that a log is shown under: that of its only process, else of its only type, else of the file."""
    if len(sharing) == 1:
        return sharing[0].name
    types = {process.type for process in sharing}
    path = "" if sharing[0].log is None else sharing[0].log.path
    return types.pop() if len(types) == 1 else os.path.basename(path)


def _read_log(path: str, lines: int | None, before: tuple[int, int, int] | None = None) -> Iterator[bytes]:
    try:
        with RotatedLog(path) as tail:
            yield from tail.last_lines(lines, before)
    except FileNotFoundError:
        # Nothing has been written yet.
        return
    except OSError as error:
        _warn_unreadable(path, error)
