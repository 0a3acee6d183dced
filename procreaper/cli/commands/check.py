"""`check`: find every problem in the files, and start nothing.

Rules: report all problems at once. Text goes to standard error as in honcho, formats for programs to standard output.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from procreaper.cli.app.plan_source import inspect_files
from procreaper.cli.messages import print_problems, print_result
from procreaper.errors import FAILED, USAGE_ERROR, Problem, ProcreaperError, did_you_mean
from procreaper.project.configure import Configuration, Options, Project

FORMATS = ("text", "json", "github")


def check(options: Options, *, strict: bool = False, format_: str = "text") -> int:
    """Print every problem, or honcho's line if there is no error; return the exit status.

    With `strict`, warnings fail too. Raises ProcreaperError for an unknown format.
    """
    if format_ not in FORMATS:
        message = f"--format {format_}: there is no such format"
        raise ProcreaperError(message, hint=did_you_mean(format_, FORMATS), exit_code=USAGE_ERROR)
    project, configuration = inspect_files(options)
    problems = [*configuration.warnings]
    if project.is_usable:
        problems += _lint(project, configuration, options)
    problems = _sort_problems(problems)
    if format_ == "text":
        print_problems(problems)
    elif format_ == "json":
        import json

        print_result(json.dumps([_to_json(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            print_result(github_command(problem))
    if any(problem.level == "error" or strict for problem in problems):
        return FAILED
    names = ", ".join(kind.name for kind in project.types)
    print(f"Valid procfile detected ({names})", file=sys.stderr)
    return 0


def github_command(problem: Problem) -> str:
    """Write the problem as a workflow command of GitHub Actions, which shows it at its line."""
    place = {"file": problem.path, "line": problem.line}
    properties = ",".join(f"{key}={_escape(str(value), ':,')}" for key, value in place.items() if value is not None)
    text = problem.message if problem.hint is None else f"{problem.message}\nhint: {problem.hint}"
    return f"::{problem.level}{' ' if properties else ''}{properties}::{_escape(text)}"


def _escape(text: str, special: str = "") -> str:
    return "".join(f"%{ord(character):02X}" if character in f"%\r\n{special}" else character for character in text)


def _to_json(problem: Problem) -> dict[str, object]:
    return {field: getattr(problem, field) for field in ("path", "line", "level", "message", "hint")}


def _sort_problems(problems: Sequence[Problem]) -> list[Problem]:
    """Sort by file, in the order of their first problems, and then by line."""
    files = list(dict.fromkeys(problem.path for problem in problems))
    return sorted(problems, key=lambda problem: (files.index(problem.path), problem.line or 0))


def _lint(project: Project, configuration: Configuration, options: Options) -> list[Problem]:
    from procreaper.cli.commands.start_ports import find_taken_ports
    from procreaper.project.lint import Linter
    from procreaper.project.machine import probe_machine

    plan, root = configuration.plan, options.root or options.app_root or "."
    linter = Linter(probe_machine(), project.procfile.path, project.settings, root)
    linter.lint_names(project.types)
    linter.lint(project.types, plan.processes)
    types = {kind.name: kind for kind in project.types}
    for taken in find_taken_ports(plan, root):
        # The result must not depend on whether the app runs.
        if not taken.by_this_app:
            linter.warn(types[taken.process.type], taken.message, taken.hint)
    return linter.problems
