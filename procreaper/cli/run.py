"""`run`: one command in the environment of the app, in the foreground of this terminal.

Rules: the command stays in our session and group, so that the terminal treats it as if it had been typed. Signals that
the terminal sends reach it without us; those that were sent to us alone are passed on. It never outlives us.
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

from procreaper.cli.problems import report
from procreaper.cli.statuses import NOT_EXECUTABLE, NOT_FOUND, USAGE_ERROR
from procreaper.config import Options, read_environment, read_project
from procreaper.errors import ConfigError, ProcreaperError, reason_of

STDIN = 0
SHELL = "/bin/sh"
# `NAME=value` before a command is a variable for it, as everywhere in a shell, and so under honcho.
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
TYPED = (signal.SIGINT, signal.SIGQUIT)
# siginfo's code for a signal that the kernel itself sent, as the terminal driver does to the whole foreground group.
SI_KERNEL = 0x80


def run(options: Options, argv: Sequence[str]) -> int:
    """Run the command and return its exit status, 128+n for a signal.

    Raises ConfigError for an unusable `.env` file, ProcreaperError where there is no such command.
    """
    if argv and argv[0] == "--":
        argv = argv[1:]
    assigned = dict(word.split("=", 1) for word in itertools.takewhile(ASSIGNMENT.match, argv))
    argv = list(itertools.dropwhile(ASSIGNMENT.match, argv))
    if not argv:
        raise ProcreaperError("no command was given", hint="for example `procreaper run env`", exit_code=USAGE_ERROR)
    values, warnings = read_environment(options, os.environ)
    report(warnings)
    environment = {**os.environ, **values, **assigned}
    program, command, directory = _find(argv, environment, options)
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            message = f"{'--root ' if directory == options.root else ''}{directory}: {reason_of(error)}"
            raise ProcreaperError(message, hint="name an existing directory") from error
    return _wait(_spawn(program, command, environment))


def _find(
    argv: Sequence[str], environment: Mapping[str, str], options: Options
) -> tuple[str, tuple[str, ...], str | None]:
    """Find the program, else the process of the Procfile, else the builtin of the shell.

    The answer is the program, its arguments, and the directory to run it in (None: the current one).
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
        return SHELL, ("sh", "-c", entry), options.cwd if options.root is None else options.root
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


def _is_shell_builtin(name: str) -> bool:
    import subprocess

    script = 'command -v -- "$1"'
    return subprocess.run([SHELL, "-c", script, "sh", name], capture_output=True, check=False).returncode == 0


def _spawn(program: str, argv: tuple[str, ...], environment: Mapping[str, str]) -> int:
    # Blocked from before there is a child until we are gone, so that none of them can get lost.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*PASSED_ON, signal.SIGCHLD))
    # Python ignores them, and a child would inherit that.
    defaults = (signal.SIGPIPE, signal.SIGXFSZ)
    try:
        try:
            return os.posix_spawn(program, argv, environment, setsigmask=mask, setsigdef=defaults)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without a first line that names its interpreter is the shell's.
            script = ("sh", program, *argv[1:])
            return os.posix_spawn(SHELL, script, environment, setsigmask=mask, setsigdef=defaults)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        hint = "look at the program, its arguments and the environment"
        raise ProcreaperError(f"`{argv[0]}` cannot be run: {reason}", hint=hint, exit_code=NOT_EXECUTABLE) from error


def _wait(pid: int) -> int:
    interactive = os.isatty(STDIN)
    while True:
        number, from_terminal = _next_signal()
        if number != signal.SIGCHLD:
            if not (from_terminal and number in TYPED):
                os.kill(pid, number)
            continue
        changed, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        while interactive and changed and os.WIFSTOPPED(status):
            # It suspended itself, as `:suspend` of an editor does. The shell gives the terminal back to those who type
            # only if we stop as well; where no shell is there to continue us, the kernel ignores this signal.
            os.kill(os.getpid(), signal.SIGTSTP)
            changed, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not changed:
                # `fg` continues our group, which a shell among the commands has left.
                os.kill(pid, signal.SIGCONT)
        if changed and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            returncode = os.waitstatus_to_exitcode(status)
            return returncode if returncode >= 0 else 128 - returncode


def _next_signal() -> tuple[int, bool]:
    """The next signal for us, and whether the terminal sent it, to the command as well as to us."""
    signals = (*PASSED_ON, signal.SIGCHLD)
    if sys.platform == "linux":
        information = signal.sigwaitinfo(signals)
        return information.si_signo, information.si_code == SI_KERNEL
    return signal.sigwait(signals), os.isatty(STDIN)
