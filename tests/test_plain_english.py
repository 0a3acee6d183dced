"""Package, tests and pages are written in plain English: words that need a second reading are rare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
SEARCHED = ("procreaper", "tests", "docs", "README.md", "CHANGELOG.md")
ENDINGS = {".md", ".py", ".sh", ".toml", ".json", ".1", ".bash", ".zsh", ".fish", ""}
# Hits per line of text.
LIMIT = 1 / 1000
# In the spelling of a pattern, so that this list is no hit itself.
FORBIDDEN = (
    "who[e]ver",
    "who[m]",
    "no[b]ody",
    "some[b]ody",
    "any[b]ody",
    "so[ ]many",
    "so[ ]much",
    "what[ ]it[ ]is",
    "what[ ]is[ ]told",
    "is[ ]told[ ]of",
    "is[ ]looked[ ]for",
    "is[ ]waited[ ]for",
    "begins[ ]anew",
)
# A phrase may continue on the next line, behind its indentation and the mark of a comment.
PATTERN = re.compile(
    r"\b(?:" + "|".join(words.replace("[ ]", r"(?:[ \t]+|[ \t]*\n[ \t]*(?:#[ \t]*)?)") for words in FORBIDDEN) + r")\b",
    re.IGNORECASE,
)


class Hit(NamedTuple):
    line: int
    words: str


def find_forbidden(text: str) -> Iterator[Hit]:
    """Yield the forbidden words of a text, each with the number of the line in which it begins."""
    for match in PATTERN.finditer(text):
        yield Hit(text.count("\n", 0, match.start()) + 1, " ".join(match[0].replace("#", " ").split()))


def find_files() -> Iterator[Path]:
    for name in SEARCHED:
        for path in [ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*")):
            if path.is_file() and path.suffix in ENDINGS and "__pycache__" not in path.parts:
                yield path


def check_files(paths: Iterable[Path], root: Path) -> tuple[list[str], int]:
    """Return each hit as `file:line: words`, and the number of lines of all files."""
    hits, lines = [], 0
    for path in paths:
        # The section quotes old messages.
        text, _, _ = path.read_text(encoding="utf-8", errors="replace").partition("\n### Changed messages\n")
        lines += text.count("\n")
        hits += [f"{path.relative_to(root)}:{hit.line}: {hit.words}" for hit in find_forbidden(text)]
    return hits, lines


def test_forbidden_words_are_rare() -> None:
    files = list(find_files())
    assert len(files) > 100
    hits, lines = check_files(files, ROOT)
    assert len(hits) <= lines * LIMIT, f"{len(hits)} in {lines} lines, see rule 0:\n" + "\n".join(hits)


@pytest.mark.parametrize("words", FORBIDDEN)
def test_each_forbidden_word_is_found_as_a_whole_word(words: str) -> None:
    plain = re.sub(r"\[(.)\]", r"\1", words)
    for text in (plain, plain.upper(), f"a ({plain}), b"):
        assert [hit.line for hit in find_forbidden(f"first\n{text}\n")] == [2]
    assert list(find_forbidden(f"x{plain} {plain}x {plain}_x")) == []


def test_phrase_is_found_across_lines_and_comment_marks() -> None:
    first, second = "so", "many"
    assert list(find_forbidden(f"a\n    # {first}\n    # {second} b\n")) == [Hit(2, f"{first} {second}")]
    assert list(find_forbidden(f"{first}\n\n{second}\n")) == []


def test_failure_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("One.\nTwo, by who" + "ever.\n", encoding="utf-8")
    hits, lines = check_files([tmp_path / "a.md"], tmp_path)
    assert (hits, lines) == (["a.md:2: who" + "ever"], 2)
