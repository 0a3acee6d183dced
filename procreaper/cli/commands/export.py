"""`export`: write the project as files for an init system or a scheduler.

Rules: decide everything before the first file is written. Messages go to standard error, in honcho's words.
"""

from __future__ import annotations

from procreaper.cli.app.plan_source import inspect_files
from procreaper.cli.messages import print_error, print_problems
from procreaper.errors import Problem
from procreaper.export.app import Choices, make_app
from procreaper.export.merge_warnings import together
from procreaper.export.registry import find_exporter
from procreaper.export.write import write_files
from procreaper.project.configure import Options, raise_errors


def export(
    options: Options,
    choices: Choices,
    format_: str,
    location: str,
    *,
    template_dir: str | None = None,
    force: bool = False,
) -> int:
    """Write the files and print their names. Raises ProcreaperError for any problem, before a file is written.

    `force`: overwrite files that no earlier export wrote.
    """
    exporter = find_exporter(format_, template_dir)
    project, configuration = inspect_files(options)
    print_problems(raise_errors(configuration.warnings))
    app = make_app(project, configuration, options, choices)
    rendered = exporter.render(app)
    print_problems(together(rendered.warnings))
    if not app.processes:
        print_problems([Problem("no process is exported: the concurrency of every process type is 0", level="warning")])
    print_problems(write_files(location, rendered.files, force=force, tell=_print_path, names=rendered.names))
    return 0


def _print_path(path: str) -> None:
    print_error(f"Writing '{path}'")
