"""The supervisor: one inbox, one loop, and the only writer of the state.

Rules: takes events from the inbox, applies the rules, publishes what changed, and has the actions carried out. It
decides nothing itself. Only this module holds the fleet, the `TaskGroup` of all tasks, and the monotonic clock of the
rules.

Theory of operation. The next deadline is derived from the fleet before every wait, so no timer can be stale. Notices
are derived too, by comparing each process before and after a step (`notices`). While a limit runs, each wait is short,
so that the supervisor notices time in which it did not run (`pauses`); it reports that time to the rules before all
other events. A new plan starts a new watcher of files. However the loop ends, `finally` kills every remaining group,
except those that may outlive the app, and waits for their ends. Hooks and stop commands that still run at the end get
`LAST_COMMANDS` seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, assert_never

from procreaper.core import fleet as rules
from procreaper.core import notices as telling
from procreaper.core import pauses
from procreaper.core.events import (
    Action,
    Announce,
    CancelCheck,
    CancelPreparation,
    CheckFinished,
    ChildExited,
    Event,
    Exit,
    FilesChanged,
    GroupEnded,
    Message,
    Notice,
    ReadSettings,
    Release,
    Reload,
    Removed,
    Restart,
    RunBegan,
    RunPreparation,
    RunStopCommand,
    SendSignal,
    SettingsRead,
    Shutdown,
    SignalSent,
    Spawn,
    SpawnFailed,
    Start,
    StartCheck,
    StartHook,
    Stop,
    Tick,
    TimeLost,
)
from procreaper.core.lifecycle import OUT_OF_REACH_AFTER
from procreaper.core.plan import Plan, Process, Watch
from procreaper.core.state import Phase, ProcessState
from procreaper.runtime.attachments import Attachments
from procreaper.runtime.child.child import BIG_READ
from procreaper.runtime.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procreaper.core.status import Status
    from procreaper.runtime.child.console import Attachment
    from procreaper.runtime.child.protocols import DescendantTracker
    from procreaper.runtime.side_tasks import SideTasks

Result = TypeVar("Result")

# The time in seconds for hooks and stop commands after everything else has ended.
LAST_COMMANDS = 5.0


class Supervisor:
    """Runs a plan. `publish` takes every notice; if it returns False, output pauses until `resume`.

    With `stays`, it goes on until a `Shutdown`, even after every process has ended. A child may have `largest_read`
    bytes of output in memory. `logs` are the files that we write; their changes restart nothing. `tracker` knows the
    processes that have left the group of a run. `window` returns the size of the terminal of a child. `on_plan` is
    called with every new plan. `root` is the directory of the app, by which it finds its detached processes again. With
    `idle_input`, the standard input of the children stays open and never delivers anything. With `explains`, it reports
    the process whose end ends the app. If a file changes that settings come from (`is_project_file`), a process that
    watches it has its settings read again before its next run: `read_settings` posts a `SettingsRead`, whatever
    happens.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        publish: Callable[[Notice], bool],
        stays: bool = False,
        largest_read: int = BIG_READ,
        logs: Collection[str] = (),
        tracker: DescendantTracker | None = None,
        window: Callable[[], os.terminal_size] = lambda: os.terminal_size((80, 24)),
        on_plan: Callable[[Plan], None] = lambda _: None,
        root: str = ".",
        idle_input: bool = False,
        explains: bool = True,
        is_project_file: Callable[[str], bool] = lambda _: False,
        read_settings: Callable[[str], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._plan = plan
        self._fleet = rules.begin(plan)
        self._publish = publish
        self._stays = stays
        self._logs = logs
        self._on_plan = on_plan
        self._explains = explains
        self._is_project_file = is_project_file
        self._read_settings = read_settings
        # Held from the reading of the files until the new plan, or the new settings of one process, are posted.
        self.planning = asyncio.Lock()
        self._inbox: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._error: Exception | None = None
        self._children = Runs(
            post=self.post,
            say=self.say,
            listening=self._listening,
            has_room=lambda process: self._room or self._is_quiet(process),
            largest_read=largest_read,
            tracker=tracker,
            window=window,
            root=root,
            idle_input=idle_input,
        )
        self._started: dict[str, float] = {}
        # The exits of children whose runs have not been reported as over yet.
        self._ends: dict[str, Exit] = {}
        # The run of each process at the last request to stop or restart it.
        self._asked_in: dict[str, int] = {}
        self._watching: asyncio.Task[None] | None = None
        self._watches: dict[str, Watch] = {}
        self._tracker = tracker
        self._chores: SideTasks | None = None
        self._commands_until: float | None = None
        # The end of the last wait; None before the first one.
        self._awake_since: float | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._companions: set[asyncio.Task[Any]] = set()
        self._attendance = Attachments(self.post)
        self._room = True
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self.post(Start(tuple(self._fleet.members) if plan.names is None else plan.names))

    def post(self, event: Event) -> None:
        """Put a fact or a request into the inbox. Call it in the thread of the loop."""
        self._inbox.append(event)
        self._arrived.set()

    def resume(self) -> None:
        """Read output again, because there is room for it."""
        self._room = True
        self._children.resume()

    def resize(self) -> None:
        """Pass on the new size of the window."""
        self._children.resize()

    def attach(
        self, name: str, show: Callable[[bytes], None], size: os.terminal_size, ended: Callable[[str], None]
    ) -> Attachment | None:
        """Attach a client to the terminal of this process. `show` gets all output from now on.

        Return None if it has no terminal at this moment. `ended(reason)` is called when the run is over.
        """
        console = self._children.console(name)
        if console is None or console.ended or self._fleet.members[name].pid is None:
            return None
        return self._attendance.attach(name, console, show, size, ended)

    def detach(self, name: str, attachment: Attachment) -> None:
        """Detach a client. Nothing happens if the run was over before."""
        self._attendance.detach(name, attachment)

    def say(self, text: str) -> None:
        """Publish a message."""
        self._publish(Message(time.time(), text))

    def status(self) -> tuple[Status, ...]:
        """Return the status of every process at this moment."""
        return tuple(self._status(process_state) for process_state in self._fleet.members.values())

    def snapshot(self) -> tuple[tuple[Process, Status], ...]:
        """Return every process with its status, all of the same moment. Safe in any thread."""
        return tuple(
            (process_state.process, self._status(process_state)) for process_state in self._fleet.members.values()
        )

    def status_of(self, name: str) -> Status:
        """Return the status of one process. Raises KeyError for an unknown name."""
        return self._status(self._fleet.members[name])

    def process(self, name: str) -> Process:
        """Return the settings of one process. Raises KeyError for an unknown name."""
        return self._fleet.members[name].process

    @property
    def processes(self) -> tuple[Process, ...]:
        """All processes, in the order in which they start."""
        return tuple(process_state.process for process_state in self._fleet.members.values())

    @property
    def is_ending(self) -> bool:
        """Whether the app is about to end: it shuts down, or no process is left that could go on."""
        return self._fleet.shutting_down or (self._fleet.finished and not self._stays)

    @property
    def shutting_down(self) -> bool:
        """Whether the app shuts down; from then on no process starts any more."""
        return self._ended or self._fleet.shutting_down

    def accompany(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result] | None:
        """Run this in a task that is cancelled at the end of the supervision. Return None if that has ended.

        An error in it would end the app.
        """
        if self._tasks is None or self._ended:
            work.close()
            return None
        try:
            task = self._tasks.create_task(work)
        except RuntimeError:
            # An error of ours ends the app, and then the group takes no more tasks.
            work.close()
            return None
        self._companions.add(task)
        task.add_done_callback(self._companions.discard)
        return task

    @property
    def plan(self) -> Plan:
        """The present plan. Processes that it has removed may still be there."""
        return self._plan

    def run_when_asked(self, name: str) -> int:
        """Return the run of a process at the last request to stop or restart it.

        Raises KeyError for an unknown name.
        """
        return self._asked_in.get(name, self._fleet.members[name].run)

    def awaits_settings(self, name: str) -> bool:
        """Return whether the settings of a process are read again before its next run; False for an unknown name."""
        process_state = self._fleet.members.get(name)
        return process_state is not None and (process_state.outdated or process_state.rereading)

    def rests(self, name: str) -> bool:
        """Whether this process is not wanted, yet or any more. Raises KeyError if there is no such process."""
        process_state = self._fleet.members[name]
        return process_state.stopped_by_user or not process_state.asked

    @property
    def end(self) -> telling.AppEnd | None:
        """Why the app ends, or has ended; None while it goes on."""
        return telling.app_end(self._fleet)

    def blame(self, name: str) -> str:
        """Return the dependency because of which this process was not started; else the process itself.

        Raises KeyError for an unknown name.
        """
        from procreaper.core.dependencies import root_cause

        return root_cause(self._fleet.members, name)

    async def settled(self) -> None:
        """Wait until all events that were posted so far have been handled."""
        while self._inbox and not self._ended:
            await asyncio.sleep(0)

    async def run(self) -> int:
        """Start the processes of the plan, supervise them until the app has ended, and return its exit code."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._follow_files(tasks)
            try:
                while self._inbox or not self._over():
                    await self._wait()
                    if self._error is not None:
                        raise self._error
                    while self._inbox:
                        self._step(self._inbox.popleft(), tasks)
            finally:
                if self._chores is not None:
                    self._chores.cancel()
                for task in self._companions:
                    task.cancel()
                if self._watching is not None:
                    self._watching.cancel()
                if not self._fleet.finished:
                    await self._kill_everything()
                self._children.finish()
                self._ended = True
        return self._fleet.exit_code

    def _over(self) -> bool:
        if not self._fleet.finished or (self._stays and not self._fleet.shutting_down):
            return False
        if self._chores is None or not self._chores.under_way:
            return True
        if self._commands_until is None:
            self._commands_until = self._loop.time() + LAST_COMMANDS
        return self._loop.time() >= self._commands_until

    async def _wait(self) -> None:
        began = self._loop.time()
        if self._awake_since is not None:
            self._count_pause(self._awake_since, began)
        times = [time for time in (rules.deadline(self._fleet), self._commands_until) if time is not None]
        due = min(times, default=None)
        pulse = began + pauses.STRIDE
        timer = None
        if (due is None or due > pulse) and (self._commands_until is not None or rules.is_timed(self._fleet)):
            timer = self._loop.call_at(pulse, self._arrived.set)
        elif due is not None:
            timer = self._loop.call_at(due, self.post, Tick())
        try:
            await self._arrived.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._arrived.clear()
        self._awake_since = self._loop.time()
        if timer is not None:
            self._count_pause(max(began, timer.when()), self._awake_since)

    def _count_pause(self, expected: float, now: float) -> None:
        """Report the time that the loop has lost, if it goes on much later than expected; no limit counts it."""
        seconds = pauses.lost(expected, now)
        if not seconds:
            return
        # It comes before all events, so that those of the pause do not meet a limit that has passed.
        self._inbox.appendleft(TimeLost(seconds))
        self._arrived.set()
        if self._commands_until is not None:
            self._commands_until += seconds

    def _step(self, event: Event, tasks: asyncio.TaskGroup) -> None:
        before = self._fleet.members
        now = self._loop.time()
        if isinstance(event, Shutdown) and event.insistent and self._commands_until is not None:
            # Only hooks and stop commands are left, and the user does not want to wait for them.
            self._commands_until = now
        if isinstance(event, Stop | Restart):
            self._asked_in.update((name, before[name].run) for name in event.names if name in before)
        elif isinstance(event, Reload):
            self._take(event.plan)
        was_shutting_down = self._fleet.shutting_down
        self._fleet, actions = rules.step(self._fleet, event, now)
        after = self._fleet.members
        changed = [name for name, process_state in after.items() if process_state is not before.get(name)]
        gone = [] if after is before else [*(before.keys() - after.keys())]
        # The cause comes before its consequences.
        for name in sorted((*changed, *gone), key=lambda name: name != getattr(event, "name", None)):
            if isinstance(event, ChildExited | GroupEnded | SpawnFailed) and event.name == name:
                self._tell_end(before[name], event)
            if name in after:
                self._tell_difference(before.get(name) or ProcessState(after[name].process), after[name])
        if self._explains and not was_shutting_down and (said := telling.culprit(self._fleet)):
            self.say(said)
        for action in actions:
            self._perform(action, tasks)
        for name in gone:
            self._forget(name)
        if isinstance(event, SettingsRead):
            self._take_settings(event, before)
        if isinstance(event, Reload | SettingsRead):
            self._follow_files(tasks)

    def _tell_end(self, process_state: ProcessState, event: ChildExited | GroupEnded | SpawnFailed) -> None:
        notice = telling.end(process_state, event, self._ends, time.time())
        if notice is not None:
            self._publish(notice)
            self._attendance.end(event.name, notice.reason)

    def _tell_difference(self, before: ProcessState, after: ProcessState) -> None:
        name = after.process.name
        now = time.time()
        if after.pid is not None and before.pid is None:
            since = self._children.current(name).began_at
            self._started[name] = now if since is None else since
            self._publish(RunBegan(now, name, after.pid, after.process.pty, since))
        if after.out_of_reach and not before.out_of_reach:
            self.say(f"{name} is {after.reason}")
        if (notice := telling.transition(before, after, now)) is not None:
            self._publish(notice)

    def _perform(self, action: Action, tasks: asyncio.TaskGroup) -> None:
        match action:
            case Spawn(name=name, run=run):
                child = self._children.add(self._fleet.members[name].process, run)
                tasks.create_task(child.spawn(), name=f"spawn {name}")
            case SendSignal(name=name, pid=pid, signal=number):
                # Members of a group whose child has already been reported as ended.
                leftovers = self._fleet.members[name].phase is Phase.LINGERING and name not in self._ends
                self._publish(SignalSent(time.time(), name, pid, number, leftovers))
                self._children.current(name).signal(
                    number, only_main=action.only_main, only_handlers=action.only_handlers
                )
            case StartCheck(name=name, run=run):
                self._beside(tasks).check(self._fleet.members[name], run)
            case CancelCheck(name=name):
                self._beside(tasks).cancel_check(name)
                # The next check may be about the same run.
                checked = [fact for fact in self._inbox if isinstance(fact, CheckFinished) and fact.name == name]
                for fact in checked:
                    self._inbox.remove(fact)
            case Release(name=name):
                self._children.release(name)
            case RunStopCommand(name=name, run=run):
                process_state = self._fleet.members[name]
                # The command belongs to the settings with which the run began.
                process = process_state.spawned_with or process_state.process
                if process.stop.command is not None:
                    self._beside(tasks).stop(process, run, process.stop.command)
            case RunPreparation(name=name, command=command):
                self._beside(tasks).prepare(self._fleet.members[name].process, command)
            case CancelPreparation(name=name):
                self._beside(tasks).cancel_preparation(name)
            case ReadSettings(name=name):
                if self._read_settings is None or self.accompany(self._read_settings(name)) is None:
                    self.post(SettingsRead(name, None))
            case Announce(name=name, text=text):
                self.say(f"{name}: {text}")
            case StartHook(name=name, command=command, exit_code=code, retries=retries):
                variables = {"REAPER_NAME": name, "REAPER_RETRIES": str(retries)}
                if code is not None:
                    variables["REAPER_EXIT_CODE"] = str(code)
                self._beside(tasks).run("hook", self._fleet.members[name].process, command, variables)
            case _:
                assert_never(action)

    def _beside(self, tasks: asyncio.TaskGroup) -> SideTasks:
        if self._chores is None:
            # Imported here, because most processes have neither checks nor hooks.
            from procreaper.runtime.side_tasks import SideTasks

            self._chores = SideTasks(
                tasks,
                post=self.post,
                publish=self._publish,
                tell=self._tell,
                say=self.say,
                is_held=lambda name: self._children.current(name).held,
                ended=self._arrived.set,
                tracker=self._tracker,
            )
        return self._chores

    def _is_quiet(self, process: Process) -> bool:
        """Whether its output needs no room in any sink, so that it can always be read."""
        process_state = self._fleet.members.get(process.name)
        process = process if process_state is None else process_state.process
        return process.quiet and process.log is None

    def _tell(self, notice: Notice) -> bool:
        """Publish a notice of a child, in a callback of the loop, where an error of ours would not end anything."""
        try:
            room = self._publish(notice)
        except Exception as error:
            self._error = error
            self._arrived.set()
            return False
        self._room = self._room and room
        return room

    def _status(self, process_state: ProcessState) -> Status:
        # Imported here, because a plain start never asks for it.
        from procreaper.core.status import status_of

        return status_of(process_state, self._started.get(process_state.process.name))

    # A new plan.

    def _take(self, plan: Plan) -> None:
        if self._fleet.shutting_down:
            return
        for process in plan.processes:
            process_state = self._fleet.members.get(process.name)
            if process_state is not None and (process_state.process != process or process.name in self._fleet.leaving):
                self._asked_in[process.name] = process_state.run
        for name in self._fleet.members.keys() - {process.name for process in plan.processes}:
            self._asked_in[name] = self._fleet.members[name].run
        self._plan = plan
        self._on_plan(plan)

    def _take_settings(self, event: SettingsRead, before: Mapping[str, ProcessState]) -> None:
        process_state = self._fleet.members.get(event.name)
        if process_state is None or process_state.process is before[event.name].process:
            return
        processes = (process_state.process if other.name == event.name else other for other in self._plan.processes)
        self._plan = self._plan._replace(processes=tuple(processes))
        self._on_plan(self._plan)

    def _see_files(self, event: Event) -> None:
        """Post changed files, and name the processes whose settings come from one of them."""
        if isinstance(event, FilesChanged):
            roots = {name: self._watches[name].root for name in event.changes if name in self._watches}
            outdated = frozenset(
                name
                for name, root in roots.items()
                if any(self._is_project_file(os.path.join(root, path)) for path in event.changes[name])
            )
            event = event._replace(outdated=outdated)
        self.post(event)

    def _forget(self, name: str) -> None:
        """Forget a removed process of which nothing is left. Its last output may still come."""
        self._publish(Removed(time.time(), name))
        self._started.pop(name, None)
        self._ends.pop(name, None)
        self._asked_in.pop(name, None)
        if self._chores is not None:
            self._chores.forget(name)
        self._children.forget(name)

    def _follow_files(self, tasks: asyncio.TaskGroup) -> None:
        """Watch the files of the present plan. A new watcher begins before the old one ends, so no change is missed."""
        watches = {process.name: process.watch for process in self._plan.processes if process.watch is not None}
        if watches == self._watches:
            return
        old, self._watches = self._watching, watches
        self._watching = tasks.create_task(self._watch(watches), name="watch") if watches else None
        if old is not None:
            old.cancel()

    async def _watch(self, watches: Mapping[str, Watch]) -> None:
        # Imported here, because it imports watchfiles.
        from procreaper.runtime.watch.watcher import watch_files

        await watch_files(watches, post=self._see_files, say=self.say, logs=self._logs)

    def _listening(self, process: Process, run: int) -> Callable[[Notice], bool]:
        """Return `publish` for one run; it also looks for the log line that shows its readiness."""
        if process.health is None or process.health.log is None:
            return self._tell
        from procreaper.runtime.health.log import watch_for_ready_line

        pattern = process.health.log.pattern
        return watch_for_ready_line(pattern, process.name, run, self.post, self.say, self._tell)

    def _may_live_on(self, name: str) -> bool:
        """Whether the run of a process may survive the app: it is detached, and its end was not requested."""
        process_state = self._fleet.members.get(name)
        return (
            process_state is not None
            and (process_state.spawned_with or process_state.process).detached
            and not process_state.asked_to_end
        )

    async def _kill_everything(self) -> None:
        """Kill everything after an error of our own or a cancellation, whatever the rules say."""
        limit = self._loop.time() + OUT_OF_REACH_AFTER
        with suppress(TimeoutError):
            async with asyncio.timeout_at(limit):
                while left := self._children.left(self._may_live_on):
                    for child in left:
                        child.signal(signal.SIGKILL)
                    self._arrived.clear()
                    await self._arrived.wait()
