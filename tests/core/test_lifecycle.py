"""One process: tables and sequences over the pure rules; section by section what supervision promises."""

from __future__ import annotations

import pytest
from support.fleet_driver import HEALTH, SIGINT, SIGKILL, SIGTERM, TICK
from support.process_states import (
    ON_SIGNAL,
    PID,
    PREPARED,
    RESTART,
    SIGHUP,
    START,
    STOP,
    WATCH,
    after,
    alive,
    changed,
    checked,
    exited,
    failed_to_spawn,
    healthy,
    lingering,
    pending,
    restarting,
    signals,
    spawned,
    spawning,
    spawns,
    step,
    stopping,
    web,
)

from procreaper.core import lifecycle
from procreaper.core.events import (
    Action,
    Announce,
    CancelCheck,
    CancelPreparation,
    ChildExited,
    Event,
    Exit,
    FilesChanged,
    GroupEnded,
    PreparationEnded,
    RestartReason,
    RunPreparation,
    RunStopCommand,
    SendSignal,
    Shutdown,
    Spawn,
    Spawned,
    SpawnFailed,
    StartCheck,
    State,
    StopCommandFailed,
    TimeLost,
)
from procreaper.core.file_changes import PATIENCE
from procreaper.core.lifecycle import OUT_OF_REACH_AFTER
from procreaper.core.plan import Process, StopPolicy, Watch, When
from procreaper.core.state import Phase, ProcessState


class TestStarting:
    def test_a_process_that_nobody_asked_for_does_nothing(self) -> None:
        process_state = ProcessState(web())
        assert (process_state.state, process_state.phase, process_state.wanted, process_state.settled) == (
            State.STOPPED,
            Phase.NONE,
            False,
            True,
        )
        assert lifecycle.step(process_state, TICK, 1000.0) == (process_state, ())
        assert lifecycle.deadline(process_state) is None

    def test_start_makes_it_pending_until_the_fleet_launches_it(self) -> None:
        process_state, actions = lifecycle.step(ProcessState(web()), START, 0.0)
        assert (process_state.state, process_state.wanted, actions) == (State.PENDING, True, ())

    def test_launch_spawns_the_next_run(self) -> None:
        process_state, actions = lifecycle.launch(pending(web()))
        assert (process_state.state, process_state.phase, process_state.run, process_state.pid) == (
            State.STARTING,
            Phase.SPAWNING,
            1,
            None,
        )
        assert spawns(list(actions)) == [1]

    def test_spawned_makes_it_running(self) -> None:
        process_state = alive(web(), now=7.0)
        assert (process_state.state, process_state.phase, process_state.pid, process_state.up_since) == (
            State.RUNNING,
            Phase.ALIVE,
            PID + 1,
            7.0,
        )

    @pytest.mark.parametrize(
        "process_state", [pending(web()), spawning(web()), alive(web())], ids=lambda process_state: process_state.state
    )
    def test_start_leaves_alone_what_starts_or_runs_already(self, process_state: ProcessState) -> None:
        assert lifecycle.step(process_state, START, 1.0) == (process_state, ())

    @pytest.mark.parametrize("returncode", [0, 1])
    def test_start_after_the_end_runs_it_again_with_its_retries_cleared(self, returncode: int) -> None:
        process_state = alive(web())._replace(retries=3)
        process_state, actions = step(after(process_state, exited(process_state, returncode)), START)
        assert (
            process_state.state,
            process_state.run,
            process_state.retries,
            process_state.exit,
            process_state.end,
        ) == (State.STARTING, 2, 0, None, None)
        assert spawns(actions) == [2]

    def test_start_during_the_back_off_starts_at_once(self) -> None:
        process_state, actions = step(restarting(web(When.ALWAYS)), START, 0.5)
        assert (process_state.state, process_state.due, process_state.retries) == (State.STARTING, None, 0)
        assert spawns(actions) == [2]


class TestPolicy:
    @pytest.mark.parametrize(
        ("restart", "returncode", "state"),
        [
            (When.NEVER, 0, State.COMPLETED),
            (When.NEVER, 1, State.FAILED),
            (When.NEVER, 143, State.FAILED),
            (When.NEVER, -SIGTERM, State.FAILED),
            (When.NEVER, -SIGKILL, State.FAILED),
            (When.ON_FAILURE, 0, State.COMPLETED),
            (When.ON_FAILURE, 1, State.RESTARTING),
            (When.ON_FAILURE, 143, State.RESTARTING),
            (When.ON_FAILURE, -SIGTERM, State.RESTARTING),
            (When.ON_FAILURE, -SIGKILL, State.RESTARTING),
            (When.ALWAYS, 0, State.RESTARTING),
            (When.ALWAYS, 1, State.RESTARTING),
            (When.ALWAYS, -SIGTERM, State.RESTARTING),
            *((restart, code, State.FAILED) for restart in When for code in (126, 127)),
        ],
    )
    def test_end_of_a_run_by_itself_leads_to(self, restart: When, returncode: int, state: State) -> None:
        process_state = alive(web(restart))
        process_state, actions = step(process_state, exited(process_state, returncode))
        assert (process_state.state, process_state.phase, process_state.pid, actions) == (state, Phase.NONE, None, [])
        assert process_state.wanted is (state is State.RESTARTING)
        assert process_state.exit == Exit.of(returncode)

    @pytest.mark.parametrize("returncode", [143, -SIGTERM])
    def test_minus_15_and_143_are_the_same_success_code(self, returncode: int) -> None:
        process_state = alive(web(When.ON_FAILURE, success_codes=frozenset({0, 143})))
        assert after(process_state, exited(process_state, returncode)).state is State.COMPLETED

    def test_a_success_code_of_its_own_completes(self) -> None:
        process_state = alive(web(When.ON_FAILURE, success_codes=frozenset({0, 3})))
        assert after(process_state, exited(process_state, 3)).state is State.COMPLETED

    def test_zero_that_is_no_success_code_is_a_failure(self) -> None:
        process_state = alive(web(success_codes=frozenset({3})))
        assert after(process_state, exited(process_state, 0)).state is State.FAILED

    @pytest.mark.parametrize(
        ("returncode", "reason"),
        [
            (0, "exited with code 0"),
            (1, "exited with code 1"),
            (126, "not executable (exit code 126)"),
            (127, "command not found (exit code 127)"),
            (-SIGKILL, "killed by SIGKILL"),
        ],
    )
    def test_the_reason_says_how_it_ended(self, returncode: int, reason: str) -> None:
        process_state = alive(web())
        assert after(process_state, exited(process_state, returncode)).reason == reason

    @pytest.mark.parametrize("restart", When)
    def test_a_spawn_that_can_never_succeed_fails_at_once(self, restart: When) -> None:
        process_state = spawning(web(restart))
        process_state = after(process_state, failed_to_spawn(process_state, permanent=True))
        assert (process_state.state, process_state.phase, process_state.wanted) == (State.FAILED, Phase.NONE, False)
        assert (process_state.reason, process_state.exit) == ("no such file or directory", Exit(code=127))

    @pytest.mark.parametrize("restart", When)
    def test_a_spawn_that_failed_is_no_success_whatever_the_success_codes(self, restart: When) -> None:
        process_state = spawning(web(restart, success_codes=frozenset({0, 127})))
        assert after(process_state, failed_to_spawn(process_state, permanent=True)).state is State.FAILED

    @pytest.mark.parametrize(
        ("restart", "state"),
        [(When.NEVER, State.FAILED), (When.ON_FAILURE, State.RESTARTING), (When.ALWAYS, State.RESTARTING)],
    )
    def test_a_spawn_that_failed_for_now_follows_the_policy(self, restart: When, state: State) -> None:
        process_state = spawning(web(restart))
        process_state = after(process_state, failed_to_spawn(process_state, permanent=False))
        assert (process_state.state, process_state.phase) == (state, Phase.NONE)
        assert process_state.due == (2.0 if state is State.RESTARTING else None)


