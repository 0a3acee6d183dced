"""Settings and flags of a real app: restarts, health, order, hooks, and the messages about them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from support.driver import Program, Project, lines_of

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who is stopped")
SLEEP = "echo ready; exec sleep 600"


def system(text: str) -> list[str]:
    """The lines of procreaper itself, without pids."""
    return [re.sub(r"pid[ =]\d+", "pid N", line) for line in lines_of(text, "system")]


def pid_of(program: Program, name: str, run: int = 1) -> int:
    return int(program.wait_for(rf"{re.escape(name)} started \(pid=(\d+)\)", count=run)[run - 1])


def test_crash_is_reported_with_the_wait_and_the_process_restarts(project: Project) -> None:
    project.procfile(web="echo up; exec sleep 600")
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "10ms"\n')
    program = project.begin("start")
    for run in (1, 2, 3, 4):
        program.wait_for(r"web\.1 +\| up", count=run)
        os.kill(pid_of(program, "web.1", run), signal.SIGKILL)
    program.wait_for(r"web\.1 +\| up", count=5)
    result = program.stop()
    assert result.code == 143
    assert [line for line in system(result.out) if "retry" in line] == [
        f"web.1: killed by SIGKILL; retry {retry} in {wait:.1f} s"
        for retry, wait in ((1, 0.01), (2, 0.02), (3, 0.04), (4, 0.08))
    ]


def test_process_fails_after_max_retries_and_the_app_ends_with_its_code(project: Project) -> None:
    project.procfile(web="exit 7", other=SLEEP)
    project.write(".reaper.toml", '[process.web]\nrestart = "on-failure"\nbackoff = "1ms"\nmax_retries = 2\n')
    result = project.run("start")
    assert result.code == 7
    assert sum("web.1 started" in line for line in system(result.out)) == 3
    lines = system(result.out)
    how = lines.index("web.1: exited with code 7; gave up after 2 retries")
    assert lines[how + 1] == "web.1 ended, stopping the app"


def test_unrunnable_command_is_not_retried(project: Project) -> None:
    project.procfile(web="no-such-program-anywhere")
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\n')
    result = project.run("start")
    assert result.code == 127
    assert sum("started" in line for line in system(result.out)) == 1


def test_dependant_starts_when_its_dependency_is_healthy_and_stops_before_it(project: Project) -> None:
    server = project.python(
        "server",
        "import socketserver, sys\n"
        "handler = type('Handler', (socketserver.BaseRequestHandler,), {})\n"
        "socketserver.TCPServer.allow_reuse_address = True\n"
        "server = socketserver.TCPServer(('127.0.0.1', 0), handler)\n"
        "open('port', 'w').write(str(server.server_address[1]))\n"
        "print('listening', flush=True)\n"
        "server.serve_forever()\n",
    )
    check = "test -f port && exec 3<>/dev/tcp/127.0.0.1/$(cat port)"
    project.procfile(web=SLEEP, db=f"exec {server}")
    project.write(
        ".reaper.toml",
        '[process.web]\ndepends_on = ["db"]\n'
        f'[process.db]\nhealth = {{ exec = ["bash", "-c", "{check}"], start_interval = "20ms" }}\n',
    )
    program = project.begin("start")
    program.wait_for(r"web\.1 +\| ready")
    result = program.stop(signal.SIGINT)
    assert result.code == 130
    assert system(result.out) == [
        "web.1: waiting for db.1",
        "db.1 started (pid N)",
        "db.1 is healthy",
        "web.1 started (pid N)",
        "SIGINT received",
        "sending SIGTERM to web.1 (pid N)",
        "web.1 stopped (rc=-15)",
        "sending SIGTERM to db.1 (pid N)",
        "db.1 stopped (rc=-15)",
    ]


def test_oneshot_runs_before_its_dependants_and_does_not_end_the_app(project: Project) -> None:
    project.procfile(web="cat migrated; exec sleep 600", migrate="echo done > migrated")
    project.write(".reaper.toml", '[process.web]\ndepends_on = ["migrate"]\n[process.migrate]\noneshot = true\n')
    program = project.begin("start")
    program.wait_for(r"web\.1 +\| done")
    assert program.stop().code == 143


def test_failed_oneshot_skips_its_dependants_and_ends_the_app(project: Project) -> None:
    project.procfile(web=SLEEP, migrate="exit 9", other=SLEEP)
    project.write(".reaper.toml", '[process.web]\ndepends_on = ["migrate"]\n[process.migrate]\noneshot = true\n')
    result = project.run("start")
    assert result.code == 9
    assert "web.1 started" not in result.out
    assert "web.1 skipped: migrate.1 failed: exited with code 9" in system(result.out)


def test_check_that_never_succeeds_ends_with_124(project: Project) -> None:
    project.procfile(web=SLEEP)
    project.write(
        ".reaper.toml", '[process.web]\nhealth = { exec = "exit 3", start_interval = "10ms", start_timeout = "50ms" }\n'
    )
    result = project.run("start")
    assert result.code == 124
    assert any(line.startswith("web.1: not healthy within 0.05 s") for line in system(result.out))


def test_unhealthy_process_is_restarted_under_on_failure(project: Project) -> None:
    project.procfile(web="touch well; echo up; exec sleep 600")
    project.write(
        ".reaper.toml",
        '[process.web]\nrestart = "on-failure"\nbackoff = "1ms"\n'
        'health = { exec = "test -f well", interval = "10ms", start_interval = "10ms", retries = 2 }\n',
    )
    program = project.begin("start")
    program.wait_for("web.1 is healthy")
    (project.path / "well").unlink()
    program.wait_for("web.1 is healthy", count=2)
    result = program.stop()
    lines = system(result.out)
    why = next(index for index, line in enumerate(lines) if line.startswith("web.1: unhealthy:"))
    assert "web.1: retry 1 in 0.0 s" in lines[why:]


@linux_only
def test_suspended_process_is_not_restarted_as_unhealthy(project: Project) -> None:
    # The child is a shell, and the suspended program is below it, as under a debugger.
    project.procfile(web="sh -c 'touch well; echo pid $$; exec sleep 600'; true")
    os.mkfifo(project.path / "asked")
    project.write(
        ".reaper.toml",
        '[process.web]\nrestart = "always"\nbackoff = "1ms"\n[process.web.health]\n'
        "exec = \"trap '' PIPE; echo . > asked; test -f well\"\n"
        'interval = "1ms"\nstart_interval = "1ms"\ntimeout = "1m"\nretries = 1\n',
    )

    def wait_for_check() -> None:
        # If the reader misses the end of one check, the next check writes again.
        assert set((project.path / "asked").read_text()) == {".", "\n"}

    program = project.begin("start")
    (pid,) = program.wait_for(r"pid (\d+)")
    wait_for_check()
    program.wait_for("web.1 is healthy")
    os.kill(int(pid), signal.SIGSTOP)
    # Where others are busy, it stops when it is its turn.
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
        os.sched_yield()
    (project.path / "well").unlink()
    # Each check waits until it is asked about; the next one begins when the last one meant nothing.
    for _ in range(3):
        wait_for_check()
    assert "unhealthy" not in program.out
    os.kill(int(pid), signal.SIGCONT)
    wait_for_check()
    program.wait_for("web.1: unhealthy")
    program.stop()


def test_log_line_makes_a_process_healthy(project: Project) -> None:
    os.mkfifo(project.path / "gate")
    project.procfile(web="cat gate; exec sleep 600", worker=SLEEP)
    project.write(
        ".reaper.toml",
        '[process.web]\nhealth = { log = "^ready to .* connections$" }\n[process.worker]\ndepends_on = ["web"]\n',
    )
    program = project.begin("start")
    program.wait_for("web.1 started")
    with open(project.path / "gate", "w") as gate:
        gate.write("not ready to accept\n")
        gate.flush()
        program.wait_for("not ready to accept")
        assert "worker.1 started" not in program.out
        gate.write("\x1b[32mready\x1b[0m to accept connections\n")
    program.wait_for(r"worker\.1 +\| ready")
    program.stop()


def test_hooks_get_the_facts_and_their_output_has_the_prefix(project: Project) -> None:
    project.procfile(web="test -f once || { touch once; exit 4; }; exec sleep 600")
    project.write(
        ".reaper.toml",
        '[process.web]\nrestart = "on-failure"\nbackoff = "1ms"\n'
        "[process.web.hooks]\n"
        'on_ready = "echo ready $REAPER_NAME"\n'
        'on_retry = "echo again $REAPER_NAME $REAPER_EXIT_CODE $REAPER_RETRIES"\n',
    )
    program = project.begin("start")
    program.wait_for("again web.1 4 1")
    program.wait_for("ready web.1", count=2)
    result = program.stop()
    assert "again web.1 4 1" in result.lines("web.1")


def test_hook_about_the_end_runs_to_its_end(project: Project) -> None:
    project.procfile(web="exit 5")
    project.write(".reaper.toml", '[process.web]\nhooks = { on_fail = "echo failed $REAPER_EXIT_CODE" }\n')
    result = project.run("start")
    assert result.code == 5
    assert "failed 5" in result.lines("web.1")


def test_ctrl_c_does_not_wait_for_a_hook_about_the_end(project: Project) -> None:
    project.procfile(web="exit 5")
    project.write(".reaper.toml", '[process.web]\nhooks = { on_fail = "echo begun; sleep 600" }\n')
    program = project.begin("start", "-t", "600")
    program.wait_for("begun")
    assert program.insist(signal.SIGINT).code == 5


def test_stop_command_replaces_the_signal(project: Project) -> None:
    traps = "trap 'echo TERM' TERM; trap 'echo asked; exit 0' USR1"
    web = f"{traps}; echo $$ > pid; echo ready; while :; do sleep 600 & wait $!; done"
    project.procfile(web=web)
    project.write(".reaper.toml", '[process.web]\nstop = { command = "kill -USR1 $(cat pid)", timeout = "30s" }\n')
    program = project.begin("start")
    program.wait_for("ready")
    result = program.stop()
    assert result.code == 143
    assert "asked" in result.lines("web.1")
    # Only what the command did not reach: the sleep.
    assert result.out.index("asked") < result.out.index("sending SIGTERM")
    assert "TERM" not in result.lines("web.1")


def test_signal_follows_at_once_if_the_stop_command_fails(project: Project) -> None:
    project.procfile(web="trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 600 & wait $!; done")
    project.write(".reaper.toml", '[process.web]\nstop = { command = "kill -TERM $$", timeout = "10m" }\n')
    program = project.begin("start")
    program.wait_for("ready")
    result = program.stop()
    assert "bye" in result.lines("web.1")
    failed = "the stop command of web.1 was killed by SIGTERM, so procreaper sends the signal"
    assert result.out.index(failed) < result.out.index("sending SIGTERM to web.1 (pid ")


def test_leftover_processes_are_named_when_they_get_the_signal(project: Project) -> None:
    project.procfile(web="sleep 600 & exit 3")
    result = project.run("start")
    assert result.out.index("web.1 stopped (rc=3)") < result.out.index("sending SIGTERM to what web.1 left running")
    assert "to web.1 (pid" not in result.out


def test_reason_is_given_once(project: Project) -> None:
    project.procfile(web="exec sleep 600")
    health = '{ exec = "exit 3", start_interval = "1h", start_timeout = "2s" }'
    settings = f'[process.web]\nrestart = "on-failure"\nmax_retries = 1\nbackoff = "10ms"\nhealth = {health}\n'
    project.write(".reaper.toml", settings)
    lines = system(project.run("start").out)
    told = [line for line in lines if line.startswith("web.1: ")]
    why = "web.1: not healthy within 2 s: `exit 3` exited with code 3"
    assert told[:3] == [why, "web.1: retry 1/1 in 0.0 s", f"{why}; gave up after 1 retry"]
    assert sum("gave up" in line for line in told) == 1


def test_custom_stop_signal_and_timeout(project: Project) -> None:
    project.procfile(web="trap 'echo HUP' HUP; trap '' INT; echo ready; while :; do sleep 600; done")
    project.write(".reaper.toml", '[process.web]\nstop = { signal = "SIGINT", timeout = "10ms" }\n')
    program = project.begin("start")
    program.wait_for("ready")
    result = program.stop()
    told = [line for line in system(result.out) if line.startswith("sending")]
    assert told == ["sending SIGINT to web.1 (pid N)", "sending SIGKILL to web.1 (pid N)"]


class TestFlags:
    def test_restart_keeps_a_process_alive(self, project: Project) -> None:
        project.procfile(web="echo up; test -f again || { touch again; exit 3; }; exec sleep 600", other=SLEEP)
        program = project.begin("start", "-r", "web")
        program.wait_for(r"web\.1 +\| up", count=2)
        program.stop()

    def test_can_die_lets_one_go(self, project: Project) -> None:
        os.mkfifo(project.path / "gate")
        project.procfile(web="exit 3", other="cat gate; exit 4")
        program = project.begin("start", "--can-die", "web")
        program.wait_for(r"web\.1 stopped \(rc=3\)")
        with open(project.path / "gate", "w"):
            pass
        assert program.end().code == 4

    def test_exclude_starts_the_others(self, project: Project) -> None:
        project.procfile(web="exit 0", other="exit 5")
        result = project.run("start", "-x", "web")
        assert result.code == 5
        assert "web.1" not in result.out

    def test_named_process_starts_with_its_dependencies_only(self, project: Project) -> None:
        project.procfile(web="exit 6", db=SLEEP, other="echo never")
        project.write(".reaper.toml", '[process.web]\ndepends_on = ["db"]\n')
        result = project.run("start", "web")
        assert result.code == 6
        assert "db.1 started" in result.out
        assert "other.1" not in result.out
        assert "db.1" not in project.run("start", "--no-deps", "web").out

    def test_naming_beats_autostart(self, project: Project) -> None:
        project.procfile(web="exit 6", console="exit 8")
        project.write(".reaper.toml", "[process.console]\nautostart = false\n")
        assert "console.1" not in project.run("start").out
        assert project.run("start", "console").code == 8


def test_json_has_the_records_of_the_go_library(project: Project) -> None:
    project.procfile(redis="echo hello; exit 1")
    project.write(".reaper.toml", '[process.redis]\nrestart = "on-failure"\nbackoff = "2ms"\nmax_retries = 1\n')
    result = project.run("start", "--log-format", "json")
    records = [json.loads(line) for line in result.out.splitlines()]
    (again,) = (record for record in records if record["msg"] == "restarting process")
    assert list(again)[:6] == ["time", "level", "msg", "name", "backoff", "retries"]
    assert (again["level"], again["name"], again["backoff"], again["retries"]) == ("WARN", "redis.1", "2ms", 1)
    (hello, _) = (record for record in records if record["msg"] == "hello")
    assert (hello["name"], hello["level"], hello["stream"]) == ("redis.1", "INFO", "output")
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)", record["time"]) for record in records
    )


@pytest.mark.parametrize("flag", ["-x", "-r", "--can-die"])
def test_unknown_name_in_any_option_is_an_error(project: Project, flag: str) -> None:
    project.procfile(web="exit 0")
    result = project.run("start", flag, "wbe")
    assert result.code != 0
    assert "wbe" in result.err
    assert "did you mean `web`?" in result.err
