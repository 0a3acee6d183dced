"""Bytes in, whole lines out: nothing lost, nothing added, nothing out of order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.output import lines
from procreaper.output.lines import BLOCK, Lines

# Bytes with many line ends among them; and any bytes at all.
chunks = st.lists(st.one_of(st.binary(max_size=20), st.text("a\n\r\0", max_size=8).map(str.encode)))


@given(chunks)
def test_any_chunking_gives_the_same_bytes_back(data: list[bytes]) -> None:
    stream = Lines()
    whole = b"".join([stream.feed(chunk) for chunk in data]) + stream.flush()
    assert whole == b"".join(data)
    assert not stream.unfinished


@given(chunks)
def test_what_comes_out_ends_a_line_and_what_is_held_does_not(data: list[bytes]) -> None:
    stream = Lines()
    fed = out = b""
    for chunk in data:
        fed += chunk
        piece = stream.feed(chunk)
        out += piece
        assert piece == b"" or piece.endswith(b"\n")
        assert out == fed[: fed.rfind(b"\n") + 1]
        assert stream.unfinished is (out != fed)


@given(chunks, st.data())
def test_a_flush_at_any_moment_changes_neither_the_bytes_nor_their_order(
    data: list[bytes], draw: st.DataObject
) -> None:
    stream = Lines()
    out = b""
    for chunk in data:
        out += stream.feed(chunk)
        if draw.draw(st.booleans()):
            out += stream.flush()
            assert not stream.unfinished
    assert out + stream.flush() == b"".join(data)


@given(chunks, st.integers(min_value=0, max_value=10))
def test_a_line_too_long_to_hold_comes_in_parts_and_whole(data: list[bytes], longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "LONGEST_LINE", longest)
        stream = Lines()
        out = b""
        for chunk in data:
            piece = stream.feed(chunk)
            assert piece == b"" or piece.endswith(b"\n") or len(piece) > longest
            out += piece
    assert out + stream.flush() == b"".join(data)


@pytest.mark.parametrize(
    ("fed", "pieces"),
    [
        ([b""], [b""]),
        ([b"one\n"], [b"one\n"]),
        ([b"one\ntwo\n"], [b"one\ntwo\n"]),
        ([b"o", b"ne", b"\n"], [b"", b"", b"one\n"]),
        ([b"one\ntw", b"o\nth", b"ree\n"], [b"one\n", b"two\n", b"three\n"]),
        ([b"on", b"", b"e\n"], [b"", b"", b"one\n"]),
        ([b"\n", b"\n\n"], [b"\n", b"\n\n"]),
        ([b"one\r", b"\ntwo\r"], [b"", b"one\r\n"]),
        ([b"10%\r20%\r", b"30%\n"], [b"", b"10%\r20%\r30%\n"]),
        ([b"\0\xff\xfe\n"], [b"\0\xff\xfe\n"]),
        ([b"a\x0bb\x0cc\x1cd\x85e\n"], [b"a\x0bb\x0cc\x1cd\x85e\n"]),
    ],
)
def test_each_read_gives_all_lines_that_it_completes(fed: list[bytes], pieces: list[bytes]) -> None:
    stream = Lines()
    assert [stream.feed(chunk) for chunk in fed] == pieces


def test_whole_lines_pass_through_without_a_copy() -> None:
    data = b"one\ntwo\n"
    assert Lines().feed(data) is data


def test_flush_gives_the_unfinished_line_once() -> None:
    stream = Lines()
    stream.feed(b"Name: ")
    assert stream.unfinished
    assert stream.flush() == b"Name: "
    assert (stream.flush(), stream.unfinished) == (b"", False)
    assert stream.feed(b"me\n") == b"me\n"


def test_an_endless_line_is_passed_on_before_it_eats_the_memory() -> None:
    stream = Lines()
    part = b"x" * (lines.LONGEST_LINE // 4)
    assert [stream.feed(part) for _ in range(4)] == [b""] * 4
    assert stream.feed(b"y") == part * 4 + b"y"
    assert not stream.unfinished


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [([BLOCK - 1], False), ([BLOCK], True), ([BLOCK + 1], False), ([BLOCK - 1, 1], True), ([BLOCK, BLOCK], True)],
)
def test_output_that_stops_at_a_block_was_cut_by_a_buffer(sizes: list[int], cut: bool) -> None:
    stream = Lines()
    for size in sizes:
        stream.feed(b"x" * size)
    assert stream.cut_by_a_buffer is cut


def test_whether_a_buffer_cut_the_output_depends_on_all_bytes_and_not_only_on_those_held() -> None:
    stream = Lines()
    stream.feed(b"line\n" + b"x" * (BLOCK - 5))
    assert stream.cut_by_a_buffer
    stream.flush()
    stream.feed(b"x" * (BLOCK - 5))
    assert not stream.cut_by_a_buffer
