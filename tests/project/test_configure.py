from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from procreaper.cli.app.plan_source import PlanSource
from procreaper.core.plan import When
from procreaper.errors import ConfigError, Problem, UnknownProcessError
from procreaper.project.configure import Configuration, Options, Project, configure, read_environment, read_project


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("Procfile").write_text("web: run web\nworker: run worker\n")
    return tmp_path


def configured(environment: dict[str, str] | None = None, **options: object) -> Configuration:
    return configure(Options(**options), environment or {})  # type: ignore[arg-type]


def ports(found: Configuration) -> dict[str, str]:
    return {process.name: (process.env or {})["PORT"] for process in found.plan.processes}


def refused(environment: dict[str, str] | None = None, **options: object) -> Problem:
    with pytest.raises(ConfigError) as caught:
        configured(environment, **options)
    [problem] = (problem for problem in caught.value.problems if problem.level == "error")
    assert problem.hint
    return problem


# The places of the files.


def test_app_root_moves_only_the_files_and_root_also_the_children(directory: Path) -> None:
    Path("sub").mkdir()
    Path("sub/Procfile").write_text("sub: a\n")
    Path("sub/.env").write_text("A=sub\n")
    [process] = configured(app_root="sub").plan.processes
    assert (process.name, process.cwd, process.env and process.env["A"]) == ("sub.1", None, "sub")
    [process] = configured(root="sub").plan.processes
    assert (process.name, process.cwd, process.env and process.env["A"]) == ("sub.1", "sub", "sub")


def test_named_files_are_relative_to_the_current_directory_with_root() -> None:
    Path("sub").mkdir()
    Path("sub/Procfile").write_text("sub: a\n")
    Path("one.env").write_text("A=one\n")
    processes = configured(root="sub", procfile="Procfile", env="one.env").plan.processes
    assert [process.name for process in processes] == ["web.1", "worker.1"]
    assert processes[0].env is not None
    assert processes[0].env["A"] == "one"


def test_procfile_variable_of_the_env_file_overrides_our_environment() -> None:
    Path("other").write_text("other: a\n")
    Path("third").write_text("third: a\n")
    ours = {"PROCFILE": "third"}
    assert read_project(Options(), ours).procfile.path == "third"
    Path(".env").write_text("PROCFILE=other\n")
    assert read_project(Options(), ours).procfile.path == "other"
    assert read_project(Options(procfile="Procfile"), ours).procfile.path == "Procfile"


def test_parent_of_a_link_is_the_parent_of_its_target() -> None:
    Path("other/deep").mkdir(parents=True)
    Path("other/Procfile").write_text("other: a\n")
    Path("other/.env").write_text("A=other\n")
    Path("link").symlink_to("other/deep")
    for options in (Options(app_root="link/.."), Options(procfile="link/../Procfile", env="link/../.env")):
        project = read_project(options, {})
        assert [entry.name for entry in project.procfile.entries] == ["other"]
        assert project.environment == {"A": "other"}


@pytest.mark.parametrize("path", ["nope", "nope/Procfile", "Procfile/Procfile", "."])
def test_procfile_that_is_not_a_file_is_an_error_with_its_path(path: str) -> None:
    problem = refused(procfile=path)
    assert problem.path == path
    assert "Procfile does not exist or is not a file" in problem.message


def test_hint_proposes_a_procfile_with_another_name() -> None:
    Path("Procfile").rename("Procfile.dev")
    assert refused().hint == "there is `Procfile.dev`; name it with -f"
    Path("Procfile.dev").unlink()
    assert "create it with a line such as" in str(refused().hint)


def test_run_warns_of_a_missing_app_root() -> None:
    _, [warning] = read_environment(Options(app_root="nope"))
    assert (warning.level, warning.message) == (
        "warning",
        "-d nope: this is not a directory, so nothing is taken from it",
    )


@pytest.mark.parametrize("path", ["nope", "Procfile/.env"])
def test_missing_environment_file_is_a_warning(path: str) -> None:
    values, [warning] = read_environment(Options(env=path))
    assert (values, warning.level, warning.path) == ({}, "warning", path)


def test_directory_named_env_is_ignored_with_a_warning() -> None:
    Path(".env").mkdir()
    values, [warning] = read_environment(Options())
    assert (values, warning.level, warning.path) == ({}, "warning", ".env")


def test_later_environment_files_win_and_blanks_around_names_are_ignored() -> None:
    Path("a").write_text("A=a\nB=a\n")
    Path("b").write_text("B=b\n")
    assert read_environment(Options(env="a , b,")) == ({"A": "a", "B": "b"}, ())


