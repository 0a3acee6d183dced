"""The words of the command line: honcho's, foreman's where honcho has none, and ours.

Rules: knows the flags and nothing of what they do. Common flags may stand before or after the command; the later wins,
which is why none of them has a default here.
"""

from __future__ import annotations

import argparse

from procreaper import __version__

DESCRIPTION = "Run the processes of a Procfile, and supervise them"
FORMATION = "TYPE=N,TYPE=N"


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; what was not given is not in its namespace."""
    parser = argparse.ArgumentParser("procreaper", description=DESCRIPTION, argument_default=argparse.SUPPRESS)
    _add_common(parser)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, *, common: bool = True) -> argparse.ArgumentParser:
        its_parser = commands.add_parser(
            name, help=text, description=text[:1].upper() + text[1:], argument_default=argparse.SUPPRESS
        )
        if common:
            _add_common(its_parser)
        return its_parser

    command("check", "validate the Procfile and the environment files")
    help_ = command("help", "describe the commands, or one of them", common=False)
    help_.add_argument("task", nargs="?", metavar="COMMAND", help="the command to describe")
    run = command("run", "run one command in the environment of the application")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command, with its arguments")
    _add_start(command("start", "start the application, or some of its process types"))
    command("version", "print the version", common=False)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-e", "--env", metavar="FILE,FILE", help="environment files; later ones win (default: .env)")
    parser.add_argument(
        "-d", "--app-root", metavar="DIR", help="where the Procfile and the environment files are (default: .)"
    )
    parser.add_argument("--root", metavar="DIR", help="as -d, and the processes run in this directory")
    parser.add_argument("-f", "--procfile", metavar="FILE", help="path of the Procfile (default: Procfile)")
    parser.add_argument("--color", "--colour", action="store_true", dest="colour", help="print in colour")
    parser.add_argument("--no-color", "--no-colour", action="store_false", dest="colour", help="never print in colour")
    parser.add_argument("--no-prefix", action="store_false", dest="prefix", help="print the bare lines")
    parser.add_argument("--timestamp", action="store_true", help="begin every line with the time of day (default)")
    parser.add_argument("--no-timestamp", action="store_false", dest="timestamp", help="print no time of day")
    parser.add_argument("-v", "--version", action="version", version=f"%(prog)s {__version__}")


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", "--port", metavar="N", help="port of the first process (default: 5000)")
    parser.add_argument(
        "-c", "--concurrency", metavar=FORMATION, help="how many of each type to run; one of those not named"
    )
    parser.add_argument(
        "-m", "--formation", metavar=FORMATION, help="as -c, but none of those not named; `all` names every type"
    )
    parser.add_argument("-q", "--quiet", metavar="NAME,NAME", help="processes whose output is not shown")
    parser.add_argument(
        "-t", "--timeout", metavar="SECONDS", help="from SIGTERM to SIGKILL when processes are stopped (default: 5)"
    )
    parser.add_argument("names", nargs="*", metavar="TYPE", default=[], help="the types to start (default: all)")
