"""A fleet under test: the processes it is made of, what happens to it, and what it decides."""

from __future__ import annotations

from procreaper.core import fleet
from procreaper.core.checks import Health, LogCheck, TCPCheck
from procreaper.core.events import (
    Action,
    Announce,
    CheckFinished,
    ChildExited,
    Event,
    Exit,
    FilesChanged,
    GroupEnded,
    LogMatched,
    Reload,
    Restart,
    SendSignal,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    StartCheck,
    State,
    Stop,
    Tick,
)
from procreaper.core.fleet import Fleet
from procreaper.core.plan import Backoff, Condition, Dependency, Hooks, Plan, Process, StopPolicy, Watch, When

SIGINT, SIGKILL, SIGTERM = 2, 9, 15
TICK = Tick()
CHECK = TCPCheck(":80")
LOG = LogCheck("ready")
HEALTH = Health(check=CHECK, interval=10.0, timeout=5.0, retries=3, start_interval=0.5, start_timeout=60.0)


def process(
    name: str,
    *depends_on: str | Dependency,
    restart: When = When.NEVER,
    stop_all: When = When.ALWAYS,
    backoff: Backoff = Backoff(2.0, 30.0, 45.0),
    max_retries: int | None = None,
    success_codes: frozenset[int] = frozenset({0}),
    timeout: float = 5.0,
    stop: StopPolicy | None = None,
    oneshot: bool = False,
    health: Health | None = None,
    hooks: Hooks | None = None,
    watch: Watch | None = None,
) -> Process:
    """A process; a dependency that is only a name waits until that one is started."""
    return Process(
        name,
        "run",
        depends_on=tuple(Dependency(edge) if isinstance(edge, str) else edge for edge in depends_on),
        restart=restart,
        stop_all=stop_all,
        backoff=backoff,
        max_retries=max_retries,
        success_codes=success_codes,
        stop=StopPolicy(SIGTERM, timeout) if stop is None else stop,
        oneshot=oneshot,
        health=health,
        hooks=hooks,
        watch=watch,
    )


def healthy(name: str, *, restart: bool = False) -> Dependency:
    return Dependency(name, Condition.HEALTHY, restart)


def completed(name: str, *, restart: bool = False) -> Dependency:
    return Dependency(name, Condition.COMPLETED, restart)


def following(name: str) -> Dependency:
    """The edge to a dependency with which one is restarted."""
    return Dependency(name, restart=True)


class App:
    """Keeps the fleet, the time and the actions of the last event."""

    def __init__(self, *processes: Process) -> None:
        self.fleet: Fleet = fleet.begin(Plan(processes))
        self.now = 0.0
        self.actions: tuple[Action, ...] = ()

    def tell(self, event: Event) -> tuple[Action, ...]:
        self.fleet, self.actions = fleet.step(self.fleet, event, self.now)
        return self.actions

    def start(self, *names: str) -> App:
        """Start these, or all, and answer every spawn."""
        self.tell(Start(names or tuple(self.fleet.members)))
        return self.answer()

    def answer(self) -> App:
        """Answer the spawns of the last event, and those that follow from it."""
        while launches := [action for action in self.actions if isinstance(action, Spawn)]:
            following: list[Action] = []
            for launch in launches:
                following.extend(self.tell(Spawned(launch.name, launch.run, 100 + len(launch.name) + launch.run)))
            self.actions = tuple(following)
        return self

    def stop(self, *names: str) -> tuple[Action, ...]:
        return self.tell(Stop(names))

    def restart(self, *names: str) -> tuple[Action, ...]:
        return self.tell(Restart(names))

    def reload(self, *processes: Process, names: tuple[str, ...] | None = None) -> tuple[Action, ...]:
        """Have the app be these."""
        return self.tell(Reload(Plan(processes, names)))

    def spawned(self, name: str, pid: int = 1) -> tuple[Action, ...]:
        return self.tell(Spawned(name, self.run(name), pid))

    def not_spawned(self, name: str, *, permanent: bool = True) -> tuple[Action, ...]:
        return self.tell(SpawnFailed(name, self.run(name), "no such file", 127, permanent))

    def exited(self, name: str, returncode: int, *, leftovers: bool = False) -> tuple[Action, ...]:
        return self.tell(ChildExited(name, self.run(name), Exit.of(returncode), leftovers))

    def group_ended(self, name: str) -> tuple[Action, ...]:
        return self.tell(GroupEnded(name, self.run(name)))

    def checked(self, name: str, error: str | None = None, *, skipped: bool = False) -> tuple[Action, ...]:
        return self.tell(CheckFinished(name, self.run(name), error, skipped))

    def matched(self, name: str) -> tuple[Action, ...]:
        return self.tell(LogMatched(name, self.run(name)))

    def changed(
        self, *names: str, path: str = "app.py", now: float | None = None, more: bool = False
    ) -> tuple[Action, ...]:
        """This file of all these processes has changed."""
        self.now = self.now if now is None else now
        return self.tell(FilesChanged(dict.fromkeys(names, (path,)), more=more))

    def tick(self, now: float) -> tuple[Action, ...]:
        self.now = now
        return self.tell(TICK)

    def run(self, name: str) -> int:
        return self.fleet.members[name].run

    def state(self, name: str) -> State:
        return self.fleet.members[name].state

    def reason(self, name: str) -> str:
        return self.fleet.members[name].reason

    @property
    def states(self) -> dict[str, str]:
        """The word for each process."""
        return {name: str(process_state.state) for name, process_state in self.fleet.members.items()}

    @property
    def verdict(self) -> int | None:
        """The exit code, once the app is finished."""
        return self.fleet.exit_code if self.fleet.finished else None


def signals(actions: tuple[Action, ...]) -> dict[str, int]:
    """Who gets which signal; fails if there is any other action, or two for one process."""
    sent: dict[str, int] = {}
    for action in actions:
        assert isinstance(action, SendSignal)
        assert action.name not in sent
        sent[action.name] = action.signal
    return sent


def spawns(actions: tuple[Action, ...]) -> list[str]:
    """Who is launched, in order; fails if there is any other action."""
    names = []
    for action in actions:
        assert isinstance(action, Spawn)
        names.append(action.name)
    return names


def announced(actions: tuple[Action, ...]) -> list[str]:
    """What people are told, with the name before it."""
    return [f"{action.name}: {action.text}" for action in actions if isinstance(action, Announce)]


def without_words(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """What is done, without what is said about it."""
    return tuple(action for action in actions if not isinstance(action, Announce))


def checks(actions: tuple[Action, ...]) -> list[str]:
    """Whose health is checked; fails if there is any other action."""
    names = []
    for action in actions:
        assert isinstance(action, StartCheck)
        names.append(action.name)
    return names
