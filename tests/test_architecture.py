"""The architecture is the one that the design draws: who may import whom, and who owns what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

import procreaper

PACKAGE = Path(procreaper.__file__).parent

# Every module of the package, those that are planned too. A name that ends in `.*` stands for the members of a family.
LAYERS = {
    "procreaper": "face",
    "procreaper.__main__": "face",
    "procreaper.errors": "word",
    "procreaper.library": "face",
    "procreaper.process": "face",
    "procreaper.blocking": "face",
    "procreaper.plan": "word",
    "procreaper.checks": "word",
    "procreaper.events": "word",
    "procreaper.status": "word",
    "procreaper.durations": "word",
    "procreaper.schema": "word",
    "procreaper.sizes": "word",
    "procreaper.life": "rule",
    "procreaper.lifecycle": "rule",
    "procreaper.checkup": "rule",
    "procreaper.diagnosis": "rule",
    "procreaper.renewal": "rule",
    "procreaper.policy": "rule",
    "procreaper.dependencies": "rule",
    "procreaper.changes": "rule",
    "procreaper.pauses": "rule",
    "procreaper.fleet": "rule",
    "procreaper.differences": "rule",
    "procreaper.reloading": "rule",
    "procreaper.snapshot": "rule",
    "procreaper.telling": "rule",
    "procreaper.watching": "rule",
    "procreaper.globs": "rule",
    "procreaper.ignoring": "rule",
    "procreaper.lines": "rule",
    "procreaper.kinship": "rule",
    "procreaper.audience": "rule",
    "procreaper.formats": "rule",
    "procreaper.sequences": "rule",
    "procreaper.modes": "rule",
    "procreaper.records": "rule",
    "procreaper.procfile": "rule",
    "procreaper.environment": "rule",
    "procreaper.dotenv": "rule",
    "procreaper.suggest": "rule",
    "procreaper.variables": "rule",
    "procreaper.spelling": "rule",
    "procreaper.places": "rule",
    "procreaper.misfits": "rule",
    "procreaper.settings": "rule",
    "procreaper.layers": "rule",
    "procreaper.supervision": "rule",
    "procreaper.instances": "rule",
    "procreaper.groups": "rule",
    "procreaper.names": "rule",
    "procreaper.selection": "rule",
    "procreaper.planning": "rule",
    "procreaper.needs": "rule",
    "procreaper.choices": "rule",
    "procreaper.ports": "rule",
    "procreaper.shell": "rule",
    "procreaper.backtracking": "rule",
    "procreaper.shell_lint": "rule",
    "procreaper.last_command": "rule",
    "procreaper.shell_grammar": "rule",
    "procreaper.simple_commands": "rule",
    "procreaper.address": "rule",
    "procreaper.lint": "rule",
    "procreaper.outcome": "rule",
    "procreaper.descriptors": "tool",
    "procreaper.parts": "tool",
    "procreaper.proc": "tool",
    "procreaper.threads": "tool",
    "procreaper.lookup": "hand",
    "procreaper.config.*": "hand",
    "procreaper.child.*": "hand",
    "procreaper.command": "hand",
    "procreaper.errands": "hand",
    "procreaper.signals": "hand",
    "procreaper.pseudoterminal": "hand",
    "procreaper.screen": "hand",
    "procreaper.watch.*": "hand",
    "procreaper.guard": "hand",
    "procreaper.orphans.*": "hand",
    "procreaper.usage": "hand",
    "procreaper.health.*": "hand",
    "procreaper.output.*": "hand",
    "procreaper.control": "word",
    "procreaper.control.protocol": "word",
    "procreaper.control.directory": "hand",
    "procreaper.control.feed": "rule",
    "procreaper.control.replies": "rule",
    "procreaper.control.server.*": "hand",
    "procreaper.control.requests": "face",
    "procreaper.control.replanning": "face",
    "procreaper.control.attaching": "face",
    "procreaper.control.screen": "hand",
    "procreaper.control.client": "face",
    "procreaper.export.*": "face",
    "procreaper.metrics": "face",
    "procreaper.http.*": "face",
    "procreaper.control.view": "rule",
    "procreaper.reaper.*": "owner",
    "procreaper.cli.*": "face",
}
MAY_IMPORT = {
    "word": {"word"},
    "rule": {"word", "rule"},
    "tool": {"word", "tool"},
    "hand": {"word", "rule", "tool"},
    "owner": {"word", "rule", "tool", "hand"},
    "face": {"word", "rule", "tool", "hand", "owner", "face"},
}
# What the world is reached by, or waited for: not for words and rules.
IMPURE = frozenset(
    {"asyncio", "os", "time", "subprocess", "socket", "threading", "random", "logging"}
    | {"concurrent", "contextvars", "io", "multiprocessing", "pathlib", "queue", "sched", "secrets", "select"}
    | {"selectors", "shutil", "signal", "sys", "tempfile", "uuid"}
)
IMPURE_BUILTINS = frozenset({"open", "print", "input", "breakpoint", "exec", "eval"})
ONLY_IN = {
    "honcho": ("procreaper.procfile", "procreaper.environment", "procreaper.export"),
    "watchfiles": ("procreaper.watch",),
    "colorama": ("procreaper.cli.ps",),
    "dotenv": ("procreaper.dotenv",),
    "aiohttp": ("procreaper.http",),
    "prometheus_client": ("procreaper.http", "procreaper.library", "procreaper.metrics"),
}
# Their tasks do not live on: the owner itself, in the loop of the library's user or of a thread; and a spawn that
# a cancellation must not interrupt; and the watchers, of which each has a thread to wait for.
AWAITS_ITS_OWN = ("procreaper.library", "procreaper.blocking", "procreaper.command", "procreaper.watch")


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> str | None:
    """The layer of a module; of a family also where only the family is in the table."""
    families = (name for name in (module, module.rpartition(".")[0]) if f"{name}.*" in LAYERS)
    return LAYERS.get(module) or next((LAYERS[f"{name}.*"] for name in families), None)


def are_one_family(module: str, other: str) -> bool:
    """Whether they are a family and its member, or two members: what they have in common is theirs alone."""
    family = module if f"{module}.*" in LAYERS else module.rpartition(".")[0]
    return f"{family}.*" in LAYERS and (other == family or other.startswith(f"{family}."))


def imported(module: str, tree: ast.Module) -> Iterator[str]:
    """All that is imported anywhere in a module, as full names of modules as far as they are ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full == "procreaper.__version__":
                    continue
                yield str(node.module) if layer_of(full) is None else full


