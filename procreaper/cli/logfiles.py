"""The log files of an app that starts: opened before anything runs; a mistake is told at its line in the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from procreaper.cli.project import examined
from procreaper.config import Options
from procreaper.errors import ConfigError, Problem, ProcreaperError, reason_of
from procreaper.plan import Plan

if TYPE_CHECKING:
    from procreaper.output.files import LogFiles


def open_logs(
    plan: Plan, options: Options, *, on_room: Callable[[], None], say: Callable[[str], None]
) -> LogFiles | None:
    """The sink for those processes of a plan that have a log; None where none has. Raises ConfigError."""
    if all(process.log is None or process.detached for process in plan.processes):
        return None
    from procreaper.output.files import LogFiles

    try:
        return LogFiles(plan.processes, on_room=on_room, say=say)
    except OSError as error:
        raise _problem(plan, options, error) from error


def _problem(plan: Plan, options: Options, error: OSError) -> ProcreaperError:
    from procreaper.lint import LOG_HINT, log_problem

    reason = reason_of(error)
    owners = [
        process
        for process in plan.processes
        if process.log is not None and os.path.realpath(process.log.path) == error.filename
    ]
    project, _ = examined(options)
    for process in owners:
        for kind in project.types:
            if kind.name == process.type and project.settings is not None:
                return ConfigError([log_problem(kind, process, project.settings, reason, "error")])
    return ConfigError([Problem(f"`{error.filename}` cannot be written: {reason}", hint=LOG_HINT)])
