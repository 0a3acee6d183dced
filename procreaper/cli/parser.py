"""Parse the command line: honcho's commands and flags, foreman's where honcho has none, and our own.

Rules: this module knows the flags, and not what they do. Common flags may stand before or after the command. The later
one wins, so none of them has a default here. honcho's flags may be abbreviated as far as honcho allows it; our own
flags never make such an abbreviation ambiguous.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn

from procreaper import __version__
from procreaper.cli.messages import print_result
from procreaper.errors import USAGE_ERROR, ProcreaperError

DESCRIPTION = "Run the processes of a Procfile, and supervise them"
FILES, OUTPUT = "files", "output"
FORMATION = "TYPE=N,TYPE=N"
NAMES = "NAME,NAME"
EXPORT_FORMATS = ("systemd", "supervisord", "runit", "upstart", "launchd", "compose", "kubernetes")
HONCHOS = frozenset(
    {"--app-root", "--concurrency", "--env", "--no-colour", "--no-prefix", "--port", "--procfile"}
    | {"--app", "--log", "--shell", "--template-dir", "--user"}
)
# The destination of `-e` before the command; `-e` after the command has its own.
ENV_BEFORE = "env_before"
MISSING = "the following arguments are required: "
# How the usage line shows an argument, by its `nargs`.
ARGUMENTS: dict[int | str | None, str] = {
    None: "{0}",
    "?": "[{0}]",
    "*": "[{0} ...]",
    "+": "{0} [{0} ...]",
    argparse.REMAINDER: "{0} [ARGUMENT ...]",
}
# The groups of commands in the help; the most frequent commands stand first.
OVERVIEW = {
    "the project": ("start", "run", "check", "export"),
    "the running app, from any terminal": (
        "ps",
        "logs",
        "attach",
        "up",
        "stop",
        "restart",
        "scale",
        "reload",
        "quit",
        "ls",
    ),
    "more": ("completion", "schema", "help", "version"),
}


class CommandParser(argparse.ArgumentParser):
    """Raise an error where argparse would print and exit; resolve abbreviations by honcho's flags first."""

    # The width of the help, in columns.
    width = 78

    def error(self, message: str) -> NoReturn:
        if message.startswith(MISSING):
            missing = [action for action in self._positionals_shown() if str(action.metavar) in message]
            names = " and ".join(str(action.metavar) for action in missing)
            hint = "; ".join(f"{action.metavar} is {action.help}" for action in missing)
            raise _usage_error(f"`{self.prog}` needs {names}", hint)
        raise _usage_error(message, f"`{self.prog} --help` lists the options")

    def format_help(self) -> str:
        """Show the options in groups; argparse's own usage line would list all of them at once."""
        from shutil import get_terminal_size

        self.width = get_terminal_size().columns - 2
        if self._subparsers is None:
            self.usage = " ".join(filter(None, (self.prog, "[OPTION ...]", self.arguments())))
            self._positionals.title = "arguments"
            return super().format_help()
        (commands,) = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        about = {action.dest: action for action in commands._choices_actions}
        if len(about) < len(COMMANDS):
            return build_parser(COMMANDS).format_help()
        formatter = self._get_formatter()
        formatter.add_usage(f"{self.prog} COMMAND [OPTION ...]", (), ())
        formatter.add_text(self.description)
        for title, names in OVERVIEW.items():
            formatter.start_section(title)
            formatter.add_arguments([about[name] for name in names])
            formatter.end_section()
        formatter.add_text("`procreaper help COMMAND` describes a command and its options")
        return formatter.format_help()

    def arguments(self) -> str:
        """The arguments for the usage line, for example `NAME [NAME ...]`."""
        return " ".join(ARGUMENTS[action.nargs].format(action.metavar) for action in self._positionals_shown())

    def _get_formatter(self) -> argparse.HelpFormatter:
        # argparse makes a formatter for each option that is added; its default would read the terminal size each time.
        return argparse.HelpFormatter(self.prog, width=self.width)

    def _positionals_shown(self) -> list[argparse.Action]:
        actions = self._get_positional_actions()
        return [action for action in actions if action.metavar and action.help is not argparse.SUPPRESS]

    def _print_message(self, message: str, file: object = None) -> None:  # noqa: ARG002
        # argparse prints only the help and the version this way, and would ignore a failed write.
        print_result(message.removesuffix("\n"))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # Only the command has `choices`.
        if action.choices is not None and value not in action.choices:
            raise _usage_error(f"there is no command `{value}`", _suggestion(value, COMMANDS))

    def _get_option_tuples(self, option_string: str) -> list[tuple[argparse.Action, str, str | None]]:
        found = super()._get_option_tuples(option_string)
        of_honcho = [option for option in found if option[1] in HONCHOS]
        # Two spellings of one flag are not ambiguous.
        found = of_honcho or list({id(option[0]): option for option in found}.values())
        # The main parser sees the flags of a command here too, and does not know them: it must not call them ambiguous.
        return found if len(found) == 1 or self._subparsers is None else []


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments into a namespace that holds only what was given. Raises ProcreaperError for a usage error."""
    given, left = build_parser(arguments).parse_known_args(arguments)
    if hasattr(given, ENV_BEFORE):
        # Otherwise `-e` after the command would replace `-e` before it.
        given.env = ",".join(filter(None, (getattr(given, ENV_BEFORE), getattr(given, "env", None))))
        delattr(given, ENV_BEFORE)
    command = getattr(given, "command", None)
    several = next((field for field in ("names", "counts") if hasattr(given, field)), None)
    if several is not None and not any(word.startswith("-") and word != "--" for word in left):
        # argparse takes only one run of names, and leaves `worker` of `start web -p 8000 -- worker`.
        setattr(given, several, [*getattr(given, several), *(word for word in left if word != "--")])
    elif left:
        what = "option" if left[0].startswith("-") else "argument"
        of = "" if command is None else f" of `{command}`"
        program = " ".join(filter(None, ("procreaper", "help", command)))
        raise _usage_error(f"there is no {what} `{left[0]}`{of}", f"`{program}` lists the options")
    if command is None:
        raise _usage_error(
            "no command was given", "`procreaper start` runs the Procfile, `procreaper help` lists the commands"
        )
    return given


def build_parser(words: Collection[str]) -> argparse.ArgumentParser:
    """Build the parser. Options that are not given are absent from its namespace.

    Include only the commands that occur in `words`, or all of them if none does. To build them all takes two
    milliseconds, which would delay the first child of `start`.
    """
    parser = CommandParser("procreaper", description=DESCRIPTION, argument_default=argparse.SUPPRESS)
    _add_common(parser, ENV_BEFORE)
    # Without `prog` argparse formats a usage line, which needs slow imports.
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", prog="procreaper")

    for name in [name for name in COMMANDS if name in words] or COMMANDS:
        text, *additions = COMMANDS[name]
        its_parser = commands.add_parser(
            name, help=text, description=text[:1].upper() + text[1:], argument_default=argparse.SUPPRESS
        )
        for add in additions:
            add(its_parser)
    return parser


class _JoinValues(argparse.Action):
    """Join the values of a flag that is given more than once: `-x web -x worker` means `-x web,worker`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        earlier = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, values if earlier is None else f"{earlier},{values}")