# The first port.


@pytest.mark.parametrize(
    ("option", "file", "ours", "port"),
    [
        ("1000", "2000", "3000", "1000"),
        (None, "2000", "3000", "2000"),
        (None, None, "3000", "3000"),
        (None, None, None, "5000"),
        ("0", None, None, "0"),
        ("65535", None, None, "65535"),
        # An overridden value is not checked.
        ("1000", "abc", "abc", "1000"),
        (None, "2000", "abc", "2000"),
    ],
)
def test_port_of_the_command_line_beats_the_env_file_and_our_environment(
    option: str | None, file: str | None, ours: str | None, port: str
) -> None:
    if file is not None:
        Path(".env").write_text(f"PORT={file}\n")
    found = configured({} if ours is None else {"PORT": ours}, port=option, names=("web",))
    assert ports(found) == {"web.1": port}


@pytest.mark.parametrize("value", ["x", "", "-1", "65536", "9" * 5000])
def test_invalid_port_is_an_error_with_its_place(value: str) -> None:
    assert refused(port=value).message == f"invalid value for port: '{value}' (-p)"
    assert refused({"PORT": value}).message == f"invalid value for port: '{value}' (PORT in the environment)"


def test_invalid_port_in_an_env_file_is_an_error_for_check_too() -> None:
    Path("a").write_text("PORT=5000\n")
    Path("b").write_text("\nPORT=abc\n")
    assert refused(env="a,b").place == "b:2"
    with pytest.raises(ConfigError):
        read_project(Options(env="a,b"), {})
    assert ports(configured(env="b,a", names=("web",))) == {"web.1": "5000"}


def test_ports_above_the_highest_one_are_one_warning() -> None:
    found = configured(port="65534", concurrency="web=4")
    assert ports(found)["web.3"] == "65536"
    [warning] = found.warnings
    assert warning.level == "warning"
    assert "`web.3` is 65536" in warning.message


# The numbers of instances.


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"concurrency": "web=2"}, ["web.1", "web.2", "worker.1"]),
        ({"concurrency": " web = 2 , worker=0,"}, ["web.1", "web.2"]),
        ({"concurrency": "web=00002,worker=0"}, ["web.1", "web.2"]),
        ({"concurrency": "web=5,worker=0,web=2"}, ["web.1", "web.2"]),
        ({"concurrency": "web=0", "names": ("web",)}, []),
        ({"formation": "web=2"}, ["web.1", "web.2"]),
        ({"formation": "all=2,web=0"}, ["worker.1", "worker.2"]),
        ({"names": ("worker", "web", "worker")}, ["worker.1", "web.1"]),
    ],
)
def test_unnamed_types_run_once_with_c_and_not_at_all_with_m(options: dict[str, object], names: list[str]) -> None:
    assert [process.name for process in configured(**options).plan.processes] == names


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("web=x", "-c web=x: `x` is not a number of processes", "`-c web=2`"),
        ("web=-1", "-c web=-1: `-1` is not a number of processes", "`-c web=2`"),
        ("web=", "-c web=: a number of processes is missing", "`-c web=2`"),
        ("web", "-c web: a number of processes is missing", "`-c web=2`"),
        ("wbe=2", "-c wbe=2: there is no process type `wbe`", "did you mean `web`?"),
        ("all=2", "-c all=2: there is no process type `all`", "`-m all=N`"),
        ("=2", "-c =2: a process type is missing", "`-c web=2`"),
        ("web=10001", "-c web=10001: at most 10000 processes of one type can be started", "smaller"),
        ("web=999999999999", "at most 10000 processes", "smaller"),
        (f"web={'9' * 5000}", "at most 10000 processes", "smaller"),
    ],
)
def test_invalid_formation_is_an_error(text: str, message: str, hint: str) -> None:
    problem = refused(concurrency=text)
    assert message in problem.message
    assert hint in str(problem.hint)


@pytest.mark.parametrize("option", ["concurrency", "formation"])
def test_zero_of_an_unknown_type_is_a_warning(option: str) -> None:
    found = configured(**{option: "web=1,worker=1,wrker=0"})
    assert list(ports(found)) == ["web.1", "worker.1"]
    [warning] = found.warnings
    flag = "-c" if option == "concurrency" else "-m"
    assert warning.level == "warning"
    assert warning.message == f"{flag} wrker=0: there is no process type `wrker`, so this changes nothing"
    assert warning.hint == "did you mean `worker`?"


