"""What the page about the export says is so: its tables are complete, and its example of an exporter works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.exported import PROCFILE

from procreaper.project.schema import ProcessSettings

PAGE = (Path(__file__).parent.parent.parent / "docs" / "export.md").read_text(encoding="utf-8")


def export(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "procreaper", "export", *arguments],
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("heading", ["Init systems", "compose and Kubernetes"])
def test_a_table_has_every_key(heading: str) -> None:
    section = re.split(r"\n##+ ", PAGE.split(f"\n## {heading}\n")[1])[0]
    rows = [row.split(" | ") for row in re.findall(r"^\| (.*) \|$", section, re.MULTILINE)]
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row[0])}
    assert keys >= set(ProcessSettings.__struct_fields__)
    assert all(cell.strip() for row in rows for cell in row), "a cell is empty"
    assert len({len(row) for row in rows}) == 1


def test_the_exporter_of_the_page_works(tmp_path: Path) -> None:
    (entry_point,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (module,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    packages = tmp_path / "packages"
    about = packages / "procreaper_list-1.0.dist-info"
    about.mkdir(parents=True)
    (packages / "procreaper_list.py").write_text(module)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: procreaper-list\nVersion: 1.0\n")
    # As a build back-end writes it.
    group = entry_point.replace('[project.entry-points."procreaper.exporters"]', "[procreaper.exporters]").replace(
        '"', ""
    )
    (about / "entry_points.txt").write_text(group)
    (tmp_path / "Procfile").write_text(PROCFILE)
    (tmp_path / ".reaper.toml").write_text('[process.web]\nhealth = "tcp://:$PORT"\n')
    ran = export(tmp_path, "list", "out", "-a", "shop", PYTHONPATH=str(packages))
    assert ran.stderr.splitlines() == [
        ".reaper.toml:2: warning: `health` of `web` is left out: a list has nothing like it",
        "Writing 'out/shop.list'",
    ]
    assert ran.returncode == 0
    assert (tmp_path / "out" / "shop.list").read_text().splitlines()[1:] == [
        "web.1 5000 gunicorn shop:app --bind 0.0.0.0:$PORT",
        "worker.1 5100 celery -A shop worker",
    ]


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (("compose",), {"compose.yaml"}),
        (("kubernetes", "--image", "shop:1"), {"kubernetes.yaml", "secret.yaml.example"}),
        (("launchd",), {"shop-web-1.plist", "shop-worker-1.plist"}),
    ],
)
def test_an_export_is_written_and_replaced_by_the_next(
    tmp_path: Path, arguments: tuple[str, ...], files: set[str]
) -> None:
    (tmp_path / "Procfile").write_text(PROCFILE)
    for password in ("a", "b"):
        (tmp_path / ".env").write_text(f"API_TOKEN={password}\nB={password}\n")
        ran = export(tmp_path, arguments[0], "out", "-a", "shop", *arguments[1:])
        assert ran.returncode == 0, ran.stderr
        assert {path.name for path in (tmp_path / "out").iterdir()} == files


def test_an_image_that_is_needed_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(PROCFILE)
    ran = export(tmp_path, "kubernetes", "out")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("procreaper: error: Kubernetes runs images, and none is named\n  hint: ")
    assert not (tmp_path / "out").exists()
