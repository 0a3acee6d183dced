"""Parse the arguments, and call the command."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from procreaper import __version__
from procreaper.cli import foreman
from procreaper.cli.messages import print_error, print_problems, print_result, run_guarded
from procreaper.cli.parser import parse
from procreaper.errors import ProcreaperError
from procreaper.output.text import Style
from procreaper.project.configure import Options

if TYPE_CHECKING:
    from procreaper.cli.find_app import AppSelector

STDOUT = 1


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    return run_guarded(lambda: _dispatch(arguments))


def _dispatch(arguments: Sequence[str]) -> int:
    try:
        given = parse(arguments)
    except SystemExit:
        # argparse has printed its help, or the version.
        return 0
    match given.command:
        case "version":
            print_result(f"procreaper {__version__}")
            return 0
        case "help":
            return _print_help(getattr(given, "task", None))
        case "attach":
            from procreaper.cli.commands.attach import attach

            return attach(_make_selector(given), given.name, getattr(given, "detach_keys", None))
        case "check":
            from procreaper.cli.commands.check import check

            strict, format_ = getattr(given, "strict", False), getattr(given, "format", "text")
            return check(_options(given), strict=strict, format_=format_)
        case "completion":
            from procreaper.cli.commands.completion import print_completion

            return print_completion(given.shell, given.argv)
        case "logs":
            from procreaper.cli.commands.logs import parse_selection, show_logs

            what = parse_selection(
                given.names,
                getattr(given, "lines", None),
                getattr(given, "log_format", "text"),
                follow=getattr(given, "follow", False),
            )
            # These are names of a running app. It may have other processes than the files.
            given.names = []
            options = _options(given)
            return show_logs(_make_selector(given, options), options, _make_style(given), what)
        case "ls":
            from procreaper.cli.commands.ps import show_apps

            return show_apps(_make_style(given), json=getattr(given, "json", False))
        case "ps":
            from procreaper.cli.commands.ps import show_processes, watch_processes

            if getattr(given, "live", False):
                return watch_processes(_make_selector(given), given.names, _make_style(given))
            return show_processes(
                _make_selector(given), given.names, _make_style(given), json=getattr(given, "json", False)
            )
        case "up" | "stop" | "restart":
            from procreaper.cli.commands.change import change_processes

            return change_processes(_make_selector(given), given.command, given.names)
        case "scale":
            from procreaper.cli.commands.change import scale

            return scale(_make_selector(given), given.counts)
        case "reload":
            from procreaper.cli.commands.change import reload

            return reload(_make_selector(given))
        case "quit":
            from procreaper.cli.commands.change import quit_app

            return quit_app(_make_selector(given))
        case "export":
            return _export(given)
        case "run":
            from procreaper.cli.commands.run import run

            return run(_options(given), given.argv)
        case "schema":
            from procreaper.cli.commands.schema import print_schema

            return print_schema()
        case "start":
            from procreaper.cli.commands.start import start

            typed = frozenset(vars(given))
            options = _options(given)
            return start(options, _make_style(given), typed)
    raise AssertionError(given.command)


def _export(given: Namespace) -> int:
    from procreaper.cli.commands.export import export
    from procreaper.export.app import Choices

    options = _options(given)
    choices = Choices(*(getattr(given, field, None) for field in Choices._fields))
    template_dir, force = getattr(given, "template_dir", None), getattr(given, "force", False)
    return export(options, choices, given.format, given.location, template_dir=template_dir, force=force)


def _print_help(task: str | None) -> int:
    return _dispatch(["--help"] if task is None else [task, "--help"])


def _options(given: Namespace) -> Options:
    """Combine the given options with the defaults of `.foreman`; the given options win."""
    found = foreman.read_defaults()
    print_problems(found.problems)
    defaults = found.values
    # honcho's and foreman's flag for the same setting: the given flag overrides the file.
    overruled = {"concurrency": "formation", "app_root": "root"}
    for name, other in overruled.items():
        if hasattr(given, name):
            defaults.pop(other, None)
    taken, lines = [], {}
    for name, value in defaults.items():
        target = {"color": "colour"}.get(name, name)
        if not hasattr(given, target):
            setattr(given, target, value)
            lines[name] = found.lines[name]
            if name in foreman.TAKEN.get(given.command, foreman.FILES):
                taken.append(name)
    if taken:
        print_error(f"procreaper: {foreman.PATH} sets {', '.join(sorted(taken))}")
    if hasattr(given, "root") and hasattr(given, "app_root"):
        raise ProcreaperError("-d and --root cannot be used together", hint="--root also changes where processes run")
    if "procfile" in lines and not hasattr(given, "root") and not hasattr(given, "app_root"):
        given.cwd = os.path.dirname(given.procfile) or None
    given.foreman = lines
    values = {field: getattr(given, field) for field in Options._fields if hasattr(given, field)}
    return Options(**{**values, **{field: tuple(values.get(field, ())) for field in ("names", "watch")}})


def _make_selector(given: Namespace, options: Options | None = None) -> AppSelector:
    """Make the selector of the app for a command."""
    from procreaper.cli.find_app import AppSelector

    options = _options(given) if options is None else options
    return AppSelector.of(options.root or options.app_root or ".", getattr(given, "pid", None))


def _make_style(given: Namespace) -> Style:
    terminal = os.isatty(STDOUT)
    colour = getattr(given, "colour", None)
    return Style(
        colour=_wants_colour(terminal) if colour is None else colour,
        prefix=getattr(given, "prefix", True),
        timestamps=getattr(given, "timestamp", True),
        terminal=terminal,
    )


def _wants_colour(terminal: bool) -> bool:
    """Decide as no-color.org and force-color.org say; an empty variable does not count."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return os.environ["FORCE_COLOR"] != "0"
    return terminal and os.environ.get("TERM") != "dumb"
