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

# A line with this is a comment in our files wherever the format has comments, and tells later that they are ours.
MARK = "made by `procreaper export`"


class File(NamedTuple):
    """A file to write: `path` is relative to LOCATION, with slashes; who may read it is up to the umask.

    `known_by` is a regular expression. Only if it is found in a file that exists already, that is known to be from an
    earlier export, and replaced. None: known by the other files in the same directory of LOCATION.
    """

    path: str
    content: str
    executable: bool = False
    known_by: str | None = re.escape(MARK)


class Exported(NamedTuple):
    """One process to export.

    `process` is that of the plan, but without its `env` (which is None) and with an absolute `cwd`. `environment` is
    what it needs beyond the machine's own: the `.env` files, `env_file`, `env`, PORT and the names; `unset` are the
    variables that `env = { X = false }` removes. `port` is its PORT. `autostart`: it starts with the app; otherwise
    only by hand. `said` has the keys of `.reaper.toml` that were given for it, also those of tables such as
    ``stop.signal``, and for each the line that it stands in, as far as that is known.
    """

    process: Process
    environment: Mapping[str, str]
    unset: tuple[str, ...] = ()
    port: int | None = None
    autostart: bool = True
    said: Mapping[str, int | None] = {}

    @property
    def name(self) -> str:
        """Its name: ``web.1``."""
        return self.process.name

    @property
    def slug(self) -> str:
        """Its name in file names, as honcho makes it: ``web-1``."""
        return slug(self.process.name)

    @property
    def script(self) -> str:
        """Its command for a shell, also where it was given as a list: that is run without one in between."""
        command = self.process.command
        return command if isinstance(command, str) else f"exec {shlex.join(command)}"

    @property
    def exec_script(self) -> str:
        """Its command for ``sh -c``, with `exec` where the shell can become the last program."""
        command = self.process.command
        return with_exec(command) if isinstance(command, str) else self.script

    @property
    def keeps_shell(self) -> bool:
        """Whether the shell that runs `exec_script` stays above its program, and keeps a signal to itself."""
        command = self.process.command
        return isinstance(command, str) and shell_stays(command)

    @property
    def stop_signal(self) -> str:
        """The signal that asks it to end, without its `SIG`: ``TERM``."""
        return signal_name(self.process.stop.signal)

    @property
    def restart(self) -> When:
        """When it is run again after it has ended."""
        if "restart" in self.said:
            return self.process.restart
        return When.NEVER if self.process.oneshot else When.ALWAYS

    def asks_for(self, key: str) -> bool:
        """Whether this key of `.reaper.toml` was given, and asks for something."""
        asked = {"stop_all": self.process.stop_all is not When.NEVER, "pty": self.process.pty}
        asked["backoff"] = self.restart is not When.NEVER
        return key in self.said and asked.get(key, True)


def signal_name(number: int) -> str:
    """The name of a signal without its `SIG`; its number where it has none."""
    names = [signal.name for signal in Signals if signal == number]
    return names[0].removeprefix("SIG") if names else str(number)


def slug(name: str) -> str:
    """A name as part of a file name, as honcho makes it."""
    return re.sub(r"\W", "-", name)


class App(NamedTuple):
    """What to export. `root` is absolute; `settings` is the path of the `.reaper.toml`, None where there is none.

    `user`, `log` (a directory) and `shell` are honcho's options with honcho's defaults, `image` is a container image.
    `is_given` has the names of those options that were given.
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
        """A warning at the line of `.reaper.toml` where this key of the process stands."""
        return Problem(message, self.settings, exported.said.get(key), hint, "warning")

    def names(self, edges: Iterable[Dependency]) -> str:
        """The process types that these dependencies lead to, as they stand in a message; empty where there are none."""
        types = {one.name: one.process.type for one in self.processes}
        return ", ".join(dict.fromkeys(f"`{types.get(edge.name, edge.name)}`" for edge in edges))

    def left_out(self, exported: Exported, target: str, keys: Mapping[str, str | None]) -> Iterator[Problem]:
        """A warning for each of these keys that was given, which the target cannot say; the values are the hints."""
        for key, hint in keys.items():
            if exported.asks_for(key):
                message = f"`{key}` of `{exported.process.type}` is left out: {target} has nothing like it"
                yield self.warning(exported, key, message, hint)


class Rendered(NamedTuple):
    """The files, none of them twice, and the warnings; what is said of several processes is shown once.

    `names` is a regular expression for what an export of this app can have directly in LOCATION. What has such a name
    and is from an earlier export, but not from this one, is told, as it would be run as well. None: nothing is told.
    """

    files: tuple[File, ...]
    warnings: tuple[Problem, ...] = ()
    names: str | None = None


class Exporter(Protocol):
    """Anything that renders an app."""

    def render(self, app: App) -> Rendered:
        """The files for this app. Raises ConfigError for what cannot be written at all."""
        ...
