"""The recipes work as their page shows: each one is run with the real programs, if they are installed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from integration.test_background import wait_until
from support.driver import Project, project_in
from support.pages import ROOT, base_port, fenced, with_program
from support.recipe_player import Recipe, Stage, recipes
from support.survivors import Survivors

from procreaper.cli.parser import parse

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = {recipe.title: recipe for recipe in recipes(PAGE)}
# Programs and modules that may be missing; `.py` marks a Python module.
NEEDED = {
    "Django, Celery and redis": ("redis-server", "curl", "django.py", "celery.py", "redis.py"),
    "FastAPI and Vite": ("curl", "fastapi.py", "uvicorn.py", "vite"),
    "PostgreSQL, a migration, and what needs both": ("curl", "initdb", "postgres", "psql"),
}
# The tests pull no container images.
NOT_PLAYED = "In a container"
# Debian keeps these programs outside the PATH.
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def search_path(programs: Path) -> str:
    """A PATH with our `procreaper` and Python first. As root, PostgreSQL runs as the user `postgres`."""
    path = os.pathsep.join([with_program(programs), *map(str, POSTGRES[-1:])])
    if os.getuid() == 0 and shutil.which("runuser"):
        for name in ("initdb", "postgres"):
            if found := shutil.which(name, path=path):
                shim = programs / name
                shim.write_text(f'#!/bin/sh\nexec runuser -u postgres -- {shlex.quote(found)} "$@"\n')
                shim.chmod(0o755)
    return os.pathsep.join([str(programs), os.path.dirname(sys.executable), path])


@pytest.fixture
def project(tmp_path: Path, survivors: Survivors) -> Iterator[Project]:
    """An empty directory, which the user `postgres` may enter too, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="recipe-") as directory:
        os.chmod(directory, 0o755)
        with project_in(Path(directory), survivors) as project:
            project.environment["PATH"] = search_path(tmp_path)
            yield project


def missing(recipe: Recipe, path: str) -> list[str]:
    return [
        name
        for name in NEEDED.get(recipe.title, ())
        if (find_spec(name.removesuffix(".py")) if name.endswith(".py") else shutil.which(name, path=path)) is None
    ]


@pytest.mark.parametrize("title", [title for title in RECIPES if title != NOT_PLAYED])
def test_recipe_prints_the_output_on_the_page(title: str, project: Project, survivors: Survivors) -> None:
    recipe = RECIPES[title]
    if lacking := missing(recipe, project.environment["PATH"]):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    if "initdb" in NEEDED.get(title, ()) and os.getuid() == 0:
        try:
            shutil.chown(project.path, "postgres")
        except LookupError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    Stage(recipe, project, base_port()).play()
    # An app in the background reports its end when all its processes have ended, and exits a moment later.
    wait_until(lambda: not survivors.find())


@pytest.mark.parametrize("title", RECIPES)
def test_files_of_each_recipe_pass_the_check(title: str, project: Project) -> None:
    for name, text in RECIPES[title].files.items():
        project.write(name, text)
    result = project.run("check", env={"PORT": str(base_port())})
    assert result.code == 0, result.err
    told = [line for line in result.err.splitlines() if not line.startswith("  hint:")]
    assert [line for line in told if not re.search("is not found$|^Valid procfile|is in use$", line)] == []


def test_packages_that_recipes_install_are_test_requirements() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {name for names in re.findall("`pip install ([^`]+)`", PAGE) for name in shlex.split(names)}
    assert named <= {requirement.partition(">=")[0] for requirement in extra["test"]}
    assert len(named) == 4


def test_pre_commit_hook_on_the_page_matches_the_one_in_the_repository() -> None:
    (offered,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (block,) = fenced(PAGE, "yaml")
    (shown,) = yaml.safe_load(block)["repos"][0]["hooks"]
    assert shown == {key: offered[key] for key in shown} | {"language": "system"}
    pattern = re.compile(shown["files"])
    assert all(map(pattern.search, ("Procfile", "sub/Procfile.dev", ".env", ".env.local", ".reaper.toml")))
    assert not any(map(pattern.search, ("README.md", "environment.py", "a.reaper.toml.bak", "NotAProcfile")))


def test_page_lists_its_recipes() -> None:
    links = re.findall(r"^- \[(.*)\]\(#(.*)\)$", PAGE, re.MULTILINE)
    assert [title for title, _ in links] == list(RECIPES)
    assert [anchor for _, anchor in links] == [re.sub(r"[^a-z -]", "", t.lower()).replace(" ", "-") for t in RECIPES]


def test_container_files_name_existing_commands_and_paths() -> None:
    files = RECIPES[NOT_PLAYED].files
    (command,) = re.findall("^CMD (.*)$", files["Dockerfile"], re.MULTILINE)
    settings = json.loads(files[".devcontainer/devcontainer.json"])
    assert (Path(".devcontainer") / settings["build"]["dockerfile"]).parts[-2:] == ("..", "Dockerfile")
    for words in (json.loads(command), shlex.split(settings["postStartCommand"])):
        assert words[0] == "procreaper"
        assert parse(words[1:]).command == "start"
