"""The words of the command line: honcho's, foreman's where honcho has none, and ours.

Rules: knows the flags and nothing of what they do. Common flags may stand before or after the command; the later wins,
which is why none of them has a default here. A flag of honcho may be abbreviated as far as honcho allows it, whatever
flags there are besides.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn

from procreaper import __version__
from procreaper.cli.messages import say
from procreaper.errors import USAGE_ERROR, ProcreaperError

DESCRIPTION = "Run the processes of a Procfile, and supervise them"
FILES, OUTPUT = "the files", "the output"
FORMATION = "TYPE=N,TYPE=N"
NAMES = "NAME,NAME"
EXPORT_FORMATS = ("systemd", "supervisord", "runit", "upstart", "launchd", "compose", "kubernetes")
HONCHOS = frozenset(
    {"--app-root", "--concurrency", "--env", "--no-colour", "--no-prefix", "--port", "--procfile"}
    | {"--app", "--log", "--shell", "--template-dir", "--user"}
)
# Where the environment files go that stand before the command.
ENV_BEFORE = "env_before"
MISSING = "the following arguments are required: "
# How an argument of a command stands in its usage, by how many of it there may be.
ARGUMENTS: dict[int | str | None, str] = {
    None: "{0}",
    "?": "[{0}]",
    "*": "[{0} ...]",
    "+": "{0} [{0} ...]",
    argparse.REMAINDER: "{0} [ARGUMENT ...]",
}
# What is asked for most stands first.
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
    """Raises what argparse would print and exit with, and abbreviates by honcho's flags first."""

    # Columns of the help.
    width = 78

    def error(self, message: str) -> NoReturn:
        if message.startswith(MISSING):
            missing = [action for action in self._positionals_shown() if str(action.metavar) in message]
            names = " and ".join(str(action.metavar) for action in missing)
            hint = "; ".join(f"{action.metavar} is {action.help}" for action in missing)
            raise _wrong(f"`{self.prog}` needs {names}", hint)
        raise _wrong(message, f"`{self.prog} --help` lists the options")

    def format_help(self) -> str:
        """What can be typed, by what it is about; argparse's usage would fill the screen with all options at once."""
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
        formatter.add_text("`procreaper help COMMAND` tells more of one, with its options")
        return formatter.format_help()

    def arguments(self) -> str:
        """What stands behind the command, as in `NAME [NAME ...]`."""
        return " ".join(ARGUMENTS[action.nargs].format(action.metavar) for action in self._positionals_shown())

    def _get_formatter(self) -> argparse.HelpFormatter:
        # It is made for each option that is added; left alone it would ask for the size of the terminal each time.
        return argparse.HelpFormatter(self.prog, width=self.width)

    def _positionals_shown(self) -> list[argparse.Action]:
        actions = self._get_positional_actions()
        return [action for action in actions if action.metavar and action.help is not argparse.SUPPRESS]

    def _print_message(self, message: str, file: object = None) -> None:  # noqa: ARG002
        # Only help and version are left; argparse would swallow the error where they cannot be written.
        say(message.removesuffix("\n"))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # The commands are the only choice there is.
        if action.choices is not None and value not in action.choices:
            raise _wrong(f"there is no command `{value}`", _suggestion(value, COMMANDS))

    def _get_option_tuples(self, option_string: str) -> list[tuple[argparse.Action, str, str | None]]:
        found = super()._get_option_tuples(option_string)
        of_honcho = [option for option in found if option[1] in HONCHOS]
        # Two spellings of one flag are no ambiguity.
        found = of_honcho or list({id(option[0]): option for option in found}.values())
        # argparse looks at the flags of a command here too, before it hands them on: what they are is not known yet.
        return found if len(found) == 1 or self._subparsers is None else []


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What was given, and no more than that. Raises ProcreaperError for what cannot be understood."""
    given, left = build_parser(arguments).parse_known_args(arguments)
    if hasattr(given, ENV_BEFORE):
        # A flag of the command would otherwise replace the same flag before the command.
        given.env = ",".join(filter(None, (getattr(given, ENV_BEFORE), getattr(given, "env", None))))
        delattr(given, ENV_BEFORE)
    command = getattr(given, "command", None)
    several = next((field for field in ("names", "counts") if hasattr(given, field)), None)
    if several is not None and not any(word.startswith("-") and word != "--" for word in left):
        # argparse takes the names in one piece only, and leaves the second of `start web -p 8000 -- worker`.
        setattr(given, several, [*getattr(given, several), *(word for word in left if word != "--")])
    elif left:
        what = "option" if left[0].startswith("-") else "argument"
        of = "" if command is None else f" of `{command}`"
        program = " ".join(filter(None, ("procreaper", "help", command)))
        raise _wrong(f"there is no {what} `{left[0]}`{of}", f"`{program}` lists the options")
    if command is None:
        raise _wrong(
            "no command was given", "`procreaper start` runs the Procfile, `procreaper help` lists the commands"
        )
    return given


def build_parser(words: Collection[str]) -> argparse.ArgumentParser:
    """The parser of a command line; what was not given is not in its namespace.

    It knows the commands that are among the `words`; all of them, if there are none. To make them all takes two
    milliseconds, of which the first child of `start` would come later.
    """
    parser = CommandParser("procreaper", description=DESCRIPTION, argument_default=argparse.SUPPRESS)
    _add_common(parser, ENV_BEFORE)
    # Without `prog` argparse formats a usage, and imports what it needs for that.
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", prog="procreaper")

    for name in [name for name in COMMANDS if name in words] or COMMANDS:
        text, *additions = COMMANDS[name]
        its_parser = commands.add_parser(
            name, help=text, description=text[:1].upper() + text[1:], argument_default=argparse.SUPPRESS
        )
        for add in additions:
            add(its_parser)
    return parser


class _More(argparse.Action):
    """Add up the values of a flag that is given more than once: `-x web -x worker` is `-x web,worker`."""

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
    """The options of a command that are about the same."""
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
        action=_More,
        dest=env,
        metavar="FILE,FILE",
        help="environment files; later ones win (default: .env)",
    )
    files.add_argument("--config", metavar="FILE", help="path of the settings (default: .reaper.toml)")
    files.add_argument(
        "-d", "--app-root", metavar="DIR", help="where the Procfile and the environment files are (default: .)"
    )
    files.add_argument("--root", metavar="DIR", help="as -d, and the processes run in this directory")
    _add_prefix(parser)
    _add_colour(parser)
    parser.add_argument(
        "-v", "--version", action="version", version=f"procreaper {__version__}", help="print the version"
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="fail for warnings too")
    parser.add_argument("--format", metavar="FORMAT", help="how problems are told: text (default), json or github")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    # What the scripts ask for names with; not for people.
    parser.add_argument("argv", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--app", metavar="APP", help="name of the app (default: that of the current directory)")
    parser.add_argument("-l", "--log", metavar="DIR", help="where the logs are to go (default: /var/log/APP)")
    parser.add_argument("-p", "--port", metavar="N", help="port of the first process (default: 5000), or `auto`")
    parser.add_argument(
        "-c",
        "--concurrency",
        action=_More,
        metavar=FORMATION,
        help="how many of each type; one of those not named",
    )
    parser.add_argument("-m", "--formation", action=_More, metavar=FORMATION, help="as -c, but none of those not named")
    parser.add_argument("-u", "--user", metavar="USER", help="the user that the app is to run as (default: APP)")
    parser.add_argument("-s", "--shell", metavar="SHELL", help="the shell for the commands (default: /bin/sh)")
    parser.add_argument("-t", "--template-dir", metavar="DIR", help="templates to use instead of those of honcho")
    parser.add_argument("--image", metavar="IMAGE", help="the container image, for compose and kubernetes")
    parser.add_argument("--force", action="store_true", help="replace files that are not from an earlier export")
    parser.add_argument("format", metavar="FORMAT", help=f"what to export to: {', '.join(EXPORT_FORMATS)}")
    parser.add_argument("location", metavar="LOCATION", help="the directory to write to")


def _add_help(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", nargs="?", metavar="COMMAND", help="the command to describe")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command, with its arguments")


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--app-root", "--root", metavar="DIR", help="where the app was started (default: .)")
    parser.add_argument("--pid", metavar="N", help="the app with this pid, where several run in one directory")
    _add_colour(parser)


def _add_prefix(parser: argparse.ArgumentParser) -> None:
    output = _group(parser, OUTPUT)
    output.add_argument("--no-prefix", action="store_false", dest="prefix", help="print the bare lines")
    output.add_argument("--timestamp", action="store_true", help="begin every line with the time of day (default)")
    output.add_argument("--no-timestamp", action="store_false", dest="timestamp", help="print no time of day")


def _add_colour(parser: argparse.ArgumentParser) -> None:
    output = _group(parser, OUTPUT)
    output.add_argument("--color", "--colour", action="store_true", dest="colour", help="print in colour")
    output.add_argument("--no-color", "--no-colour", action="store_false", dest="colour", help="never print in colour")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the process, for example web.1, or web where there is but one")


def _add_detach_keys(parser: argparse.ArgumentParser) -> None:
    help_ = "the keys that leave, as in docker: `ctrl-p,ctrl-q` (default: ctrl-])"
    parser.add_argument("--detach-keys", metavar="KEY,KEY", help=help_)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: a JSON list")


def _add_live(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-w", "--watch", action="store_true", dest="live", help="go on showing it; Ctrl-C ends that")


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what they write from now on")
    parser.add_argument(
        "-n", "--lines", metavar="N", help="the last so many lines of each (default: `all` that is kept)"
    )
    _group(parser, OUTPUT).add_argument(
        "--log-format", metavar="FORMAT", help="what is printed: text (default) or json"
    )
    _add_prefix(parser)
    _add_some_names(parser)


def _add_some_names(parser: argparse.ArgumentParser) -> None:
    help_ = "a process, a process type, a group of .reaper.toml, or a pattern such as `web.*` (default: all)"
    parser.add_argument("names", nargs="*", metavar="NAME", default=[], help=help_)


def _add_names(parser: argparse.ArgumentParser) -> None:
    help_ = "a process, a process type, a group of .reaper.toml, a pattern such as `web.*`, or `all`"
    parser.add_argument("names", nargs="+", metavar="NAME", help=help_)


def _add_counts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("counts", nargs="+", metavar="TYPE=N", help="a process type, and how many of it to run")


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", default=[], help="what to start (default: all)")

    what = _group(parser, "what runs")
    what.add_argument("-p", "--port", metavar="N", help="port of the first process (default: 5000), or `auto`")
    what.add_argument(
        "-c",
        "--concurrency",
        action=_More,
        metavar=FORMATION,
        help="how many of each type to run; one of those not named",
    )
    what.add_argument(
        "-m",
        "--formation",
        action=_More,
        metavar=FORMATION,
        help="as -c, but none of those not named; `all` names every type",
    )
    what.add_argument(
        "-x", "--exclude", action=_More, metavar=NAMES, help="do not start these, and do not wait for them"
    )
    what.add_argument("--no-deps", action="store_true", help="start just what is named, without what that depends on")

    supervision = _group(parser, "how it is supervised")
    supervision.add_argument(
        "-r",
        "--restart",
        action=_More,
        metavar=NAMES,
        help="restart these whenever they end, with a back-off; `all` names every one",
    )
    supervision.add_argument(
        "--can-die", action=_More, metavar=NAMES, help="their end does not end the application; `all` names every one"
    )
    supervision.add_argument(
        "-w", "--watch", action="append", metavar="PATH", help="restart all when this changes; may be given again"
    )
    supervision.add_argument("--no-watch", action="store_true", help="restart nothing when files change")
    supervision.add_argument(
        "-t", "--timeout", metavar="SECONDS", help="from SIGTERM to SIGKILL when processes are stopped (default: 5)"
    )

    background = _group(parser, "in the background")
    background.add_argument(
        "-D",
        "--detach",
        action="store_true",
        help="run in the background, in the app that runs already if there is one",
    )
    background.add_argument(
        "--new", action="store_true", help="with -D: start another app, even if one of this directory runs"
    )
    background.add_argument(
        "--wait", action="store_true", help="with -D: return when all are up, or fail and tell who is not and why"
    )
    background.add_argument("--wait-timeout", metavar="SECONDS", help="with --wait: fail if that takes longer")

    _group(parser, "from outside").add_argument(
        "--http", metavar="[HOST:]PORT", help="serve status, events, logs and metrics there, read-only (default: off)"
    )

    output = _group(parser, OUTPUT)
    output.add_argument("-q", "--quiet", action=_More, metavar=NAMES, help="processes whose output is not shown")
    output.add_argument("--log-format", metavar="FORMAT", help="what is printed: text (default) or json")
    output.add_argument(
        "--pty", action="store_true", help="give each process a terminal of its own (default: if there is one here)"
    )
    output.add_argument("--no-pty", action="store_false", dest="pty", help="let each process write to a pipe")


# What each command does, and what adds its options.
COMMANDS: dict[str, tuple[Any, ...]] = {
    "start": ("start the application, or some of its process types", _add_start, _add_common),
    "run": ("run one command in the environment of the application", _add_run, _add_common),
    "check": ("validate the Procfile, the environment files and the settings", _add_check, _add_common),
    "export": ("write the application as files for an init system or a scheduler", _add_export, _add_common),
    "ps": ("show what the processes do, and why", _add_place, _add_json, _add_live, _add_some_names),
    "logs": ("show what the processes have written", _add_logs, _add_place),
    "attach": ("be at the terminal of a process; Ctrl-] leaves", _add_detach_keys, _add_place, _add_name),
    "up": ("start processes, and what they need", _add_place, _add_names),
    "stop": ("stop processes", _add_place, _add_names),
    "restart": ("restart processes", _add_place, _add_names),
    "scale": ("run more or fewer processes of a type", _add_place, _add_counts),
    "reload": ("read the files anew, and do what has changed in them", _add_place),
    "quit": ("end the app", _add_place),
    "ls": ("list all apps that run", _add_colour, _add_json),
    "completion": ("print the script that completes what is typed, for a shell", _add_completion),
    "schema": ("print the JSON Schema of .reaper.toml",),
    "help": ("describe the commands, or one of them", _add_help),
    "version": ("print the version",),
}


def _wrong(message: str, hint: str) -> ProcreaperError:
    return ProcreaperError(message, hint=hint, exit_code=USAGE_ERROR)


def _suggestion(word: str, known: Iterable[str]) -> str:
    # Not at the top: a start without mistakes does not need it.
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    if close:
        return f"did you mean `{close[0]}`?"
    return "`procreaper help` lists the commands; their own options stand after them"
