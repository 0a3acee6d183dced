"""The running app that a command is about: found by its directory, and by its pid where several run there.

Rules: what is dead is cleared away, what does not answer is told of.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from procreaper.cli.messages import report
from procreaper.errors import USAGE_ERROR, ProcreaperError, enumerate_words, reason_of

if TYPE_CHECKING:
    from procreaper.cli.commands.ended import Ended
    from procreaper.cli.commands.leftovers import Named
    from procreaper.remote.api.protocol import Greeting, ProcessStatus
    from procreaper.remote.control.client import Client

# How long each of several apps may take to answer, in seconds.
LIMIT_OF_SEVERAL = 5.0


class NoAppError(ProcreaperError):
    """No app runs in a directory; `last` is the app that has ended there in the background, if that is known."""

    def __init__(self, message: str, *, hint: str, last: Ended | None = None) -> None:
        super().__init__(message, hint=hint)
        self.last = last
        # What `ps` adds: the last lines of the process that is to blame.
        self.lines = ""

    def __str__(self) -> str:
        if self.last is None:
            return super().__str__()
        lines = (f"procreaper: error: {self.message}", f"  {self.last.explain(time.time())}", self.lines)
        return "\n".join((*filter(None, lines), f"  hint: {self.hint}"))


class AppSelector(NamedTuple):
    """Where an app is looked for: its root, without symbolic links, as given, and its pid (None: there is but one)."""

    root: str
    given: str
    pid: int | None = None

    @classmethod
    def of(cls, directory: str, pid: str | None) -> AppSelector:
        """From what the command line says. Raises ProcreaperError for what is no pid, and for no directory."""
        if pid is not None and not (pid.isascii() and pid.isdecimal()):
            hint = "`procreaper ls` lists the running apps with their pids"
            raise ProcreaperError(f"--pid {pid}: not a pid", hint=hint, exit_code=USAGE_ERROR)
        if not os.path.isdir(directory):
            raise ProcreaperError(f"-d {directory}: this is not a directory", hint="name the directory of the app")
        return cls(os.path.realpath(directory), directory, None if pid is None else int(pid))


def find_app(place: AppSelector) -> Client:
    """A connection to the one app that is meant. Raises NoAppError, or ProcreaperError where it is not clear which."""
    return _the_only(find_apps(place), place)


def _the_only(apps: list[Client], place: AppSelector) -> Client:
    if len(apps) > 1:
        for app in apps:
            app.close()
        pids = enumerate_words(f"--pid {app.greeting.pid}" for app in apps)
        raise ProcreaperError(f"{len(apps)} apps of {_name(place)} are running", hint=f"choose one: {pids}")
    return apps[0]


def find_app_with(place: AppSelector, names: Iterable[str]) -> Client:
    """A connection to the one app that has processes of all these names. Raises as `find_app`, and RefusedError."""
    from procreaper.remote.api.protocol import StatusRequest
    from procreaper.remote.control.client import RefusedError

    apps = find_apps(place)
    if len(apps) == 1:
        # It will say itself what it does not know.
        return apps[0]
    having: list[Client] = []
    refused: RefusedError | None = None
    for app in apps:
        try:
            app.ask(StatusRequest(0, tuple(names)), limit=LIMIT_OF_SEVERAL)
            having.append(app)
        except RefusedError as error:
            refused = error
            app.close()
    if not having and refused is not None:
        raise refused
    return _the_only(having, place)


def share_out(names: Sequence[str], apps: Sequence[Client]) -> list[tuple[Client, tuple[str, ...]]]:
    """Whom to ask for which of these names: of several apps, each for those that it knows.

    No names stand for all. Raises RefusedError where none of them knows one. An app that does not answer is reported
    and left out, unless it is the only one.
    """
    from procreaper.remote.api.protocol import StatusRequest
    from procreaper.remote.control.client import GoneError, RefusedError, SilentError

    names = tuple(names)
    if not names or len(apps) == 1:
        return [(app, names) for app in apps]
    known: dict[str, list[Client]] = {}
    answering = list(apps)
    for name in names:
        refused: RefusedError | None = None
        known[name] = []
        for app in tuple(answering):
            try:
                app.ask(StatusRequest(0, (name,)), limit=LIMIT_OF_SEVERAL)
                known[name].append(app)
            except RefusedError as error:
                refused = error
            except (GoneError, SilentError) as error:
                answering.remove(app)
                if isinstance(error, SilentError):
                    report([error])
        if not known[name] and refused is not None:
            raise refused
    asked = [(app, tuple(name for name in names if app in known[name])) for app in apps]
    return [(app, some) for app, some in asked if some]


def find_apps(place: AppSelector) -> list[Client]:
    """Connections to all apps of a root, by pid. Raises NoAppError where there is none."""
    root = os.fsencode(place.root).decode(errors="replace")
    apps, silent, errors = _connect(place.root)
    errors += (app.error for app in silent if place.pid in (None, app.pid))
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
    hint = "`procreaper start` starts it, `procreaper ls` lists the running apps"
    which = "" if place.pid is None else f" with pid {place.pid}"
    from procreaper.cli.commands.ended import find_last

    last = find_last(place.root, os.environ, place.pid)
    if last is not None and last.notices:
        hint = f"`procreaper logs` shows its last lines, {hint}"
    raise NoAppError(f"no app of {_name(place)}{which} is running", hint=hint, last=last)


def report_leftovers(root: str, processes: Sequence[Named], running: Iterable[int | None] = ()) -> None:
    """Warn of processes of an earlier start that still run, because they were detached then."""
    from procreaper.remote.control.socket_directory import state_files

    if state_files(os.environ, ".json"):
        # Not before: most projects have nothing that is detached.
        from procreaper.cli.commands.leftovers import find_leftovers

        report(find_leftovers(root, os.environ, processes, running))


def find_all() -> tuple[list[Client], list[Silent]]:
    """Connections to all apps of this user, by pid, and the apps that do not answer."""
    apps, silent, errors = _connect(None)
    report((*errors, *(app.error for app in silent)))
    return apps, silent


def look(asked: Sequence[tuple[Client, tuple[str, ...]]]) -> tuple[list[Seen], list[tuple[Client, ProcreaperError]]]:
    """What these names stand for in each app, and the apps that give no answer; then part from all of them.

    All are asked at once, so that several which hang cost one limit together. One that has just ended is left out.
    Raises RefusedError where an app does not know a name.
    """
    from procreaper.remote.api.protocol import StatusRequest, StatusResult
    from procreaper.remote.control.client import GREETING_LIMIT, GoneError, RefusedError

    limit = GREETING_LIMIT if len(asked) < 2 else LIMIT_OF_SEVERAL
    answers: dict[Client, StatusResult | ProcreaperError] = {}

    def ask(app: Client, names: tuple[str, ...]) -> None:
        try:
            with app:
                answers[app] = app.ask(StatusRequest(0, names), limit=limit)
        except ProcreaperError as error:
            answers[app] = error
        except OSError as error:
            answers[app] = ProcreaperError(f"cannot ask the app (pid {app.greeting.pid}): {reason_of(error)}")

    _at_once([partial(ask, app, names) for app, names in asked])
    seen: list[Seen] = []
    silent: list[tuple[Client, ProcreaperError]] = []
    for app, names in asked:
        match answers[app]:
            case GoneError():
                continue
            case RefusedError() as error if names:
                raise error
            case ProcreaperError() as error:
                silent.append((app, error))
            case StatusResult(processes=processes):
                seen.append(Seen(app.greeting, processes))
    return seen, silent


def find_others(limit: float) -> list[Client]:
    """Connections to all apps of this user but the one that runs here, as far as they answer within `limit` seconds."""
    apps, _, _ = _connect(None, limit)
    return [app for app in apps if app.greeting.pid != os.getpid()]


def _connect(root: str | None, limit: float | None = None) -> tuple[list[Client], list[Silent], list[ProcreaperError]]:
    from procreaper.remote.control.client import GREETING_LIMIT
    from procreaper.remote.control.socket_directory import find_sockets

    paths, refused = find_sockets(os.environ, root)
    if limit is None:
        limit = GREETING_LIMIT if len(paths) < 2 else LIMIT_OF_SEVERAL
    attempts = [_Attempt(path, limit) for path in paths]
    # So that apps that do not answer delay the others by one limit together.
    _at_once([attempt.connect for attempt in attempts])
    apps = [attempt.app for attempt in attempts if attempt.app is not None]
    silent = [Silent(attempt.path, attempt.silence) for attempt in attempts if attempt.silence is not None]
    return apps, silent, [*refused, *(attempt.error for attempt in attempts if attempt.error is not None)]


def _at_once(actions: Sequence[Callable[[], None]]) -> None:
    """Run all of them, each in a thread of its own, and wait for their end."""
    if len(actions) < 2:
        for action in actions:
            action()
        return
    # Not at the top: one app at a time is the rule.
    import threading

    threads = []
    for action in actions:
        thread = threading.Thread(target=action, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system gives no thread, so this one runs alone.
            action()
        else:
            threads.append(thread)
    for thread in threads:
        thread.join()


class Seen(NamedTuple):
    """What an app has answered: who it is, and the processes that were asked for."""

    greeting: Greeting
    processes: tuple[ProcessStatus, ...]


class Silent(NamedTuple):
    """An app that does not answer at its socket, and what to say of it."""

    path: str
    error: ProcreaperError

    @property
    def pid(self) -> int | None:
        """Its pid, by the name of its socket."""
        from procreaper.remote.control.socket_directory import pid_of

        return pid_of(self.path)

    @property
    def root(self) -> str | None:
        """Its root, as far as the system tells: where it was started, or a directory that its command line names."""
        from procreaper.remote.control.socket_directory import is_socket_of

        try:
            directory = os.readlink(f"/proc/{self.pid}/cwd")
            with open(f"/proc/{self.pid}/cmdline", "rb") as file:
                words = os.fsdecode(file.read()).split("\0")
        except OSError:
            return None
        candidates = (os.path.realpath(os.path.join(directory, word)) for word in ("", *words))
        found = next((candidate for candidate in candidates if is_socket_of(self.path, candidate)), None)
        return None if found is None else os.fsencode(found).decode(errors="replace")


class _Attempt:
    """To connect to a socket: makes a connection to the `app`, finds its `silence` or another `error`, or nothing."""

    def __init__(self, path: str, limit: float) -> None:
        self.path = path
        self.app: Client | None = None
        self.silence: ProcreaperError | None = None
        self.error: ProcreaperError | None = None
        self._limit = limit

    def connect(self) -> None:
        from procreaper.remote.control.client import Client, GoneError, SilentError
        from procreaper.remote.control.socket_directory import pid_of, remove_dead_socket

        pid = pid_of(self.path)
        if pid is not None and _is_suspended(pid):
            hint = f"`fg` in its terminal resumes it, or `kill -CONT {pid}`"
            self.silence = ProcreaperError(f"the app (pid {pid}) is suspended, so it does not answer", hint=hint)
            return
        try:
            self.app = Client(self.path, limit=self._limit)
        except ConnectionRefusedError:
            remove_dead_socket(self.path)
        except (FileNotFoundError, GoneError):
            # It has ended just now.
            pass
        except SilentError as error:
            said = None if error.hint is None else error.hint.replace("PID", str(pid))
            self.silence = ProcreaperError(error.message, hint=said)
        except ProcreaperError as error:
            self.error = error
        except OSError as error:
            reason = reason_of(error)
            hint = "check its permissions"
            self.error = ProcreaperError(f"cannot connect to `{self.path}`: {reason}", hint=hint)


def _is_suspended(pid: int) -> bool:
    """Whether Ctrl-Z, a signal or a debugger has stopped this process, as far as the system tells."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name before it may have anything in it.
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def _name(place: AppSelector) -> str:
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
