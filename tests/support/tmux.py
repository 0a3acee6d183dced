"""A real terminal with several windows: a tmux server of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.driver import LIMIT, Project
from support.survivors import Survivors


class Screen:
    """A tmux server of its own, whose windows are shells in the project."""

    def __init__(self, project: Project, path: Path) -> None:
        self._program = shutil.which("tmux") or pytest.skip("tmux is not installed")
        self._socket = str(path / "tmux")
        self._project = project
        self.started = False

    def open(self, name: str) -> None:
        verb = ["new-window", "-t", "test:"] if self.started else ["-f", os.devnull, "new-session", "-d", "-s", "test"]
        shell = ["-n", name, "-c", str(self._project.path), "env PS1='$ ' sh"]
        size = [] if self.started else ["-x", "100", "-y", "30"]
        self._run(*verb, *size, *shell)
        self.started = True

    def type(self, name: str, *keys: str) -> None:
        self._run("send-keys", "-t", f"test:{name}", *keys)

    def wait_for(self, name: str, text: str, count: int = 1) -> int:
        """Wait until a text is on the screen `count` times. tmux reports no changes, so this polls."""
        deadline = time.monotonic() + LIMIT
        while (shown := self._run("capture-pane", "-p", "-S", "-", "-t", f"test:{name}")).count(text) < count:
            assert time.monotonic() < deadline, f"no {text!r} in\n{shown}"
            os.sched_yield()
        return shown.count(text)

    def close(self) -> None:
        if self.started:
            self._run("kill-server")

    def _run(self, *arguments: str) -> str:
        command = (self._program, "-S", self._socket, *arguments)
        environment = {name: value for name, value in self._project.environment.items() if name != "TMUX"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def show(self, name: str, format_: str) -> str:
        """What tmux knows of a window, such as `#{pane_title}`."""
        return self._run("display-message", "-p", "-t", f"test:{name}", format_).strip()

    def styled(self, name: str) -> str:
        """The text of a window and what is above it, with its colours and links."""
        return self._run("capture-pane", "-p", "-e", "-S", "-", "-t", f"test:{name}")


@contextmanager
def screen_of(project: Project, survivors: Survivors, path: Path) -> Iterator[Screen]:
    """A screen for a test, whose windows have ended when the test has."""
    screen = Screen(project, path)
    try:
        yield screen
    finally:
        screen.close()
        # tmux ends its windows' programs after its own command has returned, and reports nothing.
        deadline = time.monotonic() + LIMIT
        while survivors.find() and time.monotonic() < deadline:
            os.sched_yield()
