from __future__ import annotations

import pytest

from procreaper.core.plan import Process
from procreaper.core.selection import choose, select
from procreaper.errors import UnknownProcessError

PROCESSES = tuple(Process(name, "true") for name in ("web.1", "web.2", "worker.1", "db.1"))
GROUPS = {"backend": ["worker", "db"], "everything": ["backend", "web.1"], "old": ["gone"], "loop": ["loop"]}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("web.2", "web.2"),
        ("web", "web.1 web.2"),
        ("backend", "worker.1 db.1"),
        ("everything", "web.1 worker.1 db.1"),
        ("web.*", "web.1 web.2"),
        ("w*", "web.1 web.2 worker.1"),
        ("*", "web.1 web.2 worker.1 db.1"),
        ("[dw]*.1", "web.1 worker.1 db.1"),
        ("all", "web.1 web.2 worker.1 db.1"),
        ("db web.2 web", "web.1 web.2 db.1"),
        ("", ""),
    ],
)
def test_a_name_stands_for_processes_in_their_order(names: str, expected: str) -> None:
    assert select(names.split(), PROCESSES, GROUPS) == tuple(expected.split())


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("wbe", "there is no process `wbe`", "did you mean `web`? there is `web`, `worker`, `db`, `backend`"),
        ("web.3", "there is no process `web.3`", "did you mean `web.2`? there is"),
        ("zzz", "there is no process `zzz`", "there is `web`, `worker`, `db`, `backend`"),
        ("z*", "there is no process `z*`", "there is `web`, `worker`, `db`, `backend`"),
        ("Web", "there is no process `Web`", "did you mean `web`?"),
        ("", "there is no process ``", "there is `web`"),
        ("old", "no process of the group `old` is there", "there is `web`"),
        ("loop", "no process of the group `loop` is there", "there is `web`"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(name: str, message: str, hint: str) -> None:
    with pytest.raises(UnknownProcessError) as caught:
        select(("web", name), PROCESSES, GROUPS)
    assert caught.value.message == message
    assert (caught.value.hint or "").startswith(hint)


def test_all_of_nothing_is_nothing() -> None:
    assert select(("all",), (), {}) == ()


def test_a_choice_also_takes_those_who_come_later() -> None:
    chosen = choose(("web", "backend"), GROUPS)
    later = [name for name in ("web.9", "worker.7", "mail.1") if chosen(name)]
    assert later == ["web.9", "worker.7"]
    assert choose((), {})(Process("mail.1", ""))
