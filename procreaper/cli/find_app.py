"""Find the running app for a command: by its directory, and by its pid if several apps run there.

Rules: remove the socket of a dead app, and report an app that does not answer.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from procreaper.cli.messages import print_problems
from procreaper.errors import USAGE_ERROR, ProcreaperError, enumerate_words, reason_of

if TYPE_CHECKING:
    from procreaper.cli.commands.ended import EndedApp
    from procreaper.cli.commands.leftovers import Named
    from procreaper.remote.api.protocol import Greeting, ProcessStatus
    from procreaper.remote.control.client import Client

# Seconds that each app may take to answer if there are several.
SEVERAL_APPS_LIMIT = 5.0


class NoAppError(ProcreaperError):
    """No app runs in the directory. `last` is the last background app that ended there, if its record exists."""

    def __init__(self, message: str, *, hint: str, last: EndedApp | None = None) -> None:
        super().__init__(message, hint=hint)
        self.last = last
        # The last lines of the process that caused the end; `ps` adds them.
        self.lines = ""

    def __str__(self) -> str:
        if self.last is None:
            return super().__str__()
        lines = (f"procreaper: error: {self.message}", f"  {self.last.explain(time.time())}", self.lines)
        return "\n".join((*filter(None, lines), f"  hint: {self.hint}"))


class AppSelector(NamedTuple):
    """Selects an app: `root` without symbolic links, the directory as `given`, and a pid (None: any)."""

    root: str
    given: str
    pid: int | None = None

    @classmethod
    def of(cls, directory: str, pid: str | None) -> AppSelector:
        """Read the flags `-d` and `--pid`. Raises ProcreaperError for a wrong pid, or if there is no such directory."""
        if pid is not None and not (pid.isascii() and pid.isdecimal()):
            hint = "`procreaper ls` lists the running apps with their pids"
            raise ProcreaperError(f"--pid {pid}: not a pid", hint=hint, exit_code=USAGE_ERROR)
        if not os.path.isdir(directory):
            raise ProcreaperError(f"-d {directory}: this is not a directory", hint="name the directory of the app")
        return cls(os.path.realpath(directory), directory, None if pid is None else int(pid))


def find_app(selector: AppSelector) -> Client:
    """Connect to the selected app. Raises NoAppError, and ProcreaperError if several apps match."""
    return _require_one(find_apps(selector), selector)


def _require_one(apps: list[Client], selector: AppSelector) -> Client:
    if len(apps) > 1:
        for app in apps:
            app.close()
        pids = enumerate_words(f"--pid {app.greeting.pid}" for app in apps)
        raise ProcreaperError(
            f"{len(apps)} apps of {_describe_place(selector)} are running", hint=f"choose one: {pids}"
        )
    return apps[0]


def find_app_with(selector: AppSelector, names: Iterable[str]) -> Client:
    """Connect to the app that has processes of all these names. Raises as `find_app`, and RefusedError."""
    from procreaper.remote.api.protocol import StatusRequest
    from procreaper.remote.control.client import RefusedError

    apps = find_apps(selector)
    if len(apps) == 1:
        # The app itself refuses names that it does not know.
        return apps[0]
    having: list[Client] = []
    refused: RefusedError | None = None
    for app in apps:
        try:
            app.ask(StatusRequest(0, tuple(names)), limit=SEVERAL_APPS_LIMIT)
            having.append(app)
        except RefusedError as error:
            refused = error
            app.close()
    if not having and refused is not None:
        raise refused
    return _require_one(having, selector)


def assign_names(names: Sequence[str], apps: Sequence[Client]) -> list[tuple[Client, tuple[str, ...]]]:
    """Assign each name to the apps that know it.

    No names mean all processes. Raises RefusedError if no app knows a name. Of several apps, one that does not answer
    is reported and left out.
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
                app.ask(StatusRequest(0, (name,)), limit=SEVERAL_APPS_LIMIT)
                known[name].append(app)
            except RefusedError as error:
                refused = error
            except (GoneError, SilentError) as error:
                answering.remove(app)
                if isinstance(error, SilentError):
                    print_problems([error])
        if not known[name] and refused is not None:
            raise refused
    asked = [(app, tuple(name for name in names if app in known[name])) for app in apps]
    return [(app, some) for app, some in asked if some]


def find_apps(selector: AppSelector) -> list[Client]:
    """Connect to all apps of a root, in the order of their pids. Raises NoAppError if there is none."""
    root = os.fsencode(selector.root).decode(errors="replace")
    apps, silent, errors = _connect(selector.root)
    errors += (app.error for app in silent if selector.pid in (None, app.pid))
    meant: list[Client] = []
    for app in apps:
        if app.greeting.root == root and selector.pid in (None, app.greeting.pid):
            meant.append(app)
        else:
            app.close()
    if meant:
        print_problems(errors)
        return meant
    if errors:
        raise errors[0]
    hint = "`procreaper start` starts it, `procreaper ls` lists the running apps"
    which = "" if selector.pid is None else f" with pid {selector.pid}"
    from procreaper.cli.commands.ended import find_last_end

    last = find_last_end(selector.root, os.environ, selector.pid)
    if last is not None and last.notices:
        hint = f"`procreaper logs` shows its last lines, {hint}"
    raise NoAppError(f"no app of {_describe_place(selector)}{which} is running", hint=hint, last=last)


