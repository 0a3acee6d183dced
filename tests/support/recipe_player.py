"""Plays what a page shows: its files in a directory, its commands in as many terminals as they need.

Rules: of a recipe that can be seen, everything is compared: what a command prints line by line, and of what goes on in
the first terminal, that each line comes. Numbers and the widths of columns are left out of that, and so is whatever
stands in place of a line `...`.

Theory of operation. A file is a block behind a line that is its name in backticks and a colon. `procreaper start` has
the first terminal, until `^C` or the end of the recipe; a console block without a command shows what comes there next.
Everything else is run to its end. What follows the prompt of the debugger is typed, and so is `^]`.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from support.driver import Program, Project
from support.pages import LIMIT, free_port, sessions

BLOCK = re.compile(r"(?:^`(?P<name>[^`\n]+)`:\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
INTERRUPT, LEAVE, LEFT_OUT = "^C\n", "^]\n", "..."
PROMPT = "(Pdb) "
NUMBER = r"\d+(?:\.\d+)?"
# A port that a project sets itself; the others are those that process types get, from 5000 on.
OWN_PORT = re.compile(r"^\w*PORT=(\d+)$", re.MULTILINE)
PORT = re.compile(r"\b\d{4}\b")


class Recipe(NamedTuple):
    """One section of a page: the files of its project, and its console blocks."""

    title: str
    files: dict[str, str]
    blocks: tuple[str, ...]


def recipes(page: str) -> Iterator[Recipe]:
    """Each section of the page that has files."""
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        found = list(BLOCK.finditer(text))
        files = {match["name"]: match["text"] for match in found if match["name"]}
        if files:
            yield Recipe(title, files, tuple(match["text"] for match in found if match["language"] == "console"))


# What Django's server prints, before and since 6.0, which needs Python 3.12.
OLDER_DJANGO, NEWER_DJANGO = "Starting development server", "Starting WSGI development server"


def loosely(text: str) -> list[str]:
    """The lines of a text without its numbers and the widths of its columns."""
    text = text.replace(NEWER_DJANGO, OLDER_DJANGO)
    return [re.sub(r"\d+(\.\d+)?", "0", re.sub(" +", " ", line)).rstrip() for line in text.splitlines()]


def as_pattern(line: str) -> str:
    """A regular expression for such a line, whatever its numbers and the widths of its columns."""
    parts = re.split(r"(\d+(?:\.\d+)?| +)", line.rstrip())
    kinds = (
        re.escape(part) if index % 2 == 0 else " +" if part.isspace() else NUMBER for index, part in enumerate(parts)
    )
    pattern = "".join(kinds).replace(
        " +".join(OLDER_DJANGO.split(" ")),
        " +".join(OLDER_DJANGO.split(" ")).replace("Starting +", "Starting +(?:WSGI +)?"),
    )
    return f"^{pattern}\\s*$"


class Stage:
    """The terminals in which one recipe is played."""

    def __init__(self, recipe: Recipe, project: Project, base_port: int) -> None:
        self._blocks = recipe.blocks
        self._project = project
        self._first: Program | None = None
        self._seen: Counter[str] = Counter()
        self._ports = {f"5{number}00": str(base_port + 100 * number) for number in range(10)}
        for port in OWN_PORT.findall("".join(recipe.files.values())):
            self._ports[port] = str(free_port())
        project.environment |= {"PORT": str(base_port), "NO_COLOR": "1"}
        for name, text in recipe.files.items():
            project.write(name, self._with_ports(text))

    def play(self) -> None:
        """Run all its commands, and compare."""
        for block in self._blocks:
            if not block.startswith("$ "):
                self._see(block)
            for command, shown in sessions(block):
                self._run(self._with_ports(command), shown)
        if self._first is not None:
            self._first.stop(signal.SIGINT)

    def _run(self, command: str, shown: str) -> None:
        words = shlex.split(command)
        if words[:2] == ["procreaper", "start"] and "-D" not in words:
            # As in a terminal, whose reader could be attached to.
            self._first = self._project.begin("start", "--pty", *words[2:])
            self._first.wait_for(" started ")
            before, interrupt, after = shown.partition(INTERRUPT)
            self._see(before)
            if interrupt:
                self._first.send(signal.SIGINT)
                self._first.end()
                self._see(after)
                self._first = None
        elif words[:2] == ["procreaper", "attach"]:
            self._attach(words[1:], shown)
        else:
            self._compare(command, shown)

    def _see(self, shown: str) -> None:
        """Wait in the first terminal for these lines, each as often as it was shown so far."""
        assert self._first is not None
        for line in shown.splitlines():
            if line != LEFT_OUT:
                pattern = as_pattern(line)
                self._seen[pattern] += 1
                self._first.wait_for(pattern, count=self._seen[pattern])

    def _attach(self, arguments: list[str], shown: str) -> None:
        client = self._project.begin(*arguments, terminal=True)
        before, leave, after = shown.partition(LEAVE)
        for line in before.splitlines():
            if line.startswith(PROMPT):
                # What is typed ahead waits in the terminal, so it is enough that the debugger is there.
                client.wait_for(re.escape(PROMPT))
                client.type(line.removeprefix(PROMPT) + "\r")
            elif line != LEFT_OUT:
                client.wait_for(as_pattern(line))
        if leave:
            client.type("\x1d")
        result = client.end()
        for line in after.splitlines():
            assert re.search(as_pattern(line), f"{result.out}\n{result.err}", re.MULTILINE), result

    def _compare(self, command: str, shown: str) -> None:
        ran = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._project.path,
            env=self._project.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
            encoding="utf-8",
        )
        printed, expected = loosely(ran.stdout), loosely(shown)
        if LEFT_OUT in expected:
            assert [line for line in expected if line != LEFT_OUT and line not in printed] == [], ran.stdout
        else:
            assert printed == expected, ran.stdout

    def _with_ports(self, text: str) -> str:
        return PORT.sub(lambda match: self._ports.get(match[0], match[0]), text)
