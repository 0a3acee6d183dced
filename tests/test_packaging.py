"""What is installed is what was written: its metadata, its extras, its modules, each of which can be imported alone."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import pytest
from support.pages import ROOT

import procreaper

INSTALLED = distribution("procreaper")
PACKAGE = Path(procreaper.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
NEEDED = {"colorama", "honcho", "msgspec", "watchfiles"}
EXTRAS = {"dotenv": {"python-dotenv"}, "export": {"jinja2"}, "http": {"aiohttp", "prometheus-client"}}


def required(installed: Distribution) -> dict[str, set[str]]:
    """The names of what is required: without an extra, which is ``""`` here, and with each of them."""
    found: dict[str, set[str]] = {}
    for requirement in installed.requires or ():
        match = re.fullmatch(r"([\w.-]+)[^;]*(?:; *extra *== *['\"](\w+)['\"])?", requirement)
        assert match is not None, requirement
        found.setdefault(match[2] or "", set()).add(match[1].lower())
    return found


def test_the_metadata_is_that_of_the_package() -> None:
    metadata = INSTALLED.metadata
    assert (metadata["Name"], metadata["Version"]) == ("procreaper", procreaper.__version__)
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Requires-Python"] == ">=3.11"
    assert f"Programming Language :: Python :: 3.{sys.version_info.minor}" in metadata.get_all("Classifier", [])


def test_there_is_one_command_and_it_can_be_loaded() -> None:
    (command,) = INSTALLED.entry_points
    assert (command.group, command.name) == ("console_scripts", "procreaper")
    assert callable(command.load())


def test_what_is_installed_has_its_licence_and_its_types() -> None:
    files = {
        str(file).removeprefix(f"procreaper-{procreaper.__version__}.dist-info/") for file in INSTALLED.files or ()
    }
    assert "licenses/LICENSE" in files
    assert (PACKAGE / "py.typed").exists()


def test_an_extra_adds_what_it_is_for_and_the_tests_have_all_of_them() -> None:
    found = required(INSTALLED)
    tests = found.pop("test")
    assert found == {"": NEEDED, **EXTRAS}
    assert set.union(*EXTRAS.values()) <= tests


def imported(path: Path) -> set[str]:
    """The names of the packages that are imported anywhere in a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names


def test_what_is_imported_is_required_and_the_other_way_round() -> None:
    names = set().union(*(imported(path) for path in PACKAGE.rglob("*.py"))) - sys.stdlib_module_names - {"procreaper"}
    distributions = packages_distributions()
    found = {distributions[name][0].lower().replace("_", "-") for name in names}
    # honcho imports jinja2, for the templates of its exporters.
    assert found | {"jinja2"} == NEEDED.union(*EXTRAS.values())


def test_a_message_that_tells_to_install_an_extra_names_one() -> None:
    told = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"procreaper\[(\w+)\]", path.read_text(encoding="utf-8"))
    }
    assert told == set(EXTRAS)


def test_the_wheel_has_every_module_and_nothing_else() -> None:
    files = {str(file) for file in INSTALLED.files or () if "__pycache__" not in str(file)}
    modules = {file for file in files if file.startswith("procreaper/")}
    if not modules:
        pytest.skip("it is installed as a link to its source")
    source = ROOT / "procreaper"
    written = {file.relative_to(ROOT) for file in source.rglob("*") if file.is_file()}
    assert modules == {str(file) for file in written if "__pycache__" not in file.parts}
    others = {Path(file).parts[0] for file in files - modules} - {".."}
    assert others == {f"procreaper-{procreaper.__version__}.dist-info"}


def test_all_that_the_source_archive_is_to_have_is_there() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in included if not (ROOT / name.lstrip("/")).exists()] == []


def test_the_top_level_has_what_the_design_gives_it() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("this is no checkout")
    names = {name.strip('"').partition("/")[0] for name in listed.stdout.splitlines()}
    visible = "pyproject.toml README.md LICENSE CHANGELOG.md Procfile.example procreaper tests docs benchmarks"
    assert {name for name in names if not name.startswith(".")} == set(visible.split())


# In a process of its own for each module, which has nothing of ours imported but that; a fork is that for less.
ALONE = """
import asyncio, http.server, importlib, json, os, sys, traceback
import aiohttp, honcho.export.base, msgspec, prometheus_client, watchfiles

for name in sys.argv[1:]:
    pid = os.fork()
    if not pid:
        try:
            importlib.import_module(name)
        except BaseException:
            print(f"{name}:", file=sys.stderr)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_each_module_can_be_imported_alone_and_without_a_warning() -> None:
    assert "procreaper.remote.http.server" in MODULES
    command = [sys.executable, "-I", "-W", "error", "-c", ALONE, *MODULES]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
