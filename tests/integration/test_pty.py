"""A terminal for each child: the child behaves as in a shell, and our terminal is unchanged afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import termios

import pytest
from support.driver import PYTHON, WINDOW, Project

COLUMNS, LINES = WINDOW
# `HH:MM:SS system | `, and `system | `.
PREFIX, SHORT_PREFIX = 18, 9
MEBIBYTE = 1 << 20

STREAMS = """
import os
print(*(os.isatty(stream) for stream in (0, 1, 2)), os.getsid(0) == os.getpid() == os.tcgetpgrp(0))
tty = os.open("/dev/tty", os.O_WRONLY)
os.write(tty, b"to my terminal\\n")
print(os.environ.get("PS"), os.ttyname(0) == os.ttyname(1) == os.ttyname(2))
"""


def test_child_has_its_own_terminal_if_procreaper_has_one(project: Project) -> None:
    project.procfile(shell=f"exec {project.python('streams', STREAMS)}")
    project.write(".reaper.toml", f'[process.list]\ncommand = ["{sys.executable}", "-S", "streams.py"]\n')
    project.write(".env", "A=1\n")
    result = project.begin("start", "--no-color", "--can-die", "all", terminal=True).end()
    for name in ("shell.1", "list.1"):
        told = result.lines(name)
        assert "True True True True" in told
        assert "to my terminal" in told
        assert f"{name} True" in told


@pytest.mark.parametrize(
    ("arguments", "settings", "terminal", "expected"),
    [
        ((), "", True, "yes"),
        ((), "", False, "no"),
        (("--no-pty",), "", True, "no"),
        (("--pty",), "", False, "yes"),
        ((), "pty = true", False, "yes"),
        ((), "pty = false", True, "no"),
        ((), 'pty = "auto"', True, "yes"),
        ((), 'pty = "auto"', False, "no"),
        (("--pty",), "pty = false", False, "yes"),
        (("--no-pty",), "pty = true", True, "no"),
    ],
)
def test_flags_and_settings_decide_about_a_terminal(
    project: Project, arguments: tuple[str, ...], settings: str, terminal: bool, expected: str
) -> None:
    project.procfile(web="[ -t 1 ] && echo yes || echo no")
    if settings:
        project.write(".reaper.toml", f"[defaults]\n{settings}\n")
    result = project.begin("start", "--no-color", *arguments, terminal=terminal).end()
    assert result.lines("web.1") == [expected]


# Tells how large its terminal is: at first, and whenever that changes.
SIZE = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
while True:
    print(*os.get_terminal_size(), flush=True)
    signal.sigwait({signal.SIGWINCH})
"""


@pytest.mark.parametrize(
    ("arguments", "margin"),
    [((), PREFIX), (("--no-timestamp",), SHORT_PREFIX), (("--no-prefix",), 0), (("--log-format", "json"), 0)],
)
def test_line_that_fits_the_terminal_of_a_child_fits_ours(
    project: Project, arguments: tuple[str, ...], margin: int
) -> None:
    project.procfile(web=f"exec {project.python('size', SIZE)}")
    program = project.begin("start", "--no-color", *arguments, terminal=True)
    program.wait_for(f"{COLUMNS - margin} {LINES}")
    program.stop()


def test_terminal_of_a_child_follows_the_window_size(project: Project) -> None:
    project.procfile(web=f"exec {project.python('size', SIZE)}")
    program = project.begin("start", "--no-color", "--no-timestamp", terminal=True)
    program.wait_for(rf"{COLUMNS - SHORT_PREFIX} {LINES}")
    program.resize(90, 30)
    program.wait_for(rf"{90 - SHORT_PREFIX} 30")
    program.resize(5, 10)
    program.wait_for("20 10")
    program.stop()


def test_longer_name_that_comes_later_narrows_all_terminals(project: Project) -> None:
    size = f"exec {project.python('size', SIZE)}"
    project.procfile(web=size)
    program = project.begin("start", "--no-color", "--no-timestamp", terminal=True)
    program.wait_for(rf"^web\.1  \| {COLUMNS - SHORT_PREFIX} {LINES}")
    project.procfile(web=size, longer=size)
    assert project.run("reload").code == 0
    columns = COLUMNS - len("longer.1 | ")
    program.wait_for(rf"^web\.1    \| {columns} {LINES}")
    program.wait_for(rf"^longer\.1 \| {columns} {LINES}")
    program.stop()