class TestBackOff:
    def test_the_waits_double_up_to_the_maximum(self) -> None:
        process_state, now, waits = alive(web(When.ON_FAILURE)), 0.0, []
        for _ in range(7):
            process_state = after(process_state, exited(process_state, 1), now=now)
            assert (process_state.state, process_state.wanted) == (State.RESTARTING, True)
            assert process_state.due is not None
            waits.append(process_state.due - now)
            now = process_state.due
            process_state = after(process_state, TICK, now=now)
            process_state = after(process_state, spawned(process_state), now=now)
        assert waits == [2, 4, 8, 16, 30, 30, 30]
        assert (process_state.retries, process_state.restarts, process_state.run) == (7, 7, 8)

    def test_a_clean_exit_under_always_waits_as_long_so_that_it_cannot_spin(self) -> None:
        process_state = alive(web(When.ALWAYS))
        process_state, actions = step(process_state, exited(process_state, 0), 10.0)
        assert (process_state.state, process_state.due, actions) == (State.RESTARTING, 12.0, [])

    def test_spawns_that_fail_for_now_wait_ever_longer(self) -> None:
        process_state, now, waits = spawning(web(When.ALWAYS)), 0.0, []
        for _ in range(4):
            process_state = after(process_state, failed_to_spawn(process_state, permanent=False), now=now)
            assert process_state.due is not None
            waits.append(process_state.due - now)
            now = process_state.due
            process_state = after(process_state, TICK, now=now)
        assert waits == [2, 4, 8, 16]

    def test_it_starts_when_its_wait_is_over_and_not_before(self) -> None:
        process_state = restarting(web(When.ALWAYS))
        assert lifecycle.deadline(process_state) == 2.0
        assert step(process_state, TICK, 1.999) == (process_state, [])
        process_state, actions = step(process_state, TICK, 2.0)
        assert (process_state.state, spawns(actions), lifecycle.deadline(process_state)) == (State.STARTING, [2], None)

    def test_a_late_tick_starts_it_once(self) -> None:
        process_state, actions = step(restarting(web(When.ALWAYS)), TICK, 1000.0)
        assert spawns(actions) == [2]
        assert step(process_state, TICK, 1000.0) == (process_state, [])

    @pytest.mark.parametrize(("up", "retries", "wait"), [(44.9, 4, 16.0), (45.0, 1, 2.0), (500.0, 1, 2.0)])
    def test_a_run_that_stayed_up_for_the_reset_time_clears_the_retries_and_the_wait(
        self, up: float, retries: int, wait: float
    ) -> None:
        process_state = alive(web(When.ON_FAILURE), now=100.0)._replace(retries=3, restarts=3)
        process_state = after(process_state, exited(process_state, 1), now=100.0 + up)
        assert (process_state.retries, process_state.restarts) == (retries, 4)
        assert process_state.due == 100.0 + up + wait

    def test_at_the_reset_time_the_retries_are_cleared_before_the_eyes_of_all(self) -> None:
        process_state = alive(web(When.ON_FAILURE), now=100.0)._replace(retries=3)
        assert lifecycle.deadline(process_state) == 145.0
        assert after(process_state, TICK, now=144.9).retries == 3
        process_state, actions = step(process_state, TICK, 145.0)
        assert (process_state.state, process_state.retries, actions, lifecycle.deadline(process_state)) == (
            State.RUNNING,
            0,
            [],
            None,
        )
        process_state = after(process_state, exited(process_state, 1), now=146.0)
        assert (process_state.retries, process_state.due) == (1, 148.0)

    def test_a_run_that_never_failed_has_nothing_to_clear_and_wakes_nobody(self) -> None:
        assert lifecycle.deadline(alive(web(When.ON_FAILURE))) is None

    def test_the_reset_time_counts_from_being_up_and_not_from_the_launch(self) -> None:
        process_state = spawning(web(When.ON_FAILURE))._replace(retries=3)
        process_state = after(process_state, spawned(process_state), now=40.0)
        assert after(process_state, exited(process_state, 1), now=50.0).retries == 4

    def test_the_reason_names_the_cause_the_retry_and_the_wait(self) -> None:
        process_state = restarting(web(When.ALWAYS, max_retries=5))
        assert process_state.reason == "exited with code 1; retry 1/5 in 2.0 s"
        assert restarting(web(When.ALWAYS)).reason == "exited with code 1; retry 1 in 2.0 s"

    @pytest.mark.parametrize("most", [0, 1, 2, 5])
    @pytest.mark.parametrize("returncode", [0, 1])
    def test_after_max_retries_it_has_failed(self, most: int, returncode: int) -> None:
        process_state, now = alive(web(When.ALWAYS, max_retries=most)), 0.0
        runs = 1
        while True:
            process_state = after(process_state, exited(process_state, returncode), now=now)
            if process_state.state is not State.RESTARTING:
                break
            assert process_state.due is not None
            now = process_state.due
            process_state = after(process_state, TICK, now=now)
            process_state = after(process_state, spawned(process_state), now=now)
            runs += 1
        assert runs == most + 1
        assert (process_state.state, process_state.wanted, process_state.due) == (State.FAILED, False, None)
        assert (
            process_state.reason
            == f"exited with code {returncode}; gave up after {most} {'retry' if most == 1 else 'retries'}"
        )

    def test_a_long_run_gives_all_retries_back(self) -> None:
        process_state = alive(web(When.ON_FAILURE, max_retries=2))._replace(retries=2)
        assert after(process_state, exited(process_state, 1), now=44.0).state is State.FAILED
        assert after(process_state, exited(process_state, 1), now=45.0).state is State.RESTARTING


