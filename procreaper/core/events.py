"""The events, actions and notices of an app.

    facts     what happened, in the past tense; `runtime` reports them, with the run that they are about
    requests  what a person or a program asks for
    actions   what the rules decide; `runtime` carries them out
    notices   what is published, with the wall time

They are named tuples, because a frozen dataclass takes a millisecond at import, before the first child can start. A
named tuple takes a sixth of that, and is as immutable. Annotations are not postponed here, nor in other modules with
named tuples that a start needs, because `typing` compiles each annotation that is a string.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procreaper.core.plan import Plan, Process


class State(StrEnum):
    """The state of a process, in the words of supervisord, Docker and the Go library reaper."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


def with_reason(state: str, reason: str) -> str:
    """Return a state with its reason, as one phrase, without saying the state twice.

    >>> with_reason("failed", "exited with code 1")
    'failed: exited with code 1'
    >>> with_reason("unhealthy", "unhealthy: connection refused")
    'unhealthy: connection refused'
    """
    return reason if reason.startswith(state) else f"{state}: {reason}" if reason else str(state)


# The exit code of a child whose end is unknown.
UNKNOWN = 1


class RestartReason(StrEnum):
    """Why a process has another run: by the end of the last one, or by a request."""

    EXIT = "exit"
    UNHEALTHY = "unhealthy"
    MANUAL = "manual"
    CHANGE = "change"
    DEPENDENCY = "dependency"


class Exit(NamedTuple):
    """How a child ended: by an exit `code` or by a `signal` number. With neither it is unknown, and counts as a
    failure.
    """

    code: int | None = None
    signal: int | None = None

    @classmethod
    def of(cls, returncode: int) -> "Exit":
        """Return the exit for a return code of `subprocess`, which is negative for a signal."""
        return cls(signal=-returncode) if returncode < 0 else cls(code=returncode)

    @property
    def status(self) -> int:
        """The number of a shell: the code, or 128 plus the signal; `UNKNOWN` if neither is known."""
        if self.signal is not None:
            return 128 + self.signal
        return self.code if self.code is not None else UNKNOWN

    @property
    def known(self) -> bool:
        """Whether the exit is known. Of the child of an earlier procreaper, only that procreaper learned it."""
        return self.code is not None or self.signal is not None

    @property
    def returncode(self) -> int:
        """The number of Python, which honcho prints: the code, or the negative signal."""
        return -self.signal if self.signal is not None else self.status


# Facts.


class Spawned(NamedTuple):
    """A child runs. It comes before the `ChildExited` of the same run."""

    name: str
    run: int
    pid: int


class SpawnFailed(NamedTuple):
    """There is no child. `permanent`: another try cannot help. `code` is what a shell would return (126, 127)."""

    name: str
    run: int
    error: str
    code: int
    permanent: bool


class ChildExited(NamedTuple):
    """The child has been reaped. `leftovers`: other processes of its group are alive."""

    name: str
    run: int
    exit: Exit
    leftovers: bool


class GroupEnded(NamedTuple):
    """The whole group has ended, after a `ChildExited` with leftovers."""

    name: str
    run: int


class StopCommandFailed(NamedTuple):
    """The stop command of a run has failed, so the run may not know that it should end."""

    name: str
    run: int


class CheckFinished(NamedTuple):
    """A health check has succeeded (`error` None), failed, or was `skipped` because a debugger holds the child."""

    name: str
    run: int
    error: str | None = None
    skipped: bool = False


class OutputBegan(NamedTuple):
    """The run has written its first output. Reported only if a log line shows its readiness."""

    name: str
    run: int


class LogMatched(NamedTuple):
    """The log line that shows the readiness of this run has come."""

    name: str
    run: int


class FilesChanged(NamedTuple):
    """Files were written, appeared or vanished: for each process that watches them, their paths from its root.

    The settings of the processes in `outdated` come from one of these files. `more`: further changes follow, as in a
    branch switch. The next report without it names each process that was promised more, even without a path.
    """

    changes: "Mapping[str, tuple[str, ...]]"
    outdated: frozenset[str] = frozenset()
    more: bool = False


class PreparationEnded(NamedTuple):
    """The command that `watch.run` runs before the restart has ended."""

    name: str
    succeeded: bool


class SettingsRead(NamedTuple):
    """The files were read again for a process that waits for this. With None it keeps its settings."""

    name: str
    process: "Process | None"


class TerminalOpened(NamedTuple):
    """The first client has attached to the terminal of this process."""

    name: str


class TerminalClosed(NamedTuple):
    """The last client has left the terminal of this process."""

    name: str


class TimeLost(NamedTuple):
    """procreaper did not run for `seconds`, because it was stopped or frozen. No limit counts this time."""

    seconds: float


class Tick(NamedTuple):
    """Only time has passed; sent when a deadline is due."""