def called(tree: ast.Module) -> Iterator[str]:
    """The last names of all that is called: `step` for `rules.step(...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr
            elif isinstance(node.func, ast.Name):
                yield node.func.id


def assigned(tree: ast.Module) -> Iterator[str]:
    """The names of all attributes that are assigned."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.attr


def violations(module: str, source: str) -> list[str]:
    """What in this module breaks a rule of the design, section 3."""
    layer = layer_of(module)
    if layer is None:
        return ["is in no layer: put it into the table, and into the design"]
    tree = ast.parse(source)
    found = []
    for name in imported(module, tree):
        top = name.partition(".")[0]
        if top == "procreaper":
            its_layer = layer_of(name)
            if name == "procreaper":
                # But for the version, the public library is for others.
                if layer != "face":
                    found.append(f"imports the public face {name}")
            elif its_layer is None:
                found.append(f"imports {name}, which is in no layer")
            elif module == "procreaper.control.client" and its_layer != "word":
                found.append(f"imports {name}, which is a {its_layer}: the client speaks the protocol only")
            elif its_layer not in MAY_IMPORT[layer] and not are_one_family(module, name):
                found.append(f"is a {layer} and imports {name}, which is a {its_layer}")
        elif layer in ("word", "rule") and top in IMPURE:
            found.append(f"is a {layer} and imports {name}")
        elif top in ONLY_IN and not module.startswith(ONLY_IN[top]):
            found.append(f"imports {top}, which only {' and '.join(ONLY_IN[top])} may")
        elif name.startswith("honcho.command"):
            found.append("imports honcho.command, which configures logging when it is imported")
    calls = set(called(tree))
    if layer in ("word", "rule"):
        found += [f"is a {layer} and calls {name}()" for name in sorted(calls & IMPURE_BUILTINS)]
    if layer != "owner" and module not in AWAITS_ITS_OWN:
        tasks = {"TaskGroup", "create_task", "ensure_future", "run_coroutine_threadsafe"}
        found += [f"calls {name}, and only the owner has tasks" for name in sorted(calls & tasks)]
    if layer != "owner":
        if "_fleet" in assigned(tree):
            found.append("assigns the fleet, which only the owner does")
        if layer not in ("word", "rule") and "step" in calls:
            found.append("calls the rules, which only the owner does")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_keeps_the_rules(module: str) -> None:
    assert violations(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("procreaper.utils", "", "is in no layer"),
        ("procreaper.plan", "from procreaper.lifecycle import step", "is a word and imports procreaper.lifecycle"),
        ("procreaper.plan", "from procreaper import fleet", "is a word and imports procreaper.fleet"),
        ("procreaper.fleet", "import time", "is a rule and imports time"),
        ("procreaper.fleet", "def step():\n    from os.path import join", "is a rule and imports os.path"),
        ("procreaper.fleet", "import concurrent.futures", "is a rule and imports concurrent.futures"),
        ("procreaper.lines", "print('debug')", "is a rule and calls print()"),
        ("procreaper.procfile", "open('Procfile')", "is a rule and calls open()"),
        ("procreaper.child", "from procreaper.config import configure", "is a hand and imports procreaper.config"),
        ("procreaper.child", "from procreaper.output.hub import Hub", "is a hand and imports procreaper.output.hub"),
        ("procreaper.output.file", "import procreaper.child", "is a hand and imports procreaper.child"),
        ("procreaper.descriptors", "import procreaper.child", "is a tool and imports procreaper.child"),
        ("procreaper.fleet", "from procreaper.parts import put_aside", "is a rule and imports procreaper.parts"),
        ("procreaper.health.tcp", "from procreaper import reaper", "is a hand and imports procreaper.reaper"),
        ("procreaper.reaper", "from procreaper.cli import start", "is a owner and imports procreaper.cli"),
        ("procreaper.child", "from procreaper import Process", "imports the public face"),
        ("procreaper.control.client", "from procreaper.config import Options", "the client speaks the protocol only"),
        ("procreaper.control.server", "from procreaper.control.client import ask", "is a hand and imports"),
        ("procreaper.config", "from honcho import environ", "imports honcho"),
        ("procreaper.procfile", "import honcho.command", "imports honcho.command"),
        ("procreaper.export.systemd", "from honcho.command import main", "imports honcho.command"),
        ("procreaper.config", "import watchfiles", "imports watchfiles"),
        ("procreaper.cli.main", "import dotenv", "imports dotenv"),
        ("procreaper.cli.start", "reaper._fleet = None", "assigns the fleet"),
        ("procreaper.cli.start", "fleet, actions = rules.step(fleet, event, now)", "calls the rules"),
        ("procreaper.child", "loop.create_task(read())", "only the owner has tasks"),
        ("procreaper.health.http", "async with asyncio.TaskGroup() as tasks: ...", "only the owner has tasks"),
    ],
)
def test_a_broken_rule_is_found(module: str, source: str, complaint: str) -> None:
    assert [text for text in violations(module, source) if complaint in text]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("procreaper.fleet", "from procreaper.lifecycle import step\nimport re"),
        ("procreaper.output.terminal", "import threading\nfrom procreaper.output.hub import Sink"),
        ("procreaper.command", "import os\nfrom procreaper.descriptors import available"),
        ("procreaper.health", "from procreaper.health import tcp"),
        ("procreaper.control.client", "from procreaper.control import protocol"),
        ("procreaper.export.runit", "from honcho.export.runit import Export"),
        ("procreaper.cli.main", "from procreaper import __version__\nfrom procreaper.reaper import Reaper"),
    ],
)
def test_what_the_rules_allow_is_not_complained_about(module: str, source: str) -> None:
    assert violations(module, source) == []


