"""On a terminal, each program of a run gets one signal and ends by itself, whatever shells stand above it."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.loops import in_loop

from procreaper.core.events import ChildExited, Exit, GroupEnded
from runtime.child.test_child import Observer

pytestmark = [
    pytest.mark.usefixtures("survivors"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which signals a process catches"),
]
# Seconds that the longest wait of a test may take on a loaded machine.
LIMIT = 40.0
# Takes one signal, waits until the test opens the gate, and notes what other signals have come until then.
PYTHON = """
import os, signal, sys
signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
log = open("log", "a", buffering=1)
print("up", file=log)
print("up", flush=True)
print(signal.Signals(signal.sigwait(signals)).name, file=log)
open("gate").read()
print(*(signal.Signals(number).name for number in signals & signal.sigpending()), "drained", file=log)
"""
NODE = """
const fs = require("fs")
const note = text => fs.appendFileSync("log", text + "\\n")
process.on("SIGTERM", () => { note("SIGTERM"); fs.readFileSync("gate"); note("drained"); process.exit() })
setInterval(() => {}, 1e6)
note("up")
console.log("up")
"""
WRAPPER = "import subprocess, sys; subprocess.run(sys.argv[1:])"
# X is the server; each form stands for one way in which a line of a Procfile may run it.
FORMS = {
    "exec": "exec X",
    "plain": "X",
    "variable": "VAR=1 X",
    "and": "cd . && X",
    "semicolon": "cd .; X",
    "subshell": "(X)",
    "or": "X || true",
    "background": "X & wait",
    "loop": "while :; do X; done",
    "trap": "trap : TERM; X & wait; wait",
    "bash and": "bash -c 'cd . && X'",
    "bash then": "bash -c 'X; :'; :",
    "bash job control": "bash -mc 'X & wait'; :",
    "wrapper": f"{shlex.quote(sys.executable)} -S wrapper.py X; :",
    "shells": "sh -c \"sh -c 'cd . && X; :'; :\"; :",
    "substitution": "out=$(X); :",
    "cat": "X | cat",
    "tee": "X 2>&1 | tee copy",
    "make": "exec make -s server",
}


class Stage:
    """A directory with a server, and one run of a command that starts it on a terminal."""

    def __init__(self, path: Path, command: str, *, terminal: bool = True) -> None:
        os.mkfifo(path / "gate")
        (path / "wrapper.py").write_text(WRAPPER)
        self.path = path
        self.run = Observer(command, cwd=path, terminal=terminal)

    @property
    def noted(self) -> list[str]:
        """What the server has noted: its start, each signal, and the end of its work."""
        path = self.path / "log"
        return " ".join(path.read_text().split("\n")).split() if path.exists() else []

    async def starts(self) -> None:
        await self.run.child.spawn()
        while self.noted != ["up"]:
            await asyncio.sleep(0.01)

    async def finishes_work(self) -> None:
        """Let the server finish, once it has got its signal and is at the gate."""
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    os.close(os.open(self.path / "gate", os.O_WRONLY | os.O_NONBLOCK))
                except OSError:
                    # It is not there yet.
                    await asyncio.sleep(0.01)
                else:
                    return

    async def is_over(self) -> Exit:
        async with asyncio.timeout(LIMIT):
            exited = await self.run.gets(ChildExited)
            if exited.leftovers:
                await self.run.gets(GroupEnded)
            return exited.exit


def server_of(path: Path, language: str) -> str:
    if language == "node":
        if not shutil.which("node"):
            pytest.skip("there is no node")
        (path / "server.js").write_text(NODE)
        return "node server.js"
    (path / "server.py").write_text(PYTHON)
    return f"{shlex.quote(sys.executable)} -S server.py"


def command_of(path: Path, form: str, language: str) -> str:
    server = server_of(path, language)
    for program in ("bash", "make"):
        if program in FORMS[form] and not shutil.which(program):
            pytest.skip(f"there is no {program}")
    (path / "Makefile").write_text(f"server:\n\t{server}\n")
    return FORMS[form].replace("X", server)


@pytest.mark.parametrize("language", ["python", "node"])
@pytest.mark.parametrize("form", FORMS)
@in_loop
async def test_a_server_gets_one_signal_and_ends_by_itself(tmp_path: Path, form: str, language: str) -> None:
    stage = Stage(tmp_path, command_of(tmp_path, form, language))
    await stage.starts()
    stage.run.child.signal(signal.SIGTERM)
    await stage.finishes_work()
    await stage.is_over()
    assert stage.noted == ["up", "SIGTERM", "drained"]


@pytest.mark.parametrize("form", ["bash and", "cat", "semicolon"])
@in_loop
async def test_sigint_reaches_the_server_once(tmp_path: Path, form: str) -> None:
    stage = Stage(tmp_path, command_of(tmp_path, form, "python"))
    await stage.starts()
    stage.run.child.signal(signal.SIGINT)
    await stage.finishes_work()
    await stage.is_over()
    assert stage.noted == ["up", "SIGINT", "drained"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("wrapper", "make", "trap")])
@in_loop
async def test_only_main_is_the_server(tmp_path: Path, form: str, terminal: bool, number: signal.Signals) -> None:
    stage = Stage(tmp_path, command_of(tmp_path, form, "python"), terminal=terminal)
    await stage.starts()
    stage.run.child.signal(number, only_main=True)
    await stage.finishes_work()
    await stage.is_over()
    assert stage.noted == ["up", number.name, "drained"]


@in_loop
async def test_only_main_spares_what_the_program_has_started(tmp_path: Path) -> None:
    worker = "echo begun >&2; echo begun > begun; read x < gate; echo done"
    command = f'cd . && sh -c \'trap "" TERM; ({worker}) & trap "echo told" TERM; echo ready; wait; wait\''
    stage = Stage(tmp_path, command)
    await stage.run.child.spawn()
    await stage.run.reads(b"ready")
    stage.run.child.signal(signal.SIGTERM, only_main=True)
    await stage.run.reads(b"told")
    await stage.finishes_work()
    await stage.is_over()
    assert b"done" in stage.run.output()


# Not the loop, which starts the program again, nor the trap, by which the shell handles the signal.
HANDLED = [
    *((form, "node", signal.SIGTERM) for form in FORMS if form not in ("loop", "trap")),
    # Linux does not show that a program waits by sigwait(). So what runs it has to be a shell.
    *((form, "python", signal.SIGHUP) for form in FORMS if form not in ("loop", "trap", "wrapper", "make")),
]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("form", "language", "number"), HANDLED)
@in_loop
async def test_a_signal_for_what_handles_it_ends_no_shell(
    tmp_path: Path, form: str, terminal: bool, language: str, number: signal.Signals
) -> None:
    stage = Stage(tmp_path, command_of(tmp_path, form, language), terminal=terminal)
    await stage.starts()
    stage.run.child.signal(number, only_handlers=True)
    await stage.finishes_work()
    assert (await stage.is_over()).signal is None
    assert stage.noted == ["up", number.name, "drained"]


@pytest.mark.parametrize("terminal", [False, True])
@in_loop
async def test_a_signal_that_no_process_handles_goes_to_the_program(tmp_path: Path, terminal: bool) -> None:
    run = Observer(
        f"{sys.executable} -S -c 'import time; print(1234, flush=True); time.sleep(600)'; exit 3",
        cwd=tmp_path,
        terminal=terminal,
    )
    await run.child.spawn()
    await run.reads(b"1234")
    run.child.signal(signal.SIGHUP, only_handlers=True)
    assert (await run.gets(ChildExited)).exit == Exit(code=3)


@in_loop
async def test_a_signal_for_what_handles_it_spares_the_workers(tmp_path: Path) -> None:
    worker = "trap 'echo hit' USR1; echo ready; read x < gate; echo done"
    run = Observer(f'sh -c \'trap "echo told" USR1; sh -c "$0" & wait; wait\' "{worker}"; :', cwd=tmp_path)
    os.mkfifo(tmp_path / "gate")
    await run.child.spawn()
    await run.reads(b"ready")
    run.child.signal(signal.SIGUSR1, only_handlers=True)
    await run.reads(b"told")
    (tmp_path / "gate").write_text("\n")
    assert (await run.gets(ChildExited)).exit == Exit(code=0)
    assert b"hit" not in run.output()


@in_loop
async def test_only_main_ends_the_shell_although_what_the_program_has_started_goes_on(tmp_path: Path) -> None:
    run = Observer("sh -c 'trap \"exit 7\" TERM; sleep 600 & echo ready; wait'; exit 3", cwd=tmp_path)
    await run.child.spawn()
    await run.reads(b"ready")
    run.child.signal(signal.SIGTERM, only_main=True)
    assert (await run.gets(ChildExited)).leftovers
    run.child.signal(signal.SIGKILL)
    await run.gets(GroupEnded)


@in_loop
async def test_a_shell_with_a_trap_is_the_program(tmp_path: Path) -> None:
    run = Observer("trap 'echo told; exit 3' TERM; sleep 600 & echo ready; wait", cwd=tmp_path)
    await run.child.spawn()
    await run.reads(b"ready")
    run.child.signal(signal.SIGTERM, only_main=True)
    assert (await run.gets(ChildExited)).exit == Exit(code=3)
    run.child.signal(signal.SIGKILL)
    await run.gets(GroupEnded)


# It has the size of several pipes.
LAST_WORDS = 300_000


@pytest.mark.parametrize("form", ["out=$(X); echo ${#out}", f"{sys.executable} -S copy.py X; :", "node copy.js X; :"])
@in_loop
async def test_what_a_server_writes_last_is_read_by_who_stands_above_it(tmp_path: Path, form: str) -> None:
    if "node" in form and not shutil.which("node"):
        pytest.skip("there is no node")
    (tmp_path / "copy.py").write_text("import subprocess, sys; print(len(subprocess.check_output(sys.argv[1:])))")
    (tmp_path / "copy.js").write_text(
        "const child = require('child_process').spawn(process.argv[2], process.argv.slice(3)); let size = 0\n"
        "child.stdout.on('data', data => { size += data.length }).on('end', () => console.log(size))"
    )
    (tmp_path / "server.py").write_text(f"{PYTHON}\nprint('x' * {LAST_WORDS})\n")
    stage = Stage(tmp_path, form.replace("X", f"{sys.executable} -S server.py"))
    await stage.starts()
    stage.run.child.signal(signal.SIGTERM)
    await stage.finishes_work()
    await stage.is_over()
    assert stage.noted == ["up", "SIGTERM", "drained"]


@in_loop
async def test_server_finishes_below_a_wrapper_that_ends_at_once(tmp_path: Path) -> None:
    # As node does: it catches the signal, and does not wait for what it has started.
    command = "sh -c 'trap \"exit 0\" TERM; X & wait'; :"
    stage = Stage(tmp_path, command.replace("X", server_of(tmp_path, "python")))
    await stage.starts()
    stage.run.child.signal(signal.SIGTERM)
    await stage.finishes_work()
    await stage.is_over()
    assert stage.noted == ["up", "SIGTERM", "drained"]


@pytest.mark.parametrize(
    "form", ["X | cat", "bash -c 'X | tee copy | cat; :'", "cd . && X | cat | cat", "(X | cat) 2>&1"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@in_loop
async def test_a_pipeline_passes_on_what_its_server_writes_last(
    tmp_path: Path, form: str, number: signal.Signals
) -> None:
    if "bash" in form and not shutil.which("bash"):
        pytest.skip("there is no bash")
    (tmp_path / "server.py").write_text(f"{PYTHON}\nprint('x' * {LAST_WORDS})\nprint('last', flush=True)\n")
    stage = Stage(tmp_path, form.replace("X", f"{sys.executable} -S server.py"))
    await stage.starts()
    stage.run.child.signal(number)
    await stage.finishes_work()
    await stage.run.reads(b"last")
    await stage.is_over()
    assert stage.noted == ["up", number.name, "drained"]


@in_loop
async def test_a_later_program_of_a_pipeline_gets_the_signal_when_the_first_has_ended(tmp_path: Path) -> None:
    (tmp_path / "filter.py").write_text(
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
        "print('pending' if signal.sigpending() else 'at its end', flush=True)\n"
        "print(signal.sigwait({signal.SIGTERM}).name, flush=True)\n"
    )
    run = Observer(f"sleep 600 | {sys.executable} -S filter.py", cwd=tmp_path, terminal=True)
    await run.child.spawn()
    await run.reads(b"ready")
    run.child.signal(signal.SIGTERM)
    await run.gets(ChildExited)
    assert run.output().split() == [b"ready", b"at", b"its", b"end", b"SIGTERM"]


# What has left the group is ended by the custody of the command line.
@pytest.mark.parametrize("form", [form for form in FORMS if form != "bash job control"])
@in_loop
async def test_sigkill_ends_everything_at_once(tmp_path: Path, form: str) -> None:
    stage = Stage(tmp_path, command_of(tmp_path, form, "python"))
    await stage.starts()
    stage.run.child.signal(signal.SIGTERM)
    stage.run.child.signal(signal.SIGKILL)
    assert (await stage.is_over()).signal == signal.SIGKILL
    assert "drained" not in stage.noted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@in_loop
async def test_a_signal_leaves_the_status_of_the_child_to_asyncio(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    run = Observer("echo ready; exec sleep 600", cwd=tmp_path)
    await run.child.spawn()
    await run.reads(b"ready")
    monkeypatch.setattr(
        subprocess.Popen, "poll", lambda self: pytest.fail("takes the status of a child that has ended")
    )
    run.child.signal(number, only_main=True)
    assert (await run.gets(ChildExited)).exit == Exit(signal=number)
