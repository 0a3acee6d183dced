"""The end of one run: what it counts as, and what it leads to under the restart policy.

Rules: pure, and about runs that nobody asked to end; what somebody asked for needs no judgement. A run is judged as
soon as its child has exited, or its health checks have given it up. The judgement becomes the state once nothing of
the run is left.
"""

from __future__ import annotations

from procreaper.core.events import Action, Exit, RestartReason, SendSignal, State
from procreaper.core.plan import When
from procreaper.core.state import ABOUT_TO_START, STOPPING, UNTIL_A_CHANGE, Phase, ProcessState

# What a shell says of a program that is not executable or not there: running it again cannot help.
NOT_RUNNABLE = {126: "not executable", 127: "command not found"}
# The signals that have the same number everywhere (POSIX, and those on which Linux, macOS and the BSDs agree).
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
# What a run counts as that was not healthy in time (the code of timeout(1)), or was not any more.
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
    """Decide what a run that nobody asked to end leads to: an `end`, or one more retry.

    `ran_well` is False for what is a failure whatever the success codes are; `because` is why there may be another run.
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
    """The run is to end: what still lives of it is told so, once nothing has to end before it."""
    return life._replace(state=State.STOPPING, reason=reason, checkup=None, up_since=None)


def settle(life: ProcessState, now: float) -> ProcessState:
    """The run is over and nothing of it is left: move on to what its end, or the request, leads to."""
    life = life._replace(phase=Phase.NONE, pid=None, checkup=None, up_since=None, due=None, out_of_reach=False)
    if not life.wanted:
        if life.end is not None:
            return life._replace(state=life.end, reason=end_reason(life))
        return life._replace(state=State.STOPPED, reason="stopped")
    if life.asked_to_end:
        return begin_anew(life._replace(restarts=life.restarts + 1))
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
    """Why it is at its end, and whether that is one for ever."""
    waits = life.follows_changes and not life.process.oneshot
    return life.cause + UNTIL_A_CHANGE if waits else life.cause


def begin_anew(life: ProcessState) -> ProcessState:
    """Have the next run of a process of which nothing runs."""
    return life._replace(state=State.PENDING, reason=ABOUT_TO_START)


def describe(exit_: Exit) -> str:
    """One phrase for people: ``exited with code 1``, ``killed by SIGKILL``."""
    if not exit_.known:
        return "ended; how is not known, because an earlier procreaper started it"
    if exit_.signal is not None:
        return f"killed by {SIGNALS.get(exit_.signal, f'signal {exit_.signal}')}"
    if exit_.code in NOT_RUNNABLE:
        return f"{NOT_RUNNABLE[exit_.code]} (exit code {exit_.code})"
    return f"exited with code {exit_.code}"


def predicate(exit_: Exit) -> str:
    """What a program did, behind its name in a sentence: ``exited with code 1``, ``was killed by SIGKILL``."""
    return f"was {describe(exit_)}" if exit_.signal is not None else describe(exit_)


def begin_running(life: ProcessState, since: float) -> ProcessState:
    """It runs, and no check says more; a oneshot is up only once it has completed."""
    was_up = life.was_up or not life.process.oneshot
    return life._replace(state=State.RUNNING, reason="running", up_since=since, came_up=True, was_up=was_up)


def skip(life: ProcessState, reason: str) -> ProcessState:
    """What it waits for will never be: it is not started."""
    return life._replace(state=State.SKIPPED, reason=reason, wanted=False, end=State.SKIPPED)


def revive(life: ProcessState) -> ProcessState:
    """What it waited for in vain begins again."""
    return life._replace(state=State.PENDING, reason=ABOUT_TO_START, wanted=True, end=None)


def start(life: ProcessState, because: RestartReason = RestartReason.MANUAL) -> ProcessState:
    """Have the process run: at once, or when nothing is left of the run that ends now."""
    life = life._replace(asked=True, stopped_by_user=False)
    if life.phase is Phase.NONE and life.state is not State.PENDING:
        return life._replace(wanted=True, state=State.PENDING, reason=ABOUT_TO_START, end=None, retries=0, due=None)
    if life.state is State.STOPPING:
        # It starts again when the old group is gone, at once and whatever the verdict on that run was.
        life = life._replace(asked_to_end=True, end=None, retries=0, because=because)
    return life._replace(wanted=True)


def restart(life: ProcessState, because: RestartReason = RestartReason.MANUAL) -> ProcessState:
    """Have a new run of it, once nothing is left of the one there is."""
    life = life._replace(retries=0)
    if life.phase is Phase.NONE or life.state is State.STOPPING:
        return start(life, because)
    return stop(life)._replace(wanted=True, because=because)


def stop(life: ProcessState) -> ProcessState:
    """Have the process not run: its run, if there is one, is to end."""
    life = life._replace(wanted=False)
    if life.phase is Phase.NONE:
        if life.state in (State.PENDING, State.RESTARTING):
            life = life._replace(state=State.STOPPED, reason="stopped", due=None)
        return life
    if life.state is State.STOPPING:
        return life
    return stopping(life._replace(asked_to_end=True), STOPPING)


def signal(life: ProcessState, number: int, *, only_main: bool = False, only_handlers: bool = False) -> SendSignal:
    """Send a signal to the group of this run, `only_main` its program, `only_handlers` what handles it."""
    if life.pid is None:
        raise RuntimeError(f"{life.process.name} has no child to signal")
    return SendSignal(life.process.name, life.run, life.pid, number, only_main, only_handlers)
