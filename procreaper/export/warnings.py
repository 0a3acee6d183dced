"""Settings that a format cannot express: collected during the export, and reported as warnings.

Rules: no requested setting is left out silently, and unset settings cause no warning. A warning about all processes of
a type is given once.
"""

from __future__ import annotations

from collections.abc import Mapping

from procreaper.errors import Problem
from procreaper.export.exporter import App, Exported


def keeps_signal(exported: Exported, target: str) -> Problem:
    """Return a warning that the shell does not pass the signal of `target` on, so its program keeps running."""
    message = f"the command of `{exported.process.type}` is run by a shell, and {target} stops only that shell"
    hint = "end the command with one program, or put it into a script that passes the signal on"
    return Problem(message, hint=hint, level="warning")


class Warnings:
    """Collects the warnings for one app and one `target`: the name of the format, as messages show it."""

    def __init__(self, app: App, target: str) -> None:
        self._app = app
        self.target = target
        self._problems: dict[Problem, None] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The warnings, in the order in which they were added."""
        return tuple(self._problems)

    def left_out(self, exported: Exported, keys: Mapping[str, str | None]) -> None:
        """Warn for each of these keys that the user has set and the export leaves out; the values are hints."""
        self._problems.update(dict.fromkeys(self._app.left_out(exported, self.target, keys)))

    def add(self, exported: Exported, key: str, reason: str, hint: str | None = None) -> None:
        """Warn that `key` of a process has another effect; `reason`, a clause, says why."""
        message = f"`{key}` of `{exported.process.type}`: {reason}"
        # If a plain value stands in place of a table, only the table has a line number, and its parts have none.
        known = key if exported.said.get(key) is not None else key.partition(".")[0]
        self.add_problem(self._app.warning(exported, known, message, hint))

    def add_problem(self, problem: Problem) -> None:
        """Add any other warning."""
        self._problems[problem] = None

    def add_common(self, exported: Exported) -> None:
        """Warn about the settings that neither the container formats nor launchd can express."""
        self.left_out(exported, {key: None for key in exported.said if key.startswith("hooks.")})
        if exported.process.success_codes != {0} and exported.asks_for("success_codes"):
            self.add(exported, "success_codes", f"for {self.target} only the exit code 0 is a success")
        if exported.asks_for("stop_all"):
            self.add(exported, "stop_all", f"in {self.target} the end of one process does not end the others")

    def add_neighbour(self, exported: Exported) -> None:
        """Warn that the health check of a process connects to another process of the app."""
        reason = "in a container nothing but the process itself answers at `localhost`, so this check is left out"
        self.add(exported, "health", reason, "check what the process itself does, or use `exec`")

    def add_shell(self, exported: Exported) -> None:
        """Warn if the target signals only one process, and that process is a shell that waits for its program."""
        if exported.keeps_shell and not exported.process.stop.only_main:
            self.add_problem(keeps_signal(exported, self.target))

    def add_options(self, names: Mapping[str, str]) -> None:
        """Warn for each of these options that was given and has no effect; the values are hints."""
        for name, hint in names.items():
            if name in self._app.is_given:
                self.add_problem(
                    Problem(f"--{name} is left out: {self.target} has nothing like it", hint=hint, level="warning")
                )