def _group(parser: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """Return the group of options with this title; create it if it does not exist."""
    for group in parser._action_groups:
        if group.title == title:
            return group
    return parser.add_argument_group(title)


def _add_common(parser: argparse.ArgumentParser, env: str = "env") -> None:
    files = _group(parser, FILES)
    files.add_argument("-f", "--procfile", metavar="FILE", help="path of the Procfile (default: Procfile)")
    files.add_argument(
        "-e",
        "--env",
        action=_JoinValues,
        dest=env,
        metavar="FILE,FILE",
        help="environment files; a later file overrides an earlier one (default: .env)",
    )
    files.add_argument("--config", metavar="FILE", help="path of the settings file (default: .reaper.toml)")
    files.add_argument(
        "-d", "--app-root", metavar="DIR", help="directory of the Procfile and the environment files (default: .)"
    )
    files.add_argument("--root", metavar="DIR", help="like -d, but the processes also run in this directory")
    _add_line_format(parser)
    _add_colour(parser)
    parser.add_argument(
        "-v", "--version", action="version", version=f"procreaper {__version__}", help="print the version"
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="exit with an error for warnings too")
    parser.add_argument("--format", metavar="FORMAT", help="output format: text (default), json or github")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    # The completion scripts pass the command line here, to complete names.
    parser.add_argument("argv", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--app", metavar="APP", help="name of the app (default: name of the current directory)")
    parser.add_argument("-l", "--log", metavar="DIR", help="directory for the logs (default: /var/log/APP)")
    parser.add_argument("-p", "--port", metavar="N", help="port of the first process (default: 5000), or `auto`")
    parser.add_argument(
        "-c",
        "--concurrency",
        action=_JoinValues,
        metavar=FORMATION,
        help="processes per type; types not listed run once",
    )
    parser.add_argument(
        "-m", "--formation", action=_JoinValues, metavar=FORMATION, help="like -c, but types not listed do not run"
    )
    parser.add_argument("-u", "--user", metavar="USER", help="user that runs the app (default: APP)")
    parser.add_argument("-s", "--shell", metavar="SHELL", help="shell that runs the commands (default: /bin/sh)")
    parser.add_argument(
        "-t", "--template-dir", metavar="DIR", help="directory of templates that replace those of honcho"
    )
    parser.add_argument("--image", metavar="IMAGE", help="container image, for compose and kubernetes")
    parser.add_argument("--force", action="store_true", help="overwrite files even if no earlier export wrote them")
    parser.add_argument("format", metavar="FORMAT", help=f"one of {', '.join(EXPORT_FORMATS)}")
    parser.add_argument("location", metavar="LOCATION", help="the directory to write to")


def _add_help(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", nargs="?", metavar="COMMAND", help="the command to describe")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command, with its arguments")


def _add_app_selector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d", "--app-root", "--root", metavar="DIR", help="directory where the app was started (default: .)"
    )
    parser.add_argument("--pid", metavar="N", help="pid of the app, if several run in the directory")
    _add_colour(parser)


def _add_line_format(parser: argparse.ArgumentParser) -> None:
    output = _group(parser, OUTPUT)
    output.add_argument(
        "--no-prefix", action="store_false", dest="prefix", help="do not begin lines with the time and the process name"
    )
    output.add_argument("--timestamp", action="store_true", help="begin every line with the time of day (default)")
    output.add_argument("--no-timestamp", action="store_false", dest="timestamp", help="do not print the time of day")


def _add_colour(parser: argparse.ArgumentParser) -> None:
    output = _group(parser, OUTPUT)
    output.add_argument(
        "--color",
        "--colour",
        action="store_true",
        dest="colour",
        help="print in colour, even if the output is not a terminal",
    )
    output.add_argument("--no-color", "--no-colour", action="store_false", dest="colour", help="never print in colour")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the process, for example `web.1`; `web` if there is only one")


def _add_detach_keys(parser: argparse.ArgumentParser) -> None:
    help_ = "keys that detach, in the form of docker, for example `ctrl-p,ctrl-q` (default: ctrl-])"
    parser.add_argument("--detach-keys", metavar="KEY,KEY", help=help_)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON list, for programs")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-w", "--watch", action="store_true", dest="live", help="refresh until Ctrl-C")


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing new output until Ctrl-C")
    parser.add_argument(
        "-n", "--lines", metavar="N", help="show the last N lines of each process (default: `all` lines that are kept)"
    )
    _group(parser, OUTPUT).add_argument("--log-format", metavar="FORMAT", help="output format: text (default) or json")
    _add_line_format(parser)
    _add_some_names(parser)


