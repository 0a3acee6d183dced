from __future__ import annotations

import time

import pytest

from procreaper.project.toml import Keys, find_line, find_statements

TEXT = '''# settings
[process.web]
restart = "always"
env = { A = 1, "B C" = 2 }
depends_on = [
  "db",   # a ] b
  "cache",
]
health.http = "x"
hooks.on_fail = """
[process.worker]
"""

[process."w b"]
a.b.c = 1
[[many]]
x = 1
'''


@pytest.mark.parametrize(
    ("keys", "value", "line"),
    [
        (("process",), None, 2),
        (("process", "web"), None, 2),
        (("process", "web", "restart"), None, 3),
        (("process", "web", "env", "B C"), None, 4),
        (("process", "web", "depends_on"), None, 5),
        (("process", "web", "depends_on", 0), "db", 6),
        (("process", "web", "depends_on", 1), "cache", 7),
        (("process", "web", "depends_on", 1), "not there", 5),
        (("process", "web", "health"), None, 9),
        (("process", "web", "health", "http"), None, 9),
        (("process", "web", "hooks", "on_fail"), None, 10),
        (("process", "worker"), None, 2),
        (("process", "w b"), None, 14),
        (("process", "w b", "a", "b", "c"), None, 15),
        (("process", "w b", "missing"), None, 14),
        (("many",), None, 16),
        (("many", "x"), None, 17),
        (("nothing",), None, None),
        ((), None, None),
    ],
)
def test_key_is_found_at_its_line(keys: Keys, value: object, line: int | None) -> None:
    assert find_line(TEXT, keys, value) == line


@pytest.mark.parametrize(
    ("value", "line"), [("a", 2), (300, 4), (30, 5), (1.5, 6), (True, 7), ('say "x"', 8), ("lone", 9)]
)
def test_item_is_found_in_a_list_of_several_lines(value: object, line: int) -> None:
    text = "x = [\n'a',\n# none\n300,\n30,\n1.5,\ntrue,\n\"say \\\"x\\\"\",\n'lone',\n]\n"
    assert find_line(text, ("x", 0), value) == line


@pytest.mark.parametrize(("text", "line"), [("", None), ("a = 1\n", None), ("a = 1\nb = [\n1,\n", 2), ('a = "x', 1)])
def test_statement_that_never_ends_is_found(text: str, line: int | None) -> None:
    assert find_statements(text).open == line


@pytest.mark.parametrize(
    "text",
    [
        "x = [\n" + "[1],\n" * 20_000 + "]\n",
        "a b\n" * 20_000,
        'x = """\n' + "]\n" * 20_000,
        "x = [\n" * 20_000,
        "[a]\n" * 20_000,
    ],
    ids=["list", "garbage", "string", "brackets", "headers"],
)
def test_time_is_linear_in_the_size_of_the_text(text: str) -> None:
    began = time.process_time()
    find_statements(text)
    assert time.process_time() - began < 10
