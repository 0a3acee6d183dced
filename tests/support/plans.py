"""Random plans, with all policies, health checks, dependencies and ways to watch files, and with extreme numbers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from procreaper.core.checks import Health
from procreaper.core.plan import Backoff, Condition, Dependency, Hooks, Process, StopPolicy, Watch, When
from support.fleet_driver import CHECK, LOG, SIGINT, SIGKILL, SIGTERM

WORDS = tuple(When)
CONDITIONS = tuple(Condition)
BACKOFFS = (Backoff(2.0, 30.0, 45.0), Backoff(2.0, 30.0, 45.0), Backoff(0.5, 1.0, 5.0), Backoff(0.0, 0.0, 0.0))
STOP_POLICIES = (
    StopPolicy(SIGTERM, 5.0),
    StopPolicy(SIGTERM, 5.0),
    StopPolicy(SIGINT, 2.0),
    StopPolicy(SIGKILL, 0.0),
    StopPolicy(SIGTERM, 0.0),
    StopPolicy(SIGTERM, 3.0, command="ask nicely"),
    StopPolicy(SIGTERM, 5.0, only_main=True),
)
HEALTHS = (
    Health(check=CHECK, interval=10.0, retries=3, start_interval=0.5, start_timeout=60.0),
    Health(check=CHECK, interval=1.0, retries=1, start_interval=0.5, start_timeout=2.0),
    Health(check=CHECK, interval=2.0, retries=2, start_interval=5.0, start_timeout=3.0),
    Health(log=LOG, start_timeout=5.0),
    Health(check=CHECK, log=LOG, interval=3.0, retries=2, start_timeout=7.0),
)
# The signal for a change of files. No other event in these plans sends it.
CHANGE_SIGNAL = 10
WATCHES = (
    Watch("/", ("app",), debounce=0.05),
    Watch("/", ("app",), debounce=0.0),
    Watch("/", ("app",), debounce=3.0),
    Watch("/", ("app",), debounce=20.0),
    Watch("/", ("app",), signal=CHANGE_SIGNAL),
    Watch("/", ("app",), run="make"),
    Watch("/", ("app",), debounce=1.0, run="make", signal=CHANGE_SIGNAL),
)
HOOKS = Hooks("is up", "once more", "failed")
NAMES = ("one", "two", "three", "four", "five", "six")


def random_plan(random: Random) -> tuple[Process, ...]:
    """Return one to six processes. A few plans have more than are launched at once."""
    return _random_processes(NAMES[: random.choice((1, 2, 2, 3, 3, 3, 4, 6))], random)


def change_plan(processes: tuple[Process, ...], random: Random) -> tuple[Process, ...]:
    """Return a changed plan: some processes are missing, some differ in a few settings, and there may be new ones."""
    kept = {process.name: process for process in processes if random.random() < 0.8}
    names = [name for name in NAMES if name in kept or random.random() < 0.15]
    fresh = {process.name: process for process in _random_processes(names, random)}
    changed = random.choice((0.0, 0.05, 0.1, 0.4))
    found = []
    for name in random.sample(names, len(names)) if random.random() < 0.3 else names:
        process = kept.get(name, fresh[name])
        others = {field: getattr(fresh[name], field) for field in Process._fields if random.random() < changed}
        process = process._replace(**others)
        edges = tuple(edge for edge in process.depends_on if edge.name in names)
        found.append(process._replace(depends_on=edges))
    return tuple(found)


def _random_processes(names: Sequence[str], random: Random) -> tuple[Process, ...]:
    """Make a process for each name. Each depends only on earlier `NAMES`, so two plans together have no cycle."""
    processes: list[Process] = []
    dense = random.random()
    calm = random.random() < 0.5
    watched = random.choice((0.0, 0.0, 0.5, 1.0))
    for name in names:
        edges = [_random_edge(other, random) for other in processes if random.random() < dense]
        health = random.choice(HEALTHS) if random.random() < 0.45 else None
        process = Process(
            name,
            random.choice(("run", "run", "run it")),
            detached=random.random() < 0.12,
            oneshot=random.random() < 0.15,
            depends_on=tuple(edges),
            restart=random.choice(WORDS),
            backoff=random.choice(BACKOFFS),
            max_retries=random.choice((None, None, 0, 1, 2)),
            success_codes=frozenset(random.choice(((0,), (0,), (0, 143), (1, 124, 127)))),
            stop_all=When.NEVER if calm or random.random() < 0.5 else random.choice(WORDS),
            health=health,
            stop=random.choice(STOP_POLICIES),
            hooks=HOOKS if random.random() < 0.3 else None,
            watch=random.choice(WATCHES) if random.random() < watched else None,
        )
        processes.append(process)
    random.shuffle(processes)
    return tuple(processes)


def _random_edge(to: Process, random: Random) -> Dependency:
    """Make a dependency. Usually it waits until the process is up, and sometimes for an event that may never come."""
    condition = to.up if random.random() < 0.75 else random.choice(CONDITIONS)
    return Dependency(to.name, condition, restart=random.random() < 0.4)
