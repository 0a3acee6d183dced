from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.remote.api.feed import OVERHEAD, Feed, Line, Reader


def line(number: int, *, name: str = "web.1", output: int = 0) -> Line:
    return Line(b"%d" % number, name, output_only=bool(output), output=output)


class Follower:
    """A reader and the lines that it has read."""

    def __init__(self, feed: Feed, name: str | None = None) -> None:
        self.calls = 0
        self.reader: Reader = feed.follow(lambda line: name in (None, line.name), self._missed, self._arrived)

    def _arrived(self) -> None:
        self.calls += 1

    def _missed(self, notices: int, size: int) -> Iterator[bytes]:
        yield b"lost %d %d" % (notices, size)
        yield b"now"

    def read(self) -> list[bytes]:
        return list(iter(self.reader.read, None))


def test_each_follower_gets_every_line_once_in_order() -> None:
    feed = Feed()
    one, other = Follower(feed), Follower(feed)
    for number in range(3):
        feed.publish(line(number))
    assert one.read() == [b"0", b"1", b"2"]
    feed.publish(line(3))
    assert one.read() == [b"3"]
    assert other.read() == [b"0", b"1", b"2", b"3"]


def test_all_followers_share_the_line_objects() -> None:
    feed = Feed()
    followers = [Follower(feed) for _ in range(2)]
    told = line(1)
    feed.publish(told)
    assert all(follower.reader.read() is told.data for follower in followers)


def test_late_follower_gets_only_later_lines() -> None:
    feed = Feed()
    early = Follower(feed)
    feed.publish(line(0))
    late = Follower(feed)
    feed.publish(line(1))
    assert (early.read(), late.read()) == ([b"0", b"1"], [b"1"])


def test_waiting_follower_is_called_once_until_it_has_read_all() -> None:
    feed = Feed()
    follower = Follower(feed)
    for number in range(3):
        feed.publish(line(number))
    assert follower.calls == 1
    assert follower.reader.read() == b"0"
    feed.publish(line(3))
    assert follower.calls == 1
    follower.read()
    feed.publish(line(4))
    assert follower.calls == 2


def test_unwanted_lines_are_skipped() -> None:
    feed = Feed()
    follower = Follower(feed, "web.1")
    feed.publish(line(0, name="db.1"))
    feed.publish(line(1))
    assert follower.read() == [b"1"]


def test_slow_follower_loses_unread_lines_and_learns_how_many() -> None:
    feed = Feed(most=3 * (OVERHEAD + 1))
    slow, other = Follower(feed, "web.1"), Follower(feed)
    feed.publish(line(0, output=10))
    feed.publish(line(1, name="db.1"))
    feed.publish(line(2))
    other.read()
    feed.publish(line(3, output=5))
    assert other.read() == [b"3"]
    assert slow.read() == [b"lost 3 15", b"now"]
    feed.publish(line(4))
    assert slow.read() == [b"4"]


def test_memory_is_bounded_for_any_number_of_slow_followers() -> None:
    feed = Feed(most=10_000)
    followers = [Follower(feed) for _ in range(100)]
    for number in range(1000):
        feed.publish(line(number))
        kept = [feed.line(position) for position in range(number + 1)]
        assert sum(len(item.data) + OVERHEAD for item in kept if item is not None) <= 10_000
    for follower in followers:
        lost, now, *rest = follower.read()
        assert (int(lost.split()[1]) + len(rest), now) == (1000, b"now")


def test_feed_without_followers_keeps_nothing() -> None:
    feed = Feed()
    feed.publish(line(0))
    follower = Follower(feed)
    feed.publish(line(1))
    follower.reader.close()
    follower.reader.close()
    assert not feed.is_followed
    assert feed.line(0) is None
    late = Follower(feed)
    feed.publish(line(2))
    assert late.read() == [b"2"]


@pytest.mark.parametrize("most", [0, 500, 2000])
@given(steps=st.lists(st.sampled_from(["publish", "read", "read all", "join", "leave"]), max_size=80))
def test_every_line_is_read_or_counted_in_any_history(most: int, steps: list[str]) -> None:
    feed = Feed(most=most)
    followers: list[tuple[Follower, list[bytes], int]] = []
    published = 0
    for step in [*steps, "read all"]:
        match step:
            case "publish":
                feed.publish(line(published, output=1))
                published += 1
            case "join":
                followers.append((Follower(feed), [], published))
            case "leave" if followers:
                followers.pop(0)[0].reader.close()
            case "read":
                for follower, told, _ in followers[::2]:
                    if (data := follower.reader.read()) is not None:
                        told.append(data)
            case "read all":
                for follower, told, _ in followers:
                    told.extend(follower.read())
    for _, told, began in followers:
        position = began
        for data in told:
            if data.startswith(b"lost"):
                _, notices, size = data.split()
                assert notices == size
                position += int(notices)
            elif data != b"now":
                assert data == b"%d" % position
                position += 1
        assert position == published
