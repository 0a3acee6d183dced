"""Random histories of an app on a simulated operating system, held at every step to what must always be true.

The operating system here spawns or fails to; its children obey, dawdle, are deaf to all but SIGKILL or to that as well,
die of themselves and leave grandchildren behind. It reports all that in the right order for each run, but at any time,
and old reports come again. Ticks come early, late and in time; the requests come from somebody who knows nothing.
A failure names the plan and the seed and tells the last events; `play(plan, seed)` repeats it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from procreaper import fleet
from procreaper.events import (
    Action,
    ChildExited,
    Event,
    Exit,
    GroupEnded,
    Restart,
    SendSignal,
    Shutdown,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    State,
    Stop,
    Tick,
)
from procreaper.fleet import LAUNCHES_AT_ONCE, Fleet
from procreaper.life import Lifecycle, Phase
from procreaper.lifecycle import OUT_OF_REACH_AFTER
from procreaper.plan import Backoff, Ending, Plan, Process, When
from procreaper.policy import NOT_RUNNABLE

HISTORIES_PER_PLAN = 3000
# Every so many histories each step is taken twice, to see that it comes out the same.
TWICE_EVERY = 8
EVENTS_TO_TELL = 40
SIGINT, SIGKILL, SIGTERM = 2, 9, 15
TICK = Tick()
BACKOFF = Backoff(2.0, 30.0, 45.0)
# How children end by themselves, by Python's numbers, and how long nothing happens.
RETURNCODES = (0, 0, 0, 1, 1, 2, 126, 127, 143, -11, -15)
NAPS = (0.0, 0.001, 0.5, 1.0, 2.0, 3.0, 7.0, 50.0)

PLANS = {
    "never": (Process("web", "run"),),
    "on-failure": (Process("web", "run", restart=When.ON_FAILURE, backoff=BACKOFF, stop_all=When.NEVER),),
    "always, but not for ever": (
        Process("web", "run", restart=When.ALWAYS, backoff=BACKOFF, max_retries=2, stop_all=When.ON_FAILURE),
        Process("db", "run", restart=When.ON_FAILURE, backoff=BACKOFF, max_retries=0, stop_all=When.NEVER),
    ),
    "each word": (
        Process("db", "run", restart=When.ALWAYS, backoff=BACKOFF),
        Process("web", "run", restart=When.ON_FAILURE, backoff=BACKOFF, stop_all=When.ON_FAILURE),
        Process("setup", "run", success_codes=frozenset({0, 143}), stop_all=When.ON_FAILURE),
    ),
    "library": (
        Process("one", "run", stop_all=When.NEVER),
        Process("two", "run", restart=When.ON_FAILURE, backoff=BACKOFF, stop_all=When.NEVER),
        Process("three", "run", restart=When.ALWAYS, backoff=BACKOFF, max_retries=3, stop_all=When.NEVER),
    ),
    "no patience": (
        Process("one", "run", restart=When.ALWAYS, backoff=Backoff(0.0, 0.0, 0.0), ending=Ending(SIGKILL, 0.0)),
        Process("two", "run", restart=When.ALWAYS, backoff=BACKOFF, stop_all=When.NEVER, ending=Ending(SIGINT, 0.0)),
    ),
    "more than start at once": tuple(
        Process(f"web.{number}", "run", restart=restart, backoff=BACKOFF, stop_all=When.NEVER, ending=Ending(15, 2.0))
        for number, restart in enumerate((*When, *When), start=1)
    ),
}

Report = Spawned | SpawnFailed | ChildExited | GroupEnded

SITUATIONS = {
    (State.PENDING, Phase.NONE),
    (State.STARTING, Phase.SPAWNING),
    (State.RUNNING, Phase.ALIVE),
    (State.STOPPING, Phase.SPAWNING),
    (State.STOPPING, Phase.ALIVE),
    (State.STOPPING, Phase.LINGERING),
    (State.RESTARTING, Phase.NONE),
    (State.STOPPED, Phase.NONE),
    (State.COMPLETED, Phase.NONE),
    (State.FAILED, Phase.NONE),
}
WANTED = frozenset({State.PENDING, State.STARTING, State.RUNNING, State.RESTARTING})


class Group:
    """The operating-system processes of one run: a child, perhaps a family of grandchildren, and their character."""

    __slots__ = ("child", "child_deaf", "doom", "facts", "family", "family_deaf", "immortal", "phase", "pid", "signals")

    def __init__(self, random: Random, pid: int) -> None:
        self.pid = pid
        self.child = True
        self.child_deaf = random.random() < 0.2
        self.family = random.random() < 0.35
        self.family_deaf = random.random() < 0.5
        self.immortal = random.random() < 0.04
        self.doom: int | None = None
        self.signals: list[tuple[int, float]] = []
        # What has happened and was not reported yet; and where the rules must think that this run is.
        self.facts: deque[ChildExited | GroupEnded] = deque()
        self.phase = Phase.ALIVE

    @property
    def obedient(self) -> tuple[bool, bool]:
        """Whether the child, and whether the family, is about to die of the signal that the group got."""
        if self.immortal or self.doom is None:
            return False, False
        kill = self.doom == SIGKILL
        return self.child and (kill or not self.child_deaf), self.family and (kill or not self.family_deaf)


class History:
    """One app: its fleet, the operating system under it, and the books that tell right from wrong."""

    def __init__(self, processes: tuple[Process, ...], seed: int) -> None:
        self.random = Random(seed)
        self.twice = seed % TWICE_EVERY == 0
        self.fleet: Fleet = fleet.begin(Plan(processes))
        self.names = tuple(process.name for process in processes)
        self.now = 0.0
        self.events: list[tuple[float, Event]] = []
        # The operating system: launches that were not answered yet, groups by run, and those not known to be gone.
        self.spawning: list[Spawn] = []
        self.groups: dict[tuple[str, int], Group] = {}
        self.living: dict[str, tuple[int, Group]] = {}
        self.reported: list[Report] = []
        self.situations: set[tuple[State, Phase]] = set()
        self.ended_by: type[Event] | None = None
        # The books: what may run, what somebody asked for since its last launch, and what happened to it when.
        self.allowed = dict.fromkeys(self.names, False)
        self.asked = dict.fromkeys(self.names, False)
        self.retries = dict.fromkeys(self.names, 0)
        self.spawned_at = dict.fromkeys(self.names, 0.0)
        self.gone_at = dict.fromkeys(self.names, 0.0)
        self.last_end: dict[str, ChildExited | SpawnFailed] = {}
        self.insisted = 0

    # One step of the rules.

    def tell(self, event: Event) -> tuple[Action, ...]:
        self.events.append((self.now, event))
        before, members = self.fleet, dict(self.fleet.members)
        after, actions = fleet.step(before, event, self.now)
        assert before.members == members, "a step changed the state that it was given"
        if self.twice:
            assert fleet.step(before, event, self.now) == (after, actions), "the same step came out differently"
        self.fleet = after
        self.keep_the_books(event)
        for action in actions:
            if isinstance(action, Spawn):
                self.check_spawn(action)
                self.spawning.append(action)
            else:
                self.check_signal(action)
                group = self.groups[action.name, action.run]
                group.signals.append((action.signal, self.now))
                group.doom = action.signal
        self.check_members(before, actions)
        self.check_app(before, event)
        if isinstance(event, Tick):
            due = fleet.deadline(after)
            assert due is None or due > self.now, "a tick left its deadline behind: a busy loop"
        return actions

    def keep_the_books(self, event: Event) -> None:
        match event:
            case Start(names=names) | Restart(names=names):
                if not self.fleet.shutting_down:
                    known = dict.fromkeys((name for name in names if name in self.allowed), True)
                    self.allowed |= known
                    self.asked |= known
            case Stop(names=names):
                self.allowed |= dict.fromkeys((name for name in names if name in self.allowed), False)
            case Shutdown(insistent=insistent):
                self.insisted += insistent
        if self.fleet.shutting_down:
            self.allowed = dict.fromkeys(self.names, False)

    # What must always be true.

    def check_spawn(self, action: Spawn) -> None:
        name = action.name
        assert name not in self.living, "a twin: the group of the last run is still there"
        assert all(other.name != name for other in self.spawning), "a twin: two launches at once"
        assert not self.fleet.shutting_down, "a launch while the app ends"
        assert self.allowed[name], "a launch after a stop"
        if self.asked[name]:
            self.asked[name] = False
            self.retries[name] = 0
            return
        process, end = self.fleet.members[name].process, self.last_end[name]
        assert process.restart is not When.NEVER, "a retry against the policy"
        assert self.now >= self.gone_at[name] + process.backoff.initial, "a retry without its wait"
        if isinstance(end, ChildExited):
            success = end.exit.status in process.success_codes
            assert process.restart.applies(success=success), "a retry against the policy"
            assert end.exit.code not in NOT_RUNNABLE, "a retry that cannot help"
        else:
            assert not end.permanent, "a retry that cannot help"
        self.retries[name] += 1
        assert process.max_retries is None or self.retries[name] <= process.max_retries, "a retry too many"

    def check_signal(self, action: SendSignal) -> None:
        group = self.groups.get((action.name, action.run))
        assert group is not None, "a signal to a run that has no child"
        assert group.phase is not Phase.NONE, "a signal to a group that is known to be gone"
        assert action.pid == group.pid, "a signal to somebody else"
        ending = self.fleet.members[action.name].process.ending
        if not group.signals:
            assert action.signal == ending.signal or self.insisted > 1, "killed without having been asked to end"
            return
        assert len(group.signals) == 1, "a third signal"
        first, sent_at = group.signals[0]
        assert (first, action.signal) == (ending.signal, SIGKILL), "a second signal that is not the escalation"
        assert self.insisted > 1 or self.now >= sent_at + ending.timeout, "killed before its time"

    def check_members(self, before: Fleet, actions: tuple[Action, ...]) -> None:
        launched = [action.name for action in actions if isinstance(action, Spawn)]
        launching = {launch.name: launch.run for launch in self.spawning}
        pending = False
        for name, life in self.fleet.members.items():
            old = before.members[name]
            if life is not old:
                check_life(life)
                self.situations.add((life.state, life.phase))
                assert life.run == old.run + launched.count(name), "the runs are not counted"
                assert life.restarts >= old.restarts, "the restarts went back"
            if name in launching:
                assert (life.run, life.phase) == (launching[name], Phase.SPAWNING), "a launch was forgotten"
            elif name in self.living:
                run, group = self.living[name]
                assert (life.run, life.pid, life.phase) == (run, group.pid, group.phase), "not the run that lives"
                assert group.signals or life.state is State.RUNNING, "stopping, and nobody told the child"
            else:
                assert life.phase is Phase.NONE, "waits for what is known to be gone"
            assert self.allowed[name] or not life.wanted, "wanted, and nobody wants it"
            pending = pending or life.state is State.PENDING
        assert len(launching) <= LAUNCHES_AT_ONCE, "too many launches at once"
        assert not pending or len(launching) == LAUNCHES_AT_ONCE, "pending, and waits for nothing"

    def check_app(self, before: Fleet, event: Event) -> None:
        after = self.fleet
        if before.shutting_down:
            assert after.shutting_down, "the shutdown was forgotten"
            assert after.code == before.code, "a later cause hid the first"
        elif after.shutting_down:
            self.ended_by = type(event)
            if isinstance(event, Shutdown):
                assert after.code == event.code, "not the exit code that was asked for"
            else:
                assert isinstance(event, ChildExited | SpawnFailed), "the app ends without a cause"
                process = after.members[event.name].process
                status = event.code if isinstance(event, SpawnFailed) else event.exit.status
                assert process.stop_all is not When.NEVER, "the app ends against stop_all"
                assert not before.members[event.name].asked_to_end, "a stop by hand ended the app"
                assert after.code == (0 if status in process.success_codes else status), "not the cause's exit code"
        for life in after.members.values():
            if after.shutting_down:
                assert not life.wanted, "wanted while the app ends"
            elif life.end is not None:
                success = life.end is State.COMPLETED
                assert not life.process.stop_all.applies(success=success), "stop_all was not obeyed"
        if after.finished:
            assert not self.spawning, "finished during a launch"
            for name in self.living:
                assert after.members[name].out_of_reach, "finished, and something still lives"
                assert after.exit_code != 0, "something was left behind, and the exit code says that all is well"

    # What the operating system does.

    def answer_launch(self) -> None:
        name, run = self.spawning.pop(self.random.randrange(len(self.spawning)))
        if self.random.random() < 0.12:
            permanent = self.random.random() < 0.5
            failed = SpawnFailed(name, run, "no such luck", 127 if permanent else 126, permanent)
            self.last_end[name], self.gone_at[name] = failed, self.now
            self.report(failed)
            return
        group = Group(self.random, pid=100 + len(self.groups))
        self.groups[name, run] = group
        self.living[name] = run, group
        self.spawned_at[name] = self.now
        self.report(Spawned(name, run, group.pid))

    def end_child(self, name: str, returncode: int) -> None:
        run, group = self.living[name]
        group.child = False
        group.facts.append(ChildExited(name, run, Exit.of(returncode), leftovers=group.family))

    def end_family(self, name: str) -> None:
        run, group = self.living[name]
        group.family = False
        if not group.child:
            group.facts.append(GroupEnded(name, run))

    def end_by_itself(self, name: str) -> None:
        """Something of the group ends of its own will; even what no signal can reach may come back some day."""
        _, group = self.living[name]
        if group.child and (not group.family or self.random.random() < 0.8):
            self.end_child(name, self.random.choice(RETURNCODES))
        elif group.family:
            self.end_family(name)

    def obey(self, name: str) -> None:
        _, group = self.living[name]
        child, family = group.obedient
        if child and not (family and self.random.random() < 0.7):
            self.end_child(name, -SIGKILL if group.doom == SIGKILL else self.random.choice((-SIGTERM, 143, 0, 1)))
        else:
            self.end_family(name)

    def deliver(self, name: str) -> None:
        _, group = self.living[name]
        fact = group.facts.popleft()
        if isinstance(fact, ChildExited):
            self.last_end[name] = fact
            if self.now - self.spawned_at[name] >= self.fleet.members[name].process.backoff.reset:
                self.retries[name] = 0
        if isinstance(fact, ChildExited) and fact.leftovers:
            group.phase = Phase.LINGERING
        else:
            group.phase = Phase.NONE
            self.gone_at[name] = self.now
            del self.living[name]
        self.report(fact)

    def report(self, fact: Report) -> None:
        self.reported.append(fact)
        self.tell(fact)

    def report_again(self) -> None:
        """An old fact comes once more, or one of a run that there never was."""
        if not self.reported:
            return
        fact = self.random.choice(self.reported)
        if self.random.random() < 0.2:
            fact = fact._replace(run=self.random.choice((-1, 0, 100)))
        before = self.fleet
        actions = self.tell(fact)
        assert (self.fleet, actions) == (before, ()), "a stale fact changed something"

    @property
    def moves(self) -> list[Callable[[], None]]:
        """What the operating system has to do: launches to answer, facts to report, signals to obey."""
        moves: list[Callable[[], None]] = [self.answer_launch] if self.spawning else []
        for name, (_, group) in self.living.items():
            if group.facts:
                moves.append(partial(self.deliver, name))
            if any(group.obedient):
                moves.append(partial(self.obey, name))
        return moves

    # Somebody who knows nothing, and time.

    def request(self) -> None:
        random = self.random
        one = random.choice(self.names)
        names = random.choice(((one,), (one,), (one,), ("ghost", one), self.names))
        kind = random.random()
        if kind < 0.35:
            self.tell(Start(names))
        elif kind < 0.65:
            self.tell(Restart(names))
        elif kind < 0.95:
            self.tell(Stop(names))
        else:
            self.shut_down()

    def shut_down(self) -> None:
        self.tell(Shutdown(self.random.choice((0, 130, 143)), insistent=self.random.random() < 0.7))

    def tick(self) -> None:
        """A tick in time, or at any time."""
        due = fleet.deadline(self.fleet)
        if due is not None and self.random.random() < 0.6:
            self.now = max(self.now, due)
        else:
            self.now += self.random.choice(NAPS)
        self.tell(TICK)

    # The whole of it.

    def live(self) -> None:
        """Anything may happen, for a while."""
        random = self.random
        if random.random() < 0.9:
            self.tell(Start(self.names))
        for _ in range(random.randrange(8, 32)):
            kind = random.random()
            if kind < 0.45 and (moves := self.moves):
                random.choice(moves)()
            elif kind < 0.55 and self.living:
                self.end_by_itself(random.choice(tuple(self.living)))
            elif kind < 0.62:
                self.report_again()
            elif kind < 0.8:
                self.request()
            else:
                self.tick()

    def end(self) -> None:
        """The app is asked to end; from now on the operating system does its part, and ticks come in time."""
        self.shut_down()
        begun = self.now
        noise = self.random.randrange(4)
        for _ in range(500):
            if self.fleet.finished:
                break
            if noise and self.random.random() < 0.3:
                noise -= 1
                self.random.choice((self.request, self.shut_down, self.report_again))()
            elif moves := self.moves:
                self.random.choice(moves)()
            else:
                due = fleet.deadline(self.fleet)
                assert due is not None, "the shutdown hangs: nothing will ever happen"
                self.now = max(self.now, due)
                self.tell(TICK)
        else:
            raise AssertionError("the shutdown goes on and on")
        longest = max(life.process.ending.timeout for life in self.fleet.members.values())
        assert self.now <= begun + longest + OUT_OF_REACH_AFTER, "the shutdown took too long"
        while moves := self.moves:
            self.random.choice(moves)()
        assert self.fleet.finished
        assert all(group.immortal for _, group in self.living.values()), "something was left alive"
        if not self.living:
            assert self.fleet.exit_code == self.fleet.code


def check_life(life: Lifecycle) -> None:
    """Hold one process to what its words mean."""
    state, phase = life.state, life.phase
    assert (state, phase) in SITUATIONS, "no such situation"
    assert (life.pid is not None) == (phase in (Phase.ALIVE, Phase.LINGERING)), (
        "a pid without a child, or none with one"
    )
    if state is not State.STOPPING:
        assert life.wanted == (state in WANTED), "not what is wanted"
    if state is State.RESTARTING:
        assert life.due is not None, "restarting, and waits for nothing"
    elif state is State.STOPPING and phase is not Phase.SPAWNING:
        assert (life.due is None) == life.out_of_reach, "stopping, and nothing will ever be done about it"
    else:
        assert life.due is None, "a deadline for nothing"
    if life.out_of_reach:
        assert state is State.STOPPING, "out of reach, and no more talk of stopping"
        assert life.killed, "out of reach without having been killed"
    if state in (State.COMPLETED, State.FAILED):
        assert life.end is state, "an end without a verdict"


def play(plan: str, seed: int) -> History:
    """Play one history to its end."""
    history = History(PLANS[plan], seed)
    try:
        history.live()
        history.end()
    except Exception as error:
        told = "\n".join(f"  {now:10.3f}  {event}" for now, event in history.events[-EVENTS_TO_TELL:])
        raise AssertionError(f"play({plan!r}, {seed}): {error}\n{told}") from error
    return history


def test_the_histories_go_everywhere() -> None:
    """They cannot find fault with what never happens in them."""
    histories = [play(plan, seed) for plan in PLANS for seed in range(200)]
    situations = set().union(*(history.situations for history in histories))
    assert situations == SITUATIONS
    assert {history.ended_by for history in histories} == {Shutdown, ChildExited, SpawnFailed}
    groups = [group for history in histories for group in history.groups.values()]
    signals = {tuple(signal for signal, _ in group.signals) for group in groups}
    assert signals >= {(), (SIGTERM,), (SIGTERM, SIGKILL), (SIGKILL,), (SIGINT, SIGKILL), (SIGKILL, SIGKILL)}
    assert any(history.living for history in histories), "nothing was ever out of reach"
    lives = [life for history in histories for life in history.fleet.members.values()]
    assert any("gave up" in life.reason for life in lives)
    assert max(life.restarts for life in lives) > 2


@pytest.mark.parametrize("plan", PLANS)
def test_every_history_keeps_the_promises(plan: str) -> None:
    for seed in range(HISTORIES_PER_PLAN):
        play(plan, seed)
