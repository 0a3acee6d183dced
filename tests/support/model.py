"""The books of a history: what somebody who sees only the events must expect, and what must always be true.

They know nothing of the rules but their words. Each page is about one process, and follows its run by what was asked
and reported.
"""

from __future__ import annotations

from collections.abc import Mapping

from procreaper.core import fleet as rules
from procreaper.core.events import (
    Action,
    Announce,
    CancelCheck,
    CancelPreparation,
    CheckFinished,
    ChildExited,
    Event,
    FilesChanged,
    GroupEnded,
    LogMatched,
    PreparationEnded,
    ReadSettings,
    Release,
    Reload,
    Restart,
    RunPreparation,
    RunStopCommand,
    SendSignal,
    SettingsRead,
    Shutdown,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    StartCheck,
    StartHook,
    State,
    Stop,
    TerminalClosed,
    TerminalOpened,
    Tick,
    TimeLost,
    with_reason,
)
from procreaper.core.file_changes import MORE_WITHIN, PATIENCE
from procreaper.core.fleet import LAUNCHES_AT_ONCE, Fleet
from procreaper.core.plan import Condition, Plan, Process, When, reachable
from procreaper.core.state import Phase, ProcessState
from support.plans import CHANGE_SIGNAL
from support.simulated_os import SIGKILL, STOP_COMMAND, World

COMPLETED, FAILED, HEALTHY, PENDING, RESTARTING, RUNNING, SKIPPED, STARTING, STOPPED, STOPPING, UNHEALTHY = (
    State.COMPLETED,
    State.FAILED,
    State.HEALTHY,
    State.PENDING,
    State.RESTARTING,
    State.RUNNING,
    State.SKIPPED,
    State.STARTING,
    State.STOPPED,
    State.STOPPING,
    State.UNHEALTHY,
)
NONE, SPAWNING, ALIVE, LINGERING = Phase.NONE, Phase.SPAWNING, Phase.ALIVE, Phase.LINGERING
# What sums of the same times may differ by, in seconds.
ROUNDING = 1e-6
EXITED = ("exited with ", "killed by ", "command not found", "not executable")
# Each situation there may be, and how its reason may begin.
SITUATIONS: dict[tuple[State, Phase], tuple[str, ...]] = {
    (PENDING, NONE): ("waiting ", "about to start"),
    (STARTING, SPAWNING): ("starting",),
    (STARTING, ALIVE): ("waiting for its ", "checks paused"),
    (RUNNING, ALIVE): ("running",),
    (HEALTHY, ALIVE): ("healthy", "check failed (", "checks paused"),
    (UNHEALTHY, ALIVE): ("unhealthy: ", "checks paused"),
    (STOPPING, SPAWNING): ("stopping",),
    (STOPPING, ALIVE): ("stopping", "stops after ", "unhealthy: ", "not healthy within ", "still there after SIGKILL"),
    (STOPPING, LINGERING): ("stopping", "stops after ", "unhealthy: ", "not healthy ", "still there", *EXITED),
    (RESTARTING, NONE): ("not healthy ", "unhealthy: ", "no such luck;", *EXITED),
    (STOPPED, NONE): ("stopped", "not started", "keeps running"),
    (COMPLETED, NONE): EXITED,
    (FAILED, NONE): ("not healthy ", "unhealthy: ", "no such luck", *EXITED),
    (SKIPPED, NONE): ("one ", "two ", "three ", "four ", "five ", "six "),
}
WANTED = (PENDING, STARTING, RUNNING, HEALTHY, UNHEALTHY, RESTARTING)
WITH_PID = (ALIVE, LINGERING)
FINAL_STATES = (COMPLETED, FAILED, SKIPPED)
# What a child cannot take over while it runs, besides another line of output that tells that it is ready.
OF_THE_CHILD = ("command", "detached")
LIVES_ON = "keeps running without procreaper (pid "
UP = {
    Condition.STARTED: (STARTING, RUNNING, HEALTHY, UNHEALTHY, COMPLETED),
    Condition.HEALTHY: (HEALTHY,),
    Condition.COMPLETED: (COMPLETED,),
}


