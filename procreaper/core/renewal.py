"""What becomes of changed files: a new run, a signal, or first the command that prepares either.

Rules: pure, like `lifecycle`, of which this is a part; `changes` knows how long to wait and when to stop, and nothing
of a process.
"""

from __future__ import annotations

from collections.abc import Sequence

from procreaper.core.events import Announce, FilesChanged, PreparationEnded, RestartReason, RunPreparation
from procreaper.core.file_changes import Change, add, calm_echo, count, count_echo, named, without_echo
from procreaper.core.lifecycle import Step, restart, signal
from procreaper.core.state import UNTIL_A_CHANGE, Phase, ProcessState
from procreaper.core.transitions import begin_anew

CALMING = "changed; too many restarts for changed files, so the next one waits until none has changed for {calm:g} s"
SUSPENDED = (
    "changes each time as soon as {what} runs; its watch is suspended until `procreaper restart {name}` or `reload`; "
    "add the files that it writes itself to `watch.ignore`"
)
OWN = "what happens to that while it runs is no reason to run it again; better add it to `watch.ignore`"


def learn(life: ProcessState, fact: FilesChanged | PreparationEnded, now: float) -> Step:
    """Apply one fact that is about the files of this process."""
    if isinstance(fact, FilesChanged):
        return _see_change(life, fact.changes[life.process.name], now, more=fact.more)
    return _prepared(life, succeeded=fact.succeeded, now=now)


def _see_change(life: ProcessState, paths: Sequence[str], now: float, *, more: bool) -> Step:
    name, watch = life.process.name, life.process.watch
    if watch is None or not life.follows_changes or not (paths or life.change):
        return life, ()
    if life.restart_pending and watch.run is None:
        # The next run has not begun, so it will know what changed.
        return life, ()
    actions: tuple[Announce, ...] = ()
    if life.preparing:
        paths, echoes = without_echo(life.echoes, paths)
        if own := echoes.own - life.echoes.own:
            actions = (Announce(name, f"`{watch.run}` changes {named(min(own), own)} itself; {OWN}"),)
        life = life._replace(echoes=echoes)
        if not (paths or life.change):
            return life, actions
    before = life.change
    change, throttle = add(before, life.throttle, paths, watch.debounce, now, more=more)
    life = life._replace(change=change, throttle=throttle)
    if change is None:
        life = life._replace(reason=life.reason.removesuffix(UNTIL_A_CHANGE))
        what = f"`{watch.run}`" if life.preparing else "it"
        return life, (*actions, Announce(name, f"{throttle.suspended} {SUSPENDED.format(name=name, what=what)}"))
    if paths:
        change = change._replace(echo=life.preparing and (before is None or before.echo))
        life = life._replace(change=change)
    if change.calm and before is None:
        return life, (*actions, Announce(name, f"{change} {CALMING.format(calm=change.calm)}"))
    return life, actions


def act(life: ProcessState, change: Change, now: float) -> Step:
    """It has been quiet for long enough: restart, or signal, or first run the command that prepares the restart."""
    name, watch = life.process.name, life.process.watch
    life = life._replace(change=None)
    if watch is None:
        return life, ()
    in_place = watch.run is not None or (watch.signal is not None and life.listens)
    if not in_place and life.restart_pending:
        return life, ()
    life = life._replace(throttle=count(life.throttle, change, now))
    if not in_place:
        return _restart_for(life, f"{change} changed")
    if watch.run is not None:
        life = life._replace(preparing=True, echoes=count_echo(life.echoes, change))
        return life, (Announce(name, f"{change} changed; running `{watch.run}`"), RunPreparation(name, watch.run))
    return _signal_or_restart(life, f"{change} changed")


def _prepared(life: ProcessState, *, succeeded: bool, now: float) -> Step:
    """The command of a change has ended; if more has changed meanwhile, it is run again before anything else."""
    watch = life.process.watch
    if not life.preparing or watch is None:
        return life, ()
    life = life._replace(preparing=False)
    if life.change is not None:
        return life._replace(change=calm_echo(life.echoes, life.change, now)), ()
    if not succeeded:
        return life, ()
    return _signal_or_restart(life, f"`{watch.run}` succeeded" if watch.run else "prepared")


def _signal_or_restart(life: ProcessState, cause: str) -> Step:
    watch = life.process.watch
    if watch is not None and watch.signal is not None and life.listens:
        return life, (Announce(life.process.name, cause), signal(life, watch.signal, only_handlers=True))
    return _restart_for(life, cause)


def _restart_for(life: ProcessState, cause: str) -> Step:
    """Have a new run, unless the next one is still to begin anyway; that is no failure, and clears the retries."""
    if life.restart_pending:
        return life, ()
    what = "starting" if life.phase is Phase.NONE else "restarting"
    life = restart(life, RestartReason.CHANGE)
    if life.phase is Phase.NONE:
        life = begin_anew(life)
    return life, (Announce(life.process.name, f"{cause}; {what}"),)