def _add_some_names(parser: argparse.ArgumentParser) -> None:
    help_ = "a process, a process type, a group of .reaper.toml, or a pattern such as `web.*` (default: all)"
    parser.add_argument("names", nargs="*", metavar="NAME", default=[], help=help_)


def _add_names(parser: argparse.ArgumentParser) -> None:
    help_ = "a process, a process type, a group of .reaper.toml, a pattern such as `web.*`, or `all`"
    parser.add_argument("names", nargs="+", metavar="NAME", help=help_)


def _add_counts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "counts",
        nargs="+",
        metavar="TYPE=N",
        help="a process type and the number of its processes, for example `web=3`",
    )


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        default=[],
        help="process types, processes or groups to start (default: all)",
    )

    processes = _group(parser, "processes")
    processes.add_argument("-p", "--port", metavar="N", help="port of the first process (default: 5000), or `auto`")
    processes.add_argument(
        "-c",
        "--concurrency",
        action=_JoinValues,
        metavar=FORMATION,
        help="processes per type, for example `web=2,worker=3`; types not listed run once",
    )
    processes.add_argument(
        "-m",
        "--formation",
        action=_JoinValues,
        metavar=FORMATION,
        help="like -c, but types not listed do not run; `all=1` runs every type",
    )
    processes.add_argument(
        "-x",
        "--exclude",
        action=_JoinValues,
        metavar=NAMES,
        help="do not start these, nor wait for them as dependencies",
    )
    processes.add_argument(
        "--no-deps", action="store_true", help="start only the named processes, without their dependencies"
    )

    supervision = _group(parser, "supervision")
    supervision.add_argument(
        "-r",
        "--restart",
        action=_JoinValues,
        metavar=NAMES,
        help="restart these whenever they exit, after a growing delay; `all` means every process",
    )
    supervision.add_argument(
        "--can-die",
        action=_JoinValues,
        metavar=NAMES,
        help="keep the app running when these exit; `all` means every process",
    )
    supervision.add_argument(
        "-w",
        "--watch",
        action="append",
        metavar="PATH",
        help="restart all processes when this file or directory changes; may be repeated",
    )
    supervision.add_argument("--no-watch", action="store_true", help="never restart processes because files change")
    supervision.add_argument(
        "-t",
        "--timeout",
        metavar="SECONDS",
        help="time between SIGTERM and SIGKILL when a process is stopped (default: 5)",
    )

    background = _group(parser, "background")
    background.add_argument(
        "-D",
        "--detach",
        action="store_true",
        help="run in the background; if an app of this directory already runs, start the processes there",
    )
    background.add_argument(
        "--new", action="store_true", help="with -D: start a second app even if one of this directory already runs"
    )
    background.add_argument(
        "--wait", action="store_true", help="with -D: wait until all processes are up; if one fails, say which and why"
    )
    background.add_argument(
        "--wait-timeout", metavar="SECONDS", help="with --wait: fail if that takes longer than this"
    )

    _group(parser, "monitoring").add_argument(
        "--http",
        metavar="[HOST:]PORT",
        help="serve status, events, logs and metrics over HTTP, read-only (default: off)",
    )

    output = _group(parser, OUTPUT)
    output.add_argument(
        "-q", "--quiet", action=_JoinValues, metavar=NAMES, help="do not print the output of these processes"
    )
    output.add_argument("--log-format", metavar="FORMAT", help="output format: text (default) or json")
    output.add_argument(
        "--pty", action="store_true", help="give each process its own terminal (default: if the output is a terminal)"
    )
    output.add_argument(
        "--no-pty", action="store_false", dest="pty", help="let each process write to a pipe instead of a terminal"
    )


