"""Our own terminal: its size. `integration/test_pty.py` tests that its modes are restored."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator

import pytest

from procreaper.runtime.terminal.window import preserve_modes, read_terminal_size


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, its = os.openpty()
    yield its
    os.close(ours)
    os.close(its)


def test_size_comes_from_the_terminal(terminal: int) -> None:
    termios.tcsetwinsize(terminal, (30, 100))
    assert read_terminal_size(terminal, {"COLUMNS": "7", "LINES": "7"}) == (100, 30)
    assert read_terminal_size(terminal, {}, margin=18) == (82, 30)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (80, 24)),
        ({"COLUMNS": "132", "LINES": "43"}, (132, 43)),
        ({"COLUMNS": "132"}, (132, 24)),
        ({"COLUMNS": "0", "LINES": "-1"}, (80, 24)),
        ({"COLUMNS": "wide", "LINES": "99999"}, (80, 24)),
    ],
)
def test_size_comes_from_the_environment_if_the_terminal_has_none(
    terminal: int, environment: dict[str, str], expected: tuple[int, int]
) -> None:
    assert read_terminal_size(terminal, environment) == expected
    with open(os.devnull) as nothing:
        assert read_terminal_size(nothing.fileno(), environment) == expected


def test_non_blocking_streams_block_again_afterwards(terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procreaper.runtime.terminal.window.STREAMS", (terminal,))
    with preserve_modes():
        os.set_blocking(terminal, False)
    assert os.get_blocking(terminal)


def test_without_a_terminal_modes_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr("procreaper.runtime.terminal.window.STREAMS", (nothing.fileno(),))
        with preserve_modes():
            pass