class TestStop:
    def test_stop_signals_the_group_and_waits(self) -> None:
        process_state, actions = step(alive(web()), STOP, 10.0)
        assert (process_state.state, process_state.wanted, lifecycle.deadline(process_state)) == (
            State.STOPPING,
            False,
            15.0,
        )
        assert actions == [SendSignal("web", 1, PID + 1, SIGTERM)]

    def test_stop_uses_the_signal_and_the_timeout_of_the_process(self) -> None:
        process_state, actions = step(alive(web(stop=StopPolicy(SIGINT, 60.0))), STOP, 10.0)
        assert (signals(actions), process_state.due) == ([SIGINT], 70.0)

    @pytest.mark.parametrize("restart", When)
    @pytest.mark.parametrize("returncode", [0, 1, 127, 143, -SIGTERM, -SIGKILL])
    def test_killed_on_request_is_stopped_whatever_the_policy_and_the_code(
        self, restart: When, returncode: int
    ) -> None:
        process_state = stopping(web(restart))
        process_state, actions = step(process_state, exited(process_state, returncode), 1.0)
        assert (process_state.state, process_state.phase, process_state.due, actions) == (
            State.STOPPED,
            Phase.NONE,
            None,
            [],
        )
        assert (process_state.settled, process_state.end, process_state.exit) == (True, None, Exit.of(returncode))

    def test_stop_while_pending_takes_effect_at_once(self) -> None:
        process_state, actions = step(pending(web()), STOP)
        assert (process_state.state, process_state.wanted, actions) == (State.STOPPED, False, [])

    def test_stop_during_the_back_off_cancels_the_retry(self) -> None:
        process_state, actions = step(restarting(web(When.ALWAYS)), STOP)
        assert (process_state.state, process_state.due, actions) == (State.STOPPED, None, [])
        assert step(process_state, TICK, 1000.0) == (process_state, [])

    def test_stop_during_the_spawn_signals_the_child_as_soon_as_it_is_there(self) -> None:
        process_state, actions = step(spawning(web(When.ALWAYS)), STOP, 1.0)
        assert (process_state.state, process_state.phase, process_state.due, actions) == (
            State.STOPPING,
            Phase.SPAWNING,
            None,
            [],
        )
        process_state, actions = step(process_state, spawned(process_state), 2.0)
        assert (process_state.state, signals(actions), process_state.due) == (State.STOPPING, [SIGTERM], 7.0)
        assert after(process_state, exited(process_state, -SIGTERM)).state is State.STOPPED

    @pytest.mark.parametrize("permanent", [True, False])
    def test_stop_during_a_spawn_that_fails_is_stopped(self, permanent: bool) -> None:
        process_state = after(spawning(web(When.ALWAYS)), STOP)
        process_state, actions = step(process_state, failed_to_spawn(process_state, permanent=permanent))
        assert (process_state.state, process_state.end, process_state.due, actions) == (State.STOPPED, None, None, [])

    def test_stop_while_its_leftovers_end_cancels_the_retry(self) -> None:
        process_state, actions = step(lingering(web(When.ALWAYS)), STOP, 1.0)
        assert (process_state.wanted, actions) == (False, [])
        process_state, actions = step(process_state, GroupEnded("web", 1), 2.0)
        assert (process_state.state, process_state.due, actions) == (State.STOPPED, None, [])

    def test_a_second_stop_neither_signals_again_nor_puts_off_the_kill(self) -> None:
        process_state = stopping(web())
        assert step(process_state, STOP, 4.0) == (process_state, [])

    @pytest.mark.parametrize(("returncode", "state"), [(0, State.COMPLETED), (1, State.FAILED)])
    def test_stop_leaves_the_verdict_of_what_ended_by_itself(self, returncode: int, state: State) -> None:
        process_state = alive(web())
        process_state = after(process_state, exited(process_state, returncode))
        process_state, actions = step(process_state, STOP)
        assert (process_state.state, process_state.reason, actions) == (state, f"exited with code {returncode}", [])

    def test_shutdown_stops_as_stop_does(self) -> None:
        for process_state in (
            pending(web()),
            restarting(web(When.ALWAYS)),
            spawning(web()),
            alive(web()),
            lingering(web()),
        ):
            assert step(process_state, Shutdown(0), 3.0) == step(process_state, STOP, 3.0)


class TestEscalation:
    def test_what_ignores_the_signal_is_killed_at_its_timeout_and_not_before(self) -> None:
        process_state = stopping(web())
        assert step(process_state, TICK, 4.999) == (process_state, [])
        process_state, actions = step(process_state, TICK, 5.0)
        assert actions == [SendSignal("web", 1, PID + 1, SIGKILL)]
        assert (process_state.state, process_state.phase, process_state.due) == (
            State.STOPPING,
            Phase.ALIVE,
            5.0 + OUT_OF_REACH_AFTER,
        )
        assert after(process_state, exited(process_state, -SIGKILL)).state is State.STOPPED

    def test_a_survivor_of_the_kill_stays_stopping_and_is_reported(self) -> None:
        process_state = after(stopping(web()), TICK, now=5.0)
        process_state, actions = step(process_state, TICK, 5.0 + OUT_OF_REACH_AFTER)
        assert (process_state.state, process_state.out_of_reach, process_state.reason) == (
            State.STOPPING,
            True,
            "still there after SIGKILL",
        )
        assert (actions, lifecycle.deadline(process_state)) == ([], None)

    def test_a_survivor_gets_no_twin_until_it_is_gone(self) -> None:
        process_state = after(stopping(web()), TICK, now=5.0)
        process_state = after(process_state, TICK, now=10.0)
        for request in (START, RESTART):
            process_state, actions = step(process_state, request, 20.0)
            assert (process_state.state, process_state.out_of_reach, actions) == (State.STOPPING, True, [])
        process_state, actions = step(process_state, exited(process_state, -SIGKILL), 30.0)
        assert (process_state.state, process_state.out_of_reach, spawns(actions)) == (State.STARTING, False, [2])

    def test_a_survivor_that_dies_in_the_end_is_stopped(self) -> None:
        process_state = after(after(stopping(web()), TICK, now=5.0), TICK, now=10.0)
        process_state = after(process_state, exited(process_state, -SIGKILL))
        assert (process_state.state, process_state.out_of_reach, process_state.settled) == (State.STOPPED, False, True)

    def test_grandchildren_of_a_stopped_child_keep_it_stopping_and_are_killed_too(self) -> None:
        process_state = stopping(web())
        process_state, actions = step(process_state, exited(process_state, -SIGTERM, leftovers=True), 1.0)
        assert (process_state.state, process_state.phase, process_state.due, actions) == (
            State.STOPPING,
            Phase.LINGERING,
            5.0,
            [],
        )
        process_state, actions = step(process_state, TICK, 5.0)
        assert actions == [SendSignal("web", 1, PID + 1, SIGKILL)]
        assert after(process_state, GroupEnded("web", 1)).state is State.STOPPED

    def test_kill_skips_the_polite_signal(self) -> None:
        process_state, actions = lifecycle.kill(alive(web()), 1.0)
        assert (process_state.state, process_state.wanted, signals(list(actions))) == (State.STOPPING, False, [SIGKILL])
        assert process_state.due == 1.0 + OUT_OF_REACH_AFTER

    def test_kill_does_not_wait_for_the_timeout_of_a_stop(self) -> None:
        _, actions = lifecycle.kill(stopping(web()), 1.0)
        assert signals(list(actions)) == [SIGKILL]

    def test_kill_reaches_leftovers(self) -> None:
        _, actions = lifecycle.kill(lingering(web()), 1.0)
        assert signals(list(actions)) == [SIGKILL]

    def test_kill_during_the_spawn_kills_the_child_as_soon_as_it_is_there(self) -> None:
        process_state, actions = lifecycle.kill(spawning(web()), 1.0)
        assert actions == ()
        process_state, sent = step(process_state, spawned(process_state), 2.0)
        assert (process_state.state, signals(sent), process_state.due) == (
            State.STOPPING,
            [SIGKILL],
            2.0 + OUT_OF_REACH_AFTER,
        )

    def test_a_second_kill_adds_nothing(self) -> None:
        process_state, _ = lifecycle.kill(alive(web()), 1.0)
        assert lifecycle.kill(process_state, 2.0) == (process_state, ())

    @pytest.mark.parametrize(
        "process_state", [pending(web()), restarting(web(When.ALWAYS))], ids=lambda process_state: process_state.state
    )
    def test_kill_of_what_has_no_child_stops_it(self, process_state: ProcessState) -> None:
        process_state, actions = lifecycle.kill(process_state, 1.0)
        assert (process_state.state, process_state.due, actions) == (State.STOPPED, None, ())


