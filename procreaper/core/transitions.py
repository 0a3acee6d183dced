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
    life: ProcessState,
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
    process = life.process
    success = ran_well and verdict.known and verdict.status in process.success_codes
    retries = life.retries
    if (steady_from := life.steady_from) is not None and now >= steady_from:
        retries = 0
    life = life._replace(verdict=verdict, retries=retries, cause=cause, succeeded=success, because=because)
    if success and process.restart is not When.ALWAYS:
        return life._replace(end=State.COMPLETED, wanted=False, was_up=True)
    if not success and not retry_can_help:
        return life._replace(end=State.FAILED, wanted=False)
    if not process.restart.applies(success=success):
        return life._replace(end=State.FAILED, wanted=False)
    if process.max_retries is not None and retries >= process.max_retries:
        cause = f"{cause}; gave up after {retries} {'retry' if retries == 1 else 'retries'}"
        return life._replace(end=State.FAILED, wanted=False, cause=cause)
    return life._replace(retries=retries + 1)


def stopping(life: ProcessState, reason: str) -> ProcessState:
    """End the run: its processes get the stop signal as soon as nothing has to end before them."""
    return life._replace(state=State.STOPPING, reason=reason, health=None, up_since=None)


def settle(life: ProcessState, now: float) -> ProcessState:
    """Move on from a run of which no process is left: to its end, to a retry, or to what was requested."""
    life = life._replace(phase=Phase.NONE, pid=None, health=None, up_since=None, due=None, out_of_reach=False)
    if not life.wanted:
        if life.end is not None:
            return life._replace(state=life.end, reason=end_reason(life))
        return life._replace(state=State.STOPPED, reason="stopped")
    if life.asked_to_end:
        return to_pending(life._replace(restarts=life.restarts + 1))
    wait = life.process.backoff.wait(life.retries)
    limit = life.process.max_retries
    count = f"retry {life.retries}" if limit is None else f"retry {life.retries}/{limit}"
    return life._replace(
        state=State.RESTARTING,
        reason=f"{life.cause}; {count} in {wait:.1f} s",
        restarts=life.restarts + 1,
        due=now + wait,
    )


def end_reason(life: ProcessState) -> str:
    """Return the reason of an end, and whether changed files start the process again."""
    waits = life.reacts_to_changes and not life.process.oneshot
    return life.cause + UNTIL_A_CHANGE if waits else life.cause


def to_pending(life: ProcessState) -> ProcessState:
    """Have the next run of a process that has no run now."""
    return life._replace(state=State.PENDING, reason=ABOUT_TO_START)


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


def begin_running(life: ProcessState, since: float) -> ProcessState:
    """Count the run as running, because no check says more. A oneshot is up only when it has completed."""
    was_up = life.was_up or not life.process.oneshot
    return life._replace(state=State.RUNNING, reason="running", up_since=since, came_up=True, was_up=was_up)


def skip(life: ProcessState, reason: str) -> ProcessState:
    """Do not start a process whose dependency will never be up."""
    return life._replace(state=State.SKIPPED, reason=reason, wanted=False, end=State.SKIPPED)


def revive(life: ProcessState) -> ProcessState:
    """Start a skipped process after all, because its dependency begins again."""
    return life._replace(state=State.PENDING, reason=ABOUT_TO_START, wanted=True, end=None)


def start(life: ProcessState, because: RestartReason = RestartReason.MANUAL) -> ProcessState:
    """Have the process run: at once, or as soon as nothing is left of a run that is ending."""
    life = life._replace(asked=True, stopped_by_user=False)
    if life.phase is Phase.NONE and life.state is not State.PENDING:
        return life._replace(wanted=True, state=State.PENDING, reason=ABOUT_TO_START, end=None, retries=0, due=None)
    if life.state is State.STOPPING:
        # It starts again as soon as the old group is gone, whatever the verdict on that run was.
        life = life._replace(asked_to_end=True, end=None, retries=0, because=because)
    return life._replace(wanted=True)


def restart(life: ProcessState, because: RestartReason = RestartReason.MANUAL) -> ProcessState:
    """Have a new run as soon as nothing is left of the present one."""
    life = life._replace(retries=0)
    if life.phase is Phase.NONE or life.state is State.STOPPING:
        return start(life, because)
    return stop(life)._replace(wanted=True, because=because)


def stop(life: ProcessState) -> ProcessState:
    """Have the process not run, and end its run if there is one."""
    life = life._replace(wanted=False)
    if life.phase is Phase.NONE:
        if life.state in (State.PENDING, State.RESTARTING):
            life = life._replace(state=State.STOPPED, reason="stopped", due=None)
        return life
    if life.state is State.STOPPING:
        return life
    return stopping(life._replace(asked_to_end=True), STOPPING)


def signal(life: ProcessState, number: int, *, only_main: bool = False, only_handlers: bool = False) -> SendSignal:
    """Send a signal to the group of this run, or only to its program, or only to the processes that handle it."""
    if life.pid is None:
        raise RuntimeError(f"{life.process.name} has no child to signal")
    return SendSignal(life.process.name, life.run, life.pid, number, only_main, only_handlers)
