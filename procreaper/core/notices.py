"""What the world is told of a step, by what is known of a process before it and after it.

Rules: pure. From the state alone, but for the end of a run: in the step that ends one the next may be launched.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import NamedTuple

from procreaper.core.events import ChildExited, Exit, GroupEnded, RunEnded, SpawnFailed, State, Transition
from procreaper.core.fleet import Fleet
from procreaper.core.state import ProcessState
from procreaper.core.transitions import NOT_RUNNABLE, describe


def end(
    before: ProcessState, event: ChildExited | GroupEnded | SpawnFailed, ends: MutableMapping[str, Exit], now: float
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


def transition(before: ProcessState, after: ProcessState, now: float) -> Transition | None:
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


class AppEnd(NamedTuple):
    """Why an app ends, as a `text` for people, and the process that is to blame; `name` is None where none is."""

    name: str | None
    text: str


def app_end(fleet: Fleet) -> AppEnd | None:
    """Why the app ends, or has ended; None while it goes on.

    It is never a process that only ended because the app did.
    """
    if fleet.culprit is not None:
        return AppEnd(fleet.culprit, f"{fleet.culprit} {_how(fleet.members[fleet.culprit])}, and that ended the app")
    if fleet.shutting_down:
        return AppEnd(None, f"{fleet.ended_by or 'a request'} ended the app")
    if not fleet.finished:
        return None
    failed = next((life for life in fleet.members.values() if life.state is State.FAILED), None)
    if failed is None:
        return AppEnd(None, "all processes have ended")
    return AppEnd(failed.process.name, f"{failed.process.name} has failed ({failed.reason}), and nothing else runs")


def _how(life: ProcessState) -> str:
    """How the last run of a process ended for good, without a request."""
    end = life.verdict
    if end is None or end is not life.exit:
        # It could not be started, or was not healthy.
        return f"has failed ({life.cause})"
    # What a shell says of a program that it cannot run, a signal and retries are explained by the cause.
    is_plain = end.code is not None and end.code not in NOT_RUNNABLE and not life.retries
    return f"has ended (exit code {end.code})" if is_plain else f"has ended ({life.cause})"
