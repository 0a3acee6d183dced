"""The requests of clients: resolve names, post events to the supervisor, and send notices to followers.

Rules: a request is carried out as a whole or not at all. A request becomes an event for the supervisor, like all other
requests; nothing here waits for its effect.

Theory of operation. A request is handled after all events that were posted before it. Between that moment and the event
of the request there is no wait, so the reply has the run numbers at the time of the request. Followers get their
notices from a sink of the hub, which exists only while there are followers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from procreaper.core import events
from procreaper.core.plan import reachable
from procreaper.core.selection import choose, covers, select
from procreaper.core.status import AT_REST
from procreaper.errors import ProcreaperError, UnknownProcessError, enumerate_words
from procreaper.output.hub import Hub
from procreaper.project.configure import Configuration
from procreaper.remote.api import protocol
from procreaper.remote.api.codec import replace_surrogates
from procreaper.remote.api.feed import Feed, Line
from procreaper.remote.api.to_wire import changes_status, notice_to_wire, process_to_wire
from procreaper.remote.control.connection import Connection
from procreaper.remote.control.replan import PlanSource, Replanner
from procreaper.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from procreaper.remote.control.attach import AttachedClients

# An error lists at most this number of names.
MOST_NAMED = 8
# The loop is not blocked for longer than the encoding of this number of bytes takes.
SLICE = 1 << 15


class RequestHandler:
    """Carries out requests for the app of `supervisor`, and sends the notices of `hub` to followers through `feed`.

    `groups` are those of `.reaper.toml`, and `source` makes new plans. `print_error` reports internal errors.
    `history(names, lines)` returns the last lines of these processes (None: all that is kept) with the events since,
    oldest first, and the processes that wrote more. `find(name, size)` returns where in its log the last `size` bytes
    of a process begin, as a `Passage`, or None if it does not know.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        hub: Hub,
        feed: Feed,
        *,
        groups: Mapping[str, Sequence[str]],
        source: PlanSource,
        print_error: Callable[[str], None],
        history: Callable[[Sequence[str], int | None], tuple[Sequence[events.Notice], tuple[str, ...]]] | None = None,
        find: Callable[[str, int], tuple[int, int, int, int] | None] = lambda _name, _size: None,
    ) -> None:
        self._supervisor = supervisor
        self._hub = hub
        self._feed = feed
        self._groups = groups
        self._replanner = Replanner(supervisor, source, self._apply_configuration)
        self._print_error = print_error
        self._history = history
        self._find_passage = find
        self._is_sink = False

    async def answer(self, request: protocol.AnyRequest, connection: Connection) -> Any:
        """Return the result of a request. Raises ProcreaperError if the request has changed nothing."""
        await self._supervisor.settled()
        match request:
            case protocol.StatusRequest(names=names):
                return protocol.StatusResult(self._snapshot(names), self._supervisor.is_ending)
            case protocol.FollowRequest():
                return self._follow(request, connection)
            case protocol.UpRequest(names=names):
                return await self._up(names, connection)
            case protocol.StopRequest(names=names):
                return await self._stop(names, connection)
            case protocol.RestartRequest(names=names):
                return await self._restart(names, connection)
            case protocol.QuitRequest():
                self._report_client("the end of the app", "quit", connection)
                self._supervisor.post(events.Shutdown(0, by="`procreaper quit`"))
                return None
            case protocol.ScaleRequest(counts=counts):
                return await self._replanner.scale(
                    counts, lambda: self._report_client(_list_counts(counts), "scale", connection)
                )
            case protocol.ReloadRequest():
                return await self._replanner.reload(
                    lambda: self._report_client("a reload of the files", "reload", connection)
                )
            case protocol.AttachRequest():
                name = self._select_one(request.name)
                alternate = self._attached_clients.attach(name, request, connection)
                return protocol.AttachResult(self._process(name), alternate)
            case protocol.TypeRequest(data=data):
                return await self._attached_clients.type(data, connection)
            case protocol.ResizeRequest(columns=columns, lines=lines):
                return self._attached_clients.resize(columns, lines, connection)
            case _:
                assert_never(request)

    # Requests that change the app.

    def _apply_configuration(self, configuration: Configuration) -> None:
        self._groups = configuration.groups

    async def _up(self, names: Iterable[str], connection: Connection) -> protocol.ActionResult:
        names = tuple(names)
        is_announced = False

        def announce() -> None:
            nonlocal is_announced
            if not is_announced:
                is_announced = True
                self._report_client(f"a start of {_list_names(names)}", "up", connection)

        new = {} if self._supervisor.shutting_down else await self._replanner.join(names, announce)
        named = self._select_for_change(names)
        edges = {
            process.name: [dependency.name for dependency in process.depends_on]
            for process in self._supervisor.processes
        }
        there = set(edges)
        needed = [name for name in reachable(named, edges) if name in there]
        statuses = {name: self._supervisor.status_of(name) for name in needed}
        wanted = tuple(name for name, status in statuses.items() if not status.up)
        already = tuple(name for name in named if name not in wanted)
        if wanted:
            announce()
        asked = await self._post(events.Start(wanted), wanted, already)
        warnings = await self._replanner.find_outdated(wanted)
        return protocol.ActionResult({name: new.get(name, run) for name, run in asked.runs.items()}, already, warnings)

    async def _stop(self, names: Iterable[str], connection: Connection) -> protocol.ActionResult:
        named = self._select_for_change(names)
        self._report_client(f"the end of {_list_names(named)}", "stop", connection)
        already = tuple(name for name in named if self._supervisor.status_of(name).state in AT_REST)
        return await self._post(events.Stop(named), named, already)

    async def _restart(self, names: Iterable[str], connection: Connection) -> protocol.ActionResult:
        named = self._select_for_change(names)
        self._report_client(f"a restart of {_list_names(named)}", "restart", connection)
        asked = await self._post(events.Restart(named), named, ())
        # After the restart, which must not wait for a slow disk.
        warnings = await self._replanner.find_outdated(named)
        return protocol.ActionResult(asked.runs, asked.already, warnings)

    def _report_client(self, what: str, command: str, connection: Connection) -> None:
        """Report which client asks for a change, so that the change does not come without a cause."""
        pid = "" if connection.pid is None else f" (pid {connection.pid})"
        self._supervisor.say(f"`procreaper {command}`{pid} asks for {what}")

    def _select_for_change(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the processes that a changing request concerns."""
        if self._supervisor.shutting_down:
            raise ProcreaperError("the app is ending", hint="`procreaper start` starts it again")
        names = tuple(names)
        if not names:
            raise ProcreaperError("no process is named", hint="`all` names every one")
        return self._select(names)

    def _select(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the processes that these names stand for. Raises UnknownProcessError."""
        processes, groups = self._supervisor.processes, self._groups
        try:
            return select(names, processes, groups)
        except UnknownProcessError as error:
            missing = (name for name in names if not any(covers(name, process, groups) for process in processes))
            raise next(filter(None, map(self._replanner.explain, missing)), error) from error

    @cached_property
    def _attached_clients(self) -> AttachedClients:
        from procreaper.remote.control.attach import AttachedClients

        return AttachedClients(self._supervisor)

    def _select_one(self, name: str) -> str:
        names = self._select((name,))
        if len(names) != 1:
            choice = enumerate_words(names[:MOST_NAMED])
            raise ProcreaperError(f"`{name}` stands for {len(names)} processes", hint=f"choose one: {choice}")
        return names[0]

    async def _post(
        self, event: events.Start | events.Stop | events.Restart, names: Iterable[str], already: tuple[str, ...]
    ) -> protocol.ActionResult:
        runs = {name: self._supervisor.status_of(name).run for name in (*names, *already)}
        if event.names:
            self._supervisor.post(event)
            await self._supervisor.settled()
        return protocol.ActionResult(runs, already)

    # Requests for information.

    def _snapshot(self, names: Iterable[str]) -> tuple[protocol.ProcessStatus, ...]:
        processes = self._supervisor.processes
        names = tuple(names)
        selected = self._select(names) if names else [process.name for process in processes]
        return tuple(self._process(name) for name in selected)

    def _process(self, name: str) -> protocol.ProcessStatus:
        return process_to_wire(self._supervisor.status_of(name), self._supervisor.process(name))

    def _follow(self, request: protocol.FollowRequest, connection: Connection) -> protocol.FollowResult:
        snapshot = self._snapshot(request.names)
        before: Iterable[bytes] = ()
        truncated: tuple[str, ...] = ()
        earlier: dict[str, protocol.LogPosition] = {}
        if request.output and request.lines != 0 and self._history is not None:
            names = [process.name for process in snapshot]
            notices, truncated = self._history(names, request.lines)
            before = (line.data for notice in notices for line in encode_notice(notice))
            found = {name: self._locate_earlier_output(name, notices, request.lines) for name in truncated}
            earlier = {replace_surrogates(name): place for name, place in found.items() if place is not None}
        wants = None if request.until_now else self._wants(request)
        connection.follow(wants, lambda notices, size: self._encode_missed(request, notices, size), before)
        if wants is not None and not self._is_sink:
            self._is_sink = True
            self._hub.add(self)
        return protocol.FollowResult(snapshot, tuple(map(replace_surrogates, truncated)), earlier)

    def _locate_earlier_output(
        self, name: str, notices: Iterable[events.Notice], lines: int | None
    ) -> protocol.LogPosition | None:
        """Return where the log has the output before these notices, and how many of `lines` are missing here."""
        outputs = [notice.data for notice in notices if isinstance(notice, events.Output) and notice.name == name]
        passage = self._find_passage(name, sum(map(len, outputs)))
        if passage is None:
            return None
        _, device, inode, offset = passage
        unfinished = bool(outputs) and not outputs[-1].endswith(b"\n")
        kept = sum(data.count(b"\n") for data in outputs) + unfinished
        left = None if lines is None else max(0, lines - kept)
        return protocol.LogPosition(device, inode, offset, left)

    def _wants(self, request: protocol.FollowRequest) -> Callable[[Line], bool]:
        chosen = choose(request.names, self._groups)
        output = request.output
        return lambda line: (output or not line.output_only) and (line.name is None or chosen(line.name))

    def _encode_missed(self, request: protocol.FollowRequest, notices: int, size: int) -> Iterator[bytes]:
        """Yield the lines for a follower that has lost notices: the loss, and the current status of its processes."""
        now = time.time()
        yield _encode(protocol.DroppedNotice(now, notices, size))
        chosen = choose(request.names, self._groups)
        for process in self._supervisor.processes:
            if chosen(process.name):
                yield _encode(protocol.StatusNotice(now, self._process(process.name)))

    def accept(self, notice: events.Notice) -> bool:
        """Receive a notice from the hub and publish it to the followers. Never ask for a pause."""
        if not self._feed.is_followed:
            self._hub.remove(self)
            self._is_sink = False
            return True
        try:
            for line in self._encode_for_followers(notice):
                self._feed.publish(line)
        except Exception as error:
            # The supervisor publishes notices: an error here would end the app.
            self._print_error(
                f"procreaper: internal error: a notice cannot be sent to followers: {type(error).__name__}: {error}"
            )
        return True

    def _encode_for_followers(self, notice: events.Notice) -> Iterator[Line]:
        """Encode a notice for followers, and the current status of its process if that has changed."""
        yield from encode_notice(notice)
        if changes_status(notice):
            yield Line(_encode(protocol.StatusNotice(notice.time, self._process(notice.name))), notice.name)


def encode_notice(notice: events.Notice) -> Iterator[Line]:
    """Encode a notice as lines; the result does not depend on the time of the call."""
    if isinstance(notice, events.Output):
        yield from _encode_output(notice)
    elif (converted := notice_to_wire(notice)) is not None:
        name = None if isinstance(notice, events.Message) else notice.name
        yield Line(_encode(converted), name, output_only=isinstance(notice, events.Message | events.Transition))


def _encode_output(output: events.Output) -> Iterator[Line]:
    """Encode output in slices that end at a line end, so that no escape sequence or character is split."""
    name, data, start = replace_surrogates(output.name), output.data, 0
    while start < len(data):
        end = min(start + SLICE, len(data))
        if end < len(data):
            end = data.rfind(b"\n", start, end) + 1 or end
        notice = protocol.OutputNotice(output.time, name, data[start:end])
        yield Line(_encode(notice), output.name, output_only=True, output=end - start)
        start = end


def _encode(notice: protocol.Notice) -> bytes:
    return msgspec.json.encode(notice) + b"\n"


def _list_names(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return enumerate_words(names, "and") if more <= 0 else f"{', '.join(names[:MOST_NAMED])} and {more} more"


def _list_counts(counts: Mapping[str, int]) -> str:
    return _list_names([f"{name}={count}" for name, count in counts.items()])
