"""The processes that a changed file affects."""

from __future__ import annotations

import posixpath
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.core.plan import Watch
from procreaper.runtime.watch.matcher import IGNORED, Matcher

ROOT = "/srv/project"


def matcher_of(*paths: str, ignore: tuple[str, ...] = (), gitignore: bool = True, **texts: str) -> Matcher:
    matcher = Matcher({"web": Watch(ROOT, paths, ignore, gitignore)})
    for directory, text in texts.items():
        matcher.set_ignore_file(posixpath.normpath(f"{ROOT}/{directory.replace('root', '.')}"), text)
    return matcher


def find_affected(matcher: Matcher, *paths: str) -> list[str]:
    """Return those of these paths, relative to the root, that affect the process."""
    absolute = [posixpath.normpath(posixpath.join(ROOT, path)) for path in paths]
    return sorted(matcher.find_affected(absolute).get("web", ()), key=paths.index)


@pytest.mark.parametrize(
    ("written", "affecting", "other"),
    [
        ("app", ["app", "app/main.py", "app/a/b/c"], ["main.py", "application/x", "lib/app/x"]),
        ("app/", ["app/main.py"], ["x/app/y"]),
        ("./app", ["app/main.py"], ["main.py"]),
        ("app/main.py", ["app/main.py"], ["app/other.py", "main.py"]),
        (".", ["main.py", "a/b/c"], []),
        ("", ["main.py", "a/b/c"], []),
        ("*.py", ["main.py", "a/b/main.py", "dir.py/x"], ["main.pyx", "a/py"]),
        ("*", ["main.py", "a/b"], []),
        ("./*.py", ["main.py"], ["a/main.py"]),
        ("config/*.toml", ["config/a.toml", "config/dir.toml/x"], ["config/a/b.toml", "a.toml", "x/config/a.toml"]),
        ("config/**", ["config/a", "config/a/b"], ["other/a"]),
        ("**/*.toml", ["a.toml", "a/b/c.toml"], ["a.txt"]),
        ("packages/*/src", ["packages/a/src/x/y", "packages/b/src"], ["packages/src/x", "packages/a/test/x"]),
        ("packages/**/src/*.c", ["packages/src/x.c", "packages/a/b/src/x.c"], ["packages/a/x.c", "src/x.c"]),
        ("test_?.py", ["test_a.py", "a/test_b.py"], ["test_ab.py"]),
        ("[ab].py", ["a.py", "x/b.py"], ["c.py"]),
        ("*.{py,html}", ["a.py", "x/b.html"], ["a.js"]),
        ("{app,lib}/*.{py,so}", ["app/a.py", "lib/b.so"], ["app/x/a.py", "bin/a.py"]),
        ("a{b,{c,d}e}", ["ab", "ace", "ade/x"], ["a", "abe", "x/ab"]),
        ("a{b}c", ["a{b}c"], ["abc"]),
        ("\\{a,b}", ["{a,b}"], ["a", "b"]),
        ("pages/\\[id\\].js", ["pages/[id].js"], ["pages/i.js"]),
        ("sources*/", ["sources1/x", "a/sources/y"], ["sources1"]),
        ("été", ["été/x"], ["ete/x"]),
    ],
)
def test_watched_path_matches_only_the_expected_files(written: str, affecting: list[str], other: list[str]) -> None:
    assert find_affected(matcher_of(written), *affecting, *other) == affecting


@pytest.mark.parametrize(
    ("written", "affecting", "other"),
    [
        ("../lib", ["/srv/lib/a.py", "/srv/lib"], ["/srv/libs/a.py", "/srv/project/lib/a.py"]),
        ("../lib/*.py", ["/srv/lib/a.py"], ["/srv/lib/x/a.py"]),
        ("/etc/app", ["/etc/app/x/y"], ["/etc/apps"]),
        ("/etc/*.conf", ["/etc/a.conf"], ["/etc/x/a.conf", "/a.conf"]),
        ("//etc/app", ["/etc/app/x"], []),
        ("/", ["/x", "/a/b"], []),
        ("/*.conf", ["/a.conf"], ["/etc/a.conf"]),
    ],
)
def test_watched_path_outside_of_the_root(written: str, affecting: list[str], other: list[str]) -> None:
    found = matcher_of(written).find_affected([*affecting, *other]).get("web", ())
    assert [posixpath.normpath(posixpath.join(ROOT, path)) for path in found] == affecting


def test_paths_are_shown_from_the_root() -> None:
    matcher = matcher_of("../lib", ".", "/etc")
    found = matcher.find_affected(["/srv/lib/a.py", f"{ROOT}/b/c.py", "/etc/x", f"{ROOT}/caf\udce9"])
    assert found == {"web": ("../lib/a.py", "b/c.py", "../../etc/x", "caf\N{REPLACEMENT CHARACTER}")}


