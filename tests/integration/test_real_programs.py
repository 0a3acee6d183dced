"""Real servers under supervision: redis and PostgreSQL, with what depends on them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.driver import LIMIT, Project, lines_of
from support.pages import free_port


def postgres_programs() -> Path | None:
    """Where Debian keeps `initdb` and `postgres`, which are not on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
def test_redis_restarts_with_back_off_and_its_worker_waits(project: Project) -> None:
    port = free_port()
    project.procfile(
        worker=f"redis-cli -p {port} ping; exec sleep 600",
        redis=f"exec redis-server --port {port} --bind 127.0.0.1 --save '' --appendonly no",
    )
    project.write(
        ".reaper.toml",
        '[process.worker]\ndepends_on = ["redis"]\n'
        '[process.redis]\nrestart = "always"\nbackoff = "10ms"\n'
        f'health = {{ tcp = "127.0.0.1:{port}", start_interval = "20ms" }}\n',
    )
    program = project.begin("start")
    program.wait_for(r"worker\.1 +\| PONG")
    for crash in (1, 2, 3):
        pid = program.wait_for(r"redis\.1 started \(pid=(\d+)\)", count=crash)[-1]
        program.wait_for(r"redis\.1 is healthy", count=crash)
        os.kill(int(pid), signal.SIGKILL)
    program.wait_for(r"redis\.1 is healthy", count=4)
    result = program.stop(signal.SIGINT)
    assert result.code == 130
    system = result.lines("system")
    assert [line for line in system if "retry" in line] == [
        f"redis.1: killed by SIGKILL; retry {retry} in {wait:.1f} s"
        for retry, wait in ((1, 0.01), (2, 0.02), (3, 0.04))
    ]
    assert system.index("redis.1 is healthy") < next(
        number for number, line in enumerate(system) if line.startswith("worker.1 started")
    )
    assert sum("worker.1 started" in line for line in system) == 1


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A new cluster, and the command that serves it on the port after `-p`, as a user that PostgreSQL accepts."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("postgresql is not installed")
    as_user: list[str] = []
    if os.getuid() == 0:
        if (
            not shutil.which("runuser")
            or subprocess.run(["id", "postgres"], capture_output=True, check=False).returncode
        ):
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    # Not in pytest's directory, which other users may not enter.
    home = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        if as_user:
            shutil.chown(home, "postgres")
        subprocess.run(
            [
                *as_user,
                str(programs / "initdb"),
                "-D",
                str(home / "data"),
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-sync",
            ],
            cwd="/",
            capture_output=True,
            check=True,
            timeout=LIMIT,
        )
        yield programs, " ".join([*as_user, str(programs / "postgres"), "-D", str(home / "data"), "-k", str(home)])
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_postgres_migration_and_web_start_in_order_and_stop_in_reverse(
    project: Project, postgres: tuple[Path, str]
) -> None:
    programs, serve = postgres
    port = free_port()
    sql = f"{programs / 'psql'} -h 127.0.0.1 -p {port} -U postgres"
    project.procfile(
        web=f"{sql} -At -c 'select name from greeting'; exec sleep 600",
        migrate=f"{sql} -q -c 'create table greeting (name text)' -c \"insert into greeting values ('hello')\"",
        db=f"exec {serve} -p {port}",
    )
    ready = f"{programs / 'pg_isready'} -q -h 127.0.0.1 -p {port} -U postgres"
    project.write(
        ".reaper.toml",
        '[process.web]\ndepends_on = ["db", "migrate"]\n'
        '[process.migrate]\noneshot = true\ndepends_on = ["db"]\n'
        f'[process.db]\nhealth = {{ exec = "{ready}", log = "ready to accept connections", start_interval = "50ms" }}\n'
        'stop = { signal = "SIGINT", timeout = "30s" }\n',
    )
    program = project.begin("start")
    program.wait_for(r"web\.1 +\| hello")
    result = program.stop(signal.SIGINT)
    assert result.code == 130
    order = [re.sub(r" \(pid.*", "", line) for line in lines_of(result.out, "system")]
    assert order == [
        "web.1: waiting for db.1, migrate.1",
        "migrate.1: waiting for db.1",
        "db.1 started",
        "db.1 is healthy",
        "migrate.1 started",
        "migrate.1 stopped (rc=0)",
        "web.1 started",
        "SIGINT received",
        "sending SIGTERM to web.1",
        "web.1 stopped (rc=-15)",
        "sending SIGINT to db.1",
        "db.1 stopped (rc=0)",
    ]
