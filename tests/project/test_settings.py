from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procreaper.errors import Problem
from procreaper.project.schema import HealthSettings, ProcessSettings
from procreaper.project.settings import Settings, parse_settings

TEN_MISTAKES = """\
restart = "always"

[defaults]
restrat = "never"

[process.web]
restart = "on-failur"
concurrency = "two"
health = { http = "http://localhost", interval = "10 sec", retires = 3 }
success_codes = [
  0,
  300,
]
stop = { signal = 2 }
pty = "yes"

[output]
format = "jsn"
"""


def parsed(text: str | bytes) -> Settings:
    return parse_settings(text.encode() if isinstance(text, str) else text, ".reaper.toml")


def only(problems: Sequence[Problem]) -> Problem:
    [problem] = problems
    assert problem.path == ".reaper.toml"
    return problem


def test_valid_values_are_read() -> None:
    found = parsed('[process.web]\nrestart = "always"\nbackoff = 2\nenv = { A = 1, B = false, C = "x" }\n')
    assert found.problems == ()
    assert found.document.process == {
        "web": ProcessSettings(restart="always", backoff=2.0, env={"A": 1, "B": False, "C": "x"})
    }


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "\ufeff", "[process]\n"])
def test_empty_file_has_no_settings(text: str) -> None:
    found = parsed(text)
    assert (found.problems, found.document.process) == ((), {})


def test_bom_and_windows_line_ends_are_accepted() -> None:
    found = parsed("\ufeff[process.web]\r\noneshot = true\r\nwrong = 1\r\n")
    assert found.document.process["web"].oneshot is True
    assert only(found.problems).line == 3


def test_every_mistake_is_reported_with_its_line() -> None:
    problems = parsed(TEN_MISTAKES).problems
    assert [(problem.line, problem.message.split("`")[1]) for problem in problems] == [
        (1, "restart"),
        (4, "defaults.restrat"),
        (7, "process.web.restart"),
        (8, "process.web.concurrency"),
        (9, "process.web.health.interval"),
        (9, "process.web.health.retires"),
        (12, "process.web.success_codes[1]"),
        (14, "process.web.stop.signal"),
        (15, "process.web.pty"),
        (18, "output.format"),
    ]
    assert {problem.level for problem in problems} == {"error"}


def test_valid_values_beside_a_mistake_are_kept() -> None:
    found = parsed(TEN_MISTAKES)
    web = found.document.process["web"]
    assert web.health == HealthSettings(http="http://localhost")
    assert web.success_codes == [0]
    assert found.is_broken(("process", "web", "restart"))
    assert found.is_broken(("process", "web", "health"))
    assert not found.is_broken(("process", "web", "env"))
    assert not found.is_broken(("process", "worker"))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('restart = "on-failur"', '`never`, `on-failure` or `always`, not "on-failur"', "did you mean `on-failure`?"),
        ('restart = "Always"', "must be `never`", "did you mean `always`?"),
        ('restart = "unless-stopped"', "must be `never`", "did you mean `always`?"),
        ('restart = "on-failure:x"', "must be `never`", "did you mean `on-failure`?"),
        ("restart = true", "not true", 'write "always"'),
        ("restart = false", "not false", 'write "never"'),
        ('stop_all = "no"', "must be `never`, `on-failure` or `always`", "never"),
        ("concurrency = -1", "a whole number from 0 to 10000, not -1", "for example `concurrency = 2`"),
        ('concurrency = "2"', 'not "2"', "without the quotes: `concurrency = 2`"),
        ("port = 0", "a whole number from 1 to 65535 or `auto`, not 0", "for example `port = 3000`"),
        ('port = "atuo"', 'not "atuo"', "did you mean `auto`?"),
        ("port = 65536", "a whole number from 1 to 65535 or `auto`, not 65536", "for example `port = 3000`"),
        ('port = "3000"', 'not "3000"', "without the quotes: `port = 3000`"),
        ("concurrency = 1.5", "not 1.5", "for example `concurrency = 2`"),
        ("concurrency = 1979-05-27", "not a date or a time", "for example"),
        ('oneshot = "true"', "must be `true` or `false`", "without the quotes: `oneshot = true`"),
        ('backoff = "10"', "a duration or a table", 'write it as "500ms", "10s" or "1m30s"'),
        ('stop = { timeout = "soon" }', "`process.web.stop.timeout` must be a duration", "1m30s"),
        ('stop = "sigint"', "the name of a signal or a table", "SIGINT"),
        ("cwd = 5", "must be a string, not 5", 'put it in double quotes: `cwd = "5"`'),
        ('cwd = ""', "`process.web.cwd` must not be empty", "leave it out"),
        ("command = []", "must be a command, not an empty list", '["program", "argument"]'),
        ('watch = "app"', "must be a list or a table", 'write `watch = ["app"]`'),
        ('depends_on = "db"', "must be a list or a table", 'write `depends_on = ["db"]`'),
        (
            'depends_on = { db = "up" }',
            "`process.web.depends_on.db` must be `started`, `healthy`, `completed` or a table",
            "",
        ),
        ("stop = 10", "the name of a signal or a table, not 10", '`{ signal = "SIGINT", timeout = "10s" }`'),
        ('stop = "10s"', "the name of a signal or a table", 'timeout = "10s"'),
        ('depends_on = [{ db = "healthy" }]', "must be a string, not a table", '`depends_on = { db = "healthy" }`'),
        ('depends_on = { db = "heathy" }', "or a table", "did you mean `healthy`?"),
        ("env = { A = [1] }", "`process.web.env.A` must be a string, a number, `true` or `false`, not a list", ""),
        ('env = "A=secret"', "must be a table, not a string", ""),
        ("health = { status = 99 }", "an HTTP status from 100 to 599 or a list, not 99", "`status = 200`"),
        ("max_retries = 0", "a whole number of at least 1, not 0", ""),
        ('log = { max_size = "big" }', "must be a size", '"10MB"'),
    ],
)
def test_message_for_a_wrong_value_uses_the_terms_of_the_field(text: str, message: str, hint: str) -> None:
    problem = only(parsed(f"[process.web]\n\n{text}\n").problems)
    assert problem.line == 3
    assert message in problem.message
    assert hint in (problem.hint or "")


