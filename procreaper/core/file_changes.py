"""Changed files, as one process sees them: how long a change waits, and when restarts for changes are too many.

Rules: pure, like `lifecycle`, of which this is the part about file changes. It knows nothing of patterns and trees:
`watching` says which process a file concerns.

Theory of operation. A change waits for `debounce` seconds of quiet, but for no more than `PATIENCE`; and where more was
announced, for that report, but for no more than `MORE_WITHIN` seconds. A process that
writes a file that it is restarted for would be restarted for ever. So the next restart after `MOST_RESTARTS` within
`WINDOW` seconds waits for a *calm*: until no file has changed for some seconds (`CALMS`), however long that takes. If a
file changes again within `SOON` seconds after that restart, the next one waits for a longer calm. If that has happened
after each of the calms, the process itself writes the file, and its watch is *suspended* until a manual restart or a
reload. A developer who saves all the time disturbs the calms, and gets the newest version after a pause: the first calm
is longer than the time between two saves that are this frequent, and each other calm is longer than the one before, so
that no regular rhythm of saves fits them all.

A command that runs before each restart may write a watched file itself, and would then be run for ever. A file that
changes only while the command runs is an *echo*. If the same file is one in two rounds, the third waits for
`ECHO_CALM` seconds without a change: a person who saves the file over and over does so in this time too. If the file
changes in the third round again, the command changes it, and what happens to this file while the command runs counts no
more.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

PATIENCE = 10.0
MORE_WITHIN = 60.0
MOST_RESTARTS, WINDOW = 20, 60.0
# A change that never became quiet counts as this number of restarts: a busy writer leads to few of them.
NEVER_QUIET = 4
CALMS = (4.0, 6.0, 8.0)
SOON = CALMS[0]
ECHO_ROUNDS, ECHO_CALM = 2, 1.5


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


def add(
    change: Change | None,
    throttle: RestartThrottle,
    paths: Iterable[str],
    debounce: float,
    now: float,
    *,
    more: bool = False,
) -> tuple[Change | None, RestartThrottle]:
    """Take one more change into account, or the first; None for a change that suspends the watch."""
    paths = tuple(paths)
    if change is None:
        if throttle.calmed and now > throttle.times[-1] + SOON:
            throttle = RestartThrottle()
        if throttle.calmed == len(CALMS):
            return None, RestartThrottle(suspended=paths[0])
        needs_calm = throttle.calmed or len(_recent(throttle, now)) >= MOST_RESTARTS
        change = Change(paths[0], frozenset(), now, now, CALMS[throttle.calmed] if needs_calm else 0.0)
    if change.calm and not paths:
        return change, throttle
    if change.calm:
        # Only the last are named: what is written for hours must not fill the memory.
        due = now + max(debounce, change.calm)
        return change._replace(first=paths[0], paths=frozenset(paths), due=due), throttle
    patience = max(debounce, MORE_WITHIN if more else PATIENCE)
    due = min(now + (patience if more else debounce), change.since + patience)
    return change._replace(paths=change.paths.union(paths), due=due), throttle


def count(throttle: RestartThrottle, change: Change, now: float) -> RestartThrottle:
    """Count what is about to be done for a change."""
    if change.calm:
        return RestartThrottle(times=(now,), calmed=throttle.calmed + 1)
    weight = NEVER_QUIET if change.due - change.since >= PATIENCE else 1
    return RestartThrottle(times=(*_recent(throttle, now), *(now,) * weight))


def count_echo(echoes: Echoes, change: Change) -> Echoes:
    """Count the round that begins for a change."""
    if not change.echo:
        return Echoes(own=echoes.own)
    if again := change.paths & echoes.paths:
        return echoes._replace(rounds=echoes.rounds + 1, paths=again)
    return echoes._replace(rounds=1, paths=change.paths)


def without_echo(echoes: Echoes, paths: Iterable[str]) -> tuple[tuple[str, ...], Echoes]:
    """Those of the paths that count, of what changes while the command runs."""
    if echoes.rounds >= ECHO_ROUNDS and not echoes.paths.isdisjoint(paths):
        echoes = Echoes(own=echoes.own | echoes.paths)
    return tuple(path for path in paths if path not in echoes.own), echoes


def calm_echo(echoes: Echoes, change: Change, now: float) -> Change:
    """The command has ended: another round for the same files waits."""
    if not change.echo or not change.paths & echoes.paths:
        return change
    return change._replace(due=max(change.due, now + ECHO_CALM))


def named(first: str, paths: Collection[str]) -> str:
    """One file by its name, and the number of the others."""
    others = len(paths) - 1
    return first if not others else f"{first} and {others} other{'s' if others > 1 else ''}"


def _recent(throttle: RestartThrottle, now: float) -> tuple[float, ...]:
    return tuple(time for time in throttle.times if now - time < WINDOW)
