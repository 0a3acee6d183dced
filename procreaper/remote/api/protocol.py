"""What is said over the control socket of a running app: JSON, a line each.

Rules: words only; nothing here knows a socket. It is a contract with other programs too: what is there keeps its name
and meaning for as long as `VERSION` stays, and unknown fields are ignored on both sides.

The server speaks first, with a `Greeting`. Then the client asks (`Request`), and every line that it sends is answered
by exactly one `Reply` with the same `id`, in the order of the lines. Between replies come `Notice` lines, once the
client has asked to `follow` or to `attach`.

    {"protocol":1,"version":"0.1.0","root":"/home/ann/shop","pid":4711,"started_at":1764033000.1}
    > {"request":"restart","id":1,"names":["web"]}
    {"id":1,"result":{"runs":{"web.1":3}}}

Bytes, in the fields named `data`, are base64. Text that was no UTF-8 has replacement characters. Times are seconds
since the epoch.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

VERSION = 1
# No line of a client may be longer, in bytes.
LONGEST_LINE = 1 << 16


class Greeting(Struct, frozen=True):
    """Who answers: an app, by its root (absolute, without symbolic links), and the process that supervises it."""

    protocol: int
    version: str
    root: str
    pid: int
    started_at: float


# Requests.


class Request(Struct, frozen=True, tag_field="request"):
    """One line of a client. `id` is the client's; it comes back with the reply."""

    id: int


class StatusRequest(Request, frozen=True, tag="status"):
    """What these processes are doing (default: all). Result: `Processes`."""

    names: tuple[str, ...] = ()


class FollowRequest(Request, frozen=True, tag="follow"):
    """As `status`, and from that very moment on a notice for everything that happens. Result: `Followed`.

    With `output` also what they write, and what procreaper itself says, beginning with the last `lines` lines of each
    (None: all that is kept; 0: none) and what has happened since; with `until_now`, nothing after those. A follower
    that is too slow loses notices and is told how many (`dropped`).
    """

    names: tuple[str, ...] = ()
    output: bool = False
    lines: int | None = 0
    until_now: bool = False


class UpRequest(Request, frozen=True, tag="up"):
    """Have these run, and what they need. What is up already is left alone. Result: `Asked`."""

    names: tuple[str, ...]


class StopRequest(Request, frozen=True, tag="stop"):
    """Have these not run; all others go on, and so does the app. Result: `Asked`."""

    names: tuple[str, ...]


class RestartRequest(Request, frozen=True, tag="restart"):
    """Have a new run of each of these. Result: `Asked`."""

    names: tuple[str, ...]


class ScaleRequest(Request, frozen=True, tag="scale"):
    """Set the number of processes of each of these types. Result: `Changes`."""

    counts: dict[str, int]


class ReloadRequest(Request, frozen=True, tag="reload"):
    """Read the project's files anew, and do what has changed in them. Result: `Changes`, or an error with problems."""


class QuitRequest(Request, frozen=True, tag="quit"):
    """End the app with exit code 0. Result: an empty object; the connection ends with the app."""


class AttachRequest(Request, frozen=True, tag="attach"):
    """Be at the terminal of this process, which gets this size. Result: `Attached`; then `screen` notices.

    It lasts as long as the connection; one connection is attached to one process at most.
    """

    name: str
    columns: int
    lines: int


class TypeRequest(Request, frozen=True, tag="type"):
    """Something was typed at the terminal that this connection is attached to. Result: an empty object."""

    data: bytes


