"""What is known of one process: a frozen value, which `lifecycle` changes and everything else reads.

Rules: pure. Two things are kept apart here: the *state*, a word for people, and the *phase*, where the run's
operating-system processes are:

    NONE --launch--> SPAWNING --Spawned--> ALIVE --ChildExited--> NONE
                        |                    |                     ^
                        +--SpawnFailed--> NONE    (leftovers) --> LINGERING --GroupEnded
"""

from collections.abc import Collection
from enum import Enum
from typing import NamedTuple, assert_never

from procreaper.core.events import Exit, RestartReason, State
from procreaper.core.plan import Condition, Process, StopPolicy

# Reasons that mean nothing but the state.
ABOUT_TO_START, HEALTHY, STOPPING = "about to start", "healthy", "stopping"
PAUSED = "checks paused: somebody is attached"
# How the reason of an end goes on that is none for ever.
UNTIL_A_CHANGE = "; starts again when its files change"
FINAL_STATES = (State.COMPLETED, State.FAILED, State.SKIPPED)


class Phase(Enum):
    """Where the operating-system processes of the current run are."""

    NONE = "none"
    SPAWNING = "spawning"
    ALIVE = "alive"
    LINGERING = "lingering"


class HealthState(NamedTuple):
    """What is known of the health of one run.

    `silent`: it writes to a pipe, and has written nothing so far. `passed`: it was up once; `failures` in a row since
    then, `error` the last one. `due` is when the next check is, `limit` when the start has taken too long; both None
    where there is none. `paused_at` is since when neither counts. `interrupted`: procreaper did not run during a part
    of the check that is under way, so a failure of this check means nothing.
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
        """Whether a limit runs: that of the start, or that of a check."""
        return self.checking or (self.limit is not None and self.paused_at is None)

    @property
    def deadline(self) -> float | None:
        """When something is to be done, or None."""
        if self.paused_at is not None:
            return None
        if self.due is None or self.limit is None:
            return self.limit if self.due is None else self.due
        return min(self.due, self.limit)


class Change(NamedTuple):
    """Changed files that nothing was done for yet; `due` is when something will be.

    `calm` is for how many seconds nothing may change before, where that is more than the debounce. `echo`: all of it
    happened while the command ran that is run for changes.
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
    """The `times` of the last restarts for changes; before the last `calmed` of them there was a calm.

    `suspended` is the file that the watch was suspended for, or empty.
    """

    times: tuple[float, ...] = ()
    calmed: int = 0
    suspended: str = ""


class Echoes(NamedTuple):
    """The `paths` that changed while the command ran in each of the last `rounds`; `own` are those that it changes."""

    rounds: int = 0
    paths: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()


def named(first: str, paths: Collection[str]) -> str:
    """One file by its name, and the number of the others."""
    others = len(paths) - 1
    return first if not others else f"{first} and {others} other{'s' if others > 1 else ''}"


class ProcessState(NamedTuple):
    """All that is known of one process. `retries` counts in a row and resets; `restarts` only grows.

    `asked`: somebody wanted it once; `dismissed`: and somebody stopped it since. `told`: the group has been asked to
    end; `killed`: it was sent SIGKILL; `out_of_reach`: to no avail. `exit` is how the child ended, `verdict` what that
    run counts as, `cause` in words; `succeeded`: that was a success, though under `always` it may have been one too
    many. `because` is why its next run is one more. `preparing`: the command that a change of files runs first is under
    way. `came_up`: this run is, or once was, up. `attached`: somebody is at its terminal. `releasing`: it lives on
    without us, as soon as it is there. `parting` is what it was when this run began, where it is to become something
    else, or when this run was told to end. It was once removed after `earlier_runs` runs: no number is used again.
    `outdated`: its settings are read again before its next run; `rereading`: that is under way. `was_up`: it has been
    up since it was last stopped, so its next run waits for no dependency. `waits_for` are the dependencies that a
    `pending` process waits for.
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
    told: bool = False
    killed: bool = False
    out_of_reach: bool = False
    checkup: HealthState | None = None
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
        """Whether there was a run of it since it came, or came back."""
        return self.run > self.earlier_runs

    @property
    def stop(self) -> StopPolicy:
        """How this run is asked to end."""
        return (self.spawned_with or self.process).stop

    @property
    def settled(self) -> bool:
        """Nothing of it runs, and nothing will until somebody asks."""
        return self.phase is Phase.NONE and not self.wanted

    @property
    def lives(self) -> bool:
        """A child of it runs and is not about to end."""
        return self.phase is Phase.ALIVE and self.state is not State.STOPPING

    @property
    def up(self) -> bool:
        """Whether it is *up*: completed, or what makes a process of its kind up (`Process.up`)."""
        return self.state is State.COMPLETED or self.satisfies(self.process.up)

    def satisfies(self, condition: Condition) -> bool:
        """Whether a process that waits for this condition may start."""
        match condition:
            case Condition.STARTED:
                return self.lives or self.state is State.COMPLETED
            case Condition.HEALTHY:
                return self.state is State.HEALTHY
            case Condition.COMPLETED:
                return self.state is State.COMPLETED
            case _:
                assert_never(condition)

    @property
    def untold(self) -> bool:
        """What lives of its group is to end, but has not been asked to yet."""
        return self.state is State.STOPPING and self.pid is not None and not self.told

    @property
    def steady_from(self) -> float | None:
        """When this run has stayed up long enough for its retries to be forgotten; None where there are none."""
        if not self.retries or self.up_since is None:
            return None
        return self.up_since + self.process.backoff.reset

    @property
    def restart_pending(self) -> bool:
        """Its next run has not begun and will, or it waits for what will never be: what changes does not matter."""
        return self.state in (State.PENDING, State.SKIPPED) or (self.state is State.STOPPING and self.asked_to_end)

    @property
    def asked_anew(self) -> bool:
        """Its next run is about to come: nothing of it runs, or somebody has asked for the end of the present run."""
        return self.wanted and (self.state is State.PENDING or (self.state is State.STOPPING and self.asked_to_end))

    @property
    def listens(self) -> bool:
        """It can be expected to know what to do when it gets a signal: not while it is starting."""
        return self.lives and self.state is not State.STARTING

    @property
    def follows_changes(self) -> bool:
        """Whether changed files are a reason to do something: not before it is asked for, nor after a stop by hand."""
        return (
            self.process.watch is not None and self.asked and not self.stopped_by_user and not self.throttle.suspended
        )
