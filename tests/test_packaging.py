"""The installed package matches its source: metadata, extras and modules. Each module can be imported alone."""

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
    """The names of the required packages by extra; the key ``""`` has those that are always required."""
    found: dict[str, set[str]] = {}
    for requirement in installed.requires or ():
        match = re.fullmatch(r"([\w.-]+)[^;]*(?:; *extra *== *['\"](\w+)['\"])?", requirement)
        assert match is not None, requirement
        found.setdefault(match[2] or "", set()).add(match[1].lower())
    return found


def test_metadata_matches_the_package() -> None:
    metadata = INSTALLED.metadata
    assert (metadata["Name"], metadata["Version"]) == ("procreaper", procreaper.__version__)
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Requires-Python"] == ">=3.11"
    assert f"Programming Language :: Python :: 3.{sys.version_info.minor}" in metadata.get_all("Classifier", [])


def test_package_has_one_loadable_command() -> None:
    (command,) = INSTALLED.entry_points
    assert (command.group, command.name) == ("console_scripts", "procreaper")
    assert callable(command.load())


def test_package_contains_licence_and_types() -> None:
    files = {
        str(file).removeprefix(f"procreaper-{procreaper.__version__}.dist-info/") for file in INSTALLED.files or ()
    }
    assert "licenses/LICENSE" in files
    assert (PACKAGE / "py.typed").exists()


def test_extras_add_their_packages_and_the_test_extra_has_all() -> None:
    found = required(INSTALLED)
    tests = found.pop("test")
    assert found == {"": NEEDED, **EXTRAS}
    assert set.union(*EXTRAS.values()) <= tests


def imported(path: Path) -> set[str]:
    """The names of all packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names


def test_imported_packages_are_the_required_packages() -> None:
    names = set().union(*(imported(path) for path in PACKAGE.rglob("*.py"))) - sys.stdlib_module_names - {"procreaper"}
    distributions = packages_distributions()
    found = {distributions[name][0].lower().replace("_", "-") for name in names}
    # honcho imports jinja2, for the templates of its exporters.
    assert found | {"jinja2"} == NEEDED.union(*EXTRAS.values())


def test_messages_name_existing_extras() -> None:
    told = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"procreaper\[(\w+)\]", path.read_text(encoding="utf-8"))
    }
    assert told == set(EXTRAS)


def test_wheel_contains_every_module_and_nothing_else() -> None:
    files = {str(file) for file in INSTALLED.files or () if "__pycache__" not in str(file)}
    modules = {file for file in files if file.startswith("procreaper/")}
    if not modules:
        pytest.skip("the installation is editable")
    source = ROOT / "procreaper"
    written = {file.relative_to(ROOT) for file in source.rglob("*") if file.is_file()}
    assert modules == {str(file) for file in written if "__pycache__" not in file.parts}
    others = {Path(file).parts[0] for file in files - modules} - {".."}
    assert others == {f"procreaper-{procreaper.__version__}.dist-info"}


def test_files_of_the_source_archive_exist() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in included if not (ROOT / name.lstrip("/")).exists()] == []


def test_top_level_has_only_the_expected_files() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a checkout")
    names = {name.strip('"').partition("/")[0] for name in listed.stdout.splitlines()}
    visible = "pyproject.toml README.md LICENSE CHANGELOG.md Procfile.example procreaper tests docs benchmarks"
    assert {name for name in names if not name.startswith(".")} == set(visible.split())


# Import each module in a fresh process that has imported no other module of ours. A fork is cheaper than a new start.
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


def test_each_module_can_be_imported_alone_without_a_warning() -> None:
    assert "procreaper.remote.http.server" in MODULES
    command = [sys.executable, "-I", "-W", "error", "-c", ALONE, *MODULES]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
