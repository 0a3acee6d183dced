"""Why an app ends: which process is to blame, and in which words."""

from __future__ import annotations

import pytest
from support.fleet_driver import App, completed, process

from procreaper.core.events import Shutdown, Start
from procreaper.core.notices import AppEnd, app_end
from procreaper.core.plan import When


def test_an_app_that_goes_on_has_no_end() -> None:
    app = App(process("web"), process("css", stop_all=When.NEVER)).start()
    assert app_end(app.fleet) is None
    app.exited("css", 0)
    assert app_end(app.fleet) is None


@pytest.mark.parametrize(
    ("returncode", "how"),
    [
        (0, "has ended (exit code 0)"),
        (3, "has ended (exit code 3)"),
        (127, "has ended (command not found (exit code 127))"),
        (-9, "has ended (killed by SIGKILL)"),
    ],
)
def test_the_process_whose_end_ended_the_app_is_to_blame(returncode: int, how: str) -> None:
    app = App(process("web"), process("css")).start()
    app.exited("css", returncode)
    end = AppEnd("css", f"css {how}, and that ended the app")
    assert app_end(app.fleet) == end
    # What it took down with it, and what is asked for later, changes nothing.
    app.exited("web", 1)
    app.tell(Shutdown(143, insistent=True, by="SIGTERM"))
    assert app_end(app.fleet) == end


def test_a_process_that_cannot_be_started_has_failed() -> None:
    app = App(process("web"))
    app.tell(Start(("web",)))
    app.not_spawned("web")
    assert app_end(app.fleet) == AppEnd("web", "web has failed (no such file), and that ended the app")


def test_of_several_requests_the_first_ended_the_app() -> None:
    app = App(process("web")).start()
    app.tell(Shutdown(0, by="`procreaper quit`"))
    app.tell(Shutdown(143, insistent=True, by="SIGTERM"))
    app.exited("web", -15)
    assert app_end(app.fleet) == AppEnd(None, "`procreaper quit` ended the app")


def test_where_no_process_ended_the_app_the_one_that_failed_is_named() -> None:
    web = process("web", completed("db"))
    app = App(process("db", stop_all=When.NEVER), web, process("job", stop_all=When.NEVER)).start()
    app.exited("job", 0)
    app.exited("db", 4)
    assert app_end(app.fleet) == AppEnd("db", "db has failed (exited with code 4), and nothing else runs")


def test_where_none_failed_all_have_ended() -> None:
    app = App(process("a", stop_all=When.NEVER), process("b", stop_all=When.NEVER)).start()
    app.exited("a", 0)
    app.exited("b", 0)
    assert app_end(app.fleet) == AppEnd(None, "all processes have ended")
