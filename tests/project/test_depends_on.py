"""The resolution of `depends_on`, and the impossible dependencies."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.planning_helpers import PROCFILE, find_error, find_errors, plan, started_names

from procreaper.core.plan import Condition, Dependency


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("Procfile").write_text(PROCFILE)
    return tmp_path


def test_default_condition_is_that_the_dependency_is_up() -> None:
    settings = (
        "[process.web]\ndepends_on = ['worker', 'db', 'job']\n[process.db]\nhealth = 'tcp://a:1'\n"
        "[process.job]\ncommand = 'x'\noneshot = true\n"
    )
    assert plan(settings)["web.1"].depends_on == (
        Dependency("worker.1", Condition.STARTED),
        Dependency("db.1", Condition.HEALTHY),
        Dependency("job.1", Condition.COMPLETED),
    )


def test_type_means_all_its_instances() -> None:
    settings = "[process.web]\ndepends_on = ['db']\n[process.worker]\ndepends_on = { 'db.2' = 'started' }\n"
    found = plan(settings, concurrency="db=2,web=2")
    assert found["web.2"].depends_on == (Dependency("db.1"), Dependency("db.2"))
    assert found["worker.1"].depends_on == (Dependency("db.2"),)


def test_cycle_is_reported_at_its_first_dependency() -> None:
    settings = (
        "[process.web]\ndepends_on = ['worker']\n[process.worker]\ndepends_on = ['db']\n"
        "[process.db]\ndepends_on = ['web']\n"
    )
    problem = find_error(settings)
    assert (problem.line, problem.message) == (2, "dependency cycle: web -> worker -> db -> web")


def test_names_are_checked_even_if_other_values_are_broken() -> None:
    settings = (
        "[process.web]\nrestart = 3\ndepends_on = ['nope', 4]\n[process.worker]\ndepends_on = { naught = 5 }\n"
        "[groups]\nboth = ['web', 'nothing', 6]\n"
    )
    assert sorted((problem.line or 0, problem.message.partition(",")[0]) for problem in find_errors(settings)) == [
        (2, "`process.web.restart` must be `never`"),
        (3, "`process.web.depends_on[1]` must be a string"),
        (3, "`web` depends on `nope`"),
        (5, "`process.worker.depends_on.naught` must be `started`"),
        (5, "`worker` depends on `naught`"),
        (7, "`groups.both[2]` must be a string"),
        (7, "`nothing` in the group `both` does not exist"),
    ]


@pytest.mark.parametrize("broken", ["[groups]\nboth = 'web'\n", "[process]\nboth = 3\n", "groups = 3\n"])
def test_name_in_a_broken_table_is_not_reported_as_unknown(broken: str) -> None:
    settings = f"{broken}[process.web]\ndepends_on = ['both']\n"
    [problem] = find_errors(settings)
    assert "must be a" in problem.message


def test_two_cycles_are_both_reported() -> None:
    settings = (
        "[process.web]\ndepends_on = ['db']\n[process.db]\ndepends_on = ['web']\n"
        "[process.a]\ncommand = 'a'\ndepends_on = ['b']\n[process.b]\ncommand = 'b'\ndepends_on = ['a']\n"
    )
    assert [problem.message.rpartition(": ")[2] for problem in find_errors(settings)] == [
        "web -> db -> web",
        "a -> b -> a",
    ]


def test_process_that_always_restarts_cannot_complete() -> None:
    settings = "[process.web]\ndepends_on = { db = 'completed' }\n[process.db]\nrestart = 'WHEN'\n"
    assert "`db` is completed, but `db` is always restarted" in find_error(settings.replace("WHEN", "always")).message
    assert "restarted by -r" in find_error(settings.replace("WHEN", "never"), restart="all").message
    found = plan(settings.replace("WHEN", "on-failure"))
    assert found["web.1"].depends_on == (Dependency("db.1", Condition.COMPLETED),)


def test_process_cannot_wait_for_a_missing_instance() -> None:
    settings = "[process.web]\ndepends_on = ['db']\n"
    problem = find_error(settings, concurrency="db=0")
    assert (problem.line, problem.message) == (2, "`web` depends on `db`, but the concurrency of `db` is 0")
    assert "-x db" in str(problem.hint)
    assert started_names(settings, concurrency="db=0", exclude="db") == ["web.1", "worker.1"]
    assert started_names(settings, concurrency="db=0", no_deps=True) == ["web.1", "worker.1"]
    assert started_names(settings, concurrency="db=0,web=0") == ["worker.1"]
    assert started_names(settings, concurrency="db=0", names=("worker",)) == ["worker.1"]


def test_dependency_on_a_group_covers_its_existing_members() -> None:
    settings = "[groups]\nback = ['worker', 'db']\n[process.web]\ndepends_on = ['back']\n"
    assert [edge.name for edge in plan(settings, concurrency="db=0")["web.1"].depends_on] == ["worker.1"]
    assert "the concurrency of `worker` is 0" in find_error(settings, concurrency="db=0,worker=0").message


def test_dependency_in_the_defaults_must_exist() -> None:
    assert find_error("[defaults]\ndepends_on = ['nope']\n").message.startswith("every process depends on `nope`")


def test_dependency_in_the_defaults_does_not_depend_on_itself() -> None:
    found = plan("[defaults]\ndepends_on = ['db']\n")
    assert found["web.1"].depends_on == (Dependency("db.1"),)
    assert found["db.1"].depends_on == ()
