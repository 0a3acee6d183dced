"""The import rules of the packages, and the actions that only a few modules may do.

The rules of a module follow from its folder. `docs/architecture.md` explains them.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import procreaper

PACKAGE = Path(procreaper.__file__).parent

# What each package may import besides itself. No package imports `cli`, or the public names in `procreaper` itself.
MAY_IMPORT = {
    "core": set(),
    "project": {"core"},
    "output": {"core"},
    "runtime": {"core", "output"},
    "remote": {"core", "project", "output", "runtime"},
    "export": {"core", "project"},
    "library": {"core", "project", "output", "runtime", "remote"},
    "cli": {"core", "project", "output", "runtime", "remote", "export", "library"},
}
# Modules beside the packages. Every module may import them.
SHARED = {"errors", "descriptors", "threads"}
IMPURE_SHARED = {"descriptors", "threads"}
# Folders of `runtime` in HANDS may import those in BELOW, not each other. Modules directly in `runtime` may import all.
HANDS, BELOW = {"child", "health", "watch", "cleanup"}, {"system", "terminal"}
# Pure modules of `runtime.watch` about paths and patterns. Settings and exports use them too, with the same rules.
PATTERNS = {"runtime.watch.patterns", "runtime.watch.gitignore", "runtime.watch.matcher"}

# Pure modules, without I/O: all of `core`, all of `project` except IMPURE_IN_PROJECT, and PURE_ELSEWHERE.
IMPURE_IN_PROJECT = {"project.configure", "project.read", "project.read_file", "project.machine"}
PURE_ELSEWHERE = PATTERNS | {
    *("output.escapes", "output.json_lines", "output.lines", "output.text"),
    *("remote.api.codec", "remote.api.feed", "remote.api.protocol", "remote.api.to_wire"),
    *("runtime.child.audience", "runtime.system.marks", "runtime.cleanup.process_tree", "runtime.terminal.modes"),
    "errors",
}
IMPURE = frozenset(
    {"asyncio", "os", "time", "subprocess", "socket", "threading", "random", "logging"}
    | {"concurrent", "contextvars", "io", "multiprocessing", "pathlib", "queue", "sched", "secrets", "select"}
    | {"selectors", "shutil", "signal", "sys", "tempfile", "uuid"}
)
IMPURE_BUILTINS = frozenset({"open", "print", "input", "breakpoint", "exec", "eval"})
ONLY_IN = {
    "honcho": ("project.procfile", "project.env_files", "export"),
    "watchfiles": ("runtime.watch",),
    "colorama": ("cli.commands.ps",),
    "dotenv": ("project.env_files",),
    "aiohttp": ("remote.http",),
    "prometheus_client": ("remote.http", "remote.metrics", "library"),
}
# The owner of the fleet and of the tasks; and modules with short-lived tasks: the library runs a supervisor in the loop
# of its user or in a thread, a cancellation must not interrupt a spawn, and each watcher waits for its thread.
SUPERVISOR = {"runtime.supervisor", "runtime.side_tasks"}
HAVE_TASKS = SUPERVISOR | {"library.reaper", "library.blocking", "runtime.child.command", "runtime.watch.watcher"}


def name_of(path: Path) -> str:
    """The name of a module below `procreaper`; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def run_time_only(tree: ast.Module) -> ast.Module:
    """The module without its imports for type checkers."""

    class Without(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            is_checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if is_checking else self.generic_visit(node)

    return Without().visit(tree)  # type: ignore[no-any-return]


def imported(tree: ast.Module) -> Iterator[str]:
    """All imports of a module, as full names. An import from procreaper yields the name of the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full != "procreaper.__version__":
                    yield full if full.removeprefix("procreaper.") in MODULES else str(node.module)


def called(tree: ast.Module) -> Iterator[str]:
    """The last part of the name of each call: `step` for `rules.step(...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr
            elif isinstance(node.func, ast.Name):
                yield node.func.id


def assigned(tree: ast.Module) -> Iterator[str]:
    """The names of all assigned or deleted attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.attr


def is_pure(module: str) -> bool:
    """Whether a module must be pure, without I/O."""
    package = module.partition(".")[0]
    return package == "core" or (package == "project" and module not in IMPURE_IN_PROJECT) or module in PURE_ELSEWHERE


def may_import(module: str, other: str) -> bool:
    """Whether a module may import another. Both names are relative to `procreaper`."""
    package, _, rest = module.partition(".")
    its_package, _, its_rest = other.partition(".")
    if not other or other == "__main__" or (its_package == "cli" and package != "cli"):
        return package in ("", "__main__")
    if package in SHARED:
        # An error carries the states of processes, and names their type for type checkers.
        return its_package in SHARED or (module, other) == ("errors", "core.status")
    if its_package in SHARED or (not rest and package not in MAY_IMPORT):
        return True
    if module == "remote.control.client":
        return other.startswith("remote.api")
    folder, its_folder = (name.rpartition(".")[0].partition(".")[0] for name in (rest, its_rest))
    if package == "remote" and folder == "api":
        return its_package == "core" or its_folder == "api"
    if its_package != package:
        return its_package in MAY_IMPORT[package] or (package in ("project", "export") and other in PATTERNS)
    if package == "runtime" and folder and folder != its_folder:
        return folder in HANDS and its_folder in BELOW
    if package == "remote" and folder != its_folder:
        return its_folder == "api" or (folder == "http" and its_folder == "metrics")
    return True


def violations(module: str, source: str) -> list[str]:
    """Each rule that a module breaks, as a phrase."""
    package = module.partition(".")[0]
    if package not in MAY_IMPORT and module not in (*SHARED, "", "__main__"):
        return ["is in none of the packages"]
    tree = ast.parse(source)
    found = []
    for name in imported(tree):
        top, _, ours = name.partition(".")
        if top == "procreaper":
            if not may_import(module, ours):
                found.append(f"imports {name}")
            elif is_pure(module) and ours in IMPURE_SHARED:
                found.append(f"is pure and imports {name}")
        elif is_pure(module) and top in IMPURE:
            found.append(f"is pure and imports {name}")
        elif top in ONLY_IN and not module.startswith(ONLY_IN[top]):
            found.append(f"imports {top}, which only {' and '.join(ONLY_IN[top])} may")
        elif name.startswith("honcho.command"):
            found.append("imports honcho.command, which configures logging when it is imported")
    calls = set(called(tree))
    if is_pure(module):
        found += [f"is pure and calls {name}()" for name in sorted(calls & IMPURE_BUILTINS)]
    if module not in HAVE_TASKS:
        tasks = {"TaskGroup", "create_task", "ensure_future", "run_coroutine_threadsafe"}
        found += [f"calls {name}, and only the supervisor has tasks" for name in sorted(calls & tasks)]
    if module not in SUPERVISOR:
        if "_fleet" in assigned(tree):
            found.append("assigns the fleet, which only the supervisor does")
        if not is_pure(module) and "step" in calls:
            found.append("calls the rules, which only the supervisor does")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_module_follows_the_rules(module: str) -> None:
    assert violations(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("utils", "", "is in none of the packages"),
        ("core.plan", "from procreaper.output.hub import Hub", "imports procreaper.output.hub"),
        ("core.plan", "from procreaper.project import planner", "imports procreaper.project.planner"),
        ("core.fleet", "import time", "is pure and imports time"),
        ("core.fleet", "def step():\n    from os.path import join", "is pure and imports os.path"),
        ("core.fleet", "import concurrent.futures", "is pure and imports concurrent.futures"),
        ("output.lines", "print('debug')", "is pure and calls print()"),
        ("project.procfile", "open('Procfile')", "is pure and calls open()"),
        ("runtime.child.child", "from procreaper.project.configure import configure", "imports procreaper.project"),
        ("runtime.child.child", "from procreaper.runtime.health import check", "imports procreaper.runtime.health"),
        ("runtime.child.child", "from procreaper.runtime import supervisor", "imports procreaper.runtime.supervisor"),
        ("runtime.system.proc", "import procreaper.runtime.child.child", "imports procreaper.runtime.child.child"),
        ("runtime.system.proc", "import procreaper.runtime.terminal.pty", "imports procreaper.runtime.terminal.pty"),
        ("output.stdout", "import procreaper.runtime.child.child", "imports procreaper.runtime.child.child"),
        ("runtime.supervisor", "from procreaper.cli import main", "imports procreaper.cli.main"),
        ("export.systemd", "from procreaper.cli.commands import start", "imports procreaper.cli.commands.start"),
        ("export.systemd", "from procreaper.runtime.watch import watcher", "imports procreaper.runtime.watch.watcher"),
        ("runtime.child.child", "from procreaper import Process", "imports procreaper"),
        ("remote.control.client", "from procreaper.core.plan import Process", "imports procreaper.core.plan"),
        ("remote.control.client", "from procreaper.remote.control import server", "imports procreaper.remote.control"),
        ("remote.http.server", "from procreaper.remote.control import requests", "imports procreaper.remote.control"),
        ("remote.api.feed", "from procreaper.output.hub import Hub", "imports procreaper.output.hub"),
        ("errors", "from procreaper.core.plan import Process", "imports procreaper.core.plan"),
        ("project.configure", "from honcho import environ", "imports honcho"),
        ("project.procfile", "import honcho.command", "imports honcho.command"),
        ("export.systemd", "from honcho.command import main", "imports honcho.command"),
        ("project.configure", "import watchfiles", "imports watchfiles"),
        ("cli.main", "import dotenv", "imports dotenv"),
        ("cli.commands.start", "reaper._fleet = None", "assigns the fleet"),
        ("cli.commands.start", "fleet, actions = rules.step(fleet, event, now)", "calls the rules"),
        ("runtime.child.child", "loop.create_task(read())", "only the supervisor has tasks"),
        ("runtime.health.http", "async with asyncio.TaskGroup() as tasks: ...", "only the supervisor has tasks"),
    ],
)
def test_broken_rule_is_found(module: str, source: str, complaint: str) -> None:
    assert [text for text in violations(module, source) if complaint in text]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.fleet", "from procreaper.core.lifecycle import step\nimport re"),
        ("output.stdout", "import threading\nfrom procreaper.output.hub import Sink"),
        ("runtime.child.command", "import os\nfrom procreaper.runtime.system.descriptors import available"),
        ("runtime.supervisor", "from procreaper.runtime.health import tcp"),
        ("remote.control.client", "from procreaper.remote.api import protocol\nfrom procreaper.errors import Problem"),
        ("export.runit", "from honcho.export.runit import Export"),
        ("export.compose_watch", "from procreaper.runtime.watch import patterns"),
        ("cli.main", "from procreaper import __version__\nfrom procreaper.runtime.supervisor import Supervisor"),
    ],
)
def test_allowed_import_breaks_no_rule(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_page_names_the_modules_with_special_rules() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
    rows = dict(re.findall(r"^\| (`.*?) \|.*\| (.*) \|$", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert {f"project.{name}" for name in re.findall(r"`(\w+)`", rows["`project`"])} == IMPURE_IN_PROJECT
    assert ", ".join(f"`{name}`" for name in sorted(SHARED)) in rows


