from __future__ import annotations

import os
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from procreaper.errors import ProcreaperError
from procreaper.remote.control import socket_directory as directory
from procreaper.remote.control.socket_directory import (
    LONGEST_PATH,
    BusyError,
    acquire_lock,
    find_sockets,
    open_socket,
    remove_dead_socket,
)

ROOT = "/home/ann/shop"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a runtime directory with a short path, and a fallback beside it for this test."""
    with TemporaryDirectory(prefix="d-") as name:
        path = Path(name).resolve() / "run"
        path.mkdir()
        monkeypatch.setattr(directory, "FALLBACK", f"{path.parent}/fallback-{{uid}}")
        yield path


def environment(runtime: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(runtime)}


def paths(runtime: Path, root: str | None = ROOT) -> list[str]:
    found, errors = find_sockets(environment(runtime), root)
    assert errors == ()
    return list(found)


def connected(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except ConnectionRefusedError:
            return False
        return True


def test_socket_listens_in_a_private_directory_and_is_found_by_its_root(runtime: Path) -> None:
    door = open_socket(ROOT, environment(runtime))
    assert Path(door.path).parent == runtime / "procreaper"
    assert stat.S_IMODE((runtime / "procreaper").stat().st_mode) == 0o700
    assert connected(door.path)
    assert paths(runtime) == paths(runtime, None) == [door.path]
    assert paths(runtime, "/home/ann/other") == []
    door.close()
    assert paths(runtime) == []
    assert list((runtime / "procreaper").iterdir()) == []


def test_apps_of_one_root_can_coexist(runtime: Path) -> None:
    doors = [open_socket(ROOT, environment(runtime)) for _ in range(3)]
    assert len(set(paths(runtime))) == 3
    for door in doors:
        door.close()


def test_closing_a_socket_keeps_another_one_at_its_path(runtime: Path) -> None:
    door = open_socket(ROOT, environment(runtime))
    assert door.is_in_place
    os.unlink(door.path)
    assert not door.is_in_place
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(door.path)
        assert not door.is_in_place
        door.close()
        assert os.path.exists(door.path)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is a part of Linux")
@pytest.mark.parametrize("remove", [lambda path: path.unlink(), lambda path: path.rename(f"{path}.old")])
def test_only_the_removal_of_a_socket_is_reported(runtime: Path, remove: Callable[[Path], None]) -> None:
    door = open_socket(ROOT, environment(runtime))
    watching = door.watch()
    assert watching is not None

    def is_reported() -> bool:
        return bool(select.select([watching], [], [], 0)[0])

    # Frequent events: clients connect, and other apps start and end.
    assert connected(door.path)
    assert paths(runtime) == [door.path]
    open_socket(ROOT, environment(runtime)).close()
    assert not is_reported()
    remove(Path(door.path))
    # The kernel reports in the call that removes, not later.
    assert is_reported()
    os.close(watching)
    door.close()


def test_socket_is_not_inherited_and_does_not_block(runtime: Path) -> None:
    door = open_socket(ROOT, environment(runtime))
    assert not door.socket.get_inheritable()
    assert not door.socket.getblocking()
    door.close()


@pytest.mark.parametrize("value", [None, "", "relative", "/no/such/directory", "/dev/null", "nul\0nul", "long"])
def test_without_a_usable_runtime_directory_the_fallback_is_used(runtime: Path, value: str | None) -> None:
    variables = {} if value is None else {"XDG_RUNTIME_DIR": value}
    if value == "long":
        long = runtime / ("x" * (LONGEST_PATH - len(str(runtime)) - len("/procreaper/")))
        long.mkdir()
        variables["XDG_RUNTIME_DIR"] = str(long)
    door = open_socket(ROOT, variables)
    assert Path(door.path).parent == Path(directory.FALLBACK.format(uid=os.geteuid()))
    assert stat.S_IMODE(Path(door.path).parent.stat().st_mode) == 0o700
    assert find_sockets(variables, ROOT) == ((door.path,), ())
    door.close()


@pytest.mark.parametrize("theirs", [True, False])
def test_foreign_runtime_directory_is_not_used(runtime: Path, theirs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if theirs:
        os.chown(runtime, 12345, -1) if os.geteuid() == 0 else pytest.skip("only root can give a directory away")
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    door = open_socket(ROOT, environment(runtime))
    assert not door.path.startswith(str(runtime))
    door.close()


def test_both_directories_are_searched(runtime: Path) -> None:
    doors = [open_socket(ROOT, {}), open_socket(ROOT, environment(runtime))]
    assert set(paths(runtime)) == {door.path for door in doors}
    for door in doors:
        door.close()


def test_longest_path_is_accepted_by_the_system(runtime: Path) -> None:
    room = LONGEST_PATH - len(str(runtime)) - len("/") - len("/procreaper/01234567-2147483648-0123.sock")
    fits, too_long = runtime / ("x" * room), runtime / ("y" * (room + 1))
    for path in (fits, too_long):
        path.mkdir()
    for path, used in ((fits, True), (too_long, False)):
        door = open_socket(ROOT, environment(path))
        assert door.path.startswith(str(path)) is used
        assert connected(door.path)
        door.close()


def make_link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to("elsewhere")


def make_open(path: Path) -> None:
    path.mkdir()
    path.chmod(0o750)


def make_strange(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    path.mkdir(mode=0o700)
    os.chown(path, 12345, -1)


@pytest.mark.parametrize(
    ("make", "fault", "remedy"),
    [
        (make_link, "is a symbolic link", "remove it"),
        (Path.touch, "is not a directory", "remove it"),
        (make_open, "is open to other users (mode 0750)", "chmod 700"),
        (make_strange, "belongs to another user (uid 12345)", "remove it"),
    ],
)
def test_unsafe_directory_is_refused_with_path_and_hint(runtime: Path, make: object, fault: str, remedy: str) -> None:
    path = runtime / "procreaper"
    make(path)  # type: ignore[operator]
    with pytest.raises(ProcreaperError) as caught:
        open_socket(ROOT, environment(runtime))
    assert caught.value.message == f"the directory for control sockets, `{path}`, {fault}"
    assert remedy in (caught.value.hint or "")
    found, errors = find_sockets(environment(runtime), ROOT)
    assert (found, [error.message for error in errors]) == ((), [caught.value.message])


@pytest.mark.parametrize("make", [make_strange, Path.touch, make_link])
def test_fallback_of_another_user_is_replaced_by_the_state_directory(
    runtime: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fallback = Path(directory.FALLBACK.format(uid=os.geteuid()))
    make(fallback)
    if not fallback.is_dir() or fallback.is_symlink():
        os.chown(fallback, 12345, -1, follow_symlinks=False) if os.geteuid() == 0 else pytest.skip("only for root")
    state = {"XDG_STATE_HOME": str(runtime / "state")}
    door = open_socket(ROOT, state)
    assert Path(door.path).parent == runtime / "state" / "procreaper" / "sockets"
    assert stat.S_IMODE(Path(door.path).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((runtime / "state" / "procreaper").stat().st_mode) == 0o700
    assert connected(door.path)
    assert find_sockets(state, ROOT) == ((door.path,), ())
    acquire_lock(ROOT, state, 1).release()
    # If the state directory is full too, the message is about the fallback.
    with pytest.raises(ProcreaperError, match=r"belongs to another user|is not a directory|is a symbolic link"):
        open_socket(ROOT, {"XDG_STATE_HOME": str(runtime / ("x" * LONGEST_PATH))})
    door.close()


def test_failure_to_make_a_socket_is_reported_with_its_reason(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(ProcreaperError) as caught:
        open_socket(ROOT, environment(runtime))
    assert caught.value.message == (
        f"no control socket can be made in `{runtime / 'procreaper'}`: no space left on device"
    )
    assert caught.value.hint
    assert list((runtime / "procreaper").iterdir()) == []


def test_socket_of_a_dead_app_is_removed(runtime: Path) -> None:
    door = open_socket(ROOT, environment(runtime))
    door.socket.close()
    assert not connected(door.path)
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    dead = door.path.replace(f"-{os.getpid()}-", f"-{pid}-")
    os.rename(door.path, dead)
    remove_dead_socket(dead)
    assert not os.path.exists(dead)


def test_only_our_sockets_are_removed(runtime: Path) -> None:
    other = runtime / "notes.txt"
    other.touch()
    remove_dead_socket(str(other))
    assert other.exists()


def test_socket_of_a_live_app_is_kept_on_other_systems(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    door = open_socket(ROOT, environment(runtime))
    remove_dead_socket(door.path)
    assert os.path.exists(door.path)
    door.close()


def test_old_unfinished_socket_is_removed(runtime: Path) -> None:
    (runtime / "procreaper").mkdir(mode=0o700)
    old, new = (runtime / "procreaper" / f"01234567-1-{number}.new" for number in ("0000", "0001"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    assert paths(runtime) == []
    assert (old.exists(), new.exists()) == (False, True)


def test_socket_gets_its_name_only_when_it_listens(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    rename = os.rename

    def renamed(source: str, target: str) -> None:
        seen.append(paths(runtime))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", renamed)
    door = open_socket(ROOT, environment(runtime))
    assert seen == [[]]
    door.close()


def test_root_of_any_bytes_has_a_socket(runtime: Path) -> None:
    root = os.fsdecode(b"/home/\xff\xfe")
    door = open_socket(root, environment(runtime))
    assert paths(runtime, root) == [door.path]
    door.close()


def test_one_program_at_a_time_holds_the_lock_of_a_root(runtime: Path) -> None:
    first = acquire_lock(ROOT, environment(runtime), 0.0)
    with pytest.raises(BusyError) as caught:
        acquire_lock(ROOT, environment(runtime), 0.0)
    assert caught.value.message.startswith("another `procreaper start -D` of this directory has been under way for 0 s")
    assert "`procreaper start -D --new`" in (caught.value.hint or "")
    acquire_lock("/home/ann/blog", environment(runtime), 0.0).release()
    first.release()
    second = acquire_lock(ROOT, environment(runtime), 0.0)
    # A second release does not affect the program that holds the lock now.
    first.release()
    with pytest.raises(BusyError):
        acquire_lock(ROOT, environment(runtime), 0.0)
    second.release()
    assert list((runtime / "procreaper").iterdir()) == []


def test_lock_without_its_file_does_not_count(runtime: Path) -> None:
    first = acquire_lock(ROOT, environment(runtime), 0.0)
    (path,) = (runtime / "procreaper").iterdir()
    waiting = os.open(path, os.O_RDWR)
    first.release()
    assert not directory._try_to_lock(waiting, str(path))
    os.close(waiting)


def test_lock_of_a_killed_program_is_free(runtime: Path) -> None:
    pid = os.fork()
    if not pid:
        acquire_lock(ROOT, environment(runtime), 0.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(list((runtime / "procreaper").iterdir())) == 1
    acquire_lock(ROOT, environment(runtime), 0.0).release()
