"""Output of children is complete: every byte, in whole lines, in order, for any reader and any speed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from support.driver import Project, altered

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="looks into /proc or at /dev/full, which only Linux has"
)
MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    "line",
    [
        b"progress 10%\rprogress 20%",
        b"with a carriage return\r",
        b"form\x0cfeed, vertical\x0btab, \x1c\x1d\x1e",
        "next line \x85, line separator \u2028, paragraph separator \u2029".encode(),
        b"nul \0 byte",
        b"no \xff\xfe\xc3 utf-8",
        b"\x1b[31mred without an end",
        b"",
        b"x" * 300_000,
    ],
)
def test_bytes_pass_unchanged(project: Project, line: bytes) -> None:
    project.write("line", line + b"\n")
    project.procfile(web="cat line")
    program = project.begin("start", "--no-timestamp")
    program.end()
    assert program.data.split(b"\n")[1:-2] == [b"web.1  | " + line]


def test_line_without_an_end_is_complete(project: Project) -> None:
    project.procfile(web="head -c 30000000 /dev/zero | tr '\\000' x")
    program = project.begin("start", "--no-timestamp")
    program.end()
    assert program.data.split(b"\n")[1] == b"web.1  | " + b"x" * 30_000_000


@pytest.mark.parametrize("end", ["exit 5", "kill -KILL $$"])
def test_last_output_comes_before_the_message_about_the_end(project: Project, end: str) -> None:
    project.procfile(web=f"seq 2000; printf unfinished; {end}")
    result = project.run("start")
    assert result.lines("web.1") == [*map(str, range(1, 2001)), "unfinished"]
    assert re.search(r"\| unfinished\n\S+ system \| web\.1 stopped \(rc=-?\d\)\n\Z", result.out)


def test_lines_of_different_processes_do_not_mix(project: Project) -> None:
    project.procfile(
        half="printf 'one '; read answer; echo two; cat > /dev/null",
        other="cat fifo; exec sleep 600",
    )
    os.mkfifo(project.path / "fifo")
    program = project.begin("start", "--no-timestamp", stdin=subprocess.PIPE)
    program.wait_for(r"half\.1  \| one \Z")
    (project.path / "fifo").write_text("between\n")
    program.wait_for(r"between\n")
    program.type("\n")
    program.wait_for(r"half\.1  \| two\n")
    program.stop()
    assert "half.1  | one \nother.1 | between\nhalf.1  | two\n" in program.out


def test_million_lines_of_four_producers_are_complete_and_in_order(project: Project) -> None:
    each = 250_000
    producers = [f"p{number}" for number in range(4)]
    for name in producers:
        os.mkfifo(project.path / name)
    # The end of the gate ends the app, and it ends when each of the others has written everything.
    project.procfile(
        **{name: f"seq {each}; : > {name}; exec sleep 600" for name in producers}, gate=f"cat {' '.join(producers)}"
    )
    with open(project.path / "out", "wb") as file:
        result = project.begin("start", "--no-timestamp", stdout=file.fileno()).end()
    assert result.code == 0
    printed: dict[bytes, list[bytes]] = defaultdict(list)
    for line in (project.path / "out").read_bytes().splitlines():
        name, _, rest = line.partition(b" | ")
        printed[name].append(rest)
    expected = [str(number).encode() for number in range(1, each + 1)]
    assert all(printed[f"{name}.1  ".encode()] == expected for name in producers)


# Writes until nothing is read for half a second, reports the amount, and continues until it is stopped.
FLOOD = """
import os, select
os.set_blocking(1, False)
line, written, poll = b"x" * 99 + b"\\n", 0, select.poll()
poll.register(1, select.POLLOUT)
while poll.poll(500) and written < 1 << 28:
    written += os.write(1, line * 40)
with open("fifo", "w") as fifo:
    fifo.write(f"{written}\\n")
os.set_blocking(1, True)
while True:
    os.write(1, line)
"""


# Reports through a separate pipe that it runs, and which stop signal it got.
TOLD = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
with open("told", "w") as told:
    print("ready", file=told, flush=True)
    print(signal.Signals(signal.sigwait({signal.SIGTERM})).name, file=told)
"""


@linux_only
def test_stalled_reader_slows_the_writer_but_not_the_supervision(project: Project) -> None:
    for name in ("fifo", "told"):
        os.mkfifo(project.path / name)
    project.procfile(flood=f"exec {project.python('flood', FLOOD)}", web=f"exec {project.python('obedient', TOLD)}")
    program = project.begin("start", "--no-timestamp", read=False)
    with open(project.path / "told") as told:
        assert told.readline() == "ready\n"
        with open(project.path / "fifo") as fifo:
            written = int(fifo.readline())
        status = Path(f"/proc/{program.pid}/status").read_text()
        program.send(signal.SIGTERM)
        assert told.readline() == "SIGTERM\n"
    # The test has not read a byte until now. No accepted output is lost.
    program.read()
    result = program.end()
    assert result.code == 143
    assert written < 8 * MEBIBYTE
    assert len(result.lines("flood.1")) >= written // 100
    assert set(result.lines("flood.1")) == {"x" * 99}
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak) < 64 * 1024


def test_second_signal_does_not_wait_for_a_stalled_reader(project: Project) -> None:
    os.mkfifo(project.path / "fifo")
    project.procfile(flood=f"exec {project.python('flood', FLOOD)}")
    program = project.begin("start", "-t", "500", read=False)
    with open(project.path / "fifo") as fifo:
        fifo.readline()
    # The end of the children is reported only in the output that the test does not read.
    assert program.insist(signal.SIGINT).code == 130