# What a process costs that only starts and checks. asyncio itself imports logging, socket, ssl and subprocess.
HEAVY = frozenset(
    {"aiohttp", "anyio", "argcomplete", "dataclasses", "difflib", "honcho.command", "honcho.export", "honcho.manager"}
    | {"http", "importlib.metadata", "ipaddress", "jinja2", "json", "msgspec", "multiprocessing", "pathlib"}
    | {"prometheus_client", "ssl", "tempfile", "tomllib", "unittest", "urllib", "uuid", "watchfiles", "xml", "zipfile"}
)
# What of ours a process does without that only starts, writes and ends.
UNNEEDED = frozenset(
    {"checks", "checkup", "child.console", "child.detached", "child.roles", "cli.control", "command"}
    | {"control.protocol", "control.requests", "control.server", "diagnosis", "differences", "dotenv", "errands"}
    | {
        "health",
        "http",
        "needs",
        "orphans.commands",
        "output.files",
        "output.log",
        "pseudoterminal",
        "reaper.chores",
        "records",
    }
    | {"reloading", "renewal", "schema", "screen", "settings", "shell_grammar", "snapshot", "status", "watch"}
)
LATER = frozenset({"asyncio", "logging", "socket", "subprocess", "threading", "procreaper.reaper", "procreaper.output"})
PROBE = """
import sys
from procreaper.cli.main import execute
if "ls" in sys.argv:
    # `ls` asks every app of this user, and the apps of other tests and of the developer run on this machine too.
    from procreaper.control import directory
    directory.FALLBACK = "/nonexistent"
status = execute(sys.argv[1:])
print("status", status, *sorted(sys.modules), file=sys.stderr)
"""


