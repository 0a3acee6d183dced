from __future__ import annotations

import honcho.environ
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.hand_written import CHARACTERS, ODD_SEPARATORS, check_problems, only_problem

from procreaper.errors import Problem
from procreaper.project.procfile import Entry, Procfile, make_instances, parse_procfile


def procfile(text: str) -> Procfile:
    return parse_procfile(text.encode(), "Procfile")


def messages_and_lines(problems: tuple[Problem, ...]) -> list[tuple[str, int | None]]:
    return [(problem.level, problem.line) for problem in problems]


@pytest.mark.parametrize(
    ("line", "name", "command"),
    [
        ("web: python app.py", "web", "python app.py"),
        ("web:python app.py", "web", "python app.py"),
        ("web:\t  a  b  ", "web", "a  b  "),
        ("web: a # b", "web", "a # b"),
        ('web: echo "x: $PORT"', "web", 'echo "x: $PORT"'),
        ("-x_9: a", "-x_9", "a"),
        ("1: a", "1", "a"),
        ("web: é\u2028", "web", "é\u2028"),
    ],
)
def test_process_has_the_name_and_command_of_honcho(line: str, name: str, command: str) -> None:
    assert procfile(line) == Procfile("Procfile", (Entry(name, command, 1),), ())


def test_entries_have_the_order_and_lines_of_the_file() -> None:
    found = procfile("# all\n\nworker: b\r\n  # more\n\t\nweb: a")
    assert found.entries == (Entry("worker", "b", 3), Entry("web", "a", 6))
    assert found.problems == ()


@pytest.mark.parametrize("separator", ODD_SEPARATORS)
def test_only_a_line_feed_ends_a_line(separator: str) -> None:
    assert procfile(f"web: a{separator}b: c\n").entries == (Entry("web", f"a{separator}b: c", 1),)


def test_byte_order_mark_is_skipped() -> None:
    assert procfile("\ufeffweb: a").entries == (Entry("web", "a", 1),)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("web python", "no colon", "`name: command`"),
        ("web=python", "no colon", "`name: command`"),
        (": python", "no name before the colon", "`name: command`"),
        (" web: python", "a blank before the name `web`", "remove the blank before"),
        ("web : python", "a blank after the name `web`", "remove the blank after"),
        ("web.a: python", "`.` is not allowed in the name `web.a`", "use only"),
        ("my app : python", "a blank is not allowed in the name `my app`", "use only"),
        ("a\x1b[2J: b", "U+001B is not allowed in the name `a?[2J`", "use only"),
        ("x" * 40 + " y: z", f"a blank is not allowed in the name `{'x' * 40}...`", "use only"),
        ("wéb: python", "`é` is not allowed in the name", "use only"),
        ("- web: python", "a blank is not allowed in the name", "use only"),
        ("\ufeffweb: python", "U+FEFF is not allowed in the name", "use only"),
    ],
)
def test_line_without_a_process_is_a_warning(line: str, message: str, hint: str) -> None:
    found = procfile(f"a: b\n{line}\nc: d")
    problem = only_problem(found.problems)
    assert (problem.level, problem.place) == ("warning", "Procfile:2")
    assert message in problem.message
    assert hint in str(problem.hint)
    assert [entry.name for entry in found.entries] == ["a", "c"]


@pytest.mark.parametrize("line", ["web:", "web: ", "web:\t \t", "web: \r"])
def test_line_without_a_command_is_a_warning(line: str) -> None:
    found = procfile(f"a: b\n{line}\nc: d\n")
    problem = only_problem(found.problems[-1:])
    assert (problem.level, problem.line) == ("warning", 2)
    assert problem.message == "line ignored: no command after `web:`"
    assert problem.hint == "write `web: command`, or remove it"
    assert [entry.name for entry in found.entries] == ["a", "c"]


def test_line_without_a_command_is_no_second_definition() -> None:
    found = procfile("web:\nweb: a\n")
    assert found.entries == (Entry("web", "a", 2),)
    assert messages_and_lines(found.problems) == [("warning", 1)]


def test_duplicate_name_is_an_error_with_both_lines() -> None:
    found = procfile("web: a\nworker: b\nweb: c")
    message = "process type `web` is defined twice, first in line 1"
    assert found.problems == (Problem(message, "Procfile", 3, "rename one of them"),)
    assert found.entries == (Entry("web", "a", 1), Entry("worker", "b", 2))


def test_nul_in_a_command_is_an_error() -> None:
    problem = only_problem(procfile("web: a\0b").problems)
    assert (problem.level, problem.line) == ("error", 1)


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"# web: a\n", b"\xef\xbb\xbf"])
def test_procfile_without_a_process_is_an_error(raw: bytes) -> None:
    problem = only_problem(parse_procfile(raw, "Procfile").problems)
    assert (problem.level, problem.place) == ("error", "Procfile")
    assert "`web: command`" in str(problem.hint)


def test_missing_process_is_reported_after_the_warnings_that_explain_it() -> None:
    assert messages_and_lines(procfile("web : a").problems) == [("warning", 1), ("error", None)]
    assert messages_and_lines(procfile("web:").problems) == [("warning", 1), ("error", None)]


def test_missing_process_is_not_reported_if_an_error_explains_it() -> None:
    assert messages_and_lines(procfile("web: a\0b").problems) == [("error", 1)]