class TestLeftovers:
    def test_leftovers_of_a_crash_are_asked_to_end(self) -> None:
        process_state = alive(web(When.ALWAYS))
        process_state, actions = step(process_state, exited(process_state, 1, leftovers=True), 10.0)
        assert (process_state.state, process_state.phase, process_state.due) == (State.STOPPING, Phase.LINGERING, 15.0)
        assert actions == [SendSignal("web", 1, PID + 1, SIGTERM)]
        assert process_state.reason == "exited with code 1; ending what it left running"

    def test_nothing_new_starts_before_the_leftovers_are_gone(self) -> None:
        process_state = lingering(web(When.ALWAYS))
        process_state, actions = step(process_state, TICK, 5.0)
        assert signals(actions) == [SIGKILL]
        process_state, actions = step(process_state, TICK, 10.0)
        assert (actions, process_state.out_of_reach) == ([], True)
        process_state, actions = step(process_state, GroupEnded("web", 1), 60.0)
        assert (process_state.state, process_state.due, actions) == (State.RESTARTING, 62.0, [])
        process_state, actions = step(process_state, TICK, 62.0)
        assert spawns(actions) == [2]

    @pytest.mark.parametrize(
        ("restart", "returncode", "state"),
        [
            (When.NEVER, 0, State.COMPLETED),
            (When.NEVER, 1, State.FAILED),
            (When.ON_FAILURE, 0, State.COMPLETED),
            (When.ON_FAILURE, 1, State.RESTARTING),
            (When.ALWAYS, 0, State.RESTARTING),
            (When.ALWAYS, 127, State.FAILED),
        ],
    )
    def test_the_verdict_on_the_child_becomes_the_state_when_the_group_is_gone(
        self, restart: When, returncode: int, state: State
    ) -> None:
        process_state = lingering(web(restart), returncode)
        assert process_state.state is State.STOPPING
        assert after(process_state, GroupEnded("web", 1)).state is state

    @pytest.mark.parametrize(
        ("restart", "reason"),
        [(When.NEVER, "exited with code 1"), (When.ALWAYS, "exited with code 1; retry 1 in 2.0 s")],
    )
    @pytest.mark.parametrize("ticks", [(), (5.0,), (5.0, 10.0)], ids=["obedient", "killed", "out of reach"])
    def test_when_they_are_gone_the_reason_is_how_the_child_ended(
        self, restart: When, reason: str, ticks: tuple[float, ...]
    ) -> None:
        process_state = lingering(web(restart))
        for now in ticks:
            process_state = after(process_state, TICK, now=now)
        assert after(process_state, GroupEnded("web", 1), now=11.0).reason == reason

    def test_the_time_that_leftovers_take_is_no_time_of_being_up(self) -> None:
        process_state = alive(web(When.ALWAYS))._replace(retries=3)
        process_state = after(process_state, exited(process_state, 1, leftovers=True), now=1.0)
        process_state = after(process_state, GroupEnded("web", 1), now=100.0)
        assert (process_state.retries, process_state.due) == (4, 116.0)


class TestRestart:
    def test_restart_of_a_running_process_stops_it_and_starts_it_when_it_is_gone(self) -> None:
        process_state, actions = step(alive(web()), RESTART, 1.0)
        assert (process_state.state, process_state.wanted, signals(actions)) == (State.STOPPING, True, [SIGTERM])
        process_state, actions = step(process_state, exited(process_state, -SIGTERM), 2.0)
        assert (process_state.state, spawns(actions), process_state.restarts) == (State.STARTING, [2], 1)

    def test_restart_waits_for_the_whole_group(self) -> None:
        process_state = after(alive(web()), RESTART)
        process_state, actions = step(process_state, exited(process_state, -SIGTERM, leftovers=True))
        assert actions == []
        process_state, actions = step(process_state, TICK, 5.0)
        assert signals(actions) == [SIGKILL]
        process_state, actions = step(process_state, GroupEnded("web", 1))
        assert spawns(actions) == [2]

    @pytest.mark.parametrize("returncode", [0, 1, 127, -SIGKILL])
    @pytest.mark.parametrize("restart", When)
    def test_restart_is_no_failure_and_skips_the_back_off_and_clears_the_retries(
        self, restart: When, returncode: int
    ) -> None:
        process_state = after(alive(web(restart, max_retries=3))._replace(retries=3), RESTART)
        process_state, actions = step(process_state, exited(process_state, returncode))
        assert (process_state.state, process_state.retries, process_state.due, spawns(actions)) == (
            State.STARTING,
            0,
            None,
            [2],
        )

    def test_restart_during_the_back_off_starts_at_once(self) -> None:
        process_state, actions = step(restarting(web(When.ALWAYS))._replace(retries=4), RESTART, 0.5)
        assert (process_state.state, process_state.due, process_state.retries, spawns(actions)) == (
            State.STARTING,
            None,
            0,
            [2],
        )

    def test_restart_during_the_spawn_starts_again_after_that_run(self) -> None:
        process_state, actions = step(spawning(web()), RESTART)
        assert (process_state.state, actions) == (State.STOPPING, [])
        process_state, actions = step(process_state, spawned(process_state))
        assert signals(actions) == [SIGTERM]
        process_state, actions = step(process_state, exited(process_state, -SIGTERM))
        assert spawns(actions) == [2]

    def test_restart_during_a_spawn_that_fails_starts_again(self) -> None:
        process_state = after(spawning(web()), RESTART)
        process_state, actions = step(process_state, failed_to_spawn(process_state, permanent=True))
        assert (process_state.state, spawns(actions)) == (State.STARTING, [2])

    @pytest.mark.parametrize("returncode", [0, 1])
    def test_restart_of_what_has_ended_starts_it(self, returncode: int) -> None:
        process_state = alive(web())
        _, actions = step(after(process_state, exited(process_state, returncode)), RESTART)
        assert spawns(actions) == [2]

    def test_restart_of_what_was_stopped_starts_it(self) -> None:
        process_state = stopping(web())
        _, actions = step(after(process_state, exited(process_state, 0)), RESTART)
        assert spawns(actions) == [2]

    def test_restart_of_a_pending_process_clears_its_retries(self) -> None:
        process_state, actions = lifecycle.step(pending(web())._replace(retries=2), RESTART, 0.0)
        assert (process_state.state, process_state.retries, actions) == (State.PENDING, 0, ())

    @pytest.mark.parametrize("returncode", [0, 1, 127])
    def test_restart_while_its_leftovers_end_starts_it_when_they_are_gone(self, returncode: int) -> None:
        process_state, actions = step(lingering(web(), returncode), RESTART, 1.0)
        assert (process_state.state, actions) == (State.STOPPING, [])
        process_state, actions = step(process_state, GroupEnded("web", 1), 2.0)
        assert (process_state.state, spawns(actions)) == (State.STARTING, [2])

    @pytest.mark.parametrize("request_", [START, RESTART], ids=["start", "restart"])
    def test_a_stop_after_that_means_stopped_and_no_longer_what_it_had_come_to(self, request_: Event) -> None:
        process_state = after(lingering(web()), request_, STOP)
        assert after(process_state, GroupEnded("web", 1)).state is State.STOPPED

    def test_restarts_join(self) -> None:
        process_state = after(alive(web()), RESTART, RESTART, RESTART)
        process_state, actions = step(process_state, exited(process_state, -SIGTERM))
        assert spawns(actions) == [2]
        process_state = after(process_state, spawned(process_state))
        assert (process_state.state, process_state.run, process_state.restarts) == (State.RUNNING, 2, 1)

    @pytest.mark.parametrize("request_", [START, RESTART], ids=["start", "restart"])
    def test_start_while_stopping_is_a_restart_after_the_group_is_gone(self, request_: Event) -> None:
        process_state, actions = step(stopping(web()), request_, 1.0)
        assert (process_state.state, process_state.wanted, process_state.due, actions) == (
            State.STOPPING,
            True,
            5.0,
            [],
        )
        process_state, actions = step(process_state, exited(process_state, -SIGTERM, leftovers=True), 2.0)
        assert actions == []
        process_state, actions = step(process_state, GroupEnded("web", 1), 3.0)
        assert (process_state.state, spawns(actions)) == (State.STARTING, [2])

    @pytest.mark.parametrize("request_", [START, RESTART], ids=["start", "restart"])
    def test_start_while_stopping_clears_the_retries(self, request_: Event) -> None:
        process_state = after(alive(web(When.ON_FAILURE, max_retries=2))._replace(retries=2), STOP, request_)
        process_state = after(process_state, exited(process_state, -SIGTERM))
        assert (process_state.state, process_state.retries) == (State.STARTING, 0)

    @pytest.mark.parametrize(
        "process_state",
        [
            pending(web()),
            spawning(web()),
            alive(web()),
            stopping(web()),
            lingering(web(When.ALWAYS)),
            restarting(web(When.ALWAYS)),
        ],
        ids=["pending", "spawning", "alive", "stopping", "lingering", "restarting"],
    )
    def test_a_later_stop_beats_a_restart(self, process_state: ProcessState) -> None:
        process_state = lifecycle.step(lifecycle.step(process_state, RESTART, 0.0)[0], STOP, 0.0)[0]
        assert process_state.wanted is False
        for fact in (
            spawned(process_state),
            exited(process_state, 1, leftovers=True),
            GroupEnded("web", process_state.run),
            TICK,
        ):
            process_state, actions = lifecycle.step(process_state, fact, 100.0)
            assert not any(isinstance(action, Spawn) for action in actions)
        assert (process_state.state, process_state.settled) == (State.STOPPED, True)

    def test_a_later_restart_beats_a_stop(self) -> None:
        process_state = after(alive(web()), RESTART, STOP, RESTART)
        _, actions = step(process_state, exited(process_state, -SIGTERM))
        assert spawns(actions) == [2]


