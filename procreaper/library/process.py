"""The settings of a process, as a Python program gives them.

Rules: converts the arguments to a `plan.Process`: a word may stand for a constant, a missing argument gets its default,
and an invalid value raises ValueError at once. Runs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from signal import Signals
from typing import Literal, TypeVar, cast

from procreaper.core import plan
from procreaper.core.checks import Check, ExecCheck, Health, HTTPCheck, LogCheck, TCPCheck
from procreaper.core.plan import Backoff, Condition, Dependency, Hooks, StopPolicy, When, find_cycle

T = TypeVar("T", bound=StrEnum)
V = TypeVar("V")
Word = Literal["never", "on-failure", "always"]
# A shell reports the end by signal n as exit code 128+n.
KILLED_BY, HIGHEST_CODE = 128, 255


class FrozenMapping(dict[str, V]):
    """A mapping that can be hashed; nothing changes it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


@dataclass(frozen=True)
class Process:
    """A process to supervise.

    `name` is a printable name, unique in a reaper. `command` is a list of arguments, or a string for ``/bin/sh -c``.
    `env` is added to the environment that this program has when the reaper starts; the value None removes a variable.
    `cwd` is the working directory (default: that of this program). `hooks` are shell commands for when the process is
    up, is retried, or has failed.

    `restart` is ``never`` (the default), ``on-failure`` (after a non-zero exit code, or a signal that the reaper did
    not send) or ``always``. `backoff` is the first wait before a retry in seconds (default: 1). The wait doubles with
    each failure up to 30 s, and is reset once the process has been up for 45 s; a `Backoff` sets all three values.
    After `max_retries` failures in a row (default: no limit) the process is `failed`. A command that cannot be run
    fails at once. `success_codes` (default: 0) are exit codes, or signals by name or as 128+n.

    `health` is a URL (``http://``, ``https://`` or ``tcp://host:port``), a check, or a `Health` with the times of its
    check. A check of your own is any object with a method `check`.

    With `oneshot`, the process is up once it has completed; it has no health check. `depends_on` names the processes
    that must be up before this one starts: completed for a oneshot, healthy for a process with a health check, else
    started. A mapping gives a condition for each name: ``started``, ``healthy`` or ``completed``. With `autostart`
    False the process waits for `Reaper.start`.

    A stop sends `stop_signal` (default: SIGTERM) to the process group, and SIGKILL after `stop_timeout` seconds
    (default: 5). `stop_all` says after which final end of this process all others stop: ``never`` (the default),
    ``on-failure`` or ``always``.

    Two processes are equal if all their arguments are. Processes can be hashed, copied, pickled, and changed by
    `dataclasses.replace`, which checks the new values as well.

    Raises ValueError for an invalid value.

    >>> Process("redis", ["redis-server"], restart="always", backoff=2.0).restart
    <When.ALWAYS: 'always'>
    """

    name: str
    command: str | Sequence[str]
    _: KW_ONLY
    env: Mapping[str, str | None] | None = None
    cwd: str | os.PathLike[str] | None = None
    restart: Word | When = When.NEVER
    backoff: float | Backoff = Backoff()
    max_retries: int | None = None
    success_codes: Iterable[int | str] = (0,)
    health: str | Check | LogCheck | Health | None = None
    depends_on: Iterable[str] | Mapping[str, Literal["started", "healthy", "completed"] | Condition | None] = ()
    oneshot: bool = False
    autostart: bool = True
    stop_signal: str | int = Signals.SIGTERM
    stop_timeout: float = 5.0
    stop_all: Word | When = When.NEVER
    hooks: Hooks | None = None

    def __post_init__(self) -> None:
        name = self.name
        if not name or not name.isprintable():
            raise ValueError(f"{name!r} is not a name for a process")
        if not self.command:
            raise ValueError(f"{name}: the command is empty")
        if self.max_retries is not None and self.max_retries < 0:
            raise ValueError(f"{name}: max_retries is {self.max_retries}; it counts from 0")
        if self.oneshot and self.health is not None:
            raise ValueError(f"{name}: a oneshot is up when it has completed, so it has no health check")
        backoff = self.backoff
        if not isinstance(backoff, Backoff):
            backoff = Backoff(_parse_seconds(name, "backoff", backoff))
        stop_timeout = _parse_seconds(name, "stop_timeout", self.stop_timeout)
        if min(backoff) < 0 or stop_timeout < 0:
            raise ValueError(f"{name}: a duration is negative")
        named = self.depends_on if isinstance(self.depends_on, Mapping) else dict.fromkeys(self.depends_on)
        command = self.command
        self._set(
            command=command if isinstance(command, str) else tuple(os.fspath(word) for word in command),
            env=None if self.env is None else _parse_environment(name, self.env),
            cwd=None if self.cwd is None else os.fspath(self.cwd),
            restart=_parse_word(name, "restart", self.restart, When),
            backoff=backoff,
            success_codes=frozenset(_parse_code(name, code) for code in self.success_codes),
            health=_parse_health(name, self.health),
            depends_on=FrozenMapping(
                (other, None if word is None else _parse_word(name, f"depends_on[{other!r}]", word, Condition))
                for other, word in named.items()
            ),
            stop_signal=_parse_signal(name, self.stop_signal),
            stop_timeout=stop_timeout,
            stop_all=_parse_word(name, "stop_all", self.stop_all, When),
        )

    def _set(self, **values: object) -> None:
        """Replace arguments by the values that they stand for, while the process is made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def to_plan(self) -> plan.Process:
        """Return the process as the rules know it, without its dependencies, which only a whole reaper can resolve."""
        # `__post_init__` has replaced all values by those of these types.
        return plan.Process(
            self.name,
            cast("str | tuple[str, ...]", self.command),
            env=None if self.env is None else _merge_environment(self.env),
            cwd=cast("str | None", self.cwd),
            oneshot=self.oneshot,
            restart=When(self.restart),
            backoff=cast("Backoff", self.backoff),
            max_retries=self.max_retries,
            success_codes=cast("frozenset[int]", self.success_codes),
            stop_all=When(self.stop_all),
            health=cast("Health | None", self.health),
            stop=StopPolicy(cast("int", self.stop_signal), self.stop_timeout),
            hooks=self.hooks,
        )


def resolve_dependencies(processes: Sequence[Process | plan.Process]) -> tuple[plan.Process, ...]:
    """Return the processes with their dependencies as edges. Raises ValueError for an unknown name, or a cycle."""
    plans = {process.name: process.to_plan() if isinstance(process, Process) else process for process in processes}
    for process in processes:
        if not isinstance(process, Process):
            continue
        edges = []
        for name, condition in cast("Mapping[str, Condition | None]", process.depends_on).items():
            if name not in plans:
                raise ValueError(f"`{process.name}` depends on `{name}`, which does not exist")
            edges.append(Dependency(name, plans[name].up if condition is None else condition))
        plans[process.name] = plans[process.name]._replace(depends_on=tuple(edges))
    cycle = find_cycle({name: [edge.name for edge in process.depends_on] for name, process in plans.items()})
    if cycle:
        raise ValueError(f"dependency cycle: {' -> '.join(cycle)}")
    return tuple(plans.values())


def _parse_word(name: str, field: str, value: str, words: type[T]) -> T:
    try:
        return words(value)
    except ValueError:
        known = ", ".join(repr(str(word)) for word in words)
        raise ValueError(f"{name}: {field} is {value!r}; it is one of {known}") from None


def _parse_seconds(name: str, field: str, value: object) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise ValueError(f"{name}: {field} is {value!r}; it is a number of seconds")


def _parse_code(name: str, code: int | str) -> int:
    if isinstance(code, str):
        return KILLED_BY + _parse_signal(name, code)
    if 0 <= code <= HIGHEST_CODE:
        return code
    raise ValueError(f"{name}: success_codes has {code}; an exit code is a number from 0 to {HIGHEST_CODE}")


def _parse_health(name: str, health: str | Check | LogCheck | Health | None) -> Health | None:
    if health is None or isinstance(health, Health):
        return health
    if isinstance(health, str):
        tcp = health.removeprefix("tcp://")
        return Health(check=HTTPCheck(health) if tcp == health else TCPCheck(tcp.removesuffix("/")))
    if isinstance(health, LogCheck):
        return Health(log=health)
    if not hasattr(health, "check") and not isinstance(health, TCPCheck | HTTPCheck | ExecCheck):
        raise ValueError(f"{name}: health is {health!r}, which is not a check: it has no method `check`")
    return Health(check=health)


def _parse_signal(name: str, signal: str | int) -> int:
    try:
        if isinstance(signal, str):
            return int(Signals[signal if signal.startswith("SIG") else f"SIG{signal}"])
        return int(Signals(signal))
    except (KeyError, ValueError):
        raise ValueError(f"{name}: there is no signal {signal!r}") from None


def _parse_environment(name: str, env: Mapping[str, str | None]) -> FrozenMapping[str | None]:
    for key, value in env.items():
        if not isinstance(key, str) or not isinstance(value, str | None):
            raise ValueError(f"{name}: env has {key!r}: {value!r}; both are strings, or the value is None")
        if not key or "=" in key or "\0" in key:
            raise ValueError(f"{name}: env has {key!r}, which cannot be the name of a variable")
    return FrozenMapping(env)


def _merge_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, **changes}
    return {key: value for key, value in merged.items() if value is not None}
