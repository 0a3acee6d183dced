"""Changed files: how long they are waited for, how they are named, and when a process is left alone with them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from app import SIGKILL, App, process

from procreaper import fleet
from procreaper.changes import (
    CALMS,
    DELAY,
    MOST_RESTARTS,
    NEVER_QUIET,
    PATIENCE,
    SOON,
    WINDOW,
    Change,
    Pace,
    add,
    count,
    hold_back,
    resume,
)
from procreaper.events import (
    Action,
    Announce,
    PreparationEnded,
    Restart,
    RunPreparation,
    SendSignal,
    Spawn,
    Start,
    State,
)
from procreaper.plan import Process, Watch, When

DEBOUNCE = 0.05
WATCH = Watch("/srv", ("app",), debounce=DEBOUNCE)
# What may be needed to find out that a process is restarted for what it writes.
ENOUGH = MOST_RESTARTS + len(CALMS)


def change(*paths: str, now: float = 0.0, then: Change | None = None, debounce: float = DEBOUNCE) -> Change:
    return add(then, Pace(), paths, debounce, now)[0]


class TestWaiting:
    def test_a_change_is_due_after_the_debounce(self) -> None:
        assert change("app.py", now=5.0).due == 5.0 + DEBOUNCE

    def test_each_further_one_puts_it_off(self) -> None:
        first = change("app.py", now=5.0)
        assert change("b.py", now=5.04, then=first).due == 5.04 + DEBOUNCE

    def test_but_not_for_longer_than_its_patience(self) -> None:
        one, now = change("app.py"), 0.0
        while now < PATIENCE - 0.04:
            now += 0.04
            one = change("app.py", now=now, then=one)
        assert one.due == PATIENCE
        assert change("app.py", now=PATIENCE + 3.0, then=one).due == PATIENCE

    def test_a_debounce_beyond_the_patience_is_waited_for(self) -> None:
        one = change("app.py", debounce=30.0)
        assert one.due == 30.0
        assert change("b.py", now=20.0, then=one, debounce=30.0).due == 30.0

    def test_without_a_debounce_it_is_due_at_once(self) -> None:
        assert change("app.py", now=5.0, debounce=0.0).due == 5.0


class TestNaming:
    @pytest.mark.parametrize(
        ("paths", "text"),
        [
            (("app.py",), "app.py"),
            (("app.py", "b.py"), "app.py and 1 other"),
            (("app.py", "b.py", "c.py"), "app.py and 2 others"),
            (("app.py", "b.py", "app.py", "b.py"), "app.py and 1 other"),
        ],
    )
    def test_the_first_is_named_and_the_others_are_counted_once(self, paths: tuple[str, ...], text: str) -> None:
        assert str(change(*paths)) == text
        one: Change | None = None
        for path in paths:
            one = change(path, then=one)
        assert str(one) == text

    def test_a_branch_switch_is_one_change(self) -> None:
        one: Change | None = None
        for batch in range(100):
            one = change(*(f"file{batch}_{number}.py" for number in range(50)), now=batch / 100, then=one)
        assert str(one) == "file0_0.py and 4999 others"


def suspected(suspicions: int = 1, now: float = 1000.0) -> Pace:
    """The pace of one that was restarted often enough, has had so many calms, and runs again since the last one."""
    pace = Pace(times=(now - 1.0,) * MOST_RESTARTS)
    for _ in range(suspicions):
        pace = hold_back(count(pace, change("x.log", now=now), now), now)
        pace = resume(pace)
        now = pace.resumed or now
    return pace


class TestPace:
    def test_up_to_the_limit_nothing_is_held_back(self) -> None:
        pace = Pace()
        for number in range(MOST_RESTARTS):
            pace = count(pace, change("x.log", now=number), number)
            assert hold_back(pace, number) == pace
        assert (pace.suspicions, len(pace.times)) == (0, MOST_RESTARTS)

    def test_what_was_long_ago_does_not_count(self) -> None:
        pace = Pace(times=tuple(map(float, range(MOST_RESTARTS))))
        assert count(pace, change("x.log"), 1.0 + WINDOW).suspicions == 0

    def test_the_calms_become_longer(self) -> None:
        calms = []
        for suspicions in range(1, len(CALMS) + 1):
            pace = hold_back(suspected(suspicions)._replace(calm_until=None), 0.0)
            assert pace.calm_until is not None
            calms.append(pace.calm_until)
        assert tuple(calms) == CALMS

    def test_after_the_last_calm_it_is_suspended(self) -> None:
        pace = suspected(len(CALMS))
        assert pace.resumed is not None
        soon = change("x.log", now=pace.resumed + SOON)
        assert count(pace, soon, soon.due).suspended

    @pytest.mark.parametrize("suspicions", range(1, len(CALMS) + 1))
    def test_a_change_long_after_it_runs_again_clears_it_of_suspicion(self, suspicions: int) -> None:
        pace = suspected(suspicions)
        assert pace.resumed is not None
        late = change("x.log", now=pace.resumed + SOON + 0.1)
        assert count(pace, late, late.due) == Pace(times=(late.due,))

    def test_a_change_during_the_calm_clears_it_of_suspicion_and_is_waited_for(self) -> None:
        pace = hold_back(suspected(2), 0.0)
        one, pace = add(None, pace, ("app.py",), DEBOUNCE, DELAY)
        assert pace == Pace(calm_until=one.due)
        assert resume(pace).suspicions == 0

    def test_what_was_written_before_the_calm_and_comes_late_clears_nobody(self) -> None:
        pace = hold_back(suspected(2), 0.0)
        assert add(None, pace, ("x.log",), DEBOUNCE, DELAY - 0.1)[1] == pace

    def test_what_is_held_back_stays_so_for_what_comes_late_and_not_for_what_disturbs(self) -> None:
        pace = hold_back(suspected(1), 0.0)
        held = change("x.log")._replace(held=True, due=CALMS[0])
        late, _ = add(held, pace, ("x.log",), DEBOUNCE, DELAY - 0.1)
        assert (late.held, late.due) == (True, CALMS[0])
        other, _ = add(held, pace, ("app.py",), DEBOUNCE, DELAY)
        assert (other.held, other.due, str(other)) == (False, DELAY + DEBOUNCE, "x.log and 1 other")

    def test_what_never_became_quiet_counts_for_several(self) -> None:
        pace = count(Pace(), change("x.log", now=0.0), PATIENCE)
        assert len(pace.times) == NEVER_QUIET


class Bench:
    """A process and its world, in simulated time: what it writes, what others write, and what is done about it.

    `on_run` and `on_end` are what it writes, as (seconds after its beginning or its end, path); `reporting` is how late
    a change is reported; it takes `stopping` seconds to end. With `dies_after` it ends by itself.
    """

    def __init__(
        self,
        watch: Watch = WATCH,
        *,
        on_run: tuple[tuple[float, str], ...] = (),
        on_end: tuple[tuple[float, str], ...] = (),
        on_signal: tuple[tuple[float, str], ...] = (),
        on_preparation: tuple[tuple[float, str], ...] = (),
        every: float | None = None,
        stopping: float = 0.1,
        dies_after: float | None = None,
        reporting: float = 0.01,
    ) -> None:
        self.process: Process = process("web", watch=watch, stop_all=When.NEVER)
        self.app = App(self.process)
        self.on_run, self.on_end, self.on_signal, self.on_preparation = on_run, on_end, on_signal, on_preparation
        self.every, self.stopping, self.dies_after, self.reporting = every, stopping, dies_after, reporting
        self.agenda: list[tuple[float, int, Callable[[], object]]] = []
        self.serial = 0
        self.launched: list[float] = []
        self.signalled: list[float] = []
        self.prepared: list[float] = []
        self.told: list[str] = []
        self.saved = 0.0
        self.do(self.app.tell(Start(("web",))))

    @property
    def suspended(self) -> bool:
        return self.app.fleet.members["web"].pace.suspended

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        self.serial += 1
        heapq.heappush(self.agenda, (self.app.now + seconds, self.serial, what))

    def save(self, path: str = "app.py") -> None:
        """Somebody else writes a file."""
        self.saved = self.app.now
        self.write(path)

    def write(self, path: str) -> None:
        self.later(self.reporting, lambda: self.do(self.app.changed("web", path=path)))

    def write_as_long_as(self, run: int, path: str) -> None:
        assert self.every is not None
        if self.app.run("web") == run and self.app.fleet.members["web"].pid is not None:
            self.write(path)
            self.later(self.every, lambda: self.write_as_long_as(run, path))

    def do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Spawn(run=run):
                    self.launched.append(self.app.now)
                    self.later(0.0, lambda: self.do(self.app.spawned("web")))
                    self.plan(self.on_run)
                    if self.every is not None:
                        self.later(0.01, partial(self.write_as_long_as, run, "web.log"))
                    if self.dies_after is not None:
                        self.later(self.dies_after, partial(self.end, run, 1))
                case SendSignal(run=run, signal=number):
                    if number in (15, SIGKILL):
                        self.later(self.stopping, partial(self.end, run, -number))
                    else:
                        self.signalled.append(self.app.now)
                        self.plan(self.on_signal)
                case RunPreparation():
                    self.prepared.append(self.app.now)
                    self.plan(self.on_preparation)
                    self.later(0.2, lambda: self.do(self.app.tell(PreparationEnded("web", succeeded=True))))
                case Announce():
                    self.told.append(action.text)
                case _:
                    raise AssertionError(action)

    def plan(self, writes: tuple[tuple[float, str], ...]) -> None:
        for seconds, path in writes:
            self.later(seconds, lambda path=path: self.write(path))

    def end(self, run: int, returncode: int) -> None:
        if self.app.run("web") == run and self.app.fleet.members["web"].pid is not None:
            self.do(self.app.exited("web", returncode))
            self.plan(self.on_end)

    def live(self, until: float) -> None:
        """Let time pass."""
        while True:
            due = fleet.deadline(self.app.fleet)
            first = self.agenda[0][0] if self.agenda else None
            now = min((time for time in (due, first) if time is not None), default=until)
            if now >= until:
                self.app.now = until
                return
            self.app.now = max(self.app.now, now)
            if first is not None and first <= now:
                heapq.heappop(self.agenda)[2]()
            else:
                self.do(self.app.tick(self.app.now))


SOON_AFTER = ((0.1, "x.log"),)
SIGNALLED, PREPARED = WATCH._replace(signal=1), WATCH._replace(run="make")
WRITERS = {
    "at once": partial(Bench, on_run=((0.0, "x.log"),)),
    "later": partial(Bench, on_run=((2.0, "x.log"),)),
    "several": partial(Bench, on_run=((0.1, "x.log"), (0.2, "y.log"), (0.3, "x.log"))),
    "ends slowly": partial(Bench, on_run=SOON_AFTER, stopping=1.0),
    "at its end too": partial(Bench, on_run=SOON_AFTER, on_end=((0.0, "x.log"),)),
    "at its end too, reported late": partial(Bench, on_run=SOON_AFTER, on_end=((0.0, "x.log"),), reporting=0.4),
    "dies before": partial(Bench, on_run=SOON_AFTER, dies_after=0.05),
    "dies after": partial(Bench, on_run=SOON_AFTER, dies_after=0.5),
    "when signalled": partial(Bench, SIGNALLED, on_run=SOON_AFTER, on_signal=SOON_AFTER),
    "prepared": partial(Bench, PREPARED, on_run=SOON_AFTER),
    "and its preparation": partial(Bench, PREPARED, on_run=SOON_AFTER, on_preparation=SOON_AFTER),
    "prepared and signalled": partial(Bench, PREPARED._replace(signal=1), on_run=SOON_AFTER, on_signal=SOON_AFTER),
}


class TestWhoWritesItsOwnFiles:
    """They are found out, whatever they write and when, with the file named, and run on."""

    @pytest.mark.parametrize("make", WRITERS.values(), ids=WRITERS.keys())
    def test_its_watch_is_suspended_within_two_minutes(self, make: Callable[[], Bench]) -> None:
        bench = make()
        bench.live(120.0)
        assert bench.suspended
        assert "x.log" in bench.told[-1]
        assert "`ignore`" in bench.told[-1]
        assert len([text for text in bench.told if "succeeded" not in text]) == ENOUGH + 1
        done = len(bench.launched), len(bench.signalled), len(bench.prepared)
        assert max(done) <= ENOUGH + 1
        bench.save()
        bench.live(1000.0)
        assert (len(bench.launched), len(bench.signalled), len(bench.prepared)) == done
        assert bench.app.state("web") is (State.RUNNING if bench.dies_after is None else State.FAILED)

    def test_a_preparation_that_writes_what_it_is_run_for_is_found_out(self) -> None:
        bench = Bench(WATCH._replace(run="make"), on_preparation=((0.1, "app.css"),))
        bench.later(1.0, bench.save)
        bench.live(120.0)
        assert bench.suspended
        assert len(bench.prepared) == ENOUGH
        assert bench.told[-1].startswith("app.css changed ")

    @pytest.mark.parametrize("every", [0.01, 0.04, 0.06, 0.2, 1.0])
    def test_one_that_writes_all_the_time_is_found_out_as_well(self, every: float) -> None:
        bench = Bench(every=every)
        bench.live(200.0)
        assert bench.suspended
        assert "web.log" in bench.told[-1]

    def test_what_is_done_is_told_while_it_waits(self) -> None:
        bench = Bench(on_run=((0.1, "x.log"),))
        reasons = set()
        for tenth in range(600):
            bench.live(tenth / 10)
            reasons.add(bench.app.reason("web"))
        assert {f"waiting {calm:.0f} s, since its files change as soon as it runs" for calm in CALMS} <= reasons

    @pytest.mark.parametrize("request_", [Start(("web",)), Restart(("web",))], ids=["start", "restart"])
    def test_somebody_who_restarts_it_gives_it_another_chance(self, request_: Start | Restart) -> None:
        bench = Bench(on_run=((0.1, "x.log"),))
        bench.live(120.0)
        assert bench.suspended
        bench.on_run = ()
        bench.do(bench.app.tell(request_))
        bench.live(130.0)
        launched = len(bench.launched)
        bench.save()
        bench.live(140.0)
        assert len(bench.launched) == launched + 1


class TestWhoDoesNot:
    """However quick somebody else is, the newest is what runs in the end."""

    def check(self, bench: Bench, until: float) -> None:
        assert not bench.suspended
        bench.live(until + 60.0)
        assert not bench.suspended
        assert bench.launched[-1] >= bench.saved, "not the newest"

    @pytest.mark.parametrize("fails", [False, True], ids=["runs", "crashes"])
    @pytest.mark.parametrize("interval", [0.06, 0.1, 0.5, 0.99, 1.0, 1.01, 1.5, 2.0, 2.5, 2.9, 3.0, 3.5, 5.0])
    def test_somebody_who_saves_regularly_for_minutes_is_not_suspected(self, interval: float, fails: bool) -> None:
        bench = Bench(dies_after=0.03 if fails else None)
        for number in range(1, int(600 / interval)):
            bench.live(number * interval)
            bench.save()
            assert not bench.suspended
        self.check(bench, 600.0)

    @pytest.mark.parametrize("seed", range(20))
    def test_a_thousand_saves_in_random_bursts(self, seed: int) -> None:
        random = Random(seed)
        stopping, gap = random.choice((0.0, 0.1, 1.0)), random.choice((0.1, 1.0, 4.0))
        bench, now, left = Bench(stopping=stopping), 1.0, 1000
        while left:
            for _ in range(min(left, random.randrange(1, 60))):
                bench.live(now)
                bench.save(f"file{random.randrange(9)}.py")
                left -= 1
                now += random.choice((0.0, 0.001, 0.01, 0.1, 0.3))
            now += random.expovariate(1 / gap)
        self.check(bench, now)

    def test_somebody_who_saves_after_a_burst_is_not_suspected(self) -> None:
        """Each of the first is a restart of its own; the window is full of them when the others come."""
        bench, now = Bench(), 0.0
        for wait in (1.0,) * 22 + (5.0,) * 100:
            now += wait
            bench.live(now)
            bench.save()
        self.check(bench, now)

    def test_a_long_build_is_not_suspected(self) -> None:
        bench = Bench()
        for number in range(20000):
            bench.live(number * 0.02)
            bench.save(f"out{number}.js")
        self.check(bench, 400.0)

    def test_a_branch_switch_is_one_restart(self) -> None:
        bench = Bench()
        bench.live(1.0)
        for number in range(3000):
            bench.live(1.0 + number * 0.001)
            bench.save(f"file{number}.py")
        bench.live(20.0)
        assert bench.told == ["file0.py and 2999 others changed; restarting"]
        assert len(bench.launched) == 2