class TestWhyItIsRestarted:
    """Each new run that is counted in `restarts` has a reason, which is that of the latest who wanted it."""

    def test_because_it_ended_by_itself(self) -> None:
        process_state = restarting(web(When.ALWAYS))
        assert (process_state.restarts, process_state.because) == (1, RestartReason.EXIT)

    @pytest.mark.parametrize("passed", [False, True])
    def test_because_it_was_not_healthy(self, passed: bool) -> None:
        process_state = healthy() if passed else alive(web(When.ALWAYS, health=HEALTH))
        for number in range(1, HEALTH.retries + 1):
            now = number * 100.0
            process_state = after(process_state, TICK, now=now)
            process_state = (
                after(process_state, checked(process_state, "no answer"), now=now) if passed else process_state
            )
        process_state = after(process_state, exited(process_state, -SIGTERM))
        assert (process_state.state, process_state.restarts, process_state.because) == (
            State.RESTARTING,
            1,
            RestartReason.UNHEALTHY,
        )

    def test_because_somebody_asked_for_it(self) -> None:
        process_state = after(alive(web()), RESTART)
        process_state = after(process_state, exited(process_state, 0))
        assert (process_state.restarts, process_state.because) == (1, RestartReason.MANUAL)

    def test_because_somebody_wanted_it_again_while_it_stopped(self) -> None:
        process_state = after(stopping(web()), START)
        process_state = after(process_state, exited(process_state, 0))
        assert (process_state.restarts, process_state.because) == (1, RestartReason.MANUAL)

    def test_because_files_have_changed(self) -> None:
        process_state = after(after(alive(watched()), changed()), TICK, now=WAITED)
        process_state = after(process_state, exited(process_state, 0))
        assert (process_state.restarts, process_state.because) == (1, RestartReason.CHANGE)

    def test_because_its_dependency_was_restarted(self) -> None:
        process_state, _ = lifecycle.restart_along(alive(web()))
        process_state = after(process_state, exited(process_state, 0))
        assert (process_state.restarts, process_state.because) == (1, RestartReason.DEPENDENCY)

    def test_a_crash_after_a_restart_by_hand_has_its_own(self) -> None:
        process_state = after(alive(web(When.ALWAYS)), RESTART)
        process_state = after(process_state, exited(process_state, 0))
        process_state = after(process_state, spawned(process_state))
        process_state = after(process_state, exited(process_state, 1))
        assert (process_state.restarts, process_state.because) == (2, RestartReason.EXIT)


class TestStopCommand:
    ENDING = StopPolicy(SIGINT, 3.0, command="ask it nicely")

    def test_it_is_run_instead_of_the_signal_and_the_kill_still_follows(self) -> None:
        process_state, actions = step(alive(web(stop=self.ENDING)), STOP, 1.0)
        assert (process_state.state, process_state.due, actions) == (State.STOPPING, 4.0, [RunStopCommand("web", 1)])
        assert step(process_state, STOP, 2.0) == (process_state, [])
        _, actions = step(process_state, TICK, 4.0)
        assert actions == [SendSignal("web", 1, PID + 1, SIGKILL)]

    def test_where_it_fails_the_signal_follows_in_the_time_that_is_left(self) -> None:
        process_state = after(alive(web(stop=self.ENDING)), STOP, now=1.0)
        assert step(process_state, StopCommandFailed("web", 2), 2.0) == (process_state, [])
        told, actions = step(process_state, StopCommandFailed("web", 1), 2.0)
        assert (told, actions) == (process_state, [SendSignal("web", 1, PID + 1, SIGINT)])
        assert process_state.due == 4.0

    def test_where_it_fails_too_late_nothing_follows(self) -> None:
        process_state = after(alive(web(stop=self.ENDING)), STOP, now=1.0)
        killed = after(process_state, TICK, now=4.0)
        assert step(killed, StopCommandFailed("web", 1), 4.5) == (killed, [])
        stopped = after(process_state, exited(process_state, 0))
        assert step(stopped, StopCommandFailed("web", 1), 4.5) == (stopped, [])
        leaving = after(process_state, exited(process_state, 0, leftovers=True))
        assert step(leaving, StopCommandFailed("web", 1), 4.5) == (leaving, [])

    def test_a_child_that_obeys_it_is_stopped(self) -> None:
        process_state = after(alive(web(When.ALWAYS, stop=self.ENDING)), STOP)
        assert after(process_state, exited(process_state, 3)).state is State.STOPPED

    def test_it_is_not_run_for_leftovers_which_get_the_signal(self) -> None:
        process_state = alive(web(stop=self.ENDING))
        _, actions = step(process_state, exited(process_state, 1, leftovers=True))
        assert actions == [SendSignal("web", 1, PID + 1, SIGINT)]

    def test_the_second_signal_does_not_wait_for_it(self) -> None:
        process_state = after(alive(web(stop=self.ENDING)), STOP)
        assert lifecycle.kill(process_state, 1.0)[1] == (SendSignal("web", 1, PID + 1, SIGKILL),)

    def test_leftovers_of_a_child_that_did_as_asked_are_told_by_signal_in_the_time_that_is_left(self) -> None:
        process_state, _ = step(alive(web(stop=self.ENDING)), STOP, 1.0)
        due = process_state.due
        process_state, actions = step(process_state, exited(process_state, 0, leftovers=True), 2.0)
        assert actions == [SendSignal("web", 1, PID + 1, self.ENDING.signal)]
        assert (process_state.state, process_state.due) == (State.STOPPING, due)


