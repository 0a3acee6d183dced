"""The pages of docs/ are correct: their code blocks run, their links resolve, and the names that they use exist.

The recipes, and parts of the pages about export and metrics, have their own test modules.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import pytest
from support.driver import Project
from support.pages import (
    LIMIT,
    ROOT,
    base_port,
    fenced,
    free_port,
    python_blocks,
    run_python,
    sessions,
    with_program,
)
from support.recipe_player import Recipe, Stage, as_pattern
from support.survivors import Survivors

from procreaper.cli.commands.completion import list_commands
from procreaper.cli.parser import parse
from procreaper.errors import ProcreaperError
from procreaper.project.schema import (
    BackoffSettings,
    Document,
    EnvSettings,
    HealthSettings,
    LogSettings,
    ProcessSettings,
    StopSettings,
    WatchSettings,
)

DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The pages whose blocks a test runs. The blocks of export.md and recipes.md are run by other test modules.
RUN = {
    "console": {"export.md", "metrics.md", "migrating.md", "recipes.md"},
    "python": {"export.md", "library.md", "recipes.md"},
    "procfile": {"recipes.md"},
}
# A string of fewer characters could match a line by accident.
SHORTEST_MESSAGE = 10


@pytest.mark.parametrize("language", RUN)
def test_every_code_block_is_run_by_a_test(language: str) -> None:
    assert {name for name, page in PAGES.items() if fenced(page, language)} == RUN[language]


@pytest.mark.parametrize(("block", "shown"), python_blocks(PAGES["library.md"]))
def test_python_block_runs_and_prints_what_the_page_shows(block: str, shown: str | None, tmp_path: Path) -> None:
    if "redis-server" in block and shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    run_python(block, shown, tmp_path)


@pytest.fixture
def project(tmp_path: Path, survivors: Survivors) -> Iterator[Project]:
    """A project with the process types `web` and `worker`, which the pages assume."""
    path = tmp_path / "project"
    path.mkdir()
    project = Project(path)
    project.environment["PATH"] = with_program(tmp_path)
    project.procfile(web="exec sleep 600", worker="exec sleep 600")
    yield project
    left = survivors.find()
    survivors.kill()
    project.clean_up()
    assert left == []


def test_first_commands_of_the_migration_page_run(project: Project) -> None:
    Stage(Recipe("", {}, tuple(fenced(PAGES["migrating.md"], "console"))), project, base_port()).play()


@pytest.mark.skipif(
    None in map(find_spec, ("aiohttp", "prometheus_client")),
    reason="the packages of `procreaper[http]` are not installed",
)
def test_http_answers_begin_as_the_metrics_page_shows(project: Project) -> None:
    serving, following = fenced(PAGES["metrics.md"], "console")
    (_, (command, shown)), ((request, events),) = sessions(serving), sessions(following)
    port = str(free_port())
    program = project.begin(*shlex.split(command.replace("9464", port))[1:])
    program.wait_for(as_pattern(shown.replace("9464", port)))
    program.wait_for(r"worker\.1 started")
    *_, address = request.split()
    with urlopen(f"http://{address.replace('9464', port)}", timeout=LIMIT) as answer:
        for line in events.partition("\n\n")[0].splitlines():
            assert answer.readline().decode().startswith(line.partition("...")[0].rstrip("\n"))
    program.stop()


def test_export_commands_of_the_page_succeed(project: Project, tmp_path: Path) -> None:
    (block,) = fenced(PAGES["export.md"], "console")
    for number, (command, _) in enumerate(sessions(block)):
        _, export, form, _, *rest = shlex.split(command)
        result = project.run(export, form, str(tmp_path / f"out{number}"), *rest)
        assert result.code == 0, result.err


@pytest.mark.parametrize(
    "name", [name for name, page in PAGES.items() if fenced(page, "toml") and name != "recipes.md"]
)
def test_settings_of_each_page_pass_the_strict_check(name: str, project: Project) -> None:
    for settings in fenced(PAGES[name], "toml"):
        if "[project." in settings:
            # This is the pyproject.toml of a plug-in.
            continue
        kinds = re.findall(r"^\[process\.(\w+)\]", settings, re.MULTILINE) or ["web"]
        project.procfile(**dict.fromkeys(kinds, "exec sleep 600"))
        project.write(".reaper.toml", settings)
        result = project.run("check", "--strict", env={"PORT": str(base_port())})
        assert result.code == 0, result.err


def test_generated_pages_are_current() -> None:
    ran = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [("groff", "-ww", "-man", "-Tutf8", "-z"), ("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8")],
    ids=["groff", "man"],
)
def test_man_page_renders_without_warnings(command: tuple[str, ...]) -> None:
    if shutil.which(command[0]) is None or (command[0] == "man" and sys.platform == "darwin"):
        pytest.skip(f"{command[0]} is not installed, or is not GNU's")
    ran = subprocess.run([*command, str(DOCS / "procreaper.1")], capture_output=True, text=True, check=False)
    if command[0] == "man" and "minimized" in ran.stdout:
        pytest.skip("this system has no man pages")
    assert (ran.returncode, ran.stderr) == (0, "")


def anchors(page: str) -> set[str]:
    """The anchors of the headings of a page, in the spelling of GitHub."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCS.glob("*.md")], ids=lambda path: path.name)
