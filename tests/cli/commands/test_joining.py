"""`start -D` with a running app that ends at a chosen moment."""

from __future__ import annotations

from typing import Any

import pytest

from procreaper.cli.commands.joining import _Watch
from procreaper.output.text import Style
from procreaper.remote.api import protocol
from procreaper.remote.control.client import GoneError


class EndingApp:
    """Answers that it is followed, and then no more: it ends, with this goodbye or without one."""

    greeting = protocol.Greeting(protocol.VERSION, "", "/", 4711, 0.0)

    def __init__(self, *goodbye: protocol.GoodbyeNotice) -> None:
        self._left = list(goodbye)

    def ask(self, request: Any) -> Any:
        if isinstance(request, protocol.FollowRequest):
            return protocol.FollowResult(())
        raise GoneError("the app has ended")

    def arrived_so_far(self) -> list[protocol.GoodbyeNotice]:
        return self._left


@pytest.mark.parametrize(
    ("goodbye", "code", "said"),
    [
        ([protocol.GoodbyeNotice(0.0, 0, "css.1", "css.1 has ended")], 1, "error: css.1 has ended"),
        ([protocol.GoodbyeNotice(0.0, 7, "web.1", "web.1 has ended")], 7, "error: web.1 has ended"),
        ([], 1, "error: the app has ended without giving a reason"),
    ],
)
def test_goodbye_instead_of_a_reply_is_reported(
    goodbye: list[protocol.GoodbyeNotice], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = _Watch(EndingApp(*goodbye), (), Style())  # type: ignore[arg-type]
    assert watch.wait(None, None, None) == code
    assert said in capsys.readouterr().err
