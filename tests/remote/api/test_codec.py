from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procreaper.errors import ConfigError, Problem, ProcreaperError
from procreaper.remote.api.codec import decode_request, encode_error, encode_reply, encode_too_late, find_id
from procreaper.remote.api.protocol import LONGEST_LINE, ActionResult, FollowRequest, QuitRequest, RestartRequest


def refusal(line: bytes) -> ProcreaperError:
    with pytest.raises(ProcreaperError) as caught:
        decode_request(line)
    return caught.value


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"request":"quit","id":1}', QuitRequest(1)),
        (b' {"id": -7, "request": "restart", "names": ["web"], "later": true} \r', RestartRequest(-7, ("web",))),
        (b'{"request":"follow","id":0}', FollowRequest(0)),
        (b'{"request":"follow","id":0,"lines":null}', FollowRequest(0, lines=None)),
    ],
)
def test_request_is_decoded(line: bytes, request_: object) -> None:
    assert decode_request(line) == (request_.id, request_)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "words", "number"),
    [
        (b"", "truncated", None),
        (b"nonsense", ": malformed JSON: ", None),
        (b"\xff\xfe", ": malformed JSON: ", None),
        (b"[]", "expected `object`", None),
        (b"1", "expected `object`", None),
        (b'{"id":1}', "missing required field `request`", 1),
        (b'{"request":"quit"}', "missing required field `id`", None),
        (b'{"request":"dance","id":2}', "invalid value 'dance'", 2),
        (b'{"request":"stop","id":3}', "missing required field `names`", 3),
        (b'{"request":"stop","id":4,"names":"web"}', "expected `array`", 4),
        (b'{"request":"stop","id":5,"names":[1]}', "expected `str`", 5),
        (b'{"request":"quit","id":"6"}', "expected `int`", None),
        (b'{"request":"quit","id":7.5}', "expected `int`", None),
        (b'{"request":"quit","id":true}', "expected `int`", None),
        (b'{"request":"quit","id":null}', "expected `int`", None),
        (b'{"request":"quit","id":99999999999999999999}', "64 bits", None),
        (b'{"request":"type","id":8,"data":"no base64!"}', "base64", 8),
        (b'{"request":"quit","id":9,"more":' + b"[" * 60_000, "recursion", None),
    ],
)
def test_invalid_request_is_refused_with_its_id_if_readable(line: bytes, words: str, number: int | None) -> None:
    error = refusal(line)
    assert error.message.startswith("this is not a request: ")
    assert words in error.message
    assert error.hint
    assert find_id(line) == number


def replied(data: bytes) -> dict[str, Any]:
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    reply: dict[str, Any] = json.loads(data)
    return reply


def test_reply_has_the_result_or_the_error() -> None:
    assert replied(encode_reply(1, ActionResult({"web.1": 3}))) == {
        "id": 1,
        "result": {"runs": {"web.1": 3}, "already": [], "warnings": []},
    }
    assert replied(encode_reply(2, None)) == {"id": 2, "result": {}}
    error = ConfigError([Problem("is wrong", "Procfile", 3, "mend it")])
    failure = replied(encode_error(3, error))
    assert failure["error"]["problems"] == ["Procfile:3: error: is wrong\n  hint: mend it"]
    assert replied(encode_too_late(b'{"request":"dance","id":4}'))["id"] == 4


def test_invalid_text_gets_replacement_characters() -> None:
    reply = replied(encode_error(None, ProcreaperError("a \udcff b \ud800", hint="\udcff")))
    assert reply["error"]["message"].startswith("a �")


@given(st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"")))
def test_every_line_is_a_request_or_refused(line: bytes) -> None:
    try:
        number, _ = decode_request(line)
        reply = encode_reply(number, None)
    except ProcreaperError as error:
        reply = encode_error(find_id(line), error)
    replied(reply)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
WORDS = st.sampled_from(
    ["status", "follow", "up", "stop", "restart", "scale", "reload", "quit", "attach", "type", "resize", "dance"]
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "request": WORDS | JSON,
            "id": st.integers() | JSON,
            "names": st.lists(st.text(max_size=4)) | JSON,
            "name": JSON,
            "lines": st.none() | st.integers() | JSON,
            "columns": st.integers() | JSON,
            "counts": st.dictionaries(st.text(max_size=4), st.integers()) | JSON,
            "data": st.text() | JSON,
            "output": st.booleans() | JSON,
            "until_now": st.booleans() | JSON,
        },
    )
)
def test_every_object_is_a_request_or_refused(value: dict[str, Any]) -> None:
    line = json.dumps(value).encode()
    assert len(line) <= LONGEST_LINE
    test_every_line_is_a_request_or_refused.hypothesis.inner_test(line)  # type: ignore[attr-defined]
