"""`check`: every problem in all files, and commands that are likely to fail here."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from procreaper.cli.commands.check import github_command
from procreaper.cli.main import execute
from procreaper.core.plan import Process
from procreaper.errors import Problem
from procreaper.project.lint import Linter, Probes
from procreaper.project.machine import find_defect, find_missing_words, find_syntax_errors, has_program, why_unwritable
from procreaper.project.planner import ProcessType


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # Whatever else runs on this machine, these ports are not what the tests are about.
    monkeypatch.setenv("PORT", "0")
    Path("Procfile").write_text("web: sleep 1\nworker: sleep 2\n")
    return tmp_path


def lint(command: str | tuple[str, ...], **environment: str) -> list[Problem]:
    """The warnings for one command, where `known` is the only program and only `/there` exists.

    The shell can read everything but "bad", and does not know `source`.
    """
    look = Probes(
        lambda name, path: name == "known" and path == "/bin",
        "/there".__eq__,
        find_defect=lambda path: None if path == "/there" else "missing",
        find_syntax_errors=lambda commands: {command: "not a command" for command in commands if "bad" in command},
        find_missing_words=lambda words: frozenset({"source"}.intersection(words)),
    )
    linter = Linter(look, "Procfile", None, ".")
    process = Process("web.1", command, env={"PATH": "/bin", "PORT": "0", **environment})
    linter.lint([ProcessType("web", command, 3)], [process])
    assert {(problem.path, problem.line, problem.level) for problem in linter.problems} <= {("Procfile", 3, "warning")}
    assert all(problem.hint for problem in linter.problems)
    return linter.problems


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("unknown x", "the program `unknown` of `web` is not found"),
        (("unknown", "x"), "the program `unknown` of `web` is not found"),
        ("/nowhere/x", "the program `/nowhere/x` of `web` does not exist"),
        (("bin/x",), "the program `bin/x` of `web` does not exist"),
        ("./nowhere", "the program `./nowhere` of `web` does not exist"),
        ("cd x && unknown", "the directory `x`, to which `web` changes, does not exist"),
        ("(bad", "the shell cannot read the command of `web`: not a command"),
        ("known | source x", "`web` uses `source`, which this machine's `/bin/sh` does not have"),
        ("known $NOPE", "`web` uses `$NOPE`, which is not set"),
        (("known", "$PORT"), "`$PORT` in the command of `web` is passed on unchanged"),
    ],
)
def test_command_that_is_likely_to_fail_is_a_warning(command: str | tuple[str, ...], message: str) -> None:
    [problem] = lint(command)
    assert problem.message == message


@pytest.mark.parametrize(
    "command",
    [
        "known",
        "/there x",
        ("known", "$NOPE", "a$PORT"),
        "known $PORT $PATH",
        '[ -n "$NOPE" ] && known $NOPE',
        "known && ./nowhere",
        ("/there",),
    ],
)
def test_command_that_may_work_is_no_warning(command: str | tuple[str, ...]) -> None:
    assert lint(command) == []


def test_types_that_share_the_variable_of_their_port_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("a-b: sleep 1\na_b: sleep 2\n")
    assert execute(["check"]) == 0
    told = capsys.readouterr().err
    assert (
        "Procfile:2: warning: `PROCREAPER_PORT_A_B` is the port of `a-b`, so no variable has the port of `a_b`\n"
        in told
    )


def test_a_release_phase_that_would_end_the_app_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("web: sleep 1\nrelease: sleep 2\n")
    assert execute(["check"]) == 0
    told = capsys.readouterr().err
    assert told.startswith(
        "Procfile:2: warning: `release` is Heroku's release phase, but here it starts with the others"
    )
    assert "`procreaper start -x release`" in told
    assert "`oneshot = true`" in told
    for setting in ("oneshot = true", "autostart = false", "concurrency = 0"):
        Path(".reaper.toml").write_text(f"[process.release]\n{setting}\n")
        assert execute(["check", "--strict"]) == 0


def test_a_program_is_found_along_a_path() -> None:
    Path("bin").mkdir()
    Path("bin/mine").write_text("#!/bin/sh\n")
    assert not has_program("mine", "nowhere:bin")
    Path("bin/mine").chmod(0o755)
    assert has_program("mine", "nowhere:bin")
    assert not has_program("mine", "")


def test_reason_why_a_path_cannot_run_is_found() -> None:
    Path("dir").mkdir()
    Path("text").touch()
    Path("program").touch(0o755)
    Path("lost").symlink_to("nowhere")
    paths = ("program", "text", "dir", "nowhere", "text/x", "lost", "a\0b")
    assert [find_defect(path) for path in paths] == [None, "not executable", "directory", *["missing"] * 3, None]


@pytest.mark.parametrize(
    ("line", "exists"),
    [
        ("#!/bin/sh\n", True),
        ("#! /bin/sh -e\nx", True),
        ("#!/no/such/python\n", False),
        ("#!/bin/sh\r\n", False),
        ("#!/usr/bin/env python3\r\n", False),
        ("#!\n", True),
        ("#!/unfinished", True),
        ("", True),
    ],
)
def test_a_script_whose_interpreter_does_not_exist_cannot_run(line: str, exists: bool) -> None:
    Path("script").write_bytes(line.encode())
    Path("script").chmod(0o755)
    assert find_defect("script") == (None if exists else "no interpreter")


SHELLS = ["sh", *filter(shutil.which, ("bash", "busybox", "dash", "zsh"))]


def shell(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a shell take the place of `/bin/sh`."""
    path = shutil.which(name)
    assert path is not None
    if name == "busybox":
        # It looks at its own name.
        Path("sh").symlink_to(path)
        path = os.path.abspath("sh")
    monkeypatch.setattr("procreaper.project.machine.SHELL", path)


