"""Output as server-sent events; the tests of the server cover readers of streams."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.core.events import Output
from procreaper.remote.http import streams
from procreaper.remote.http.streams import SLICE, encode_output


def texts(data: bytes) -> list[str]:
    """Return the texts of the messages, and check the form of each."""
    found = []
    for line in encode_output(Output(1.5, "web.1", data)):
        event, body, *rest = line.data.decode().split("\n")
        assert (event, rest) == ("event: output", ["", ""])
        message = json.loads(body.removeprefix("data: "))
        assert (message["name"], message["time"], line.name, line.output_only) == ("web.1", 1.5, "web.1", True)
        found.append(message["text"])
    assert sum(line.output for line in encode_output(Output(1.5, "web.1", data))) == len(data)
    return found


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hello\n", "hello\n"),
        (b"a\nb\n", "a\nb\n"),
        (b"half", "half"),
        (b"a\rb\r\n\x00\x1b[31m", "a\rb\r\n\x00\x1b[31m"),
        (b"\xff\n", "\ufffd\n"),
        ("\u00e9\u2028\n".encode(), "\u00e9\u2028\n"),
    ],
)
def test_output_is_one_event(data: bytes, text: str) -> None:
    assert texts(data) == [text]


def test_long_output_is_split_at_a_line_end() -> None:
    line = "x" * 99 + "\n"
    found = texts(line.encode() * 2000)
    assert len(found) > 1
    assert all(text.endswith("\n") and len(text) <= SLICE for text in found)
    assert "".join(found) == line * 2000


@given(st.text(min_size=1), st.integers(1, 40))
def test_splitting_loses_nothing_and_splits_no_character(text: str, size: int) -> None:
    before, streams.SLICE = streams.SLICE, max(size, streams.LONGEST_CHARACTER)
    try:
        assert "".join(texts(text.encode(errors="replace"))) == text.encode(errors="replace").decode()
    finally:
        streams.SLICE = before


@given(st.binary(max_size=200))
def test_splitting_any_bytes_terminates(data: bytes) -> None:
    before, streams.SLICE = streams.SLICE, 8
    try:
        texts(data)
    finally:
        streams.SLICE = before