def test_unknown_parser_of_env_files_is_quoted_because_it_is_no_secret() -> None:
    problem = only(parsed('[env]\nparser = "python-dotenv"\n').problems)
    assert problem.message == '`env.parser` must be `honcho` or `dotenv`, not "python-dotenv"'


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[process.web]\nrestrat = 1", "there is no key `process.web.restrat`", "did you mean `restart`?"),
        ("[process.web]\nHealth = 1", "`process.web.Health`", "did you mean `health`?"),
        ("[process.web]\nhealthcheck = 1", "`process.web.healthcheck`", "did you mean `health`?"),
        ("[process.web.health]\nevery = 1", "`process.web.health.every`", "did you mean `interval`?"),
        ("[process.web.stop]\nkill_after = 1", "`process.web.stop.kill_after`", "did you mean `timeout`?"),
        ("[process.web]\nautorestart = true", "`process.web.autorestart`", "did you mean `restart`?"),
        ("[process.web]\nworking_dir = 1", "`process.web.working_dir`", "did you mean `cwd`?"),
        ("[process.web.1]\nenv = {}", "`process.web.1`", "all instances share the settings of their type"),
        ("[processes.web]\nenv = {}", "there is no key `processes`", "did you mean `process`?"),
        ("[web]\nrestart = 'always'", "there is no key `web`", "write `[process.web]`"),
        ("[defautls]\nrestart = 'always'", "there is no key `defautls`", "did you mean `defaults`?"),
        ("[Default]\nrestart = 'always'", "there is no key `Default`", "did you mean `defaults`?"),
        ("[gruops]\na = ['b']", "there is no key `gruops`", "did you mean `groups`?"),
        ("[ouput]\nformat = 'json'", "there is no key `ouput`", "did you mean `output`?"),
        ("[contrl]\nhttp = ':1'", "there is no key `contrl`", "did you mean `control`?"),
        ("[proces.web]\nrestart = 'no'", "there is no key `proces`", "did you mean `process`?"),
        ("restart = 'always'", "there is no key `restart`", "`[defaults]`"),
        ("restrat = 'always'", "there is no key `restrat`", "under `[defaults]` for all processes: `restart = ...`"),
        ("[hooks]\non_fail = 'x'", "there is no key `hooks`", "write `[process.NAME.hooks]`"),
        ("zzz = 1", "there is no key `zzz`", "there is `process`, `defaults`"),
        ("[process.web]\nhealth = { zzz = 1 }", "`process.web.health.zzz`", "there is `http`, `tcp`"),
        ("[process.'a b']\noneshot = true", '`process."a b"`: "a b" is not a name', "use only letters"),
    ],
)
def test_unknown_key_gets_a_suggestion(text: str, message: str, hint: str) -> None:
    problem = only(parsed(text).problems)
    assert message in problem.message
    assert hint in str(problem.hint)


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("\na = on-failure", 2, "this is not TOML: invalid value (column 5)", "put text in double quotes"),
        ("\na 1", 2, "expected '=' after a key", "`key = value`"),
        ("\n\na = [1,\n2\n\nb = 1\n", 6, "unclosed array", "close it with `]`"),
        ('\na = "x', 2, "unterminated string", "close it"),
        ('\na = """x\ny\nz', 2, "unterminated string", "close it"),
        ("[a]\n\n[a]\n", 3, "cannot declare `a` twice", "under the first one"),
        ('[process.web]\nx = 1\n[process."web"]\n', 3, "cannot declare `process.web` twice", "under the first one"),
        ("a = 1\na = 2\n", 2, "cannot overwrite a value", "remove one"),
        ("a.b = 1\na.b.c = 2\n\n", 2, "cannot overwrite a value", "remove one"),
        ("a = 1\rb = 2", 1, "expected newline", ""),
        ("\na = " + "9" * 5000, 2, "a number with too many digits", "use a smaller number"),
        ("\na = " + "[" * 5000, 2, "nested too deeply", "four levels"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_syntax_error_is_reported_with_its_line(text: str, line: int, message: str, hint: str) -> None:
    found = parsed(text)
    problem = only(found.problems)
    assert problem.line == line
    assert message in problem.message
    assert hint in str(problem.hint)
    assert found.is_broken(("process", "anything"))


def test_bytes_that_are_not_utf8_are_reported_with_their_line() -> None:
    problem = only(parsed(b"[process.web]\ncommand = 'caf\xe9'\n").problems)
    assert (problem.line, problem.message) == (2, "byte 0xe9 is not UTF-8")


def test_nul_is_an_error_in_every_key_and_value() -> None:
    problem = only(parsed('[process.web]\nenv = { A = "a\\u0000b" }\n').problems)
    assert (problem.line, problem.message) == (2, "a NUL in `process.web.env.A`")
    assert only(parsed('[process.web.env]\n"A\\u0000" = "b"\n').problems).line == 2


@pytest.mark.parametrize("http", ["127.0.0.1:9464", "localhost:1", "[::1]:0", ":80", "9464", "127.1.2.3:65535"])
def test_http_server_may_listen_on_the_loopback_address(http: str) -> None:
    assert parsed(f"[control]\nhttp = '{http}'\n").problems == ()


@pytest.mark.parametrize(
    "http", ["0.0.0.0:80", "example.org:80", "[::]:80", "localhost", "::1:80", "localhost:x", "1:70000"]
)
def test_http_server_may_not_listen_at_other_addresses(http: str) -> None:
    problem = only(parsed(f"\n[control]\nhttp = '{http}'\n").problems)
    assert problem.line == 3
    assert "`control.http` must be" in problem.message


def test_large_file_is_read_in_time() -> None:
    text = "".join(f"[process.p{number}]\nrestart = 'always'\nenv = {{ A = 'b' }}\n" for number in range(20_000))
    assert len(parsed(text).document.process) == 20_000
    assert only(parsed(text + "wrong = 1\n").problems).line == 60_001


# Random files raise no exception.

WORDS = (
    *ProcessSettings.__struct_fields__,
    *("process", "defaults", "groups", "output", "control", "env", "web", "1", "http", "tcp", "exec", "signal"),
    *("=", ".", "[", "]", "[[", "]]", "{", "}", ",", '"', "'", '"""', "\n", "\n", " ", "#", "\\", "\r", "\0", "é"),
    *("true", "1", "-1", "1.5", "nan", "inf", '"always"', '"10s"', '"x"', "1979-05-27", "07:32:00", "[]", "{}"),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(WORDS)).map("".join))
