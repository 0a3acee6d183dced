"""The README is correct: every console block is run, and its output is compared with the block."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.pages import (
    LIMIT,
    PROGRAM,
    ROOT,
    base_port,
    environment,
    fenced,
    pattern,
    python_blocks,
    run_python,
    sessions,
    with_program,
)

README = (ROOT / "README.md").read_text(encoding="utf-8")
GATE = ROOT / ".ci" / "run"
# A block about an app in the background runs as a whole; in all other blocks, each command runs by itself.
IN_BACKGROUND = "procreaper start -D"
STORIES = [block for block in fenced(README, "console") if block.startswith(f"$ {IN_BACKGROUND}")]
SESSIONS = [session for block in fenced(README, "console") if block not in STORIES for session in sessions(block)]
SETUPS = [command for command, _ in SESSIONS if "python3 -m venv" in command]
RECORDINGS = [(command, output) for command, output in SESSIONS if command.startswith("procreaper start")]
EXAMPLES = [
    (command, output) for command, output in SESSIONS if command not in SETUPS and (command, output) not in RECORDINGS
]


def marked(marker):
    """The pids of all processes that have inherited the marker, without zombies, which have no environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"README_MARKER={marker}".encode() in variables:
            yield int(entry.name)


def session_of(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_readme_has_two_setup_commands():
    assert SETUPS == [
        "python3 -m venv .venv && .venv/bin/pip install --quiet . && .venv/bin/procreaper start -f Procfile.example",
        "python3 -m venv .venv-test && .venv-test/bin/pip install --quiet '.[test]' && .venv-test/bin/pytest -n 2",
    ]


def test_other_blocks_install_nothing():
    outside = README
    for command in SETUPS:
        assert outside.count(command) == 1
        outside = outside.replace(command, "")
    assert "pip install" not in outside


@pytest.mark.skipif(not GATE.exists(), reason="not a checkout: .ci/run is missing")
def test_gate_runs_the_test_command_of_the_readme():
    gate = GATE.read_text(encoding="utf-8")
    assert "pip install" not in gate
    (extraction,) = re.findall(r"^commands=\$\((.*)\)$", gate, re.MULTILINE)
    found = subprocess.run(["bash", "-c", extraction], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [SETUPS[1]]


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """One run of the example, started by the first command of the README and stopped by Ctrl-C."""
    directory = tmp_path_factory.mktemp("example")
    for name in ("Procfile.example", ".reaper.toml"):
        shutil.copy(ROOT / name, directory)
    _program, *arguments = shlex.split(SETUPS[0].rpartition(" && ")[2])
    ((_, recording),) = RECORDINGS
    before, interrupt, after = recording.partition("^C")
    assert interrupt, "the recording in the README ends with ^C"
    marker = uuid.uuid4().hex
    overdue = threading.Event()
    lines = []

    def end():
        program.kill()
        for pid in marked(marker):
            os.kill(pid, signal.SIGKILL)

    def give_up():
        overdue.set()
        end()

    with subprocess.Popen(
        [*PROGRAM, *arguments, "-p", str(base_port())],
        cwd=directory,
        env=environment(README_MARKER=marker),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        encoding="utf-8",
        errors="replace",
    ) as program:
        # When all processes that hold the pipe have ended, the loop below ends too.
        alarm = threading.Timer(LIMIT, give_up)
        alarm.start()
        try:
            awaited = set(pattern(before))
            for line in program.stdout:
                lines.append(line)
                awaited -= set(pattern(line))
                if not awaited:
                    break
            program.send_signal(signal.SIGINT)
            lines += program.stdout
            code = program.wait()
            left = [(pid, session_of(pid)) for pid in marked(marker)]
        finally:
            alarm.cancel()
            end()
    output = "".join(lines)
    assert not overdue.is_set(), f"not over after {LIMIT} s:\n{output}"
    return SimpleNamespace(output=output, code=code, left=left, before=before, after=after)


def test_example_prints_the_output_in_the_readme(example):
    printed = pattern(example.output)
    missing = [line for line in pattern(example.before + example.after) if line and line not in printed]
    assert not missing, example.output


def test_readme_shows_all_processes_of_the_example(example):
    for line in (
        "web.1    | listening on",
        "worker.1 | web says: hello",
        "clock.1  | it is",
        "web.1    | 127.0.0.1 - - [",
    ):
        assert line in example.before
        assert line in example.output


def test_ctrl_c_stops_the_example_with_exit_code_130(example):
    assert example.code == 130, example.output
    assert "Traceback" not in example.output


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux shows the environment of processes in /proc"
)
def test_example_leaves_no_process_behind(example):
    children = {int(pid) for pid in re.findall(r"system +\| \S+ started \(pid=(\d+)\)", example.output)}
    assert len(children) == 3, example.output
    assert [pid for pid, session in example.left if session in children] == []


@pytest.fixture
def project(tmp_path):
    """The project that the blocks of the README describe."""
    (procfile,) = fenced(README, "procfile")
    (variables,) = fenced(README, "ini")
    (settings,) = fenced(README, "toml")
    project = tmp_path / "project"
    project.mkdir()
    (project / "Procfile").write_text(procfile, encoding="utf-8")
    (project / ".env").write_text(variables, encoding="utf-8")
    (project / ".reaper.toml").write_text(settings, encoding="utf-8")
    return project


def shell(command, project, tmp_path):
    """Run a command in the project, and return its output."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=project,
        # `check` warns about used ports, so use ports that no other program uses.
        env=environment(PATH=with_program(tmp_path), PORT=str(base_port())),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT,
        encoding="utf-8",
    ).stdout


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_console_block_prints_the_output_in_the_readme(command, shown, project, tmp_path):
    assert pattern(shell(command, project, tmp_path)) == pattern(shown)


@pytest.mark.parametrize("block", STORIES)
def test_block_about_an_app_in_the_background_prints_the_output_in_the_readme(block, project, tmp_path):
    told = list(sessions(block))
    commands = [command for command, _ in told]
    assert commands[-1] == "procreaper quit"
    try:
        printed = shell("; echo ----; ".join(commands), project, tmp_path).split("----\n")
    finally:
        shell("procreaper quit", project, tmp_path)
    assert [pattern(text) for text in printed] == [pattern(shown) for _, shown in told]


@pytest.mark.parametrize(("block", "shown"), python_blocks(README))
def test_python_block_prints_the_output_in_the_readme(block, shown, tmp_path):
    run_python(block, shown, tmp_path)