def test_each_process_gets_the_files_that_affect_it() -> None:
    watches = {
        "web.1": Watch(ROOT, ("app",)),
        "web.2": Watch(ROOT, ("app",), debounce=1.0),
        "worker": Watch(ROOT, ("app/jobs", "lib")),
        "css": Watch(ROOT, ("styles",)),
        "deaf": Watch(ROOT, ()),
    }
    found = Matcher(watches).find_affected([f"{ROOT}/app/web.py", f"{ROOT}/app/jobs/a.py", "/elsewhere"])
    assert found == {
        "web.1": ("app/web.py", "app/jobs/a.py"),
        "web.2": ("app/web.py", "app/jobs/a.py"),
        "worker": ("app/jobs/a.py",),
    }


@pytest.mark.parametrize(
    "path",
    [
        ".git/index",
        "sub/.git",
        ".venv/lib/x.py",
        "a/node_modules/b/c.js",
        "__pycache__/a.pyc",
        ".main.py.swp",
        "main.py~",
        "4913",
        ".#main.py",
        "#main.py#",
        "main.py___jb_tmp___",
        ".DS_Store",
    ],
)
def test_temporary_and_generated_files_are_ignored_by_default(path: str) -> None:
    assert find_affected(matcher_of("."), path, "main.py") == ["main.py"]
    assert find_affected(matcher_of("*"), path, "main.py") == ["main.py"]


@pytest.mark.parametrize("path", ["main.tmp", ".env", ".github/x", "git/x", "cache/x", "environment/venv.py", "a~b"])
def test_similar_names_are_not_ignored_by_default(path: str) -> None:
    assert find_affected(matcher_of("."), path) == [path]


def test_ignored_patterns() -> None:
    matcher = matcher_of(".", ignore=("*_test.py", "fixtures", "/build", "docs/*.html", "./x", "*.{a,b}"))
    ignored = ["a_test.py", "p/b_test.py", "fixtures/x", "p/fixtures/y", "build/x", "docs/a.html", "x", "a.a", "p/b.b"]
    watched = ["a.py", "p/build/x", "docs/p/a.html", "p/x", "a.c"]
    assert find_affected(matcher, *ignored, *watched) == watched


def test_ignored_patterns_with_exceptions() -> None:
    matcher = matcher_of(".", ignore=("*.txt", "!keep.txt", "!.cache"))
    assert find_affected(matcher, "a.txt", "keep.txt", ".cache/x", ".git/x") == ["keep.txt", ".cache/x"]


def test_ignored_patterns_outside_of_the_root() -> None:
    matcher = matcher_of("../lib", "/etc/app", ignore=("*.md", "../lib/gen", "/etc/app/*.bak", f"{ROOT}/x"))
    ignored = ["../lib/a.md", "../lib/gen/a", "/etc/app/a.bak", "/etc/app/a.md"]
    watched = ["../lib/a", "../lib/x/gen", "../../etc/app/x"]
    assert find_affected(matcher, *ignored, *watched) == watched


def test_ignore_files_apply() -> None:
    matcher = matcher_of(".", root="*.log\n/dist\n", app="!keep.log\n")
    watched = ["app/keep.log", "app/dist/x"]
    assert find_affected(matcher, "a.log", "dist/x", "app/a.log", *watched) == watched


def test_ignore_files_can_be_turned_off() -> None:
    matcher = matcher_of(".", gitignore=False, root="*.log\n")
    assert not matcher.uses_ignore_files
    assert find_affected(matcher, "a.log", ".git/x") == ["a.log"]


def test_ignore_takes_precedence_over_ignore_files() -> None:
    matcher = matcher_of(".", ignore=("!dist",), root="dist\n!.venv\n")
    assert find_affected(matcher, "dist/x", ".venv/x") == ["dist/x"]


def test_ignore_file_above_the_root_applies() -> None:
    matcher = matcher_of(".")
    matcher.set_ignore_file("/srv", "*.log\n/project/gen\n")
    assert find_affected(matcher, "a.log", "gen/x", "x/gen") == ["x/gen"]


def test_changed_ignore_file_applies() -> None:
    matcher = matcher_of(".", root="out")
    assert find_affected(matcher, "out/x", "in/x") == ["in/x"]
    matcher.set_ignore_file(ROOT, "in")
    assert find_affected(matcher, "out/x", "in/x") == ["out/x"]


def test_named_path_is_watched_although_a_rule_matches() -> None:
    text = "dist/\n.env\n*.map\n"
    matcher = matcher_of("dist", ".env", "node_modules/mine/*.js", ignore=("generated", ".env"), root=text)
    ignored = ["dist/x.map", "dist/generated/x", "dist/__pycache__/x", "node_modules/other/a.js", "x/.env"]
    watched = ["dist/x.js", ".env", "node_modules/mine/a.js"]
    assert find_affected(matcher, *ignored, *watched) == watched


