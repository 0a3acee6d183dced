"""Output of children arrives complete and in order: cut into pieces, under a flood, and with a reader that stalls."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.driver import Project

# Text that is easily broken: characters of two to four bytes, invalid UTF-8, NUL, and both line ends.
AWKWARD = "grüße, 日本, 🦀\n".encode() + b"nul \0, no utf-8 \xff\xc3\x28\xf0\x9f\r\nbar 1%\rbar 2%\n\n"

ONE_BY_ONE = """
import os
with open("bytes", "rb") as file:
    for byte in file.read():
        os.write(1, bytes([byte]))
"""


def test_output_written_byte_by_byte_equals_output_written_at_once(project: Project) -> None:
    project.write("bytes", AWKWARD * 100)
    project.procfile(web=project.python("one_by_one", ONE_BY_ONE))
    program = project.begin("start", "--no-timestamp")
    program.end()
    # An additional carriage return at the end of a line makes no difference.
    printed, written = (data.replace(b"\r\n", b"\n").split(b"\n") for data in (program.data, AWKWARD * 100))
    assert printed[1:-2] == [b"web.1  | " + line for line in written[:-1]]


HALVES = r"""
import os, sys
for part in (b"\xf0\x9f", b"\xa6\x80 nul", b"\0", b" \xe6\x97", b"\xa5\n"):
    os.write(1, part)
    os.read(0, 1)
"""


def test_character_that_a_pause_cuts_is_complete_in_the_end(project: Project) -> None:
    project.procfile(web=f"exec {project.python('halves', HALVES)}")
    program = project.begin("start", "--no-timestamp", stdin=subprocess.PIPE)
    # The program waits after each part, so that the incomplete line is shown.
    for seen in (r"\udcf0\udc9f", "🦀 nul", "🦀 nul\0", "🦀 nul\0 \udce6\udc97", "🦀 nul\0 日\n"):
        program.wait_for(rf"^web\.1  \| {seen}\Z")
        program.type(".")
    program.end()
    assert program.data.count(b"web.1  | ") == 1
    assert b"web.1  | " + "🦀 nul\0 日\n".encode() in program.data


# Writes lines in pieces of a megabyte, at least a hundred, until the file `enough` exists. Then reports their number.
FLOOD = """
import os, signal
lines, block = 0, (b"x" * 99 + b"\\n") * 10_000
while lines < 1_000_000 or not os.path.exists("enough"):
    view = memoryview(block)
    while view:
        view = view[os.write(1, view):]
    lines += 10_000
with open("flooded", "w") as flooded:
    print(lines, file=flooded)
signal.pause()
"""
# Counts the lines of the flood, and passes all other lines on.
SIEVE = """
import sys
lines = 0
for line in sys.stdin.buffer:
    if line == b"flood.1 | " + b"x" * 99 + b"\\n":
        lines += 1
    else:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
print("flooded", lines)
"""


def test_flood_delays_no_other_process(project: Project) -> None:
    for name in ("said", "flooded"):
        os.mkfifo(project.path / name)
    project.write("sieve.py", SIEVE)
    project.procfile(flood=f"exec {project.python('flood', FLOOD)}", quiet="exec cat said")
    wrapper = ("sh", "-c", f'"$@" | {sys.executable} -S sieve.py', "sh")
    program = project.begin("start", "--no-timestamp", wrapper=wrapper)
    program.wait_for(r"flood\.1 started")
    with open(project.path / "said", "w") as said:
        for number in range(200):
            print(number, file=said, flush=True)
            program.wait_for(rf"^quiet\.1 \| {number}\n")
        (project.path / "enough").touch()
        with open(project.path / "flooded") as flooded:
            lines = int(flooded.readline())
        print("last", file=said)
    result = program.end()
    assert result.lines("quiet.1") == [*map(str, range(200)), "last"]
    assert f"\nflooded {lines}\n" in result.out


# Writes numbers until none is read for half a second, reports this, continues, and reports that it could.
NUMBERS = """
import os, select
os.set_blocking(1, False)
number, left, poll = 0, b"", select.poll()
poll.register(1, select.POLLOUT)

def write():
    global number, left
    if not left:
        left = b"".join(b"%d\\n" % each for each in range(number, number + 1000))
        number += 1000
    left = left[os.write(1, left):]

with open("told", "w") as told:
    while poll.poll(500) and number < 1 << 25:
        write()
    print(number, file=told, flush=True)
    os.set_blocking(1, True)
    goal = number + 200_000
    while number < goal:
        write()
    print(number, file=told, flush=True)
while True:
    write()
"""


def test_crash_is_restarted_and_no_output_is_lost_while_the_reader_stalls(project: Project) -> None:
    for name in ("told", "began", "gate"):
        os.mkfifo(project.path / name)
    project.procfile(
        numbers=f"exec {project.python('counting', NUMBERS)}", web="echo $$ > began; read x < gate; exit 3"
    )
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nbackoff = "1ms"\n')
    program = project.begin("start", "--no-timestamp", read=False)
    with open(project.path / "told") as told:
        assert int(told.readline()) < 4_000_000
        pids = []
        for _ in range(4):
            pids.append((project.path / "began").read_text())
            (project.path / "gate").write_text("\n")
        status = Path(f"/proc/{program.pid}/status").read_text()
        program.read()
        least = int(told.readline())
    (project.path / "began").read_text()
    result = program.stop()
    assert result.code == 143
    numbers = result.lines("numbers.1")
    # The last number may be incomplete, because the writer was stopped.
    assert numbers[:-1] == [str(number) for number in range(len(numbers) - 1)]
    assert len(numbers) > least - 2000
    assert [line for line in result.lines("system") if "rc=3" in line] == ["web.1 stopped (rc=3)"] * 4
    assert len(set(pids)) == 4
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak) < 64 * 1024


def test_log_is_complete_and_memory_bounded_while_the_reader_stalls(project: Project) -> None:
    os.mkfifo(project.path / "told")
    # Several processes, so that the logs fall behind and catch up many times.
    others = {f"other{number}": "exec yes" for number in range(3)}
    project.procfile(numbers=f"exec {project.python('counting', NUMBERS)}", **others)
    project.write(
        ".reaper.toml",
        '[defaults]\nlog = { file = "log/$PORT.log", max_size = "10MB" }\n[process.numbers]\n'
        'log = { file = "log/numbers.log", max_size = "1GB" }\n',
    )
    program = project.begin("start", "--no-timestamp", "-q", ",".join(others), read=False)
    with open(project.path / "told") as told:
        assert int(told.readline()) < 4_000_000
        status = Path(f"/proc/{program.pid}/status").read_text()
        program.read()
        told.readline()
    result = program.stop()
    assert result.code == 143
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak) < 64 * 1024
    numbers = result.lines("numbers.1")
    assert (project.path / "log" / "numbers.log").read_text().split("\n")[: len(numbers)] == numbers


def test_full_disk_behind_standard_output_ends_the_app_with_an_error(project: Project) -> None:
    (project.path / "disk").mkdir()
    mount = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=256k none disk && exec "$@" > disk/out', "sh")
    try:
        subprocess.run((*mount, "true"), cwd=project.path, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here")
    project.procfile(web="exec yes", other="exec sleep 600")
    result = project.run("start", wrapper=mount)
    assert result.code == 1
    assert result.err.startswith(
        "procreaper: error: standard output cannot be written: no space left on device\n  hint: "
    )
