"""Write the files of an export: all or none, and only inside the named directory.

Rules: knows nothing of formats. An existing file is replaced only if it comes from an earlier export: because it equals
the new file, or because it matches the pattern of its exporter (`File.known_by`). The pattern stands for the marker in
our files, or for the whole shape of a file that must equal honcho's and cannot have a marker. All other files need
`force`, which still replaces no directory and follows no link.

Theory of operation. First everything is checked. Then each file is written under a temporary name beside its place, and
finally all are renamed. So a watcher of the directory sees only whole files, and a full disk leaves only the old ones.
Directories are opened one below the other without following links, and again for each file. So a link that appears
meanwhile leads nowhere else, and there may be more directories than open files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from errno import ELOOP, ENOTDIR
from typing import NamedTuple

from procreaper.errors import ConfigError, Problem
from procreaper.export.exporter import File

EXECUTABLE, PLAIN = 0o755, 0o666
NO_FOLLOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Existing(NamedTuple):
    """What exists at the path of a file: its type and mode, and its bytes if it is a regular file."""

    mode: int
    content: bytes | None


def write_files(
    location: str, files: Sequence[File], *, force: bool, tell: Callable[[str], object], names: str | None = None
) -> list[Problem]:
    """Write the files below `location`, creating it if necessary, and pass the path of each to `tell`.

    Returns warnings about other files that still have an effect: those in directories of the export, such as a variable
    of an earlier export, and those that match `names` (`Rendered.names`), such as a process that has since been
    renamed. Raises ConfigError, with every problem, if a file must not be written, and OSError if one cannot be
    written.
    """
    _check_names(files)
    if not location or (os.path.lexists(location) and not os.path.isdir(location)):
        raise ConfigError([Problem("this is not a directory to export to", location or "``", hint="name another one")])
    os.makedirs(location, exist_ok=True)
    top = os.open(location, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        existing = {}
        for file in files:
            with _named(location, file):
                existing[file.path] = _look(top, file.path)
        _check_existing(location, files, existing, force=force)
        with ExitStack() as undoing:
            written = []
            for number, file in enumerate(files):
                # Not made from the name of the file, which may already have the maximum length.
                temporary = f".{os.urandom(4).hex()}.{number}"
                tell(os.path.join(location, file.path))
                with _named(location, file), _directory(top, file.path, undoing) as directory:
                    undoing.callback(_undo, os.unlink, top, os.path.join(os.path.dirname(file.path), temporary))
                    _write(temporary, directory, file, existing[file.path])
                written.append((file, temporary))
            for file, temporary in written:
                with _named(location, file), _directory(top, file.path) as directory:
                    name = os.path.basename(file.path)
                    os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            undoing.pop_all()
        return [*_others(location, top, {file.path for file in files}), *_earlier(location, top, files, names)]
    finally:
        os.close(top)


@contextmanager
def _named(location: str, file: File) -> Iterator[None]:
    """Add the path to each error about a file or a directory above it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.path.join(location, file.path)) from error


def _others(location: str, top: int, paths: set[str]) -> Iterator[Problem]:
    found = []
    for path in sorted({os.path.dirname(path) for path in paths} - {""}):
        with _directory(top, f"{path}/") as directory:
            for name in sorted(os.listdir(directory)):
                inner = f"{path}/{name}"
                if inner not in paths and stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                    found.append(inner)
    if found:
        message = f"not from this export, but still there: {_listed(found)}"
        yield Problem(message, location, hint="remove what is not yours", level="warning")


def _earlier(location: str, top: int, files: Sequence[File], names: str | None) -> Iterator[Problem]:
    written = {file.path.partition("/")[0] for file in files}
    patterns = {(file.path.partition("/")[2], file.known_by) for file in files if file.known_by is not None}
    found = [
        name
        for name in sorted(os.listdir(top))
        if name not in written and names is not None and re.fullmatch(names, name)
        if any(_is_earlier(top, os.path.join(name, inner).rstrip("/"), pattern) for inner, pattern in patterns)
    ]
    if found:
        message = f"from an earlier export, but not from this one: {_listed(found)}"
        yield Problem(message, location, hint="stop and remove what is not of another app", level="warning")