def test_formation_of_dot_foreman_may_set_types_of_other_procfiles_to_0() -> None:
    found = configured(formation="all=1,release=0,x=000", foreman={"formation": 3})
    assert (list(ports(found)), found.warnings) == (["web.1", "worker.1"], ())


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        ("release=1", "formation release=1: there is no process type `release`", "there is `web`"),
        ("release=", "formation release=: there is no process type `release`", "there is `web`"),
        ("web=x", "formation web=x: `x` is not a number of processes", "`formation: web=2`"),
        ("web=10001", "formation web=10001: at most 10000 processes", "smaller"),
    ],
)
def test_mistake_in_the_formation_of_dot_foreman_is_reported_at_its_line(item: str, message: str, hint: str) -> None:
    problem = refused(formation=f"all=1,{item}", foreman={"formation": 3})
    assert problem.place == ".foreman:3"
    assert message in problem.message
    assert hint in str(problem.hint)


def test_other_mistakes_in_dot_foreman_are_reported_at_their_lines() -> None:
    assert refused(port="99999", foreman={"port": 2}).place == ".foreman:2"
    problem = refused(root="nope", procfile="Procfile", foreman={"root": 4})
    assert (problem.place, problem.message) == (".foreman:4", "root nope: this is not a directory")
    [warning] = configured(env="nope", foreman={"env": 1}).warnings
    assert warning.hint == "create it, or correct the name in `env` of `.foreman`"


def test_c_and_m_together_are_an_error() -> None:
    assert "-c and -m" in refused(concurrency="web=1", formation="web=1").message


# Names, quiet processes and the timeout.


def test_all_unknown_names_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        configured(names=("nope", "web", "wrker"), quiet="zzz", timeout="x", port="y")
    assert len(caught.value.problems) == 5
    assert "Process type 'nope' does not exist in Procfile" in str(caught.value)
    assert "did you mean `worker`?" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("web=2", "`-c web=2` sets the number of instances"),
        ("web=x", "did you mean `web`?"),
        ("nope=2", "there is `web` and `worker`"),
    ],
)
def test_hint_explains_a_number_after_a_name(name: str, hint: str) -> None:
    assert refused(names=(name,)).hint == hint


def test_missing_path_after_w_is_a_warning(directory: Path) -> None:
    Path("src").mkdir()
    paths = ("src", "src/*.py", "*.py", str(directory), "nope", "src/x/*.py", "{src,lib}", "Procfile")
    found = [(problem.level, problem.message) for problem in configured(watch=paths).warnings]
    missing = ("nope", "src/x/*.py", "{src,lib}")
    assert found == [("warning", f"-w {path}: this does not exist") for path in missing]
    # A path is relative to the application root.
    Path("src/Procfile").write_text("web: a\n")
    [warning] = configured(watch=("Procfile", "src"), root="src").warnings
    assert warning.message == "-w src: this does not exist"


def test_quiet_takes_types_and_processes() -> None:
    found = configured(concurrency="web=2", quiet="web.2, worker ,")
    assert found.quiet == {"web.2", "worker.1"}
    assert refused(quiet="web.3").message == "-q: there is no process `web.3`"


@pytest.mark.parametrize("value", ["x", "", "-1", "nan", "inf", "1e400"])
def test_invalid_timeout_is_an_error(value: str) -> None:
    assert f"-t {value}:" in refused(timeout=value).message


@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("2.5", 2.5), (None, 5.0)])
def test_timeout_is_in_seconds(value: str | None, seconds: float) -> None:
    assert {process.stop.timeout for process in configured(timeout=value).plan.processes} == {seconds}


# The environment of the children.


def test_files_override_our_environment_but_not_the_names_of_the_process() -> None:
    Path(".env").write_text("A=file\nPS=evil\nHONCHO_PROCESS_NAME=evil\n")
    [process] = configured({"A": "ours", "B": "ours", "PS": "ours"}, names=("web",)).plan.processes
    assert process.env == {
        "A": "file",
        "B": "ours",
        "PORT": "5000",
        "PS": "web.1",
        "HONCHO_PROCESS_NAME": "web.1",
        "PROCREAPER_PORT_WEB": "5000",
    }


# New plans while the app runs.


def test_scaling_adds_instances_and_keeps_the_ports_of_the_others() -> None:
    source = PlanSource(Options(port="6000"), terminal=False)
    before = ports(source.configuration)
    after = ports(source.scale({"web": 3}))
    assert after == {**before, "web.2": "6001", "web.3": "6002"}
    assert ports(source.scale({"web": 0})) == {"worker.1": "6100"}


