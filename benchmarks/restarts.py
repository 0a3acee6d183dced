"""Measure the time until a new child prints: after a crash, and after a file was saved.

    python benchmarks/restarts.py [--runs N]

Each child is `sh -c 'echo ...; exec sleep 1000'`, so its own stop and start are short; they are part of every figure. A
back-off is subtracted. Programs that are not installed are left out. Unlike `run.py`, this script also drives programs
that only restart a command, each with its defaults and, if there is a flag for it, at its fastest.
"""

import argparse
import os
import re
import select
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
from peers import find_program

SPOKEN = re.compile(rb"up-(\d+)-here")
SPEAK = "echo up-$$-here; exec sleep 1000"
LIMIT = 15.0
BACKOFF = 0.001
# Pause between two samples, so that no tool merges the second save with the first.
REST = 0.6


@dataclass(frozen=True, slots=True)
class Contender:
    """One program that restarts a command: its command line, and the files that it needs."""

    name: str
    program: str
    arguments: tuple[str, ...]
    files: tuple[tuple[str, str], ...] = ()
    stdin: str = ""
    less: float = 0.0


def settings(*lines: str) -> tuple[tuple[str, str], ...]:
    """Return the files of a project with one process."""
    return ("Procfile", f"web: {SPEAK}\n"), (".reaper.toml", "\n".join(["[process.web]", *lines, ""]))


CRASH = (
    Contender(
        "procreaper",
        "procreaper",
        ("start",),
        settings(
            'restart = "always"', f'backoff = {{ initial = "{BACKOFF * 1000:g}ms", max = "{BACKOFF * 1000:g}ms" }}'
        ),
        less=BACKOFF,
    ),
    Contender("concurrently", "concurrently", ("--restart-tries", "-1", SPEAK)),
)
SAVE = (
    Contender("procreaper", "procreaper", ("start",), settings('watch = ["src"]')),
    Contender(
        "procreaper, 10 ms",
        "procreaper",
        ("start",),
        settings('watch = { paths = ["src"], debounce = "10ms" }'),
    ),
    Contender("watchfiles", "watchfiles", (f"sh -c {shlex.quote(SPEAK)}", "src")),
    Contender("nodemon", "nodemon", ("-q", "-w", "src", "-e", "py", "--exec", SPEAK)),
    Contender("entr", "entr", ("-n", "-r", "sh", "-c", SPEAK), stdin="src/app.py\n"),
)


class Run:
    """One running contender. As a context manager, it ends all its processes and removes its files."""

    def __init__(self, contender: Contender, program: tuple[str, ...]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
        (self.directory / "src").mkdir()
        self.file = self.directory / "src" / "app.py"
        self.file.write_text("0")
        for name, content in contender.files:
            (self.directory / name).write_text(content)
        self.read, writing = os.pipe()
        self.process = subprocess.Popen(
            [*program, *contender.arguments],
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=writing,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(writing)
        assert self.process.stdin is not None
        self.process.stdin.write(contender.stdin.encode())
        self.process.stdin.close()
        self.said = b""

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        processes.end_everything()
        os.close(self.read)
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_for_child(self) -> tuple[int, float]:
        """Return the pid of the next child that prints, and the time at which its output arrived."""
        deadline = time.monotonic() + LIMIT
        while True:
            found = SPOKEN.search(self.said)
            if found is not None:
                self.said = self.said[found.end() :]
                return int(found[1]), time.monotonic()
            if not select.select([self.read], [], [], deadline - time.monotonic())[0]:
                raise TimeoutError
            self.said += os.read(self.read, 65536)


def crash(run: Run, pid: int) -> float:
    """Kill the child, and return the time."""
    del run
    now = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return now


def save(run: Run, pid: int) -> float:
    """Write the file, and return the time."""
    del pid
    now = time.monotonic()
    run.file.write_text(str(now))
    return now


def sample(contender: Contender, program: tuple[str, ...], provoke: Callable[[Run, int], float]) -> float:
    """Return the seconds from the cause to the output of the next child."""
    with Run(contender, program) as run:
        pid, _ = run.wait_for_child()
        time.sleep(REST)
        before = provoke(run, pid)
        return run.wait_for_child()[1] - before - contender.less


def table(title: str, contenders: tuple[Contender, ...], provoke: Callable[[Run, int], float], runs: int) -> None:
    """Take the samples of all contenders in turn, and print the medians."""
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(runs):
        for contender in contenders:
            program = find_program(contender.program)
            if program:
                with suppress(TimeoutError):
                    found[contender.name].append(sample(contender, program, provoke))
    print(f"### {title}\n\n| | median | lowest - highest |\n|-|-:|-:|")
    for name, values in found.items():
        if values:
            low, high = min(values) * 1000, max(values) * 1000
            print(f"| {name} | {statistics.median(values) * 1000:.1f} ms | {low:.1f} - {high:.1f} ms |")
    print()


def main(arguments: list[str] | None = None) -> int:
    """Print both tables."""
    parser: Any = argparse.ArgumentParser(description="Measure the time until a new child prints.")
    parser.add_argument("--runs", type=int, default=11, help="samples of each figure (default: 11)")
    runs = parser.parse_args(arguments).runs
    processes.become_subreaper()
    table("From a crash to the first words of the next child, less the back-off", CRASH, crash, runs)
    table("From a save to the first words of the next child", SAVE, save, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
