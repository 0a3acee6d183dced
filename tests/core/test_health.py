"""The health of a run: before and after the first success, by checks and by a line of its log."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.fleet_driver import CHECK, HEALTH, LOG, SIGKILL, SIGTERM, TICK
from support.process_states import (
    PID,
    RESTART,
    STOP,
    after,
    alive,
    checked,
    exited,
    healthy,
    signals,
    spawned,
    spawning,
    step,
    web,
)

from procreaper.core import lifecycle
from procreaper.core.checks import Health, LogCheck
from procreaper.core.events import (
    Action,
    CancelCheck,
    Event,
    Exit,
    LogMatched,
    OutputBegan,
    SendSignal,
    Shutdown,
    Spawned,
    StartCheck,
    State,
    TerminalClosed,
    TerminalOpened,
    TimeLost,
)
from procreaper.core.health import HELD_BACK
from procreaper.core.plan import When
from procreaper.core.state import ProcessState


class TestHealth:
    def test_it_is_starting_until_the_first_check_has_succeeded(self) -> None:
        process_state, actions = step(spawning(web(health=HEALTH)), Spawned("web", 1, PID), 7.0)
        assert (process_state.state, process_state.reason, actions) == (
            State.STARTING,
            "waiting for its health check",
            [StartCheck("web", 1)],
        )
        process_state, actions = step(process_state, checked(process_state), 8.0)
        assert (process_state.state, process_state.reason, process_state.up_since, actions) == (
            State.HEALTHY,
            "healthy",
            8.0,
            [],
        )
        assert lifecycle.deadline(process_state) == 18.0

    def test_failures_before_the_first_success_do_not_count(self) -> None:
        process_state = alive(web(health=HEALTH))
        for number in range(50):
            process_state, actions = step(process_state, checked(process_state, "refused"), number * 1.0)
            assert (process_state.state, actions) == (State.STARTING, [])
            process_state, actions = step(process_state, TICK, number + 0.5)
            assert actions == [StartCheck("web", 1)]
        assert process_state.reason == "waiting for its health check: refused"
        process_state = after(process_state, checked(process_state), now=50.0)
        assert (process_state.state, process_state.retries) == (State.HEALTHY, 0)

    @pytest.mark.parametrize(
        ("restart", "state", "reason"),
        [
            (When.NEVER, State.FAILED, "not healthy within 60 s: refused"),
            (When.ON_FAILURE, State.RESTARTING, "not healthy within 60 s: refused; retry 1 in 2.0 s"),
            (When.ALWAYS, State.RESTARTING, "not healthy within 60 s: refused; retry 1 in 2.0 s"),
        ],
    )
    @pytest.mark.parametrize("checking", [False, True])
    def test_a_start_that_takes_too_long_is_a_failed_run_with_code_124(
        self, restart: When, state: State, reason: str, checking: bool
    ) -> None:
        process_state = alive(web(restart, health=HEALTH))
        process_state = after(process_state, checked(process_state, "refused"), now=59.4)
        if checking:
            process_state = after(process_state, TICK, now=59.9)
        assert lifecycle.deadline(process_state) == (60.0 if checking else 59.9)
        process_state, actions = step(process_state, TICK, 60.0)
        assert (process_state.state, process_state.verdict) == (State.STOPPING, Exit(code=124))
        expected: list[Action] = [CancelCheck("web", 1)] if checking else []
        assert actions == [*expected, SendSignal("web", 1, PID + 1, SIGTERM)]
        process_state = after(process_state, exited(process_state, 0), now=61.0)
        assert (process_state.state, process_state.reason, process_state.exit) == (state, reason, Exit(code=0))

    def test_124_as_a_success_code_does_not_make_it_a_success(self) -> None:
        process_state = alive(web(health=HEALTH, success_codes=frozenset({0, 124})))
        process_state = after(process_state, TICK, now=60.0)
        assert after(process_state, exited(process_state, 0), now=61.0).state is State.FAILED

    def test_a_check_that_succeeds_only_after_the_time_but_before_its_tick_is_in_time(self) -> None:
        process_state = alive(web(health=HEALTH))
        assert after(process_state, checked(process_state), now=61.0).state is State.HEALTHY

    @pytest.mark.parametrize(("returncode", "state"), [(0, State.COMPLETED), (1, State.RESTARTING)])
    def test_the_death_of_the_child_ends_the_wait(self, returncode: int, state: State) -> None:
        process_state = alive(web(When.ON_FAILURE, health=HEALTH))
        process_state, actions = step(process_state, exited(process_state, returncode), 1.0)
        assert (process_state.state, actions) == (state, [CancelCheck("web", 1)])

    def test_a_process_that_has_no_check_is_running_and_never_checked(self) -> None:
        process_state = alive(web())
        assert lifecycle.step(process_state, checked(process_state), 1.0) == (process_state, ())
        assert lifecycle.step(process_state, LogMatched("web", 1), 1.0) == (process_state, ())

    def failing(
        self, process_state: ProcessState, times: int, *, start: float = 0.0
    ) -> tuple[ProcessState, list[Action]]:
        actions: list[Action] = []
        for number in range(1, times + 1):
            process_state, actions = step(process_state, TICK, start + 10.0 * number)
            assert actions == [StartCheck("web", 1)]
            process_state, actions = step(process_state, checked(process_state, "refused"), start + 10.0 * number)
        return process_state, actions

    def test_failures_in_a_row_after_the_first_success_are_announced_and_counted(self) -> None:
        for times in (1, 2):
            process_state, actions = self.failing(healthy(), times)
            assert (process_state.state, process_state.reason) == (State.HEALTHY, f"check failed ({times}/3): refused")
            assert actions == []

    @pytest.mark.parametrize("restart", [When.ON_FAILURE, When.ALWAYS])
    def test_as_many_as_retries_says_mean_unhealthy_and_that_is_a_failed_run(self, restart: When) -> None:
        process_state, actions = self.failing(healthy(restart), 3)
        assert (process_state.state, process_state.reason, signals(actions)) == (
            State.STOPPING,
            "unhealthy: refused",
            [SIGTERM],
        )
        process_state = after(process_state, exited(process_state, 0), now=31.0)
        assert (process_state.state, process_state.reason) == (State.RESTARTING, "unhealthy: refused; retry 1 in 2.0 s")
        assert (process_state.retries, process_state.due, process_state.verdict) == (1, 33.0, Exit(code=1))

    def test_under_never_it_is_only_marked_and_may_recover(self) -> None:
        process_state, actions = self.failing(healthy(When.NEVER), 4)
        assert (process_state.state, process_state.reason, actions) == (State.UNHEALTHY, "unhealthy: refused", [])
        process_state, actions = step(process_state, TICK, 50.0)
        assert actions == [StartCheck("web", 1)]
        process_state, actions = step(process_state, checked(process_state), 50.0)
        assert (process_state.state, process_state.reason, process_state.up_since, actions) == (
            State.HEALTHY,
            "healthy",
            50.0,
            [],
        )
        process_state, _ = self.failing(process_state, 2, start=50.0)
        assert process_state.state is State.HEALTHY

    def test_a_success_clears_the_count(self) -> None:
        process_state = healthy()
        for start in (0.0, 30.0, 60.0):
            process_state, _ = self.failing(process_state, 2, start=start)
            process_state = after(process_state, TICK, checked(process_state), now=start + 30.0)
            assert (process_state.state, process_state.reason) == (State.HEALTHY, "healthy")

    def test_unhealthy_time_and_again_uses_up_the_retries(self) -> None:
        process_state = healthy()._replace(process=web(When.ALWAYS, max_retries=2, health=HEALTH), retries=2)
        process_state, _ = self.failing(process_state, 3)
        assert process_state.retries == 2
        process_state = after(process_state, exited(process_state, 0), now=31.0)
        assert (process_state.state, process_state.reason) == (
            State.FAILED,
            "unhealthy: refused; gave up after 2 retries",
        )

    def test_there_are_never_two_checks_at_once(self) -> None:
        process_state = alive(web(health=HEALTH))
        for now in (0.5, 5.0, 59.0):
            process_state, actions = step(process_state, TICK, now)
            assert actions == []
        process_state = after(process_state, checked(process_state), now=59.5)
        process_state, actions = step(process_state, TICK, 69.5)
        assert actions == [StartCheck("web", 1)]
        for now in (79.5, 1000.0):
            process_state, actions = step(process_state, TICK, now)
            assert actions == []

    def test_a_result_that_comes_twice_counts_once(self) -> None:
        process_state, _ = self.failing(healthy(), 1)
        assert step(process_state, checked(process_state, "refused"), 10.0) == (process_state, [])

    @pytest.mark.parametrize("error", [None, "refused"])
    def test_a_late_result_of_an_older_run_is_dropped(self, error: str | None) -> None:
        process_state = healthy()
        result = checked(process_state, error)
        process_state = after(process_state, exited(process_state, 1), now=1.0)
        assert step(process_state, result, 2.0) == (process_state, [])
        process_state = after(process_state, TICK, now=3.0)
        assert step(process_state, result, 3.0) == (process_state, [])
        process_state = after(process_state, spawned(process_state), now=3.0)
        assert step(process_state, result, 4.0) == (process_state, [])
        assert process_state.state is State.STARTING

    @pytest.mark.parametrize("error", [None, "refused"])
    def test_a_result_that_comes_while_it_stops_is_dropped(self, error: str | None) -> None:
        process_state = after(alive(web(health=HEALTH)), STOP)
        assert step(process_state, checked(process_state, error), 1.0) == (process_state, [])

    @pytest.mark.parametrize("request_", [STOP, RESTART, Shutdown(0)], ids=["stop", "restart", "shutdown"])
    def test_a_stop_during_a_check_cancels_it(self, request_: Event) -> None:
        _, actions = step(alive(web(health=HEALTH)), request_, 1.0)
        assert actions == [CancelCheck("web", 1), SendSignal("web", 1, PID + 1, SIGTERM)]

    @pytest.mark.parametrize("request_", [STOP, RESTART], ids=["stop", "restart"])
    def test_a_stop_between_checks_has_nothing_to_cancel_and_no_check_follows(self, request_: Event) -> None:
        process_state, actions = step(healthy(), request_, 1.0)
        assert signals(actions) == [SIGTERM]
        assert lifecycle.deadline(process_state) == 6.0

    def test_a_kill_during_a_check_cancels_it(self) -> None:
        _, actions = lifecycle.kill(alive(web(health=HEALTH)), 1.0)
        assert actions == (CancelCheck("web", 1), SendSignal("web", 1, PID + 1, SIGKILL))

    def test_while_the_child_is_held_nothing_counts(self) -> None:
        process_state = healthy()
        for number in range(1, 20):
            process_state = after(process_state, TICK, now=15.0 * number)
            process_state = after(
                process_state, checked(process_state, "no answer", skipped=True), now=15.0 * number + 5.0
            )
            assert process_state.state is State.HEALTHY
            assert lifecycle.deadline(process_state) == 15.0 * number + 15.0
        process_state, _ = self.failing(process_state, 2, start=300.0)
        assert process_state.state is State.HEALTHY

    def test_a_start_that_is_held_has_all_its_time_again(self) -> None:
        process_state = alive(web(health=HEALTH))
        process_state = after(process_state, checked(process_state, "no answer", skipped=True), now=50.0)
        assert lifecycle.deadline(process_state) == 50.5
        process_state = after(process_state, TICK, now=100.0)
        assert process_state.state is State.STARTING
        process_state = after(process_state, TICK, now=110.0)
        assert (process_state.state, process_state.verdict) == (State.STOPPING, Exit(code=124))

    def test_a_run_that_stayed_healthy_for_the_reset_time_has_its_retries_cleared_at_that_moment(self) -> None:
        process_state = alive(web(When.ON_FAILURE, health=HEALTH))._replace(retries=3)
        process_state = after(process_state, checked(process_state), now=30.0)
        process_state = process_state._replace(health=process_state.health and process_state.health._replace(due=None))
        assert lifecycle.deadline(process_state) == 75.0
        assert after(process_state, TICK, now=74.9).retries == 3
        process_state = after(process_state, TICK, now=75.0)
        assert (process_state.retries, lifecycle.deadline(process_state)) == (0, None)
        assert after(process_state, exited(process_state, 1), now=76.0).due == 78.0


class TestLogReadiness:
    READY = LogMatched("web", 1)

    def test_without_a_check_the_line_makes_it_healthy_for_good(self) -> None:
        process_state, actions = step(spawning(web(health=Health(log=LOG))), Spawned("web", 1, PID), 0.0)
        assert (process_state.state, process_state.reason, actions) == (State.STARTING, "waiting for its log line", [])
        assert lifecycle.deadline(process_state) == 60.0
        process_state, actions = step(process_state, self.READY, 9.0)
        assert (process_state.state, process_state.up_since, actions) == (State.HEALTHY, 9.0, [])
        assert lifecycle.deadline(process_state) is None
        assert step(process_state, self.READY, 10.0) == (process_state, [])

    def test_with_a_check_both_are_needed_and_the_line_comes_first(self) -> None:
        process_state, actions = step(spawning(web(health=Health(check=CHECK, log=LOG))), Spawned("web", 1, PID), 0.0)
        assert actions == []
        process_state, actions = step(process_state, self.READY, 9.0)
        assert (process_state.state, process_state.reason) == (State.STARTING, "waiting for its health check")
        assert actions == [StartCheck("web", 1)]
        assert step(process_state, self.READY, 9.0) == (process_state, [])
        assert after(process_state, checked(process_state), now=10.0).state is State.HEALTHY

    def test_the_start_timeout_covers_both(self) -> None:
        process_state = alive(web(health=Health(check=CHECK, log=LOG)))
        process_state = after(process_state, self.READY, now=59.0)
        process_state = after(process_state, TICK, now=60.0)
        assert (process_state.state, process_state.cause) == (State.STOPPING, "not healthy within 60 s")

    def test_a_line_that_never_comes_is_the_reason_with_a_check_besides(self) -> None:
        process_state = after(alive(web(health=Health(check=CHECK, log=LOG))), OutputBegan("web", 1), now=1.0)
        process_state = after(process_state, TICK, now=60.0)
        assert process_state.cause == 'not healthy within 60 s: no line has matched "ready"'

    def test_a_line_that_never_comes_is_a_failed_start_that_names_the_line(self) -> None:
        process_state = after(alive(web(health=Health(log=LOG, start_timeout=7.5))), OutputBegan("web", 1), now=1.0)
        process_state, actions = step(process_state, TICK, 7.5)
        assert (process_state.state, process_state.reason, signals(actions)) == (
            State.STOPPING,
            'not healthy within 7.5 s: no line has matched "ready"',
            [SIGTERM],
        )

    @pytest.mark.parametrize(("pty", "hint"), [(False, HELD_BACK), (True, "")])
    def test_where_nothing_came_through_a_pipe_the_program_may_hold_it_back(self, pty: bool, hint: str) -> None:
        process_state = alive(web(health=Health(log=LogCheck("x" * 100)))._replace(pty=pty))
        process_state = after(process_state, OutputBegan("web", 2), now=1.0)
        process_state = after(process_state, TICK, now=60.0)
        assert process_state.cause == f'not healthy within 60 s: no line has matched "{"x" * 57}..."{hint}'

    def test_a_line_of_an_older_run_or_of_one_that_stops_is_dropped(self) -> None:
        process_state = alive(web(health=Health(log=LOG)))._replace(run=2)
        assert step(process_state, self.READY, 1.0) == (process_state, [])
        process_state = after(alive(web(health=Health(log=LOG))), STOP)
        assert step(process_state, self.READY, 1.0) == (process_state, [])


class TestPause:
    """Time in which procreaper did not run; the process may have been frozen too."""

    def test_it_moves_the_end_of_the_start(self) -> None:
        process_state = alive(web(When.NEVER, health=HEALTH))
        process_state = after(process_state, checked(process_state, "refused"), now=1.0)
        process_state, actions = step(process_state, TimeLost(3600.0), 3601.0)
        assert (process_state.state, actions) == (State.STARTING, [])
        process_state, actions = step(process_state, TICK, 3601.0)
        assert (process_state.state, actions) == (State.STARTING, [StartCheck("web", 1)])
        process_state = after(process_state, checked(process_state, "refused"), now=3602.0)
        assert after(process_state, TICK, now=3659.9).state is State.STARTING
        assert after(process_state, TICK, now=3660.0).state is State.STOPPING

    def test_while_somebody_is_attached_it_is_counted_once(self) -> None:
        process_state = alive(web(health=replace(HEALTH, check=None, log=LOG)))
        process_state = after(process_state, TerminalOpened("web"), now=10.0)
        process_state = after(process_state, TimeLost(3600.0), now=3620.0)
        process_state = after(process_state, TerminalClosed("web"), now=3630.0)
        assert lifecycle.deadline(process_state) == 60.0 + 3620.0

    @pytest.mark.parametrize(("error", "state"), [(None, State.HEALTHY), ("refused", State.STARTING)])
    def test_a_check_that_it_interrupted_before_the_first_success_is_made_again(
        self, error: str | None, state: State
    ) -> None:
        process_state = after(alive(web(health=HEALTH)), TimeLost(3600.0), now=3600.0)
        process_state, actions = step(process_state, checked(process_state, error), 3600.0)
        assert (process_state.state, actions) == (state, [] if error is None else [StartCheck("web", 1)])

    def test_a_check_that_it_interrupted_is_made_again_and_does_not_count(self) -> None:
        process_state = healthy(health=replace(HEALTH, retries=1))
        process_state, actions = step(process_state, TICK, 10.0)
        assert actions == [StartCheck("web", 1)]
        process_state = after(process_state, TimeLost(3600.0), now=3611.0)
        process_state, actions = step(process_state, checked(process_state, "timed out"), 3611.0)
        assert (process_state.state, actions) == (State.HEALTHY, [StartCheck("web", 1)])
        # The check after that counts.
        assert after(process_state, checked(process_state, "refused"), now=3612.0).state is State.STOPPING

    def test_a_check_that_begins_after_it_counts(self) -> None:
        process_state = after(healthy(health=replace(HEALTH, retries=1)), TimeLost(3600.0), now=3605.0)
        process_state, actions = step(process_state, TICK, 3610.0)
        assert actions == [StartCheck("web", 1)]
        assert after(process_state, checked(process_state, "refused"), now=3611.0).state is State.STOPPING