class TestOnlyMain:
    ENDING = StopPolicy(SIGTERM, 5.0, only_main=True)

    def test_the_signal_goes_to_the_child_alone_and_the_kill_to_all(self) -> None:
        process_state, actions = step(alive(web(stop=self.ENDING)), STOP)
        assert actions == [SendSignal("web", 1, PID + 1, SIGTERM, only_main=True)]
        process_state, actions = step(process_state, exited(process_state, 0, leftovers=True), 1.0)
        assert (process_state.state, process_state.due, actions) == (State.STOPPING, 5.0, [])
        _, actions = step(process_state, TICK, 5.0)
        assert actions == [SendSignal("web", 1, PID + 1, SIGKILL)]

    def test_leftovers_of_a_crash_have_no_main_and_are_all_told(self) -> None:
        process_state = alive(web(stop=self.ENDING))
        _, actions = step(process_state, exited(process_state, 1, leftovers=True))
        assert actions == [SendSignal("web", 1, PID + 1, SIGTERM)]


class TestStaleFacts:
    @pytest.mark.parametrize(
        "process_state",
        [
            pending(web())._replace(run=2),
            spawning(web())._replace(run=2),
            alive(web())._replace(run=2),
            lingering(web())._replace(run=2),
            stopping(web())._replace(run=2),
            restarting(web(When.ALWAYS))._replace(run=2),
        ],
        ids=["pending", "spawning", "alive", "lingering", "stopping", "restarting"],
    )
    @pytest.mark.parametrize("run", [0, 1, 3])
    def test_a_fact_of_another_run_changes_nothing(self, process_state: ProcessState, run: int) -> None:
        for fact in (
            Spawned("web", run, 1),
            SpawnFailed("web", run, "no memory", 126, permanent=True),
            ChildExited("web", run, Exit(code=1), leftovers=False),
            GroupEnded("web", run),
        ):
            assert lifecycle.step(process_state, fact, 1.0) == (process_state, ())

    @pytest.mark.parametrize(
        ("process_state", "impossible"),
        [
            (spawning(web()), "exited ended"),
            (alive(web()), "spawned failed ended"),
            (lingering(web()), "spawned failed exited"),
            (restarting(web(When.ALWAYS)), "spawned failed exited ended"),
        ],
        ids=["spawning", "alive", "lingering", "restarting"],
    )
    def test_a_fact_out_of_turn_changes_nothing(self, process_state: ProcessState, impossible: str) -> None:
        facts: dict[str, Event] = {
            "spawned": Spawned("web", 1, 1),
            "failed": SpawnFailed("web", 1, "no memory", 126, permanent=True),
            "exited": ChildExited("web", 1, Exit(code=1), leftovers=True),
            "ended": GroupEnded("web", 1),
        }
        for word in impossible.split():
            assert lifecycle.step(process_state, facts[word], 1.0) == (process_state, ())


HEALTHY_WATCH = Process("web", "run", health=HEALTH, watch=WATCH)
WAITED = 0.05


def watched(restart: When = When.NEVER, watch: Watch = WATCH) -> Process:
    return web(restart, watch=watch)


def spoken(actions: list[Action]) -> tuple[list[str], list[Action]]:
    """What is said, and what is done."""
    said = [action.text for action in actions if isinstance(action, Announce)]
    return said, [action for action in actions if not isinstance(action, Announce)]


def changed_and_waited(
    process_state: ProcessState, *paths: str, now: float = 0.0
) -> tuple[ProcessState, list[str], list[Action]]:
    """Files change, and then nothing for as long as it takes."""
    process_state, nothing = step(process_state, changed(*paths), now)
    assert nothing == []
    process_state, actions = step(process_state, TICK, now + WAITED)
    return process_state, *spoken(actions)


def prepared(*, succeeded: bool) -> PreparationEnded:
    return PreparationEnded("web", succeeded)


class TestChangedFiles:
    def test_a_change_waits_until_it_is_quiet(self) -> None:
        process_state = after(alive(watched()), changed(), now=10.0)
        assert (process_state.state, lifecycle.deadline(process_state)) == (State.RUNNING, 10.05)
        process_state = after(process_state, changed("b.py"), now=10.04)
        assert lifecycle.deadline(process_state) == 10.09
        assert step(process_state, TICK, 10.08) == (process_state, [])

    def test_then_it_restarts_and_names_the_file_and_how_many_others(self) -> None:
        process_state, said, done = changed_and_waited(alive(watched()), "app.py", "b.py", "c.py")
        assert said == ["app.py and 2 others changed; restarting"]
        assert (process_state.state, process_state.wanted, signals(done), process_state.change) == (
            State.STOPPING,
            True,
            [SIGTERM],
            None,
        )
        process_state, actions = step(process_state, exited(process_state, -SIGTERM), 1.0)
        assert (process_state.state, spawns(actions), process_state.restarts) == (State.STARTING, [2], 1)

    def test_what_is_not_watched_does_not_care(self) -> None:
        process_state = alive(web())
        assert lifecycle.step(process_state, changed(), 0.0) == (process_state, ())

    def test_no_file_is_no_change(self) -> None:
        process_state = alive(watched())
        assert lifecycle.step(process_state, FilesChanged({"web": ()}), 0.0) == (process_state, ())

    def test_a_spawn_under_way_is_restarted_when_it_is_there(self) -> None:
        process_state, said, done = changed_and_waited(spawning(watched()))
        assert (process_state.state, process_state.phase, said, done) == (
            State.STOPPING,
            Phase.SPAWNING,
            ["app.py changed; restarting"],
            [],
        )
        process_state, actions = step(process_state, spawned(process_state), 1.0)
        assert signals(actions) == [SIGTERM]
        assert spawns(step(process_state, exited(process_state, -SIGTERM), 2.0)[1]) == [2]

    @pytest.mark.parametrize("outcome", ["starting", "healthy", "unhealthy"])
    def test_whatever_its_health_it_is_restarted(self, outcome: str) -> None:
        process_state = alive(HEALTHY_WATCH)
        if outcome != "starting":
            process_state = after(process_state, checked(process_state))
        if outcome == "unhealthy":
            for now in (10.0, 20.0, 30.0):
                process_state = after(process_state, TICK, now=now)
                process_state = after(process_state, checked(process_state, "refused"), now=now)
        assert process_state.state == outcome
        process_state, _ = step(process_state, changed(), 31.0)
        process_state, actions = step(process_state, TICK, 31.05)
        said, done = spoken(actions)
        assert said == ["app.py changed; restarting"]
        assert done[-1] == SendSignal("web", 1, PID + 1, SIGTERM)
        assert done[:-1] in ([], [CancelCheck("web", 1)])

    @pytest.mark.parametrize("returncode", [0, 1, 127])
    def test_what_has_ended_is_started_by_the_next_save_and_says_that_it_waits_for_it(self, returncode: int) -> None:
        process_state = alive(watched())
        process_state = after(process_state, exited(process_state, returncode))
        assert process_state.reason.endswith("; starts again when its files change")
        assert lifecycle.deadline(process_state) is None
        process_state, said, done = changed_and_waited(process_state, now=100.0)
        assert (process_state.state, said, spawns(done)) == (State.STARTING, ["app.py changed; starting"], [2])

    def test_a_oneshot_that_has_completed_does_not_say_so(self) -> None:
        process_state = alive(watched()._replace(oneshot=True))
        assert after(process_state, exited(process_state, 0)).reason == "exited with code 0"

    def test_what_could_not_be_spawned_waits_as_well(self) -> None:
        process_state = spawning(watched())
        process_state = after(process_state, failed_to_spawn(process_state, permanent=True))
        assert spawns(changed_and_waited(process_state)[2]) == [2]

    def test_a_change_skips_the_back_off_and_clears_the_retries(self) -> None:
        process_state = restarting(watched(When.ALWAYS))._replace(retries=5, due=30.0)
        process_state, said, done = changed_and_waited(process_state, now=1.0)
        assert (said, spawns(done)) == (["app.py changed; starting"], [2])
        assert (process_state.retries, process_state.due) == (0, None)

    def test_a_change_while_the_back_off_ends_is_known_to_the_run_that_it_begins(self) -> None:
        process_state = restarting(watched(When.ALWAYS))
        process_state = after(process_state, changed(), now=1.99)
        process_state, actions = step(process_state, TICK, 2.0)
        assert (spawns(actions), process_state.change, lifecycle.deadline(process_state)) == ([2], None, None)

    def test_what_ends_after_a_crash_starts_again_when_it_is_gone_and_it_is_no_failure(self) -> None:
        process_state, said, done = changed_and_waited(lingering(watched()))
        assert (said, done) == (["app.py changed; restarting"], [])
        process_state, actions = step(process_state, GroupEnded("web", 1), 1.0)
        assert (process_state.retries, process_state.end, spawns(actions)) == (0, None, [2])

    def test_a_change_during_a_restart_is_one_restart(self) -> None:
        process_state = after(alive(watched()), RESTART)
        process_state, said, done = changed_and_waited(process_state)
        assert (said, done, process_state.change) == ([], [], None)
        assert spawns(step(process_state, exited(process_state, -SIGTERM), 1.0)[1]) == [2]

    def test_a_change_just_before_the_next_run_is_known_to_it(self) -> None:
        process_state = after(alive(watched()), RESTART, changed())
        process_state, actions = step(process_state, exited(process_state, -SIGTERM), 0.01)
        assert (spawns(actions), process_state.change, lifecycle.deadline(process_state)) == ([2], None, None)

    def test_a_change_and_a_restart_by_hand_are_one_restart(self) -> None:
        process_state = after(alive(watched()), changed())
        process_state, actions = step(process_state, RESTART, 0.01)
        assert signals(actions) == [SIGTERM]
        process_state, actions = step(process_state, TICK, WAITED)
        assert actions == []
        process_state, actions = step(process_state, exited(process_state, -SIGTERM), 1.0)
        assert (spawns(actions), lifecycle.deadline(process_state)) == ([2], None)

    def test_changes_do_not_wait_for_quiet_for_ever(self) -> None:
        process_state, now = alive(watched()), 0.0
        while process_state.state is State.RUNNING:
            process_state = after(process_state, changed(), TICK, now=now)
            now += 0.04
        assert PATIENCE <= now < PATIENCE + 0.1

    def test_a_change_while_it_waits_for_its_launch_is_nothing_to_tell(self) -> None:
        process_state = after(pending(watched()), now=0.0)
        process_state, _ = lifecycle.step(process_state, changed(), 0.0)
        process_state, actions = lifecycle.step(process_state, TICK, WAITED)
        assert (process_state.state, actions, process_state.change) == (State.PENDING, (), None)

    def test_a_change_and_its_health_check_can_be_due_together(self) -> None:
        process_state = after(healthy_and_watched(ON_SIGNAL), changed(), now=9.95)
        process_state, actions = step(process_state, TICK, 10.0)
        assert [type(action) for action in actions] == [Announce, SendSignal, StartCheck]
        assert lifecycle.deadline(process_state) is None

    def test_a_change_and_its_kill_can_be_due_together(self) -> None:
        process_state = after(alive(watched()), RESTART, now=0.0)
        process_state = after(process_state, changed(), now=4.95)
        process_state, actions = step(process_state, TICK, 5.0)
        assert signals(actions) == [SIGKILL]
        assert process_state.change is None


