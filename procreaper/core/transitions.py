"""The steps that lifecycle, health and file changes have in common: start, stop, restart, and the end of a run.

Rules: pure. Each function returns the state after one step. A run that was asked to end needs no judgement. Any other
run is judged as soon as its child has exited or its health checks have failed; the judgement becomes the state when no
process of the run is left.
"""

from __future__ import annotations

from procreaper.core.events import Action, Exit, RestartReason, SendSignal, State
from procreaper.core.plan import When
from procreaper.core.state import ABOUT_TO_START, STOPPING, UNTIL_A_CHANGE, Phase, ProcessState

# The exit codes of a shell for a program that is not executable or not there. Another run cannot help.
NOT_RUNNABLE = {126: "not executable", 127: "command not found"}
# The signals with the same number on Linux, macOS and the BSDs.
SIGNALS = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
}
# What a run counts as if it was not healthy in time (the code of timeout(1)), or is not healthy any more.
NOT_IN_TIME, NOT_HEALTHY = Exit(code=124), Exit(code=1)

Step = tuple[ProcessState, tuple[Action, ...]]


def judge(
    process_state: ProcessState,
    verdict: Exit,
    cause: str,
    *,
    now: float,
    ran_well: bool = True,
    retry_can_help: bool = True,
    because: RestartReason = RestartReason.EXIT,
) -> ProcessState:
    """Decide what a run leads to that was not asked to end: an `end`, or one more retry.

    With `ran_well` False, the run is a failure whatever the success codes are. `because` is the reason for the next
    run, if there is one.
    """
    process = process_state.process
    success = ran_well and verdict.known and verdict.status in process.success_codes
    retries = process_state.retries
    if (steady_from := process_state.steady_from) is not None and now >= steady_from:
        retries = 0
    process_state = process_state._replace(
        verdict=verdict, retries=retries, cause=cause, succeeded=success, because=because
    )
    if success and process.restart is not When.ALWAYS:
        return process_state._replace(end=State.COMPLETED, wanted=False, was_up=True)
    if not success and not retry_can_help:
        return process_state._replace(end=State.FAILED, wanted=False)
    if not process.restart.applies(success=success):
        return process_state._replace(end=State.FAILED, wanted=False)
    if process.max_retries is not None and retries >= process.max_retries:
        cause = f"{cause}; gave up after {retries} {'retry' if retries == 1 else 'retries'}"
        return process_state._replace(end=State.FAILED, wanted=False, cause=cause)
    return process_state._replace(retries=retries + 1)


def stopping(process_state: ProcessState, reason: str) -> ProcessState:
    """End the run: its processes get the stop signal as soon as nothing has to end before them."""
    return process_state._replace(state=State.STOPPING, reason=reason, health=None, up_since=None)


def settle(process_state: ProcessState, now: float) -> ProcessState:
    """Move on from a run of which no process is left: to its end, to a retry, or to what was requested."""
    process_state = process_state._replace(
        phase=Phase.NONE, pid=None, health=None, up_since=None, due=None, out_of_reach=False
    )
    if not process_state.wanted:
        if process_state.end is not None:
            return process_state._replace(state=process_state.end, reason=end_reason(process_state))
        return process_state._replace(state=State.STOPPED, reason="stopped")
    if process_state.asked_to_end:
        return to_pending(process_state._replace(restarts=process_state.restarts + 1))
    wait = process_state.process.backoff.wait(process_state.retries)
    limit = process_state.process.max_retries
    count = f"retry {process_state.retries}" if limit is None else f"retry {process_state.retries}/{limit}"
    return process_state._replace(
        state=State.RESTARTING,
        reason=f"{process_state.cause}; {count} in {wait:.1f} s",
        restarts=process_state.restarts + 1,
        due=now + wait,
    )


def end_reason(process_state: ProcessState) -> str:
    """Return the reason of an end, and whether changed files start the process again."""
    waits = process_state.reacts_to_changes and not process_state.process.oneshot
    return process_state.cause + UNTIL_A_CHANGE if waits else process_state.cause


