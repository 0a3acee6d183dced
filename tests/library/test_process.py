"""The public `Process` is a value: equal by all arguments, hashed, copied, pickled and replaced like one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from procreaper import Backoff, Health, Hooks, Process, Reaper, TCPCheck
from procreaper.core.plan import Dependency, When

FULL: dict[str, Any] = {
    "env": {"A": "1", "B": None},
    "cwd": "/srv",
    "restart": "always",
    "backoff": Backoff(0.1, 1.0, 2.0),
    "max_retries": 3,
    "success_codes": [0, "SIGTERM"],
    "health": Health(check=TCPCheck(":5000")),
    "depends_on": {"db": "healthy", "cache": None},
    "autostart": False,
    "stop_signal": "INT",
    "stop_timeout": 1,
    "stop_all": "on-failure",
    "hooks": Hooks("say up"),
}
# For each argument another value.
OTHERS: dict[str, Any] = {
    "name": "other",
    "command": ["other"],
    "env": {"A": "1"},
    "cwd": "/",
    "restart": "never",
    "backoff": 1.0,
    "max_retries": None,
    "success_codes": [0],
    "health": None,
    "depends_on": {"db": "started", "cache": None},
    "autostart": True,
    "stop_signal": "TERM",
    "stop_timeout": 2.0,
    "stop_all": "never",
    "hooks": None,
}


def full(**changes: Any) -> Process:
    return Process(**{"name": "web", "command": ["serve", "-v"]} | FULL | changes)


@pytest.mark.parametrize("argument", OTHERS)
def test_processes_that_differ_in_any_argument_are_not_equal(argument: str) -> None:
    assert full() == full()
    assert hash(full()) == hash(full())
    assert full(**{argument: OTHERS[argument]}) != full()


@pytest.mark.parametrize("oneshot", [False, True])
def test_oneshot_is_a_part_of_equality(oneshot: bool) -> None:
    assert (Process("a", "true", oneshot=oneshot) == Process("a", "true")) is not oneshot


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda process: pickle.loads(pickle.dumps(process)), replace]
)
def test_copy_is_equal_and_has_the_same_hash(copied: Callable[[Process], Process]) -> None:
    assert copied(full()) == full()
    assert hash(copied(full())) == hash(full())


def test_replace_keeps_all_other_arguments_and_checks_the_new_one() -> None:
    assert replace(full(), depends_on=["db"]) == full(depends_on=["db"])
    with pytest.raises(ValueError, match="max_retries is -1"):
        replace(full(), max_retries=-1)


def test_process_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        full().restart = "never"  # type: ignore[misc]


def test_process_is_no_sequence() -> None:
    with pytest.raises(TypeError):
        len(full())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a single one"):
        Reaper(full())  # type: ignore[arg-type]


def test_equal_values_in_other_words_are_equal() -> None:
    assert full(stop_signal=2, restart=When.ALWAYS, success_codes=(143, 0), stop_timeout=1.0) == full()


def test_plan_has_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    process = full()
    monkeypatch.setenv("B", "removed")
    monkeypatch.setenv("C", "later")
    planned = process.to_plan()
    assert planned.env is not None
    assert (planned.env["A"], planned.env["C"], "B" in planned.env) == ("1", "later", False)
    assert (planned.command, planned.stop.signal, planned.success_codes) == (("serve", "-v"), 2, frozenset({0, 143}))
    assert planned.depends_on == ()


def test_reaper_resolves_dependencies_of_replaced_processes() -> None:
    from procreaper.library.process import resolve_dependencies

    db = Process("db", "true", health=TCPCheck(":5000"))
    web = replace(Process("web", "true"), depends_on=["db"])
    assert resolve_dependencies([db, web])[1].depends_on == (Dependency("db", db.to_plan().up),)
