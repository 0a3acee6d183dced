"""The pages for users: their code blocks, and helpers to compare them with real output."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = [sys.executable, "-m", "procreaper"]
# Seconds for a whole example, which normally takes some seconds.
LIMIT = 60.0


def fenced(page: str, language: str) -> list[str]:
    """The blocks of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def sessions(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the lines below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def python_blocks(page: str) -> list[tuple[str, str | None]]:
    """Each Python block of a page, with the output below it, if any."""
    return [
        (match[1], match[2])
        for match in re.finditer(
            r"^```python\n(.*?)^```\n(?:\nIt prints\n\n```text\n(.*?)^```\n)?", page, re.DOTALL | re.MULTILINE
        )
    ]


def pattern(text: str) -> list[str]:
    """The lines of a text, with fixed values for times, dates, pids and ports."""
    return [re.sub(r"\d+", "0", re.sub(r"/[A-Z][a-z]{2}/", "/Jan/", line)).rstrip() for line in text.splitlines()]


def environment(**variables: str) -> dict[str, str]:
    """The environment of these tests, without variables that would change the output."""
    unwanted = {"FORCE_COLOR", "GREETING", "PORT", "PROCFILE"}
    return {name: value for name, value in os.environ.items() if name not in unwanted} | variables


def with_program(directory: Path) -> str:
    """A `PATH` that begins with this directory, in which `procreaper` is the tested program."""
    program = directory / "procreaper"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def base_port() -> int:
    """A free port, with room above it for the ports of further process types."""
    while True:
        if (port := free_port()) < 64_000:
            return port


def run_python(block: str, shown: str | None, directory: Path) -> None:
    """Run a Python block. It must not warn, and must print the output on the page, if there is any."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        encoding="utf-8",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    if shown is not None:
        assert ran.stdout == shown