def to_pending(process_state: ProcessState) -> ProcessState:
    """Have the next run of a process that has no run now."""
    return process_state._replace(state=State.PENDING, reason=ABOUT_TO_START)


def describe(exit_: Exit) -> str:
    """Return how a child ended, for people: ``exited with code 1``, ``killed by SIGKILL``."""
    if not exit_.known:
        return "ended; how is not known, because an earlier procreaper started it"
    if exit_.signal is not None:
        return f"killed by {SIGNALS.get(exit_.signal, f'signal {exit_.signal}')}"
    if exit_.code in NOT_RUNNABLE:
        return f"{NOT_RUNNABLE[exit_.code]} (exit code {exit_.code})"
    return f"exited with code {exit_.code}"


def predicate(exit_: Exit) -> str:
    """Return how a program ended, for a sentence that begins with its name: ``was killed by SIGKILL``."""
    return f"was {describe(exit_)}" if exit_.signal is not None else describe(exit_)


def begin_running(process_state: ProcessState, since: float) -> ProcessState:
    """Count the run as running, because no check says more. A oneshot is up only when it has completed."""
    was_up = process_state.was_up or not process_state.process.oneshot
    return process_state._replace(state=State.RUNNING, reason="running", up_since=since, came_up=True, was_up=was_up)


def skip(process_state: ProcessState, reason: str) -> ProcessState:
    """Do not start a process whose dependency will never be up."""
    return process_state._replace(state=State.SKIPPED, reason=reason, wanted=False, end=State.SKIPPED)


def revive(process_state: ProcessState) -> ProcessState:
    """Start a skipped process after all, because its dependency begins again."""
    return process_state._replace(state=State.PENDING, reason=ABOUT_TO_START, wanted=True, end=None)


def start(process_state: ProcessState, because: RestartReason = RestartReason.MANUAL) -> ProcessState:
    """Have the process run: at once, or as soon as nothing is left of a run that is ending."""
    process_state = process_state._replace(asked=True, stopped_by_user=False)
    if process_state.phase is Phase.NONE and process_state.state is not State.PENDING:
        return process_state._replace(
            wanted=True, state=State.PENDING, reason=ABOUT_TO_START, end=None, retries=0, due=None
        )
    if process_state.state is State.STOPPING:
        # It starts again as soon as the old group is gone, whatever the verdict on that run was.
        process_state = process_state._replace(asked_to_end=True, end=None, retries=0, because=because)
    return process_state._replace(wanted=True)


def restart(process_state: ProcessState, because: RestartReason = RestartReason.MANUAL) -> ProcessState:
    """Have a new run as soon as nothing is left of the present one."""
    process_state = process_state._replace(retries=0)
    if process_state.phase is Phase.NONE or process_state.state is State.STOPPING:
        return start(process_state, because)
    return stop(process_state)._replace(wanted=True, because=because)


def stop(process_state: ProcessState) -> ProcessState:
    """Have the process not run, and end its run if there is one."""
    process_state = process_state._replace(wanted=False)
    if process_state.phase is Phase.NONE:
        if process_state.state in (State.PENDING, State.RESTARTING):
            process_state = process_state._replace(state=State.STOPPED, reason="stopped", due=None)
        return process_state
    if process_state.state is State.STOPPING:
        return process_state
    return stopping(process_state._replace(asked_to_end=True), STOPPING)


def signal(
    process_state: ProcessState, number: int, *, only_main: bool = False, only_handlers: bool = False
) -> SendSignal:
    """Send a signal to the group of this run, or only to its program, or only to the processes that handle it."""
    if process_state.pid is None:
        raise RuntimeError(f"{process_state.process.name} has no child to signal")
    return SendSignal(
        process_state.process.name, process_state.run, process_state.pid, number, only_main, only_handlers
    )
