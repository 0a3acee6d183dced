"""Changed files of one process: how long a change waits, what it leads to, and when restarts are too many.

Rules: pure. The module knows nothing of patterns and trees: `runtime.watch` finds the process that a file concerns.

Theory of operation. A change waits for `debounce` seconds without another change, but for `PATIENCE` seconds at most.
If the report announces more changes, it waits for these, but for `MORE_WITHIN` seconds at most. A process that writes a
file for which it is restarted would restart for ever. So the next restart after `MOST_RESTARTS` within `WINDOW` seconds
waits for a *calm*: until no file has changed for some seconds (`CALMS`), however long that takes. If a file changes
again within `SOON` seconds after that restart, the next one waits for a longer calm. If this happens after each of the
calms, the process itself writes the file, and its watch is *suspended* until a manual restart or a reload. A developer
who saves all the time disturbs the calms, and gets the newest version after a pause. The first calm is longer than the
time between two saves of such a developer, and each further calm is longer than the one before, so no regular rhythm of
saves fits them all.

The command in `watch.run` may itself write a watched file, and would then run for ever. A file that changes only while
the command runs is an *echo*. If the same file is an echo in two rounds, the third round waits for `ECHO_CALM` seconds
without a change. A person who keeps saving the file saves it in this time too. If the file does not change in this
time, but does so in the third round again, the command changes it. From then on, changes of this file while the command
runs do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from procreaper.core.events import Announce, FilesChanged, PreparationEnded, RestartReason, RunPreparation
from procreaper.core.state import UNTIL_A_CHANGE, Change, Echoes, Phase, ProcessState, RestartThrottle, named
from procreaper.core.transitions import Step, restart, signal, to_pending

PATIENCE = 10.0
MORE_WITHIN = 60.0
MOST_RESTARTS, WINDOW = 20, 60.0
# A change that never became quiet counts as this number of restarts, because a busy writer causes few restarts.
NEVER_QUIET = 4
CALMS = (4.0, 6.0, 8.0)
SOON = CALMS[0]
ECHO_ROUNDS, ECHO_CALM = 2, 1.5


CALMING = "changed; too many restarts: the next one waits until no file has changed for {calm:g} s"
SUSPENDED = (
    "changed right after every {what}; not watched any more until `procreaper restart {name}` or `reload`; "
    "if the process writes the file itself, add it to `watch.ignore`"
)
OWN = "such changes do not run it again; add the file to `watch.ignore`"


def add_change(
    change: Change | None,
    throttle: RestartThrottle,
    paths: Iterable[str],
    debounce: float,
    now: float,
    *,
    more: bool = False,
) -> tuple[Change | None, RestartThrottle]:
    """Add a change to those that wait, or begin with it. Return None if it suspends the watch."""
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
        # Only the last paths are kept: a file that is written for hours must not fill the memory.
        due = now + max(debounce, change.calm)
        return change._replace(first=paths[0], paths=frozenset(paths), due=due), throttle
    patience = max(debounce, MORE_WITHIN if more else PATIENCE)
    due = min(now + (patience if more else debounce), change.since + patience)
    return change._replace(paths=change.paths.union(paths), due=due), throttle


def count_restart(throttle: RestartThrottle, change: Change, now: float) -> RestartThrottle:
    """Count the restart that a change leads to now."""
    if change.calm:
        return RestartThrottle(times=(now,), calmed=throttle.calmed + 1)
    weight = NEVER_QUIET if change.due - change.since >= PATIENCE else 1
    return RestartThrottle(times=(*_recent(throttle, now), *(now,) * weight))


def count_echo(echoes: Echoes, change: Change) -> Echoes:
    """Count the round of `watch.run` that begins for a change."""
    if not change.echo:
        return Echoes(own=echoes.own)
    if again := change.paths & echoes.paths:
        return echoes._replace(rounds=echoes.rounds + 1, paths=again)
    return echoes._replace(rounds=1, paths=change.paths)


def without_echo(echoes: Echoes, paths: Iterable[str]) -> tuple[tuple[str, ...], Echoes]:
    """Return the paths that count, of those that changed while the command ran."""
    if echoes.rounds >= ECHO_ROUNDS and not echoes.paths.isdisjoint(paths):
        echoes = Echoes(own=echoes.own | echoes.paths)
    return tuple(path for path in paths if path not in echoes.own), echoes


def calm_echo(echoes: Echoes, change: Change, now: float) -> Change:
    """Delay the next round for the same files, after the command has ended."""
    if not change.echo or not change.paths & echoes.paths:
        return change
    return change._replace(due=max(change.due, now + ECHO_CALM))


def _recent(throttle: RestartThrottle, now: float) -> tuple[float, ...]:
    return tuple(time for time in throttle.times if now - time < WINDOW)


def apply_fact(process_state: ProcessState, fact: FilesChanged | PreparationEnded, now: float) -> Step:
    """Apply a fact about the files of this process."""
    if isinstance(fact, FilesChanged):
        return _see_change(process_state, fact.changes[process_state.process.name], now, more=fact.more)
    return _prepared(process_state, succeeded=fact.succeeded, now=now)


def _see_change(process_state: ProcessState, paths: Sequence[str], now: float, *, more: bool) -> Step:
    name, watch = process_state.process.name, process_state.process.watch
    if watch is None or not process_state.reacts_to_changes or not (paths or process_state.change):
        return process_state, ()
    if process_state.restart_pending and watch.run is None:
        # The next run has not begun, so it will see the change.
        return process_state, ()
    actions: tuple[Announce, ...] = ()
    if process_state.preparing:
        paths, echoes = without_echo(process_state.echoes, paths)
        if own := echoes.own - process_state.echoes.own:
            actions = (Announce(name, f"`{watch.run}` changes {named(min(own), own)} itself; {OWN}"),)
        process_state = process_state._replace(echoes=echoes)
        if not (paths or process_state.change):
            return process_state, actions
    before = process_state.change
    change, throttle = add_change(before, process_state.throttle, paths, watch.debounce, now, more=more)
    process_state = process_state._replace(change=change, throttle=throttle)
    if change is None:
        process_state = process_state._replace(reason=process_state.reason.removesuffix(UNTIL_A_CHANGE))
        what = f"run of `{watch.run}`" if process_state.preparing else "start"
        return process_state, (
            *actions,
            Announce(name, f"{throttle.suspended} {SUSPENDED.format(name=name, what=what)}"),
        )
    if paths:
        change = change._replace(echo=process_state.preparing and (before is None or before.echo))
        process_state = process_state._replace(change=change)
    if change.calm and before is None:
        return process_state, (*actions, Announce(name, f"{change} {CALMING.format(calm=change.calm)}"))
    return process_state, actions


def act(process_state: ProcessState, change: Change, now: float) -> Step:
    """Act on a change that has been quiet for long enough: restart, signal, or run the command in `watch.run`."""
    name, watch = process_state.process.name, process_state.process.watch
    process_state = process_state._replace(change=None)
    if watch is None:
        return process_state, ()
    in_place = watch.run is not None or (watch.signal is not None and process_state.handles_signals)
    if not in_place and process_state.restart_pending:
        return process_state, ()
    process_state = process_state._replace(throttle=count_restart(process_state.throttle, change, now))
    if not in_place:
        return _restart_for(process_state, f"{change} changed")
    if watch.run is not None:
        process_state = process_state._replace(preparing=True, echoes=count_echo(process_state.echoes, change))
        return process_state, (
            Announce(name, f"{change} changed; running `{watch.run}`"),
            RunPreparation(name, watch.run),
        )
    return _signal_or_restart(process_state, f"{change} changed")


def _prepared(process_state: ProcessState, *, succeeded: bool, now: float) -> Step:
    """Go on after the command in `watch.run`. If files have changed meanwhile, it first runs again."""
    watch = process_state.process.watch
    if not process_state.preparing or watch is None:
        return process_state, ()
    process_state = process_state._replace(preparing=False)
    if process_state.change is not None:
        return process_state._replace(change=calm_echo(process_state.echoes, process_state.change, now)), ()
    if not succeeded:
        return process_state, ()
    return _signal_or_restart(process_state, f"`{watch.run}` succeeded" if watch.run else "prepared")


def _signal_or_restart(process_state: ProcessState, cause: str) -> Step:
    watch = process_state.process.watch
    if watch is not None and watch.signal is not None and process_state.handles_signals:
        return process_state, (
            Announce(process_state.process.name, cause),
            signal(process_state, watch.signal, only_handlers=True),
        )
    return _restart_for(process_state, cause)


def _restart_for(process_state: ProcessState, cause: str) -> Step:
    """Have a new run, unless one is still to begin. It is no failure, and it resets the retries."""
    if process_state.restart_pending:
        return process_state, ()
    what = "starting" if process_state.phase is Phase.NONE else "restarting"
    process_state = restart(process_state, RestartReason.CHANGE)
    if process_state.phase is Phase.NONE:
        process_state = to_pending(process_state)
    return process_state, (Announce(process_state.process.name, f"{cause}; {what}"),)
