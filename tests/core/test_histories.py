"""Random histories of random apps in a simulated world, held at every step to what must always be true.

`plans` makes up the app, `world` what happens to it, `books` knows what must come of it. Ticks come early, late and in
time; old facts come again; the requests come from somebody who knows nothing. Each history is made of its number alone,
and a failure tells it: `play(number)` repeats it. The environment variable HISTORIES says how many there are: 20,000 of
them take about 100 s of processor time, so more are for a change of the rules.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from random import Random

import pytest
from support.model import ROUNDING, SITUATIONS, Books
from support.plans import NAMES, change_plan, random_plan
from support.simulated_os import SIGKILL, SIGTERM, STOP_COMMAND, World

from procreaper.core import file_changes as changes
from procreaper.core import fleet
from procreaper.core.events import (
    CheckFinished,
    ChildExited,
    Event,
    FilesChanged,
    Reload,
    Restart,
    Shutdown,
    SpawnFailed,
    Start,
    State,
    Stop,
    TerminalClosed,
    TerminalOpened,
    Tick,
    TimeLost,
)
from procreaper.core.file_changes import CALMS, MOST_RESTARTS
from procreaper.core.fleet import Fleet
from procreaper.core.lifecycle import OUT_OF_REACH_AFTER
from procreaper.core.plan import Plan, Process
from procreaper.core.state import ProcessState

HISTORIES = int(os.environ.get("HISTORIES", "20000"))
SHARES = 20
HISTORIES_PER_PLAN = 10
# Every so many histories each step is taken twice, to see that it comes out the same.
TWICE_EVERY = 16
# Every so many histories all goes well in the end, and everything must come to rest.
REST_EVERY = 4
# Every so many histories it takes little to be suspected of writing one's own files.
SUSPECT_EVERY = 3
EVENTS_TO_TELL = 40
TICK = Tick()
PAUSES = (1.1, 4.0, 70.0, 3600.0)
NAPS = (0.0, 0.001, 0.5, 1.0, 2.0, 3.0, 7.0, 50.0)
AT_REST = frozenset(State) - {State.STARTING, State.RESTARTING, State.STOPPING}


@lru_cache(maxsize=4)
def plan(number: int) -> tuple[Process, ...]:
    return random_plan(Random(number))


class History:
    """One app: its fleet, the world around it, and the books."""

    def __init__(self, number: int) -> None:
        self.number = number
        processes = plan(number // HISTORIES_PER_PLAN)
        self.random = Random(number)
        self.fleet: Fleet = fleet.begin(Plan(processes))
        self.processes = processes
        self.attached: set[str] = set()
        # How much of what happens is that the files are edited, or that somebody attaches to a process.
        self.visits = self.random.choice((0.0, 0.05, 0.25))
        self.world = World({process.name: process for process in processes}, self.random)
        self.books = Books(processes, self.world)
        self.now = 0.0
        # For how long nothing ran that counts the time.
        self.lost = 0.0
        self.events: list[tuple[float, Event]] = []

    def tell(self, event: Event | None, *, stale: bool = False) -> None:
        if event is None:
            return
        self.events.append((self.now, event))
        before, members = self.fleet, dict(self.fleet.members)
        if not stale:
            self.books.note(event, members, self.now, over=before.shutting_down)
        after, actions = fleet.step(before, event, self.now)
        assert before.members == members, "a step changed the state that it was given"
        if self.number % TWICE_EVERY == 0:
            assert fleet.step(before, event, self.now) == (after, actions), "the same step came out differently"
        self.fleet = after
        self.books.check(before, event, after, actions, self.now, stale=stale)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(process.name for process in self.processes)

    @property
    def watched(self) -> tuple[str, ...]:
        return tuple(self.books.watched)

    # Somebody who knows nothing, and time.

    def request(self) -> None:
        random = self.random
        one = random.choice(self.names or NAMES)
        names = random.choice(((one,), (one,), (one,), ("ghost", one), (one, random.choice(NAMES)), self.names))
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

    def reload(self) -> None:
        """Somebody has edited the files."""
        processes = change_plan(self.processes, self.random)
        names = tuple(process.name for process in processes if self.random.random() < 0.8)
        if not self.fleet.shutting_down:
            self.processes = processes
        self.tell(Reload(Plan(processes, None if self.random.random() < 0.7 else names)))

    def attach(self) -> None:
        """Somebody comes to a terminal, or leaves it; that may be told once more."""
        checked = [name for name, process_state in self.fleet.members.items() if process_state.health is not None]
        name = self.random.choice(checked if checked and self.random.random() < 0.8 else NAMES)
        if name in self.attached:
            self.attached.discard(name)
            self.tell(TerminalClosed(name))
        else:
            if name in self.fleet.members:
                self.attached.add(name)
            self.tell(TerminalOpened(name))

    def save(self) -> None:
        """Somebody saves a file that concerns some of them, or more than one."""
        random = self.random
        names = random.choice((self.watched, random.choices(self.watched, k=1), ("ghost", *self.watched)))
        paths = random.choice((("app.py",), ("app.py",), ("app.py", "b.py", "c.py")))
        outdated = frozenset(names if random.random() < 0.3 else ())
        self.tell(FilesChanged(dict.fromkeys(names, paths), outdated, more=random.random() < 0.1))

    def tick(self) -> None:
        """A tick in time, or at any time."""
        due = fleet.deadline(self.fleet)
        if due is not None and self.random.random() < 0.6:
            self.now = max(self.now, due)
        else:
            self.now += self.random.choice(NAPS)
        self.tell(TICK)

    def pause(self) -> None:
        """Everything stands still for a while, and all that was due then comes afterwards."""
        seconds = self.random.choice(PAUSES)
        self.now += seconds
        self.lost += seconds
        self.tell(TimeLost(seconds))

    def report_again(self) -> None:
        """What is not true any more, of a run that is over or that there never was, or once more."""
        random = self.random
        facts = [event for _, event in self.events[-8:] if hasattr(event, "run")] + self.world.stale[-4:]
        if not facts:
            return
        fact = random.choice(facts)
        if random.random() < 0.2:
            fact = fact._replace(run=random.choice((-1, 0, 100)))
        if not (isinstance(fact, CheckFinished) and self.world.checks.get(fact.name) == fact.run):
            self.tell(fact, stale=True)

    # The whole of it.

    def live(self) -> None:
        """Anything may happen, for a while."""
        random = self.random
        if random.random() < 0.9:
            self.tell(Start(self.names))
        for _ in range(random.randrange(4, 24)):
            kind = random.random()
            if kind < self.visits:
                random.choice((self.reload, self.reload, self.attach, self.attach, self.attach, self.pause))()
                continue
            kind = random.random()
            if kind < 0.55 and (moves := self.world.moves()):
                self.tell(random.choice(moves)())
            elif kind < 0.65 and self.world.living:
                self.tell(self.world.end_by_itself(random.choice(tuple(self.world.living))))
            elif kind < 0.7:
                self.report_again()
            elif kind < 0.82:
                if self.watched and kind < 0.77:
                    self.save()
                else:
                    self.request()
            else:
                self.tick()

    def rest(self) -> None:
        """All goes well from now on: then nothing may go on for ever, and nothing may wait for what never comes."""
        for name in NAMES:
            self.tell(TerminalClosed(name))
        for _ in range(400):
            world = self.world
            if world.checks:
                self.tell(world.finish_check(next(iter(world.checks))))
            elif moves := world.moves():
                self.tell(self.random.choice(moves)())
            elif all(map(is_at_rest, self.fleet.members.values())):
                self.books.check_rest(self.fleet.members)
                return
            else:
                due = fleet.deadline(self.fleet)
                assert due is not None, "nothing will ever happen, and not all is at rest"
                self.now = max(self.now, due)
                self.tell(TICK)
        raise AssertionError("it goes on and on")

    def end(self) -> None:
        """The app is asked to end; from now on the world does its part, and ticks come in time."""
        begun = self.now - self.lost
        self.shut_down()
        longest = max(map(self.longest, self.fleet.members), default=0.0)
        noise = self.random.randrange(4)
        for _ in range(500):
            if self.fleet.finished:
                break
            if noise and self.random.random() < 0.3:
                noise -= 1
                visits = (self.request, self.shut_down, self.report_again, self.reload, self.attach, self.pause)
                self.random.choice(visits)()
                if self.watched:
                    self.save()
            elif moves := self.world.moves():
                self.tell(self.random.choice(moves)())
            else:
                due = fleet.deadline(self.fleet)
                assert due is not None, "the shutdown hangs: nothing will ever happen"
                self.now = max(self.now, due)
                self.tell(TICK)
        else:
            raise AssertionError("the shutdown goes on and on")
        took = self.now - self.lost - begun
        if took > OUT_OF_REACH_AFTER:
            assert took <= longest + ROUNDING, "the shutdown took too long"
        while moves := self.world.moves():
            self.tell(self.random.choice(moves)())
        assert self.fleet.finished
        assert all(group.immortal for _, group in self.world.living.values()), "something was left alive"
        assert not self.world.checks, "a check was neither answered nor cancelled"
        assert not self.world.preparing, "a preparation goes on"
        if not self.world.living:
            assert self.fleet.exit_code == self.fleet.code

    def longest(self, name: str) -> float:
        """How long it may take until this one has ended, after all that depends on it."""
        own = self.fleet.members[name].stop.timeout + OUT_OF_REACH_AFTER
        return own + max((self.longest(other) for other in self.books.dependants[name]), default=0.0)


def is_at_rest(process_state: ProcessState) -> bool:
    waits = process_state.rereading or (process_state.change is not None and not process_state.preparing)
    return (process_state.state in AT_REST or process_state.out_of_reach) and not waits


def play(number: int) -> History:
    """Play one history to its end."""
    history = History(number)
    if number % SUSPECT_EVERY == 0:
        changes.MOST_RESTARTS, changes.CALMS = 0, CALMS[:1]
    try:
        history.live()
        if number % REST_EVERY == 0:
            history.rest()
        history.end()
    except Exception as error:
        app = "\n".join(f"  {process}" for process in plan(number // HISTORIES_PER_PLAN))
        told = "\n".join(f"  {now:10.3f}  {event}" for now, event in history.events[-EVENTS_TO_TELL:])
        raise AssertionError(f"play({number}): {error}\n{app}\n{told}") from error
    finally:
        changes.MOST_RESTARTS, changes.CALMS = MOST_RESTARTS, CALMS
    return history


def test_the_histories_go_everywhere() -> None:
    """They cannot find fault with what never happens in them."""
    histories = [play(number) for number in range(4000)]
    assert set().union(*(history.books.situations for history in histories)) == set(SITUATIONS)
    assert {history.books.ended_by for history in histories} == {Shutdown, ChildExited, SpawnFailed}
    groups = [group for history in histories for group in history.world.groups.values()]
    signals = {tuple(number for number, _ in group.told) for group in groups}
    assert signals >= {(), (SIGTERM,), (SIGTERM, SIGKILL), (SIGKILL,), (STOP_COMMAND,), (STOP_COMMAND, SIGKILL)}
    said = set().union(*(history.books.said for history in histories))
    assert said == {"", "restarting", "starting", "running", "too", "not"}
    changed_while = set().union(*(history.books.changed_while for history in histories))
    assert changed_while >= set(State) - {State.STOPPED, State.UNHEALTHY}
    assert any(history.world.living for history in histories), "nothing was ever out of reach"
    reloads = set().union(*(history.books.reloads for history in histories))
    assert reloads == {
        "added",
        "removed",
        "gone",
        "back",
        "restarted",
        "still",
        "in place",
        "checked otherwise",
        "same",
    }
    assert any(history.books.renewed for history in histories), "no settings were read again"
    assert any(history.world.free for history in histories), "nothing was ever let go"
    assert any(history.books.repeated for history in histories), "no check was made again after a pause"
    lives = [process_state for history in histories for process_state in history.fleet.members.values()]
    assert any("gave up" in process_state.reason for process_state in lives)
    assert max(process_state.restarts for process_state in lives) > 2


def played(share: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "core.test_histories", str(share)]
    tests = Path(__file__).parent.parent
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tests)


@pytest.fixture(scope="module")
def shares() -> Iterator[list[Future[subprocess.CompletedProcess[str]]]]:
    """All shares, played by as many processes at once as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield [pool.submit(played, share) for share in range(SHARES)]
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("share", range(SHARES))
def test_every_history_keeps_the_promises(share: int, shares: list[Future[subprocess.CompletedProcess[str]]]) -> None:
    result = shares[share].result()
    assert result.returncode == 0, result.stderr


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), HISTORIES, SHARES):
        play(number)
