"""The running app that a command is about: found by its directory, and by its pid where several run there.

Rules: what is dead is cleared away, what does not answer is told of.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from procreaper.cli.problems import report
from procreaper.cli.statuses import USAGE_ERROR
from procreaper.errors import ProcreaperError, reason_of
from procreaper.suggest import enumerate_words

if TYPE_CHECKING:
    from procreaper.control.client import Client


class NoAppError(ProcreaperError):
    """No app runs where one was looked for."""


class Place(NamedTuple):
    """Where an app is looked for: its root, without symbolic links, as given, and its pid (None: there is but one)."""

    root: str
    given: str
    pid: int | None = None

    @classmethod
    def of(cls, directory: str, pid: str | None) -> Place:
        """From what the command line says. Raises ProcreaperError for what is no pid, and for no directory."""
        if pid is not None and not (pid.isascii() and pid.isdecimal()):
            hint = "`procreaper ls` lists the apps that run, with their pids"
            raise ProcreaperError(f"--pid {pid}: this is not a pid", hint=hint, exit_code=USAGE_ERROR)
        if not os.path.isdir(directory):
            raise ProcreaperError(f"-d {directory}: this is not a directory", hint="name the directory of the app")
        return cls(os.path.realpath(directory), directory, None if pid is None else int(pid))


def find_app(place: Place) -> Client:
    """A connection to the one app that is meant. Raises NoAppError, or ProcreaperError where it is not clear which."""
    return _the_only(find_apps(place), place)


def _the_only(apps: list[Client], place: Place) -> Client:
    if len(apps) > 1:
        for app in apps:
            app.close()
        pids = enumerate_words(f"--pid {app.greeting.pid}" for app in apps)
        raise ProcreaperError(f"{len(apps)} apps of {_name(place)} are running", hint=f"choose one: {pids}")
    return apps[0]


def find_app_with(place: Place, names: Iterable[str]) -> Client:
    """A connection to the one app that has processes of all these names. Raises as `find_app`, and RefusedError."""
    from procreaper.control.client import RefusedError
    from procreaper.control.protocol import Look

    apps = find_apps(place)
    if len(apps) == 1:
        # It will say itself what it does not know.
        return apps[0]
    having: list[Client] = []
    refused: RefusedError | None = None
    for app in apps:
        try:
            app.ask(Look(0, tuple(names)))
            having.append(app)
        except RefusedError as error:
            refused = error
            app.close()
    if not having and refused is not None:
        raise refused
    return _the_only(having, place)


def share_out(names: Sequence[str], apps: Sequence[Client]) -> list[tuple[Client, tuple[str, ...]]]:
    """Whom to ask for which of these names: of several apps, each for those that it knows.

    No names stand for all. Raises RefusedError where none of them knows one.
    """
    from procreaper.control.client import RefusedError
    from procreaper.control.protocol import Look

    names = tuple(names)
    if not names or len(apps) == 1:
        return [(app, names) for app in apps]
    known: dict[str, list[Client]] = {}
    for name in names:
        refused: RefusedError | None = None
        known[name] = []
        for app in apps:
            try:
                app.ask(Look(0, (name,)))
                known[name].append(app)
            except RefusedError as error:
                refused = error
        if not known[name] and refused is not None:
            raise refused
    asked = [(app, tuple(name for name in names if app in known[name])) for app in apps]
    return [(app, some) for app, some in asked if some]


def find_apps(place: Place) -> list[Client]:
    """Connections to all apps of a root, by pid. Raises NoAppError where there is none."""
    root = os.fsencode(place.root).decode(errors="replace")
    apps, errors = _connect(place.root)
    meant: list[Client] = []
    for app in apps:
        if app.greeting.root == root and place.pid in (None, app.greeting.pid):
            meant.append(app)
        else:
            app.close()
    if meant:
        report(errors)
        return meant
    if errors:
        raise errors[0]
    hint = "`procreaper start` starts it, `procreaper ls` lists those that run"
    which = "" if place.pid is None else f" with pid {place.pid}"
    raise NoAppError(f"no app of {_name(place)}{which} is running", hint=hint)


def find_all() -> list[Client]:
    """Connections to all apps of this user, by pid."""
    apps, errors = _connect(None)
    report(errors)
    return apps


def _connect(root: str | None) -> tuple[list[Client], list[ProcreaperError]]:
    from procreaper.control.client import Client, GoneError
    from procreaper.control.directory import clear, find

    paths, refused = find(os.environ, root)
    apps: list[Client] = []
    errors = list(refused)
    for path in paths:
        try:
            apps.append(Client(path))
        except ConnectionRefusedError:
            clear(path)
        except (FileNotFoundError, GoneError):
            # It has ended just now.
            continue
        except ProcreaperError as error:
            errors.append(error)
        except OSError as error:
            reason = reason_of(error)
            errors.append(ProcreaperError(f"`{path}` cannot be connected to: {reason}", hint="look at its permissions"))
    return apps, errors


def _name(place: Place) -> str:
    return "this directory" if place.given == "." else f"`{place.given}`"


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C is a KeyboardInterrupt, unless it is ignored; without, it ends a command of ours at once."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