def test_terminal_without_a_window_has_the_size_in_the_environment(project: Project) -> None:
    project.procfile(web=f"exec {project.python('size', SIZE)}")
    program = project.begin("start", "--pty", "--no-prefix")
    program.wait_for("80 24")
    program.stop()
    program = project.begin("start", "--pty", "--no-prefix", env={"COLUMNS": "132", "LINES": "43"})
    # Python itself would believe the variables.
    program.wait_for("132 43")
    program.stop()


@pytest.mark.parametrize("language", ["python", "ruby"])
def test_output_on_a_terminal_is_not_buffered(project: Project, language: str) -> None:
    if language == "ruby" and subprocess.run(["sh", "-c", "command -v ruby"], capture_output=True).returncode:
        pytest.skip("there is no ruby")
    project.write("wait.py", "import time\nprint('hello')\ntime.sleep(600)\n")
    project.write("wait.rb", "puts 'hello'\nsleep 600\n")
    project.procfile(web="exec ruby wait.rb" if language == "ruby" else f"exec {PYTHON} wait.py")
    program = project.begin("start", "--no-color", terminal=True)
    program.wait_for(r"\| hello$")
    program.stop()


def test_bytes_pass_unchanged(project: Project) -> None:
    project.write("lines", b"one\n\ttwo\r\nthr\xffee\0\n\x1b[31mred\x1b[0m\n\x04\x03\n")
    project.procfile(web="cat lines")
    program = project.begin("start", "--no-color", "--no-prefix", terminal=True)
    program.end()
    assert b"\none\n\ttwo\r\nthr\xffee\0\n\x1b[31mred\x1b[0m\n\x04\x03\n" in program.data


def test_typed_text_reaches_no_process_and_no_child_echoes_it(project: Project) -> None:
    project.procfile(web="echo ready; read answer; echo wrong $answer", other="read answer; echo wrong $answer")
    program = project.begin("start", "--no-color", terminal=True)
    program.wait_for("ready")
    program.type("secret\n")
    program.wait_for("no process reads what is typed here; in another terminal: procreaper attach NAME")
    program.type("secret\n")
    program.wait_for("secret", count=2)
    result = program.stop()
    assert "wrong" not in result.out
    # Our own terminal has echoed it.
    assert result.out.count("secret") == 2
    assert result.out.count("no process reads") == 1


@pytest.mark.parametrize("setting", ["--no-pty", ""])
def test_process_that_shares_our_input_reads_it_without_a_message(project: Project, setting: str) -> None:
    project.procfile(web="echo ready; read answer; echo got $answer; exec sleep 600", other="exec sleep 600")
    project.write(".reaper.toml", "" if setting else "[process.web]\npty = false\n")
    program = project.begin("start", "--no-color", *setting.split(), terminal=True)
    program.wait_for("ready")
    program.type("typed\n")
    program.wait_for("got typed")
    assert "no process reads" not in program.stop().out


PAGERS = "echo pagers $PAGER $GIT_PAGER."


@pytest.mark.parametrize(
    ("arguments", "settings", "own", "pagers"),
    [
        ((), "", {}, "cat cat"),
        ((), "", {"GIT_PAGER": "delta"}, "cat delta"),
        ((), "", {"PAGER": "less"}, "less"),
        ((), "[process.web]\nenv = { PAGER = 'more' }\n", {}, "more cat"),
        (("--pty",), "", {}, ""),
        ((), "[process.web]\npty = true\n", {}, ""),
        (("--no-pty",), "", {}, ""),
    ],
)
def test_pager_on_an_implicit_terminal_does_not_wait_for_keys(
    project: Project, arguments: tuple[str, ...], settings: str, own: dict[str, str], pagers: str
) -> None:
    project.procfile(web=PAGERS)
    project.write(".reaper.toml", settings)
    project.write(".env", "".join(f"{name}={value}\n" for name, value in own.items()))
    result = project.begin("start", "--no-color", *arguments, terminal=True).end()
    assert f"pagers {pagers}".rstrip() + "." in " ".join(result.out.replace(" .", ".").split())


@pytest.mark.parametrize(("key", "name", "code"), [("\x03", "SIGINT", 130), ("\x1c", "SIGQUIT", 131)])
def test_keys_that_stop_procreaper_stop_the_children(project: Project, key: str, name: str, code: int) -> None:
    project.procfile(web="trap 'echo INT' INT; trap 'echo TERM; exit' TERM; echo ready; while :; do read x; done")
    program = project.begin("start", "--no-color", terminal=True)
    program.wait_for("ready")
    program.type(key)
    result = program.end()
    assert result.code == code
    assert result.lines("web.1") == ["ready", "TERM"]
    assert f"{name} received" in result.out