# Each command with its description and the functions that add its options.
COMMANDS: dict[str, tuple[Any, ...]] = {
    "start": ("run the processes of the Procfile, or some of them", _add_start, _add_common),
    "run": ("run one command with the environment of the app", _add_run, _add_common),
    "check": ("check the Procfile, the environment files and the settings", _add_check, _add_common),
    "export": ("export the app to an init system or a scheduler", _add_export, _add_common),
    "ps": (
        "list the processes with their state and its reason",
        _add_app_selector,
        _add_json,
        _add_watch,
        _add_some_names,
    ),
    "logs": ("show the output of the processes", _add_logs, _add_app_selector),
    "attach": (
        "attach to the terminal of a running process; Ctrl-] detaches",
        _add_detach_keys,
        _add_app_selector,
        _add_name,
    ),
    "up": ("start processes and their dependencies", _add_app_selector, _add_names),
    "stop": ("stop processes", _add_app_selector, _add_names),
    "restart": ("restart processes", _add_app_selector, _add_names),
    "scale": ("change the number of processes of a type", _add_app_selector, _add_counts),
    "reload": ("read the files again and apply the changes", _add_app_selector),
    "quit": ("stop all processes and end the app", _add_app_selector),
    "ls": ("list all running apps", _add_colour, _add_json),
    "completion": ("print the completion script for a shell", _add_completion),
    "schema": ("print the JSON Schema of .reaper.toml",),
    "help": ("describe the commands, or one of them", _add_help),
    "version": ("print the version",),
}


def _usage_error(message: str, hint: str) -> ProcreaperError:
    return ProcreaperError(message, hint=hint, exit_code=USAGE_ERROR)


def _suggestion(word: str, known: Iterable[str]) -> str:
    # Imported here: a start without mistakes does not need it.
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    if close:
        return f"did you mean `{close[0]}`?"
    return "`procreaper help` lists the commands; the options of a command follow it"
