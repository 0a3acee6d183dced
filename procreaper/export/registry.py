"""The available formats: ours, those of other packages, and those that other packages have made for honcho.

Rules: knows the names of the formats and how to get an exporter, but nothing about a format. A package registers one in
its `pyproject.toml`. The entry point is a module, an object, or a class without arguments, with the function `render`:

    [project.entry-points."procreaper.exporters"]
    nomad = "procreaper_nomad"

Our formats are found without a search of the installed packages. They win over others with the same name, which win
over honcho's.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TypeGuard

from procreaper.errors import USAGE_ERROR, ProcreaperError, did_you_mean
from procreaper.export.exporter import App, Exporter, Rendered

GROUP = "procreaper.exporters"
HONCHOS_GROUP = "honcho_exporters"
# Each is a module of this package.
OURS = ("compose", "kubernetes", "launchd", "runit", "supervisord", "systemd", "upstart")
HINT = "correct or remove the package that it comes from"


def known_formats() -> list[str]:
    """The names of all formats that can be exported to."""
    return sorted({*OURS, *entry_points(group=GROUP).names, *entry_points(group=HONCHOS_GROUP).names})


def find_exporter(name: str, template_dir: str | None = None) -> Exporter:
    """Return the exporter for a format. With a `template_dir`, return honcho's own, because only honcho uses templates.

    Raises ProcreaperError if the exporter does not exist or does not work.
    """
    if template_dir is None:
        if name in OURS:
            module = import_module(f"procreaper.export.{name}")
            if _is_exporter(module):
                return module
        for entry in entry_points(group=GROUP, name=name):
            return _load(entry)
    for entry in entry_points(group=HONCHOS_GROUP, name=name):
        from procreaper.export.honcho_exporters import Foreign

        return Foreign(entry, template_dir)
    formats = known_formats()
    if name in formats:
        message = f"-t {template_dir}: there are no templates for `{name}`"
        raise ProcreaperError(message, hint="leave it out", exit_code=USAGE_ERROR)
    message = f"there is no format `{name}` to export to"
    raise ProcreaperError(message, hint=did_you_mean(name, formats), exit_code=USAGE_ERROR)


def _load(entry: EntryPoint) -> Exporter:
    try:
        found = entry.load()
        exporter = found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:
        raise ProcreaperError(f"{_source(entry)} cannot be imported: {error}", hint=HINT) from error
    if not _is_exporter(exporter):
        raise ProcreaperError(f"{_source(entry)} has no function `render`", hint=HINT)
    return _Guarded(entry, exporter)


class _Guarded:
    """A third-party exporter, whose errors are reported as such."""

    def __init__(self, entry: EntryPoint, exporter: Exporter) -> None:
        self._entry = entry
        self._exporter = exporter

    def render(self, app: App) -> Rendered:
        try:
            rendered = self._exporter.render(app)
        except ProcreaperError:
            raise
        except (Exception, SystemExit) as error:
            message = f"{_source(self._entry)} fails: {type(error).__name__}: {error}"
            raise ProcreaperError(message, hint=HINT) from error
        if not isinstance(rendered, Rendered):
            message = f"{_source(self._entry)} fails: it gives something else than `Rendered`"
            raise ProcreaperError(message, hint=HINT)
        return rendered


def _source(entry: EntryPoint) -> str:
    return f"the exporter `{entry.name}` ({entry.value})"


def _is_exporter(thing: object) -> TypeGuard[Exporter]:
    return callable(getattr(thing, "render", None))
