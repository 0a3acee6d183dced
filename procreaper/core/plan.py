"""What is to run: processes and how each is supervised, as frozen values.

Rules: words only. Nothing here reads a file, a clock or the environment; `config` does, and hands over a `Plan`.
Durations are seconds throughout. What may depend on what is said here too, because the command line and the library
both have to refuse the same mistakes.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # Only annotations need it; a project without health checks does not pay for it at start.
    from procreaper.core.checks import Health

# Of one type: what is clearly a slip would otherwise fill the memory before anything is started.
MOST_PROCESSES = 10000
HIGHEST_PORT = 65535


class When(StrEnum):
    """The three words for every question "when?" (the Go library reaper's, Kubernetes' and compose's)."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"

    def applies(self, *, success: bool) -> bool:
        """Whether this word says yes for an end that was, or was not, a success."""
        return self is When.ALWAYS or (self is When.ON_FAILURE and not success)


class Condition(StrEnum):
    """What a process waits for in a dependency; compose's conditions, without their `service_`."""

    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed"


class Dependency(NamedTuple):
    """One edge: wait until process `name` is `condition`; `restart`: be restarted whenever it is restarted."""

    name: str
    condition: Condition = Condition.STARTED
    restart: bool = False


class Backoff(NamedTuple):
    """How long to wait before a retry: `initial`, doubling up to `maximum`; a run up for `reset` clears the count.

    Source of the rule: the Go library reaper (2 s: 2, 4, 8, 16, 30, 30 ...; 45 s).
    """

    initial: float = 1.0
    maximum: float = 30.0
    reset: float = 45.0

    def wait(self, retries: int) -> float:
        """The wait in seconds before retry number `retries`, counted from 1."""
        # 2.0 ** 1024 overflows; long before that every wait has reached the maximum.
        return float(min(self.initial * 2.0 ** min(retries - 1, 60), self.maximum))


class StopPolicy(NamedTuple):
    """How a process is asked to end: by `signal` to its whole group, and SIGKILL after `timeout` seconds.

    With `only_main` the signal goes to the program alone, SIGKILL still to all. A `command` is run by the shell, in the
    environment of the process, instead of the signal.
    """

    signal: int = 15
    timeout: float = 5.0
    command: str | None = None
    only_main: bool = False


class Hooks(NamedTuple):
    """Shell commands that are run when a process is up, will be tried again, or has failed for good."""

    on_ready: str | None = None
    on_retry: str | None = None
    on_fail: str | None = None


class Watch(NamedTuple):
    """What files a process is restarted for. `paths` are paths and patterns as written, from `root` (absolute).

    With `gitignore`, what git ignores is ignored. The restart waits for `debounce` seconds of quiet. `poll` None: as
    the platform needs. `run`: a command that must succeed before the restart; `signal`: sent instead of it.
    """

    root: str
    paths: tuple[str, ...]
    ignore: tuple[str, ...] = ()
    gitignore: bool = True
    debounce: float = 0.05
    poll: bool | None = None
    run: str | None = None
    signal: int | None = None


class LogFile(NamedTuple):
    """Where what a process writes is kept: `path` (absolute) up to `max_size` bytes, and `max_files` older ones.

    Those are `path` with `.1` for the newest, `.2` and so on (supervisord's, logrotate's and Python's names).
    """

    path: str
    max_size: int = 10_000_000
    max_files: int = 3


class Process(NamedTuple):
    """One process: what to run, and how it is supervised.

    A `command` that is a string runs through ``/bin/sh -c``, a tuple runs without a shell. `env` is the whole
    environment of the child, or None for a copy of our own. `success_codes` are shell exit codes (128+n for a
    signal). `max_retries` None means without limit. `oneshot`: it is up when it has completed. `pty`: it has a terminal
    of its own, if there is one to be had. `log`: the file that its output goes to as well; of one that is `detached`,
    and lives on when we end, it goes there only. `port`: its `PORT`, where its own settings ask for one.
    """

    name: str
    command: str | tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    quiet: bool = False
    oneshot: bool = False
    depends_on: tuple[Dependency, ...] = ()
    restart: When = When.NEVER
    backoff: Backoff = Backoff()
    max_retries: int | None = None
    success_codes: frozenset[int] = frozenset({0})
    stop_all: When = When.ALWAYS
    health: "Health | None" = None
    stop: StopPolicy = StopPolicy()
    hooks: Hooks | None = None
    watch: Watch | None = None
    pty: bool = False
    log: LogFile | None = None
    detached: bool = False
    port: int | None = None

    @property
    def type(self) -> str:
        """The process type: ``web`` for ``web.2``."""
        kind, dot, number = self.name.rpartition(".")
        return kind if dot and number.isdecimal() else self.name

    @property
    def up(self) -> Condition:
        """What makes a process of this kind *up*: a oneshot completed, with a health check healthy, else started."""
        if self.oneshot:
            return Condition.COMPLETED
        return Condition.STARTED if self.health is None else Condition.HEALTHY


class Plan(NamedTuple):
    """All processes of an app, in the order in which they start; `names` are those to start, None for all."""

    processes: tuple[Process, ...]
    names: tuple[str, ...] | None = None


def find_cycle(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """A circle of names that depend on each other, the first name again at its end; empty where there is none."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        stack = [iter((start,))]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                if path:
                    done.add(path.pop())
            elif name in path:
                return (*path[path.index(name) :], name)
            elif name not in done:
                path.append(name)
                stack.append(iter(edges.get(name, ())))
    return ()


def reachable(names: Iterable[str], edges: Mapping[str, Iterable[str]]) -> dict[str, None]:
    """These names and whatever can be reached from them, as an ordered set."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting.extend(edges.get(name, ()))
    return found
