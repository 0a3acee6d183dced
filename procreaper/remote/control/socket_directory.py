"""The private directory of the control sockets: its path, the names of the sockets, and the search for them.

Rules: uses nothing that another user could have made or could access. Never connects to a socket: a caller that does so
and is refused has the socket removed.

Theory of operation. The directory is `$XDG_RUNTIME_DIR/procreaper`. If that directory is not ours, or its path is too
long for a socket, it is `/tmp/procreaper-UID`. If another user has made that one, which we cannot undo, it is
`$XDG_STATE_HOME/procreaper/sockets`. A search covers all three. The name of a socket consists of a hash of the app's
root, the app's pid and a few random digits, so that apps of one root can run side by side and no name is used twice. A
socket gets this name once it listens, so a socket with such a name that refuses a connection is dead for good.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from procreaper.descriptors import retry_with_reserve
from procreaper.errors import ProcreaperError, reason_of

# The longest path of a socket in bytes: the size of the kernel's field, without the NUL at its end.
LONGEST_PATH = 103 if sys.platform == "darwin" else 107
FALLBACK = "/tmp/procreaper-{uid}"
NAME = r"(?P<root>[0-9a-f]{8})-(?P<pid>[0-9]+)-[0-9a-f]{4}\.sock"
# The largest prime below 2**32.
LARGEST_PRIME = 2**32 - 5
# The suffix of a socket that does not listen yet. After this number of seconds, it was abandoned.
UNFINISHED = ".new"
UNFINISHED_FOR = 60.0
BACKLOG = 100
# Flags of inotify: report that the file lost a link, was deleted or was renamed; and do not follow a symbolic link.
IN_ATTRIB, IN_DELETE_SELF, IN_MOVE_SELF, IN_DONT_FOLLOW = 0x4, 0x400, 0x800, 0x0200_0000
# Seconds between two attempts to acquire a lock.
LOCK_INTERVAL = 0.02


# No named tuples here: an app imports this while its first child starts, and each named tuple would take 0.1 ms.


class ListeningSocket:
    """A listening socket and its path."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        self.socket = listening
        self.path = path
        self._file = _identify(path)

    @property
    def is_in_place(self) -> bool:
        """Whether a client that connects to the path reaches this socket."""
        return self._file is not None and self._file == _identify(self.path)

    def close(self) -> None:
        """Stop listening, and remove the path unless another socket has it now."""
        if self.is_in_place:
            with suppress(OSError):
                os.unlink(self.path)
        self.socket.close()

    def watch(self) -> int | None:
        """Open a descriptor that becomes readable when the path is removed, by inotify; return None if that is
        impossible.

        Changes of other files in the directory do not make it readable, so an idle app does not wake up for them.
        """
        if sys.platform != "linux":
            return None
        try:
            # Not `ctypes` itself, which takes two milliseconds to import.
            import _ctypes

            program = _ctypes.dlopen(cast("str", None), 0)
            inotify_init1 = _ctypes.dlsym(program, "inotify_init1")
            inotify_add_watch = _ctypes.dlsym(program, "inotify_add_watch")
            descriptor = _ctypes.call_function(inotify_init1, (os.O_NONBLOCK | os.O_CLOEXEC,))
            if descriptor < 0:
                return None
            what = IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_DONT_FOLLOW
            if _ctypes.call_function(inotify_add_watch, (descriptor, os.fsencode(self.path), what)) < 0:
                os.close(descriptor)
                return None
        except (ImportError, AttributeError, OSError):
            return None
        return int(descriptor)


def open_socket(root: str, environment: Mapping[str, str]) -> ListeningSocket:
    """Open a listening socket for the app of this root (absolute, without symbolic links).

    The socket does not block, and no child inherits it. Raises ProcreaperError if no socket can be made.
    """
    directory = _choose_directory(environment)
    try:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        _require_private_directory(directory)
        return _listen_at(os.path.join(directory, f"{hash_root(root)}-{os.getpid()}-{os.urandom(2).hex()}"))
    except OSError as error:
        reason = reason_of(error)
        raise ProcreaperError(
            f"no control socket can be made in `{directory}`: {reason}",
            hint="free space or change its permissions, or set XDG_RUNTIME_DIR to another directory of your own",
        ) from error