# Facts about one run. A fact about another run than the current one is stale.
RunFact = (
    Spawned | SpawnFailed | ChildExited | GroupEnded | CheckFinished | OutputBegan | LogMatched | StopCommandFailed
)
Fact = RunFact | FilesChanged | PreparationEnded | SettingsRead | TerminalOpened | TerminalClosed | TimeLost | Tick


# Requests.


class Start(NamedTuple):
    """Start these processes. Those that run already go on."""

    names: tuple[str, ...]


class Stop(NamedTuple):
    """Stop these processes. Their dependants and the app go on."""

    names: tuple[str, ...]


class Restart(NamedTuple):
    """Have a new run of each of these processes, without back-off."""

    names: tuple[str, ...]


class Reload(NamedTuple):
    """Make the app follow this plan: some processes come, some go, some have other settings.

    Processes are compared by name. The dependencies of a process are in the plan too; others do not count.
    """

    plan: "Plan"


class Shutdown(NamedTuple):
    """End the app with this exit code. A second `insistent` one (a signal, not `quit`) kills everything at once.

    A `detached` process goes on without us instead. `by` is who asks for the end, as a phrase for people.
    """

    code: int
    insistent: bool = False
    by: str = ""


Request = Start | Stop | Restart | Reload | Shutdown
Event = Fact | Request


# Actions.


class Spawn(NamedTuple):
    """Start run number `run` of a process."""

    name: str
    run: int


class SendSignal(NamedTuple):
    """Send a signal to the whole group of a run, or with `only_main` to the program that its command runs.

    With `only_handlers` the signal goes to the programs that handle it, so that it ends no shell.
    """

    name: str
    run: int
    pid: int
    signal: int
    only_main: bool = False
    only_handlers: bool = False


class RunStopCommand(NamedTuple):
    """Run the stop command of this run, instead of a signal."""

    name: str
    run: int


class StartCheck(NamedTuple):
    """Check the health of a run, and report it as `CheckFinished`."""

    name: str
    run: int


class CancelCheck(NamedTuple):
    """Cancel the check that is under way: its result no longer matters."""

    name: str
    run: int


class Release(NamedTuple):
    """Let this run go on without us. From now on it is not ours, and nothing here may end it."""

    name: str
    run: int


class StartHook(NamedTuple):
    """Run a hook of a process. `exit_code` is that of the run that ended, `retries` counts from 1."""

    name: str
    command: str
    exit_code: int | None
    retries: int


class RunPreparation(NamedTuple):
    """Run the command in `watch.run` before the restart, and report it as `PreparationEnded`."""

    name: str
    command: str


class CancelPreparation(NamedTuple):
    """End the preparation that is under way, and report nothing."""

    name: str


class ReadSettings(NamedTuple):
    """Read the files again for this process, which waits for it, and report it as `SettingsRead`."""

    name: str


class Announce(NamedTuple):
    """Print what is done about a process, and why."""

    name: str
    text: str


Action = (
    Spawn
    | SendSignal
    | RunStopCommand
    | StartCheck
    | CancelCheck
    | Release
    | StartHook
    | RunPreparation
    | CancelPreparation
    | ReadSettings
    | Announce
)


# Notices. `time` is wall time in seconds since the epoch.


class Output(NamedTuple):
    """The bytes that a child wrote: whole lines, or a part of a line that was flushed."""

    time: float
    name: str
    data: bytes


class RunBegan(NamedTuple):
    """A child of this process runs. `pty`: it was to have a terminal of its own.

    `since` is when it began, for a process that ran before us and was adopted; else None.
    """

    time: float
    name: str
    pid: int
    pty: bool = False
    since: float | None = None


class RunEnded(NamedTuple):
    """A run is over; `pid` is None if there was no child. `asked`: its end was requested.

    A child that ends by itself may leave others of its group behind; of a stopped run, all have ended.
    """

    time: float
    name: str
    pid: int | None
    exit: Exit
    reason: str
    asked: bool = False


class SignalSent(NamedTuple):
    """The whole group of this child got a signal. `leftovers`: the child itself had ended before."""

    time: float
    name: str
    pid: int
    signal: int
    leftovers: bool = False


class Transition(NamedTuple):
    """A process has a new state, or the same state for another reason.

    `exit` is how the last run ended, None while one runs. `backoff` is the wait in seconds of a process that is
    `restarting`. `reason_before` is its reason before. `restart` is why there will be another run, if this was just
    decided.
    """

    time: float
    name: str
    before: State
    state: State
    reason: str
    retries: int = 0
    backoff: float | None = None
    exit: Exit | None = None
    reason_before: str = ""
    restart: RestartReason | None = None


class Removed(NamedTuple):
    """The app no longer has this process, and nothing of it is left."""

    time: float
    name: str


class Checked(NamedTuple):
    """A health check took `duration` seconds and succeeded (`error` None) or failed."""

    time: float
    name: str
    error: str | None
    duration: float


class Message(NamedTuple):
    """A message of procreaper itself."""

    time: float
    text: str


Notice = Output | RunBegan | RunEnded | SignalSent | Transition | Checked | Removed | Message
