"""What differs between two plans, in the words of the settings, and what of it a running child cannot take over."""

from __future__ import annotations

import pytest

from procreaper.core.checks import Health, LogCheck, TCPCheck
from procreaper.core.plan import Backoff, Condition, Dependency, Hooks, LogFile, Plan, Process, StopPolicy, Watch, When
from procreaper.core.reload import compare, needs_restart

WEB = Process("web", "run", env={"PORT": "5000", "KEY": "secret"})
TCP, LOG = TCPCheck(":80"), LogCheck("ready")
OTHERS = {
    "command": ("run it", "command", True),
    "env": ({"PORT": "5000", "KEY": "other", "NEW": "x"}, "env: KEY, NEW", True),
    "cwd": ("/srv", "cwd", True),
    "pty": (True, "pty", True),
    "detached": (True, "detached", True),
    "quiet": (True, "quiet", False),
    "oneshot": (True, "oneshot", False),
    "depends_on": ((Dependency("db"),), "depends_on", False),
    "restart": (When.ALWAYS, "restart", False),
    "backoff": (Backoff(9.0), "backoff", False),
    "max_retries": (3, "max_retries", False),
    "success_codes": (frozenset({0, 1}), "success_codes", False),
    "stop_all": (When.NEVER, "stop_all", False),
    "health": (Health(check=TCP), "health", False),
    "stop": (StopPolicy(2), "stop", False),
    "hooks": (Hooks("say"), "hooks", False),
    "watch": (Watch("/", ("src",)), "watch", False),
    "log": (LogFile("/log"), "log", False),
    "port": (5000, "port", False),
}


def test_every_setting_has_been_thought_of() -> None:
    assert {"name", *OTHERS} == set(Process._fields)


@pytest.mark.parametrize("field", OTHERS)
def test_each_setting_is_told_in_its_word_and_known_to_need_a_restart_or_not(field: str) -> None:
    value, word, restarts = OTHERS[field]
    other = WEB._replace(**{field: value})
    found = compare(Plan((WEB,)), Plan((other,)))
    assert found.changed == {"web": (word,)}
    assert (found.restarted, found.updated) == ((("web",), ()) if restarts else ((), ("web",)))


def test_who_writes_its_log_itself_needs_a_new_run_for_another_file_but_not_for_another_size() -> None:
    old = WEB._replace(detached=True, log=LogFile("/log"))
    assert needs_restart(old, old._replace(log=LogFile("/other")))
    assert not needs_restart(old, old._replace(log=LogFile("/log", max_size=7)))


def test_all_settings_that_differ_are_told() -> None:
    other = WEB._replace(command="run it", stop_all=When.NEVER)
    assert compare(Plan((WEB,)), Plan((other,))).changed == {"web": ("command", "stop_all")}


def test_the_value_of_a_variable_is_never_told() -> None:
    other = WEB._replace(env={"PORT": "5000", "KEY": "hunter2"})
    assert "hunter2" not in repr(compare(Plan((WEB,)), Plan((other,))))
    assert compare(Plan((WEB,)), Plan((WEB._replace(env=None),))).changed == {"web": ("env",)}


def test_who_comes_who_goes_and_who_stays_are_told_in_the_order_of_the_plans() -> None:
    a, b, c, d = (Process(name, "run") for name in "abcd")
    found = compare(Plan((a, b, c)), Plan((d, c._replace(quiet=True), b)))
    assert (found.added, found.removed, found.updated, found.unchanged) == (("d",), ("a",), ("c",), ("b",))


ONE, TWO = Dependency("db.1"), Dependency("db.2")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([ONE], [ONE, TWO], False),
        ([ONE, TWO], [ONE], False),
        # Those are settings.
        ([ONE], [ONE, TWO._replace(condition=Condition.HEALTHY)], True),
        ([ONE], [ONE._replace(restart=True), TWO], True),
        ([], [TWO], True),
        ([ONE], [], True),
    ],
)
def test_that_there_are_more_or_fewer_of_what_it_depends_on_is_no_setting(
    before: list[Dependency], after: list[Dependency], *, told: bool
) -> None:
    old, new = WEB._replace(depends_on=tuple(before)), WEB._replace(depends_on=tuple(after))
    gone = {edge.name for edge in before} | {"db.1"}
    come = {edge.name for edge in after} | {"db.1"}
    plans = [Plan((process, *(Process(name, "db") for name in names))) for process, names in ((old, gone), (new, come))]
    assert compare(*plans).changed == ({"web": ("depends_on",)} if told else {})


def test_to_depend_on_another_one_that_was_there_before_is_a_setting() -> None:
    databases = (Process("db.1", "db"), Process("db.2", "db"))
    old, new = WEB._replace(depends_on=(ONE,)), WEB._replace(depends_on=(TWO,))
    assert compare(Plan((old, *databases)), Plan((new, *databases))).updated == ("web",)


@pytest.mark.parametrize(
    ("old", "new", "restarts"),
    [
        (None, Health(log=LOG), True),
        (Health(check=TCP), Health(check=TCP, log=LOG), True),
        (Health(log=LogCheck("up")), Health(log=LOG), True),
        (Health(log=LOG), Health(log=LOG, start_timeout=5.0), False),
        (Health(log=LOG, check=TCP), Health(check=TCP), False),
        (Health(log=LOG), None, False),
    ],
)
def test_another_line_of_output_that_tells_readiness_is_waited_for_in_a_new_run(
    old: Health | None, new: Health | None, *, restarts: bool
) -> None:
    assert needs_restart(WEB._replace(health=old), WEB._replace(health=new)) is restarts


def test_the_port_of_another_type_is_no_reason_for_a_new_run() -> None:
    other = WEB._replace(env={**(WEB.env or {}), "PROCREAPER_PORT_DB": "5100"})
    assert compare(Plan((WEB,)), Plan((other,))).unchanged == ("web",)
    assert compare(Plan((other,)), Plan((WEB,))).unchanged == ("web",)