class ResizeRequest(Request, frozen=True, tag="resize"):
    """The terminal that is attached has another size. Result: an empty object."""

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
    """One process at one moment; the fields are those of `status.Status`, and what else people ask for.

    `type` is `web` for `web.2`; `port` its `PORT`, None where it has none; `pty`: it can be attached to; `log` is the
    file that its output goes to as well, absolute.
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
    """All that were asked for, in the order of the Procfile, at one moment. `ending`: the app is about to end."""

    processes: tuple[ProcessStatus, ...]
    ending: bool = False


class LogPosition(Struct, frozen=True):
    """What was written before all that is kept ends at `offset` of that file of the log which has this inode.

    The number of `lines` of it that are still wanted; None: all.
    """

    device: int
    inode: int
    offset: int
    lines: int | None


class FollowResult(Struct, frozen=True):
    """The state before the first notice. `truncated`: these wrote more than is kept; `earlier` tells where that is."""

    processes: tuple[ProcessStatus, ...]
    truncated: tuple[str, ...] = ()
    earlier: dict[str, LogPosition] = {}


class ActionResult(Struct, frozen=True):
    """What the names stood for: each process, with the run that it was in when it was asked to change.

    It has stopped once that run has ended, and is restarted once a later one is up. `already`: nothing had to be done.
    `warnings` are those about files that have changed since they were read.
    """

    runs: dict[str, int]
    already: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class PlanResult(Struct, frozen=True):
    """What a `reload` or `scale` has found to do, by process, in words for `changed` (`command`, `env: A, B` ...).

    Those in `restarted` get a new run, with those settings; `updated` keep theirs. `runs` as in `Asked`. `warnings` are
    those of `check`.
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
    """`process` as it is; `alternate`: it shows the alternate screen, so there is no scroll-back to it."""

    process: ProcessStatus
    alternate: bool = False


class Failure(Struct, frozen=True):
    """Why a request was not carried out: nothing of it was. `problems` are those of the project's files, one each."""

    message: str
    hint: str | None = None
    problems: tuple[str, ...] = ()


class Reply(Struct, frozen=True, omit_defaults=True):
    """The answer to one line: `result` or `error`. `id` is None where that of the request could not be read."""

    id: int | None
    result: Any = None
    error: Failure | None = None


# Notices.


class Notice(Struct, frozen=True, tag_field="notice"):
    """Something that has happened."""

    time: float


class StatusNotice(Notice, frozen=True, tag="status"):
    """A process has changed; this is how it is now."""

    process: ProcessStatus


class RemovedNotice(Notice, frozen=True, tag="removed"):
    """A process is not of the app any more: after `reload` or `scale`, once nothing of it is left."""

    name: str


class OutputNotice(Notice, frozen=True, tag="output"):
    """A process wrote whole lines, or part of one, which the next output of that process continues."""

    name: str
    data: bytes


class BeganNotice(Notice, frozen=True, tag="began"):
    """A run has begun; `pty`: it was to have a terminal of its own. `since` is when, of one that is adopted."""

    name: str
    pid: int
    pty: bool = False
    since: float | None = None


class EndedNotice(Notice, frozen=True, tag="ended"):
    """A run is over; `code` and `signal` as in `events.Exit`."""

    name: str
    pid: int | None
    code: int | None
    signal: int | None
    reason: str
    asked: bool


class SignalNotice(Notice, frozen=True, tag="signal"):
    """A process was sent a signal."""

    name: str
    pid: int
    signal: int


class TransitionNotice(Notice, frozen=True, tag="transition"):
    """What people are told of a change of state, for those who follow the output; the fields of `events.Transition`.

    The time may be long past, where a `status` tells of the present. `restart` is why there is to be one more run, one
    of the words of `events.RestartReason`, where that has just been settled.
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
    """Something that procreaper says."""

    text: str


class DroppedNotice(Notice, frozen=True, tag="dropped"):
    """This client was too slow: the given numbers of notices and of bytes of output are missing here."""

    notices: int
    bytes: int


class ScreenNotice(Notice, frozen=True, tag="screen"):
    """What the terminal that is attached to shows next, escape sequences and all."""

    data: bytes


class TerminalClosedNotice(Notice, frozen=True, tag="detached"):
    """The terminal that was attached to is gone: its run has ended. A new run is a new terminal."""

    reason: str


class GoodbyeNotice(Notice, frozen=True, tag="goodbye"):
    """The app has ended with this exit code; nothing follows.

    `reason` says why, in one sentence; `name` is the process whose end ended the app, or that failed, if there is one.
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
