"""The log files of an app: opened before a plan is carried out; a mistake is told at its line in the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from procreaper.cli.app.plan_source import examined
from procreaper.core.plan import Plan, Process
from procreaper.errors import ConfigError, Problem, ProcreaperError, reason_of
from procreaper.project.configure import Options, Project

if TYPE_CHECKING:
    from procreaper.output.log_files import LogFiles


def open_logs(
    plan: Plan, options: Options, *, on_room: Callable[[], None], say: Callable[[str], None]
) -> LogFiles | None:
    """The sink for those processes of a plan that have a log; None where none has. Raises ConfigError."""
    if all(process.log is None or process.detached for process in plan.processes):
        return None
    from procreaper.output.log_files import LogFiles

    try:
        return LogFiles(plan.processes, on_room=on_room, say=say)
    except OSError as error:
        raise _problem(plan, options, error) from error


def refuse_unusable(plan: Plan, before: Plan, project: Project) -> None:
    """Raise ConfigError for all logs of a new plan that cannot be opened, but for those that the one before had too."""
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
            problems.append(_told(process, project, error) or _somewhere(error))
        finally:
            file.close()
    if problems:
        raise ConfigError(problems)


def _problem(plan: Plan, options: Options, error: OSError) -> ProcreaperError:
    owners = [
        process
        for process in plan.processes
        if process.log is not None and os.path.realpath(process.log.path) == error.filename
    ]
    project, _ = examined(options)
    told = [problem for process in owners if (problem := _told(process, project, error)) is not None]
    return ConfigError([told[0] if told else _somewhere(error)])


def _told(process: Process, project: Project, error: OSError) -> Problem | None:
    """The error at the line where the log of this process is set; None where that is not known."""
    from procreaper.project.lint import log_problem

    for kind in project.types:
        if kind.name == process.type and project.settings is not None:
            return log_problem(kind, process, project.settings, reason_of(error), "error")
    return None


def _somewhere(error: OSError) -> Problem:
    from procreaper.project.lint import LOG_HINT

    return Problem(f"`{error.filename}` cannot be written: {reason_of(error)}", hint=LOG_HINT)
