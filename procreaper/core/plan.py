"""What is to run: processes and how each is supervised, as frozen values.

Rules: values only. `project` reads the files and makes a `Plan`. Durations are seconds. The rules about cycles of
dependencies are here as well, because the command line and the library refuse the same mistakes.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # Imported for annotations only: a project without health checks does not need it.
    from procreaper.core.checks import Health

# The most instances of one type: an obvious typing error must not fill the memory.
MOST_PROCESSES = 10000
HIGHEST_PORT = 65535


class When(StrEnum):
    """The three words for every question "when?": those of the Go library reaper, of Kubernetes and of compose."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"

    def applies(self, *, success: bool) -> bool:
        """Return whether this word applies to an end that was, or was not, a success."""
        return self is When.ALWAYS or (self is When.ON_FAILURE and not success)


class Condition(StrEnum):
    """What a process waits for in a dependency; the conditions of compose, without their `service_`."""

    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed"


class Dependency(NamedTuple):
    """One edge: the process waits until process `name` is `condition`. With `restart`, it restarts along with it."""

    name: str
    condition: Condition = Condition.STARTED
    restart: bool = False


class Backoff(NamedTuple):
    """The wait before a retry: `initial`, doubled each time up to `maximum`. A run that is up for `reset` clears the
    count.

    Source of the rule: the Go library reaper (2 s: 2, 4, 8, 16, 30, 30 ...; 45 s).
    """

    initial: float = 1.0
    maximum: float = 30.0
    reset: float = 45.0

    def wait(self, retries: int) -> float:
        """Return the wait in seconds before retry number `retries`, counted from 1."""
        # 2.0 ** 1024 overflows; long before that every wait has reached the maximum.
        return float(min(self.initial * 2.0 ** min(retries - 1, 60), self.maximum))


class StopPolicy(NamedTuple):
    """How a process is stopped: `signal` goes to its whole group, and SIGKILL follows after `timeout` seconds.

    With `only_main` the signal goes to the program alone, SIGKILL still to all. If there is a `command`, the shell runs
    it in the environment of the process instead of the signal.
    """

    signal: int = 15
    timeout: float = 5.0
    command: str | None = None
    only_main: bool = False


class Hooks(NamedTuple):
    """Shell commands that run when a process is up, will be retried, or has failed for good."""

    on_ready: str | None = None
    on_retry: str | None = None
    on_fail: str | None = None


class Watch(NamedTuple):
    """The files whose changes restart a process. `paths` are paths and patterns as written, from `root` (absolute).

    With `gitignore`, files that git ignores do not count. The restart waits for `debounce` seconds of quiet. `poll`
    None: only if the platform needs it. `run`: a command that must succeed before the restart. `signal`: a signal that
    replaces the restart.
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
    """The file that keeps the output of a process: `path` (absolute), up to `max_size` bytes, and `max_files` older
    ones.

    The older ones are `path` with `.1` for the newest, `.2` and so on, as with supervisord, logrotate and Python.
    """

    path: str
    max_size: int = 10_000_000
    max_files: int = 3


class Process(NamedTuple):
    """One process: what to run, and how it is supervised.

    A `command` that is a string runs through ``/bin/sh -c``, a tuple runs without a shell. `env` is the whole
    environment of the child, or None for a copy of our own. `success_codes` are exit codes of the shell (128+n for a
    signal). `max_retries` None means without limit. `oneshot`: it is up when it has completed. `pty`: it has a terminal
    of its own, if the system has one. `log`: the file that keeps its output as well. A process that is `detached`
    outlives us, and its output goes to that file only. `port`: its `PORT`, if its own settings name one.
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
        """The condition that makes a process of this kind *up*: completed, healthy, or started."""
        if self.oneshot:
            return Condition.COMPLETED
        return Condition.STARTED if self.health is None else Condition.HEALTHY


class Plan(NamedTuple):
    """All processes of an app, in the order in which they start; `names` are those to start, None for all."""

    processes: tuple[Process, ...]
    names: tuple[str, ...] | None = None


def find_cycle(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the names of a cycle, with the first one again at the end; empty if there is none."""
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
    """Return these names and all that can be reached from them, as an ordered set."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting.extend(edges.get(name, ()))
    return found
