"""Probes of this machine for `check` and `start`: programs, ports, files, and the shell.

Rules: changes nothing. If a probe fails, it reports no problem. `start` needs only the probe of ports, so the imports
for `check` are inside its functions.
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
# One shell checks many commands, and forks itself for each. `-n` parses a command without running it.
READ_COMMANDS = r"""for command do "$0" -n -c -- "$command" sh 2>&1; printf '\000%s\000' $?; done"""
# A shell that does not know `&>` as a redirection starts the command in the background.
FIND_WORDS = r"""for word do command -v "$word" >/dev/null 2>&1 || echo "$word"; done; : &>/dev/null; ${!:+echo '&>'}"""
# The time limit of the shell, in seconds, and the largest number of bytes in one call.
SHELL_TIMEOUT = 5
MOST_BYTES = 100_000
# Linux reads at most this many bytes of the first line of a script.
LONGEST_LINE = 256

Where = tuple[tuple[socket.AddressFamily, str], ...]
LOOPBACK: Where = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
# On Linux, a bind to the loopback address also fails if a program listens at all addresses; elsewhere it does not.
EVERYWHERE: Where = () if sys.platform == "linux" else ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))


def probe_machine() -> Probes:
    """Return the probes that `check` uses."""
    from procreaper.project.lint import Probes

    return Probes(has_program, os.path.lexists, why_unwritable, find_defect, find_syntax_errors, find_missing_words)


def has_program(name: str, path: str) -> bool:
    """Return whether a shell finds this program in this PATH."""
    import shutil

    return shutil.which(name, path=path) is not None


def is_port_taken(port: int) -> bool:
    """Return whether a program listens on a TCP port of this machine, at 127.0.0.1, at ::1 or at all addresses."""
    return 0 < port <= HIGHEST_PORT and any(_refuses_bind(*where, port) for where in (*LOOPBACK, *EVERYWHERE))


def _refuses_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            # Ignore a connection that was closed a moment ago.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        # Other errors mean, for example, that the machine has no IPv6.
        return error.errno == errno.EADDRINUSE
    return False


def why_unwritable(path: str) -> str | None:
    """Return the reason why a file cannot be written at this path, or None. Missing directories can be created."""
    if os.path.isdir(path):
        return "is a directory"
    if os.path.exists(path):
        return None if os.access(path, os.W_OK) else "permission denied"
    above = os.path.dirname(path) or "."
    while not os.path.lexists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above) or "."
    if not os.path.isdir(above):
        return f"`{above}` is not a directory"
    return None if os.access(above, os.W_OK | os.X_OK) else f"`{above}` is not writable"


def find_defect(path: str) -> Defect | None:
    """Return the reason why a path cannot be run as a program, or None."""
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
    """Return whether the interpreter of a script exists, under the exact name in the first line, as for the kernel."""
    try:
        with open(path, "rb", buffering=0) as file:
            line, end, _ = file.read(LONGEST_LINE).partition(b"\n")
    except OSError:
        return True
    words = line[2:].split(None, 1)
    if not line.startswith(b"#!") or not end or not words:
        return True
    # `split` treats a carriage return as a blank, but the kernel does not.
    return not line.endswith(b"\r") and (not words[0].startswith(b"/") or os.path.exists(words[0]))


def find_syntax_errors(commands: Collection[str]) -> Mapping[str, str]:
    """Return the error message of the shell for each command that it cannot parse. It runs none of them."""
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
    """Return the words that the shell does not know. ``&>`` means the redirection of both streams."""
    said = _ask_shell(FIND_WORDS, sorted(set(words) - {"&>"}))
    return frozenset(said.split()).intersection(words)


def _check_batch(commands: list[str]) -> Mapping[str, str]:
    pieces = _ask_shell(READ_COMMANDS, commands).split("\0")
    said = zip(commands, pieces[::2], pieces[1::2], strict=False)
    return {command: _clean_message(text) for command, text, status in said if text.strip() and status != "0"}


def _clean_message(text: str) -> str:
    """Remove the name of the shell, the line number and capitals from an error message."""
    import re

    line = text.strip().splitlines()[0]
    line = re.sub(r"^sh: ?(?:-c: ?)?(?:line )?(?:[0-9]+: ?)?|^(?:sh|/bin/sh)?:[0-9]+: ?", "", line)
    line = re.sub(r"^syntax error(?:: | (?=near|at))", "", line, flags=re.IGNORECASE)
    return line[:1].lower() + line[1:]


def _ask_shell(script: str, words: list[str]) -> str:
    """Run a script with these words as arguments. Return its output; nothing if the shell fails or takes too long."""
    import signal
    import subprocess

    # Without BASH_ENV and ENV, so that the shell runs no startup file.
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
