"""`ls` lists the apps that run, whatever becomes of another one meanwhile."""

from __future__ import annotations

import json
import time
from typing import Self

import pytest

from procreaper.cli import ps
from procreaper.control.client import GoneError, RefusedError, SilentError
from procreaper.control.protocol import VERSION, Failure, Greeting
from procreaper.errors import ProcreaperError
from procreaper.formats import Style

STYLE = Style()


class App:
    """Stands for the connection to an app; it has no processes, or answers a request by an `error`."""

    def __init__(self, pid: int, error: ProcreaperError | None = None) -> None:
        self.greeting = Greeting(VERSION, "1.0", f"/app/{pid}", pid, time.time())
        self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, _: object) -> App:
        if self._error is not None:
            raise self._error
        return self

    @property
    def processes(self) -> tuple[object, ...]:
        return ()


def listed(capsys: pytest.CaptureFixture[str]) -> tuple[list[list[str]], str]:
    assert ps.show_apps(STYLE, json=False) == 0
    out, err = capsys.readouterr()
    return [line.split() for line in out.splitlines()[1:]], err


@pytest.mark.parametrize("error", [GoneError("it has ended"), RefusedError(Failure("the app has ended"))])
def test_an_app_that_ends_meanwhile_is_not_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: ProcreaperError
) -> None:
    monkeypatch.setattr(ps, "find_all", lambda: ([App(1), App(2, error), App(3)], []))
    rows, err = listed(capsys)
    assert [(row[0], row[-1]) for row in rows] == [("1", "/app/1"), ("3", "/app/3")]
    assert err == ""


def test_an_app_that_stops_to_answer_is_listed_without_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = SilentError("the app (pid 1) does not answer within 5 s")
    monkeypatch.setattr(ps, "find_all", lambda: ([App(1, error), App(2)], []))
    rows, err = listed(capsys)
    assert [row[:2] for row in rows] == [["1", "-"], ["2", "0/0"]]
    assert error.message in err
    ps.show_apps(STYLE, json=True)
    assert [(app["pid"], app["up"]) for app in json.loads(capsys.readouterr().out)] == [(1, None), (2, 0)]