def test_unread_output_is_dropped_and_the_exit_code_is_a_failure(project: Project) -> None:
    # More than a pipe holds, and less than what would hold up the writer.
    project.procfile(web="seq 60000")
    impatient = altered("from procreaper.cli.app import application; application.PATIENCE = 0.2")
    assert project.begin("start", "-t", "0", read=False, wrapper=impatient).end().code == 1


@pytest.mark.parametrize("timeout", ["0", "5"])
def test_slow_reader_gets_all_output(project: Project, timeout: str) -> None:
    project.procfile(web="seq 300000")
    slow = "import os, sys\nwhile data := os.read(0, 4096): os.write(1, data)"
    command = ("sh", "-c", f'"$@" | {sys.executable} -S -c "{slow}"', "sh")
    result = project.run("start", "-t", timeout, wrapper=command)
    assert len(result.lines("web.1")) == 300_000
    assert result.lines("system")[-1] == "web.1 stopped (rc=0)"


def test_closed_reader_ends_the_app(project: Project) -> None:
    project.procfile(web="trap '' PIPE; echo ready; exec yes", other="exec sleep 600")
    program = project.begin("start")
    program.wait_for("ready")
    program.leave()
    result = program.end()
    assert (result.code, result.err) == (128 + signal.SIGPIPE, "")


def test_head_takes_the_first_line(project: Project) -> None:
    project.procfile(web="exec yes")
    result = project.run("start", wrapper=("sh", "-c", '{ "$@"; echo "code $?" >&2; } | head -1', "sh"))
    assert result.out.count("\n") == 1
    assert result.err == "code 141\n"


@linux_only
def test_full_disk_ends_the_app_with_an_error(project: Project) -> None:
    project.procfile(web="echo hello; exec sleep 600")
    with open("/dev/full", "wb") as full:
        result = project.begin("start", stdout=full.fileno()).end()
    assert result.code == 1
    assert result.err.startswith(
        "procreaper: error: standard output cannot be written: no space left on device\n  hint: "
    )


def test_standard_output_may_be_non_blocking(project: Project) -> None:
    project.procfile(web="seq 300000")
    unblock = "import os, sys; os.set_blocking(1, False); os.execv(sys.argv[1], sys.argv[1:])"
    result = project.run("start", wrapper=(sys.executable, "-S", "-c", unblock))
    assert result.code == 0
    assert len(result.lines("web.1")) == 300_000


def test_process_that_closes_its_output_keeps_running(project: Project) -> None:
    os.mkfifo(project.path / "fifo")
    project.procfile(web="echo last; exec > /dev/null 2>&1; cat fifo; exit 3")
    program = project.begin("start")
    program.wait_for("last")
    (project.path / "fifo").write_text("unseen")
    result = program.end()
    assert (result.code, result.lines("web.1")) == (3, ["last"])
    assert result.lines("system")[-1] == "web.1 stopped (rc=3)"


# A terminal.


def test_terminal_gets_colours(project: Project) -> None:
    project.procfile(web="echo hello", worker="sleep 600", clock="sleep 600")
    program = project.begin("start", terminal=True)
    program.wait_for("web.1 stopped")
    assert program.end().code == 0
    assert re.search(r"^\x1b\[0m\x1b\[36m\d\d:\d\d:\d\d web\.1    \| \x1b\[0mhello$", program.out, re.MULTILINE)
    assert re.search(r"^\x1b\[0m\d\d:\d\d:\d\d system   \| web\.1 started \(pid=\d+\)$", program.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "environment"), [(("--no-color",), {}), ((), {"NO_COLOR": "1"}), ((), {"TERM": "dumb"})]
)
def test_terminal_gets_no_colours_with_the_flag_or_no_color(
    project: Project, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    project.procfile(web="echo hello")
    assert "\x1b" not in project.begin("start", *arguments, env=environment, terminal=True).end().out


def test_progress_bar_on_a_terminal_keeps_its_prefix(project: Project) -> None:
    project.write("bar", "10%\r20%\r\n")
    project.procfile(web="cat bar")
    result = project.begin("start", "--no-color", "--no-timestamp", terminal=True).end()
    assert "\nweb.1  | 10%\rweb.1  | 20%\r\n" in result.out


def test_closed_terminal_ends_the_app(project: Project) -> None:
    project.procfile(web="echo ready; exec yes", other="exec sleep 600")
    program = project.begin("start", terminal=True)
    program.wait_for("ready")
    program.leave()
    # Either the signal or the failure to write comes first.
    assert program.end().code in (128 + signal.SIGHUP, 128 + signal.SIGPIPE)


def test_unread_warning_does_not_matter(project: Project) -> None:
    project.write("Procfile", "web: echo hello\nno process\n")
    result = project.run("start", wrapper=("sh", "-c", '{ exec "$@" 2>&1 >&3 | :; } 3>&1', "sh"))
    assert result.lines("web.1") == ["hello"]


def test_end_that_waits_for_a_reader_is_reported(project: Project) -> None:
    project.procfile(web="echo ready >here; exec yes")
    os.mkfifo(project.path / "here")
    program = project.begin("start", read=False)
    (project.path / "here").read_text()
    program.send(signal.SIGTERM)
    program.wait_for_error("waiting up to 5 s for its output to be read")
    program.insist(signal.SIGTERM)
