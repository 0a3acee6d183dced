"""Shared by the tests of the exporters: apps to export, honcho's files for them, and texts that are hard to quote."""

from __future__ import annotations

import getpass
import importlib
import json
import os
import select
import shlex
import string
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from procreaper.core.plan import Process
from procreaper.export.exporter import MARK, App, Exported, File, Rendered

ME = getpass.getuser()
# At least one way of quoting breaks each of them.
HARD = (
    "it's",
    '"quoted"',
    "'",
    '"',
    "'\"'",
    """'a' "b" 'c'""",
    "a b",
    " a ",
    "a\t",
    "",
    "\\",
    "a\\",
    "C:\\new\\table",
    "\\x41\\101",
    "50%",
    "%n %(here)s %%",
    "$HOME ${HOME} $$ $(id) `id`",
    "$HOME",
    "${PORT}",
    "a ; b",
    "a # b",
    "# b",
    "; b",
    "a;b#c",
    "a,b=c,d",
    "postgres://u:p#w@host/db?x=1&y=2",
    "a\nb",
    "\na\n\n  b \n; c\n# d\n",
    "end\n",
    "{json: [1, 2]}",
    '{"json": [1, "2"]}',
    "!history ~/x *.py [a-z] ?",
    "-n",
    "grün ☃ 🚀\u2028\u00a0",
    "\u00a0; x",
    "end script",
)
# Printable ones, and the two that a value of several lines has.
TEXTS = st.one_of(
    st.text(st.sampled_from(string.punctuation + " \t\nabn0ü☃"), max_size=30),
    st.text(
        st.one_of(st.characters(blacklist_categories=("Cs", "Cc")), st.sampled_from("\n\t'\"\\$% ;#")), max_size=20
    ),
)
# Writes its arguments and its environment to the file that OUT names, as one line.
TELL = """
import json, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})
def tell(data):
    with open(os.environ["OUT"], "w") as file:
        file.write(json.dumps(data) + "\\n")
tell({"arguments": sys.argv[1:], "environment": dict(os.environ), "directory": os.getcwd(), "pid": os.getpid()})
"""
# Waits for the stop signal, and writes which signal it was.
WAIT = "tell(signal.sigwait({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT}).name)"
LIMIT = 45.0


def telling(directory: Path, *arguments: str, then: str = "") -> str:
    """Return a command that writes its arguments and environment to `OUT`, and then runs the Python code `then`."""
    (directory / "tell.py").write_text(TELL + then, encoding="utf-8")
    return shlex.join([sys.executable, "-S", str(directory / "tell.py"), *arguments])


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


class Inbox:
    """A named pipe to which programs write lines; a test waits for each line."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        # Open for both, so that it does not end when a program does.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._data = b""

    def next(self) -> Any:
        deadline = time.monotonic() + LIMIT
        while b"\n" not in self._data:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no line came for {LIMIT} s"
            self._data += os.read(self._descriptor, 1 << 16)
        line, _, self._data = self._data.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        os.close(self._descriptor)


def exported(
    name: str = "web.1",
    command: str | tuple[str, ...] = "true",
    environment: Mapping[str, str] | None = None,
    *,
    unset: tuple[str, ...] = (),
    autostart: bool = True,
    said: Iterable[str] = (),
    **fields: Any,
) -> Exported:
    """Return one process. The keys in `said` have the lines 1, 2 and so on."""
    keys = {key: line for line, key in enumerate(said, 1)}
    process = Process(name, command, **fields)
    return Exported(process, environment or {}, unset, 5000, autostart, keys)


def app(*processes: Exported, settings: bool = False, **fields: Any) -> App:
    root = fields.pop("root", "/srv/app")
    given = {"name": "app", "user": "app", "log": "/var/log/app", "shell": "/bin/sh", **fields}
    whole = [one._replace(process=one.process._replace(cwd=one.process.cwd or root)) for one in processes]
    return App(root=root, processes=tuple(whole), settings=".reaper.toml" if settings else None, **given)


def contents(rendered: Rendered) -> dict[str, tuple[str, bool]]:
    assert len({file.path for file in rendered.files}) == len(rendered.files)
    return {file.path: (file.content, file.executable) for file in rendered.files}


def file(rendered: Rendered, path: str) -> File:
    return next(file for file in rendered.files if file.path == path)


def messages(rendered: Rendered) -> list[str]:
    assert all(problem.level == "warning" for problem in rendered.warnings)
    return list(dict.fromkeys(problem.message for problem in rendered.warnings))


def honchos(format_: str, app: App) -> dict[str, tuple[str, bool]]:
    """Return the files that honcho itself writes for this app."""
    pytest.importorskip("jinja2", reason="honcho's own exporters need jinja2")
    from honcho.environ import ProcessParams

    processes = [ProcessParams(one.name, one.script, False, dict(one.environment)) for one in app.processes]
    context = {"app": app.name, "app_root": app.root, "log": app.log, "shell": app.shell, "user": app.user}
    exporter = importlib.import_module(f"honcho.export.{format_}").Export()
    return {made.name: (made.content, made.executable) for made in exporter.render(processes, context)}


def stopping(format_: str, app: App) -> dict[str, tuple[str, bool]]:
    """Return honcho's files for this app, changed so that a stop reaches all its processes."""
    if format_ in ("systemd", "supervisord"):
        # In the two others, honcho itself puts `exec` before the command.
        processes = [one._replace(process=one.process._replace(command=one.exec_script)) for one in app.processes]
        app = app._replace(processes=tuple(processes))
    alterations = {
        "systemd": ("KillMode=process", "KillMode=control-group"),
        "supervisord": ("\nstopsignal=QUIT\n", "\nstopsignal=QUIT\nstopasgroup=true\nkillasgroup=true\n"),
        "runit": (f"exec chpst -u {app.user} -e", f"exec chpst -u {app.user} -P -e"),
        "upstart": ("", ""),
    }
    found = {path: (text.replace(*alterations[format_]), mode) for path, (text, mode) in honchos(format_, app).items()}
    if format_ == "runit":
        for one in app.processes:
            for name, number in {"t": "TERM", "k": "KILL"}.items():
                found[f"{app.name}-{one.slug}/control/{name}"] = (control(name, number), True)
    return found


def control(name: str, signal: str) -> str:
    """Return runit's script that signals the process group of its service."""
    alone = "kill -s KILL" if name == "k" else "kill"
    lines = ["#!/bin/sh", f"# {MARK}", "pid=$(cat supervise/pid)"]
    lines += ["# Before its program starts, the process is a shell without a group of its own"]
    lines += [f'kill -s 0 -- "-$pid" 2>/dev/null || {{ {alone} "$pid"; exit; }}']
    return "\n".join([*lines, f'kill -s {signal} -- "-$pid"', ""])