def test_root_that_an_outer_rule_ignores_is_watched() -> None:
    matcher = matcher_of(".")
    matcher.set_ignore_file("/srv", "project\n")
    matcher.set_ignore_file("/", "srv\n")
    assert find_affected(matcher, "a/b") == ["a/b"]


def test_entry_below_another_does_not_hide_it() -> None:
    matcher = matcher_of("node_modules/mine", ".")
    assert find_affected(matcher, "node_modules/mine/x", "node_modules/other", "y") == ["node_modules/mine/x", "y"]


def test_own_logs_are_ignored() -> None:
    matcher = Matcher({"web": Watch(ROOT, (".", "log/web.log"))}, logs=[f"{ROOT}/log/web.log"])
    paths = ["log/web.log", "log/web.log.1", "log/web.logs", "web.log"]
    assert find_affected(matcher, *paths) == ["log/web.logs", "web.log"]


def test_bases_are_the_named_paths() -> None:
    assert matcher_of("app", "*.py", "config/*.toml", "../lib", "app").bases == (
        f"{ROOT}/app",
        ROOT,
        f"{ROOT}/config",
        "/srv/lib",
    )
    assert matcher_of("/").bases == ("/",)


@pytest.mark.parametrize(
    ("written", "entered", "left"),
    [
        ("app", ["", "app", "app/a/b"], ["lib", "app/node_modules", "app/a/.git"]),
        ("*.py", ["", "a/b"], [".git", "a/.venv"]),
        ("packages/*/src", ["", "packages", "packages/a", "packages/a/src/x"], ["packages/a/test", "lib"]),
        ("packages/*/src/**/x", ["packages/a/src/b/c"], ["packages/a/b/src"]),
        ("config/*.toml", ["config", "config/a.toml/x"], ["config/a"]),
        ("**/x", ["", "a/b"], []),
        ("app/main.py", ["app"], ["app/x", "lib"]),
        ("../lib", ["..", "../lib/a"], ["", "a"]),
    ],
)
def test_only_directories_with_possible_matches_are_entered(written: str, entered: list[str], left: list[str]) -> None:
    matcher = matcher_of(written)
    paths = [*entered, *left]
    assert [path for path in paths if matcher.should_enter(posixpath.normpath(f"{ROOT}/{path}"))] == entered
    assert matcher.should_enter("/")


def test_watched_files_are_filtered() -> None:
    matcher = matcher_of("app/*.py", "../../x.conf")
    assert matcher.filter_watched(f"{ROOT}/app", ["a.py", "b.txt", "c.py~"]) == {"a.py"}
    assert matcher.filter_watched("/", ["x.conf", "y.conf"]) == {"x.conf"}


def test_very_deep_path_is_matched() -> None:
    deep = "d/" * 2000 + "x"
    assert find_affected(matcher_of("."), deep) == [deep]


PATHS = st.lists(st.sampled_from(["a", "b", "*", "**", "a*", ".git", "?", "..", "."]), min_size=1, max_size=4).map(
    "/".join
)
FILES = st.lists(st.sampled_from(["a", "b", "ab", ".git"]), min_size=1, max_size=4).map("/".join)


@given(
    paths=st.lists(PATHS, max_size=3), ignore=st.lists(PATHS, max_size=2), text=st.lists(PATHS, max_size=2), file=FILES
)
def test_every_watched_file_is_reached_by_entering_directories(
    paths: list[str], ignore: list[str], text: list[str], file: str
) -> None:
    matcher = matcher_of(*paths, ignore=tuple(ignore), root="\n".join(text))
    directory, _, name = f"{ROOT}/{file}".rpartition("/")
    interesting = matcher.filter_watched(directory, [name])
    assert bool(interesting) == bool(find_affected(matcher, file))
    if interesting:
        while directory:
            assert matcher.should_enter(directory)
            directory = posixpath.dirname(directory).rstrip("/")


def test_ten_thousand_changes_for_ten_processes_take_less_than_the_limit() -> None:
    paths = [f"{ROOT}/src/package{number % 100}/module{number}.py" for number in range(10_000)]
    watches = {f"process{number}": Watch(ROOT, ("src", f"more{number}"), ("*_test.py",)) for number in range(10)}
    matcher = Matcher(watches)
    matcher.set_ignore_file(ROOT, "\n".join([*IGNORED, *(f"*.t{number}" for number in range(50)), "/a/b", "/c/*.d"]))
    began = time.process_time()
    found = matcher.find_affected(paths)
    # It takes about 0.1 s; the limit allows for a busy machine.
    assert time.process_time() - began < 2
    assert [len(paths) for paths in found.values()] == [10_000] * 10