class Page:
    """What is known of one process from outside."""

    __slots__ = (
        "again",
        "allowed",
        "asked",
        "attached",
        "changed",
        "changed_first",
        "changed_last",
        "code",
        "ending",
        "established",
        "ever_asked",
        "failures",
        "free",
        "interrupted",
        "kill_at",
        "last_check",
        "leaving",
        "limit",
        "log_seen",
        "more",
        "outcome",
        "outdated",
        "passed",
        "paused_at",
        "prepared",
        "process",
        "ran",
        "ready",
        "rereading",
        "retries",
        "retry_at",
        "spawned_with",
        "stopped_by_user",
        "suspended",
        "up_at",
    )

    def __init__(self, process: Process) -> None:
        self.process = process
        # May it run? Is its next launch one that somebody asked for? Is the present run to end, and then?
        self.allowed = self.asked = self.ever_asked = self.ending = self.again = False
        # What the last run that ended by itself led to, what it counts as, and the earliest moment of its retry.
        self.outcome: State | None = None
        self.code = 0
        self.retries = 0
        self.retry_at = 0.0
        # The present run: since when it is up, and what the checks said.
        self.up_at: float | None = None
        self.passed = self.log_seen = self.ready = False
        # Was there a pause during the check that is under way?
        self.interrupted = False
        self.failures = 0
        self.limit: float | None = None
        self.last_check: float | None = None
        # Has somebody stopped it, and nobody wanted it since? Does what changed restart it no more?
        self.stopped_by_user = self.suspended = False
        # Has something changed of which no run knows, and no preparation? Since when, and when last? Has a preparation
        # succeeded of which no run knows?
        self.changed = self.prepared = False
        self.changed_first = self.changed_last = 0.0
        # Was it said that more changes are on their way?
        self.more = False
        # Has it had a run since it came? Is it not in the plan any more? Does it live on without us?
        self.ran = self.leaving = self.free = False
        # Has it been up since it was last stopped, and restarted together with no dependency since?
        self.established = False
        # Have the files of its settings changed since they were read? Are they being read again?
        self.outdated = self.rereading = False
        # What its run is to be ended as, if not as what it is now; and the earliest moment at which it may be killed.
        self.spawned_with: Process | None = None
        self.kill_at = 0.0
        # Is somebody at its terminal? Since when do its checks rest for that?
        self.attached = False
        self.paused_at: float | None = None

    @property
    def ends_as(self) -> Process:
        return self.spawned_with or self.process

    def begin_run(self, now: float) -> None:
        health = self.process.health
        self.log_seen = health is None or health.log is None
        self.begin_checks(now)
        self.up_at = now if health is None else None
        if health is None and not self.ending and not self.process.oneshot:
            self.established = True

    def begin_checks(self, now: float) -> None:
        health = self.process.health
        self.passed = False
        self.failures = 0
        self.limit = None if health is None else now + health.start_timeout
        self.paused_at = now if self.attached and health is not None else None
        self.up_at = self.last_check = None

    def give_up(self, now: float) -> None:
        """By what is known of its health, it is to end: that counts while nobody is attached."""
        health = self.process.health
        if health is None or self.paused_at is not None:
            return
        if not self.passed:
            if self.limit is not None and now >= self.limit:
                self.judge(124, now, well=False)
        elif self.failures >= health.retries and self.process.restart is not When.NEVER:
            self.judge(1, now, well=False)

    def become(self, process: Process, phase: Phase) -> None:
        """Its next run is one of another process."""
        if phase is not NONE:
            self.spawned_with = self.ends_as
        self.process = process

    def follow(self, before: Process, process_state: ProcessState, now: float) -> None:
        """It is, or is not, restarted for other files now."""
        if self.process.watch == before.watch:
            return
        if self.process.watch is None:
            self.changed = self.prepared = False
        # What the next run was to know anyway needs no preparation now.
        self.changed = self.changed and process_state.change is not None
        self.changed_first = self.changed_last = now

    def lose_time(self, seconds: float, *, checking: bool) -> None:
        """Nothing has counted the last seconds."""
        self.kill_at += seconds
        self.changed_first += seconds
        self.changed_last += seconds
        if self.up_at is not None:
            self.up_at += seconds
        if self.limit is not None and self.paused_at is None:
            self.limit += seconds
        self.interrupted = self.interrupted or checking

    def clear_retries(self, now: float) -> None:
        if self.up_at is not None and now >= self.up_at + self.process.backoff.reset:
            self.retries = 0

    def judge(self, code: int, now: float, *, well: bool = True, hope: bool = True) -> None:
        """A run has ended by itself, or is given up: what it leads to."""
        process = self.process
        success = well and code in process.success_codes
        self.clear_retries(now)
        self.ending, self.again, self.up_at, self.limit = True, False, None, None
        self.code = 0 if success else code
        if success and process.restart is not When.ALWAYS:
            self.outcome, self.established = COMPLETED, True
        elif not (
            (success or hope)
            and process.restart.applies(success=success)
            and (process.max_retries is None or self.retries < process.max_retries)
        ):
            self.outcome = FAILED
        else:
            self.outcome = RESTARTING
            self.retries += 1

    def ask_to_end(self, *, again: bool) -> None:
        self.ending, self.again, self.outcome, self.up_at, self.limit = True, again, None, None, None