def test_links_resolve(path: Path) -> None:
    page = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)$", page, re.MULTILINE)
    for link in (inline or reference for inline, reference in links):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        found = path.parent / target if target else path
        assert found.exists(), link
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), link


def test_index_links_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)\)", PAGES["README.md"]))
    made_by_hand = {path.name for path in DOCS.iterdir() if path.is_file() and path.name != "README.md"}
    assert made_by_hand <= linked


FLAGS = {spelling for command in list_commands() for flag in command.flags for spelling in flag.spellings}
TABLES = (
    BackoffSettings,
    Document,
    EnvSettings,
    HealthSettings,
    LogSettings,
    ProcessSettings,
    StopSettings,
    WatchSettings,
)
WORDS = {command.name for command in list_commands()} | {key for table in TABLES for key in table.__struct_fields__}
# Words of the migration page that are neither commands nor keys.
OTHER_WORDS = {"false", "formation", "procfile", "root"}


def test_replacements_on_the_migration_page_exist() -> None:
    rows = re.findall(r"^\| .* \| (.*) \|$", PAGES["migrating.md"], re.MULTILINE)
    spans = [span for cell in rows for span in re.findall(r"`([^`]+)`", cell)]
    named = [word for span in spans for word in re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", span)]
    assert len(named) > 15
    assert set(named) <= FLAGS, "no such flag"
    plain = {span.split()[0] for span in spans if re.match(r"[a-z_]+( [A-Za-z=. -]+)?$", span)}
    assert len(plain) > 20
    assert plain <= WORDS | OTHER_WORDS, "no such command or key"


class IncompleteError(Exception):
    """The command is known, but an argument is missing."""


def parse_command(words: str) -> None:
    try:
        parse(shlex.split(words))
    except ProcreaperError as error:
        if not error.message.startswith("there is no "):
            raise IncompleteError from error
        raise


@pytest.mark.parametrize("name", PAGES)
def test_commands_on_each_page_parse(name: str) -> None:
    for words in re.findall(r"`procreaper ([^`]+)`", re.sub(r"\s+", " ", PAGES[name])):
        # A page may leave out arguments, but the words that it shows must parse.
        with suppress(IncompleteError):
            parse_command(words)


@cache
def messages() -> list[re.Pattern[str]]:
    """Every string of the program that is long enough, as a pattern that matches any value at its placeholders."""
    found = []
    for path in (ROOT / "procreaper").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # The placeholders of `str.format`.
                parts = [piece for part in re.split(r"\{[a-z:]+\}", node.value) for piece in (None, part)][1:]
            else:
                continue
            if sum(len(part or "") for part in parts) >= SHORTEST_MESSAGE:
                found.append(re.compile("".join(".+" if part is None else re.escape(part) for part in parts)))
    return found


def test_symptoms_on_the_troubleshooting_page_are_messages_of_the_program() -> None:
    blocks = fenced(PAGES["troubleshooting.md"], "text")
    assert len(blocks) > 10
    for line in "".join(blocks).splitlines():
        text = re.sub(r"^(procreaper: |[\w.]+:\d+: )?(error|warning): |^\d\d:\d\d:\d\d system \| |^  hint: ", "", line)
        assert any(message.search(text) for message in messages()), text
