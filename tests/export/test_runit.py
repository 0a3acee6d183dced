"""The service directories: what their scripts do, and the settings in them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exporting import HARD, ME, TEXTS, app, exported, file, messages, telling, told

from procreaper.core.checks import ExecCheck, Health, LogCheck, TCPCheck
from procreaper.core.plan import Backoff, Condition, Dependency, LogFile, StopPolicy, When
from procreaper.export.exporter import MARK, App, Exported
from procreaper.export.runit import render

needs_chpst = pytest.mark.skipif(shutil.which("chpst") is None, reason="runit is not installed")


def write(directory: Path, app: App) -> None:
    """Write the service directories; who is not root cannot be another user, and chpst does not even try."""
    for made in render(app).files:
        path = directory / made.path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = made.content if os.getuid() == 0 else made.content.replace(f"chpst -u {ME} ", "chpst ")
        path.write_text(content, encoding="utf-8")
        path.chmod(0o755 if made.executable else 0o644)


def started(directory: Path, name: str = "app-web-1", **environment: str) -> dict[str, Any]:
    """What a service's program is given, which writes that down."""
    out = directory / "told"
    place = directory / name
    (place / "supervise").mkdir(exist_ok=True)
    given = {"PATH": os.environ["PATH"], "OUT": str(out), **environment}
    ran = subprocess.run([str(place / "run")], cwd=place, env=given, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")
    return told(out)


@needs_chpst
@pytest.mark.parametrize("supervised", [False, True])
def test_every_hard_text_arrives(tmp_path: Path, supervised: bool) -> None:
    values = {f"V{number}": text for number, text in enumerate(HARD)}
    whole = app(exported(command=telling(tmp_path, *HARD), environment=values), settings=supervised, **me(tmp_path))
    write(tmp_path, whole)
    data = started(tmp_path)
    assert data["arguments"] == list(HARD)
    assert {name: data["environment"].get(name) for name in values} == values


def me(directory: Path) -> dict[str, str]:
    return {"root": str(directory), "user": ME, "log": str(directory)}


@needs_chpst
@given(arguments=st.lists(TEXTS, max_size=5), values=st.lists(TEXTS, min_size=1, max_size=10))
@settings(deadline=None, max_examples=20)
def test_any_text_arrives(arguments: list[str], values: list[str]) -> None:
    named = {f"V{number}": text for number, text in enumerate(values)}
    with TemporaryDirectory() as directory:
        place = Path(directory)
        write(place, app(exported(command=telling(place, *arguments), environment=named), **me(place)))
        data = started(place)
    assert data["arguments"] == arguments
    assert {name: data["environment"].get(name) for name in named} == named


@needs_chpst
def test_the_command_reads_the_variables_of_its_own_environment(tmp_path: Path) -> None:
    command = telling(tmp_path) + ' $PORT "${PORT}" && true'
    write(tmp_path, app(exported(command=command, environment={"PORT": "5000"}), **me(tmp_path)))
    assert started(tmp_path, PORT="1")["arguments"] == ["5000", "5000"]


@needs_chpst
def test_variables_are_unset_and_the_directory_is_changed(tmp_path: Path) -> None:
    place = tmp_path / "it's 50% $HOME"
    place.mkdir()
    one = exported(command=telling(tmp_path), unset=("DEBUG",), cwd=str(place))
    write(tmp_path, app(one, settings=True, **me(tmp_path)))
    data = started(tmp_path, DEBUG="1")
    assert "DEBUG" not in data["environment"]
    assert data["directory"] == str(place)


@needs_chpst
def test_the_output_goes_to_the_log(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "logs of it" / "a b.log"))
    one = exported(command="echo hello; echo there >&2", environment={"A": "1"}, said=("log",), log=log)
    write(tmp_path, app(one, settings=True, **me(tmp_path)))
    (tmp_path / "app-web-1" / "supervise").mkdir()
    subprocess.run(["./run"], cwd=tmp_path / "app-web-1", check=True)
    assert (tmp_path / "logs of it" / "a b.log").read_text() == "hello\nthere\n"
    assert not (tmp_path / "app-web-1" / "log").exists()


