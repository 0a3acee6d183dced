"""Pseudoterminals, as a child sees them."""

from __future__ import annotations

import os
import select
import subprocess
import termios
from collections.abc import Iterator

import pytest

from procreaper.runtime.terminal.pty import Pseudoterminal


@pytest.fixture
def terminal() -> Iterator[Pseudoterminal]:
    terminal = Pseudoterminal(os.terminal_size((90, 30)))
    yield terminal
    os.close(terminal.parent_end)
    os.close(terminal.child_end)


def run(terminal: Pseudoterminal, *argv: str) -> tuple[int, bytes]:
    end = terminal.child_end
    done = subprocess.run(
        terminal.wrap_command(argv), stdin=end, stdout=end, stderr=end, start_new_session=True, timeout=60
    )
    try:
        return done.returncode, os.read(terminal.parent_end, 1 << 16)
    except BlockingIOError:
        return done.returncode, b""


def test_terminal_is_the_controlling_one_of_the_command(terminal: Pseudoterminal) -> None:
    assert run(terminal, "sh", "-c", "echo hello > /dev/tty") == (0, b"hello\r\n")


def test_modes_are_those_of_any_new_terminal(terminal: Pseudoterminal) -> None:
    modes = termios.tcgetattr(terminal.child_end)
    assert modes[1] & (termios.OPOST | termios.ONLCR) == termios.OPOST | termios.ONLCR
    for mode in (termios.ECHO, termios.ICANON, termios.ISIG, termios.IEXTEN):
        assert modes[3] & mode
    assert modes[0] & termios.ICRNL
    assert not terminal.takes_keys


def test_carriage_returns_can_be_omitted_for_a_while(terminal: Pseudoterminal) -> None:
    assert not terminal.add_carriage_returns()
    terminal.omit_carriage_returns()
    assert run(terminal, "echo", "hello") == (0, b"hello\n")
    assert terminal.add_carriage_returns()
    assert not terminal.add_carriage_returns()
    assert run(terminal, "echo", "hello") == (0, b"hello\r\n")
    assert run(terminal, "stty", "-onlcr")[0] == 0
    assert terminal.add_carriage_returns()


def test_program_that_processes_its_output_keeps_its_modes(terminal: Pseudoterminal) -> None:
    assert run(terminal, "stty", "raw")[0] == 0
    before = termios.tcgetattr(terminal.child_end)
    terminal.omit_carriage_returns()
    assert termios.tcgetattr(terminal.child_end) == before
    assert not terminal.add_carriage_returns()
    assert run(terminal, "echo", "hello") == (0, b"hello\n")
    assert terminal.takes_keys


def test_output_stopped_by_its_key_resumes(terminal: Pseudoterminal) -> None:
    def is_writable() -> bool:
        return bool(select.select([], [terminal.child_end], [], 0)[1])

    os.write(terminal.parent_end, b"\x13")
    while is_writable():
        os.sched_yield()
    terminal.resume_output()
    while not is_writable():
        os.sched_yield()


def test_program_that_reads_the_key_itself_does_not_get_it(terminal: Pseudoterminal) -> None:
    assert run(terminal, "stty", "-ixon", "-icanon")[0] == 0
    terminal.resume_output()
    os.write(terminal.parent_end, b"x")
    assert os.read(terminal.child_end, 1) == b"x"


def test_command_gets_its_arguments(terminal: Pseudoterminal) -> None:
    assert run(terminal, "printf", "<%s>", "a  b", "$HOME", "*", "") == (0, b"<a  b><$HOME><*><>")


def test_exit_code_of_the_command_is_kept(terminal: Pseudoterminal) -> None:
    assert run(terminal, "sh", "-c", "exit 7") == (7, b"")


def test_missing_program_exits_with_the_code_of_a_shell(terminal: Pseudoterminal) -> None:
    code, said = run(terminal, "/no/such/program")
    assert code == 127
    assert b"/no/such/program" in said


def test_terminal_has_the_given_size_and_at_least_twenty_columns(terminal: Pseudoterminal) -> None:
    assert termios.tcgetwinsize(terminal.child_end) == (30, 90)
    terminal.resize(os.terminal_size((-3, 10)))
    assert termios.tcgetwinsize(terminal.child_end) == (10, 20)


def test_failure_to_open_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise termios.error(22, "Invalid argument")

    monkeypatch.setattr(termios, "tcsetattr", refuse)
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match="Invalid argument"):
        Pseudoterminal(os.terminal_size((80, 24)))
    assert len(os.listdir("/dev/fd")) == before
