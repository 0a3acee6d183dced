"""Changed files: how long they are waited for, how they are named, and when a process is left alone with them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest
from support.fleet_driver import SIGKILL, App, announced, process

from procreaper.core import fleet
from procreaper.core.events import (
    Action,
    Announce,
    FilesChanged,
    PreparationEnded,
    Restart,
    RunPreparation,
    SendSignal,
    Spawn,
    Start,
    State,
)
from procreaper.core.file_changes import (
    CALMS,
    MORE_WITHIN,
    MOST_RESTARTS,
    NEVER_QUIET,
    PATIENCE,
    SOON,
    WINDOW,
    add_change,
    count_restart,
)
from procreaper.core.plan import Process, Watch, When
from procreaper.core.state import Change, RestartThrottle

DEBOUNCE = 0.05
WATCH = Watch("/srv", ("app",), debounce=DEBOUNCE)
# How many restarts it takes to find out that a process writes its own files.
ENOUGH = MOST_RESTARTS + len(CALMS)


def change(*paths: str, now: float = 0.0, then: Change | None = None, debounce: float = DEBOUNCE) -> Change:
    one, _ = add_change(then, RestartThrottle(), paths, debounce, now)
    assert one is not None
    return one


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


class TestMoreOnTheWay:
    """A branch switch in a large tree takes longer than the debounce, and longer than the patience."""

    def test_a_change_waits_for_the_report_that_ends_it(self) -> None:
        app = App(process("web", watch=WATCH)).start()
        app.changed("web", more=True)
        assert app.tick(PATIENCE + 5.0) == ()
        app.changed("web", path="b.py", more=True)
        app.now = PATIENCE + 8.0
        app.tell(FilesChanged({"web": ()}))
        assert announced(app.tick(app.now)) == ["web: app.py and 1 other changed; restarting"]

    def test_after_that_report_it_is_waited_for_quiet_as_ever(self) -> None:
        app = App(process("web", watch=WATCH)).start()
        app.changed("web", more=True)
        app.changed("web", path="b.py", now=1.0)
        assert fleet.deadline(app.fleet) == 1.0 + DEBOUNCE

    def test_where_it_never_comes_the_change_is_due_all_the_same(self) -> None:
        app = App(process("web", watch=WATCH)).start()
        for second in range(int(MORE_WITHIN)):
            app.changed("web", now=float(second), more=True)
        assert fleet.deadline(app.fleet) == MORE_WITHIN

    def test_a_report_of_no_files_is_no_change(self) -> None:
        app = App(process("web", watch=WATCH)).start()
        app.tell(FilesChanged({"web": ()}, more=True))
        assert fleet.deadline(app.fleet) is None

    def test_a_calm_is_not_put_off_by_a_report_of_no_files(self) -> None:
        calm, throttle = add_change(None, RestartThrottle(times=(0.0,) * MOST_RESTARTS), ("x.log",), DEBOUNCE, 1.0)
        assert add_change(calm, throttle, (), DEBOUNCE, 2.0) == (calm, throttle)


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


def counted(throttle: RestartThrottle, now: float) -> RestartThrottle:
    """The pace after one more change, for which something is done as soon as it is due."""
    one, throttle = add_change(None, throttle, ("x.log",), DEBOUNCE, now)
    assert one is not None
    return count_restart(throttle, one, one.due)


class TestPace:
    def test_up_to_the_limit_no_change_waits_for_a_calm(self) -> None:
        throttle = RestartThrottle()
        for number in range(MOST_RESTARTS):
            one, throttle = add_change(None, throttle, ("x.log",), DEBOUNCE, number)
            assert one is not None
            assert one.due == number + DEBOUNCE
            throttle = count_restart(throttle, one, one.due)
        assert len(throttle.times) == MOST_RESTARTS

    def test_what_was_long_ago_does_not_count(self) -> None:
        throttle = RestartThrottle(times=tuple(map(float, range(MOST_RESTARTS))))
        one, _ = add_change(None, throttle, ("x.log",), DEBOUNCE, WINDOW)
        assert one is not None
        assert one.calm == 0.0

    def test_beyond_the_limit_each_further_change_puts_it_off_until_there_is_a_calm(self) -> None:
        one, throttle = add_change(None, RestartThrottle(times=(0.0,) * MOST_RESTARTS), ("x.log",), DEBOUNCE, 1.0)
        for number in range(2, 1000):
            one, throttle = add_change(one, throttle, ("x.log",), DEBOUNCE, number)
        assert one is not None
        assert one.due == 999 + CALMS[0]

    def test_a_change_soon_after_a_calm_needs_a_longer_one_and_after_the_last_it_suspends_the_watch(self) -> None:
        throttle, now = RestartThrottle(times=(0.0,) * MOST_RESTARTS), 1.0
        for calm in CALMS:
            one, throttle = add_change(None, throttle, ("x.log",), DEBOUNCE, now)
            assert one is not None
            assert one.due == now + calm
            throttle = count_restart(throttle, one, one.due)
            now = one.due + SOON
        assert add_change(None, throttle, ("x.log",), DEBOUNCE, now) == (None, RestartThrottle(suspended="x.log"))

    @pytest.mark.parametrize("calmed", range(1, len(CALMS) + 1))
    def test_a_change_long_after_a_calm_counts_as_the_first(self, calmed: int) -> None:
        throttle = RestartThrottle(times=(100.0,), calmed=calmed)
        one, throttle = add_change(None, throttle, ("x.log",), DEBOUNCE, 100.1 + SOON)
        assert one is not None
        assert (one.calm, throttle) == (0.0, RestartThrottle())

    def test_the_first_calm_is_longer_than_the_time_between_restarts_that_are_this_frequent(self) -> None:
        assert CALMS[0] > WINDOW / MOST_RESTARTS
        assert list(CALMS) == sorted(set(CALMS))

    def test_what_never_became_quiet_counts_for_several(self) -> None:
        one = change("x.log")
        for tenth in range(1, 1 + int(PATIENCE * 100)):
            one = change("x.log", now=tenth / 100, then=one)
        assert len(count_restart(RestartThrottle(), one, one.due).times) == NEVER_QUIET

    def test_a_change_that_waited_for_something_else_counts_once(self) -> None:
        assert len(count_restart(RestartThrottle(), change("x.log"), 2 * PATIENCE).times) == 1


class Bench:
    """A process and its world, in simulated time: what it writes, what others write, and what is done about it.

    `on_run` and `on_end` are what it writes, as (seconds after its beginning or its end, path); `reporting` is how late
    a change is reported; it takes `stopping` seconds to end. With `dies_after` it ends by itself.
    A command takes `building` seconds, and with `hashed` it writes a file of another name each time.
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
        building: float = 0.2,
        hashed: bool = False,
        stopping: float = 0.1,
        dies_after: float | None = None,
        reporting: float = 0.01,
    ) -> None:
        self.process: Process = process("web", watch=watch, stop_all=When.NEVER)
        self.app = App(self.process)
        self.on_run, self.on_end, self.on_signal, self.on_preparation = on_run, on_end, on_signal, on_preparation
        self.building, self.hashed = building, hashed
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
        return bool(self.app.fleet.members["web"].throttle.suspended)

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
                    if self.hashed:
                        self.plan(((0.1, f"app.{len(self.prepared)}.css"),))
                    self.later(self.building, lambda: self.do(self.app.tell(PreparationEnded("web", succeeded=True))))
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
    """A process that writes its own files is found out, and runs on, with the file named."""

    @pytest.mark.parametrize("make", WRITERS.values(), ids=WRITERS.keys())
    def test_its_watch_is_suspended_within_two_minutes(self, make: Callable[[], Bench]) -> None:
        bench = make()
        bench.live(120.0)
        assert bench.suspended
        (said,) = [text for text in bench.told if "not watched any more" in text]
        assert said.startswith("x.log changed right after every start; not watched any more")
        assert "`watch.ignore`" in said
        done = len(bench.launched), len(bench.signalled), len(bench.prepared)
        assert max(done) <= ENOUGH + 1
        bench.save()
        bench.live(300.0)
        assert (len(bench.launched), len(bench.signalled), len(bench.prepared)) == done
        assert bench.app.state("web") is (State.RUNNING if bench.dies_after is None else State.FAILED)
        assert not bench.app.reason("web").endswith("when its files change")

    @pytest.mark.parametrize("every", [0.01, 0.04, 0.06, 0.2, 1.0, 2.9])
    def test_one_that_writes_all_the_time_runs_on_until_it_is_quiet(self, every: float) -> None:
        bench = Bench(every=every)
        bench.live(100.0)
        launched = len(bench.launched)
        assert launched <= MOST_RESTARTS + 1
        assert bench.told[-1].startswith("web.log changed; too many restarts")
        assert sum("too many restarts" in text for text in bench.told) == 1
        bench.live(300.0)
        assert len(bench.launched) == launched

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