class Books:
    """All pages, and what is true of the app."""

    def __init__(self, processes: tuple[Process, ...], world: World) -> None:
        self.world = world
        self.pages = {process.name: Page(process) for process in processes}
        self.plan = processes
        # Those that left without having ended by themselves, and the last run of each that there was.
        self.removed: set[str] = set()
        self.runs: dict[str, int] = {}
        self.reloads: set[str] = set()
        # How often settings were read again, and were others.
        self.renewed = 0
        # How often a check failed that a pause had interrupted.
        self.repeated = 0
        self.dependants: dict[str, list[str]] = {}
        self._relate()
        self.insisted = 0
        self.first_failure = 0
        self.ended_by: type[Event] | None = None
        self.situations: set[tuple[State, Phase]] = set()
        # What was said when files had changed, and in which states.
        self.said: set[str] = set()
        self.changed_while: set[State] = set()

    def _relate(self) -> None:
        edges = {name: [edge.name for edge in page.process.depends_on] for name, page in self.pages.items()}
        needs = {name: reachable(direct, edges) for name, direct in edges.items()}
        before = self.dependants
        self.dependants = {name: [other for other in needs if name in needs[other]] for name in needs}
        for name, others in self.dependants.items():
            # What connected them may be gone, and they stop in the same order all the same.
            others += [other for other in before.get(name, ()) if other not in others and self.pages[other].leaving]
        self._relate_anew()

    def _relate_anew(self) -> None:
        for name in self.dependants:
            self.dependants[name] = [other for other in self.dependants[name] if other in self.pages]
        self.followers = [name for name, page in self.pages.items() if any(e.restart for e in page.process.depends_on)]
        self.watched = {name: page for name, page in self.pages.items() if page.process.watch is not None}

    # What is expected, before the rules are asked.

    def note(self, event: Event, before: Mapping[str, ProcessState], now: float, *, over: bool) -> None:
        match event:
            case Tick():
                for name, page in self.pages.items():
                    if page.retries:
                        page.clear_retries(now)
                    if page.limit is not None and now >= page.limit and not page.passed and page.paused_at is None:
                        assert before[name].state is STARTING
                        page.judge(124, now, well=False)
            case TimeLost(seconds=seconds):
                for name, page in self.pages.items():
                    page.lose_time(seconds, checking=name in self.world.checks)
            case Reload(plan=plan):
                if not over:
                    self._reload(plan, before, now)
            case TerminalOpened(name=name):
                if name in self.pages and not self.pages[name].attached:
                    page = self.pages[name]
                    page.attached = True
                    page.paused_at = now if page.process.health and _lives(before[name]) else None
            case TerminalClosed(name=name):
                if name in self.pages and self.pages[name].attached:
                    self._detach(self.pages[name], before[name], now)
            case Start(names=names) | Restart(names=names):
                if not over:
                    for name in dict.fromkeys(names):
                        if name in self.pages and not self.pages[name].leaving:
                            self._ask(self.pages[name], before[name], restart=isinstance(event, Restart))
                            self.pages[name].suspended = False
            case Stop(names=names):
                for name in names:
                    if name in self.pages:
                        self._stop(self.pages[name], before[name])
            case Shutdown(insistent=insistent):
                self.insisted += insistent
                self._stop_all(before)
            case Spawned(name=name):
                page = self.pages[name]
                page.begin_run(now)
                if page.ending:
                    page.up_at = page.limit = None
            case SpawnFailed(name=name, code=code, permanent=permanent):
                page = self.pages[name]
                if not page.ending:
                    page.judge(code, now, well=False, hope=not permanent)
            case ChildExited(name=name, exit=exit_):
                page = self.pages[name]
                if not page.ending:
                    page.judge(exit_.status, now, hope=exit_.code not in (126, 127))
            case CheckFinished() | LogMatched():
                page = self.pages[event.name]
                if not page.ending:
                    self._learn(page, event, now)
            case SettingsRead(name=name, process=process):
                page = self.pages.get(name)
                if page is not None and page.rereading:
                    page.rereading = False
                    if process is not None:
                        self._renew(page, process, before[name], now)
            case FilesChanged(changes=changes, outdated=outdated):
                for name, paths in changes.items():
                    if not over and name in self.pages and name in outdated:
                        self.pages[name].outdated = True
                    if not over and name in self.watched:
                        process_state = before[name]
                        if not (process_state.preparing and process_state.echoes.own.issuperset(paths)):
                            self._see_change(self.watched[name], process_state, now)
                            self.watched[name].more = event.more
            case PreparationEnded(name=name, succeeded=succeeded):
                page = self.pages[name]
                page.prepared = (page.prepared or succeeded) and not page.changed

    def _reload(self, plan: Plan, before: Mapping[str, ProcessState], now: float) -> None:
        self.plan = plan.processes
        for process in plan.processes:
            name = process.name
            page = self.pages.get(name)
            self.world.processes[name] = process
            if page is None or page.leaving:
                self.reloads.add("added" if page is None else "back")
                if page is None:
                    page = self.pages[name] = Page(process)
                else:
                    page.become(process, before[name].phase)
                page.leaving = False
                self.removed.discard(name)
                if plan.names is None or name in plan.names:
                    self._ask(page, before.get(name) or ProcessState(process), restart=False)
            else:
                self._take_over(page, process, before[name], now)
        for name in self.pages.keys() - {process.name for process in plan.processes}:
            page, process_state = self.pages[name], before[name]
            if page.leaving:
                continue
            self.reloads.add("gone" if process_state.phase is NONE else "removed")
            if page.ever_asked and not (
                process_state.phase is NONE and process_state.state in FINAL_STATES and page.process.watch is None
            ):
                self.removed.add(name)
            page.leaving = True
            self._stop(page, process_state)
        self._relate()

    def _renew(self, page: Page, process: Process, process_state: ProcessState, now: float) -> None:
        old = page.process
        self.renewed += process != old
        page.process = self.world.processes[process.name] = process
        page.follow(old, process_state, now)
        self._relate()

    def _take_over(self, page: Page, process: Process, process_state: ProcessState, now: float) -> None:
        old = page.process
        page.suspended = False
        if process == old:
            self.reloads.add("same")
            return
        line = None if process.health is None else process.health.log
        old_line = None if old.health is None else old.health.log
        if any(getattr(process, field) != getattr(old, field) for field in OF_THE_CHILD) or line not in (
            None,
            old_line,
        ):
            page.become(process, process_state.phase)
            page.follow(old, process_state, now)
            if any(edge not in old.depends_on for edge in process.depends_on):
                page.established = False
            self.reloads.add("restarted" if page.ever_asked and not page.stopped_by_user else "still")
            if page.ever_asked and not page.stopped_by_user:
                self._ask(page, process_state, restart=True)
            return
        self.reloads.add("in place")
        page.process = process
        page.follow(old, process_state, now)
        if not _lives(process_state):
            return
        if process.health == old.health:
            page.give_up(now)
            return
        self.reloads.add("checked otherwise")
        up_at, log_seen = page.up_at, page.log_seen
        page.begin_checks(now)
        if process.health is None:
            page.up_at = now if up_at is None else up_at
            page.established = page.established or not process.oneshot
        else:
            page.log_seen = process.health.log is None or (old.health is not None and log_seen)
            if page.log_seen and process.health.check is None:
                page.passed, page.limit, page.up_at, page.established = True, None, now, True

    def _detach(self, page: Page, process_state: ProcessState, now: float) -> None:
        page.attached = False
        if page.paused_at is None:
            return
        if page.limit is not None:
            page.limit += now - page.paused_at
        page.paused_at = page.last_check = None
        if _lives(process_state):
            page.give_up(now)

    def _see_change(self, page: Page, process_state: ProcessState, now: float) -> None:
        if page.ever_asked and not page.stopped_by_user and not page.suspended:
            self.changed_while.add(process_state.state)
            if process_state.change is None:
                page.changed_first = now
            page.changed, page.changed_last = True, now

    def _ask(self, page: Page, process_state: ProcessState, *, restart: bool) -> None:
        page.allowed = page.ever_asked = True
        page.stopped_by_user = False
        if process_state.phase is NONE:
            if restart or process_state.state is not PENDING:
                page.retries = 0
                page.asked = True
        elif page.ending:
            page.retries, page.again, page.outcome, page.asked = 0, True, None, True
        elif restart:
            page.retries, page.asked = 0, True
            page.ask_to_end(again=True)

    def _stop(self, page: Page, process_state: ProcessState) -> None:
        page.allowed = page.asked = page.changed = page.prepared = page.established = False
        page.stopped_by_user = True
        if process_state.phase is NONE:
            return
        if not page.ending:
            page.ask_to_end(again=False)
        page.again = False
        if page.outcome is RESTARTING:
            page.outcome = None

    def _stop_all(self, before: Mapping[str, ProcessState]) -> None:
        for name, page in self.pages.items():
            if page.process.detached and not page.ending and self._is_there(name):
                page.free = True
            self._stop(page, before[name])

    def _is_there(self, name: str) -> bool:
        if name in self.world.living:
            return self.world.living[name][1].phase is ALIVE
        return any(launch.name == name for launch in self.world.spawning)

    def _learn(self, page: Page, event: CheckFinished | LogMatched, now: float) -> None:
        health = page.process.health
        succeeded = False
        if health is None:
            return
        if isinstance(event, LogMatched):
            if page.log_seen:
                # It belonged to what was to be known of it before.
                page.give_up(now)
                return
            page.log_seen = True
            succeeded = health.check is None
        else:
            page.last_check = now
            if page.interrupted and event.error is not None and not event.skipped and page.paused_at is None:
                # It says nothing, and is made again at once.
                page.last_check = None
                page.interrupted = False
                self.repeated += 1
                page.give_up(now)
                return
            if event.skipped:
                if page.limit is not None:
                    page.limit = max(page.limit, now + health.start_timeout)
            else:
                succeeded = event.error is None
        if succeeded:
            if not page.passed or page.failures >= health.retries:
                page.up_at = now
            page.passed, page.failures, page.limit, page.established = True, 0, None, True
        elif page.passed and isinstance(event, CheckFinished) and not event.skipped and page.paused_at is None:
            page.failures += 1
            if page.failures >= health.retries:
                page.up_at = None
        page.give_up(now)

    # What must be true, when they have answered.

    def check(
        self, before: Fleet, event: Event, after: Fleet, actions: tuple[Action, ...], now: float, *, stale: bool = False
    ) -> None:
        old, new = dict(before.members), after.members
        for name in new.keys() - old.keys():
            old[name] = ProcessState(new[name].process, run=self.runs.get(name, 0), earlier_runs=self.runs.get(name, 0))
        changed = [name for name, process_state in new.items() if process_state is not old[name]]
        if stale:
            assert not actions, "a stale fact had consequences"
            assert all(new[name] == old[name] for name in changed), "a stale fact changed something"
            return
        for action in actions:
            if isinstance(action, Announce) and not action.text.startswith(LIVES_ON):
                self._check_announcement(action, event, old, new, actions, now)
        if not after.shutting_down:
            for name in changed:
                if old[name].state is SKIPPED:
                    self._check_revived(name, new)
            self._check_following(old, new)
        for name in changed:
            if new[name].asked_to_end and not old[name].asked_to_end and not after.shutting_down:
                self._check_follower(name, event, old, new)
        if not after.shutting_down:
            self._note_restarts_together(event, old, new)
        if isinstance(event, ChildExited | GroupEnded | SpawnFailed):
            self._check_end(event, old, new, now)
        self._check_app(before, event, after, old)
        for action in actions:
            self._check_action(action, actions, event, after, now)
            self.world.perform(action, now)
        for name in changed:
            if name in self.watched:
                self._check_watched(name, new[name])
            self._check_change(name, old[name], new[name], actions)
            if new[name].state is SKIPPED and old[name].state is not SKIPPED:
                self._check_skipped(new[name], new)
        for name in before.members.keys() - new.keys():
            assert self.pages[name].leaving, "gone, and in the plan"
            assert name not in self.world.living, "gone, and it lives"
            assert name not in self.world.preparing, "gone, and its preparation goes on"
            assert name not in self.world.checks, "gone, and is checked"
            del self.pages[name]
            self._relate_anew()
        self._check_members(after)
        if isinstance(event, Tick):
            due = rules.deadline(after)
            if due is not None and due <= now:
                told = {action.name for action in actions if isinstance(action, SendSignal | RunStopCommand)}
                assert any(new[name].stop.timeout == 0.0 for name in told), "a tick left its deadline behind"

    def check_rest(self, members: Mapping[str, ProcessState]) -> None:
        """When all is quiet, the newest is what runs, unless its preparation failed, or never ends."""
        for name, page in self.watched.items():
            process_state = members[name]
            if not (process_state.preparing or _begins_anew(process_state)):
                assert not page.changed, "what runs is not the newest"
                assert not page.prepared, "what runs is not the newest"

    def _follows(self, name: str, old: Mapping[str, ProcessState], new: Mapping[str, ProcessState]) -> bool:
        return any(
            edge.restart
            and edge.name in new
            and _had_come_up(old[edge.name], edge.condition)
            and not (_lives(new[edge.name]) and new[edge.name].run == old[edge.name].run)
            and new[edge.name].wanted
            and not _had_come_up(new[edge.name], edge.condition)
            for edge in self.pages[name].process.depends_on
        )

    def _check_following(self, old: Mapping[str, ProcessState], new: Mapping[str, ProcessState]) -> None:
        for name in self.followers:
            process_state = new.get(name)
            if (
                process_state is not None
                and not process_state.asked_to_end
                and (process_state.is_alive or process_state.phase is SPAWNING)
            ):
                assert not self._follows(name, old, new), "did not follow a restart"

    def _check_follower(
        self, name: str, event: Event, old: Mapping[str, ProcessState], new: Mapping[str, ProcessState]
    ) -> None:
        if self.pages[name].ending:
            return
        assert self._follows(name, old, new), "asked to end, and nobody asked"
        self._ask(self.pages[name], old[name], restart=True)
        self.pages[name].established = False

    def _note_restarts_together(
        self, event: Event, old: Mapping[str, ProcessState], new: Mapping[str, ProcessState]
    ) -> None:
        """A process and its dependency that restart together start in order."""

        def is_asked(process_state: ProcessState) -> bool:
            return process_state.wanted and (
                process_state.state is PENDING or (process_state.state is STOPPING and process_state.asked_to_end)
            )

        def is_asked_now(name: str) -> bool:
            launched = new[name].phase is SPAWNING and new[name].run > old[name].run
            retried = isinstance(event, Tick) and old[name].state is RESTARTING and not self.pages[name].asked
            return (is_asked(new[name]) or launched) and not is_asked(old[name]) and not retried

        now = {name for name in new if is_asked_now(name)}
        for name, process_state in new.items():
            for edge in self.pages[name].process.depends_on:
                if edge.name in now:
                    waits = (
                        name in now or is_asked(process_state) or (process_state.state is RESTARTING and edge.restart)
                    )
                else:
                    other = new.get(edge.name)
                    waits = name in now and other is not None and other.state is STOPPING and is_asked(other)
                if waits:
                    self.pages[name].established = False

    def _check_announcement(
        self,
        action: Announce,
        event: Event,
        old: Mapping[str, ProcessState],
        new: Mapping[str, ProcessState],
        actions: tuple[Action, ...],
        now: float,
    ) -> None:
        """Something is done about a change: there must be one, it must be time, and nobody has stopped the process."""
        name, text = action.name, action.text
        page, watch = self.watched[name], self.watched[name].process.watch
        assert watch is not None
        assert page.ever_asked, "a change acts on what nobody wants"
        assert not page.stopped_by_user, "a change acts on what was stopped by hand"
        if not isinstance(event, PreparationEnded):
            assert not page.suspended, "a change acts, and it was said that none would"
        done = [action for action in actions if getattr(action, "name", None) == name]
        cause, _, what = text.partition("; ")
        if isinstance(event, FilesChanged):
            assert "app.py" in cause, "the file is not named"
            page.suspended = what.startswith("not watched any more")
            if page.suspended or what.startswith("such changes"):
                page.changed = new[name].change is not None
        elif isinstance(event, PreparationEnded):
            assert event.succeeded, "a preparation that failed has consequences"
            assert cause == ("prepared" if watch.run is None else "`make` succeeded"), "not the cause"
            assert page.prepared, "what changed meanwhile has to be prepared first"
        else:
            assert isinstance(event, Tick), "a change acts at once"
            assert "app.py" in cause, "the file is not named"
            assert page.changed, "nothing has changed"
            change = old[name].change
            assert change is not None
            waited = page.changed_last + max(change.calm, watch.debounce)
            if not change.calm:
                waited = min(waited, page.changed_first + max(PATIENCE, watch.debounce))
            assert now >= waited - ROUNDING, "it was not quiet yet"
        if isinstance(event, FilesChanged):
            pass
        elif what in ("restarting", "starting"):
            assert watch.run is None or not isinstance(event, Tick), "needed and not prepared"
            assert (what == "starting") is (old[name].phase is NONE), "not what is done"
            self._ask(page, old[name], restart=True)
        elif what.startswith("running"):
            assert RunPreparation(name, "make") in done, "not what is done"
            page.changed = page.prepared = False
        else:
            assert not what, "not what is done"
            sent = [each.signal for each in done if isinstance(each, SendSignal)]
            assert CHANGE_SIGNAL in sent, "not what is done"
            assert old[name].state in (RUNNING, HEALTHY, UNHEALTHY), "sent to what cannot be ready for it"
            page.changed = page.prepared = False
        self.said.add(what.partition(" ")[0])

    def _check_watched(self, name: str, process_state: ProcessState) -> None:
        """What changed is known to the run, or will be."""
        page, anew = self.watched[name], _begins_anew(process_state)
        assert process_state.preparing is (name in self.world.preparing), "not what is being prepared"
        assert process_state.change is None or page.changed, "waits for quiet, and nothing has changed"
        assert not page.changed or process_state.change is not None or anew, "what has changed was forgotten"
        assert not page.prepared or anew, "what was prepared was forgotten"
        assert bool(process_state.throttle.suspended) is page.suspended, "suspended without a notice, or the reverse"
        if (
            process_state.change is not None
            and not (process_state.change.echo or anew)
            and page.process.watch is not None
        ):
            quiet = max(page.process.watch.debounce, process_state.change.calm, MORE_WITHIN if page.more else 0.0)
            assert process_state.change.due <= page.changed_last + quiet + ROUNDING, "waits for too long"

    def _check_revived(self, name: str, new: Mapping[str, ProcessState]) -> None:
        page, process_state = self.pages[name], new[name]
        if process_state.state is SKIPPED or page.allowed:
            return
        assert not page.stopped_by_user, "wanted again after a stop by hand"
        assert not _lost_causes(process_state, new), "wanted again, and still in vain"
        page.allowed = page.asked = True

    def _check_end(
        self,
        event: ChildExited | GroupEnded | SpawnFailed,
        old: Mapping[str, ProcessState],
        new: Mapping[str, ProcessState],
        now: float,
    ) -> None:
        name = event.name
        page, process_state = self.pages[name], new.get(name)
        if process_state is None:
            assert page.leaving, "gone, and in the plan"
            return
        if isinstance(event, ChildExited) and event.leftovers:
            assert (process_state.state, process_state.phase) == (STOPPING, LINGERING)
            return
        outcome, page.ending = page.outcome, False
        if outcome in FINAL_STATES:
            assert process_state.state is outcome, "not its verdict"
        elif not page.allowed:
            assert process_state.state is STOPPED, "ended on request, and not stopped"
        elif page.again:
            assert process_state.state in (PENDING, STARTING), "wanted again, and not about to start"
        else:
            assert process_state.state is outcome is RESTARTING, "not its verdict"
        if process_state.state is RESTARTING:
            wait = page.process.backoff.wait(page.retries)
            page.retry_at = now + wait
            assert process_state.due == page.retry_at, "not the wait of the back-off"
            count = page.retries if page.process.max_retries is None else f"{page.retries}/{page.process.max_retries}"
            assert process_state.reason.endswith(f"; retry {count} in {wait:.1f} s"), "not the reason of a retry"

    def _check_app(self, before: Fleet, event: Event, after: Fleet, old: Mapping[str, ProcessState]) -> None:
        if before.shutting_down:
            assert after.shutting_down, "the shutdown was forgotten"
            assert after.code == before.code, "a later cause hid the first"
            return
        if (
            isinstance(event, ChildExited | SpawnFailed)
            and (page := self.pages[event.name]).outcome in (COMPLETED, FAILED)
            and not page.leaving
        ):
            self.first_failure = self.first_failure or page.code
            ends = page.process.stop_all.applies(success=page.outcome is COMPLETED)
            assert after.shutting_down is ends, "stop_all was not obeyed"
            if ends:
                assert after.code == page.code, "not the exit code of the cause"
                self._stop_all(before.members)
        else:
            assert after.shutting_down is isinstance(event, Shutdown), "the app ends without a cause"
            assert not isinstance(event, Shutdown) or after.code == event.code, "not the exit code that was asked for"
        if after.shutting_down:
            self.ended_by = type(event)
        for name, process_state in after.members.items():
            if process_state.state is SKIPPED and old[name].state is not SKIPPED:
                self.first_failure = self.first_failure or 1
                self.pages[name].allowed = self.pages[name].asked = False

    def _check_action(
        self, action: Action, actions: tuple[Action, ...], event: Event, after: Fleet, now: float
    ) -> None:
        match action:
            case Spawn():
                self._check_spawn(action, after, now)
            case SendSignal() | RunStopCommand():
                self._check_telling(action, actions, after, now)
            case StartCheck(name=name, run=run):
                page, living = self.pages[name], self.world.living.get(name)
                health = page.process.health
                assert name not in self.world.checks, "two checks at once"
                assert living is not None, "a check of what does not live"
                assert (living[0], living[1].phase) == (run, ALIVE), "a check of what does not live"
                # One tick may both begin a check and restart what is checked along with a dependency.
                assert not page.ending or CancelCheck(name, run) in actions, "a check of what is to end"
                assert health is not None, "a check that there is not"
                assert health.check is not None, "a check that there is not"
                assert page.log_seen, "a check before the log line"
                assert not page.attached, "a check while a client is attached"
                page.interrupted = False
                if page.last_check is not None:
                    wait = health.interval if page.passed else health.start_interval
                    assert now >= page.last_check + wait, "a check too early"
            case CancelCheck(name=name, run=run):
                assert self.world.checks.get(name) == run, "cancelled what is not under way"
                others = isinstance(event, Reload) and "checked otherwise" in self.reloads
                assert others or self.pages[name].ending or name not in self.world.living, "cancelled for no reason"
            case ReadSettings(name=name):
                page = self.pages[name]
                assert page.outdated, "read again, and nothing has changed"
                assert not page.rereading, "read twice at once"
                assert after.members[name].state is PENDING, "read again, and does not start"
                page.outdated, page.rereading = False, True
            case RunPreparation(name=name):
                assert name not in self.world.preparing, "two preparations at once"
            case CancelPreparation(name=name):
                assert name in self.world.preparing, "cancelled what is not under way"
                page = self.pages[name]
                assert page.stopped_by_user or page.process.watch is None, "cancelled for no reason"
            case Release(name=name, run=run):
                assert after.shutting_down, "let go, and the app goes on"
                assert self.pages[name].free, "let go, and was not to live on"
                assert self.world.living[name][0] == run, "not the run that lives"
                assert not self.world.living[name][1].told, "told to end, and let go"
            case Announce(name=name, text=text):
                assert self.pages[name].free or not text.startswith(LIVES_ON), "said to live on, and was not to"
            case StartHook():
                pass

    def _check_spawn(self, action: Spawn, after: Fleet, now: float) -> None:
        name, page = action.name, self.pages[action.name]
        assert not page.leaving, "a launch of what was removed"
        assert action.run == self.runs.get(name, 0) + 1, "the runs are not counted"
        self.runs[name] = action.run
        assert name not in self.world.living, "a twin: the group of the last run is still there"
        assert all(other.name != name for other in self.world.spawning), "a twin: two launches at once"
        assert not after.shutting_down, "a launch while the app ends"
        assert page.allowed, "a launch after a stop"
        assert not page.outdated, "a launch with old settings"
        assert not page.rereading, "a launch while the settings are read"
        for edge in page.process.depends_on:
            other = after.members[edge.name]
            no_need = page.established or (page.ran and other.state in FINAL_STATES)
            assert no_need or _is_up(other, edge.condition), f"launched before {edge.name} was up"
        if not page.asked:
            assert page.outcome is RESTARTING, "a launch that nobody asked for"
            assert now >= page.retry_at, "a retry without its wait"
        page.asked, page.ending, page.again, page.ready, page.outcome = False, False, False, False, None
        page.ran, page.spawned_with = True, None
        page.prepared = False
        if page.process.watch is None or page.process.watch.run is None:
            page.changed = False

    def _check_telling(
        self, action: SendSignal | RunStopCommand, actions: tuple[Action, ...], after: Fleet, now: float
    ) -> None:
        name = action.name
        group = self.world.groups.get((name, action.run))
        assert group is not None, "a signal to a run that has no child"
        assert group.phase is not NONE, "a signal to a group that is known to be gone"
        if isinstance(action, SendSignal) and action.signal == CHANGE_SIGNAL:
            assert any(isinstance(other, Announce) and other.name == name for other in actions), "sent without a word"
            return
        page = self.pages[name]
        assert not page.free, "a signal to what lives on"
        ending = page.ends_as.stop
        number = STOP_COMMAND if isinstance(action, RunStopCommand) else action.signal
        if isinstance(action, SendSignal):
            assert action.pid == group.pid, "a signal to somebody else"
        if not group.told and not (number == SIGKILL and self.insisted > 1):
            command = ending.command is not None and group.phase is ALIVE
            assert number == (STOP_COMMAND if command else ending.signal), "not asked to end as it wants to be"
            if isinstance(action, SendSignal):
                assert action.only_main is (ending.only_main and group.phase is ALIVE), "not to whom it should go"
            there = (other for other in self.dependants[name] if other in after.members)
            first = [other for other in there if _ends_and_can_be_reached(after.members[other])]
            assert not first, f"told to end before {first}"
            page.spawned_with, page.kill_at = page.ends_as, now + ending.timeout
            return
        assert isinstance(action, SendSignal)
        assert not action.only_main, "a second signal that is not for all"
        asked_by_command = bool(group.told) and group.told[0][0] == STOP_COMMAND
        if asked_by_command and len(group.told) == 1 and group.phase is LINGERING and number == ending.signal:
            # The child has done as the command asked; now its leftovers are told.
            return
        assert number == SIGKILL, "a second signal that is not the escalation"
        if group.told:
            assert len(group.told) == 1 + (asked_by_command and group.told[-1][0] != STOP_COMMAND), "a third signal"
            assert self.insisted > 1 or now >= page.kill_at, "killed before its time"

    def _check_change(self, name: str, old: ProcessState, new: ProcessState, actions: tuple[Action, ...]) -> None:
        check_life(new)
        self.situations.add((new.state, new.phase))
        page = self.pages[name]
        assert new.run == old.run + (new.phase is SPAWNING and old.run != new.run), "the runs are not counted"
        assert new.restarts >= old.restarts, "the restarts went back"
        assert new.retries == page.retries, "the retries are not counted"
        if new.phase is ALIVE and new.state is not STOPPING:
            health = page.process.health
            if health is None:
                expected = RUNNING
            elif not page.passed:
                expected = STARTING
            else:
                expected = UNHEALTHY if page.failures >= health.retries else HEALTHY
            assert new.state is expected, "not what the checks say"
        self._check_hooks(name, old, new, actions)

    def _check_hooks(self, name: str, old: ProcessState, new: ProcessState, actions: tuple[Action, ...]) -> None:
        page, expected = self.pages[name], ""
        if new.state is not old.state:
            if new.state is RESTARTING:
                expected = "once more"
            elif new.state is FAILED:
                expected = "failed"
            elif new.state in (RUNNING, HEALTHY):
                expected = "" if page.ready or page.process.oneshot else "is up"
                page.ready = True
            elif new.state is COMPLETED and page.process.oneshot:
                expected = "is up"
        if page.process.hooks is None:
            expected = ""
        run = [action.command for action in actions if isinstance(action, StartHook) and action.name == name]
        assert run == ([expected] if expected else []), "not the hook of this moment"

    def _check_members(self, after: Fleet) -> None:
        world, members = self.world, after.members
        leaving = [name for name, page in self.pages.items() if page.leaving]
        assert after.leaving == set(leaving), "not those that are leaving"
        planned = [process.name for process in self.plan]
        assert list(members)[: len(planned)] == planned, "not the order of the plan"
        assert set(members) == {*planned, *leaving}, "not those of the plan"
        launching = {launch.name: launch.run for launch in world.spawning}
        assert len(launching) <= LAUNCHES_AT_ONCE, "too many launches at once"
        for name, process_state in members.items():
            page, state = self.pages[name], process_state.state
            assert process_state.process == page.process, "not what the plan says"
            if name in launching:
                assert (process_state.run, process_state.phase) == (launching[name], SPAWNING), "a launch was forgotten"
            elif name in world.living:
                run, group = world.living[name]
                assert (process_state.run, process_state.pid, process_state.phase) == (run, group.pid, group.phase), (
                    "not the run that lives"
                )
                if state is STOPPING:
                    self._check_stopping(name, process_state, members)
                else:
                    assert not group.told, "told to end, and not stopping"
            else:
                assert process_state.phase is NONE, "waits for what is known to be gone"
            assert page.allowed or not process_state.wanted, "wanted without a request"
            if state is PENDING:
                self._check_pending(process_state, members, len(launching))
            elif state is SKIPPED and not after.shutting_down:
                assert page.stopped_by_user or _lost_causes(process_state, members), "skipped, and not in vain"
        if after.shutting_down:
            assert after.finished == all(
                process_state.phase is NONE or process_state.out_of_reach for process_state in members.values()
            )
        else:
            asked = [members[name] for name, page in self.pages.items() if page.ever_asked]
            ended = all(
                process_state.state in FINAL_STATES and process_state.process.watch is None for process_state in asked
            )
            assert after.finished == (ended and not self.removed), "finished, or not?"
        if after.finished:
            self._check_finished(after)

    def _check_stopping(self, name: str, process_state: ProcessState, members: Mapping[str, ProcessState]) -> None:
        told = self.world.living[name][1].told
        first = [other for other in self.dependants[name] if _ends_and_can_be_reached(members[other])]
        assert told or first, "stopping, and nobody told the child"
        if not told and process_state.asked_to_end:
            assert sorted(process_state.reason.removeprefix("stops after ").split(", ")) == sorted(first), (
                "waits for others"
            )
        assert not told or not process_state.reason.startswith("stops after"), "told already, and said to wait"

    def _check_pending(self, process_state: ProcessState, members: Mapping[str, ProcessState], launching: int) -> None:
        missing = []
        if self.pages[process_state.process.name].rereading:
            assert process_state.reason.startswith(("waiting ", "about to start")), "does not say that it waits"
            return
        for edge in process_state.process.depends_on:
            other = members[edge.name]
            if not (self.pages[process_state.process.name].established or _is_up(other, edge.condition)):
                assert self.pages[process_state.process.name].ran or other.state not in FINAL_STATES, (
                    "waits for a lost cause"
                )
                if other.state not in FINAL_STATES:
                    missing.append(edge.name + (f", which is {other.reason}" if other.state is STOPPED else ""))
        if missing:
            assert process_state.reason == f"waiting for {', '.join(missing)}", "does not wait for what it says"
        else:
            assert launching == LAUNCHES_AT_ONCE, "pending, and waits for nothing"
            assert process_state.reason == "about to start", "does not wait for what it says"

    def _check_skipped(self, process_state: ProcessState, members: Mapping[str, ProcessState]) -> None:
        assert not self.pages[process_state.process.name].ran, "skipped, and ran before"
        causes = _lost_causes(process_state, members)
        assert causes, "skipped without a cause"
        assert process_state.reason in causes, "skipped, and names another cause"

    def _check_finished(self, after: Fleet) -> None:
        assert not self.world.spawning, "finished during a launch"
        assert not self.world.checks, "finished during a check"
        for name in self.world.living:
            assert after.members[name].out_of_reach, "finished, and something still lives"
            assert after.exit_code != 0, "something was left behind, and the exit code says that all is well"
        if not after.shutting_down:
            assert after.exit_code == self.first_failure, "not the exit code of the first failure"