def healthy_and_watched(watch: Watch) -> ProcessState:
    process_state = alive(HEALTHY_WATCH._replace(watch=watch))
    return after(process_state, checked(process_state))


class TestStoppedByHand:
    """It stays so until it is wanted again, whatever changes."""

    @pytest.mark.parametrize(
        "process_state",
        [
            ProcessState(watched()),
            after(pending(watched()), STOP),
            after(restarting(watched(When.ALWAYS)), STOP),
            after(stopping(watched()), exited(alive(watched()), -SIGTERM)),
            after(alive(watched()), exited(alive(watched()), 1), STOP),
            after(alive(watched()), exited(alive(watched()), 0), STOP),
            after(lingering(watched()), STOP, GroupEnded("web", 1)),
            after(lingering(watched(When.ALWAYS)), STOP, GroupEnded("web", 1)),
            stopping(watched()),
            after(spawning(watched()), STOP),
            after(lingering(watched()), STOP),
            after(alive(watched()), changed(), STOP),
            after(alive(watched(watch=PREPARED)), changed(), STOP),
        ],
    )
    def test_a_change_does_nothing(self, process_state: ProcessState) -> None:
        after_change, actions = lifecycle.step(process_state, changed(), 1.0)
        assert (after_change, actions, process_state.change) == (process_state, (), None)
        assert not process_state.reason.endswith("change")

    @pytest.mark.parametrize("request_", [START, RESTART])
    def test_once_it_is_wanted_again_changes_count_again(self, request_: Event) -> None:
        process_state = after(alive(watched()), STOP, exited(alive(watched()), -SIGTERM), request_)
        process_state = after(process_state, spawned(process_state))
        assert changed_and_waited(process_state)[1] == ["app.py changed; restarting"]


class TestSignalInsteadOfRestart:
    @pytest.mark.parametrize("process_state", [alive(watched(watch=ON_SIGNAL)), healthy_and_watched(ON_SIGNAL)])
    def test_what_runs_gets_the_signal(self, process_state: ProcessState) -> None:
        before = process_state
        process_state, said, done = changed_and_waited(process_state)
        assert (said, done) == (["app.py changed"], [SendSignal("web", 1, PID + 1, SIGHUP, only_handlers=True)])
        assert process_state._replace(throttle=before.throttle) == before

    @pytest.mark.parametrize(
        "process_state",
        [spawning(watched(watch=ON_SIGNAL)), alive(HEALTHY_WATCH._replace(watch=ON_SIGNAL))],
        ids=["spawning", "not healthy yet"],
    )
    def test_what_cannot_be_ready_for_it_is_restarted(self, process_state: ProcessState) -> None:
        process_state, said, done = changed_and_waited(process_state)
        assert said == ["app.py changed; restarting"]
        assert SIGHUP not in [action.signal for action in done if isinstance(action, SendSignal)]
        assert process_state.restart_pending

    def test_what_does_not_run_is_started(self) -> None:
        process_state = alive(watched(watch=ON_SIGNAL))
        process_state = after(process_state, exited(process_state, 1))
        process_state, said, done = changed_and_waited(process_state)
        assert (said, spawns(done)) == (["app.py changed; starting"], [2])

    def test_what_dies_of_it_has_failed_and_waits_for_the_next_change(self) -> None:
        process_state, _, _ = changed_and_waited(alive(watched(watch=ON_SIGNAL)))
        process_state = after(process_state, exited(process_state, -SIGHUP))
        assert (process_state.state, process_state.reason) == (
            State.FAILED,
            "killed by SIGHUP; starts again when its files change",
        )