class BusyError(ProcreaperError):
    """Another program has held a lock for too long."""


class Lock:
    """A lock that one program at a time holds, until `release` or its end. Processes that it forks may keep a copy."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor: int | None = descriptor
        self._path = path

    def release(self) -> None:
        """Release the lock. Do nothing if it was released before."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            # Remove the file while we hold the lock. A program that waits for the lock notices that the file is gone.
            os.unlink(self._path)
        os.close(self._descriptor)
        self._descriptor = None


def acquire_lock(root: str, environment: Mapping[str, str], patience: float) -> Lock:
    """Wait until no other `start -D` of this root is under way.

    `root` is absolute, without symbolic links. Raises BusyError after `patience` seconds, and ProcreaperError if the
    lock file cannot be made.
    """
    directory = _choose_directory(environment)
    path = os.path.join(directory, f"{hash_root(root)}.lock")
    until = time.monotonic() + patience
    try:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        _require_private_directory(directory)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            if _try_to_lock(descriptor, path):
                return Lock(descriptor, path)
            os.close(descriptor)
            if time.monotonic() > until:
                raise BusyError(
                    f"another `procreaper start -D` of this directory has been under way for {patience:g} s",
                    hint="end it, or `procreaper start -D --new` does not wait for it",
                )
            time.sleep(LOCK_INTERVAL)
    except OSError as error:
        raise ProcreaperError(f"`{path}` cannot be locked: {reason_of(error)}") from error


def find_sockets(
    environment: Mapping[str, str], root: str | None = None
) -> tuple[tuple[str, ...], tuple[ProcreaperError, ...]]:
    """Return the sockets of all apps of this user, or of one root, by pid; and the errors of unusable directories.

    Some sockets may be dead, or belong to another root with the same hash.
    """
    found: list[tuple[int, str]] = []
    errors: list[ProcreaperError] = []
    kept = _kept_directory(environment)
    for directory in dict.fromkeys((_own_directory(environment), _fallback(), kept)):
        if directory is None or (directory == _fallback() and kept is not None and _belongs_to_another_user(directory)):
            # A directory of another user has none of our sockets.
            continue
        try:
            _require_private_directory(directory)
            names = os.listdir(directory)
        except FileNotFoundError:
            continue
        except ProcreaperError as error:
            errors.append(error)
            continue
        except OSError as error:
            reason = reason_of(error)
            hint = "change its permissions, or remove it"
            errors.append(ProcreaperError(f"`{directory}` cannot be read: {reason}", hint=hint))
            continue
        for name in names:
            path = os.path.join(directory, name)
            if match := re.fullmatch(NAME, name):
                if root is None or match["root"] == hash_root(root):
                    found.append((int(match["pid"]), path))
            elif name.endswith(UNFINISHED):
                _remove_unfinished(path)
    return tuple(path for _, path in sorted(found)), tuple(errors)


def pid_of(path: str) -> int | None:
    """Return the pid in the path of an app's socket, or None for another kind of path."""
    match = re.fullmatch(NAME, os.path.basename(path))
    return None if match is None else int(match["pid"])


def is_socket_of(path: str, root: str) -> bool:
    """Whether the name of this socket is that of an app with this root (absolute, without symbolic links)."""
    return os.path.basename(path).startswith(f"{hash_root(root)}-")


def remove_dead_socket(path: str) -> None:
    """Remove a socket that has refused a connection, unless its app may be alive but slow."""
    pid = pid_of(path)
    if pid is None:
        return
    if sys.platform != "linux":
        # Other systems also refuse a connection when the queue is full.
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            pass
        except OSError:
            return
        else:
            return
    with suppress(OSError):
        os.unlink(path)