def _is_earlier(top: int, path: str, pattern: str) -> bool:
    with suppress(OSError, ConfigError):
        found = _look(top, path)
        if found is not None and found.content is not None:
            return re.search(pattern, found.content.decode(errors="surrogateescape")) is not None
    return False


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(f"`{path}`" for path in paths)


def _check_names(files: Sequence[File]) -> None:
    problems = []
    seen: dict[str, File] = {}
    for file in files:
        if "\0" in file.path or any(part in ("", ".", "..") for part in file.path.split("/")):
            problems.append(Problem(f"`{file.path}` is not written: it is not below the directory to export to"))
        other = seen.setdefault(file.path, file)
        if other is not file:
            message = f"two processes would both be exported to `{file.path}`"
            problems.append(Problem(message, hint="rename one of their process types"))
    if problems:
        raise ConfigError(problems)


def _check_existing(
    location: str, files: Sequence[File], existing: dict[str, _Existing | None], *, force: bool
) -> None:
    problems = []
    for file in files:
        found = existing[file.path]
        path = os.path.join(location, file.path)
        if found is None:
            continue
        if stat.S_ISDIR(found.mode):
            problems.append(
                Problem("this is a directory, and a file is to be written there", path, hint="move it away")
            )
        elif not force and not _is_known(file, files, existing):
            hint = "move it away, or replace it with `--force`"
            problems.append(Problem("exists, and is not from an earlier export", path, hint=hint))
    if problems:
        raise ConfigError(problems)


def is_from_an_export(file: File, content: str) -> bool:
    """Return whether the existing file comes from an earlier export, if the new one has a pattern."""
    return content == file.content or (file.known_by is not None and re.search(file.known_by, content) is not None)


def _is_known(file: File, files: Sequence[File], existing: dict[str, _Existing | None]) -> bool:
    found = existing[file.path]
    if found is None or found.content is None:
        return False
    if file.known_by is not None or found.content == _encode(file.content):
        return is_from_an_export(file, found.content.decode(errors="surrogateescape"))
    # A bare value, such as one variable of an environment, belongs to the other files in its directory.
    top = file.path.split("/")[0]
    others = (other for other in files if other.known_by is not None and other.path.split("/")[0] == top)
    return any(_is_known(other, files, existing) for other in others)


def _look(top: int, path: str) -> _Existing | None:
    """Return what exists there, without following links. Raises ConfigError if a directory above it is a link or no
    directory.
    """
    with suppress(FileNotFoundError), _directory(top, path) as directory:
        name = os.path.basename(path)
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            return _Existing(mode, None)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=directory), "rb") as file:
            return _Existing(mode, file.read())
    return None


@contextmanager
def _directory(top: int, path: str, undoing: ExitStack | None = None) -> Iterator[int]:
    """Open the directory of a path below the top; create it if `undoing` can undo that."""
    descriptor = os.dup(top)
    try:
        passed = ""
        for part in filter(None, os.path.dirname(path).split("/")):
            passed = os.path.join(passed, part)
            if undoing is not None:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
                    undoing.callback(_undo, os.rmdir, top, passed)
            try:
                inner = os.open(part, NO_FOLLOW, dir_fd=descriptor)
            except OSError as error:
                if error.errno not in (ENOTDIR, ELOOP):
                    raise
                message = f"`{passed}` in the directory to export to is a link, or not a directory"
                raise ConfigError([Problem(message, hint="move it away")]) from error
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _undo(remove: Callable[..., None], top: int, path: str) -> None:
    with suppress(OSError, ConfigError), _directory(top, path) as directory:
        remove(os.path.basename(path), dir_fd=directory)


def _write(name: str, directory: int, file: File, existing: _Existing | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, PLAIN, dir_fd=directory), "wb") as target:
        target.write(_encode(file.content))
        if file.executable:
            os.fchmod(target.fileno(), EXECUTABLE)
        elif existing is not None and stat.S_ISREG(existing.mode):
            # The user may have made it private, because it contains values.
            os.fchmod(target.fileno(), stat.S_IMODE(existing.mode))


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
