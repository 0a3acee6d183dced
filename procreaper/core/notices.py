"""The notices of one step: what changed for a process, and why the app ends.

Rules: pure. A notice follows from the states before and after the step. The end of a run also needs the event, because
the same step may launch the next run.
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
    """Return the notice of the end of a run: when the child has exited, or for a stopped run, when its group has ended.

    `ends` has the exits of children whose notice is still to come; this function updates it.
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
    """Return the notice of a new state, or of a new reason for the same state; None if neither changed."""
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
    """Return which process has ended the app and how; None if no process has, or if no other process ends for it."""
    if fleet.culprit is None:
        return None
    process_state = fleet.members[fleet.culprit]
    if all(other is process_state or other.settled for other in fleet.members.values()):
        return None
    # After a retry, the state of the process says how it has ended.
    return (
        f"{fleet.culprit} ended, stopping the app"
        if process_state.retries
        else f"{fleet.culprit}: {process_state.cause}; stopping the app"
    )


class AppEnd(NamedTuple):
    """The reason why an app ends, as a `text` for people, and the process that caused it, if any."""

    name: str | None
    text: str


def app_end(fleet: Fleet) -> AppEnd | None:
    """Return why the app ends, or has ended; None while it goes on.

    A process that only ended because the app did is never the cause.
    """
    if fleet.culprit is not None:
        return AppEnd(fleet.culprit, f"{fleet.culprit} {_how(fleet.members[fleet.culprit])}, and that ended the app")
    if fleet.shutting_down:
        return AppEnd(None, f"{fleet.ended_by or 'a request'} ended the app")
    if not fleet.finished:
        return None
    failed = next(
        (process_state for process_state in fleet.members.values() if process_state.state is State.FAILED), None
    )
    if failed is None:
        return AppEnd(None, "all processes have ended")
    return AppEnd(failed.process.name, f"{failed.process.name} has failed ({failed.reason}), and nothing else runs")


def _how(process_state: ProcessState) -> str:
    """Return how the last run of a process ended for good, without a request."""
    end = process_state.verdict
    if end is None or end is not process_state.exit:
        # It could not be started, or was not healthy.
        return f"has failed ({process_state.cause})"
    # The cause explains a program that a shell cannot run, a signal, and retries.
    is_plain = end.code is not None and end.code not in NOT_RUNNABLE and not process_state.retries
    return f"has ended (exit code {end.code})" if is_plain else f"has ended ({process_state.cause})"
