"""The managers to compare: how to run each one, and which measurements it cannot take.

Every manager gets the same commands under the same names, as the lines of a `Procfile` in its working directory, or in
another form if it does not read a Procfile. The prefix of a line is the text before the `@` of the line, so the
benchmark need not know the layout of a manager; the prefix must contain the name of the process.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

Commands = Mapping[str, str]

# Variables that would make a manager behave differently than in a plain terminal session.
UNWANTED_VARIABLES = (
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONOPTIMIZE",
    "NODE_OPTIONS",
    "FORCE_COLOR",
    "NO_COLOR",
    "CI",
    "PORT",
)


def from_procfile(*arguments: str) -> Callable[[Path, Commands], list[str]]:
    """Return a function that prepares a manager which reads the `Procfile` of the current directory."""

    def arrange(directory: Path, commands: Commands) -> list[str]:
        lines = [f"{name}: {command}\n" for name, command in commands.items()]
        (directory / "Procfile").write_text("".join(lines))
        return list(arguments)

    return arrange


def from_arguments(directory: Path, commands: Commands) -> list[str]:
    """Return the arguments of a manager that takes names and commands as arguments."""
    del directory
    return ["--names", ",".join(commands), *commands.values()]


def from_ecosystem(directory: Path, commands: Commands) -> list[str]:
    """Return the arguments of pm2, which would take a command for the path of a script."""
    apps = [
        {"name": name, "script": "/bin/sh", "args": ["-c", command], "interpreter": "none", "autorestart": False}
        for name, command in commands.items()
    ]
    (directory / "ecosystem.json").write_text(json.dumps({"apps": apps}))
    return ["start", "ecosystem.json"]


def from_shell(directory: Path, commands: Commands) -> list[str]:
    """Return the arguments of a shell that pipes each command into its own `cat`: no prefix, no whole lines."""
    lines = [f"({command}) | cat &\n" for command in commands.values()]
    (directory / "limit.sh").write_text("".join([*lines, "wait\n"]))
    return ["limit.sh"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One manager. `program` is empty if it is not installed; `unfit` maps measurements it cannot take to reasons."""

    name: str
    program: tuple[str, ...]
    arrange: Callable[[Path, Commands], list[str]]
    version_arguments: tuple[str, ...] = ("--version",)
    keeps_lines: bool = True
    prefixes: bool = True
    needs_terminal: bool = False
    unfit: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""

    def environment(self, directory: Path) -> dict[str, str]:
        """Return the environment of a run. The files of pm2 are in the directory of the run, and removed with it."""
        variables = {name: value for name, value in os.environ.items() if name not in UNWANTED_VARIABLES}
        return variables | {"PM2_HOME": str(directory / "pm2"), "TERM": "xterm-256color"}

    def version(self) -> str:
        """Return the version that the program prints, in one short line."""
        if not self.version_arguments:
            return ""
        command = [*self.program, *self.version_arguments]
        try:
            with tempfile.TemporaryDirectory() as directory:
                environment = self.environment(Path(directory))
                answer = subprocess.run(
                    command, env=environment, capture_output=True, text=True, timeout=20, check=False
                )
        except (OSError, subprocess.TimeoutExpired):
            return "of unknown version"
        lines = (answer.stdout or answer.stderr).strip().splitlines()
        return lines[0].removeprefix(self.name).strip() if lines else "of unknown version"


ONLY_SCREEN = "draws a screen and prints no lines"
NO_SUPERVISION = "a shell, not a manager"
PEERS = (
    Peer("procreaper", ("procreaper",), from_procfile("start"), version_arguments=("version",)),
    Peer("honcho", ("honcho",), from_procfile("start")),
    Peer("foreman", ("foreman",), from_procfile("start")),
    Peer("nf", ("nf",), from_procfile("start")),
    Peer("overmind", ("overmind",), from_procfile("start")),
    Peer("hivemind", ("hivemind",), from_procfile("Procfile")),
    Peer("goreman", ("goreman",), from_procfile("start"), version_arguments=("version",)),
    Peer("concurrently", ("concurrently",), from_arguments),
    Peer(
        "pm2", ("pm2-runtime",), from_ecosystem, prefixes=False, remark="`pm2-runtime`: prints lines without a prefix"
    ),
    Peer(
        "mprocs",
        ("mprocs",),
        from_arguments,
        needs_terminal=True,
        unfit=dict.fromkeys(("output", "latency", "start", "stalled"), ONLY_SCREEN),
    ),
    Peer(
        "cat",
        ("sh",),
        from_shell,
        version_arguments=(),
        keeps_lines=False,
        prefixes=False,
        unfit=dict.fromkeys(("memory", "idle", "stop", "stalled"), NO_SUPERVISION),
        remark="the limit: each child into a `cat` of its own, without prefixes and without regard to lines",
    ),
)
REFERENCE = "honcho"
ALWAYS = ("procreaper", "cat")


def find_program(name: str) -> tuple[str, ...]:
    """Find a program beside this interpreter, or else on the `PATH`."""
    beside = os.path.dirname(sys.executable)
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    return (found,) if found else ()


def known_peers(commands: Mapping[str, str]) -> list[Peer]:
    """Return every known manager; `commands` overrides or adds programs by name.

    The row `cat`, the limit, stays last.
    """
    found = []
    for peer in PEERS:
        given = commands.get(peer.name)
        found.append(replace(peer, program=tuple(shlex.split(given)) if given else find_program(peer.program[0])))
    names = {peer.name for peer in PEERS}
    added = [
        Peer(name, tuple(shlex.split(command)), from_procfile(), version_arguments=())
        for name, command in commands.items()
        if name not in names
    ]
    return [*found[:-1], *added, found[-1]]