@pytest.mark.parametrize("name", SHELLS)
def test_the_shell_reads_all_commands_and_runs_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shell(name, monkeypatch)
    bad = ["echo 'it's me'", "(sleep 1", "if true; then", "echo caf\u00e9 &&& x"]
    good = [
        "-e -q",
        "touch made",
        "touch made; echo 'a\nb'",
        "caf\u00e9 $(touch made)",
        "-n",
        "echo caf\udce9; touch made",
        "",
    ]
    found = find_syntax_errors([bad[0], good[0], *bad[1:], *good[1:]])
    assert list(found) == bad
    assert all(reason and reason[0] == reason[0].lower() and "\n" not in reason for reason in found.values())
    assert not any(reason.startswith(("sh:", "line", "syntax error", "1:")) for reason in found.values())
    assert not Path("made").exists()


def test_many_commands_are_checked_together_and_a_huge_one_is_skipped() -> None:
    commands = [f"echo '{number}' {'x' * 3000}" for number in range(100)] + ["('" + "x" * 500_000, "(a"]
    assert list(find_syntax_errors(commands)) == ["(a"]


def test_shell_that_does_not_answer_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("slow").write_text("#!/bin/sh\nsleep 1000\n")
    Path("slow").chmod(0o755)
    monkeypatch.setattr("procreaper.project.machine.SHELL_TIMEOUT", 0.1)
    for name in ("./slow", "./nowhere"):
        monkeypatch.setattr("procreaper.project.machine.SHELL", name)
        assert find_syntax_errors(["(a"]) == {}
        assert find_missing_words(["source"]) == frozenset()


@pytest.mark.parametrize("name", SHELLS)
def test_the_shell_says_which_words_it_knows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shell(name, monkeypatch)
    words = ["source", "[[", "&>", "no-such-word"]
    missing = find_missing_words(words)
    known = {"bash": 3, "zsh": 3, "dash": 0}.get(name)
    assert known is None or missing == frozenset(words[known:])
    assert "no-such-word" in missing
    assert find_missing_words(["no-such-word"]) == {"no-such-word"}