def warn_of_leftovers(root: str, processes: Sequence[Named], running: Iterable[int | None] = ()) -> None:
    """Warn about detached processes of an earlier start that still run."""
    from procreaper.remote.control.socket_directory import state_files

    if state_files(os.environ, ".json"):
        # Imported here: most projects have no detached process.
        from procreaper.cli.commands.leftovers import find_leftovers

        print_problems(find_leftovers(root, os.environ, processes, running))


def find_all_apps() -> tuple[list[Client], list[SilentApp]]:
    """Connect to all apps of this user, in the order of their pids; also return the apps that do not answer."""
    apps, silent, errors = _connect(None)
    print_problems((*errors, *(app.error for app in silent)))
    return apps, silent


def ask_status(
    asked: Sequence[tuple[Client, tuple[str, ...]]],
) -> tuple[list[AppStatus], list[tuple[Client, ProcreaperError]]]:
    """Ask each app for the status of its names, and close the connections; also return the apps that do not answer.

    The apps are asked in parallel, so several apps that hang cost one time limit together. An app that has just ended
    is left out. Raises RefusedError if an app does not know a name.
    """
    from procreaper.remote.api.protocol import StatusRequest, StatusResult
    from procreaper.remote.control.client import GREETING_LIMIT, GoneError, RefusedError

    limit = GREETING_LIMIT if len(asked) < 2 else SEVERAL_APPS_LIMIT
    answers: dict[Client, StatusResult | ProcreaperError] = {}

    def ask(app: Client, names: tuple[str, ...]) -> None:
        try:
            with app:
                answers[app] = app.ask(StatusRequest(0, names), limit=limit)
        except ProcreaperError as error:
            answers[app] = error
        except OSError as error:
            answers[app] = ProcreaperError(f"cannot ask the app (pid {app.greeting.pid}): {reason_of(error)}")

    _run_in_parallel([partial(ask, app, names) for app, names in asked])
    seen: list[AppStatus] = []
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
                seen.append(AppStatus(app.greeting, processes))
    return seen, silent


def find_other_apps(limit: float) -> list[Client]:
    """Connect to all other apps of this user that answer within `limit` seconds."""
    apps, _, _ = _connect(None, limit)
    return [app for app in apps if app.greeting.pid != os.getpid()]


def _connect(
    root: str | None, limit: float | None = None
) -> tuple[list[Client], list[SilentApp], list[ProcreaperError]]:
    from procreaper.remote.control.client import GREETING_LIMIT
    from procreaper.remote.control.socket_directory import find_sockets

    paths, refused = find_sockets(os.environ, root)
    if limit is None:
        limit = GREETING_LIMIT if len(paths) < 2 else SEVERAL_APPS_LIMIT
    attempts = [_Attempt(path, limit) for path in paths]
    # In parallel: several apps that do not answer cost one time limit together.
    _run_in_parallel([attempt.connect for attempt in attempts])
    apps = [attempt.app for attempt in attempts if attempt.app is not None]
    silent = [SilentApp(attempt.path, attempt.silence) for attempt in attempts if attempt.silence is not None]
    return apps, silent, [*refused, *(attempt.error for attempt in attempts if attempt.error is not None)]


def _run_in_parallel(actions: Sequence[Callable[[], None]]) -> None:
    """Run each action in its own thread, and wait for all of them."""
    if len(actions) < 2:
        for action in actions:
            action()
        return
    # Imported here: usually there is only one app.
    import threading

    threads = []
    for action in actions:
        thread = threading.Thread(target=action, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no thread left: run the action here.
            action()
        else:
            threads.append(thread)
    for thread in threads:
        thread.join()


class AppStatus(NamedTuple):
    """The answer of an app: its greeting, and the requested processes."""

    greeting: Greeting
    processes: tuple[ProcessStatus, ...]


class SilentApp(NamedTuple):
    """An app that does not answer at its socket, and the error to report."""

    path: str
    error: ProcreaperError

    @property
    def pid(self) -> int | None:
        """Its pid, from the name of its socket."""
        from procreaper.remote.control.socket_directory import pid_of

        return pid_of(self.path)

    @property
    def root(self) -> str | None:
        """Its root if the system shows it: the working directory of the app, or a directory in its command line."""
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
    """One attempt to connect. Sets `app`, `silence` (it does not answer) or `error`; nothing if the app has ended."""

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
            # The app has just ended.
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
    """Whether Ctrl-Z, a signal or a debugger has stopped this process; False where there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name before the state may contain spaces and brackets.
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def _describe_place(selector: AppSelector) -> str:
    return "this directory" if selector.given == "." else f"`{selector.given}`"


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C into KeyboardInterrupt, unless SIGINT is ignored. Elsewhere Ctrl-C ends a command at once."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
