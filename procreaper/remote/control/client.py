"""A client of a running app: connects to its control socket, sends requests, and reads replies and notices.

Rules: knows the protocol and nothing else of an app. Its methods block, with a limit on every wait, and belong to one
thread. Notices that arrive before a reply are kept, in their order.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar, overload

import msgspec

from procreaper.errors import ProcreaperError
from procreaper.remote.api import protocol

# The time limits in seconds: for the greeting after the connection, and for the reply to a request.
GREETING_LIMIT = 10.0
REPLY_LIMIT = 60.0
READ_SIZE = 1 << 17
BETWEEN_TRIES = 0.05

Kind = TypeVar("Kind")
Changing = protocol.UpRequest | protocol.StopRequest | protocol.RestartRequest
Simple = protocol.QuitRequest | protocol.TypeRequest | protocol.ResizeRequest
RESULTS: dict[type[protocol.Request], Any] = {
    protocol.StatusRequest: protocol.StatusResult,
    protocol.FollowRequest: protocol.FollowResult,
    protocol.UpRequest: protocol.ActionResult,
    protocol.StopRequest: protocol.ActionResult,
    protocol.RestartRequest: protocol.ActionResult,
    protocol.ScaleRequest: protocol.PlanResult,
    protocol.ReloadRequest: protocol.PlanResult,
    protocol.AttachRequest: protocol.AttachResult,
}


class _Line(msgspec.Struct):
    """The fields of all lines from the app; only a notice has `notice`."""

    notice: str | None = None
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: protocol.Failure | None = None


class RefusedError(ProcreaperError):
    """The app refuses a request; `problems` are those of the project's files, in the words of `check`."""

    def __init__(self, failure: protocol.Failure) -> None:
        super().__init__(failure.message, hint=failure.hint)
        self.problems = failure.problems


class GoneError(ProcreaperError):
    """The app has ended, or has closed the connection."""


class SilentError(ProcreaperError):
    """The app does not answer in time."""