# The only modules that may import each other at run time, at least one of them lazily.
CYCLES: set[frozenset[str]] = set()


def strongly_connected(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """The groups of modules in which each module reaches every other by imports."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for other in graph[waiting.pop()] - found:
                found.add(other)
                waiting.append(other)
        reached[start] = found
    return {frozenset(b for b in reached[a] if a in reached[b]) for a in graph if a in reached[a]}


def test_there_are_no_unknown_import_cycles() -> None:
    graph = {}
    for module, path in MODULES.items():
        names = (
            name.removeprefix("procreaper.") for name in imported(run_time_only(ast.parse(path.read_text("utf-8"))))
        )
        graph[module] = {name for name in names if name in MODULES and name not in ("", module)}
    assert strongly_connected(graph) == CYCLES


# Imports that are too slow for a plain start. asyncio itself imports logging, socket, ssl and subprocess.
HEAVY = frozenset(
    {"aiohttp", "anyio", "argcomplete", "dataclasses", "difflib", "honcho.command", "honcho.export", "honcho.manager"}
    | {"http", "importlib.metadata", "ipaddress", "jinja2", "json", "msgspec", "multiprocessing", "pathlib"}
    | {"prometheus_client", "ssl", "tempfile", "tomllib", "unittest", "urllib", "uuid", "watchfiles", "xml", "zipfile"}
)
# Our modules that a plain start of a process that writes and ends does not need.
UNNEEDED = frozenset(
    {
        "cli.find_app",
        "core.checks",
        "core.health",
        "core.reload",
        "core.file_changes",
        "core.shell_grammar",
        "core.status",
        "output.json_lines",
        "output.log_files",
        "output.stdlib_log",
        "project.depends_on",
        "project.schema",
        "project.settings",
        "remote.api.protocol",
        "remote.control.requests",
        "remote.control.server",
        "remote.http",
        "runtime.child.command",
        "runtime.child.console",
        "runtime.child.detached",
        "runtime.child.protocols",
        "runtime.health.check",
        "runtime.side_tasks",
        "runtime.terminal.pty",
        "runtime.terminal.window",
        "runtime.watch.watcher",
    }
)
LATER = frozenset(
    {
        "asyncio",
        "logging",
        "socket",
        "subprocess",
        "threading",
        "procreaper.runtime.supervisor",
        "procreaper.output.hub",
    }
)
PROBE = """
import sys
from procreaper.cli.main import execute
before = set(sys.modules) - {name for name in sys.modules if name.startswith("procreaper")}
status = execute(sys.argv[1:])
print("status", status, *sorted(sys.modules), file=sys.stderr)
"""


def loaded(directory: Path, *arguments: str) -> tuple[str, set[str]]:
    """Run a command line, and return its exit status and the modules that it has imported."""
    ran = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, *arguments], cwd=directory, capture_output=True, text=True, check=True
    )
    _, status, *names = ran.stderr.splitlines()[-1].split()
    return status, set(names)


def test_start_imports_no_heavy_module(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: echo hello\n")
    (tmp_path / ".env").write_text("A=1\n")
    status, names = loaded(tmp_path, "start")
    assert status == "0"
    assert "procreaper.runtime.supervisor" in names
    assert names & HEAVY == set()
    assert names & {f"procreaper.{name}" for name in UNNEEDED} == set()


@pytest.mark.parametrize(
    ("arguments", "expected"), [(("check",), "0"), (("version",), "0"), (("start", "-p", "x"), "1"), (("help",), "0")]
)
def test_commands_that_start_nothing_import_no_supervisor(
    tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "Procfile").write_text("web: echo hello\n")
    status, names = loaded(tmp_path, *arguments)
    assert status == expected
    # `check` needs a socket to find out whether a port is in use.
    needed = {"socket"} if "check" in arguments else set()
    assert names & (HEAVY | LATER) == needed & names


@pytest.mark.parametrize("arguments", [("ps",), ("ps", "--json"), ("ls",), ("logs",), ("restart", "web"), ("quit",)])
def test_commands_for_a_running_app_import_only_the_client(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "Procfile").write_text("web: echo hello\n")
    status, names = loaded(tmp_path, *arguments)
    assert status == ("0" if "ls" in arguments else "1")
    # msgspec itself imports uuid. `ls` asks all running apps at the same time, in threads.
    needed = {"msgspec", "socket", "uuid", *(("threading",) if "ls" in arguments else ())}
    assert names & (HEAVY | LATER) == needed & names
