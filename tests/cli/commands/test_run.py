from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procreaper.cli.commands.run import run
from procreaper.errors import ProcreaperError
from procreaper.project.configure import Options

LIMIT = 30


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; afterwards Python ignores again what it always ignores."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)


def refused(*argv: str, **options: str) -> ProcreaperError:
    with pytest.raises(ProcreaperError) as caught:
        run(Options(**options), argv)  # type: ignore[arg-type]
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ((), 2, "no command was given"),
        (("--",), 2, "no command was given"),
        (("A=1",), 2, "no command was given"),
        (("1=1",), 127, "command not found: `1=1`"),
        (("no-such-program",), 127, "command not found: `no-such-program`"),
        (("echo $HOME",), 127, "command not found: `echo $HOME`"),
        (("",), 127, "command not found: ``"),
        (("--", "--", "x"), 127, "command not found: `--`"),
        (("./nope",), 127, "`./nope` does not exist"),
        (("./file",), 126, "`./file` is not executable"),
        (("./sub",), 126, "`./sub` is a directory"),
        (("true", "a\0b"), 126, "`true` cannot be run: embedded null byte"),
        (("true", "x" * 2_000_000), 126, "`true` cannot be run: argument list too long"),
    ],
)
def test_unrunnable_command_reports_126_or_127(argv: tuple[str, ...], code: int, message: str) -> None:
    Path("file").touch()
    Path("sub").mkdir()
    error = refused(*argv)
    assert (error.exit_code, error.message) == (code, message)


def test_the_hint_for_a_directory_is_not_to_make_it_executable() -> None:
    Path("sub").mkdir()
    assert "chmod" not in str(refused("./sub").hint)


def test_root_that_is_not_a_directory_is_reported() -> None:
    assert refused("true", root="nope").message == "--root nope: no such file or directory"


def test_exit_code_is_known_even_where_the_end_of_children_is_ignored() -> None:
    program = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-m", "procreaper", "run", "sh", "-c", "exit 4"]
    ignoring = [sys.executable, "-c", program, *command]
    assert subprocess.run(ignoring, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False).returncode == 4


@pytest.mark.parametrize("name", ["PIPE", "XFSZ"])
def test_a_signal_that_python_ignores_ends_the_command(name: str) -> None:
    command = [sys.executable, "-m", "procreaper", "run", "sh", "-c", f"kill -{name} $$"]
    code = -signal.Signals[f"SIG{name}"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False).returncode == code


def test_ignored_interrupt_stays_ignored_in_the_command() -> None:
    command = [sys.executable, "-m", "procreaper", "run", "sh", "-c", "kill -INT $$; echo alive"]
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    result = subprocess.run(ignoring, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False)
    assert (result.returncode, result.stdout) == (0, b"alive\n")


def test_run_replaces_itself_by_the_command() -> None:
    look = "import os, signal; print(os.getpid(), signal.pthread_sigmask(0, ()), sorted(os.listdir('/dev/fd')))"
    command = [sys.executable, "-m", "procreaper", "run", "--", sys.executable, "-c", look]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=LIMIT)
    # The fourth descriptor is that of the listing itself.
    assert out == f"{process.pid} set() ['0', '1', '2', '3']\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which signals a process ignores")
def test_command_ignores_no_signal_that_its_parent_does_not() -> None:
    look = "grep -E 'Sig(Blk|Ign)' /proc/self/status"
    ignored = [
        subprocess.run([*before, "sh", "-c", look], stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
        for before in ([], [sys.executable, "-m", "procreaper", "run"])
    ]
    assert signals_in(ignored[0]) == signals_in(ignored[1])


def signals_in(status: bytes) -> list[int]:
    """The masks in /proc/PID/status, without the two signals that the C library keeps for itself."""
    return [int(line.split()[1], 16) & ~(1 << 31 | 1 << 32) for line in status.splitlines()]


def test_command_that_suspends_itself_is_continued_by_the_shell() -> None:
    ours, theirs = pty.openpty()
    script = "kill -TSTP $$; echo resumed; exit 4"
    command = [sys.executable, "-m", "procreaper", "run", "sh", "-c", script]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, process_group=0) as process:
        try:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            os.killpg(process.pid, signal.SIGCONT)
            assert process.communicate(timeout=LIMIT) == (b"resumed\n", None)
            assert process.returncode == 4
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            os.close(ours)
            os.close(theirs)
