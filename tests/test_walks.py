"""The code walks in docs/architecture.md are true: a traced run calls their functions in the order of the page."""

from __future__ import annotations

import importlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.driver import Project, altered, project_in
from support.survivors import Survivors

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
# Records each call of a function of ours, with the time, and writes all of them when the program ends.
TRACER = """
import os, sys, threading, time
import procreaper
PACKAGE = os.path.dirname(procreaper.__file__) + os.sep
CALLS, NAMES = [], {{}}

def name_of(code):
    if not code.co_filename.startswith(PACKAGE):
        return None
    module = code.co_filename[len(PACKAGE):].removesuffix(".py").removesuffix("/__init__").replace(os.sep, ".")
    return f"{{module}}: {{code.co_qualname}}"

def record(frame, event, argument):
    if event == "call":
        code = frame.f_code
        if code not in NAMES:
            NAMES[code] = name_of(code)
        if NAMES[code] is not None:
            CALLS.append((time.monotonic_ns(), NAMES[code]))

def end(status, exit=os._exit):
    sys.setprofile(None)
    with open({file!r}, "w") as file:
        file.writelines(f"{{moment}} {{name}}\\n" for moment, name in list(CALLS))
    exit(status)

os._exit = end
threading.setprofile(record)
sys.setprofile(record)
"""


class Call(NamedTuple):
    moment: int
    name: str


def walks(page: str) -> dict[str, list[str]]:
    """Return the walks of a page: by title, the functions of the steps as `module: function`."""
    _, _, section = page.partition("\n## Five walks through the code\n")
    section, _, _ = section.partition("\n## ")
    return {
        title: re.findall(r"^\d+\. `([\w.]+: [\w.]+)`", text, re.MULTILINE)
        for title, text in re.findall(r"^### (.*)\n((?:(?!### ).*\n?)*)", section, re.MULTILINE)
    }


def first_missing(steps: list[str], calls: list[str]) -> str | None:
    """Return the first step that is not called after all steps before it, or None."""
    remaining = iter(calls)
    return next((step for step in steps if step not in remaining), None)


def find_function(step: str) -> object:
    """Return the function of a step; raise an error if there is none."""
    module, _, name = step.partition(": ")
    found: object = importlib.import_module(f"procreaper.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    return found


class Tracing:
    """A project whose programs record their calls."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._files: list[Path] = []

    def wrapper(self) -> tuple[str, ...]:
        self._files.append(self.project.path / f"calls{len(self._files)}")
        return altered(TRACER.format(file=str(self._files[-1])))

    def calls(self, since: int = 0) -> list[str]:
        """Return the calls of all programs, which have ended, in the order of time."""
        lines = "".join(file.read_text() for file in self._files).splitlines()
        found = sorted(Call(int(moment), name) for moment, _, name in (line.partition(" ") for line in lines))
        return [call.name for call in found if call.moment >= since]


@pytest.fixture
def tracing(tmp_path: Path, survivors: Survivors) -> Iterator[Tracing]:
    with project_in(tmp_path, survivors) as project:
        yield Tracing(project)


def crash(tracing: Tracing) -> list[str]:
    project = tracing.project
    os.mkfifo(project.path / "go")
    project.procfile(web="read line <go; exit 3")
    project.write(".reaper.toml", '[process.web]\nrestart = "on-failure"\nbackoff = "10ms"\n')
    program = project.begin("start", wrapper=tracing.wrapper())
    program.wait_for(r"web\.1 started")
    began = time.monotonic_ns()
    (project.path / "go").write_text("\n")
    program.wait_for(r"web\.1 started", count=2)
    program.stop(signal.SIGINT)
    return tracing.calls(began)


def saved_file(tracing: Tracing) -> list[str]:
    project = tracing.project
    project.procfile(web="exec sleep 600")
    project.write("src/app.py", "1")
    project.write(".reaper.toml", '[process.web]\nwatch = ["src"]\n')
    program = project.begin("start", wrapper=tracing.wrapper())
    # The watcher scans twice at its start, and may find the first two changes in these scans.
    for number in (1, 2, 3):
        program.wait_for(r"web\.1 started", count=number)
        began = time.monotonic_ns()
        project.write("src/app.py", f"version {number}")
    program.wait_for(r"web\.1 started", count=4)
    program.stop(signal.SIGINT)
    return tracing.calls(began)


def restart(tracing: Tracing) -> list[str]:
    project = tracing.project
    project.procfile(web="exec sleep 600")
    program = project.begin("start", wrapper=tracing.wrapper())
    program.wait_for(r"web\.1 started")
    began = time.monotonic_ns()
    result = project.run("restart", "web", wrapper=tracing.wrapper())
    assert result.code == 0, result.err
    program.stop(signal.SIGINT)
    return tracing.calls(began)


def output(tracing: Tracing) -> list[str]:
    project = tracing.project
    os.mkfifo(project.path / "go")
    project.procfile(web="read line <go; echo hello; exec sleep 600")
    program = project.begin("start", wrapper=tracing.wrapper())
    program.wait_for(r"web\.1 started")
    began = time.monotonic_ns()
    (project.path / "go").write_text("\n")
    program.wait_for("hello")
    program.stop(signal.SIGINT)
    return tracing.calls(began)


def stop_timeout(tracing: Tracing) -> list[str]:
    project = tracing.project
    project.procfile(web="trap '' TERM; echo ready; while :; do sleep 600; done")
    project.write(".reaper.toml", '[process.web]\nstop = { timeout = "50ms" }\n')
    program = project.begin("start", wrapper=tracing.wrapper())
    program.wait_for("ready")
    assert "sending SIGKILL to web.1" in program.stop(signal.SIGINT).out
    return tracing.calls()


RUNS: dict[str, Callable[[Tracing], list[str]]] = {
    "A crash with a restart": crash,
    "A saved file": saved_file,
    "`procreaper restart web`": restart,
    "A line of output": output,
    "`stop.timeout`, from the file to its effect": stop_timeout,
}
WALKS = walks(PAGE)


def test_page_has_the_walks_that_are_run() -> None:
    assert list(WALKS) == list(RUNS)
    assert all(len(steps) > 5 for steps in WALKS.values())


@pytest.mark.parametrize("title", RUNS)
def test_functions_of_a_walk_are_called_in_its_order(title: str, tracing: Tracing) -> None:
    for step in WALKS[title]:
        find_function(step)
    calls = RUNS[title](tracing)
    assert first_missing(WALKS[title], calls) is None


def test_wrong_order_and_missing_functions_are_found() -> None:
    assert first_missing(["a: f", "b: g"], ["a: f", "c: h", "b: g"]) is None
    assert first_missing(["b: g", "a: f"], ["a: f", "b: g"]) == "a: f"
    assert first_missing(["a: f", "d: i"], ["a: f", "b: g"]) == "d: i"
    with pytest.raises(AttributeError):
        find_function("core.fleet: no_such_function")
    with pytest.raises(ModuleNotFoundError):
        find_function("core.no_such_module: step")
