"""Settings that a format cannot express: collected during the export, and reported as warnings.

Rules: no requested setting is left out silently, and unset settings cause no warning. A warning about all processes of
a type is given once.
"""

from __future__ import annotations

from collections.abc import Mapping

from procreaper.errors import Problem
from procreaper.export.exporter import App, Exported


def keeps_signal(exported: Exported, target: str) -> Problem:
    """A warning that a shell keeps the signal of `target` to itself, and its program runs on."""
    message = f"the command of `{exported.process.type}` is run by a shell, and {target} stops only that shell"
    hint = "end the command with one program, or put it into a script that passes the signal on"
    return Problem(message, hint=hint, level="warning")


class Warnings:
    """Collects for one app and one `target`, which is the format's name as it stands in a sentence."""

    def __init__(self, app: App, target: str) -> None:
        self._app = app
        self.target = target
        self._problems: dict[Problem, None] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The warnings, in the order in which they came up."""
        return tuple(self._problems)

    def left_out(self, exported: Exported, keys: Mapping[str, str | None]) -> None:
        """Those of these keys that were given are left out; the values are the hints."""
        self._problems.update(dict.fromkeys(self._app.left_out(exported, self.target, keys)))

    def add(self, exported: Exported, key: str, reason: str, hint: str | None = None) -> None:
        """`key` of a process is not said as it was meant: `reason` is a clause of the target, without its end."""
        message = f"`{key}` of `{exported.process.type}`: {reason}"
        # A table that was given as a plain value has a line, but none for its parts.
        known = key if exported.said.get(key) is not None else key.partition(".")[0]
        self.tell(self._app.warning(exported, known, message, hint))

    def tell(self, problem: Problem) -> None:
        """Something else to know."""
        self._problems[problem] = None

    def add_common(self, exported: Exported) -> None:
        """What neither the formats for containers nor launchd can say."""
        self.left_out(exported, {key: None for key in exported.said if key.startswith("hooks.")})
        if exported.process.success_codes != {0} and exported.asks_for("success_codes"):
            self.add(exported, "success_codes", f"for {self.target} only the exit code 0 is a success")
        if exported.asks_for("stop_all"):
            self.add(exported, "stop_all", f"in {self.target} the end of one process does not end the others")

    def add_neighbour(self, exported: Exported) -> None:
        """Its health check asks for another process of the app."""
        reason = "in a container nothing but the process itself answers at `localhost`, so this check is left out"
        self.add(exported, "health", reason, "check what the process itself does, or use `exec`")

    def add_shell(self, exported: Exported) -> None:
        """Warn where the target signals one process only, and that is a shell that stays above its program."""
        if exported.keeps_shell and not exported.process.stop.only_main:
            self.tell(keeps_signal(exported, self.target))

    def add_options(self, names: Mapping[str, str]) -> None:
        """Those of these options that were given have no effect; the values are the hints."""
        for name, hint in names.items():
            if name in self._app.is_given:
                self.tell(
                    Problem(f"--{name} is left out: {self.target} has nothing like it", hint=hint, level="warning")
                )
