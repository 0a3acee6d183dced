"""The messages at the control socket of a running app: JSON, one object a line.

Rules: only types; nothing here knows a socket. The protocol is a contract with other programs: names and meanings do
not change while `VERSION` stays the same, and both sides ignore unknown fields.

The server sends a `Greeting` first. Then the client sends requests (`Request`). The server answers each line of the
client with exactly one `Reply` with the same `id`, in the order of the lines. After a `follow` or `attach` request,
`Notice` lines come between the replies.

    {"protocol":1,"version":"0.1.0","root":"/home/ann/shop","pid":4711,"started_at":1764033000.1}
    > {"request":"restart","id":1,"names":["web"]}
    {"id":1,"result":{"runs":{"web.1":3}}}

Bytes, in the fields named `data`, are base64. In text, replacement characters stand for bytes that are not UTF-8. Times
are seconds since the epoch.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

VERSION = 1
# The longest line that a client may send, in bytes.
LONGEST_LINE = 1 << 16


class Greeting(Struct, frozen=True):
    """The app that answers: its root (absolute, without symbolic links) and the pid of its manager."""

    protocol: int
    version: str
    root: str
    pid: int
    started_at: float


# Requests.


class Request(Struct, frozen=True, tag_field="request"):
    """One line of a client. The client chooses the `id`, and the reply repeats it."""

    id: int


class StatusRequest(Request, frozen=True, tag="status"):
    """Return the status of these processes (default: all). Result: `StatusResult`."""

    names: tuple[str, ...] = ()


class FollowRequest(Request, frozen=True, tag="follow"):
    """Return the status as `status` does, and from that moment on send a notice of each event. Result: `FollowResult`.

    With `output`, the notices include the output of the processes and the messages of procreaper. They begin with the
    last `lines` lines of each process (None: all that is kept; 0: none) and the events since. With `until_now`, nothing
    follows after those. A follower that is too slow loses notices and receives their number (`dropped`).
    """

    names: tuple[str, ...] = ()
    output: bool = False
    lines: int | None = 0
    until_now: bool = False


class UpRequest(Request, frozen=True, tag="up"):
    """Start these processes and their dependencies, unless they are up. Result: `ActionResult`."""

    names: tuple[str, ...]


class StopRequest(Request, frozen=True, tag="stop"):
    """Stop these processes. All others, and the app, continue. Result: `ActionResult`."""

    names: tuple[str, ...]


class RestartRequest(Request, frozen=True, tag="restart"):
    """Start a new run of each of these processes. Result: `ActionResult`."""

    names: tuple[str, ...]


class ScaleRequest(Request, frozen=True, tag="scale"):
    """Set the number of processes of each of these types. Result: `PlanResult`."""

    counts: dict[str, int]


class ReloadRequest(Request, frozen=True, tag="reload"):
    """Read the project's files again and apply the changes. Result: `PlanResult`, or an error with problems."""


class QuitRequest(Request, frozen=True, tag="quit"):
    """End the app with exit code 0. Result: an empty object; the connection ends with the app."""


class AttachRequest(Request, frozen=True, tag="attach"):
    """Attach to the terminal of this process and give it this size. Result: `AttachResult`; then `screen` notices.

    It lasts as long as the connection. A connection is attached to one process at most.
    """

    name: str
    columns: int
    lines: int


class TypeRequest(Request, frozen=True, tag="type"):
    """Type these bytes at the attached terminal. Result: an empty object."""

    data: bytes


class ResizeRequest(Request, frozen=True, tag="resize"):
    """Set the size of the attached terminal. Result: an empty object."""

    columns: int
    lines: int


AnyRequest = (
    StatusRequest
    | FollowRequest
    | UpRequest
    | StopRequest
    | RestartRequest
    | ScaleRequest
    | ReloadRequest
    | QuitRequest
    | AttachRequest
    | TypeRequest
    | ResizeRequest
)


# Replies.


class ProcessStatus(Struct, frozen=True):
    """The status of one process at one moment: the fields of `status.Status`, and a few settings.

    `type` is `web` for `web.2`. `port` is its `PORT`, or None. `pty`: it has a terminal to attach to. `log` is the
    absolute path of the file that also receives its output, or None.
    """

    name: str
    type: str
    state: str
    reason: str
    run: int
    pid: int | None
    retries: int
    restarts: int
    backoff: float
    started_at: float | None
    exit_code: int | None
    up: bool
    out_of_reach: bool = False
    port: int | None = None
    pty: bool = False
    log: str | None = None
    detached: bool = False
    waits_for: tuple[str, ...] = ()


class StatusResult(Struct, frozen=True):
    """The status of the requested processes, in the order of the Procfile, at one moment. `ending`: the app is about to
    end.
    """

    processes: tuple[ProcessStatus, ...]
    ending: bool = False


