"""What was written lately is kept: bounded in bytes, fair, in order, and by whole lines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from support.loops import in_loop

from procreaper.core.events import (
    Checked,
    Exit,
    Message,
    Notice,
    Output,
    RunBegan,
    RunEnded,
    SignalSent,
    State,
    Transition,
)
from procreaper.output.history import LARGEST_COPY, MOST_BYTES, OVERHEAD, History, Tail
from procreaper.output.hub import Hub
from procreaper.output.subscription import Subscription

BEGAN = RunBegan(0.0, "web", 7)
AT_REST = RunEnded(0.0, "web", 7, Exit(0), "exited with code 0")


def out(data: str | bytes, name: str = "web") -> Output:
    return Output(0.0, name, data if isinstance(data, bytes) else data.encode())


def history_of(*notices: Notice | str, most_bytes: int = MOST_BYTES) -> History:
    """A history that was told this; a text is output of `web`."""
    history = History(most_bytes)
    for notice in notices:
        assert history.accept(out(notice) if isinstance(notice, str) else notice)
    return history


def text(tail: Tail, name: str = "web") -> bytes:
    return b"".join(notice.data for notice in tail.notices if isinstance(notice, Output) and notice.name == name)


def test_all_that_was_told_is_told_again_in_order() -> None:
    notices: list[Notice] = [
        *(Message(1.0, "hello"), BEGAN, out("a\n"), RunBegan(1.5, "db", 8), out("b\n", "db"), out("c")),
        *(SignalSent(2.0, "web", 7, 15), Transition(2.0, "web", State.RUNNING, State.STOPPING, "stopping"), AT_REST),
    ]
    assert history_of(*notices).tail() == Tail(tuple(notices))


def test_a_health_check_is_not_kept_and_ends_no_line() -> None:
    history = history_of("a\nb", Checked(1.0, "web", None, 0.1), "c\n")
    assert text(history.tail(lines=1)) == b"bc\n"
    assert history.tail() == history_of("a\nb", "c\n").tail()


def test_what_is_small_enough_is_kept_as_it_came() -> None:
    notice = out(b"x" * 1000 + b"\n")
    assert history_of(notice).tail().notices[0] is notice


@pytest.mark.parametrize(
    ("pieces", "lines", "expected"),
    [
        (["a\nb\nc\n"], 2, ["b\nc\n"]),
        (["a\nb\nc\n"], 3, ["a\nb\nc\n"]),
        (["a\nb\nc\n"], 9, ["a\nb\nc\n"]),
        (["a\n", "b\n", "c\n"], 2, ["b\n", "c\n"]),
        (["a\nb\n", "c\n"], 2, ["b\n", "c\n"]),
        (["a\nb", "c\n"], 1, ["b", "c\n"]),
        (["a\nb", "c\nd\n"], 1, ["d\n"]),
        (["a\nb", "c\nd\n"], 2, ["b", "c\nd\n"]),
        (["a\nb"], 1, ["b"]),
        (["a\nb"], 2, ["a\nb"]),
        (["a\n", "b", "c", "d"], 1, ["b", "c", "d"]),
        (["a\n", "b", "c", "d"], 2, ["a\n", "b", "c", "d"]),
        (["a\nb", "\n", "c"], 2, ["b", "\n", "c"]),
        (["a\nb", "\n", "c"], 1, ["c"]),
        (["\n\n\n"], 2, ["\n\n"]),
        (["a\nb\n"], 0, []),
        (["a\r\nb\r\n"], 1, ["b\r\n"]),
    ],
)
def test_the_last_lines_begin_where_a_line_does(pieces: Sequence[str], lines: int, expected: Sequence[str]) -> None:
    assert list(history_of(*pieces).tail(lines=lines).notices) == [out(piece) for piece in expected]


def test_the_last_lines_are_those_of_each() -> None:
    history = history_of("a\nb\n", out("1\n2\n3\n", "db"), "c\n", out("x\n", "clock"))
    assert history.tail(lines=2).notices == (out("b\n"), out("2\n3\n", "db"), out("c\n"), out("x\n", "clock"))
    assert history.tail(["db"], 1).notices == (out("3\n", "db"),)
    assert history.tail([]).notices == ()


@pytest.mark.parametrize(
    ("notices", "lines", "expected"),
    [
        ([BEGAN, "a\nb\n", AT_REST], 1, ["b\n", AT_REST]),
        ([BEGAN, "a\nb\n", AT_REST], 2, ["a\nb\n", AT_REST]),
        ([BEGAN, "a\nb\n", AT_REST], 3, [BEGAN, "a\nb\n", AT_REST]),
        # The end of a run ends its last line.
        (["a\nhalf", AT_REST, BEGAN, "b\n"], 2, ["half", AT_REST, BEGAN, "b\n"]),
        (["a\nhalf", AT_REST, BEGAN, "b\n"], 1, ["b\n"]),
        # One that writes nothing does not fill the screen with its restarts.
        (["a\n", *[BEGAN, AT_REST] * 9], 2, ["a\n", BEGAN, AT_REST]),
    ],
)
def test_with_the_last_lines_comes_what_has_happened_since(
    notices: Sequence[Notice | str], lines: int, expected: Sequence[Notice | str]
) -> None:
    told = tuple(out(notice) if isinstance(notice, str) else notice for notice in expected)
    assert history_of(*notices).tail(lines=lines).notices == told


def test_what_procreaper_said_since_the_last_lines_comes_with_them() -> None:
    said = [Message(float(number), str(number)) for number in range(5)]
    history = history_of(said[0], "a\n", said[1], "b\n", *said[2:])
    assert history.tail(lines=1).notices == (out("b\n"), said[4])
    assert history.tail(lines=2).notices == (out("a\n"), out("b\n"), *said[3:])
    assert history.tail(lines=0).notices == ()
    assert history.tail(lines=9).notices == (out("a\n"), said[1], out("b\n"), *said[2:])


def test_a_process_that_floods_does_not_push_out_what_a_quiet_one_wrote() -> None:
    history = history_of(out("quiet\n", "db"), Message(0.0, "said"))
    for number in range(100):
        history.accept(out(b"%07d\n" % number * (1 << 17)))
        history.accept(out(b"%07d\n" % number * (1 << 17), "worker"))
    tail = history.tail()
    assert text(tail, "db") == b"quiet\n"
    assert Message(0.0, "said") in tail.notices
    assert set(tail.truncated) == {"web", "worker"}
    for name in tail.truncated:
        assert text(tail, name).endswith(b"0000099\n")
        assert len(text(tail, name)) > MOST_BYTES / 3


@pytest.mark.parametrize("size", [1, 30, 4096, 300_000])
@pytest.mark.parametrize("count", [1, 3, 10, 50])
def test_what_is_kept_is_bounded_shared_and_has_no_gap(size: int, count: int) -> None:
    most = MOST_BYTES // 16
    history = History(most)
    names = [f"web.{number}" for number in range(count)]
    written = dict.fromkeys(names, 0)
    # One of them writes three times as much.
    for turn in range(max(3 * most // (size + OVERHEAD), 3 * count)):
        name = names[turn % count] if turn % 3 == 0 else names[0]
        first = written[name]
        written[name] += max(1, size // 8)
        history.accept(out(b"".join(b"%07d\n" % number for number in range(first, written[name])), name))
    tail = history.tail()
    assert sum(len(text(tail, name)) for name in names) + OVERHEAD * len(tail.notices) <= most
    for name in names:
        numbers = [int(line) for line in text(tail, name).split()]
        assert numbers == list(range(written[name] - len(numbers), written[name]))
        assert bool(numbers) == bool(written[name])
        assert (name in tail.truncated) == (len(numbers) < written[name])
        # A process that wrote more than its share keeps a good part of the share.
        size_kept = len(numbers) * max(8, OVERHEAD * 8 // size)
        assert len(numbers) == written[name] or size_kept > min(most / count, LARGEST_COPY) / 3


def test_the_last_words_of_many_who_flood_are_kept_when_they_have_ended() -> None:
    history = History(1 << 16)
    for number in range(20):
        history.accept(out(b"line\n" * 20_000, f"web.{number}"))
        history.accept(AT_REST._replace(name=f"web.{number}"))
    for number in range(20):
        assert history.tail([f"web.{number}"], 3).notices == (
            out("line\nline\nline\n", f"web.{number}"),
            AT_REST._replace(name=f"web.{number}"),
        )


def test_a_line_whose_beginning_is_gone_is_left_out() -> None:
    history = history_of("beginning " * 100, "end\nwhole\n", most_bytes=1000)
    assert text(history.tail()) == b"whole\n"
    assert text(history.tail(lines=2)) == b"whole\n"
    assert history.tail().truncated == ("web",)


def test_of_one_endless_line_the_end_is_kept() -> None:
    history = history_of(*["x" * 100] * 100, most_bytes=2000)
    kept = text(history.tail())
    assert 400 < len(kept) <= 2000
    history.accept(out("\n"))
    assert text(history.tail()).endswith(b"x\n")
    history.accept(out("new\n"))
    assert text(history.tail()) == b"new\n"


def test_truncated_are_those_of_whom_more_was_asked_for_than_there_is() -> None:
    history = History(10 * OVERHEAD)
    for number in range(100):
        history.accept(out(f"{number}\n"))
    kept = text(history.tail()).count(b"\n")
    assert 5 <= kept <= 10
    assert history.tail().truncated == ("web",)
    assert history.tail(lines=kept + 1).truncated == ("web",)
    assert history.tail(lines=kept).truncated == ()
    assert history.tail(["db"]).truncated == ()
    assert history_of("a\n").tail(lines=7).truncated == ()


@in_loop
async def test_between_the_tail_and_what_follows_nothing_is_lost_or_doubled() -> None:
    generator = random.Random(7)
    data = b"".join(b"%d\n" % number for number in range(3000))
    history, hub = History(), Hub()
    hub.add(history)
    subscriptions = []
    while data:
        size = generator.randrange(1, 100)
        hub.publish(out(data[:size]))
        data = data[size:]
        if not generator.randrange(10):
            # In one turn of the loop.
            tail = history.tail(lines=generator.choice([None, 0, 1, 5]))
            subscriptions.append((tail, Subscription((), hub.remove)))
            hub.add(subscriptions[-1][1])
        await asyncio.sleep(0)
    for tail, subscription in subscriptions:
        subscription.close()
        notices = [*tail.notices, *[notice async for notice in subscription]]
        pieces = b"".join(notice.data for notice in notices if isinstance(notice, Output)).split(b"\n")
        # After an empty tail the rest of a line comes first.
        numbers = [int(piece) for piece in pieces[not tail.notices : -1]]
        assert numbers == list(range(3000 - len(numbers), 3000))