def check_life(process_state: ProcessState) -> None:
    """Hold one process to what its words mean."""
    state, phase = process_state.state, process_state.phase
    reasons = SITUATIONS.get((state, phase))
    assert reasons is not None, f"no such situation: {state}, {phase}"
    assert process_state.reason.startswith(reasons), f"{state}, and the reason is `{process_state.reason}`"
    assert (process_state.pid is not None) == (phase in WITH_PID), "a pid without a child, or none with one"
    if state is not STOPPING:
        assert process_state.wanted == (state in WANTED), "not what is wanted"
    if state is RESTARTING:
        assert process_state.due is not None, "restarting, and waits for nothing"
    elif state is STOPPING and process_state.stop_sent:
        assert (process_state.due is None) == process_state.out_of_reach, (
            "stopping, and nothing will ever be done about it"
        )
    else:
        assert process_state.due is None, "a deadline for nothing"
    if process_state.out_of_reach:
        assert state is STOPPING, "out of reach, and no more talk of stopping"
        assert process_state.killed, "out of reach without having been killed"
    assert (process_state.health is not None) == (
        phase is ALIVE and state is not STOPPING and bool(process_state.process.health)
    )
    if state in (COMPLETED, FAILED):
        assert process_state.end is state, "an end without a verdict"
        assert "still there" not in process_state.reason
        assert "left running" not in process_state.reason


def _lives(process_state: ProcessState) -> bool:
    return process_state.phase is ALIVE and process_state.state is not STOPPING


def _is_up(process_state: ProcessState, condition: Condition) -> bool:
    return process_state.state in UP[condition] and process_state.phase is not SPAWNING


def _had_come_up(process_state: ProcessState, condition: Condition) -> bool:
    return _is_up(process_state, condition) or (condition is Condition.HEALTHY and process_state.state is UNHEALTHY)


def _begins_anew(process_state: ProcessState) -> bool:
    return process_state.state in (PENDING, SKIPPED) or (
        process_state.state is STOPPING and process_state.wanted and process_state.asked_to_end
    )


def _lost_causes(process_state: ProcessState, members: Mapping[str, ProcessState]) -> list[str]:
    return [
        f"{edge.name} {with_reason(members[edge.name].state, members[edge.name].reason)}"
        for edge in process_state.process.depends_on
        if members[edge.name].state in FINAL_STATES and not _is_up(members[edge.name], edge.condition)
    ]


def _ends_and_can_be_reached(process_state: ProcessState) -> bool:
    return process_state.state is STOPPING and not process_state.out_of_reach
