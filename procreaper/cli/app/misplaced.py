"""Suggest `--root` if a command is not found and the Procfile is in another directory.

Rules: print the hint once. foreman runs each command in the directory of the Procfile; honcho and procreaper run it in
the current directory.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable

from procreaper.core.events import Notice, RunEnded
from procreaper.errors import NOT_FOUND
from procreaper.output.hub import Hub
from procreaper.project.configure import Options


def suggest_root(options: Options, hub: Hub, say: Callable[[str], None]) -> None:
    """Say once, when a shell does not find a command, that foreman would run it in the directory of the Procfile."""
    procfile = options.procfile or ""
    directory = os.path.dirname(procfile)
    try:
        # /dev/stdin and `<(command)` are not in a directory of the project.
        if not directory or not stat.S_ISREG(os.lstat(procfile).st_mode) or os.path.samefile(directory, "."):
            return
    except OSError:
        return
    root = shlex.quote(directory)
    _Hint(
        hub,
        lambda name: say(
            f"`{name}` ran in the current directory; "
            f"foreman runs the commands of `{procfile}` in `{directory}`: add `--root {root}` to do the same"
        ),
    )


class _Hint:
    def __init__(self, hub: Hub, say: Callable[[str], None]) -> None:
        self._hub = hub
        self._say = say
        hub.add(self)

    def accept(self, notice: Notice) -> bool:
        if isinstance(notice, RunEnded) and notice.exit.code == NOT_FOUND:
            self._hub.remove(self)
            self._say(notice.name)
        return True