def test_backslash_at_the_end_of_a_command_is_kept_with_a_warning() -> None:
    found = procfile("web: a \\\n  --b\nc: d")
    assert found.entries == (Entry("web", "a \\", 1), Entry("c", "d", 3))
    assert messages_and_lines(found.problems) == [("warning", 1), ("warning", 2)]


@pytest.mark.parametrize(
    ("raw", "line", "column", "byte"),
    [
        (b"\xff", 1, 1, "0xff"),
        (b"web: a\nb: \xc3\xa9\xe9!", 2, 5, "0xe9"),
        (b"\xef\xbb\xbfab\xc3", 1, 3, "0xc3"),
        (b"web: a\r\n\xff\xfe\xfd", 2, 1, "0xff"),
    ],
)
def test_invalid_utf_8_is_one_error_with_line_and_column(raw: bytes, line: int, column: int, byte: str) -> None:
    problem = Problem(f"byte {byte} in column {column} is not UTF-8", "f", line, "save the file as UTF-8")
    assert parse_procfile(raw, "f") == Procfile("f", (), (problem,))


@pytest.mark.parametrize("text", ["A: b\rC: d", "# x\rA: b\nC: d"])
def test_lone_carriage_return_is_a_warning(text: str) -> None:
    assert only_problem(procfile(text).problems)[0] == "a lone carriage return does not end a line"


@given(st.binary())
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    parse_procfile(raw, "f")


@given(st.text(CHARACTERS + "\n\r\0\x0c\u2028\ue0001"))
def test_every_problem_has_a_place_in_the_file_and_a_hint(text: str) -> None:
    check_problems(procfile(text).problems, "Procfile", text)


@given(st.lists(st.one_of(st.text("ab:# .", max_size=6), st.from_regex(r"[a-f]:[ ]?[^\s].*", fullmatch=True))))
def test_procfile_without_errors_has_the_processes_of_honcho(lines: list[str]) -> None:
    assume(all("\n".join(line.splitlines()) == line for line in lines))
    found = procfile("\n".join(lines))
    assume(all(problem.level == "warning" for problem in found.problems))
    theirs = honcho.environ.parse_procfile("\n".join(lines))
    assert [(entry.name, entry.command) for entry in found.entries] == list(theirs.processes.items())


# make_instances


def expanded(
    *entries: str,
    concurrency: dict[str, int] | None = None,
    env: dict[str, str] | None = None,
    quiet: tuple[str, ...] = (),
    port: int = 5000,
) -> dict[str, dict[str, str]]:
    found = make_instances(
        [Entry(name, f"run {name}", 1) for name in entries],
        concurrency=concurrency or {},
        environment=env or {},
        quiet=quiet,
        port=port,
    )
    assert all(instance.command == f"run {instance.type}" for instance in found)
    return {instance.name: instance.env for instance in found}


def test_ports_increase_by_100_per_type_and_by_1_per_instance() -> None:
    found = expanded("web", "db", "worker", concurrency={"web": 2, "db": 0}, port=7000)
    assert {name: env["PORT"] for name, env in found.items()} == {
        "web.1": "7000",
        "web.2": "7001",
        "worker.1": "7200",
    }


def test_instance_has_its_name_in_the_variables_of_honcho_and_foreman() -> None:
    assert expanded("web", env={"A": "b"}) == {
        "web.1": {"A": "b", "PORT": "5000", "HONCHO_PROCESS_NAME": "web.1", "PS": "web.1"}
    }


def test_environment_cannot_override_the_port_and_the_names() -> None:
    evil = {"PORT": "abc", "HONCHO_PROCESS_NAME": "evil", "PS": "evil"}
    assert expanded("web", env=evil) == expanded("web")
    assert evil == {"PORT": "abc", "HONCHO_PROCESS_NAME": "evil", "PS": "evil"}


def test_quiet_takes_a_type_or_an_instance() -> None:
    found = make_instances(
        [Entry("web", "a", 1), Entry("db", "b", 2)],
        concurrency={"web": 2},
        environment={},
        quiet={"web.2", "db"},
        port=5000,
    )
    assert [(instance.name, instance.type, instance.quiet) for instance in found] == [
        ("web.1", "web", False),
        ("web.2", "web", True),
        ("db.1", "db", True),
    ]


NAMES = st.text("ab-_1", min_size=1, max_size=3)


@given(
    st.dictionaries(NAMES, st.text(max_size=5)),
    st.dictionaries(NAMES, st.integers(-1, 3)),
    st.dictionaries(st.sampled_from("ABC"), st.text(max_size=3)),
    st.sets(NAMES),
    st.integers(0, 65535),
)
def test_instances_are_those_of_honcho(
    processes: dict[str, str], concurrency: dict[str, int], env: dict[str, str], quiet: set[str], port: int
) -> None:
    ours = make_instances(
        [Entry(name, command, 1) for name, command in processes.items()],
        concurrency=concurrency,
        environment=env,
        quiet=quiet,
        port=port,
    )
    theirs = honcho.environ.expand_processes(processes, concurrency=concurrency, env=env, quiet=quiet, port=port)
    assert [(i.name, i.command, i.quiet, i.env) for i in ours] == [
        (i.name, i.cmd, i.quiet, {**i.env, "PS": i.name}) for i in theirs
    ]
