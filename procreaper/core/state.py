"""The state of one process: a frozen value that `lifecycle` changes and all other modules read.

Rules: pure. The *state* is a word for people. It is kept apart from the *phase*, which says where the operating
system's processes of the run are:

    NONE --launch--> SPAWNING --Spawned--> ALIVE --ChildExited--> NONE
                        |                    |                     ^
                        +--SpawnFailed--> NONE    (leftovers) --> LINGERING --GroupEnded
"""

from collections.abc import Collection
from enum import Enum
from typing import NamedTuple, assert_never

from procreaper.core.events import Exit, RestartReason, State
from procreaper.core.plan import Condition, Process, StopPolicy

# Reasons that say no more than the state.
ABOUT_TO_START, HEALTHY, STOPPING = "about to start", "healthy", "stopping"
PAUSED = "checks paused: a client is attached"
# The last part of the reason if changed files start the process again.
UNTIL_A_CHANGE = "; starts again when its files change"
FINAL_STATES = (State.COMPLETED, State.FAILED, State.SKIPPED)


class Phase(Enum):
    """Where the operating system's processes of the current run are."""

    NONE = "none"
    SPAWNING = "spawning"
    ALIVE = "alive"
    LINGERING = "lingering"


class HealthState(NamedTuple):
    """The health of one run.

    `passed`: the run was healthy once. `failures` counts the failed checks in a row since then, and `error` is the last
    failure. `silent`: the run writes to a pipe and has written nothing so far. The next check is at `due`, and the
    start has taken too long at `limit`; each is None if there is no such time. While `paused_at` is set, neither
    counts. `interrupted`: procreaper did not run during a part of the check that is under way, so a failure of this
    check means nothing.
    """

    passed: bool = False
    log_seen: bool = True
    silent: bool = False
    checking: bool = False
    failures: int = 0
    error: str = ""
    due: float | None = None
    limit: float | None = None
    paused_at: float | None = None
    interrupted: bool = False

    @property
    def is_timed(self) -> bool:
        """Whether a time limit runs: the limit of the start or of a check."""
        return self.checking or (self.limit is not None and self.paused_at is None)

    @property
    def deadline(self) -> float | None:
        """The time of the next check or limit, or None."""
        if self.paused_at is not None:
            return None
        if self.due is None or self.limit is None:
            return self.limit if self.due is None else self.due
        return min(self.due, self.limit)


class Change(NamedTuple):
    """Changed files that have had no consequence yet; it comes at `due`.

    If `calm` is not 0, no file may change for this number of seconds before. `echo`: all of these files changed while
    the command ran that `watch.run` runs for changes.
    """

    first: str
    paths: frozenset[str]
    since: float
    due: float
    calm: float = 0.0
    echo: bool = False

    def __str__(self) -> str:
        return named(self.first, self.paths)


class RestartThrottle(NamedTuple):
    """The `times` of the last restarts for changed files. Before the last `calmed` of them there was a calm.

    `suspended` is the file for which the watch was suspended, or empty.
    """

    times: tuple[float, ...] = ()
    calmed: int = 0
    suspended: str = ""


class Echoes(NamedTuple):
    """The `paths` that changed while the command ran in each of the last `rounds`; the command itself changes those in
    `own`.
    """

    rounds: int = 0
    paths: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()


def named(first: str, paths: Collection[str]) -> str:
    """Return the name of one file, and the number of the others."""
    others = len(paths) - 1
    return first if not others else f"{first} and {others} other{'s' if others > 1 else ''}"


