"""Plans from a Procfile, a `.reaper.toml` and the command line, and the errors in these."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.planning_helpers import (
    OURS,
    PROCFILE,
    Redis,
    find_error,
    find_errors,
    make_configuration,
    plan,
    plan_web,
    ports,
    started_names,
)

from procreaper.core.checks import ExecCheck, Health, HTTPCheck, LogCheck, TCPCheck
from procreaper.core.plan import Backoff, Condition, Dependency, Hooks, Plan, Process, StopPolicy, When, find_cycle
from procreaper.core.ports import derive_port
from procreaper.errors import ConfigError
from procreaper.project.configure import Options, configure
from project.test_schema import FULL, MINIMAL

PORTS = {"PROCREAPER_PORT_WEB": "5000", "PROCREAPER_PORT_WORKER": "5100", "PROCREAPER_PORT_DB": "5200"}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("Procfile").write_text(PROCFILE)
    return tmp_path


def test_many_unknown_names_are_one_short_message() -> None:
    names = tuple(f"n{number}" for number in range(2000))
    problem = find_error("", names=names)
    assert problem.message == "Process types 'n0', 'n1', 'n2', 'n3', 'n4' and 1995 more do not exist in Procfile"
    problem = find_error("", exclude=",".join(names))
    assert problem.message == "-x: there is no process `n0`, `n1`, `n2`, `n3`, `n4` and 1995 more"
    assert len(find_errors("", names=names[:5])) == 5
    problem = find_error("", concurrency=",".join(f"{name}=1" for name in names))
    assert problem.message == "-c: there is no process type `n0`, `n1`, `n2`, `n3`, `n4` and 1995 more"


def test_hint_lists_the_first_of_many_names() -> None:
    Path("Procfile").write_text("".join(f"type{number}: x\n" for number in range(100)))
    assert str(find_error("", names=("nope",)).hint).endswith("`type19` and 80 more")


# Without settings, the plan is that of honcho.


@pytest.mark.parametrize("settings", [None, "", "[output]\n"])
def test_plan_without_settings_is_that_of_honcho(settings: str | None) -> None:
    found = make_configuration(settings, concurrency="web=2", timeout="3")
    assert found.plan.names is None
    assert found.plan.processes[0] == Process(
        "web.1",
        "run web",
        env={**OURS, "PORT": "5000", "PS": "web.1", "HONCHO_PROCESS_NAME": "web.1", **PORTS},
        stop=StopPolicy(timeout=3.0),
    )
    assert ports(settings, names=("worker", "web")) == {"worker.1": "5000", "web.1": "5100"}
    assert (found.log_format, found.timestamps, found.http) == ("text", True, None)


def test_settings_are_read_beside_the_procfile() -> None:
    Path("sub").mkdir()
    Path("sub/Procfile").write_text("web: x\n")
    Path("sub/.reaper.toml").write_text("[process.web]\nrestart = 'always'\n")
    assert plan(app_root="sub")["web.1"].restart is When.ALWAYS
    assert plan(root="sub")["web.1"].restart is When.ALWAYS
    assert plan(procfile="sub/Procfile")["web.1"].restart is When.NEVER
    assert plan(config="sub/.reaper.toml")["web.1"].restart is When.ALWAYS
    assert find_error(config="nope.toml").path == "nope.toml"
    Path("other.toml").write_text("[process.web]\nrestart = 'on-failure'\n")
    assert plan(root="sub", config="other.toml")["web.1"].restart is When.ON_FAILURE


@pytest.mark.parametrize("content", [None, b"\xff", b"[", b"\xef\xbb\xbf[x"])
def test_unreadable_settings_are_one_error(content: bytes | None) -> None:
    if content is None:
        Path(".reaper.toml").mkdir()
    else:
        Path(".reaper.toml").write_bytes(content)
    assert find_error().path == ".reaper.toml"


# One process type.


def test_minimal_example_of_the_reference() -> None:
    Path("Procfile").write_text("web: a\nredis: b\n")
    found = plan(MINIMAL)
    assert found["web.1"].restart is When.ON_FAILURE
    assert found["web.1"].health == Health(check=HTTPCheck("http://127.0.0.1:5000/healthz"))
    assert found["web.1"].depends_on == (Dependency("redis.1", Condition.HEALTHY),)
    assert found["redis.1"].health == Health(check=TCPCheck("127.0.0.1:6379"))


def test_full_example_of_the_reference() -> None:
    Path("Procfile").write_text("web: a\nworker: b\nmigrate: c\ncss: d\ntunnel: e\n")
    found = plan(FULL)
    assert list(found) == ["web.1", "worker.1", "worker.2", "migrate.1", "css.1", "tunnel.1", "db.1"]
    db = found["db.1"]
    assert (db.command, db.stop, (db.env or {})["PORT"]) == ("postgres -D ./data", StopPolicy(2, 30.0), "5500")
    assert db.health == Health(
        check=ExecCheck("pg_isready -q"), log=LogCheck("ready to accept connections"), start_timeout=120.0
    )
    migrate = found["migrate.1"]
    assert (migrate.oneshot, migrate.restart, migrate.stop_all) == (True, When.NEVER, When.ON_FAILURE)
    assert migrate.depends_on == (Dependency("db.1", Condition.HEALTHY),)
    web = found["web.1"]
    assert web.depends_on == (
        Dependency("db.1", Condition.HEALTHY, restart=True),
        Dependency("migrate.1", Condition.COMPLETED),
    )
    assert (web.restart, web.stop_all) == (When.ON_FAILURE, When.NEVER)
    worker = found["worker.2"]
    assert (worker.restart, worker.max_retries, worker.backoff) == (When.ALWAYS, 10, Backoff(2.0, 30.0, 45.0))
    assert worker.success_codes == {0, 143}
    assert (worker.env or {})["LOG_LEVEL"] == "debug"
    assert worker.hooks == Hooks(on_fail='notify-send "$REAPER_NAME died ($REAPER_EXIT_CODE)"')


@pytest.mark.parametrize(
    ("fields", "attribute", "value"),
    [
        ("command = 'other'", "command", "other"),
        ("command = ['other', '$HOME']", "command", ("other", "$HOME")),
        ("restart = 'no'", "restart", When.NEVER),
        ("restart = 'on-failure:3'", "max_retries", 3),
        ("restart = 'on-failure:3'\nmax_retries = 3", "max_retries", 3),
        ("restart = 'always'\nmax_retries = 2", "max_retries", 2),
        ("success_codes = [0, 'SIGINT', 'TERM', 3]", "success_codes", frozenset({0, 130, 143, 3})),
        ("backoff = 2", "backoff", Backoff(2.0, 30.0, 45.0)),
        ("backoff = '1m'", "backoff", Backoff(60.0, 60.0, 45.0)),
        ("backoff = { max = '2s' }", "backoff", Backoff(1.0, 2.0, 45.0)),
        ("oneshot = true", "stop_all", When.ON_FAILURE),
        ("watch = ['app']", "stop_all", When.NEVER),
        ("watch = { paths = ['app'] }\noneshot = true", "stop_all", When.NEVER),
        ("watch = []", "stop_all", When.ALWAYS),
        ("watch = ['app']\nstop_all = 'always'", "stop_all", When.ALWAYS),
        ("stop = 'INT'", "stop", StopPolicy(2)),
        ("stop = { timeout = 0 }", "stop", StopPolicy(15, 0.0)),
        ("stop = { command = 'bye', timeout = '1m' }", "stop", StopPolicy(15, 60.0, "bye")),
        ("stop = { signal = 'SIGQUIT', only_main = true }", "stop", StopPolicy(3, 5.0, None, only_main=True)),
        ("hooks = { on_ready = 'a', on_retry = 'b' }", "hooks", Hooks("a", "b")),
        ("hooks = {}", "hooks", None),
        ("cwd = 'sub/..'", "cwd", "sub/.."),
        ("cwd = '/'", "cwd", "/"),
        ("health = 'https://localhost/x'", "health", Health(check=HTTPCheck("https://localhost/x"))),
        ("health = 'tcp://[::1]:$PORT/'", "health", Health(check=TCPCheck("[::1]:5000"))),
        ("health = { tcp = ':${PORT}' }", "health", Health(check=TCPCheck(":5000"))),
        ("health = { exec = ['a', '$PORT'] }", "health", Health(check=ExecCheck(("a", "$PORT")))),
        ("health = { log = 'up$' }", "health", Health(log=LogCheck("up$"))),
        (
            "health = { http = 'http://a', status = 204, retries = 1, timeout = 2, start_interval = '1s' }",
            "health",
            Health(check=HTTPCheck("http://a", (204,)), retries=1, timeout=2.0, start_interval=1.0),
        ),
        (
            "health = { http = 'http://a', status = [200, 204] }",
            "health",
            Health(check=HTTPCheck("http://a", (200, 204))),
        ),
        (
            "health = { http = 'https://a', verify = false }",
            "health",
            Health(check=HTTPCheck("https://a", verify=False)),
        ),
        (
            "health = { http = 'https://a', ca = '/etc/ca.pem' }",
            "health",
            Health(check=HTTPCheck("https://a", ca="/etc/ca.pem")),
        ),
    ],
)
def test_field_sets_an_attribute_of_the_plan(fields: str, attribute: str, value: object) -> None:
    Path("sub").mkdir()
    assert getattr(plan_web(fields), attribute) == value


@pytest.mark.parametrize("health", ["'redis://db:$PORT'", "{ check = 'redis://db:$PORT' }"])
def test_unknown_scheme_selects_a_check_of_a_package(health: str) -> None:
    found = plan_web(f"health = {health}").health
    assert found is not None
    assert isinstance(found.check, Redis)
    assert found.check.url == "redis://db:5000"


@pytest.mark.parametrize(
    ("fields", "line", "message", "hint"),
    [
        ("restart = 'on-failure:3'\nmax_retries = 4", 3, "`process.web.max_retries` is 4, but", "keep one of them"),
        ("max_retries = 4", 2, "has no effect, because `web` is never restarted", 'restart = "on-failure"'),
        ("oneshot = true\nrestart = 'always'", 3, "`web` is a oneshot, so it cannot be restarted always", "on-failure"),
        ("oneshot = true\nhealth = 'tcp://a:1'", 3, "is a oneshot", "remove `health` or `oneshot`"),
        ("stop = 'SIGNIT'", 2, "must be the name of a signal", "did you mean `SIGINT`?"),
        ("stop = 'SIGTREM'", 2, '`process.web.stop` must be the name of a signal, not "SIGTREM"', "`SIGTERM`"),
        ("success_codes = [\n0,\n'SIGFOO']", 4, "`process.web.success_codes[1]` must be", ""),
        ("stop = { signal = 'INT', command = 'x' }", 2, "only one of them can be set", "remove"),
        ("backoff = 0", 2, "`process.web.backoff` must be more than 0", ""),
        ("backoff = { initial = '10s', max = '5s' }", 2, "`process.web.backoff.max` is less than `initial`", ""),
        (
            "detached = true\nlog = 'x'\npty = true",
            4,
            "`web` is detached, so it cannot have a terminal, which would end with procreaper",
            "remove `pty` or `detached`",
        ),
        ("detached = true", 2, "`web` is detached, so its output needs a file", 'log = "log/web.log"'),
        (
            "detached = true\nlog = 'x'\nhealth = { tcp = ':1', log = 'ready' }",
            4,
            "`web` is detached, so procreaper does not read its output, and `health.log` cannot match",
            "check its health by `http`, `tcp` or `exec`",
        ),
        ("cwd = 'nope'", 2, "`process.web.cwd` is `nope`, which is not a directory", "create it"),
        ("env_file = 'nope'", 2, "the environment file `nope` of `web` does not exist", "create it"),
        ("env_file = [\n'Procfile',\n'..']", 4, "the environment file `..` of `web` is a directory", ""),
        ("command = ' '", 2, "the command of `web` is empty", ""),
        ("env = { PORT = 3000 }", 2, "`process.web.env.PORT` cannot be set", "write `port = 3000` in its place"),
        ("env = { PORT = '03000' }", 2, "`process.web.env.PORT` cannot be set", "write `port = 3000` in its place"),
        ("env = { PORT = '$X' }", 2, "`process.web.env.PORT` cannot be set", "`port = 3000` under `[process.NAME]`"),
        ("env = { PS = 'x' }", 2, "`process.web.env.PS` cannot be set", ""),
        ("env = { 'A=B' = 'x' }", 2, "cannot be the name of a variable", ""),
        ("env = { A = '$NOPE' }", 2, "`process.web.env.A` uses `$NOPE`, which is not set", "`$$`"),
        ("env = { A = '$B', B = 'x' }", 2, "`process.web.env.A` uses `$B`, which is not set", "write it after `B`"),
        ("env = { A = '100$' }", 2, "`process.web.env.A`: no name follows the `$`", "`$$`"),
        ("health = {}", 2, "`process.web.health` does not say what to check", "`http`"),
        ("health = { interval = '5s' }", 2, "does not say what to check", ""),
        ("watch = { run = 'make' }", 2, "`process.web.watch` does not say which files to watch", "`paths"),
        ("log = { max_size = '1MB' }", 2, "`process.web.log` does not name a file", '`file = "log/web.log"`'),
        ("health = { http = 'http://a', tcp = 'a:1' }", 2, "cannot be used together with `http`", "choose one"),
        ("health = { tcp = 'a:1', status = 200 }", 2, "`process.web.health.status` is for `http` only", ""),
        ("health = { exec = 'a', verify = false }", 2, "`process.web.health.verify` is for `http` only", "remove it"),
        ("health = { tcp = 'a:1', ca = 'c' }", 2, "`process.web.health.ca` is for `http` only", "remove it"),
        ("health = { http = 'http://a', verify = false }", 2, "`process.web.health.verify` is for `https` only", ""),
        ("health = { http = 'http://a', ca = 'c' }", 2, "`process.web.health.ca` is for `https` only", "`https://`"),
        ("health = { http = 'https://a', ca = 'c', verify = false }", 2, "has no effect with `verify = false`", ""),
        ("health = { http = 'https://a', ca = '$NOPE' }", 2, "`process.web.health.ca` uses `$NOPE`, which is not", ""),
        ("health = { tcp = 'a:1', interval = 0 }", 2, "`process.web.health.interval` must be more than 0", ""),
        ("health = { log = '(' }", 2, "is not a regular expression", "escape"),
        ("health = { exec = ' ' }", 2, "the command of a check is empty", ""),
        ("health = 'localhost:80'", 2, "`localhost:80` is not a URL", "tcp://localhost:80"),
        ("health = 'localhost:$PORT'", 2, "`localhost:$PORT` is not a URL", "tcp://localhost:$PORT"),
        ("health = '/healthz'", 2, "`/healthz` is not a URL", '"http://127.0.0.1:$PORT/healthz"'),
        ("health = 'pg_isready -q'", 2, "`pg_isready -q` is not a URL", '`health = { exec = "pg_isready -q" }`'),
        ("health = 'ftp://x'", 2, "no package checks `ftp://x`", ""),
        ("health = 'tcp://localhost'", 2, "`localhost` has no port", "127.0.0.1:$PORT"),
        ("health = 'tcp://localhost:70000'", 2, "`70000` is not a port", ""),
        ("health = 'http://localhost:70000/'", 2, "has a port that is not a number", ""),
        ("health = 'http://localhost:$NOPE/'", 2, "`process.web.health` uses `$NOPE`, which is not set", ""),
        ("log = '$NOPE.log'", 2, "`process.web.log` uses `$NOPE`, which is not set", ""),
        ("depends_on = ['web']", 2, "`web` depends on itself", "remove it"),
        ("depends_on = ['web.1']", 2, "`web` depends on itself through `web.1`", "remove it"),
        ("depends_on = [\n'db',\n'wroker']", 4, "`web` depends on `wroker`, which does not exist", "`worker`"),
        (f"depends_on = ['db.{'9' * 5000}']", 2, "which does not exist", ""),
        ("concurrency = 10001", 2, "a whole number from 0 to 10000", ""),
        ("depends_on = ['db.2']", 2, "depends on `db.2`, but the concurrency of `db` is 1", "run more instances"),
        ("depends_on = { db = 'healthy' }", 2, "but `db` has no health check", "add `health` to `db`"),
    ],
)
def test_contradiction_is_an_error_with_its_line(fields: str, line: int, message: str, hint: str) -> None:
    problem = find_error(f"[process.web]\n{fields}\n")
    assert (problem.path, problem.line) == (".reaper.toml", line)
    assert message in problem.message
    assert hint in str(problem.hint)


def test_mistake_is_reported_once_for_all_instances() -> None:
    assert find_error("[process.web]\nhealth = 'http://$NOPE/'\n", concurrency="web=3").line == 2


def test_consequences_of_a_mistake_are_not_reported() -> None:
    settings = "[process.db]\nhealth = { htpp = 'http://a' }\n[process.web]\ndepends_on = { db = 'healthy' }\n"
    assert find_error(settings).line == 2
    assert find_error("[process.web]\nrestart = 'on-failur'\nmax_retries = 3\n").line == 2
    assert find_error("[process.web]\nenv_file = 'nope'\nenv = { A = '$B' }\n").line == 2
    assert find_error("[process.web]\nenv = { A = [], B = '$A' }\n").line == 2
    assert find_error("[process.new]\ncommand = 5\n").line == 2
    Path("Procfile").unlink()
    assert find_error("[process.web]\noneshot = true\n", names=("web",), quiet="x").path == "Procfile"


def test_mistakes_in_all_files_are_reported_together() -> None:
    Path(".env").write_text("X=it's\n")
    settings = "[process.web]\nrestart = 'x'\n[process.wbe]\noneshot = true\n[process.db]\ndepends_on = ['nope']\n"
    assert [problem.place for problem in find_errors(settings, port="x", quiet="y")] == [
        ".env:1",
        ".reaper.toml:2",
        ".reaper.toml:3",
        "procreaper",
        "procreaper",
        ".reaper.toml:6",
    ]


# Defaults.


def test_settings_of_a_process_override_the_defaults() -> None:
    found = plan(
        "[defaults]\nrestart = 'on-failure'\nbackoff = '2s'\nenv = { A = 1, B = 2 }\n"
        "stop = { signal = 'INT', timeout = 1 }\n"
        "health = { interval = 3, tcp = 'a:1' }\ncommand = 'echo'\nmax_retries = 4\n"
        "[process.web]\nrestart = 'never'\nstop = 'QUIT'\nenv = { B = '$A', C = true }\nhealth = 'http://a'\n"
        "[process.worker]\nbackoff = { max = 5 }\noneshot = true\n"
        "[process.new]\n"
    )
    web, worker, new = found["web.1"], found["worker.1"], found["new.1"]
    assert (web.restart, web.max_retries, web.command) == (When.NEVER, None, "run web")
    assert (web.stop, worker.stop) == (StopPolicy(3, 1.0), StopPolicy(2, 1.0))
    assert web.health == Health(check=HTTPCheck("http://a"), interval=3.0)
    assert web.env is not None
    assert {name: web.env[name] for name in "ABC"} == {"A": "1", "B": "1", "C": "true"}
    assert (worker.backoff, worker.health, worker.restart) == (Backoff(2.0, 5.0, 45.0), None, When.ON_FAILURE)
    assert (new.command, new.health, new.max_retries) == ("echo", Health(check=TCPCheck("a:1"), interval=3.0), 4)


def test_mistake_in_the_defaults_is_reported_once_at_its_line() -> None:
    assert find_error("[defaults]\nstop = 'SIGFOO'\n").line == 2
    assert (
        find_error("[defaults]\nhealth = { http = 'http://$NOPE' }\n[process.web]\nhealth = { interval = 1 }\n").line
        == 2
    )
    problem = find_error("[defaults]\nrestart = 'always'\n[process.web]\noneshot = true\n")
    assert (problem.line, problem.hint) == (2, 'write `restart = "on-failure"` under `[process.web]`')


def test_message_does_not_show_values_of_variables() -> None:
    Path(".env").write_text("SECRET=hunter2\n")
    for health in ("{ http = '$SECRET' }", "{ check = 'x://$SECRET' }", "{ tcp = '$SECRET' }"):
        problem = find_error(f"[process.web]\nhealth = {health}\n")
        assert "hunter2" not in str(problem)


def test_port_in_the_env_file_of_a_process_is_a_warning() -> None:
    Path("mine").write_text("A=1\nPORT=1\n")
    [warning] = make_configuration("[process.web]\nenv_file = 'mine'\n").warnings
    assert (warning.place, warning.message) == ("mine:2", "`PORT` has no effect here")


# Process types.


def test_types_of_the_settings_come_after_those_of_the_procfile() -> None:
    settings = "[process.new]\ncommand = 'new'\n[process.web]\noneshot = true\n[process.other]\ncommand = ['o']\n"
    assert ports(settings) == {"web.1": "5000", "worker.1": "5100", "db.1": "5200", "new.1": "5300", "other.1": "5400"}
    assert ports(settings, names=("new",)) == {"new.1": "5000"}


def test_type_outside_the_procfile_needs_a_command() -> None:
    problem = find_error("[process.wbe]\noneshot = true\n")
    assert problem.message == "there is no process type `wbe` in Procfile, and `process.wbe` has no `command`"
    assert problem.hint == "did you mean `web`?"
    assert "give it a `command`" in str(find_error("[process.zzz]\n").hint)


def test_procfile_is_optional_if_the_settings_have_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = "[process.new]\ncommand = 'new'\n"
    Path("Procfile").write_text("# none\n")
    assert list(plan(settings)) == ["new.1"]
    Path("Procfile").unlink()
    assert list(plan(settings)) == ["new.1"]
    assert find_error(procfile="Procfile").path == "Procfile"
    assert find_error("[process.new]\noneshot = true\n").path == "Procfile"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["web.1", "web.2", "web.3", "worker.1"]),
        ({"concurrency": "web=1"}, ["web.1", "worker.1"]),
        ({"concurrency": "db=1"}, ["web.1", "web.2", "web.3", "worker.1", "db.1"]),
        ({"formation": "worker=1"}, ["worker.1"]),
        ({"formation": "all=1"}, ["web.1", "worker.1", "db.1"]),
    ],
)
def test_command_line_overrides_the_concurrency_of_the_file(options: dict[str, object], names: list[str]) -> None:
    assert list(plan("[process.web]\nconcurrency = 3\n[process.db]\nconcurrency = 0\n", **options)) == names


# The environment.


def test_environment_has_the_precedence_of_the_reference() -> None:
    Path(".env").write_text("A=dotenv\nB=dotenv\nC=dotenv\nHOME=dotenv\n")
    Path("one").write_text("B=one\nC=one\nPORT=1\nPS=evil\n")
    Path("two").write_text("C=two\n")
    env = plan_web(
        "env_file = ['one', 'two']\nenv = { C = '$C+', D = '${PORT}', E = 'a$$b', PATH = false, F = 1.5 }"
    ).env
    assert env == {
        "HOME": "dotenv",
        "A": "dotenv",
        "B": "one",
        "C": "two+",
        "D": "5000",
        "E": "a$b",
        "F": "1.5",
        "PORT": "5000",
        "PS": "web.1",
        "HONCHO_PROCESS_NAME": "web.1",
        **PORTS,
    }


def test_paths_are_relative_to_the_application_root() -> None:
    Path("app/sub").mkdir(parents=True)
    Path("app/Procfile").write_text("web: x\n")
    Path("app/e").write_text("A=e\n")
    Path("app/.reaper.toml").write_text("[process.web]\ncwd = 'sub'\nenv_file = 'e'\n")
    for options in ({"app_root": "app"}, {"root": "app"}):
        web = plan(**options)["web.1"]
        assert (web.cwd, (web.env or {})["A"]) == ("app/sub", "e")


def test_settings_can_name_the_environment_files() -> None:
    Path("a").write_text("A=a\n")
    Path("b").write_text("A=b\nPORT=7000\n")
    assert ports("[env]\nfiles = ['a', 'b']\n")["web.1"] == "7000"
    assert (plan("[env]\nfiles = 'a'\n")["web.1"].env or {})["A"] == "a"
    assert (plan(env="b")["web.1"].env or {})["A"] == "b"
    [warning] = make_configuration("[env]\nfiles = ['nope']\n").warnings
    assert warning.hint == "create it, or correct the name in `env.files` of `.reaper.toml`"
    assert (warning.path, warning.level) == ("nope", "warning")
    [typed] = make_configuration("[env]\nfiles = ['a']\n", env="nope").warnings
    assert typed.hint == "create it, or correct the name after -e"


# Groups.


def test_group_is_valid_wherever_a_name_is() -> None:
    settings = "[groups]\nback = ['worker', 'db']\nall-of-it = ['back', 'web']\n"
    assert started_names(settings, names=("back",)) == ["worker.1", "db.1"]
    assert started_names(settings, exclude="back") == ["web.1"]
    assert make_configuration(settings, quiet="back").quiet == {"worker.1", "db.1"}
    assert {p.name for p in plan(settings, restart="back").values() if p.restart is When.ALWAYS} == {"worker.1", "db.1"}
    assert {p.name for p in plan(settings, can_die="all-of-it").values() if p.stop_all is When.NEVER} == {
        "web.1",
        "worker.1",
        "db.1",
    }
    found = plan(settings + "[process.web]\ndepends_on = ['back']\n")
    assert [edge.name for edge in found["web.1"].depends_on] == ["worker.1", "db.1"]


def test_group_can_contain_instances() -> None:
    settings = "[groups]\nsome = ['web.2', 'db']\n[process.web]\nconcurrency = 2\n"
    assert started_names(settings, names=("some",)) == ["web.2", "db.1"]


@pytest.mark.parametrize(
    ("groups", "line", "message"),
    [
        ("web = ['db']", 2, "the group `web` has the name of a process type"),
        ("a = ['db',\n'wbe']", 3, "`wbe` in the group `a` does not exist"),
        ("a = ['a']", 2, "the group `a` contains itself: a -> a"),
        ("a = ['b']\nb = ['c']\nc = ['a', 'web']", 2, "the group `a` contains itself: a -> b -> c -> a"),
        ("all = ['db']", 2, "a group cannot be called `all`"),
    ],
)
def test_invalid_group_is_an_error(groups: str, line: int, message: str) -> None:
    problem = find_error(f"[groups]\n{groups}\n")
    assert (problem.line, problem.message[: len(message)]) == (line, message)


# The processes that start.

CHAIN = (
    "[process.web]\ndepends_on = ['worker']\n[process.worker]\ndepends_on = ['db']\n[process.db]\nautostart = false\n"
)


def test_named_process_starts_its_dependencies_in_the_order_of_the_files() -> None:
    assert started_names(CHAIN, names=("worker",)) == ["worker.1", "db.1"]
    assert ports(names=("worker",)) == {"worker.1": "5000", "db.1": "5100"}
    assert ports(names=("worker", "web")) == {"web.1": "5000", "worker.1": "5100", "db.1": "5200"}
    assert ports(names=("db", "worker")) == {"db.1": "5000", "worker.1": "5100"}


def test_no_deps_starts_only_named_processes_which_do_not_wait() -> None:
    found = plan(CHAIN, names=("web", "worker"), no_deps=True)
    assert list(found) == ["web.1", "worker.1"]
    assert found["web.1"].depends_on == (Dependency("worker.1"),)
    assert found["worker.1"].depends_on == ()


def test_process_without_autostart_starts_as_a_dependency_or_by_name() -> None:
    settings = "[process.db]\nautostart = false\n"
    assert started_names(settings) == ["web.1", "worker.1"]
    assert ports(settings) == {"web.1": "5000", "worker.1": "5100", "db.1": "5200"}
    assert started_names(settings, names=("db",)) == ["db.1"]
    assert started_names(CHAIN) == ["web.1", "worker.1", "db.1"]
    assert started_names(CHAIN, no_deps=True) == ["web.1", "worker.1"]


def test_excluded_process_does_not_start_and_no_process_waits_for_it() -> None:
    found = make_configuration(CHAIN, exclude="worker")
    assert found.plan.names == ("web.1",)
    assert [process.depends_on for process in found.plan.processes] == [(), (Dependency("db.1"),), ()]
    assert started_names(CHAIN, names=("web",), exclude="worker") == ["web.1"]
    assert started_names(concurrency="web=2", exclude="web.2,db") == ["web.1", "worker.1"]
    Path(".reaper.toml").unlink()
    assert started_names(exclude="web") == ["worker.1", "db.1"]


# Flags.


def test_restart_flag_means_always_and_skips_oneshots() -> None:
    settings = "[process.db]\noneshot = true\n[process.web]\nrestart = 'on-failure'\nmax_retries = 3\n"
    assert [process.restart for process in plan(settings, restart="all").values()] == [
        When.ALWAYS,
        When.ALWAYS,
        When.NEVER,
    ]
    assert plan(restart="web")["web.1"].max_retries == 3
    assert find_error(restart="db").message == "-r: `db` is a oneshot, so it cannot be restarted always"
    assert [process.restart for process in plan("", restart="web, worker,").values()] == [
        When.ALWAYS,
        When.ALWAYS,
        When.NEVER,
    ]


def test_can_die_sets_stop_all_to_never() -> None:
    assert [process.stop_all for process in plan(can_die="worker").values()] == [When.ALWAYS, When.NEVER, When.ALWAYS]
    assert {process.stop_all for process in plan(can_die="all").values()} == {When.NEVER}


def test_timeout_flag_overrides_all_settings() -> None:
    settings = "[process.web]\nstop = { signal = 'INT', timeout = '30s' }\n"
    assert [process.stop for process in plan(settings, timeout="1").values()] == [
        StopPolicy(2, 1.0),
        StopPolicy(15, 1.0),
        StopPolicy(15, 1.0),
    ]
    assert plan(settings)["web.1"].stop == StopPolicy(2, 30.0)


@pytest.mark.parametrize(
    ("option", "flag"), [("quiet", "-q"), ("restart", "-r"), ("can_die", "--can-die"), ("exclude", "-x")]
)
def test_unknown_name_is_reported_for_each_option(option: str, flag: str) -> None:
    problem = find_error("", **{option: "web,wroker"})
    assert (problem.message, problem.hint) == (f"{flag}: there is no process `wroker`", "did you mean `worker`?")
    assert find_error("", **{option: "web.2"}).message == f"{flag}: there is no process `web.2`"


def test_instance_cannot_be_named_at_start_as_in_honcho() -> None:
    assert find_error("", names=("web.1",)).message == "Process type 'web.1' does not exist in Procfile"


@pytest.mark.parametrize(
    ("options", "log_format", "timestamps"),
    [
        ({}, "json", False),
        ({"log_format": "text"}, "text", False),
        ({"timestamp": True}, "json", True),
    ],
)
def test_flags_override_the_output_settings(options: dict[str, object], log_format: str, timestamps: bool) -> None:
    settings = "[output]\nformat = 'json'\ntimestamps = false\n[control]\nhttp = '127.0.0.1:9464'\n"
    found = make_configuration(settings, **options)
    assert (found.log_format, found.timestamps) == (log_format, timestamps)
    assert found.http is not None
    assert str(found.http.address) == "127.0.0.1:9464"


@pytest.mark.parametrize(
    ("settings", "flag", "terminal", "expected"),
    [
        ("", None, False, [False, False, False]),
        ("", None, True, [True, True, True]),
        ("", True, False, [True, True, True]),
        ("", False, True, [False, False, False]),
        ("[process.web]\npty = true\n", None, False, [True, False, False]),
        ("[process.web]\npty = 'auto'\n[defaults]\npty = false\n", None, True, [True, False, False]),
        ("[process.web]\npty = true\n[defaults]\npty = false\n", None, False, [True, False, False]),
        ("[process.web]\npty = false\n", True, False, [True, True, True]),
        ("[process.web]\npty = true\n", False, True, [False, False, False]),
        # A detached process outlives us, but a terminal would not.
        ("[process.web]\ndetached = true\nlog = 'x'\n[defaults]\npty = true\n", True, True, [False, True, True]),
    ],
)
def test_flag_settings_and_terminal_determine_the_pty(
    settings: str, flag: bool | None, terminal: bool, expected: list[bool]
) -> None:
    if settings:
        Path(".reaper.toml").write_text(settings)
    found = configure(Options(pty=flag), {}, terminal=terminal)
    assert [process.pty for process in found.plan.processes] == expected


def test_unknown_log_format_is_an_error() -> None:
    assert find_error(log_format="jsn").hint == "did you mean `json`?"


def test_parser_setting_selects_python_dotenv_for_all_environment_files() -> None:
    Path(".env").write_text("export A=b c\nHOST=${HOME}\n")
    Path("more").write_text("B=${A}!\n")
    settings = "[env]\nparser = 'dotenv'\n[process.web]\nenv_file = 'more'\n"
    found = plan(settings)["web.1"].env or {}
    assert (found["A"], found["B"], found["HOST"]) == ("b c", "b c!", "/home/me")
    assert make_configuration(settings).warnings == ()


# Random settings raise no other exception.

FIELDS = {
    "command": ["'x'", "['x', '$PORT']", "' '"],
    "cwd": ["'.'", "'nope'"],
    "env": ["{ A = '$PORT', B = '$A$A' }", "{ A = '$B' }", "{ PORT = 1, PATH = false }", "{ A = '${', '' = 1 }"],
    "env_file": ["'Procfile'", "['nope', '.']"],
    "concurrency": ["0", "2"],
    "autostart": ["true", "false"],
    "oneshot": ["true", "false"],
    "depends_on": [
        *("['web']", "['db', 'new']", "['group']", "['db.1', 'db.2']", "['nope']", "[]"),
        *("{ db = 'healthy' }", "{ new = { condition = 'completed', restart = true }, worker = {} }"),
    ],
    "restart": ["'never'", "'on-failure'", "'always'", "'on-failure:2'", "'no'"],
    "max_retries": ["1", "2"],
    "success_codes": ["[0, 'SIGTERM']", "['SIGNOPE']", "[]"],
    "backoff": ["0", "'5m'", "{ initial = 9, max = 3 }", "{ reset = '1h' }"],
    "stop_all": ["'never'", "'always'"],
    "health": [
        "'http://$A'",
        "'tcp://x:$PORT'",
        "'x://y'",
        "{}",
        "{ log = '[' }",
        "{ exec = 'x', log = 'y', interval = 0 }",
    ],
    "stop": ["'SIGINT'", "'NOPE'", "{ command = 'x', signal = 'INT' }", "{ timeout = 0 }"],
    "watch": ["['x']", "{ run = 'x' }", "{ paths = [] }"],
    "log": ["'$A.log'", "{ max_files = 0 }"],
    "pty": ["true", "'auto'"],
    "detached": ["true", "false"],
    "hooks": ["{ on_fail = 'x' }", "{}"],
}
TABLES = st.fixed_dictionaries({}, optional={field: st.sampled_from(values) for field, values in FIELDS.items()})
GROUPS = st.sampled_from(["['db', 'new']", "['group']", "['other']", "['nope', 'web.1']", "[]"])
NAMES = st.sampled_from(["web", "db", "new", "group", "other", "nope", "web.1", "web.2", "all", "", ","])
DOCUMENTS = st.tuples(
    st.dictionaries(
        st.sampled_from(["defaults", *(f"process.{name}" for name in ("web", "db", "new", "odd"))]), TABLES
    ),
    st.dictionaries(st.sampled_from(["group", "other", "db"]), GROUPS),
)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "names": st.lists(NAMES, max_size=2).map(tuple),
        **{option: st.lists(NAMES, max_size=2).map(",".join) for option in ("quiet", "restart", "can_die", "exclude")},
        "no_deps": st.booleans(),
        "concurrency": st.sampled_from(["db=0", "web=2,db=2"]),
        "formation": st.sampled_from(["all=1", "web=1"]),
        "timeout": st.just("1"),
    },
)


def written(tables: dict[str, dict[str, str]], groups: dict[str, str]) -> str:
    lines = [f"[{table}]\n" + "\n".join(map(" = ".join, fields.items())) for table, fields in tables.items()]
    return "\n".join([*lines, "[groups]", *map(" = ".join, groups.items())])


def check_soundness(plan: Plan) -> None:
    by_name = {process.name: process for process in plan.processes}
    started_names = set(by_name) if plan.names is None else set(plan.names)
    assert started_names <= set(by_name)
    assert find_cycle({name: [edge.name for edge in process.depends_on] for name, process in by_name.items()}) == ()
    for process in plan.processes:
        for edge in process.depends_on:
            # The dependencies of a process that starts also start.
            assert edge.name in (started_names if process.name in started_names else by_name)
            assert edge.condition is not Condition.HEALTHY or by_name[edge.name].health is not None


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS, CHOICES)
def test_any_settings_give_a_sound_plan_or_problems_with_a_place(
    document: tuple[dict[str, dict[str, str]], dict[str, str]], options: dict[str, object]
) -> None:
    try:
        found = make_configuration(written(*document), **options)
    except ConfigError as error:
        for problem in error.problems:
            assert (problem.path is None) == (problem.line is None) or problem.path == "Procfile"
    else:
        check_soundness(found.plan)


SOUND = {
    "concurrency": ["1", "2"],
    "autostart": ["true", "false"],
    "restart": ["'never'", "'on-failure'"],
    "health": ["'tcp://x:$PORT'", "{ log = 'up' }"],
    "watch": ["['x']"],
    "stop": ["'SIGINT'"],
}
NEEDS = {
    "web": ["['db']", "['new', 'worker']", "['group']", "{ db = { restart = true }, 'worker.1' = 'started' }"],
    "worker": ["['db', 'new']", "['new.1']"],
    "db": ["['new']"],
    "new": ["[]"],
}
SOUND_TABLES = st.fixed_dictionaries(
    {
        f"process.{name}": st.fixed_dictionaries(
            {"command": st.just("'x'")},
            optional={
                "depends_on": st.sampled_from(needs),
                **{field: st.sampled_from(values) for field, values in SOUND.items()},
            },
        )
        for name, needs in NEEDS.items()
    }
)
KNOWN = st.lists(st.sampled_from(["web", "worker", "db", "new", "group"]), max_size=2)
SOUND_CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "names": KNOWN.map(tuple),
        **{option: KNOWN.map(",".join) for option in ("quiet", "restart", "can_die", "exclude")},
        "no_deps": st.booleans(),
    },
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SOUND_TABLES, SOUND_CHOICES)
def test_settings_without_a_mistake_give_a_sound_plan(
    tables: dict[str, dict[str, str]], options: dict[str, object]
) -> None:
    found = make_configuration(written(tables, {"group": "['db', 'new']"}), **options)
    check_soundness(found.plan)
    assert found.warnings == ()
    if not options.get("names"):
        assert {process.type for process in found.plan.processes} == set(NEEDS)


# The own port of a type.


def test_type_with_its_own_port_does_not_move_other_ports() -> None:
    settings = "[process.worker]\nport = 3000\nconcurrency = 2\n"
    expected = {"web.1": "5000", "worker.1": "3000", "worker.2": "3001", "db.1": "5200"}
    assert ports(settings) == expected
    assert ports(settings, port="7000") == expected | {"web.1": "7000", "db.1": "7200"}


def test_health_and_variables_use_the_own_port_of_a_type() -> None:
    web = plan_web('port = 3000\nhealth = "tcp://127.0.0.1:$PORT"\nenv = { URL = "http://localhost:$PORT" }')
    assert web.health is not None
    assert web.health.check == TCPCheck("127.0.0.1:3000")
    assert (web.env or {})["URL"] == "http://localhost:3000"
    assert web.port == 3000
    assert plan("[process.web]\n")["web.1"].port is None


def test_port_number_in_the_defaults_is_one_error() -> None:
    for own in ("", "[process.web]\nport = 80\n[process.worker]\nport = 81\n[process.db]\nport = 82\n"):
        problem = find_error(f"[defaults]\nport = 3000\n{own}")
        assert problem.line == 2
        assert "all process types would have the same port" in problem.message


def test_hint_for_a_port_variable_in_the_defaults_names_no_type() -> None:
    hints = {problem.hint for problem in find_errors("[defaults]\nenv = { PORT = 3000 }\n")}
    assert hints == {
        "write `port = 3000` under `[process.NAME]` for the port of one type; `-p` sets that of the first type"
    }


def test_two_processes_with_the_same_port_are_a_warning() -> None:
    settings = "[process.web]\nport = 3001\n[process.db]\nport = 3000\nconcurrency = 3\n"
    [warning] = make_configuration(settings).warnings
    assert (warning.level, warning.message) == ("warning", "`web.1` and `db.2` both have port 3001")
    assert make_configuration("[process.web]\nport = 5100\n").warnings == ()


def test_port_after_the_highest_one_is_a_warning() -> None:
    [warning] = make_configuration("[process.web]\nport = 65535\nconcurrency = 2\n").warnings
    assert warning.message == "PORT of `web.2` is 65536, but ports end at 65535"
    assert warning.hint == "choose a lower `port`, or run fewer processes"


@pytest.mark.parametrize(
    ("settings", "port", "derived", "fixed"),
    [
        ("", "auto", {"web.1", "worker.1", "db.1"}, {}),
        ("[process.web]\nport = 'auto'\n", None, {"web.1"}, {"worker.1": "5100", "db.1": "5200"}),
        ("[process.web]\nport = 'auto'\n", "7000", {"web.1"}, {"worker.1": "7100", "db.1": "7200"}),
        ("[defaults]\nport = 'auto'\n", None, {"web.1", "worker.1", "db.1"}, {}),
        ("[defaults]\nport = 'auto'\n", "7000", set(), {"web.1": "7000", "worker.1": "7100", "db.1": "7200"}),
        ("[defaults]\nport = 'auto'\n[process.db]\nport = 80\n", None, {"web.1", "worker.1"}, {"db.1": "80"}),
        ("[process.db]\nport = 80\n", "auto", {"web.1", "worker.1"}, {"db.1": "80"}),
    ],
)
def test_own_port_beats_p_which_beats_the_default_port(
    settings: str, port: str | None, derived: set[str], fixed: dict[str, str]
) -> None:
    found = ports(settings, port=port)
    root = os.path.realpath(".")
    assert found == fixed | {name: str(derive_port(root, name)) for name in derived}


def test_derived_port_differs_from_all_other_ports() -> None:
    first = derive_port(os.path.realpath("."), "web.1")
    settings = f"[process.web]\nport = 'auto'\n[process.db]\nport = {first}\nconcurrency = 2\n"
    assert ports(settings) == {"web.1": str(first + 2), "worker.1": "5100", "db.1": str(first), "db.2": str(first + 1)}


def test_every_process_has_variables_with_the_ports_of_all_types() -> None:
    settings = "[process.db]\nport = 80\nautostart = false\n[process.worker]\nconcurrency = 0\n"
    expected = {"PROCREAPER_PORT_WEB": "5000", "PROCREAPER_PORT_WORKER": "5100", "PROCREAPER_PORT_DB": "80"}
    for process in plan(settings).values():
        assert {name: value for name, value in (process.env or {}).items() if name.startswith("PROCREAPER")} == expected
    Path(".reaper.toml").unlink()
    [web] = plan(names=("web",)).values()
    assert (web.env or {})["PROCREAPER_PORT_WEB"] == "5000"
    assert "PROCREAPER_PORT_DB" not in (web.env or {})


def test_port_variables_cannot_be_overridden() -> None:
    Path(".env").write_text("PROCREAPER_PORT_WEB=1\n")
    Path("db.env").write_text("PROCREAPER_PORT_WEB=2\n")
    settings = '[process.db]\nenv_file = "db.env"\nenv = { WEB = "$PROCREAPER_PORT_WEB" }\n'
    assert [(process.env or {})["PROCREAPER_PORT_WEB"] for process in plan(settings).values()] == ["5000"] * 3
    assert (plan(settings)["db.1"].env or {})["WEB"] == "5000"
    problem = find_error("[process.db]\nenv = { PROCREAPER_PORT_WEB = 1 }\n")
    assert "`process.db.env.PROCREAPER_PORT_WEB` cannot be set" in problem.message


def test_port_variable_of_two_types_has_the_port_of_the_first() -> None:
    Path("Procfile").write_text("a-b: x\na_b: y\n")
    assert {(process.env or {})["PROCREAPER_PORT_A_B"] for process in plan().values()} == {"5000"}