class TestACommandThatWritesWhatItIsRunFor:
    """It is found out in the third round; what others do to the same files counts all the same."""

    def found_out(self, **character: Any) -> Bench:
        bench = Bench(WATCH._replace(run="make"), on_preparation=((0.1, "app.css"),), **character)
        bench.later(1.0, partial(bench.save, "app.py"))
        bench.live(20.0)
        return bench

    def test_after_three_rounds_the_process_is_restarted_once_and_the_file_is_named(self) -> None:
        bench = self.found_out()
        assert (len(bench.prepared), len(bench.launched), bench.suspended) == (3, 2, False)
        (said,) = [text for text in bench.told if "itself" in text]
        assert said.startswith("`make` changes app.css itself; ")
        assert "`watch.ignore`" in said

    @pytest.mark.parametrize("path", ["app.py", "app.css"])
    def test_what_a_user_saves_afterwards_is_one_round_and_one_restart(self, path: str) -> None:
        bench = self.found_out()
        for times in (1, 2, 3):
            bench.save(path)
            bench.live(bench.app.now + 10.0)
            assert (len(bench.prepared), len(bench.launched)) == (3 + times, 2 + times)

    def test_what_a_user_saves_while_the_command_runs_is_one_round_more(self) -> None:
        bench = self.found_out()
        bench.save("app.py")
        bench.later(0.15, partial(bench.save, "b.py"))
        bench.live(bench.app.now + 10.0)
        assert (len(bench.prepared), len(bench.launched)) == (5, 3)

    def test_after_a_restart_by_hand_it_has_to_be_found_out_again(self) -> None:
        bench = self.found_out()
        bench.do(bench.app.tell(Restart(("web",))))
        bench.save("app.py")
        bench.live(bench.app.now + 10.0)
        assert len(bench.prepared) == 6

    def test_files_with_another_name_each_time_suspend_the_watch_and_the_command_is_named(self) -> None:
        bench = Bench(WATCH._replace(run="make"), hashed=True)
        bench.save("app.py")
        bench.live(120.0)
        assert len(bench.prepared) == ENOUGH
        assert any("right after every run of `make`; not watched any more" in text for text in bench.told)
        assert len(bench.launched) == 2

    @pytest.mark.parametrize("interval", [0.9, 0.5, 0.3])
    @pytest.mark.parametrize("paths", [("app.py",), ("app.py", "b.py")], ids=["one file", "two files"])
    def test_a_user_who_saves_while_a_long_command_runs_is_not_taken_for_it(
        self, interval: float, paths: tuple[str, ...]
    ) -> None:
        bench = Bench(WATCH._replace(run="make"), building=2.0)
        for number in range(15):
            bench.save(paths[min(number, len(paths) - 1)])
            bench.live(bench.app.now + interval)
        bench.live(bench.app.now + 30.0)
        assert not any("itself" in text for text in bench.told)
        assert bench.prepared[-1] >= bench.saved
        assert bench.launched[-1] >= bench.prepared[-1]


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
        stopping, gap = random.choice((0.0, 0.1, 1.0)), random.choice((0.1, 0.5, 1.0))
        bench, now, left = Bench(stopping=stopping), 1.0, 1000
        while left:
            for _ in range(min(left, random.randrange(1, 60))):
                bench.live(now)
                bench.save(f"file{random.randrange(9)}.py")
                left -= 1
                now += random.choice((0.0, 0.001, 0.01, 0.1, 0.3))
            now += random.expovariate(1 / gap)
        self.check(bench, now)

    @pytest.mark.parametrize("interval", [3.5, 4.5, 5.0, 6.5, 7.0, 8.5])
    def test_somebody_who_saves_after_a_burst_is_not_suspected(self, interval: float) -> None:
        bench, now = Bench(), 0.0
        for wait in (1.0,) * 22 + (interval,) * 100:
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