def loaded(directory: Path, *arguments: str) -> tuple[str, set[str]]:
    """The exit status of a command line, and all modules that were imported for it."""
    ran = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, *arguments], cwd=directory, capture_output=True, text=True, check=True
    )
    _, status, *names = ran.stderr.splitlines()[-1].split()
    return status, set(names)


def test_a_start_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: echo hello\n")
    (tmp_path / ".env").write_text("A=1\n")
    status, names = loaded(tmp_path, "start")
    assert status == "0"
    assert "procreaper.reaper" in names
    assert names & HEAVY == set()
    assert names & {f"procreaper.{name}" for name in UNNEEDED} == set()


@pytest.mark.parametrize(
    ("arguments", "expected"), [(("check",), "0"), (("version",), "0"), (("start", "-p", "x"), "1"), (("help",), "0")]
)
def test_what_starts_nothing_does_not_import_what_starts_something(
    tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "Procfile").write_text("web: echo hello\n")
    status, names = loaded(tmp_path, *arguments)
    assert status == expected
    # To see whether a port is taken takes a socket.
    needed = {"socket"} if "check" in arguments else set()
    assert names & (HEAVY | LATER) == needed & names


@pytest.mark.parametrize("arguments", [("ps",), ("ps", "--json"), ("ls",), ("logs",), ("restart", "web"), ("quit",)])
def test_what_asks_a_running_app_imports_what_speaks_with_it_and_no_more(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "Procfile").write_text("web: echo hello\n")
    status, names = loaded(tmp_path, *arguments)
    assert status == ("0" if "ls" in arguments else "1")
    # msgspec itself imports uuid.
    needed = {"msgspec", "socket", "uuid"}
    assert names & (HEAVY | LATER) == needed & names


def test_the_page_about_the_architecture_has_every_module() -> None:
    assert purposes().keys() == {name.removeprefix("procreaper.") for name in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_the_page_about_the_architecture_has_the_purpose_that_a_module_gives_itself(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"\.(?:\s|$)", docstring)[0]
    assert purposes()[module.removeprefix("procreaper.")].split() == sentence.replace("``", "`").split()


def purposes() -> dict[str, str]:
    """The purpose of each module, as the page about the architecture tells it."""
    page = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    return {name: unescape(purpose) for name, purpose in re.findall(r"^\| `([\w.]+)` \| (.*) \|$", page, re.MULTILINE)}
