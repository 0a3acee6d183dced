"""What happens, what is wanted, what is decided and what is told: the words that all parts share.

    facts     what happened, in the past tense; reported by the hands, stamped with the run they are about
    requests  what somebody wants
    actions   what the rules decide; carried out by the hands
    notices   what the world is told; stamped with the wall time

They are named tuples and not dataclasses because each frozen dataclass costs a millisecond at import, before the first
child can start; a named tuple costs a sixth of that, and is as immutable. For the same reason annotations are not put
off here, nor in other modules with named tuples that a start needs: `typing` compiles each one that is a text.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procreaper.core.plan import Plan, Process


class State(StrEnum):
    """What a process is doing; the words of supervisord, Docker and the Go library reaper."""

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
    """A state and why, as a phrase; a reason that names the state itself says enough, and so does a state without one.

    >>> with_reason("failed", "exited with code 1")
    'failed: exited with code 1'
    >>> with_reason("unhealthy", "unhealthy: connection refused")
    'unhealthy: connection refused'
    """
    return reason if reason.startswith(state) else f"{state}: {reason}" if reason else str(state)


# What an end counts as of which nobody knows how it was.
UNKNOWN = 1


class RestartReason(StrEnum):
    """Why a process has one more run: how the last one ended, or what somebody has done."""

    EXIT = "exit"
    UNHEALTHY = "unhealthy"
    MANUAL = "manual"
    CHANGE = "change"
    DEPENDENCY = "dependency"


class Exit(NamedTuple):
    """How a child ended: by an exit `code`, or by a `signal` number. With neither nobody knows, and it is a failure."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def of(cls, returncode: int) -> "Exit":
        """From the number that Python's subprocess gives, which is negative for a signal."""
        return cls(signal=-returncode) if returncode < 0 else cls(code=returncode)

    @property
    def status(self) -> int:
        """The shell's number for it: the code, or 128 plus the signal; `UNKNOWN` where nobody knows."""
        if self.signal is not None:
            return 128 + self.signal
        return self.code if self.code is not None else UNKNOWN

    @property
    def known(self) -> bool:
        """Whether anybody knows how it ended: of a child of an earlier procreaper, only that one was told."""
        return self.code is not None or self.signal is not None

    @property
    def returncode(self) -> int:
        """Python's number for it, which honcho prints: the code, or the negative signal."""
        return -self.signal if self.signal is not None else self.status


# Facts.


class Spawned(NamedTuple):
    """A child runs; always reported before its `ChildExited`."""

    name: str
    run: int
    pid: int


class SpawnFailed(NamedTuple):
    """No child came of it. `permanent`: trying again cannot help; `code` is what a shell would have said (126, 127)."""

    name: str
    run: int
    error: str
    code: int
    permanent: bool


class ChildExited(NamedTuple):
    """The child itself has been reaped; `leftovers`: others of its group are still alive."""

    name: str
    run: int
    exit: Exit
    leftovers: bool


class GroupEnded(NamedTuple):
    """After a `ChildExited` with leftovers: now the whole group is gone."""

    name: str
    run: int


class StopCommandFailed(NamedTuple):
    """The command that was to ask a run to end has failed, so the run may not know of it."""

    name: str
    run: int


class CheckFinished(NamedTuple):
    """A health check has succeeded (`error` None), failed, or was `skipped` because the child is held by a debugger."""

    name: str
    run: int
    error: str | None = None
    skipped: bool = False


class OutputBegan(NamedTuple):
    """The run has written something for the first time; reported only where a log line tells that it is ready."""

    name: str
    run: int


class LogMatched(NamedTuple):
    """The line of output that tells that this run is ready has come."""

    name: str
    run: int


class FilesChanged(NamedTuple):
    """Files were written, appeared or vanished: for each process that watches any, their paths from its root.

    For the processes in `outdated`, the settings come from one of these files. `more`: further changes are on their
    way, as in a branch switch. The next report that is without it names each process that was promised more, even if
    there are no paths after all.
    """

    changes: "Mapping[str, tuple[str, ...]]"
    outdated: frozenset[str] = frozenset()
    more: bool = False


class PreparationEnded(NamedTuple):
    """The command that a change of files runs before the restart has ended."""

    name: str
    succeeded: bool


class SettingsRead(NamedTuple):
    """The files were read again for this process, which waits for that; None: it keeps the settings that it has."""

    name: str
    process: "Process | None"


class TerminalOpened(NamedTuple):
    """Somebody is at the terminal of this process now, where nobody was."""

    name: str