def test_second_interrupt_kills(project: Project) -> None:
    project.procfile(web="trap 'echo deaf' TERM; echo ready; while :; do sleep 1; done")
    program = project.begin("start", "-t", "500", "--no-color", terminal=True)
    program.wait_for("ready")
    program.type("\x03")
    program.wait_for("sending SIGTERM")
    program.type("\x03")
    result = program.end()
    assert result.code == 130
    assert "sending SIGKILL" in result.out


def test_closed_window_ends_the_children(project: Project) -> None:
    for name in ("one", "two"):
        os.mkfifo(project.path / name)
    project.procfile(
        **{
            name: f"trap 'echo TERM > {name}; exit' TERM; echo ready; while :; do read x; done"
            for name in ("one", "two")
        }
    )
    program = project.begin("start", "--no-color", terminal=True)
    program.wait_for(r"\| ready", count=2)
    program.leave()
    for name in ("one", "two"):
        assert (project.path / name).read_text() == "TERM\n"
    assert program.end().code in (128 + signal.SIGHUP, 128 + signal.SIGPIPE)


@pytest.mark.parametrize("end", ["exit 5", "kill -KILL $$"])
def test_last_output_comes_before_the_message_about_the_end(project: Project, end: str) -> None:
    project.procfile(web=f"seq 20000; printf unfinished; {end}")
    result = project.begin("start", "--no-color", terminal=True).end()
    assert result.lines("web.1") == [*map(str, range(1, 20_001)), "unfinished"]
    assert re.search(r"\| unfinished\n\S+ system \| web\.1 stopped \(rc=-?\d\)\n\Z", result.out)


def test_megabyte_of_each_of_four_processes_is_complete(project: Project) -> None:
    text = b"".join(b"%06d %s\n" % (number, b"x" * (number % 190)) for number in range(11_000))
    assert len(text) > MEBIBYTE
    project.write("text", text)
    project.procfile(**dict.fromkeys(("one", "two", "three", "four"), "cat text"))
    program = project.begin("start", "--no-color", "--can-die", "all", terminal=True)
    result = program.end()
    for name in ("one.1", "two.1", "three.1", "four.1"):
        assert result.lines(name) == text.decode().splitlines()


def test_process_that_closes_its_output_keeps_running(project: Project) -> None:
    os.mkfifo(project.path / "fifo")
    project.procfile(web="echo last; exec > /dev/null 2>&1 < /dev/null; cat fifo; echo again > /dev/tty; exit 3")
    program = project.begin("start", "--no-color", terminal=True)
    program.wait_for("last")
    (project.path / "fifo").write_text("unseen")
    result = program.end()
    assert (result.code, result.lines("web.1")) == (3, ["last", "again"])
    assert result.lines("system")[-1] == "web.1 stopped (rc=3)"


def test_sequences_that_clear_or_move_are_filtered(project: Project) -> None:
    project.write(
        "vite",
        b"\x1b[?25l" + b"\n" * 38 + b"\x1b[1;1H\x1b[0J\n  \x1b[32mVITE\x1b[39m ready\n\x1b[0m\x1b[6n\x1b]0;vite\x07",
    )
    project.procfile(web="cat vite; sleep 600")
    program = project.begin("start", terminal=True)
    program.wait_for("ready\n")
    result = program.stop()
    assert not re.search(r"\x1b(?!\[[0-9;]*m)", result.out)
    assert "\x1b[32mVITE\x1b[39m ready" in result.out
    assert result.out.count("web.1  |") == 3


def test_output_of_pipes_is_not_filtered(project: Project) -> None:
    project.write("clear", b"\x1b[2J\x1b[Hcleared\n")
    project.procfile(web="cat clear")
    program = project.begin("start", "--no-color", "--no-pty", terminal=True)
    program.end()
    assert b"| \x1b[2J\x1b[Hcleared\n" in program.data


# Moves on every 20 ms, as long as it takes.
BAR = """
import itertools, sys, time
for number in itertools.count():
    sys.stdout.write(f"\\r{number} %")
    sys.stdout.flush()
    time.sleep(0.02)
"""


def test_fast_progress_bar_is_shown(project: Project) -> None:
    project.procfile(web=f"exec {project.python('bar', BAR)}")
    program = project.begin("start", "--no-color", terminal=True)
    program.wait_for(r"\d+ %", count=30)
    result = program.stop()
    # Each state has its prefix, and none a line of its own.
    assert re.search(r"web\.1  \| \d+ %\r\S+ web\.1  \| \d+ %", result.out)
    assert result.out.count("\n") < 8