def test_scaling_ignores_edits_of_the_files() -> None:
    source = PlanSource(Options(), terminal=False)
    Path("Procfile").write_text("web: edited\n")
    plan = source.scale({"web": 2}).plan
    assert [(process.name, process.command) for process in plan.processes] == [
        ("web.1", "run web"),
        ("web.2", "run web"),
        ("worker.1", "run worker"),
    ]


def test_reload_applies_edits_and_keeps_scaled_numbers() -> None:
    source = PlanSource(Options(concurrency="worker=2"), terminal=False)
    source.scale({"web": 2})
    Path("Procfile").write_text("web: edited\nworker: run worker\nmail: new\n")
    names = [process.name for process in source.reload().plan.processes]
    assert names == ["web.1", "web.2", "worker.1", "worker.2", "mail.1"]
    assert source.configuration.plan.processes[0].command == "edited"
    assert source.scale({"worker": 1}).plan.processes[1].name == "web.2"


def test_scaled_type_that_is_removed_from_the_files_is_gone() -> None:
    source = PlanSource(Options(), terminal=False)
    source.scale({"web": 2})
    Path("Procfile").write_text("worker: run worker\n")
    assert [process.name for process in source.reload().plan.processes] == ["worker.1"]
    assert len(source.scale({"worker": 2}).plan.processes) == 2
    assert [problem.message for problem in refusals(source, {"web": 1})] == ["web=1: there is no process type `web`"]
    Path("Procfile").write_text("web: run web\n")
    assert [process.name for process in source.reload().plan.processes] == ["web.1", "web.2"]


@pytest.mark.parametrize(
    ("options", "warning", "names"),
    [
        ({"concurrency": "worker=2"}, "-c worker=2: there is no process type `worker`", ["web.1", "jobs.1"]),
        ({"formation": "all=1,worker=2"}, "-m worker=2: there is no process type `worker`", ["web.1", "jobs.1"]),
        ({"exclude": "worker"}, "-x: there is no process `worker`", ["web.1", "jobs.1"]),
        ({"restart": "worker"}, "-r: there is no process `worker`", ["web.1", "jobs.1"]),
        ({"can_die": "worker.1"}, "--can-die: there is no process `worker.1`", ["web.1", "jobs.1"]),
        ({"quiet": "worker"}, "-q: there is no process `worker`", ["web.1", "jobs.1"]),
        ({"names": ("worker", "web")}, "Process type 'worker' does not exist in Procfile", ["web.1"]),
        ({"names": ("worker",)}, "no process that was named at the start is left (`worker`)", []),
    ],
)
def test_reload_warns_of_names_of_the_start_that_are_gone(
    options: dict[str, Any], warning: str, names: list[str]
) -> None:
    source = PlanSource(Options(**options), terminal=False)
    Path("Procfile").write_text("web: run web\njobs: run jobs\n")
    configuration = source.reload()
    [problem] = configuration.warnings
    assert (problem.message, problem.level) == (warning, "warning")
    assert [process.name for process in configuration.plan.processes] == names
    assert source.scale({"web": 1}).warnings == (problem,) or not names
    assert source.join(["jobs"]).plan.processes[-1].name == "jobs.1"
    with pytest.raises(ConfigError):
        PlanSource(Options(**options), terminal=False)


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ("[process.worker]\noneshot = true\n", "-r: `worker` is a oneshot, so it cannot be restarted always"),
        (
            '[process.web]\ndepends_on = { worker = "completed" }\n',
            "-r: another process waits until `worker` is completed, so it cannot be restarted always",
        ),
    ],
)
def test_reload_drops_a_flag_that_the_new_files_contradict(settings: str, warning: str) -> None:
    source = PlanSource(Options(restart="web,worker"), terminal=False)
    Path(".reaper.toml").write_text(settings)
    configuration = source.reload()
    assert [problem.message for problem in configuration.warnings] == [warning]
    web, worker = configuration.plan.processes
    assert (web.restart, worker.restart) == (When.ALWAYS, When.NEVER)