class Client:
    """A connection to the app that `greeting` describes. It is also a context manager that closes the connection."""

    def __init__(self, path: str, *, limit: float = GREETING_LIMIT) -> None:
        """Connect. Raise OSError if no app listens (ConnectionRefusedError: it has ended), else ProcreaperError."""
        self._incoming = bytearray()
        self._searched = 0
        self._notices: deque[protocol.AnyNotice] = deque()
        self._count = 0
        self._posted: set[int] = set()
        self._outcomes: list[protocol.Failure | None] = []
        self.greeting = protocol.Greeting(protocol.VERSION, "", "", 0, 0.0)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        until = time.monotonic() + limit
        try:
            self._socket.settimeout(limit)
            try:
                self._connect(path, until)
            except TimeoutError:
                raise self._silent_error(limit, path) from None
            self.greeting = self._decode_greeting(self._read_line(until, limit, path))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor for `select`. Call `arrived` once before the first `select`, and each time it reports
        data.
        """
        return self._socket.fileno()

    @overload
    def ask(self, request: protocol.StatusRequest, *, limit: float = ...) -> protocol.StatusResult: ...
    @overload
    def ask(self, request: protocol.FollowRequest, *, limit: float = ...) -> protocol.FollowResult: ...
    @overload
    def ask(self, request: Changing, *, limit: float = ...) -> protocol.ActionResult: ...
    @overload
    def ask(
        self, request: protocol.ScaleRequest | protocol.ReloadRequest, *, limit: float = ...
    ) -> protocol.PlanResult: ...
    @overload
    def ask(self, request: protocol.AttachRequest, *, limit: float = ...) -> protocol.AttachResult: ...
    @overload
    def ask(self, request: Simple, *, limit: float = ...) -> None: ...
    def ask(self, request: protocol.AnyRequest, *, limit: float = REPLY_LIMIT) -> Any:
        """Send a request, with an `id` of this client, and return its result.

        Raises RefusedError if the app refuses it, GoneError if the app ends first, and SilentError after `limit`
        seconds.
        """
        self._count += 1
        self._send(msgspec.json.encode(msgspec.structs.replace(request, id=self._count)) + b"\n", limit)
        until = time.monotonic() + limit
        while True:
            line = self._read_line(until, limit)
            answer = self._decode_line(line)
            if answer.notice is not None:
                self._keep_notice(line)
                continue
            if self._keep_outcome(answer):
                continue
            if answer.error is not None and answer.id in (self._count, None):
                raise RefusedError(answer.error)
            if answer.id == self._count:
                # Skip the reply to an earlier request whose caller has given up.
                kind = RESULTS.get(type(request))
                return None if kind is None else self._decode(bytes(answer.result), kind)

    def post(self, request: protocol.AnyRequest, *, limit: float = REPLY_LIMIT) -> None:
        """Send a request without waiting for its reply; `outcomes` returns the result.

        Raises SilentError if the app does not accept the request within `limit` seconds.
        """
        self._count += 1
        self._posted.add(self._count)
        self._send(msgspec.json.encode(msgspec.structs.replace(request, id=self._count)) + b"\n", limit)

    def outcomes(self) -> list[protocol.Failure | None]:
        """Return the outcomes of posted requests whose replies have arrived, in their order, each once. None means
        success.
        """
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def notices(self) -> Iterator[protocol.AnyNotice]:
        """Yield the notices as they arrive, up to the goodbye. Raises GoneError if the app ends without one."""
        while (notice := self.next_notice()) is not None:
            yield notice
            if isinstance(notice, protocol.GoodbyeNotice):
                return

    def next_notice(self, limit: float | None = None) -> protocol.AnyNotice | None:
        """Return the next notice, or None after `limit` seconds. Raises GoneError if none can come."""
        until = None if limit is None else time.monotonic() + limit
        while not self._notices:
            if not self._receive(until):
                return None
        return self._notices.popleft()

    def arrived_so_far(self) -> list[protocol.AnyNotice]:
        """Return the notices that arrived before the latest reply."""
        arrived = list(self._notices)
        self._notices.clear()
        return arrived

    def arrived(self) -> list[protocol.AnyNotice]:
        """Return the notices that have arrived, without waiting. Raises GoneError if there is none and none can
        come.
        """
        while not self._notices and self._receive(time.monotonic()):
            pass
        arrived = list(self._notices)
        self._notices.clear()
        return arrived

    def rest(self) -> Iterator[protocol.AnyNotice]:
        """Send no more requests, and yield the remaining notices up to the end of the connection."""
        self._socket.shutdown(socket.SHUT_WR)
        while True:
            try:
                notice = self.next_notice()
            except GoneError:
                return
            if notice is not None:
                yield notice

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, path: str, until: float) -> None:
        while True:
            try:
                return self._socket.connect(path)
            except BlockingIOError:
                # The queue of waiting connections is full.
                if time.monotonic() >= until:
                    raise TimeoutError from None
                time.sleep(BETWEEN_TRIES)

    def _send(self, data: bytes, limit: float) -> None:
        self._socket.settimeout(limit)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise self._silent_error(limit) from None
        except OSError:
            # The app has closed the connection; its last lines are still to be read.
            return

    def _receive(self, until: float | None) -> bool:
        """Wait for data and keep the notices in it. Return False if nothing arrives in time."""
        found = False
        while (line := self._take_line()) is not None:
            answer = self._decode_line(line)
            if answer.notice is not None:
                self._keep_notice(line)
                found = True
            else:
                self._keep_outcome(answer)
        return found or self._read(until)

    def _read_line(self, until: float, limit: float, path: str | None = None) -> bytes:
        while (line := self._take_line()) is None:
            if not self._read(until):
                raise self._silent_error(limit, path)
        return line

    def _take_line(self) -> bytes | None:
        end = self._incoming.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._incoming)
            return None
        line = bytes(self._incoming[:end])
        del self._incoming[: end + 1]
        self._searched = 0
        return line

    def _read(self, until: float | None) -> bool:
        """Read data. Return False if nothing arrives in time."""
        if until is not None:
            ready, _, _ = select.select([self._socket], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return False
        self._socket.settimeout(None)
        try:
            data = self._socket.recv(READ_SIZE)
        except OSError:
            data = b""
        if not data:
            raise self._gone_error()
        self._incoming += data
        return True

    def _keep_notice(self, line: bytes) -> None:
        try:
            self._notices.append(msgspec.json.decode(line, type=protocol.AnyNotice))
        except msgspec.ValidationError:
            # A newer app has notices that this client does not know.
            return

    def _keep_outcome(self, answer: _Line) -> bool:
        """Whether this is the reply to a posted request; if so, keep its outcome."""
        if answer.id not in self._posted:
            return False
        self._posted.remove(answer.id)
        self._outcomes.append(answer.error)
        return True

    def _decode_line(self, line: bytes) -> _Line:
        return self._decode(line, _Line)

    def _decode(self, line: bytes, kind: type[Kind]) -> Kind:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            hint = "start the app again with this version of procreaper"
            raise ProcreaperError(
                f"{self._app_name} sent a line that this client cannot read: {error}", hint=hint
            ) from None

    def _decode_greeting(self, line: bytes) -> protocol.Greeting:
        try:
            version = msgspec.json.decode(line, type=_Version)
            if version.protocol == protocol.VERSION:
                return msgspec.json.decode(line, type=protocol.Greeting)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ProcreaperError("the program at the control socket is not procreaper") from None
        raise ProcreaperError(
            f"the app (pid {version.pid}) was started by procreaper {version.version}, whose protocol "
            f"{version.protocol} is not that of this one, {protocol.VERSION}",
            hint=f"use that version of procreaper, or end the app with `kill {version.pid}` and start it again",
        )

    @property
    def _app_name(self) -> str:
        return f"the app (pid {self.greeting.pid})" if self.greeting.pid else "the app"

    def _gone_error(self) -> GoneError:
        return GoneError(
            f"{self._app_name} has ended, or has closed the connection", hint="`procreaper ls` lists what runs"
        )

    def _silent_error(self, limit: float, path: str | None = None) -> SilentError:
        where = "" if path is None else f" at {path}"
        hint = (
            f"is it suspended (Ctrl-Z), or held by a debugger? `kill -CONT {self.greeting.pid or 'PID'}` continues it"
        )
        return SilentError(f"{self._app_name}{where} does not answer within {limit:g} s", hint=hint)


class _Version(msgspec.Struct):
    """The fields of every greeting, in any version of the protocol."""

    protocol: int
    version: str = "of another version"
    pid: int = 0