def test_lack_of_terminals_is_reported_once_and_pipes_are_used(project: Project) -> None:
    project.procfile(one="[ -t 1 ] || echo a pipe", two="[ -t 1 ] || echo a pipe")
    project.write(
        "refuse.py",
        "import os, runpy, sys\n"
        "def refuse(): raise OSError(28, 'No space left on device')\n"
        "os.openpty = refuse\n"
        "sys.argv = sys.argv[5:]\n"
        "runpy.run_module('procreaper', run_name='__main__')\n",
    )
    result = project.begin(
        "start", "--pty", "--can-die", "all", wrapper=(sys.executable, str(project.path / "refuse.py"))
    ).end()
    assert result.lines("one.1") == result.lines("two.1") == ["a pipe"]
    assert result.out.count("no terminal can be had") == 1
    assert "no space left on device" in result.out


# Our terminal.

# A shell with job control, as far as it matters here: it runs the program in a group of its own in the foreground; when
# that is suspended, it takes the terminal, says so, and gives it back when the test writes to the fifo.
JOB_CONTROL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if not pid:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        break
    os.tcsetpgrp(0, os.getpgrp())
    os.write(1, b"[1]+  Stopped\\n")
    with open("fg") as fifo:
        fifo.read()
    os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("arguments", [(), ("--no-pty",)])
def test_app_continues_after_ctrl_z_and_fg(project: Project, arguments: tuple[str, ...]) -> None:
    for name in ("fg", "more", "said"):
        os.mkfifo(project.path / name)
    project.procfile(web="echo ready; cat more; echo said > said; cat more; exec sleep 600")
    job_control = (sys.executable, "-S", "-c", JOB_CONTROL)
    program = project.begin("start", "--no-color", *arguments, terminal=True, wrapper=job_control)
    program.wait_for("ready")
    program.type("\x1a")
    program.wait_for("Stopped")
    # Only we are stopped, as with honcho; what the children say meanwhile comes later.
    (project.path / "more").write_text("said meanwhile\n")
    assert (project.path / "said").read_text() == "said\n"
    assert "meanwhile" not in program.out
    (project.path / "fg").write_text("")
    program.wait_for(r"\| said meanwhile")
    (project.path / "more").write_text("said later\n")
    program.wait_for(r"\| said later")
    program.type("\x03")
    assert program.end().code == 130


def modes(program_terminal: int) -> list[object]:
    return list(termios.tcgetattr(program_terminal))


@pytest.mark.parametrize("end", ["exit 3", "kill -KILL $$"])
def test_modes_of_our_terminal_are_restored(project: Project, end: str) -> None:
    os.mkfifo(project.path / "fifo")
    project.procfile(web=f"echo ready; cat fifo; stty -echo -icanon; echo changed; cat fifo; {end}")
    # Hold the terminal open, because it loses its modes when the last process closes it.
    job_control = (sys.executable, "-S", "-c", JOB_CONTROL)
    program = project.begin("start", "--no-color", "--no-pty", terminal=True, wrapper=job_control)
    program.wait_for("ready")
    assert program.terminal is not None
    before = modes(program.terminal)
    (project.path / "fifo").write_text("")
    program.wait_for("changed")
    assert modes(program.terminal) != before
    given_back = program.terminal
    (project.path / "fifo").write_text("")
    program.end()
    assert modes(given_back) == before


def test_modes_of_our_terminal_do_not_change_in_the_background(project: Project) -> None:
    """The modes belong to the program in the foreground."""
    os.mkfifo(project.path / "fifo")
    project.procfile(web="echo ready; cat fifo; exit 3")
    background = (
        sys.executable,
        "-S",
        "-c",
        "import os, subprocess, sys, termios\n"
        "process = subprocess.Popen(sys.argv[1:], process_group=0)\n"
        "open('fifo', 'w').close()\n"
        "modes = termios.tcgetattr(0)\n"
        "modes[3] &= ~termios.ICANON\n"
        "termios.tcsetattr(0, termios.TCSANOW, modes)\n"
        "code = process.wait()\n"
        "print('kept' if termios.tcgetattr(0)[3] == modes[3] else 'changed', code)\n",
    )
    program = project.begin("start", "--no-color", terminal=True, wrapper=background)
    program.wait_for("kept 3")
    program.end()
