"""The world around a project, as far as `check` looks at it: programs, ports, files, the shell.

Rules: looks and changes nothing; what cannot be found out counts as being all right. `start` looks at ports too, so
what only `check` needs is imported where it is used.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from procreaper.core.plan import HIGHEST_PORT

if TYPE_CHECKING:
    from procreaper.project.lint import Probes
    from procreaper.project.shell_lint import Defect

SHELL = "/bin/sh"
# One process for many commands, of which each costs a fork of this small one. `-n` reads a command and runs nothing.
READ_COMMANDS = r"""for command do "$0" -n -c -- "$command" sh 2>&1; printf '\000%s\000' $?; done"""
# `&>` starts a command in the background where the shell does not know it as a redirection.
FIND_WORDS = r"""for word do command -v "$word" >/dev/null 2>&1 || echo "$word"; done; : &>/dev/null; ${!:+echo '&>'}"""
# How long the shell may take, in seconds, and how many bytes of commands it gets at once.
SHELL_TIMEOUT = 5
MOST_BYTES = 100_000
# How much of a script's first line Linux reads, in bytes.
LONGEST_LINE = 256

Where = tuple[tuple[socket.AddressFamily, str], ...]
LOOPBACK: Where = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
# Linux also finds a listener at all addresses by the address of the loopback interface; other systems do not.
EVERYWHERE: Where = () if sys.platform == "linux" else ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))


def probe_machine() -> Probes:
    """How `check` looks at this machine."""
    from procreaper.project.lint import Probes

    return Probes(has_program, os.path.lexists, why_unwritable, find_defect, find_syntax_errors, find_missing_words)


def has_program(name: str, path: str) -> bool:
    """Whether a shell would find this program along this PATH."""
    import shutil

    return shutil.which(name, path=path) is not None


def is_taken(port: int) -> bool:
    """Whether a program listens on this TCP port of this machine, at 127.0.0.1, at ::1 or at all addresses."""
    return 0 < port <= HIGHEST_PORT and any(_refuses_bind(*where, port) for where in (*LOOPBACK, *EVERYWHERE))


def _refuses_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            # A connection that was closed a moment ago does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        # A machine without IPv6 has other errors.
        return error.errno == errno.EADDRINUSE
    return False


def why_unwritable(path: str) -> str | None:
    """Why no file can be written at this path, for which directories may be made; None where one can."""
    if os.path.isdir(path):
        return "is a directory"
    if os.path.exists(path):
        return None if os.access(path, os.W_OK) else "permission denied"
    above = os.path.dirname(path) or "."
    while not os.path.lexists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above) or "."
    if not os.path.isdir(above):
        return f"`{above}` is not a directory"
    return None if os.access(above, os.W_OK | os.X_OK) else f"`{above}` may not be written to"


def find_defect(path: str) -> Defect | None:
    """What keeps a path from being run as a program; None where nothing does."""
    if os.path.isdir(path):
        return "directory"
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError):
        return None
    if not os.access(path, os.X_OK):
        return "not executable"
    return None if not os.path.isfile(path) or _has_interpreter(path) else "no interpreter"


def _has_interpreter(path: str) -> bool:
    """Whether the interpreter of a script exists; the kernel looks for it exactly as the first line names it."""
    try:
        with open(path, "rb", buffering=0) as file:
            line, end, _ = file.read(LONGEST_LINE).partition(b"\n")
    except OSError:
        return True
    words = line[2:].split(None, 1)
    if not line.startswith(b"#!") or not end or not words:
        return True
    # `split` takes a carriage return for a blank.
    return not line.endswith(b"\r") and (not words[0].startswith(b"/") or os.path.exists(words[0]))


def find_syntax_errors(commands: Collection[str]) -> Mapping[str, str]:
    """What the shell says against each of these commands, of which it runs none; nothing of those that it can read."""
    found: dict[str, str] = {}
    batch: list[str] = []
    size = 0
    for command in commands:
        length = len(_bytes(command))
        if length > MOST_BYTES:
            continue
        if size + length > MOST_BYTES:
            found.update(_check_batch(batch))
            batch, size = [], 0
        batch.append(command)
        size += length
    if batch:
        found.update(_check_batch(batch))
    return found


def find_missing_words(words: Collection[str]) -> frozenset[str]:
    """Those of these words that the shell does not know; ``&>`` stands for the redirection of both streams."""
    said = _ask_shell(FIND_WORDS, sorted(set(words) - {"&>"}))
    return frozenset(said.split()).intersection(words)


def _check_batch(commands: list[str]) -> Mapping[str, str]:
    pieces = _ask_shell(READ_COMMANDS, commands).split("\0")
    said = zip(commands, pieces[::2], pieces[1::2], strict=False)
    return {command: _clean_message(text) for command, text, status in said if text.strip() and status != "0"}


def _clean_message(text: str) -> str:
    """What the shell says of a command, without its name, the number of the line and capitals."""
    import re

    line = text.strip().splitlines()[0]
    line = re.sub(r"^sh: ?(?:-c: ?)?(?:line )?(?:[0-9]+: ?)?|^(?:sh|/bin/sh)?:[0-9]+: ?", "", line)
    line = re.sub(r"^syntax error(?:: | (?=near|at))", "", line, flags=re.IGNORECASE)
    return line[:1].lower() + line[1:]


def _ask_shell(script: str, words: list[str]) -> str:
    """What a script says of these words; nothing where the shell takes too long or cannot be started."""
    import signal
    import subprocess

    # Without BASH_ENV and ENV, which name files that a shell would run.
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
    arguments = [*map(_bytes, (SHELL, "-c", script, SHELL, *words))]
    try:
        with subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        ) as shell:
            try:
                said, _ = shell.communicate(timeout=SHELL_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)
                return ""
    except (OSError, ValueError):
        return ""
    return said.decode("utf-8", "replace")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
