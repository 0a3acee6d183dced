"""The health checks of a process are paused while a client is attached to it."""

from __future__ import annotations

from support.fleet_driver import CHECK, HEALTH, LOG, SIGTERM, App, checks, process, signals

from procreaper.core import fleet
from procreaper.core.checks import Health
from procreaper.core.events import CheckFinished, State, TerminalClosed, TerminalOpened
from procreaper.core.plan import When
from procreaper.core.state import PAUSED

ATTACHED, DETACHED = TerminalOpened("web"), TerminalClosed("web")
QUICK = Health(check=CHECK, interval=10.0, retries=1, start_interval=0.5, start_timeout=5.0)


def starting(health: Health = QUICK) -> App:
    return App(process("web", health=health, restart=When.ON_FAILURE)).start()


def healthy(health: Health = QUICK) -> App:
    app = starting(health)
    app.checked("web")
    return app


def test_no_check_is_begun_and_the_reason_is_told() -> None:
    app = healthy()
    assert app.tell(ATTACHED) == ()
    assert (app.state("web"), app.reason("web")) == (State.HEALTHY, PAUSED)
    assert fleet.deadline(app.fleet) is None
    assert app.tick(1000.0) == ()


def test_the_next_check_is_due_at_once_when_nobody_is_attached_any_more() -> None:
    app = healthy()
    app.tell(ATTACHED)
    assert checks(app.tell(DETACHED)) == ["web"]
    assert app.reason("web") == "healthy"


def test_a_check_under_way_that_fails_does_not_count() -> None:
    app = healthy()
    app.tick(10.0)
    app.tell(ATTACHED)
    assert app.checked("web", "refused") == ()
    assert app.state("web") is State.HEALTHY
    assert checks(app.tell(DETACHED)) == ["web"]
    assert signals(app.checked("web", "refused")) == {"web": SIGTERM}, "from now on it counts"


def test_a_check_under_way_that_succeeds_does() -> None:
    app = starting()
    app.tell(ATTACHED)
    app.checked("web")
    assert (app.state("web"), app.reason("web")) == (State.HEALTHY, PAUSED)


def test_a_check_that_is_still_under_way_afterwards_is_the_only_one() -> None:
    app = starting()
    app.tell(ATTACHED)
    assert app.tell(DETACHED) == ()
    app.checked("web")
    assert app.state("web") is State.HEALTHY


def test_the_start_may_take_so_much_longer_as_somebody_was_attached() -> None:
    app = starting()
    app.checked("web", "refused")
    app.now = 4.0
    app.tell(ATTACHED)
    assert app.reason("web") == PAUSED
    assert app.tick(100.0) == ()
    assert checks(app.tell(DETACHED)) == ["web"]
    app.now = 100.9
    app.checked("web", "refused")
    assert app.state("web") is State.STARTING
    app.tick(101.0)
    assert app.state("web") is State.STOPPING


def test_a_new_run_while_somebody_is_attached_is_not_checked_either() -> None:
    app = healthy()
    app.tell(ATTACHED)
    app.restart("web")
    app.now = 50.0
    app.exited("web", -15)
    app.answer()
    assert (app.state("web"), app.reason("web")) == (State.STARTING, PAUSED)
    assert fleet.deadline(app.fleet) is None
    app.now = 60.0
    assert checks(app.tell(DETACHED)) == ["web"]
    app.checked("web", "refused")
    app.tick(64.9)
    assert app.state("web") is State.STARTING
    app.tick(65.0)
    assert app.state("web") is State.STOPPING


def test_the_line_of_output_that_is_waited_for_counts_all_the_same() -> None:
    app = starting(Health(log=LOG, start_timeout=5.0))
    app.tell(ATTACHED)
    assert app.tick(100.0) == ()
    app.matched("web")
    assert (app.state("web"), app.reason("web")) == (State.HEALTHY, "healthy")
    assert app.tell(DETACHED) == ()
    assert fleet.deadline(app.fleet) is None


def test_the_line_may_come_so_much_later() -> None:
    app = starting(Health(log=LOG, start_timeout=5.0))
    app.tell(ATTACHED)
    app.now = 100.0
    assert app.tell(DETACHED) == ()
    assert app.reason("web") == "waiting for its log line"
    assert fleet.deadline(app.fleet) == 105.0


def test_a_new_plan_does_not_end_what_somebody_is_attached_to_for_its_health() -> None:
    app = App(process("web", health=QUICK)).start()
    app.checked("web")
    app.tick(10.0)
    app.checked("web", "refused")
    assert app.state("web") is State.UNHEALTHY
    app.tell(ATTACHED)
    assert app.reload(process("web", health=QUICK, restart=When.ALWAYS)) == ()
    assert app.state("web") is State.UNHEALTHY
    assert signals(app.tell(DETACHED)) == {"web": SIGTERM}


def test_a_check_that_a_new_plan_brings_waits_too() -> None:
    app = App(process("web")).start()
    app.tell(ATTACHED)
    assert app.reload(process("web", health=QUICK)) == ()
    assert (app.state("web"), app.reason("web")) == (State.STARTING, PAUSED)
    assert checks(app.tell(DETACHED)) == ["web"]


def test_what_has_no_check_takes_no_notice() -> None:
    app = App(process("web")).start()
    for event in (ATTACHED, DETACHED, TerminalOpened("ghost"), TerminalClosed("ghost")):
        assert app.tell(event) == ()
    assert (app.state("web"), app.reason("web")) == (State.RUNNING, "running")


def test_a_second_word_of_the_same_changes_nothing() -> None:
    app = healthy()
    app.tell(ATTACHED)
    app.now = 5.0
    before = app.fleet
    app.tell(ATTACHED)
    assert app.fleet is before
    app.tell(DETACHED)
    before = app.fleet
    assert app.tell(DETACHED) == ()
    assert app.fleet is before


def test_a_check_that_was_skipped_meanwhile_is_no_failure() -> None:
    app = starting(HEALTH)
    app.tell(ATTACHED)
    assert app.tell(CheckFinished("web", 1, "refused", skipped=True)) == ()
    assert app.reason("web") == PAUSED
