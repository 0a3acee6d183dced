"""A simulated operating system: it carries out what the rules decide, and reports what happens, at random.

It spawns or fails to. Its children obey, dawdle, are deaf to all but SIGKILL or to that as well, die of themselves and
leave grandchildren behind; their health checks succeed, fail, are skipped or hang, and what comes too late comes all
the same. Preparations succeed, fail, or never end. Everything is reported in the right order for each run, but at any
time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from procreaper.core.events import (
    Action,
    Announce,
    CancelCheck,
    CancelPreparation,
    CheckFinished,
    ChildExited,
    Event,
    Exit,
    GroupEnded,
    LogMatched,
    PreparationEnded,
    ReadSettings,
    Release,
    RunPreparation,
    RunStopCommand,
    SendSignal,
    SettingsRead,
    Spawn,
    Spawned,
    SpawnFailed,
    StartCheck,
    StartHook,
)
from procreaper.core.plan import Process
from procreaper.core.state import Phase
from support.plans import CHANGE_SIGNAL, WATCHES

# Stands for the stop command in the list of the signals that a group got.
STOP_COMMAND = 0
SIGKILL, SIGTERM = 9, 15
# How children end by themselves, and when they are told to, by Python's numbers.
RETURNCODES = (0, 0, 0, 1, 1, 2, 126, 127, 143, -11, -15)
OBEDIENT_RETURNCODES = (-SIGTERM, 143, 0, 1)

Move = Callable[[], Event | None]


class Group:
    """The operating-system processes of one run: a child, perhaps a family of grandchildren, and their character."""

    __slots__ = (
        "child",
        "child_deaf",
        "family",
        "family_deaf",
        "immortal",
        "news",
        "phase",
        "pid",
        "silent",
        "told",
        "told_child",
        "told_family",
    )

    def __init__(self, random: Random, pid: int) -> None:
        self.pid = pid
        self.child = True
        character = random.random()
        self.family = character < 0.35
        self.child_deaf = 0.3 < character < 0.5
        self.family_deaf = character < 0.18
        self.immortal = character > 0.96 or 0.34 < character < 0.36
        # The signals that it got and when; what the child and the family are about to die of, if they obey.
        self.told: list[tuple[int, float]] = []
        self.told_child = self.told_family = False
        # What has happened and was not reported yet; and where the rules must think that this run is.
        self.news: deque[ChildExited | GroupEnded] = deque()
        self.phase = Phase.ALIVE
        self.silent = False

    def tell(self, number: int, now: float, *, only_main: bool) -> None:
        self.told.append((number, now))
        if self.immortal:
            return
        if number == SIGKILL:
            self.told_child = self.told_family = True
        else:
            self.told_child = self.told_child or not self.child_deaf
            self.told_family = self.told_family or not (self.family_deaf or only_main)

    @property
    def obeys(self) -> bool:
        return (self.told_child and self.child) or (self.told_family and self.family)


class World:
    """What runs, what is under way, and what is known of it outside."""

    def __init__(self, processes: dict[str, Process], random: Random) -> None:
        self.processes = processes
        self.random = random
        # Launches that were not answered yet, groups by run, and those not known to be gone.
        self.spawning: list[Spawn] = []
        self.groups: dict[tuple[str, int], Group] = {}
        self.living: dict[str, tuple[int, Group]] = {}
        # Checks under way, and facts that nobody should care for any more.
        self.checks: dict[str, int] = {}
        self.stale: list[Event] = []
        # Preparations under way, and whether they will ever end by themselves.
        self.preparing: dict[str, bool] = {}
        # Those whose settings are being read again.
        self.rereading: list[str] = []
        # Those that live on, and are not ours any more.
        self.free: list[Group] = []

    def perform(self, action: Action, now: float) -> None:
        match action:
            case Spawn():
                self.spawning.append(action)
            case SendSignal(signal=number) if number == CHANGE_SIGNAL:
                pass
            case SendSignal(name=name, run=run, signal=number, only_main=only_main):
                self.groups[name, run].tell(number, now, only_main=only_main)
            case RunStopCommand(name=name, run=run):
                self.groups[name, run].tell(STOP_COMMAND, now, only_main=True)
            case StartCheck(name=name, run=run):
                self.checks[name] = run
            case CancelCheck(name=name, run=run):
                del self.checks[name]
                self.stale.append(CheckFinished(name, run, self.random.choice((None, "too late"))))
            case RunPreparation(name=name):
                self.preparing[name] = self.random.random() < 0.8
            case CancelPreparation(name=name):
                del self.preparing[name]
            case ReadSettings(name=name):
                self.rereading.append(name)
            case Release(name=name, run=run):
                group = self.groups[name, run]
                del self.living[name]
                group.phase = Phase.NONE
                self.free.append(group)
                self.stale += [ChildExited(name, run, Exit.of(0), leftovers=True), GroupEnded(name, run)]
            case StartHook() | Announce():
                pass

    def moves(self) -> list[Move]:
        """What can happen without anything dying of itself."""
        moves: list[Move] = [self.answer_launch] if self.spawning else []
        for name, (_, group) in self.living.items():
            if group.news:
                moves.append(partial(self.report, name))
            if group.obeys:
                moves.append(partial(self.obey, name))
            if not group.silent and group.child:
                moves.append(partial(self.print_line, name))
        if self.checks:
            moves.append(self.answer_check)
        if self.preparing and any(self.preparing.values()):
            moves.append(self.end_preparation)
        if self.rereading:
            moves.append(self.read_settings)
        return moves

    def answer_launch(self) -> Event:
        name, run = self.spawning.pop(self.random.randrange(len(self.spawning)))
        luck = self.random.random()
        if luck < 0.1:
            permanent = luck < 0.05
            return SpawnFailed(name, run, "no such luck", 127 if permanent else 126, permanent)
        group = Group(self.random, pid=100 + len(self.groups))
        health = self.processes[name].health
        group.silent = health is None or health.log is None
        self.groups[name, run] = group
        self.living[name] = run, group
        return Spawned(name, run, group.pid)

    def end_preparation(self) -> Event:
        name = next(name for name, ends in self.preparing.items() if ends)
        del self.preparing[name]
        return PreparationEnded(name, succeeded=self.random.random() < 0.7)

    def read_settings(self) -> Event:
        """The files may be unusable, or say the same, or something else."""
        name = self.rereading.pop(0)
        random, process = self.random, self.processes[name]
        if random.random() < 0.3:
            return SettingsRead(name, None)
        if random.random() < 0.7:
            edges = tuple(edge for edge in process.depends_on if random.random() < 0.7)
            process = process._replace(command=random.choice(("run", "run it")), depends_on=edges)
        if random.random() < 0.3:
            process = process._replace(watch=random.choice((*WATCHES, None)))
        return SettingsRead(name, process)

    def answer_check(self) -> Event:
        name = self.random.choice(tuple(self.checks))
        luck = self.random.random()
        return self.finish_check(name, None if luck < 0.5 else "refused", skipped=luck > 0.92)

    def finish_check(self, name: str, error: str | None = None, *, skipped: bool = False) -> Event:
        finished = CheckFinished(name, self.checks.pop(name), error, skipped)
        self.stale.append(finished)
        return finished

    def print_line(self, name: str) -> Event:
        run, group = self.living[name]
        group.silent = True
        matched = LogMatched(name, run)
        self.stale.append(matched)
        return matched

    def end_child(self, name: str, returncode: int) -> None:
        run, group = self.living[name]
        group.child = False
        group.news.append(ChildExited(name, run, Exit.of(returncode), leftovers=group.family))

    def end_family(self, name: str) -> None:
        run, group = self.living[name]
        group.family = False
        if not group.child:
            group.news.append(GroupEnded(name, run))

    def end_by_itself(self, name: str) -> Event | None:
        """Something of the group ends of its own will; even what no signal can reach may come back some day."""
        _, group = self.living[name]
        if group.child and (not group.family or self.random.random() < 0.8):
            self.end_child(name, self.random.choice(RETURNCODES))
        elif group.family:
            self.end_family(name)
        return self.report_perhaps(name)

    def obey(self, name: str) -> Event | None:
        """Some of those who were told to end do so, the family last as a rule."""
        _, group = self.living[name]
        if group.child and group.told_child:
            killed = group.told[-1][0] == SIGKILL
            self.end_child(name, -SIGKILL if killed else self.random.choice(OBEDIENT_RETURNCODES))
        else:
            self.end_family(name)
        return self.report_perhaps(name)

    def report_perhaps(self, name: str) -> Event | None:
        return self.report(name) if self.living[name][1].news and self.random.random() < 0.7 else None

    def report(self, name: str) -> Event:
        _, group = self.living[name]
        fact = group.news.popleft()
        if isinstance(fact, ChildExited) and fact.leftovers:
            group.phase = Phase.LINGERING
        else:
            group.phase = Phase.NONE
            del self.living[name]
        return fact