class TerminalClosed(NamedTuple):
    """Nobody is at the terminal of this process any more."""

    name: str


class TimeLost(NamedTuple):
    """procreaper did not run for `seconds`, because it was stopped or frozen: that time counts for no limit."""

    seconds: float


class Tick(NamedTuple):
    """Nothing but time has passed; sent when a deadline is due."""


# What is known of one run; a fact about another run than the current one is stale.
RunFact = (
    Spawned | SpawnFailed | ChildExited | GroupEnded | CheckFinished | OutputBegan | LogMatched | StopCommandFailed
)
Fact = RunFact | FilesChanged | PreparationEnded | SettingsRead | TerminalOpened | TerminalClosed | TimeLost | Tick


# Requests.


class Start(NamedTuple):
    """Have these run. What runs already is left alone."""

    names: tuple[str, ...]


class Stop(NamedTuple):
    """Have these not run; what depends on them is left alone, and so is the app."""

    names: tuple[str, ...]


class Restart(NamedTuple):
    """Have a new run of each of these, without back-off."""

    names: tuple[str, ...]


class Reload(NamedTuple):
    """Have the app be what this plan says: some processes come, some go, some have other settings.

    Processes are compared by name. What a plan's processes depend on is in the plan too, or no dependency.
    """

    plan: "Plan"


class Shutdown(NamedTuple):
    """End the app with this exit code. A second one that is `insistent` (a signal, not a `quit`) means: kill now.

    What is `detached` is let go instead, and lives on. `by` is what asks for it, as a phrase for people.
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

    With `only_handlers` the signal goes to the programs that handle it, so that no shell dies of it.
    """

    name: str
    run: int
    pid: int
    signal: int
    only_main: bool = False
    only_handlers: bool = False


class RunStopCommand(NamedTuple):
    """Run the command that asks this run to end, instead of a signal."""

    name: str
    run: int


class StartCheck(NamedTuple):
    """Check the health of a run, and report it as `CheckFinished`."""

    name: str
    run: int


class CancelCheck(NamedTuple):
    """The result of the check under way does not matter any more."""

    name: str
    run: int


class Release(NamedTuple):
    """This run lives on without us: it is not ours any more, and must not be ended, whatever happens."""

    name: str
    run: int


class StartHook(NamedTuple):
    """Run a hook of a process; `exit_code` is that of the run that ended, `retries` counts from 1."""

    name: str
    command: str
    exit_code: int | None
    retries: int


class RunPreparation(NamedTuple):
    """Run the command that a change of files runs before the restart, and report it as `PreparationEnded`."""

    name: str
    command: str


class CancelPreparation(NamedTuple):
    """The preparation under way is of no use any more: end it, and report nothing."""

    name: str


class ReadSettings(NamedTuple):
    """Read the files again for this process, which does not start before, and report it as `SettingsRead`."""

    name: str


class Announce(NamedTuple):
    """Tell people what is done about a process, and why."""

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
    """Bytes that a child wrote: whole lines, or, where `data` does not end one, a part that was flushed."""

    time: float
    name: str
    data: bytes


class RunBegan(NamedTuple):
    """A child of this process runs. `pty`: it was to have a terminal of its own.

    `since` is when it began, where it has been running already and is adopted; else None.
    """

    time: float
    name: str
    pid: int
    pty: bool = False
    since: float | None = None


class RunEnded(NamedTuple):
    """A run is over; `pid` is None where no child came of it. `asked`: somebody wanted it to end.

    A child that ends by itself may leave others of its group behind; of one that was told to end, all are gone.
    """

    time: float
    name: str
    pid: int | None
    exit: Exit
    reason: str
    asked: bool = False


class SignalSent(NamedTuple):
    """The whole group of this child was sent a signal. `leftovers`: the child itself has ended before."""

    time: float
    name: str
    pid: int
    signal: int
    leftovers: bool = False


class Transition(NamedTuple):
    """A process went from one state to another, or stays in it for another reason.

    `exit` is how the last run ended, None while one runs; `backoff` the wait in seconds of a process that is
    `restarting`; `reason_before` what its reason was. `restart` is why there is to be one more run, where that has just
    been settled.
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
    """A process is not of the app any more, and nothing of it is left."""

    time: float
    name: str


class Checked(NamedTuple):
    """A health check took so many seconds and succeeded (`error` None) or failed."""

    time: float
    name: str
    error: str | None
    duration: float


class Message(NamedTuple):
    """Something that procreaper itself has to say."""

    time: float
    text: str


Notice = Output | RunBegan | RunEnded | SignalSent | Transition | Checked | Removed | Message
