"""Output of a process does not change the shared terminal or the shell in it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from support.driver import PROGRAM, Project
from support.survivors import Survivors
from support.tmux import Screen, screen_of

# Each of these once changed a real terminal: xterm, tmux, or both. Some come in two writes with a pause between.
EVIL = r"""
import os, time
SEQUENCES = [
    b"\033\033[c[?1049h", b"\033]\033[2J0;EVIL\007", b"\033[\b?1049h", b"\033[\0?1049h", b"\033]2;EVIL\nTITLE\007",
    b"\033]2;EVIL\007", b"\033[?1049h", b"\033kEVIL\033\\", b"\033[8m", b"\033[31;7m",
    b"\033]8;;https://example.org/EVIL\007link", b"\005", b"\016", b"\xc2\x9b?1049h", b"\x9d0;EVIL\007",
    b"\0337\033[3;7r",
    b"\033Pq#0", b"\033P", b"\033_", b"\033^", b"\033X", b"\033]0;",
]
for number, sequence in enumerate(SEQUENCES):
    os.write(1, b"%d. " % number + sequence + b"\n")
for part in (b"in pieces \033", b"]2;EVIL", b"\007 and \033[?10", b"49h seen\n"):
    os.write(1, part)
    time.sleep(0.15)  # Longer than an incomplete line is held back, so that the parts arrive one by one.
os.write(1, b"all written\n")
"""


@pytest.fixture
def screen(project: Project, survivors: Survivors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with screen_of(project, survivors, tmp_path_factory.mktemp("t")) as screen:
        yield screen


def assert_untouched(screen: Screen, window: str, title: str) -> None:
    assert screen.show(window, "#{alternate_on} #{pane_title} #{window_name}") == f"0 {title} {window}"
    assert screen.show(window, "#{scroll_region_upper} #{scroll_region_lower}") == "0 29"
    styled = screen.styled(window)
    # The prompt after it has no colour, is no link, and is visible.
    last = [line for line in styled.splitlines() if "the prompt" in line][-1]
    assert "\x1b" not in last.replace("\x1b[39m", "").replace("\x1b[0m", "").replace("\x1b]8;;\x1b\\", "")


@pytest.mark.parametrize("colour", ["--color", "--no-color"])
def test_output_on_a_terminal_of_its_own_does_not_change_the_shared_terminal(
    project: Project, screen: Screen, colour: str
) -> None:
    project.procfile(evil=project.python("evil", EVIL))
    screen.open("app")
    title = screen.show("app", "#{pane_title}")
    screen.type("app", " ".join(map(shlex.quote, PROGRAM)) + f" start {colour}; echo the prompt", "Enter")
    screen.wait_for("app", "evil.1 stopped (rc=0)")
    screen.wait_for("app", "the prompt", count=2)
    # A line whose sequence is filtered still appears.
    for number in range(22):
        screen.wait_for("app", f"| {number}.")
    screen.wait_for("app", "in pieces  and  seen")
    assert_untouched(screen, "app", title)


def test_logs_of_output_to_a_pipe_do_not_change_the_terminal(project: Project, screen: Screen) -> None:
    project.procfile(evil=project.python("evil", EVIL) + "; exec sleep 1000")
    program = " ".join(map(shlex.quote, PROGRAM))
    assert project.run("start", "-D", "--no-pty").code == 0
    screen.open("app")
    title = screen.show("app", "#{pane_title}")
    screen.type("app", f"{program} logs -f", "Enter")
    screen.wait_for("app", "all written")
    screen.type("app", "C-c", "")
    screen.type("app", f"{program} logs; {program} quit; echo the prompt", "Enter")
    screen.wait_for("app", "all written", count=2)
    screen.wait_for("app", "the prompt", count=2)
    assert_untouched(screen, "app", title)