def test_every_command_in_the_settings_is_checked_at_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    Path(".reaper.toml").write_text(
        "[process.web]\n"
        "hooks.on_fail = './gone'\n"
        "hooks.on_ready = '(x'\n"
        "health.exec = ['no-such-check']\n"
        "stop.command = 'cd nowhere && x'\n"
        "watch = { paths = ['.'], run = 'no-such-build' }\n"
        "[process.worker.health]\n"
        "exec = './check'\n"
        "[defaults.hooks]\n"
        "on_retry = 'no-such-hook $?'\n"
    )
    assert execute(["check"]) == 0
    warnings = [line.partition(": warning: ") for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert [(place, message.partition(":")[0]) for place, _, message in warnings] == [
        (".reaper.toml:2", "the program `./gone` of `process.web.hooks.on_fail` does not exist"),
        (".reaper.toml:3", "the shell cannot read the command of `process.web.hooks.on_ready`"),
        (".reaper.toml:4", "the program `no-such-check` of `process.web.health.exec` is not found"),
        (".reaper.toml:5", "the directory `nowhere`, to which `process.web.stop.command` changes, does not exist"),
        (".reaper.toml:6", "the program `no-such-build` of `process.web.watch.run` is not found"),
        (".reaper.toml:8", "the program `./check` of `process.worker.health.exec` does not exist"),
        (".reaper.toml:10", "the program `no-such-hook` of `defaults.hooks.on_retry` is not found"),
    ]


def test_a_pattern_that_may_take_very_long_is_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    Path(".reaper.toml").write_text(
        "[process.web]\nhealth.log = 'ready .*'\n[process.worker.health]\ninterval = 3\nlog = '(\\w+\\s?)+ready'\n"
    )
    assert execute(["check"]) == 0
    message, hint, _ = capfd.readouterr().err.splitlines()
    assert message.startswith(".reaper.toml:5: warning: `process.worker.health.log`: `(\\w+\\s?)+` may take very long")
    assert "repeat either the group" in hint


def test_a_name_that_means_something_else_is_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("web: sleep 1\nall: sleep 1\nallsystem: sleep 1\n-x: sleep 1\n")
    Path(".reaper.toml").write_text("[process.web]\noneshot = true\n[process.system]\ncommand = 'sleep 1'\n")
    assert execute(["check"]) == 0
    assert [line.partition(",")[0] for line in capfd.readouterr().err.splitlines()[:-1] if "hint" not in line] == [
        "Procfile:2: warning: `all` means every process",
        "Procfile:4: warning: `-x` begins with `-`",
        ".reaper.toml:3: warning: the lines of `system` look like those of procreaper itself",
    ]


def test_a_file_that_a_oneshot_may_create_is_not_missing(capfd: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("build: sleep 0\nweb: ./made\n")
    Path(".reaper.toml").write_text("[process.build]\noneshot = true\n[process.web]\ndepends_on = ['build']\n")
    assert execute(["check", "--strict"]) == 0
    Path(".reaper.toml").write_text("[process.build]\noneshot = true\n")
    assert execute(["check", "--strict"]) == 1
    assert "Procfile:2: warning: the program `./made` of `web` does not exist" in capfd.readouterr().err


def test_ca_file_is_relative_to_the_root_and_must_exist(capfd: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("web: sleep 0\n")
    Path(".reaper.toml").write_text("[process.web]\nhealth = { http = 'https://localhost/', ca = 'certs/ca.pem' }\n")
    assert execute(["check", "--strict"]) == 1
    assert ".reaper.toml:2: warning: `process.web.health.ca`: there is no file `certs/ca.pem`" in capfd.readouterr().err
    Path("certs").mkdir()
    Path("certs/ca.pem").touch()
    assert execute(["check", "--strict"]) == 0
    root = os.getcwd()
    os.chdir("certs")
    try:
        assert execute(["check", "--strict", "-f", f"{root}/Procfile"]) == 0
    finally:
        os.chdir(root)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("log/web.log", None),
        ("file", None),
        ("new/a/b.log", None),
        ("dir", "is a directory"),
        ("file/web.log", "`{here}/file` is not a directory"),
    ],
)
def test_log_path_is_checked_without_writing(path: str, reason: str | None) -> None:
    Path("dir").mkdir()
    Path("file").touch()
    before = sorted(os.listdir())
    here = os.getcwd()
    assert why_unwritable(f"{here}/{path}") == (None if reason is None else reason.format(here=here))
    assert sorted(os.listdir()) == before


def test_a_log_that_cannot_be_written_is_a_warning_where_it_is_set(capfd: pytest.CaptureFixture[str]) -> None:
    Path("dir").mkdir()
    Path(".reaper.toml").write_text("[defaults.log]\nmax_files = 1\nfile = 'dir'\n")
    assert execute(["check"]) == 0
    errors = capfd.readouterr().err
    assert f".reaper.toml:3: warning: `{os.getcwd()}/dir`, the log of `web.1`, cannot be written: is a dir" in errors


def test_project_without_problems_prints_the_line_of_honcho(capfd: pytest.CaptureFixture[str]) -> None:
    Path(".reaper.toml").write_text("[process.new]\ncommand = 'sleep 3'\n[process.web]\ndepends_on = ['new']\n")
    assert execute(["check", "--strict"]) == 0
    assert capfd.readouterr() == ("", "Valid procfile detected (web, worker, new)\n")


def test_problems_are_sorted_by_file_and_line(capfd: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("web: no-such-program\nnonsense\nworker: sleep $NOPE\n")
    Path(".env").write_text("A=b c\n")
    Path(".reaper.toml").write_text("[process.web]\nrestart = 'x'\nwatch = [\n'*',\n'nope/*',\n'nope']\n")
    assert execute(["check"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.partition(": ")[0] for line in err.splitlines() if not line.startswith("  hint")] == [
        "Procfile:1",
        "Procfile:2",
        "Procfile:3",
        ".env:1",
        ".reaper.toml:2",
        ".reaper.toml:5",
        ".reaper.toml:6",
    ]


def test_problem_of_a_command_in_the_settings_has_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    Path(".reaper.toml").write_text("[process.web]\noneshot = true\ncommand = 'no-such-program'\n")
    assert execute(["check"]) == 0
    assert ".reaper.toml:3: warning: the program `no-such-program` of `web` is not found" in capfd.readouterr().err


def test_a_program_may_come_from_the_path_of_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    Path("node_modules").mkdir()
    Path("node_modules/tool").write_text("#!/bin/sh\n")
    Path("node_modules/tool").chmod(0o755)
    Path("Procfile").write_text("web: tool\n")
    Path(".reaper.toml").write_text("[process.web]\nenv = { PATH = 'node_modules:$PATH' }\n")
    assert execute(["check", "--strict"]) == 0


def test_warnings_alone_fail_only_when_strict(capfd: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("web: no-such-program\n")
    assert execute(["check"]) == 0
    assert "Valid procfile detected (web)" in capfd.readouterr().err
    assert execute(["check", "--strict"]) == 1
    assert "Valid procfile" not in capfd.readouterr().err


def test_start_prints_no_warning_of_check(capfd: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("web: sh -c 'exit $NOPE'; no-such-program\n")
    assert execute(["start", "-c", "web=0"]) == 0
    assert "no-such-program" not in capfd.readouterr().err


def test_problems_as_json_are_one_array(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", "--format", "json"]) == 0
    assert capfd.readouterr().out == "[]\n"
    Path(".reaper.toml").write_text("[process.web]\nrestart = 'on-failur'\n")
    assert execute(["check", "--format", "json"]) == 1
    out, err = capfd.readouterr()
    assert json.loads(out) == [
        {
            "path": ".reaper.toml",
            "line": 2,
            "level": "error",
            "message": '`process.web.restart` must be `never`, `on-failure` or `always`, not "on-failur"',
            "hint": "did you mean `on-failure`?",
        }
    ]
    assert err == ""


@pytest.mark.parametrize(
    ("problem", "command"),
    [
        (Problem("bad", "Procfile", 3, "mend it"), "::error file=Procfile,line=3::bad%0Ahint: mend it"),
        (Problem("100%\r\n", "a,b:c", level="warning"), "::warning file=a%2Cb%3Ac::100%25%0D%0A"),
        (Problem("a: b, c"), "::error::a: b, c"),
    ],
)
def test_a_problem_as_a_command_of_github_is_escaped(problem: Problem, command: str) -> None:
    assert github_command(problem) == command


def test_problems_for_github_go_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    Path("Procfile").write_text("web\n")
    assert execute(["check", "--format=github"]) == 1
    out, err = capfd.readouterr()
    assert [line.partition("::line")[0][:30] for line in out.splitlines()] == [
        "::error file=Procfile::no proc",
        "::warning file=Procfile,line=1",
    ]
    assert err == ""


def test_unknown_format_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["check", "--format", "jsno"]) == 2
    assert "did you mean `json`?" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["directory", "latin", "empty", "bom", "deep", "long"])
def test_random_settings_never_cause_a_traceback(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = Path(".reaper.toml")
    match kind:
        case "directory":
            path.mkdir()
        case "latin":
            path.write_bytes(b"# \xe9\n")
        case "empty":
            path.touch()
        case "bom":
            path.write_bytes(b"\xef\xbb\xbf[output]\n")
        case "deep":
            path.write_text("a = " + "[" * 100_000)
        case "long":
            path.write_text("# comment\n" * 500_000 + "x = 1\n")
    status = execute(["check"])
    err = capfd.readouterr().err
    assert status == (0 if kind in ("empty", "bom") else 1)
    assert "internal error" not in err
    assert err.startswith("Valid" if status == 0 else ".reaper.toml")


def test_the_schema_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["schema"]) == 0
    assert json.loads(capfd.readouterr().out)["title"] == ".reaper.toml"