def test_reload_warns_of_a_new_dependency_that_the_formation_leaves_out() -> None:
    source = PlanSource(Options(formation="web=1"), terminal=False)
    Path("Procfile").write_text("web: run web\nredis: run redis\n")
    Path(".reaper.toml").write_text('[process.web]\ndepends_on = ["redis"]\n')
    configuration = source.reload()
    [problem] = configuration.warnings
    assert problem.message == "`web` depends on `redis`, but the concurrency of `redis` is 0"
    assert (problem.place, problem.hint) == (
        ".reaper.toml:2",
        "`web` does not wait for it; `procreaper scale redis=1` starts it",
    )
    assert [process.name for process in source.scale({"redis": 1}).plan.processes] == ["web.1", "redis.1"]
    assert not source.reload().warnings


def test_each_reload_warns_of_settings_that_need_a_new_start() -> None:
    Path(".reaper.toml").write_text('[output]\nformat = "json"\n')
    source = PlanSource(Options(), terminal=False)
    Path(".reaper.toml").write_text('[control]\nhttp = "9464"\n[output]\ntimestamps = false\n')
    for _ in range(2):
        assert [(problem.place, problem.message.split()[0], problem.level) for problem in source.reload().warnings] == [
            (".reaper.toml:3", "`output.format`", "warning"),
            (".reaper.toml:4", "`output.timestamps`", "warning"),
            (".reaper.toml:2", "`control.http`", "warning"),
        ]
    Path(".reaper.toml").unlink()
    assert [problem.place for problem in source.reload().warnings] == [".reaper.toml"]
    Path(".reaper.toml").write_text('[output]\nformat = "json"\n')
    assert not source.reload().warnings


def test_flag_overrides_the_output_settings_in_a_reload() -> None:
    source = PlanSource(Options(log_format="text", http="9464"), terminal=False)
    Path(".reaper.toml").write_text('[output]\nformat = "json"\n[control]\nhttp = "1234"\n')
    assert not source.reload().warnings


def test_abandoned_reload_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    source = PlanSource(Options(), terminal=False)
    Path("Procfile").write_text("web: edited\n")
    read = source._read

    def slowly(*, running: bool) -> tuple[Project, Configuration]:
        source.give_up()
        return read(running=running)

    monkeypatch.setattr(source, "_read", slowly)
    source.reload()
    assert len(source.configuration.plan.processes) == 2
    assert source.scale({"web": 1}).plan.processes[0].command == "run web"


def test_reload_without_a_change_gives_an_equal_plan() -> None:
    Path(".reaper.toml").write_text('[process.web]\nhealth = "tcp://localhost:$PORT"\nwatch = ["src"]\n')
    source = PlanSource(Options(), terminal=True)
    before = source.configuration.plan
    assert source.reload().plan == before
    assert source.scale({"web": 1}).plan.processes == before.processes


def test_reload_uses_the_environment_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    source = PlanSource(Options(), terminal=False)
    before = source.configuration.plan
    monkeypatch.setenv("ADDED_LATER", "1")
    assert source.reload().plan == before


def test_reload_of_invalid_files_changes_nothing() -> None:
    source = PlanSource(Options(), terminal=False)
    before = source.configuration
    Path("Procfile").write_text("web: a\nweb: b\n")
    with pytest.raises(ConfigError):
        source.reload()
    assert source.configuration is before
    assert source.scale({"worker": 2}).plan.processes[0].command == "run web"


def refusals(source: PlanSource, counts: dict[str, int]) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        source.scale(counts)
    assert all(problem.hint for problem in caught.value.problems)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"wbe": 2}, "wbe=2: there is no process type `wbe`"),
        ({"web": -1}, "web=-1: `-1` is not a number of processes"),
        ({"web": 10001}, "web=10001: at most 10000 processes of one type can be started"),
    ],
)
def test_invalid_counts_are_refused_and_have_no_effect(counts: dict[str, int], message: str) -> None:
    source = PlanSource(Options(names=("web",)), terminal=False)
    [problem] = refusals(source, counts)
    assert problem.message == message
    assert [process.name for process in source.scale({"web": 2}).plan.processes] == ["web.1", "web.2"]


def test_scaled_type_without_autostart_starts() -> None:
    Path(".reaper.toml").write_text("[process.worker]\nautostart = false\n")
    source = PlanSource(Options(), terminal=False)
    assert source.configuration.plan.names == ("web.1",)
    assert source.scale({"worker": 2}).plan.names is None
    assert source.reload().plan.names is None


def test_dependency_cannot_be_scaled_to_0() -> None:
    Path(".reaper.toml").write_text('[process.web]\ndepends_on = ["worker"]\n')
    source = PlanSource(Options(), terminal=False)
    [problem] = refusals(source, {"worker": 0})
    assert problem.message == "`web` depends on `worker`, but the concurrency of `worker` is 0"


