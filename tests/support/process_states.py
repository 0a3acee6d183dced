"""One process under test: the situations it can be in, and what one event makes of it."""

from __future__ import annotations

from procreaper.core import lifecycle
from procreaper.core.checks import Health
from procreaper.core.events import (
    Action,
    CheckFinished,
    ChildExited,
    Event,
    Exit,
    FilesChanged,
    Restart,
    SendSignal,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    State,
    Stop,
)
from procreaper.core.plan import Backoff, Process, StopPolicy, Watch, When
from procreaper.core.state import ProcessState
from support.fleet_driver import HEALTH, SIGTERM

PID = 4000

WATCH = Watch("/srv", ("app",), debounce=0.05)
SIGHUP = 1
ON_SIGNAL = WATCH._replace(signal=SIGHUP)
PREPARED = WATCH._replace(run="make")

START, STOP, RESTART = Start(("web",)), Stop(("web",)), Restart(("web",))


def web(
    restart: When = When.NEVER,
    *,
    backoff: Backoff = Backoff(2.0, 30.0, 45.0),
    max_retries: int | None = None,
    success_codes: frozenset[int] = frozenset({0}),
    stop: StopPolicy = StopPolicy(SIGTERM, 5.0),
    health: Health | None = None,
    watch: Watch | None = None,
) -> Process:
    return Process(
        "web",
        "run",
        restart=restart,
        backoff=backoff,
        max_retries=max_retries,
        success_codes=success_codes,
        stop=stop,
        health=health,
        watch=watch,
    )


def step(process_state: ProcessState, event: Event, now: float = 0.0) -> tuple[ProcessState, list[Action]]:
    """One step; a process that is pending afterwards is launched at once, as the fleet does."""
    process_state, actions = lifecycle.step(process_state, event, now)
    if process_state.state is State.PENDING:
        process_state, launch = lifecycle.launch(process_state)
        actions = (*actions, *launch)
    elif process_state.needs_stop_signal:
        process_state, signal = lifecycle.send_stop(process_state, now)
        actions = (*actions, *signal)
    return process_state, list(actions)


def after(process_state: ProcessState, *events: Event, now: float = 0.0) -> ProcessState:
    for event in events:
        process_state, _ = step(process_state, event, now)
    return process_state


def pending(process: Process) -> ProcessState:
    return lifecycle.step(ProcessState(process), START, 0.0)[0]


def spawning(process: Process) -> ProcessState:
    return lifecycle.launch(pending(process))[0]


def spawned(process_state: ProcessState) -> Spawned:
    return Spawned("web", process_state.run, PID + process_state.run)


def alive(process: Process, *, now: float = 0.0) -> ProcessState:
    process_state = spawning(process)
    return after(process_state, spawned(process_state), now=now)


def checked(process_state: ProcessState, error: str | None = None, *, skipped: bool = False) -> CheckFinished:
    return CheckFinished("web", process_state.run, error, skipped)


def healthy(restart: When = When.ON_FAILURE, health: Health = HEALTH, *, now: float = 0.0) -> ProcessState:
    process_state = alive(web(restart, health=health), now=now)
    return after(process_state, checked(process_state), now=now)


def exited(process_state: ProcessState, returncode: int, *, leftovers: bool = False) -> ChildExited:
    return ChildExited("web", process_state.run, Exit.of(returncode), leftovers)


def failed_to_spawn(process_state: ProcessState, *, permanent: bool) -> SpawnFailed:
    return SpawnFailed("web", process_state.run, "no such file or directory", 127, permanent)


def lingering(process: Process, returncode: int = 1) -> ProcessState:
    process_state = alive(process)
    return after(process_state, exited(process_state, returncode, leftovers=True))


def stopping(process: Process) -> ProcessState:
    return after(alive(process), STOP)


def restarting(process: Process, *, now: float = 0.0) -> ProcessState:
    process_state = alive(process)
    return after(process_state, exited(process_state, 1), now=now)


def changed(*paths: str) -> FilesChanged:
    return FilesChanged({"web": paths or ("app.py",)})


def signals(actions: list[Action]) -> list[int]:
    """The signals among the actions; whatever else there is fails the test."""
    numbers = []
    for action in actions:
        assert isinstance(action, SendSignal)
        numbers.append(action.signal)
    return numbers


def spawns(actions: list[Action]) -> list[int]:
    """The runs that the actions begin; whatever else there is fails the test."""
    runs = []
    for action in actions:
        assert isinstance(action, Spawn)
        runs.append(action.run)
    return runs