class LogPosition(Struct, frozen=True):
    """The position in a log file where the output begins that the app keeps in memory.

    Older output ends at byte `offset` of the file of the log with this device and inode. `lines` is the number of older
    lines that are still wanted; None: all.
    """

    device: int
    inode: int
    offset: int
    lines: int | None


class FollowResult(Struct, frozen=True):
    """The status before the first notice.

    `truncated` names the processes that wrote more than the app keeps; `earlier` is where their logs have the rest.
    """

    processes: tuple[ProcessStatus, ...]
    truncated: tuple[str, ...] = ()
    earlier: dict[str, LogPosition] = {}


class ActionResult(Struct, frozen=True):
    """The processes that the names stand for, each with its run at the time of the request.

    A process has stopped once that run has ended, and has restarted once a later run is up. `already` names the
    processes for which there was nothing to do. `warnings` are about files that have changed since they were read.
    """

    runs: dict[str, int]
    already: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class PlanResult(Struct, frozen=True):
    """The changes of a `reload` or `scale`, by process. `changed` has the names of the changed settings (`command`,
    `env: A, B` ...).

    Processes in `restarted` get a new run with their new settings; those in `updated` get the settings without a new
    run. `runs` is as in `ActionResult`. `warnings` are those of `check`.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    changed: dict[str, tuple[str, ...]] = {}
    runs: dict[str, int] = {}
    warnings: tuple[str, ...] = ()


class AttachResult(Struct, frozen=True):
    """The current status. `alternate`: the terminal shows the alternate screen, so there is no scroll-back."""

    process: ProcessStatus
    alternate: bool = False


class Failure(Struct, frozen=True):
    """Why a request failed. It has changed nothing. `problems` are the problems in the project's files, one each."""

    message: str
    hint: str | None = None
    problems: tuple[str, ...] = ()


class Reply(Struct, frozen=True, omit_defaults=True):
    """The answer to one line: `result` or `error`. `id` is None if that of the request could not be read."""

    id: int | None
    result: Any = None
    error: Failure | None = None


# Notices.


class Notice(Struct, frozen=True, tag_field="notice"):
    """An event in the app."""

    time: float


class StatusNotice(Notice, frozen=True, tag="status"):
    """A process has changed; this is its current status."""

    process: ProcessStatus


class RemovedNotice(Notice, frozen=True, tag="removed"):
    """A process has left the app after `reload` or `scale`, and its last child has ended."""

    name: str


class OutputNotice(Notice, frozen=True, tag="output"):
    """Output of a process: whole lines, or part of a line, which the next output of that process continues."""

    name: str
    data: bytes


class BeganNotice(Notice, frozen=True, tag="began"):
    """A run has begun. `pty`: it was to get its own terminal. `since`: the start time of an adopted run, else None."""

    name: str
    pid: int
    pty: bool = False
    since: float | None = None


class EndedNotice(Notice, frozen=True, tag="ended"):
    """A run has ended; `code` and `signal` are as in `events.Exit`."""

    name: str
    pid: int | None
    code: int | None
    signal: int | None
    reason: str
    asked: bool


class SignalNotice(Notice, frozen=True, tag="signal"):
    """procreaper has sent a signal to a process."""

    name: str
    pid: int
    signal: int


class TransitionNotice(Notice, frozen=True, tag="transition"):
    """A change of state, for followers of the output; the fields are those of `events.Transition`.

    The time may be long past, whereas `status` is about the present. `restart` is the reason of the next run, a word of
    `events.RestartReason`, if the change of state has just caused one.
    """

    name: str
    before: str
    state: str
    reason: str
    reason_before: str
    retries: int = 0
    backoff: float | None = None
    code: int | None = None
    signal: int | None = None
    restart: str | None = None


class MessageNotice(Notice, frozen=True, tag="message"):
    """A message of procreaper."""

    text: str


class DroppedNotice(Notice, frozen=True, tag="dropped"):
    """This client was too slow: this number of notices, with this number of bytes of output, is missing here."""

    notices: int
    bytes: int


class ScreenNotice(Notice, frozen=True, tag="screen"):
    """The next output for the attached terminal, with its escape sequences."""

    data: bytes


class TerminalClosedNotice(Notice, frozen=True, tag="detached"):
    """The attached terminal is closed because its run has ended. The next run has a new terminal."""

    reason: str


class GoodbyeNotice(Notice, frozen=True, tag="goodbye"):
    """The app has ended with this exit code; nothing follows.

    `reason` is one sentence that says why. `name` is the process that failed, or whose end ended the app, or None.
    """

    code: int
    name: str | None = None
    reason: str = ""


AnyNotice = (
    StatusNotice
    | RemovedNotice
    | OutputNotice
    | BeganNotice
    | EndedNotice
    | SignalNotice
    | TransitionNotice
    | MessageNotice
    | DroppedNotice
    | ScreenNotice
    | TerminalClosedNotice
    | GoodbyeNotice
)