def test_any_text_gives_settings_or_problems(text: str) -> None:
    found = parsed(text)
    assert all(problem.path == ".reaper.toml" and problem.message for problem in found.problems)


@settings(deadline=None, max_examples=100)
@given(st.binary())
def test_any_bytes_give_settings_or_problems(raw: bytes) -> None:
    parsed(raw)


VALUES = st.recursive(
    st.sampled_from(
        [0, 1, -1, 10**30, 1.5, float("inf"), True, False, "", "x", "always", "10s", "SIGINT", "web", "$", "é"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["http", "signal", "web", "x", ""]), inner, max_size=3)
    ),
    max_leaves=5,
)


def as_toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float() | int():
            return str(value)
        case str():
            return json.dumps(value)
        case list():
            return f"[{', '.join(map(as_toml, value))}]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    raise TypeError(value)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from([*ProcessSettings.__struct_fields__, "x"]), VALUES, max_size=6))
def test_any_values_give_settings_or_problems_with_a_line(fields: dict[str, object]) -> None:
    lines = [f"{key} = {as_toml(value)}" for key, value in fields.items()]
    found = parsed("[process.web]\n" + "\n".join(lines))
    for problem in found.problems:
        assert problem.line is not None
        key = problem.message.split("`process.web.")[1].split("`")[0].split(".")[0].split("[")[0]
        assert lines[problem.line - 2].startswith(f"{key} =")
