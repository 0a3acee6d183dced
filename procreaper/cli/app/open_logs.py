"""Open the log files of an app before its plan is carried out, and report a failure at its line in the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from procreaper.core.plan import Plan, Process
from procreaper.errors import ConfigError, Problem, reason_of
from procreaper.project.configure import Project

if TYPE_CHECKING:
    from procreaper.output.log_files import LogFiles


def open_logs(
    plan: Plan, project: Project, *, on_room: Callable[[], None], say: Callable[[str], None]
) -> LogFiles | None:
    """Open the logs of a plan; return None if no process has one. Raises ConfigError.

    The app does not write the log of a detached process: that process does.
    """
    if all(process.log is None or process.detached for process in plan.processes):
        return None
    from procreaper.output.log_files import LogFiles

    try:
        return LogFiles(plan.processes, on_room=on_room, say=say)
    except OSError as error:
        raise ConfigError([_make_problem(plan, project, error)]) from error


def check_new_logs(plan: Plan, before: Plan, project: Project) -> None:
    """Raise ConfigError for every log that cannot be opened, except for those that the plan before had too."""
    from procreaper.output.rotation import RotatedFile

    present = {process.log.path for process in before.processes if process.log is not None and not process.detached}
    problems: list[Problem] = []
    for process in plan.processes:
        log = process.log
        if log is None or process.detached or log.path in present:
            continue
        present.add(log.path)
        file = RotatedFile(log._replace(path=os.path.realpath(log.path)))
        try:
            file.open()
        except OSError as error:
            problems.append(_locate(process, project, error) or _describe(error))
        finally:
            file.close()
    if problems:
        raise ConfigError(problems)


def _make_problem(plan: Plan, project: Project, error: OSError) -> Problem:
    writers = [
        process
        for process in plan.processes
        if process.log is not None and os.path.realpath(process.log.path) == error.filename
    ]
    located = [problem for process in writers if (problem := _locate(process, project, error)) is not None]
    return located[0] if located else _describe(error)


def _locate(process: Process, project: Project, error: OSError) -> Problem | None:
    """Report the error at the line that sets the log of this process; return None if no such line is known."""
    from procreaper.project.lint import make_log_problem

    for kind in project.types:
        if kind.name == process.type and project.settings is not None:
            return make_log_problem(kind, process, project.settings, reason_of(error), "error")
    return None


def _describe(error: OSError) -> Problem:
    from procreaper.project.lint import LOG_HINT

    return Problem(f"`{error.filename}` cannot be written: {reason_of(error)}", hint=LOG_HINT)
