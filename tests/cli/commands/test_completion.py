from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from procreaper.cli.commands.completion import SHELLS, list_commands, print_completion
from procreaper.cli.parser import COMMANDS
from procreaper.errors import ProcreaperError

# What bash does when Tab is typed at the end of this line.
TYPE_TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
_procreaper
printf '%s\\n' "${COMPREPLY[@]}"
"""


def need(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    def written(shell: str) -> str:
        assert print_completion(shell, ()) == 0
        return capsys.readouterr().out

    return written


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two process types, and the program on the path."""
    (tmp_path / "Procfile").write_text("web: true\nworker: true\n")
    (tmp_path / ".reaper.toml").write_text('[groups]\nback = ["worker"]\n[process.worker]\nconcurrency = 2\n')
    program = tmp_path / "bin" / "procreaper"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m procreaper "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(project: Path, *command: str) -> list[str]:
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=project, env={**os.environ, "PATH": path, "HOME": str(project)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


def test_every_command_is_completed() -> None:
    assert [command.name for command in list_commands()] == list(COMMANDS)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_flag_is_in_every_script(shell: str, script: Callable[[str], str]) -> None:
    text = script(shell)
    assert "@" not in text.replace('"$@"', "").replace("(@)", "").replace("[@]", "")
    for command in list_commands():
        for flag in command.flags:
            for spelling in flag.spellings:
                spelled = {"--": f"-l {spelling[2:]}"}.get(spelling[:2], f"-s {spelling[1:]}")
                assert (spelled if shell == "fish" else spelling) in text


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(ProcreaperError, match="no completion for `csh`") as caught:
        print_completion("csh", ())
    assert caught.value.exit_code == 2
    assert caught.value.hint == "use `bash`, `zsh`, `fish`"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sta"], ["start"]),
        (["start", "w"], ["web", "worker", "web.1", "worker.1", "worker.2"]),
        (["start", "b"], ["back"]),
        (["scale", "w"], ["web=", "worker="]),
        (["start", "-q", "web,wor"], ["web,worker", "web,worker.1", "web,worker.2"]),
        (["start", "--no-d"], ["--no-deps"]),
        (["start", "--log-format", ""], ["text", "json"]),
        (["check", "-f", "Proc"], ["Procfile"]),
        (["help", "sch"], ["schema"]),
        (["completion", "z"], ["zsh"]),
        (["start", "-p", ""], [""]),
    ],
)
def test_bash_completes(project: Path, words: list[str], expected: list[str], script: Callable[[str], str]) -> None:
    (project / "completion").write_text(script("bash"))
    found = run(project, need("bash"), "-c", TYPE_TAB, "bash", "completion", "procreaper", *words)
    assert found == expected


def test_fish_completes(project: Path, script: Callable[[str], str]) -> None:
    (project / "completion").write_text(script("fish"))
    fish = need("fish")
    found = run(project, fish, "-N", "-c", 'source completion; complete -C "procreaper start wor"')
    assert [line.partition("\t")[0] for line in found] == ["worker", "worker.1", "worker.2"]
    found = run(project, fish, "-N", "-c", 'source completion; complete -C "procreaper start -q web,b"')
    assert [line.partition("\t")[0] for line in found] == ["web,back"]


def test_zsh_can_read_the_script(project: Path, script: Callable[[str], str]) -> None:
    (project / "completion").write_text(script("zsh"))
    load = "autoload -Uz compinit && compinit -u && source ./completion && print $_comps[procreaper]"
    assert run(project, need("zsh"), "-f", "-c", load) == ["_procreaper"]


def test_broken_project_completes_no_names_and_prints_no_error(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "Procfile").write_bytes(b"\xff\n")
    (project / ".reaper.toml").write_text("[")
    assert print_completion("names", ["start", "-f"]) == 0
    assert capsys.readouterr() == ("", "")


def test_names_come_from_the_files_in_the_command_line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / ".reaper.toml").unlink()
    (project / "Other").write_text("other: true\n")
    assert print_completion("names", ["start", "-f", "Other", ""]) == 0
    assert capsys.readouterr().out == "other\nother.1\n"