def names_and_ports(configuration: Configuration) -> list[tuple[str, str]]:
    return list(ports(configuration).items())


def test_added_process_keeps_the_ports_of_the_others() -> None:
    Path("Procfile").write_text("db: run db\nweb: run web\nworker: run worker\nmail: run mail\n")
    Path(".reaper.toml").write_text('[process.worker]\ndepends_on = ["db"]\nconcurrency = 2\n')
    source = PlanSource(Options(names=("web",)), terminal=False)
    assert names_and_ports(source.configuration) == [("web.1", "5000")]
    joined = source.join(["worker.2", "web"])
    assert names_and_ports(joined) == [("web.1", "5000"), ("db.1", "5100"), ("worker.1", "5200"), ("worker.2", "5201")]
    assert joined.plan.names == ("web.1", "db.1", "worker.2")
    assert names_and_ports(source.join(["mail"]))[-1] == ("mail.1", "5300")
    assert names_and_ports(source.scale({"web": 2})) == names_and_ports(source.reload())
    assert source.configuration.plan.names == ("web.1", "web.2", "db.1", "worker.2", "mail.1")


def test_scaled_type_joins_the_app() -> None:
    Path("Procfile").write_text("web: run web\nworker: run worker\nmail: run mail\n")
    source = PlanSource(Options(names=("worker",)), terminal=False)
    source.scale({"mail": 2, "web": 0})
    assert names_and_ports(source.configuration) == [("worker.1", "5000"), ("mail.1", "5100"), ("mail.2", "5101")]


def test_missing_members_of_a_group_join_and_removed_names_are_ignored() -> None:
    Path(".reaper.toml").write_text('[groups]\nboth = ["web", "worker"]\n')
    source = PlanSource(Options(names=("web",)), terminal=False)
    assert source.left_out(["both", "web", "worker.1", "unknown"]) == ("both", "worker.1")
    source.join(["both"])
    assert source.left_out(["both"]) == ()
    Path("Procfile").write_text("web: run web\n")
    Path(".reaper.toml").unlink()
    assert list(ports(source.reload())) == ["web.1"]


def test_unknown_instance_adds_nothing() -> None:
    source = PlanSource(Options(names=("web",)), terminal=False)
    with pytest.raises(UnknownProcessError, match=r"there is no process `worker\.2`"):
        source.join(["worker", "worker.2"])
    assert list(ports(source.configuration)) == list(ports(source.reload())) == ["web.1"]


# The HTTP server.


def test_no_http_server_by_default() -> None:
    Path(".reaper.toml").write_text("[control]\n")
    assert configured().http is None


def test_http_flag_overrides_the_settings_and_both_know_their_place() -> None:
    Path(".reaper.toml").write_text('\n[control]\nhttp = "localhost:9464"\n')
    from_file, from_flag = configured().http, configured(http="[::1]:0").http
    assert from_file is not None
    assert from_flag is not None
    assert (str(from_file.address), from_file.path, from_file.line) == ("localhost:9464", ".reaper.toml", 3)
    assert str(from_file.problem("no", "yes")) == (
        ".reaper.toml:3: error: `control.http` localhost:9464: no\n  hint: yes"
    )
    assert str(from_flag.address) == "[::1]:0"
    assert str(from_flag.problem("no", "yes")) == "procreaper: error: --http [::1]:0: no\n  hint: yes"


def test_invalid_http_address_is_an_error() -> None:
    problem = refused(http="localhost")
    assert problem.message == "--http localhost: the port is missing"
    assert "`[::1]:9464`" in (problem.hint or "")
    assert refused(http="").message == "--http : the port is missing"


def test_only_the_flag_can_open_the_http_server_to_other_machines() -> None:
    address = configured(http="0.0.0.0:9464").http
    assert address is not None
    assert not address.address.is_loopback
    Path(".reaper.toml").write_text('[control]\nhttp = "0.0.0.0:9464"\n')
    problem = refused()
    assert problem.place == ".reaper.toml:2"
    assert "`start --http 0.0.0.0:9464`" in (problem.hint or "")


def test_http_port_that_is_also_a_port_of_a_process_is_a_warning() -> None:
    [problem] = configured(http="5100").warnings
    assert problem.message == "--http 5100: port 5100 is also the PORT of `worker.1`, which then cannot use it"
    assert configured(http="5101").warnings == ()
    # Port 0 means a free port for both.
    assert configured(http="0", port="0").warnings == ()