class ProcessState(NamedTuple):
    """All that the rules know of one process.

    Intent: `wanted` says whether the process is to run. `asked`: it was wanted at least once. `stopped_by_user`: it was
    stopped by hand since. `retries` counts the failures in a row and resets; `restarts` only grows.

    The current run, or the last one: `exit` is how the child ended, `verdict` is what the run counts as, and `cause`
    says so in words. `succeeded`: the run was a success, although under `always` it may have been one too many.
    `because` is the reason for the next run. `asked_to_end`: the run is to end on request. `stop_sent`: its group got
    the stop signal; `killed`: it got SIGKILL; `out_of_reach`: it outlived that. `came_up`: the run is up, or was up
    once. `releasing`: the run becomes independent of us as soon as it is spawned. `spawned_with` are the settings of
    this run, if the process has others by now or the run was told to end.

    `preparing`: the command that `watch.run` runs for changes is under way. `attached`: a client is at the terminal of
    the process. `outdated`: the settings are read again before the next run; `rereading`: this is under way. `was_up`:
    the process was up since it was last stopped, so its next run waits for no dependency. `waits_for` are the
    dependencies that a `pending` process waits for. A process that comes back after it was removed goes on counting its
    runs after `earlier_runs`.
    """

    process: Process
    state: State = State.STOPPED
    reason: str = "not started"
    asked: bool = False
    stopped_by_user: bool = False
    wanted: bool = False
    phase: Phase = Phase.NONE
    run: int = 0
    pid: int | None = None
    exit: Exit | None = None
    verdict: Exit | None = None
    cause: str = ""
    succeeded: bool = False
    because: RestartReason = RestartReason.EXIT
    end: State | None = None
    asked_to_end: bool = False
    stop_sent: bool = False
    killed: bool = False
    out_of_reach: bool = False
    health: HealthState | None = None
    up_since: float | None = None
    retries: int = 0
    restarts: int = 0
    due: float | None = None
    change: Change | None = None
    throttle: RestartThrottle = RestartThrottle()
    preparing: bool = False
    echoes: Echoes = Echoes()
    came_up: bool = False
    attached: bool = False
    releasing: bool = False
    spawned_with: Process | None = None
    earlier_runs: int = 0
    outdated: bool = False
    rereading: bool = False
    was_up: bool = False
    waits_for: tuple[str, ...] = ()

    @property
    def has_run(self) -> bool:
        """Whether the process has run since it was added, or added again."""
        return self.run > self.earlier_runs

    @property
    def stop(self) -> StopPolicy:
        """How this run is stopped."""
        return (self.spawned_with or self.process).stop

    @property
    def settled(self) -> bool:
        """Whether no run exists and none will follow without a request."""
        return self.phase is Phase.NONE and not self.wanted

    @property
    def is_alive(self) -> bool:
        """Whether a child runs that is not about to end."""
        return self.phase is Phase.ALIVE and self.state is not State.STOPPING

    @property
    def up(self) -> bool:
        """Whether the process is *up*: completed, or what counts as up for its kind (`Process.up`)."""
        return self.state is State.COMPLETED or self.satisfies(self.process.up)

    def satisfies(self, condition: Condition) -> bool:
        """Whether a dependant that waits for this condition may start."""
        match condition:
            case Condition.STARTED:
                return self.is_alive or self.state is State.COMPLETED
            case Condition.HEALTHY:
                return self.state is State.HEALTHY
            case Condition.COMPLETED:
                return self.state is State.COMPLETED
            case _:
                assert_never(condition)

    @property
    def needs_stop_signal(self) -> bool:
        """Whether the run is to end, and has not got its stop signal yet."""
        return self.state is State.STOPPING and self.pid is not None and not self.stop_sent

    @property
    def steady_from(self) -> float | None:
        """When this run will have been up long enough to reset the retries; None if there is nothing to reset."""
        if not self.retries or self.up_since is None:
            return None
        return self.up_since + self.process.backoff.reset

    @property
    def restart_pending(self) -> bool:
        """Whether changed files do not matter now: the next run is still to begin, or a dependency will never be up."""
        return self.state in (State.PENDING, State.SKIPPED) or (self.state is State.STOPPING and self.asked_to_end)

    @property
    def run_requested(self) -> bool:
        """Whether the next run is about to begin: no run exists, or the present one ends on request."""
        return self.wanted and (self.state is State.PENDING or (self.state is State.STOPPING and self.asked_to_end))

    @property
    def handles_signals(self) -> bool:
        """Whether the run can be expected to handle a signal: not while it is starting."""
        return self.is_alive and self.state is not State.STARTING

    @property
    def reacts_to_changes(self) -> bool:
        """Whether changed files have a consequence: not before the first request, nor after a stop by hand."""
        return (
            self.process.watch is not None and self.asked and not self.stopped_by_user and not self.throttle.suspended
        )
