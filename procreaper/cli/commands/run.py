"""`run`: replace this process by a command with the environment of the app.

Rules: `run` replaces its own process by the command (`exec`), as env(1) does. The command then has its own process id,
signals, terminal and exit status, and no part of procreaper remains that could end before or after it. The command
inherits no signal that only procreaper blocks or ignores, and no file that only procreaper has open.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from procreaper.cli.app.plan_source import inspect_files
from procreaper.cli.messages import print_problems
from procreaper.core.last_command import argv_of
from procreaper.core.ports import PREFIX, variable_of
from procreaper.errors import NOT_EXECUTABLE, NOT_FOUND, USAGE_ERROR, ConfigError, ProcreaperError, reason_of
from procreaper.project.configure import Options, read_environment, read_project

SHELL = "/bin/sh"
# `NAME=value` before a command is a variable for it, as everywhere in a shell, and so under honcho.
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def run(options: Options, argv: Sequence[str]) -> NoReturn:
    """Replace this process by the command.

    Raises ConfigError for an unusable `.env` file, and ProcreaperError if the command does not exist or cannot run.
    """
    if argv and argv[0] == "--":
        argv = argv[1:]
    assigned = dict(word.split("=", 1) for word in itertools.takewhile(ASSIGNMENT.match, argv))
    argv = list(itertools.dropwhile(ASSIGNMENT.match, argv))
    if not argv:
        raise ProcreaperError("no command was given", hint="for example `procreaper run env`", exit_code=USAGE_ERROR)
    values, warnings = read_environment(options, os.environ)
    print_problems(warnings)
    environment = {**os.environ, **values, **_port_variables(options), **assigned}
    program, command, directory = _find_program(argv, environment, options)
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            message = f"{'--root ' if directory == options.root else ''}{directory}: {reason_of(error)}"
            raise ProcreaperError(message, hint="name an existing directory") from error
    _execute(program, command, environment)


def _find_program(
    argv: Sequence[str], environment: Mapping[str, str], options: Options
) -> tuple[str, tuple[str, ...], str | None]:
    """Find the program, else the process of the Procfile, else the builtin of the shell.

    Return the program, its arguments, and the directory to run it in (None: the current one).
    """
    name = argv[0]
    if (program := shutil.which(name, path=environment.get("PATH"))) is not None:
        return os.path.abspath(program), tuple(argv), options.root
    if os.path.dirname(name):
        if os.path.exists(name):
            if os.path.isdir(name):
                hint = "name a program in it"
                raise ProcreaperError(f"`{name}` is a directory", hint=hint, exit_code=NOT_EXECUTABLE)
            hint = f"try `chmod +x {name}`"
            raise ProcreaperError(f"`{name}` is not executable", hint=hint, exit_code=NOT_EXECUTABLE)
        raise ProcreaperError(f"`{name}` does not exist", hint="correct the path", exit_code=NOT_FOUND)
    if len(argv) == 1 and (entry := _process_command(name, options)) is not None:
        return SHELL, argv_of(entry, environment), options.cwd if options.root is None else options.root
    if _is_shell_builtin(name):
        return SHELL, ("sh", "-c", '"$@"', "sh", *argv), options.root
    hint = "correct the name, or the PATH; a whole shell command needs `sh -c '...'`"
    raise ProcreaperError(f"command not found: `{name}`", hint=hint, exit_code=NOT_FOUND)


def _process_command(name: str, options: Options) -> str | None:
    try:
        project = read_project(options, os.environ)
    except ConfigError:
        return None
    command = next((kind.command for kind in project.types if kind.name == name), None)
    return command if command is None or isinstance(command, str) else shlex.join(command)


def _port_variables(options: Options) -> dict[str, str]:
    """The variables with the ports of all types: those of the running app of this root, else those of a new start."""
    from procreaper.cli.commands.start_ports import find_running_ports

    # Errors in the Procfile do not matter for the command.
    with suppress(ProcreaperError):
        _, configuration = inspect_files(options)
        if processes := configuration.plan.processes:
            planned = {name: value for name, value in (processes[0].env or {}).items() if name.startswith(PREFIX)}
            running = find_running_ports(options.root or options.app_root or ".")
            return {**planned, **{variable_of(kind): str(port) for kind, port in running.items()}}
    return {}


def _is_shell_builtin(name: str) -> bool:
    import subprocess

    script = 'command -v -- "$1"'
    return subprocess.run([SHELL, "-c", script, "sh", name], capture_output=True, check=False).returncode == 0


def _execute(program: str, argv: tuple[str, ...], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by the program."""
    # Python ignores these two, and the program would inherit that. Python itself cannot tell whether they were ignored
    # when it started.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    sys.stderr.flush()
    try:
        try:
            os.execve(program, argv, environment)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # The shell runs a script without a first line that names its interpreter.
            os.execve(SHELL, ("sh", program, *argv[1:]), environment)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        hint = "look at the program, its arguments and the environment"
        raise ProcreaperError(f"`{argv[0]}` cannot be run: {reason}", hint=hint, exit_code=NOT_EXECUTABLE) from error
