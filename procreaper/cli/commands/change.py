"""`up`, `stop`, `restart`, `scale`, `reload` and `quit`: send a request to the running app, and wait for its outcome.

Rules: print the outcome for each process, and succeed only if every process reaches its goal. Show the progress only on
a terminal. Ctrl-C ends the waiting, but not the request. A process counts as up only after it has stayed up for a
moment (`outcome.Confirmation`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from procreaper.cli.find_app import AppSelector, find_app, find_app_with, interruptible
from procreaper.cli.messages import Progress, print_error, print_result
from procreaper.core.events import State, with_reason
from procreaper.core.outcome import Confirmation, Goal, Outcome, find_blocker, find_outcome
from procreaper.errors import FAILED, INTERRUPTED, USAGE_ERROR, Problem, ProcreaperError
from procreaper.remote.api import protocol
from procreaper.remote.control.client import Client, GoneError, RefusedError

DONE = {Goal.UP: "is up", Goal.RESTARTED: "restarted", Goal.STOPPED: "stopped", Goal.REMOVED: "removed"}
NOT_DONE = {
    Goal.UP: "is not up",
    Goal.RESTARTED: "was not restarted",
    Goal.STOPPED: "is not stopped",
    Goal.REMOVED: "is not removed",
}
# Seconds after which a process that still waits for its dependencies is reported.
REPORT_WAIT_AFTER = 2.0
ALREADY = {Goal.UP: "is up already", Goal.STOPPED: "was not running"}


def change_processes(selector: AppSelector, command: str, names: Sequence[str]) -> int:
    """Start, stop or restart these processes; return the exit status."""
    named = tuple(names)
    requests: dict[str, tuple[protocol.UpRequest | protocol.StopRequest | protocol.RestartRequest, Goal]] = {
        "up": (protocol.UpRequest(0, named), Goal.UP),
        "stop": (protocol.StopRequest(0, named), Goal.STOPPED),
        "restart": (protocol.RestartRequest(0, named), Goal.RESTARTED),
    }
    request, goal = requests[command]
    with _stop_waiting_on_interrupt(), find_app_with(selector, named) as app:
        followed = app.ask(protocol.FollowRequest(0))
        with _print_file_problems():
            asked = app.ask(request)
        for warning in asked.warnings:
            print_error(warning)
        for name in asked.already:
            print_result(f"{name} {ALREADY[goal]}")
        left = {name: (goal, run) for name, run in asked.runs.items() if name not in asked.already}
        return _wait(app, Waiting(left, followed.processes))


def scale(selector: AppSelector, pairs: Sequence[str]) -> int:
    """Set the number of processes of each type; return the exit status."""
    counts = _parse_counts(pairs)
    with _stop_waiting_on_interrupt(), find_app_with(selector, counts) as app:
        return _replan(app, protocol.ScaleRequest(0, counts))


def reload(selector: AppSelector) -> int:
    """Make the app read its files again, and print the changes; return the exit status."""
    with _stop_waiting_on_interrupt(), find_app(selector) as app:
        return _replan(app, protocol.ReloadRequest(0))


def quit_app(selector: AppSelector) -> int:
    """End the app, and wait until it has ended; return the exit status."""
    with find_app(selector) as app:
        followed = app.ask(protocol.FollowRequest(0))
        waiting = Waiting(
            {process.name: (Goal.STOPPED, process.run) for process in followed.processes}, followed.processes
        )
        alive = {process.name: process.pid for process in followed.processes if process.detached and process.pid}
        app.ask(protocol.QuitRequest(0))
        with Progress() as progress:
            try:
                for notice in app.notices():
                    if isinstance(notice, protocol.EndedNotice):
                        alive.pop(notice.name, None)
                    waiting.take(notice)
                    waiting.check(time.monotonic())
                    progress.show(waiting.progress())
            except GoneError:
                pass
    print_result("the app has ended")
    if alive:
        names = ", ".join(f"{name} (pid {pid})" for name, pid in alive.items())
        pids = " ".join(map(str, alive.values()))
        hint = f"the next `start` adopts what runs, `kill {pids}` ends it"
        print_result(f"still running, because detached: {names}\n  hint: {hint}")
    return 0


def _parse_counts(pairs: Iterable[str]) -> dict[str, int]:
    """Parse the counts by type. Raises ProcreaperError for an argument that is not TYPE=NUMBER, or is given twice."""
    counts: dict[str, int] = {}
    for pair in pairs:
        match = re.fullmatch(r"([^=]+)=([0-9]{1,9})", pair)
        if match is None:
            hint = "for example `web=2`; write a space before the next pair"
            raise ProcreaperError(f"scale {pair}: expected TYPE=NUMBER", hint=hint, exit_code=USAGE_ERROR)
        kind, count = match[1], int(match[2])
        if kind in counts:
            message = f"scale {pair}: `{kind}` is given twice, first as {kind}={counts[kind]}"
            raise ProcreaperError(message, hint="name each process type once", exit_code=USAGE_ERROR)
        counts[kind] = count
    return counts


def _replan(app: Client, request: protocol.ScaleRequest | protocol.ReloadRequest) -> int:
    """Make the app plan again, and wait for the changes; return the exit status."""
    followed = app.ask(protocol.FollowRequest(0))
    with _print_file_problems():
        changes = app.ask(request)
    for warning in changes.warnings:
        print_error(warning)
    return _print_changes(app, followed, changes)


def _print_changes(app: Client, followed: protocol.FollowResult, changes: protocol.PlanResult) -> int:
    """Print the changes, and wait until they have happened; return the exit status."""
    marks = {
        "+": (changes.added, "new"),
        "-": (changes.removed, "removed"),
        "~": (changes.restarted, "restarts"),
        "=": (changes.updated, "takes the new settings without a restart"),
    }
    resting = set(changes.restarted) - changes.runs.keys()
    for mark, (names, usual) in marks.items():
        for name in names:
            word = "is not running; its next start uses the new settings" if name in resting else usual
            why = ", ".join(changes.changed.get(name, ()))
            print_result(f"{mark} {name}: {why}; {word}" if why else f"{mark} {name}: {word}")
    changed = sum(len(names) for names, _ in marks.values())
    if changes.unchanged and changed:
        print_result(f"{len(changes.unchanged)} unchanged")
    elif not changed:
        print_result("nothing has changed")
    goals = {
        Goal.UP: [name for name in changes.added if name in changes.runs],
        Goal.REMOVED: changes.removed,
        Goal.RESTARTED: [name for name in changes.restarted if name in changes.runs],
    }
    left = {name: (goal, changes.runs.get(name, 0)) for goal, names in goals.items() for name in names}
    return _wait(app, Waiting(left, followed.processes))


def _wait(app: Client, waiting: Waiting) -> int:
    """Wait for every outcome, and print each; return the exit status."""
    try:
        with Progress() as progress:
            _take(waiting, app.arrived_so_far())
            while True:
                for name in waiting.check(time.monotonic()):
                    progress.clear()
                    _print_outcome(waiting, name)
                for text in waiting.long_waits():
                    progress.clear()
                    print_result(text)
                if not waiting.left:
                    break
                progress.show(waiting.progress())
                until = waiting.deadline
                notice = app.next_notice(None if until is None else max(0.0, until - time.monotonic()))
                _take(waiting, () if notice is None else (notice,))
    except GoneError as error:
        raise ProcreaperError(f"the app ended before {waiting.left[0]} was done", hint=error.hint) from None
    return FAILED if any(outcome.obstacle is not None for outcome in waiting.outcomes.values()) else 0


@contextmanager
def _print_file_problems() -> Iterator[None]:
    """Print the problems in the files if the app refuses the request."""
    try:
        yield
    except RefusedError as error:
        for problem in error.problems:
            print_error(problem)
        raise


@contextmanager
def _stop_waiting_on_interrupt() -> Iterator[None]:
    """Turn Ctrl-C into an error whose hint says that the request continues."""
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        hint = "the request continues; `procreaper ps` shows its progress"
        raise ProcreaperError("stopped waiting", hint=hint, exit_code=INTERRUPTED) from None


def _take(waiting: Waiting, notices: Iterable[protocol.AnyNotice]) -> None:
    for notice in notices:
        if isinstance(notice, protocol.GoodbyeNotice):
            hint = f"its exit code is {notice.code}"
            raise GoneError("the app has ended", hint=hint)
        waiting.take(notice)


def _print_outcome(waiting: Waiting, name: str) -> None:
    text, outcome = waiting.describe(name), waiting.outcomes[name]
    if outcome.obstacle is None:
        print_result(text)
        return
    print_error(str(Problem(text, hint=waiting.remedy(name))))


class Waiting:
    """Tracks the goal and the progress of each process until its outcome is known."""

    def __init__(self, goals: Mapping[str, tuple[Goal, int]], processes: Iterable[protocol.ProcessStatus]) -> None:
        self._goals = goals
        self._processes = {process.name: process for process in processes}
        self._confirmation = Confirmation()
        # When each process began to wait for its dependencies; the processes already reported; the lines to print.
        self._waits_since: dict[str, float] = {}
        self._told: set[str] = set()
        self._long_waits: list[str] = []
        # When to check again without a notice; None: never.
        self.deadline: float | None = None
        self.outcomes: dict[str, Outcome] = {}

    @property
    def left(self) -> list[str]:
        """The processes without an outcome so far."""
        return [name for name in self._goals if name not in self.outcomes]

    def take(self, notice: protocol.Notice) -> None:
        """Take the change from a notice."""
        match notice:
            case protocol.StatusNotice(process=process):
                self._processes[process.name] = process
            case protocol.RemovedNotice(name=name):
                self._processes.pop(name, None)

    def check(self, now: float) -> list[str]:
        """Return the processes whose outcome is newly known; `now` is in seconds of any clock."""
        found, deadlines = [], []
        runs = {name: run for name, (_, run) in self._goals.items()}
        for name in self.left:
            goal, run = self._goals[name]
            process = self._processes.get(name)
            outcome = find_outcome(goal, run, process)
            if outcome.reached and process is not None:
                due = self._confirmation.due(name, process, now)
                if due is not None:
                    deadlines.append(due)
                    continue
            if outcome.pending and goal in (Goal.UP, Goal.RESTARTED):
                outcome = find_blocker(name, self._processes, runs) or outcome
            if not outcome.pending:
                self.outcomes[name] = outcome
                found.append(name)
            elif process is not None and process.waits_for and name not in self._told:
                since = self._waits_since.setdefault(name, now)
                if now < since + REPORT_WAIT_AFTER:
                    deadlines.append(since + REPORT_WAIT_AFTER)
                else:
                    self._told.add(name)
                    self._long_waits.append(self._describe_wait(process))
        self.deadline = min(deadlines, default=None)
        return found

    def long_waits(self) -> list[str]:
        """Return one line for each process that has long waited for its dependencies; once for each process."""
        told, self._long_waits = self._long_waits, []
        return told

    def _describe_wait(self, process: protocol.ProcessStatus) -> str:
        others = []
        for name in process.waits_for:
            other = self._processes.get(name)
            others.append(name if other is None else f"{name}, which is {with_reason(other.state, other.reason)}")
        return f"{process.name} waits for {'; '.join(others)}"

    def describe(self, name: str) -> str:
        """Describe the outcome in one line."""
        goal, _ = self._goals[name]
        outcome = self.outcomes[name]
        if outcome.obstacle is not None:
            return f"{name} {NOT_DONE[goal]}: {outcome.obstacle}"
        process = self._processes.get(name)
        if goal in (Goal.STOPPED, Goal.REMOVED) or process is None:
            return f"{name} {DONE[goal]}"
        if process.state == "completed":
            return f"{name} completed"
        return f"{name} {DONE[goal]} (pid {process.pid})" if process.pid is not None else f"{name} {DONE[goal]}"

    def remedy(self, name: str) -> str:
        """Return the hint for an obstacle."""
        blocker = self.outcomes[name].blocker
        if blocker is None:
            return f"`procreaper logs {name}` shows what it wrote"
        other = self._processes.get(blocker)
        if other is not None and other.state == State.STOPPED:
            return f"it starts as soon as {blocker} is up; `procreaper up {blocker}` starts that"
        return f"it starts as soon as {blocker} is up; `procreaper logs {blocker}` shows what that wrote"

    def progress(self) -> str:
        """Describe the processes without an outcome in one line."""
        return ", ".join(f"{name} {state}".rstrip() for name, state in self.states().items())

    def states(self) -> dict[str, str]:
        """Return the state and its reason for each process without an outcome."""
        processes = {name: self._processes.get(name) for name in self.left}
        return {
            name: "" if process is None else with_reason(process.state, process.reason)
            for name, process in processes.items()
        }
