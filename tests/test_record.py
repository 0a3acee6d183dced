"""The recording on the front page: its script, its content and its form."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.pages import LIMIT, ROOT, base_port, environment

SVG = "{http://www.w3.org/2000/svg}"
RECORDED = ROOT / "docs" / "procreaper.svg"
# Texts that a run of docs/demo shows.
SHOWN = (
    "$ procreaper start",
    "web.1: waiting for store.1",
    "store.1 is healthy",
    "packing 2 pencils",
    "how many are `some paper`?",
    "worker.1: exited with code 1; retry 1 in 1.0 s",
    "worker.1: exited with code 1; retry 2 in 2.0 s",
    "put aside: some paper",
    "^C",
    "sending SIGTERM to web.1",
    "$ procreaper ps -w",
    "NAME STATE PID UPTIME",
    "worker.1 restarting",
    "the app has ended",
)


def rows(path: Path) -> list[ElementTree.Element]:
    """The elements of a picture, each with the text of a row."""
    return list(ElementTree.parse(path).getroot().iter(f"{SVG}text"))


def shown(path: Path) -> str:
    return "\n".join(re.sub(" +", " ", " ".join(row.itertext())) for row in rows(path))


def test_script_records_a_run_of_the_demo(tmp_path: Path, survivors: object) -> None:
    path = tmp_path / "new.svg"
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "docs" / "record.py"), str(path)],
        env=environment(PORT=str(base_port())),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        encoding="utf-8",
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    text = shown(path)
    assert [words for words in SHOWN if words not in text] == []


def test_help_option_writes_no_file(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "record.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        timeout=LIMIT,
        encoding="utf-8",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage: record.py")
    assert list(tmp_path.iterdir()) == []


def test_picture_shows_a_run_of_the_demo() -> None:
    text = shown(RECORDED)
    assert [words for words in SHOWN if words not in text] == []


@pytest.mark.parametrize("word", ["<script", "<foreignObject", "href", "@import", "url(http", "@font-face"])
def test_picture_has_no_script_font_or_link(word: str) -> None:
    assert word not in RECORDED.read_text(encoding="utf-8")


def test_each_row_of_the_picture_is_visible_at_some_time() -> None:
    css = "".join(ElementTree.parse(RECORDED).getroot().find(f"{SVG}style").itertext())
    for row in rows(RECORDED):
        name = row.get("class", "").split()[0]
        assert name == "title" or re.search(rf"@keyframes {name}\{{.*visibility:visible", css), name


def test_still_picture_shows_both_terminals() -> None:
    still = "\n".join(" ".join(row.itertext()) for row in rows(RECORDED) if "off" not in row.get("class", "").split())
    assert "retry 2 in 2.0 s" in still
    assert re.search(r"worker\.1\s+restarting", still)


def test_recording_begins_with_a_full_and_coloured_frame() -> None:
    picture = RECORDED.read_text(encoding="utf-8")
    first = {
        name
        for name, state in re.findall(r"@keyframes (\w+)\{0\.00%\{visibility:(\w+)\}", picture)
        if state == "visible"
    }
    rows = [
        row for name, row in re.findall(r'<text class="(s\d+)(?: off)?"[^>]*>(.*?)</text>', picture) if name in first
    ]
    assert len(rows) > 20
    assert len({colour for row in rows for colour in re.findall(r'class="(c\d+)"', row)}) > 3
