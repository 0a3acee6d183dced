"""The conversion of statuses and notices to the types of the protocol."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from procreaper.core.events import (
    Checked,
    Exit,
    Message,
    Notice,
    Output,
    Removed,
    RestartReason,
    RunBegan,
    RunEnded,
    SignalSent,
    State,
    Transition,
)
from procreaper.core.plan import LogFile, Process
from procreaper.core.status import Status
from procreaper.remote.api import protocol
from procreaper.remote.api.to_wire import changes_status, notice_to_wire, process_to_wire

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
WEB = Process("web.2", "run", env={"PORT": "5001"}, pty=True, log=LogFile("/var/log/w\udce9b"), detached=True)
STATUS = Status("web.2", State.RUNNING, "it is w\udce9ll", 3, 4711, 1, 2, 0.5, BEGAN, None, True, True)


def test_process_is_converted_with_all_its_fields() -> None:
    told = process_to_wire(STATUS, WEB)
    fields = ("state", "reason", "started_at", "type", "port", "pty", "log", "detached")
    for field in set(Status._fields) - set(fields):
        assert getattr(told, field) == getattr(STATUS, field)
    assert [getattr(told, field) for field in fields] == [
        *("running", "it is w\ufffdll", BEGAN.timestamp(), "web", 5001, True, "/var/log/w\ufffdb", True)
    ]
    assert msgspec.json.decode(msgspec.json.encode(told), type=protocol.ProcessStatus) == told


@pytest.mark.parametrize(("port", "told"), [("5000", 5000), ("", None), ("x", None), ("\u0663", None), (None, None)])
def test_port_is_a_number_or_none(port: str | None, told: int | None) -> None:
    process = WEB._replace(env=None if port is None else {"PORT": port})
    assert process_to_wire(STATUS, process).port == told


@pytest.mark.parametrize(
    ("notice", "word"),
    [
        (Transition(1.0, "web.2", State.STARTING, State.RUNNING, "w\udce9ll"), "transition"),
        (RunBegan(1.0, "web.2", 7), "began"),
        (RunEnded(1.0, "web.2", 7, Exit(code=3), "w\udce9ll"), "ended"),
        (SignalSent(1.0, "web.2", 7, 15), "signal"),
        (Removed(1.0, "web.2"), "removed"),
        (Message(1.0, "w\udce9ll"), "message"),
    ],
)
def test_each_notice_has_its_tag(notice: Notice, word: str) -> None:
    told = notice_to_wire(notice)
    assert told is not None
    assert (told.__struct_config__.tag, told.time) == (word, 1.0)
    assert msgspec.json.decode(msgspec.json.encode(told), type=protocol.AnyNotice) == told
    assert changes_status(notice) == (word in ("transition", "began"))


@pytest.mark.parametrize("notice", [Output(1.0, "web.2", b"x"), Checked(1.0, "web.2", None, 0.1)])
def test_output_and_checks_have_no_wire_notice(notice: Notice) -> None:
    assert notice_to_wire(notice) is None
    assert not changes_status(notice)


def test_transition_has_the_restart_reason_and_the_last_exit() -> None:
    notice = Transition(1.0, "web.2", State.RUNNING, State.RESTARTING, "it", exit=Exit(signal=9))
    told = notice_to_wire(notice._replace(restart=RestartReason.EXIT, retries=1, backoff=2.0, reason_before="running"))
    expected = {"state": "restarting", "before": "running", "reason_before": "running", "retries": 1, "backoff": 2.0}
    expected |= {"code": None, "signal": 9, "restart": "exit"}
    assert {field: getattr(told, field) for field in expected} == expected
