"""The interface of exporters: the app that an exporter gets, and the files that it returns.

Rules: values only; nothing here reads or writes files. An exporter is any object with a function `render`, for example
a module. It is pure and uses only the `App`, so the same project gives the same files everywhere.

A setting that the target cannot express is a warning with the process and the key; it is never dropped silently. If
only the user can decide, or if a file would be broken, the exporter raises `ConfigError` with all such problems.

Without a `.reaper.toml`, an export restarts every process whenever it ends, like all exports of honcho. With one, its
settings apply, with the defaults of `start`. Only a process without `restart` still restarts, because no user watches
it: see `Exported.restart`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from signal import Signals
from typing import NamedTuple, Protocol

from procreaper.core.last_command import shell_stays, with_exec
from procreaper.core.plan import Dependency, Process, When
from procreaper.errors import Problem

# A comment with this text, in all formats that have comments, later identifies our files.
MARK = "made by `procreaper export`"


class File(NamedTuple):
    """A file to write. `path` is relative to LOCATION, with slashes; the umask decides who may read the file.

    `known_by` is a regular expression. An existing file that matches it comes from an earlier export, so it is
    replaced. With None, the other files in the same directory of LOCATION decide this.
    """

    path: str
    content: str
    executable: bool = False
    known_by: str | None = re.escape(MARK)


class Exported(NamedTuple):
    """One process to export.

    `process` is the process of the plan, but with an absolute `cwd` and without `env` (None). `environment` has the
    variables that the process needs in addition to those of the machine: from the `.env` files, `env_file` and `env`,
    PORT and the names. `unset` has the variables that `env = { X = false }` removes. `port` is its PORT. With
    `autostart`, it starts with the app; otherwise only by hand. `said` maps each key that `.reaper.toml` sets for it,
    including keys of tables such as ``stop.signal``, to its line if that is known.
    """

    process: Process
    environment: Mapping[str, str]
    unset: tuple[str, ...] = ()
    port: int | None = None
    autostart: bool = True
    said: Mapping[str, int | None] = {}

    @property
    def name(self) -> str:
        """The name of the process: ``web.1``."""
        return self.process.name

    @property
    def slug(self) -> str:
        """Its name in file names, as honcho makes it: ``web-1``."""
        return slug(self.process.name)

    @property
    def script(self) -> str:
        """The command for a shell, also if it was given as a list (`start` runs a list without a shell)."""
        command = self.process.command
        return command if isinstance(command, str) else f"exec {shlex.join(command)}"

    @property
    def exec_script(self) -> str:
        """The command for ``sh -c``, with `exec` if the last program can replace the shell."""
        command = self.process.command
        return with_exec(command) if isinstance(command, str) else self.script

    @property
    def keeps_shell(self) -> bool:
        """Whether the shell of `exec_script` waits for its program, and does not pass signals on."""
        command = self.process.command
        return isinstance(command, str) and shell_stays(command)

    @property
    def stop_signal(self) -> str:
        """The signal that stops the process, without its `SIG`: ``TERM``."""
        return signal_name(self.process.stop.signal)

    @property
    def restart(self) -> When:
        """When the process restarts after it has ended."""
        if "restart" in self.said:
            return self.process.restart
        return When.NEVER if self.process.oneshot else When.ALWAYS

    def asks_for(self, key: str) -> bool:
        """Whether `.reaper.toml` sets this key to a value that has an effect."""
        asked = {"stop_all": self.process.stop_all is not When.NEVER, "pty": self.process.pty}
        asked["backoff"] = self.restart is not When.NEVER
        return key in self.said and asked.get(key, True)


def signal_name(number: int) -> str:
    """Return the name of a signal without its `SIG`, or its number if it has no name."""
    names = [signal.name for signal in Signals if signal == number]
    return names[0].removeprefix("SIG") if names else str(number)


def slug(name: str) -> str:
    """A name as part of a file name, as honcho makes it."""
    return re.sub(r"\W", "-", name)


class App(NamedTuple):
    """The app to export. `root` is absolute; `settings` is the path of the `.reaper.toml`, or None without one.

    `user`, `log` (a directory) and `shell` are honcho's options with honcho's defaults; `image` is a container image.
    `is_given` has the names of the options that were given.
    """

    name: str
    root: str
    user: str
    log: str
    shell: str
    processes: tuple[Exported, ...]
    settings: str | None = None
    image: str | None = None
    is_given: frozenset[str] = frozenset()

    @property
    def supervised(self) -> bool:
        """Whether there is a `.reaper.toml`."""
        return self.settings is not None

    def warning(self, exported: Exported, key: str, message: str, hint: str | None = None) -> Problem:
        """Return a warning with the line of `.reaper.toml` that sets this key of the process."""
        return Problem(message, self.settings, exported.said.get(key), hint, "warning")

    def names(self, edges: Iterable[Dependency]) -> str:
        """Return the process types of these dependencies, as a message shows them; empty without dependencies."""
        types = {one.name: one.process.type for one in self.processes}
        return ", ".join(dict.fromkeys(f"`{types.get(edge.name, edge.name)}`" for edge in edges))

    def left_out(self, exported: Exported, target: str, keys: Mapping[str, str | None]) -> Iterator[Problem]:
        """Yield a warning for each of these keys that is set and that the target cannot express; values are hints."""
        for key, hint in keys.items():
            if exported.asks_for(key):
                message = f"`{key}` of `{exported.process.type}` is left out: {target} has nothing like it"
                yield self.warning(exported, key, message, hint)


class Rendered(NamedTuple):
    """The files, without duplicates, and the warnings; a warning about several processes is shown once.

    `names` is a regular expression for the names that an export of this app can have directly in LOCATION. A warning
    lists each such file that comes from an earlier export but not from this one, because the target would run it as
    well. With None, there is no such warning.
    """

    files: tuple[File, ...]
    warnings: tuple[Problem, ...] = ()
    names: str | None = None


class Exporter(Protocol):
    """Any object that renders an app."""

    def render(self, app: App) -> Rendered:
        """Return the files for this app. Raises ConfigError if they cannot be written at all."""
        ...