class Finish:
    """Runs the script `finish` of a service as runsv does, with a `sleep` that only tells."""

    def __init__(self, directory: Path, one: Exported) -> None:
        write(directory, app(one, settings=True, **me(directory)))
        self._place = directory / f"app-{one.slug}"
        self._supervise = self._place / "supervise"
        self._supervise.mkdir()
        (self._supervise / "stat").write_text("finish\n")
        (directory / "bin").mkdir()
        for name, script in {"sleep": 'echo "$1"', "date": f"cat {self._supervise}/now"}.items():
            (directory / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (directory / "bin" / name).chmod(0o755)
        self._path = f"{directory}/bin:{os.environ['PATH']}"
        self._now = 1000

    def asked(self, want: str) -> None:
        (self._supervise / "stat").write_text(f"finish, want {want}\n" if want else "finish\n")

    def __call__(self, code: int, signal: int = 0, *, after: int = 0) -> str:
        """How long it waits until the next run; `down` where there is none."""
        (self._supervise / "started").write_text(f"{self._now}\n")
        self._now += after
        (self._supervise / "now").write_text(f"{self._now}\n")
        (self._supervise / "control").unlink(missing_ok=True)
        ran = subprocess.run(
            ["./finish", str(code), str(signal)],
            cwd=self._place,
            env={"PATH": self._path},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stderr == ""
        control = self._supervise / "control"
        return control.read_text().replace("d", "down") if control.exists() else ran.stdout.strip()


def test_the_wait_doubles_up_to_the_maximum_and_begins_anew_after_a_long_run(tmp_path: Path) -> None:
    backoff = Backoff(0.5, 3.0, 45.0)
    finish = Finish(tmp_path, exported(said=("restart",), restart=When.ALWAYS, backoff=backoff))
    assert [finish(1) for _ in range(5)] == ["0.5", "1", "2", "3", "3"]
    assert [finish(0, after=44), finish(0, after=45), finish(0)] == ["3", "0.5", "1"]


def test_it_stays_down_when_the_retries_are_used_up(tmp_path: Path) -> None:
    finish = Finish(tmp_path, exported(said=("restart",), restart=When.ON_FAILURE, max_retries=2))
    assert [finish(1) for _ in range(3)] == ["1", "2", "down"]
    assert finish(1) == "1"


def test_a_success_is_not_restarted_on_failure(tmp_path: Path) -> None:
    codes = frozenset({0, 3, 143})
    finish = Finish(tmp_path, exported(said=("restart",), restart=When.ON_FAILURE, success_codes=codes))
    assert [finish(0), finish(3), finish(-1, 15)] == ["down", "down", "down"]
    assert [finish(1), finish(-1, 9), finish(-1, 0x80 | 11)] == ["1", "2", "4"]


def test_what_is_never_restarted_stays_down(tmp_path: Path) -> None:
    assert Finish(tmp_path, exported(oneshot=True))(1) == "down"


@pytest.mark.parametrize("want", ["down", "exit"])
def test_what_was_asked_to_be_down_does_not_wait(tmp_path: Path, want: str) -> None:
    finish = Finish(tmp_path, exported(said=("restart",), restart=When.ALWAYS))
    assert [finish(1), finish(1)] == ["1", "2"]
    finish.asked(want)
    assert finish(-1, 15) == ""
    finish.asked("")
    assert finish(1) == "1"


def lines(app: App, path: str) -> list[str]:
    made = file(render(app), path)
    assert made.executable
    return made.content.splitlines()


def test_it_waits_for_what_it_needs() -> None:
    db = exported("db.1", health=Health(check=ExecCheck("pg_isready -q")))
    web = exported("web.1", depends_on=(Dependency("db.1", Condition.HEALTHY),))
    whole = app(db, web, settings=True)
    assert lines(whole, "app-web-1/run") == [
        "#!/bin/sh",
        f"# {MARK}",
        "exec 2>&1",
        "until sv start ../app-db-1 >/dev/null; do sleep 1; done",
        "date +%s >supervise/started",
        "ENVDIR=$PWD/env",
        "cd /srv/app || exit 1",
        'exec chpst -u app -P -e "$ENVDIR" \\',
        "  /bin/sh -c true",
    ]
    assert lines(whole, "app-db-1/check")[-2:] == [
        'exec chpst -u app -e "$ENVDIR" \\',
        "  /bin/sh -c 'pg_isready -q'",
    ]


def test_it_is_asked_to_end_as_it_was_said() -> None:
    stops = {
        StopPolicy(2): 'kill -s INT -- -"$pid"',
        StopPolicy(2, only_main=True): 'kill -s INT "$pid"',
        StopPolicy(command="bin/stop 'x'"): """  /bin/sh -c 'bin/stop '"'"'x'"'"''""",
    }
    for stop, line in stops.items():
        assert lines(app(exported(stop=stop), settings=True), "app-web-1/control/t")[-1] == line


def test_what_does_not_start_by_itself_is_down() -> None:
    rendered = render(app(exported(autostart=False), exported("db.1"), settings=True))
    assert [made.path for made in rendered.files if made.path.endswith("/down")] == ["app-web-1/down"]


def test_what_runit_cannot_say_is_told_with_its_line() -> None:
    said = ("health", "watch", "hooks", "stop_all", "pty", "stop.timeout", "depends_on", "log", "log.max_size")
    one = exported(
        said=said,
        stop_all=When.ALWAYS,
        pty=True,
        log=LogFile("/l"),
        health=Health(check=TCPCheck(":80")),
        depends_on=(Dependency("db.1", Condition.HEALTHY, restart=True), Dependency("once.1", Condition.COMPLETED)),
    )
    rendered = render(app(exported("db.1"), exported("once.1"), one, settings=True))
    found = [said[problem.line - 1] for problem in rendered.warnings if problem.line]
    assert sorted(found) == sorted([*(set(said) - {"log"}), "depends_on", "depends_on"])


def test_a_pattern_beside_a_command_is_left_out() -> None:
    health = Health(check=ExecCheck("true"), log=LogCheck("ready"))
    one = exported(said=("health", "health.log"), health=health)
    assert "`health.log` of `web` is left out: runit has nothing like it" in messages(render(app(one, settings=True)))


def test_a_command_that_checks_health_is_told_to_count_at_the_start_only() -> None:
    one = exported(said=("health",), health=Health(check=ExecCheck("true")))
    assert messages(render(app(one, settings=True))) == [
        "`health` of `web` counts only at its start: runit does not restart the unhealthy"
    ]
