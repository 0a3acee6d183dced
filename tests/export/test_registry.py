"""Formats are found by name: ours, and those of other packages, whether made for us or for honcho."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.exporting import app, exported

from procreaper.cli.parser import EXPORT_FORMATS
from procreaper.errors import ProcreaperError
from procreaper.export import registry as formats
from procreaper.export.registry import find_exporter, known_formats

MODULE = """
from procreaper.export.exporter import File, Rendered

class Exporter:
    def render(self, app):
        return Rendered((File("made", app.name),))

class Honchos:
    def __init__(self, template_dir=None):
        self.template_dir = template_dir

    def render(self, processes, context):
        from types import SimpleNamespace
        for process in processes:
            content = f"{process.name} {process.cmd} {process.env} {sorted(context)} {self.template_dir}"
            yield SimpleNamespace(name=process.name, content=content, executable=True)

def render(app):
    return Rendered((File("module", app.name),))

class Empty:
    pass

class Broken:
    def render(self, app):
        raise KeyError("x")

class Nothing:
    def render(self, app):
        return None

def quits(template_dir=None):
    raise SystemExit(3)
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with these entry points of a group; a value begins with a dot for the module of this test."""

    def install(group: str, **entry_points: str) -> None:
        lines = [f"{name} = {value.replace('.', f'{module}:', 1) or module}" for name, value in entry_points.items()]
        with (metadata / "entry_points.txt").open("a") as file:
            file.write("\n".join([f"[{group}]", *lines, ""]))

    module = f"exporters_of_{tmp_path.name}".replace("-", "_")
    metadata = tmp_path / "exporters-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: exporters\nVersion: 1.0\n")
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, module)
    return install


def test_ours_are_modules_of_the_package() -> None:
    for name in ("runit", "supervisord", "systemd", "upstart"):
        assert find_exporter(name) is importlib.import_module(f"procreaper.export.{name}")
    assert set(known_formats()) >= set(formats.OURS)


def test_the_help_names_ours() -> None:
    assert sorted(EXPORT_FORMATS) == sorted(formats.OURS)


def test_others_are_found_by_their_entry_points(install: Install) -> None:
    install("procreaper.exporters", nomad=".Exporter", whole="")
    assert find_exporter("nomad").render(app(name="shop")).files[0].content == "shop"
    assert find_exporter("whole").render(app(name="shop")).files[0].path == "module"
    assert "nomad" in known_formats()


def test_those_that_were_made_for_honcho_get_what_honcho_gives_them(install: Install) -> None:
    pytest.importorskip("jinja2")
    install("honcho_exporters", bluepill=".Honchos")
    one = exported(command="bin/web", environment={"A": "1"})
    rendered = find_exporter("bluepill").render(app(one))
    context = ["app", "app_root", "log", "shell", "user"]
    assert rendered.warnings == ()
    assert rendered.files[0][:3] == ("web.1", f"web.1 bin/web {{'A': '1'}} {context} None", True)
    (warning,) = find_exporter("bluepill").render(app(one, settings=True)).warnings
    assert "only commands and environments reach it" in warning.message


def test_ours_win_over_others_of_the_same_name(install: Install) -> None:
    install("procreaper.exporters", runit=".Exporter")
    assert find_exporter("runit") is importlib.import_module("procreaper.export.runit")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (".Empty", "has no function `render`"),
        (".missing", "cannot be imported"),
        (".quits", "has no function `render`"),
        ("nowhere", "cannot be imported"),
    ],
)
def test_one_that_does_not_work_is_named(install: Install, value: str, message: str) -> None:
    install("procreaper.exporters", nomad=value)
    with pytest.raises(ProcreaperError, match=message) as caught:
        find_exporter("nomad")
    assert "the exporter `nomad` (" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"), [(".Broken", "fails: KeyError: 'x'"), (".Nothing", "fails: it gives something else")]
)
def test_one_that_fails_is_named(install: Install, value: str, message: str) -> None:
    install("procreaper.exporters", nomad=value)
    with pytest.raises(ProcreaperError, match=message):
        find_exporter("nomad").render(app())


def test_one_of_honchos_that_does_not_work_is_named(install: Install) -> None:
    pytest.importorskip("jinja2")
    install("honcho_exporters", bluepill=".quits")
    with pytest.raises(ProcreaperError, match="fails: SystemExit: 3"):
        find_exporter("bluepill").render(app())


def test_without_jinja2_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ProcreaperError, match="needs jinja2") as caught:
        find_exporter("runit", "templates").render(app())
    assert caught.value.hint == "`pip install 'procreaper[export]'`"


def test_an_unknown_format_is_told_with_the_nearest() -> None:
    with pytest.raises(ProcreaperError) as caught:
        find_exporter("sytemd")
    assert (caught.value.hint, caught.value.exit_code) == ("did you mean `systemd`?", 2)
