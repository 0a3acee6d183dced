"""Health checks from other packages: found by their scheme, and refused with a reason if they do not work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.checking import run_check

from procreaper.runtime.health.plugins import load_check

MODULE = """
class Check:
    def __init__(self, url):
        self.url = url

    async def check(self, target):
        raise RuntimeError(f"{self.url} of {target.name}")

def refuses(url):
    raise ValueError("it has no port")

def quits(url):
    raise SystemExit(3)

class NotAsync:
    def __init__(self, url):
        pass

    def check(self, target):
        pass

def nothing(url):
    pass
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with these entry points. A value that begins with a dot is in the module of the test."""

    def install(**entry_points: str) -> None:
        lines = [f"{name} = {value.replace('.', f'{module}:', 1)}" for name, value in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[procreaper.health]", *lines]))

    module = f"checks_of_{tmp_path.name}".replace("-", "_")
    metadata = tmp_path / "checks-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: checks\nVersion: 1.0\n")
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, module)
    return install


def test_entry_point_of_the_scheme_is_called_with_the_url(install: Install) -> None:
    install(redis=".Check", rediss=".nothing")
    assert run_check(load_check("redis://localhost:6379/0?a=b")) == "redis://localhost:6379/0?a=b of web.1"


def test_scheme_is_case_insensitive(install: Install) -> None:
    install(redis=".Check")
    assert run_check(load_check("REDIS://localhost")) == "REDIS://localhost of web.1"


@pytest.mark.parametrize("url", ["mysql://localhost", "mysql", "", "://", "mysql:localhost"])
def test_unknown_scheme_is_an_error_that_names_the_known_ones(install: Install, url: str) -> None:
    install(redis=".Check", amqp=".Check")
    with pytest.raises(ValueError) as error:
        load_check(url)
    known = "amqp://, http://, https://, redis://, tcp://"
    assert str(error.value) == f"no installed package checks `{url}`; known are {known}"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("there_is_no_such_module:Check", "cannot be imported: No module named 'there_is_no_such_module'"),
        (".absent", "cannot be imported: module '{module}' has no attribute 'absent'"),
        (".refuses", "does not accept `redis://x`: it has no port"),
        (".quits", "does not accept `redis://x`: 3"),
        (".NotAsync", "gives something without an async method `check`: NotAsync"),
        (".nothing", "gives something without an async method `check`: NoneType"),
    ],
)
def test_broken_check_is_an_error_that_names_it(install: Install, value: str, what: str) -> None:
    install(redis=value)
    with pytest.raises(ValueError) as error:
        load_check("redis://x")
    source, _, said = str(error.value).partition(") ")
    module = source.partition("(")[2].partition(":")[0]
    assert source.startswith("the health check `redis` (")
    assert said == what.format(module=module)