def _try_to_lock(descriptor: int, path: str) -> bool:
    """Lock this file. Return False if another program has locked it, or if `path` is another file by now."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = os.stat(path)
    except (BlockingIOError, FileNotFoundError):
        return False
    locked = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (locked.st_dev, locked.st_ino)


def _choose_directory(environment: Mapping[str, str]) -> str:
    """Return the directory for a new socket."""
    own = _own_directory(environment)
    if own is None or not os.access(os.path.dirname(own), os.W_OK | os.X_OK):
        return _choose_fallback(environment)
    return own


def _choose_fallback(environment: Mapping[str, str]) -> str:
    kept = _kept_directory(environment)
    if kept is None or not _belongs_to_another_user(_fallback()):
        return _fallback()
    try:
        os.makedirs(os.path.dirname(kept), 0o700, exist_ok=True)
    except OSError:
        # The error message is then about the fallback, which the user can repair.
        return _fallback()
    return kept


def _kept_directory(environment: Mapping[str, str]) -> str | None:
    """Return the directory in the state directory; None if its path is too long for a socket."""
    directory = os.path.join(state_directory(environment), "sockets")
    return directory if _leaves_room(directory) else None


def _belongs_to_another_user(path: str) -> bool:
    """Whether this belongs to another user."""
    try:
        return os.lstat(path).st_uid != os.geteuid()
    except OSError:
        return False


def _leaves_room(directory: str) -> bool:
    longest = os.path.join(directory, f"{hash_root('')}-{2**31}-0000.sock")
    return len(os.fsencode(longest)) <= LONGEST_PATH


def _own_directory(environment: Mapping[str, str]) -> str | None:
    """Return the directory in XDG_RUNTIME_DIR; None if that is not ours, or if the path is too long for a socket."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    # The XDG specification demands that a relative path is ignored.
    if not os.path.isabs(runtime):
        return None
    try:
        status = os.stat(runtime)
    except (OSError, ValueError):
        return None
    directory = os.path.join(runtime, "procreaper")
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return directory if is_own and _leaves_room(directory) else None


def _fallback() -> str:
    return FALLBACK.format(uid=os.geteuid())


def _require_private_directory(directory: str) -> None:
    """Raise ProcreaperError unless this is a directory of ours that is closed to other users; OSError if there is
    none.
    """
    status = os.lstat(directory)
    if stat.S_ISLNK(status.st_mode):
        fault = "is a symbolic link"
    elif not stat.S_ISDIR(status.st_mode):
        fault = "is not a directory"
    elif status.st_uid != os.geteuid():
        fault = f"belongs to another user (uid {status.st_uid})"
    elif status.st_mode & 0o077:
        fault = f"is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
        hint = f"`chmod 700 {directory}`, if you trust what is in it; else remove it"
        raise ProcreaperError(f"the directory for control sockets, `{directory}`, {fault}", hint=hint)
    else:
        return
    hint = "remove it, or set XDG_RUNTIME_DIR to a directory of your own"
    raise ProcreaperError(f"the directory for control sockets, `{directory}`, {fault}", hint=hint)


def _listen_at(stem: str) -> ListeningSocket:
    unfinished, path = stem + UNFINISHED, f"{stem}.sock"
    listening = retry_with_reserve(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    try:
        listening.bind(unfinished)
        # Set this whatever the umask is; the directory keeps other users out until then.
        os.chmod(unfinished, 0o600)
        listening.listen(BACKLOG)
        listening.setblocking(False)
        os.rename(unfinished, path)
    except OSError:
        listening.close()
        with suppress(OSError):
            os.unlink(unfinished)
        raise
    return ListeningSocket(listening, path)


def _identify(path: str) -> tuple[int, int] | None:
    """Return the device and inode of the file at this path, or None."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_unfinished(path: str) -> None:
    """Remove a socket whose maker was ended before it listened."""
    with suppress(OSError):
        if time.time() - os.lstat(path).st_mtime > UNFINISHED_FOR:
            os.unlink(path)


def state_directory(environment: Mapping[str, str]) -> str:
    """Return the directory for data that outlives an app. It may not exist."""
    home = environment.get("XDG_STATE_HOME", "")
    # The XDG specification demands that a relative path is ignored.
    return os.path.join(home if os.path.isabs(home) else os.path.expanduser("~/.local/state"), "procreaper")


def state_files(environment: Mapping[str, str], ending: str) -> list[str]:
    """Return the names of the files in the state directory with this ending; none if it cannot be read."""
    with suppress(OSError):
        return [name for name in os.listdir(state_directory(environment)) if name.endswith(ending)]
    return []


def hash_root(root: str) -> str:
    """Return eight hexadecimal digits for a root, which the names of its files contain."""
    # The hash only narrows the search: the greeting has the root itself.
    return f"{int.from_bytes(os.fsencode(root)) % LARGEST_PRIME:08x}"
