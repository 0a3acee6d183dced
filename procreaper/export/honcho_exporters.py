"""Exporters made for honcho: those of other packages, and honcho's own with the user's templates.

Rules: they get what honcho passes to them, and know nothing of `.reaper.toml`; a warning says so. They need jinja2. If
it is missing, honcho's own module exits, so this module checks for it first.
"""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from importlib.util import find_spec

from honcho.environ import ProcessParams

from procreaper.errors import Problem, ProcreaperError
from procreaper.export.exporter import App, File, Rendered

INSTALL = "pip install 'procreaper[export]'"


class Foreign:
    """Wraps one of honcho's exporters as an `Exporter`."""

    def __init__(self, entry: EntryPoint, template_dir: str | None) -> None:
        self._entry = entry
        self._template_dir = template_dir

    def render(self, app: App) -> Rendered:
        """Return its files for this app. Raises ProcreaperError if it fails."""
        if find_spec("jinja2") is None:
            message = f"the exporter `{self._entry.name}` needs jinja2, which is not installed"
            raise ProcreaperError(message, hint=f"`{INSTALL}`")
        if self._template_dir is not None and not os.path.isdir(self._template_dir):
            message = f"-t {self._template_dir}: this is not a directory"
            raise ProcreaperError(message, hint="name the directory that the templates are in")
        context = {"app": app.name, "app_root": app.root, "log": app.log, "shell": app.shell, "user": app.user}
        processes = [ProcessParams(one.name, one.script, False, dict(one.environment)) for one in app.processes]
        try:
            exporter = self._entry.load()(template_dir=self._template_dir)
            made = [(file.name, file.content, file.executable) for file in exporter.render(processes, context)]
        except (Exception, SystemExit) as error:
            message = f"the exporter `{self._entry.name}` ({self._entry.value}) fails: {type(error).__name__}: {error}"
            raise ProcreaperError(message, hint="look at its templates, or at the package it comes from") from error
        files = tuple(File(name, content, executable=executable) for name, content, executable in made)
        return Rendered(files, self._warnings(app))

    def _warnings(self, app: App) -> tuple[Problem, ...]:
        if app.settings is None:
            return ()
        message = f"the exporter `{self._entry.name}` was made for honcho: only commands and environments reach it"
        return (Problem(message, app.settings, hint="say the rest in the files that it writes", level="warning"),)