class TestPreparation:
    def preparing(self, process_state: ProcessState | None = None) -> ProcessState:
        process_state, said, done = changed_and_waited(
            alive(watched(watch=PREPARED)) if process_state is None else process_state
        )
        assert said == ["app.py changed; running `make`"]
        assert done == [RunPreparation("web", "make")]
        return process_state

    def test_the_command_runs_before_anything_else(self) -> None:
        process_state = self.preparing()
        assert (process_state.state, process_state.preparing, lifecycle.deadline(process_state)) == (
            State.RUNNING,
            True,
            None,
        )

    def test_its_success_leads_to_the_restart(self) -> None:
        process_state, actions = step(self.preparing(), prepared(succeeded=True), 1.0)
        said, done = spoken(actions)
        assert (said, signals(done)) == (["`make` succeeded; restarting"], [SIGTERM])
        assert not process_state.preparing

    def test_its_failure_leads_to_nothing(self) -> None:
        process_state, actions = step(self.preparing(), prepared(succeeded=False), 1.0)
        assert (process_state.state, process_state.preparing, actions, lifecycle.deadline(process_state)) == (
            State.RUNNING,
            False,
            [],
            None,
        )
        assert self.preparing(process_state).preparing

    def test_its_success_leads_to_the_signal(self) -> None:
        process_state = self.preparing(alive(watched(watch=PREPARED._replace(signal=SIGHUP))))
        process_state, actions = step(process_state, prepared(succeeded=True), 1.0)
        assert spoken(actions) == (["`make` succeeded"], [SendSignal("web", 1, PID + 1, SIGHUP, only_handlers=True)])

    @pytest.mark.parametrize("succeeded", [False, True])
    def test_what_changes_meanwhile_is_prepared_first(self, succeeded: bool) -> None:
        process_state = after(self.preparing(), changed("b.py"), now=1.0)
        assert lifecycle.deadline(process_state) is None
        assert step(process_state, TICK, 5.0) == (process_state, [])
        process_state, actions = step(process_state, prepared(succeeded=succeeded), 6.0)
        assert (actions, lifecycle.deadline(process_state)) == ([], 1.05)
        process_state, actions = step(process_state, TICK, 6.0)
        assert spoken(actions) == (["b.py changed; running `make`"], [RunPreparation("web", "make")])
        assert spoken(step(process_state, prepared(succeeded=True), 7.0)[1])[0] == ["`make` succeeded; restarting"]

    @pytest.mark.parametrize("request_", [STOP, Shutdown(0)])
    def test_a_stop_ends_it_and_its_end_means_nothing(self, request_: Event) -> None:
        process_state, actions = step(self.preparing(), request_, 1.0)
        assert CancelPreparation("web") in actions
        assert (process_state.preparing, process_state.change) == (False, None)
        assert step(process_state, prepared(succeeded=True), 1.0) == (process_state, [])

    def test_a_restart_by_hand_does_not_wait_for_it_and_it_leads_to_one_more(self) -> None:
        process_state = self.preparing()
        process_state, actions = step(process_state, RESTART, 1.0)
        assert signals(actions) == [SIGTERM]
        process_state = after(process_state, exited(process_state, -SIGTERM), now=1.1)
        process_state = after(process_state, spawned(process_state), now=1.2)
        assert spoken(step(process_state, prepared(succeeded=True), 2.0)[1])[0] == ["`make` succeeded; restarting"]

    def test_a_restart_by_hand_does_not_forget_what_is_to_be_prepared(self) -> None:
        process_state = after(alive(watched(watch=PREPARED)), changed(), RESTART, exited(alive(watched()), -SIGTERM))
        assert spoken(step(process_state, TICK, WAITED)[1])[1] == [RunPreparation("web", "make")]

    def test_start_leaves_it_alone(self) -> None:
        process_state = self.preparing()
        assert step(process_state, START, 1.0)[1] == []
        assert after(process_state, START).preparing

    def test_its_success_while_the_next_run_is_to_begin_leads_to_no_other(self) -> None:
        process_state = after(self.preparing(), RESTART)
        process_state, actions = step(process_state, prepared(succeeded=True), 1.0)
        assert (process_state.state, actions) == (State.STOPPING, [])

    @pytest.mark.parametrize("returncode", [0, 1])
    def test_what_has_ended_meanwhile_is_started(self, returncode: int) -> None:
        process_state = self.preparing()
        process_state = after(process_state, exited(process_state, returncode))
        said, done = spoken(step(process_state, prepared(succeeded=True), 1.0)[1])
        assert (said, spawns(done)) == (["`make` succeeded; starting"], [2])

    def test_an_end_that_nobody_waits_for_changes_nothing(self) -> None:
        for process_state in (alive(watched(watch=PREPARED)), alive(web())):
            assert step(process_state, prepared(succeeded=True), 1.0) == (process_state, [])

    def test_one_that_never_ends_can_be_stopped_together_with_the_process(self) -> None:
        process_state = self.preparing()
        assert step(process_state, TICK, 1e6) == (process_state, [])
        assert CancelPreparation("web") in step(process_state, STOP, 1e6)[1]


class TestPause:
    """Time in which procreaper did not run counts for no limit."""

    def test_it_moves_the_stop_timeout(self) -> None:
        process_state = after(stopping(web()), TimeLost(3600.0), now=3601.0)
        assert step(process_state, TICK, 3601.0) == (process_state, [])
        assert signals(step(process_state, TICK, 3605.0)[1]) == [SIGKILL]

    def test_it_moves_the_moment_at_which_a_group_is_out_of_reach(self) -> None:
        process_state = after(stopping(web()), TICK, now=5.0)
        process_state = after(process_state, TimeLost(3600.0), now=3606.0)
        assert not after(process_state, TICK, now=3606.0).out_of_reach
        assert after(process_state, TICK, now=3605.0 + OUT_OF_REACH_AFTER).out_of_reach

    def test_it_is_no_part_of_a_steady_run(self) -> None:
        process_state = after(restarting(web(When.ALWAYS)), TICK, now=2.0)
        process_state = after(process_state, spawned(process_state), now=2.0)
        process_state = after(process_state, TimeLost(3600.0), now=3610.0)
        assert after(process_state, TICK, now=3610.0).retries == 1
        assert after(process_state, TICK, now=3647.0).retries == 0

    def test_it_is_no_part_of_the_quiet_after_a_change(self) -> None:
        process_state = after(alive(web(watch=WATCH)), changed(), now=0.0)
        process_state, actions = step(after(process_state, TimeLost(3600.0), now=3600.0), TICK, 3600.0)
        assert actions == []
        process_state = after(process_state, changed("b.py"), now=3600.01)
        assert after(process_state, TICK, now=3600.05).state is State.RUNNING
        assert after(process_state, TICK, now=3600.1).state is State.STOPPING

    def test_the_wait_before_a_retry_goes_on_in_it(self) -> None:
        process_state = after(restarting(web(When.ALWAYS)), TimeLost(3600.0), now=3600.0)
        assert spawns(step(process_state, TICK, 3600.0)[1]) == [2]

    @pytest.mark.parametrize(
        ("process_state", "timed"),
        [
            pytest.param(alive(web()), False, id="running"),
            pytest.param(healthy(), False, id="healthy"),
            pytest.param(restarting(web(When.ALWAYS)), False, id="restarting"),
            pytest.param(stopping(web()), True, id="stopping"),
            pytest.param(after(healthy(), TICK, now=10.0), True, id="checking"),
            pytest.param(alive(web(health=HEALTH)), True, id="starting"),
            pytest.param(after(alive(web(watch=WATCH)), changed()), True, id="changed"),
        ],
    )
    def test_it_has_to_be_found_while_a_limit_runs(self, process_state: ProcessState, timed: bool) -> None:
        assert lifecycle.is_timed(process_state) is timed
        if not timed:
            assert after(process_state, TimeLost(3600.0), now=3600.0) == process_state
