"""What the world is told of a step, by what is known of a process before it and after it.

Rules: pure. From the state alone, but for the end of a run: in the step that ends one the next may be launched.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from procreaper.events import ChildExited, Exit, GroupEnded, RunEnded, SpawnFailed, State, Transition
from procreaper.fleet import Fleet
from procreaper.life import Lifecycle
from procreaper.policy import describe


def end(
    before: Lifecycle, event: ChildExited | GroupEnded | SpawnFailed, ends: MutableMapping[str, Exit], now: float
) -> RunEnded | None:
    """The end of a run: of one that was told to end, when its whole group has; else when the child has.

    `ends` are the exits of those whose run is not told to be over yet; it is kept up to date here.
    """
    if isinstance(event, SpawnFailed):
        exit_, reason = Exit(code=event.code), event.error
    else:
        told_later = isinstance(event, ChildExited) and event.leftovers and before.state is State.STOPPING
        told_before = isinstance(event, GroupEnded) and event.name not in ends
        if isinstance(event, ChildExited):
            ends[event.name] = event.exit
        if told_later or told_before:
            return None
        exit_ = ends.pop(event.name)
        reason = describe(exit_)
    return RunEnded(now, event.name, before.pid, exit_, reason, before.asked_to_end)


def transition(before: Lifecycle, after: Lifecycle, now: float) -> Transition | None:
    """That a process is in another state, or in the same for another reason."""
    if after.state is before.state and after.reason == before.reason:
        return None
    return Transition(
        now,
        after.process.name,
        before.state,
        after.state,
        after.reason,
        after.retries,
        after.process.backoff.wait(after.retries) if after.state is State.RESTARTING else None,
        exit=after.verdict or after.exit,
        reason_before=before.reason,
        restart=after.because if after.restarts > before.restarts else None,
    )


def culprit(fleet: Fleet) -> str | None:
    """Whose end has ended the app, if anybody's; where nothing else has to end for it, that goes without saying."""
    if fleet.culprit is None:
        return None
    life = fleet.members[fleet.culprit]
    if all(other is life or other.settled for other in fleet.members.values()):
        return None
    # Where it has been tried again, how it has ended is told in any case.
    how = "" if life.retries else f"{life.cause}; "
    return f"{fleet.culprit}: {how}its end ends the app"
