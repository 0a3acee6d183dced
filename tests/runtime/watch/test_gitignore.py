"""The files that git ignores; and if git is installed, that git agrees."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procreaper.runtime.watch.gitignore import IgnoreFiles, walk_up

ROOT = "/srv"


def is_ignored(files: IgnoreFiles, path: str) -> bool:
    """Return whether a path is ignored, from the top down, as the users of the rules do."""
    steps = [*list(walk_up(path))[-2::-1]]
    return any(
        files.is_ignored(step, *step.rpartition("/")[::2], is_directory=step != path and not path.endswith("/"))
        for step in steps
    )


def ignored(text: str, *paths: str) -> list[str]:
    files = IgnoreFiles()
    files.set_ignore_file(ROOT, text)
    return [path for path in paths if is_ignored(files, f"{ROOT}/{path}")]


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("build", ["build", "a/build", "build/x", "a/build/b/c"], ["builds", "a/rebuild"]),
        ("build/", ["build/x", "a/build/x"], ["build", "a/build"]),
        ("/build", ["build", "build/x"], ["a/build"]),
        ("a/b", ["a/b", "a/b/c"], ["x/a/b", "a/bb"]),
        ("*.log", ["x.log", "a/.log", "x.log/y"], ["x.logs"]),
        ("a/*.log", ["a/x.log"], ["x.log", "a/b/x.log"]),
        ("**/logs", ["logs", "a/logs", "a/b/logs/x"], ["a/logsx"]),
        ("**/a/b", ["a/b", "x/y/a/b"], ["a/x/b"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["b", "x/a/b"]),
        ("a/**", ["a/x", "a/x/y"], ["a", "x/a/y"]),
        ("a**b", ["ab", "axb"], ["a/b"]),
        ("?.py", ["a.py", "x/b.py"], ["ab.py", ".py"]),
        ("[a-c]x", ["ax", "bx"], ["dx", "-x"]),
        ("[!a-c]x", ["dx", "-x"], ["ax", "x"]),
        ("[^a]", ["b"], ["a"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[a-]", ["-", "a"], ["b"]),
        ("[\\]a]", ["]", "a"], ["\\"]),
        ("[[:digit:]x]", ["1", "x"], ["a", ":"]),
        ("[[:nonsense:]]", [], ["n", ":"]),
        ("[z-a]", ["z"], ["a", "m"]),
        ("[ab", [], ["[ab", "a"]),
        ("a[/]b", [], ["a/b"]),
        ("a?b", ["axb"], ["a/b"]),
        ("\\*", ["*"], ["a"]),
        ("\\#x", ["#x"], ["x"]),
        ("\\!x", ["!x"], ["x"]),
        ("#x", [], ["#x", "x"]),
        ("x\\", [], ["x", "x\\"]),
        ("x  ", ["x"], ["x  "]),
        ("x\\ ", ["x "], ["x", "x\\ "]),
        ("x\r", ["x"], ["x\r"]),
        ("/", [], ["a", "a/b"]),
        ("", [], ["a"]),
        ("a.b", ["a.b"], ["axb"]),
        ("été", ["été"], ["ete"]),
    ],
)
def test_pattern_matches_only_the_expected_paths(pattern: str, matching: list[str], other: list[str]) -> None:
    assert ignored(pattern, *matching, *other) == matching


def test_last_match_decides() -> None:
    text = "*.log\n!keep.log\nkeep.*\n!keep.log\n*.tmp\n"
    assert ignored(text, "x.log", "keep.log", "keep.txt", "a.tmp") == ["x.log", "keep.txt", "a.tmp"]


def test_exception_has_no_effect_in_an_ignored_directory() -> None:
    assert ignored("out/\n!out/keep\n", "out/keep", "keep") == ["out/keep"]
    assert ignored("out/*\n!out/keep\n", "out/keep", "out/x") == ["out/x"]


def test_deeper_ignore_file_takes_precedence() -> None:
    files = IgnoreFiles()
    files.set_ignore_file(ROOT, "*.log")
    files.set_ignore_file(f"{ROOT}/a", "!*.log\n/x")
    assert is_ignored(files, f"{ROOT}/y.log")
    assert not is_ignored(files, f"{ROOT}/a/y.log")
    assert is_ignored(files, f"{ROOT}/a/x")
    assert not is_ignored(files, f"{ROOT}/x")


def test_change_of_an_ignore_file_is_noticed() -> None:
    files = IgnoreFiles()
    assert not files.set_ignore_file(ROOT, "")
    assert files.set_ignore_file(ROOT, "x")
    assert not files.set_ignore_file(ROOT, "x")
    assert is_ignored(files, f"{ROOT}/x")
    assert files.set_ignore_file(ROOT, "")
    assert not is_ignored(files, f"{ROOT}/x")


def test_answer_is_about_exactly_one_component() -> None:
    files = IgnoreFiles()
    files.set_ignore_file(ROOT, "a\n/b\nc/")
    for above in "abc":
        assert not files.is_ignored(f"{ROOT}/{above}/x", f"{ROOT}/{above}", "x", is_directory=False)


# The answers of git itself.

NAMES = ("a", "b", "ab", "a.x", ".b", "a b", "-", "]")
DIRECTORIES = ("", *(f"{one}/" for one in NAMES[:5]), "a/a/", "a/b/", "ab/a.x/", "b/a/b/")

PIECES = st.sampled_from(
    [
        *"ab-].!x",
        "*",
        "**",
        "?",
        "/",
        "/",
        "**/",
        "/**",
        "[ab]",
        "[!a]",
        "[a-b.]",
        "[",
        "\\",
        "\\*",
        " ",
        "#",
        "a.x",
        "ab",
    ]
)
LINES = st.lists(PIECES, min_size=1, max_size=5).map("".join)
# Cases that are not worth their code: an escaped slash; and stars that git takes for a component because it compares
# the part before them separately, followed by more such stars.
LINES = LINES.filter(lambda line: not re.search(r"\\/|[^/*]\*\*+/\*\*", line))
TEXTS = st.lists(LINES, max_size=5).map("\n".join)


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "HOME": str(root),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        self.git("init", "-q", ".")
        for directory in DIRECTORIES:
            (root / directory).mkdir(parents=True, exist_ok=True)
        self.paths: list[str] = []
        for directory in DIRECTORIES:
            for name in NAMES:
                path = root / directory / name
                if not path.is_dir():
                    path.write_text("")
                    self.paths.append(directory + name)

    def git(self, *arguments: str, stdin: str = "") -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, input=stdin.encode(), cwd=self.root, env=self.environment, capture_output=True)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout.decode()

    def ignored(self, texts: Mapping[str, str]) -> list[str]:
        for directory, text in texts.items():
            (self.root / directory / ".gitignore").write_text(text)
        output = self.git("check-ignore", "--no-index", "--stdin", "-z", stdin="\0".join(self.paths) + "\0")
        return output.split("\0")[:-1]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    return Repository(tmp_path_factory.mktemp("repository"))


@settings(deadline=None, max_examples=150)
@given(top=TEXTS, inner=TEXTS)
def test_rules_agree_with_git(repository: Repository, top: str, inner: str) -> None:
    files = IgnoreFiles()
    files.set_ignore_file(ROOT, top)
    files.set_ignore_file(f"{ROOT}/a", inner)
    ours = [path for path in repository.paths if is_ignored(files, f"{ROOT}/{path}")]
    assert ours == repository.ignored({"": top, "a": inner})
