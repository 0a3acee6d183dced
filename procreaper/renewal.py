"""What becomes of changed files: a new run, a signal, or first the command that prepares either.

Rules: pure, like `lifecycle`, of which this is a part; `changes` knows how long to wait and when to stop, and nothing
of a process.
"""

from __future__ import annotations

from collections.abc import Sequence

from procreaper.changes import Change, add, count, hold_back, resume
from procreaper.events import Announce, FilesChanged, PreparationEnded, RestartReason, RunPreparation
from procreaper.life import Lifecycle, Phase
from procreaper.lifecycle import Step, restart, signal
from procreaper.policy import begin_anew

SUSPENDED = "each time as soon as it ran; changes do nothing any more; add what it writes itself to `ignore`"


def learn(life: Lifecycle, fact: FilesChanged | PreparationEnded, now: float) -> Step:
    """Apply one fact that is about the files of this process."""
    if isinstance(fact, FilesChanged):
        return _see_change(life, fact.changes[life.process.name], now), ()
    return _prepared(life, succeeded=fact.succeeded, now=now)


def _see_change(life: Lifecycle, paths: Sequence[str], now: float) -> Lifecycle:
    watch = life.process.watch
    if watch is None or not paths or not life.follows_changes:
        return life
    change, pace = add(life.change, life.pace, paths, watch.debounce, now)
    return life._replace(change=change, pace=pace)


def act(life: Lifecycle, change: Change, now: float) -> Step:
    """It has been quiet for long enough: restart, or signal, or first run the command that prepares the restart."""
    name, watch = life.process.name, life.process.watch
    life = life._replace(change=None)
    if watch is None:
        return life, ()
    in_place = watch.run is not None or (watch.signal is not None and life.listens)
    if not in_place and life.begins_anew:
        return life, ()
    life = life._replace(pace=resume(life.pace) if change.held else count(life.pace, change, now))
    if life.pace.suspended:
        return life, (Announce(name, f"{change} changed {SUSPENDED}"),)
    if not in_place:
        return _restart_for(life, f"{change} changed", now)
    if life.pace.suspicions and not change.held:
        pace = hold_back(life.pace, now)
        return life._replace(pace=pace, change=change._replace(held=True, due=pace.calm_until or now)), ()
    if watch.run is not None:
        life = life._replace(preparing=True)
        return life, (Announce(name, f"{change} changed; running `{watch.run}`"), RunPreparation(name, watch.run))
    return _signal_or_restart(life, f"{change} changed", now)


def _prepared(life: Lifecycle, *, succeeded: bool, now: float) -> Step:
    """The command of a change has ended; if more has changed meanwhile, it is run again before anything else."""
    watch = life.process.watch
    if not life.preparing or watch is None:
        return life, ()
    life = life._replace(preparing=False)
    if life.change is not None or not succeeded:
        return life, ()
    return _signal_or_restart(life, f"`{watch.run}` succeeded" if watch.run else "prepared", now)


def _signal_or_restart(life: Lifecycle, cause: str, now: float) -> Step:
    watch = life.process.watch
    if watch is not None and watch.signal is not None and life.listens:
        return life, (Announce(life.process.name, cause), signal(life, watch.signal))
    return _restart_for(life, cause, now)


def _restart_for(life: Lifecycle, cause: str, now: float) -> Step:
    """Have a new run, unless the next one is still to begin anyway; that is no failure, and clears the retries."""
    if life.begins_anew:
        return life, ()
    what = "starting" if life.phase is Phase.NONE else "restarting"
    life = restart(life, RestartReason.CHANGE)
    if life.phase is Phase.NONE:
        life = begin_anew(life, now)
    return life, (Announce(life.process.name, f"{cause}; {what}"),)
