"""Decode the lines of clients to requests, and encode results and errors as reply lines.

Rules: pure. Each line gets a reply, with the `id` of the line if that can be read.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from procreaper.errors import ProcreaperError
from procreaper.remote.api.protocol import AnyRequest, Failure, Reply

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_request(line: bytes) -> tuple[int, AnyRequest]:
    """Decode a line to the id and the request. Raises ProcreaperError if the line is not a request."""
    try:
        request = msgspec.json.decode(line, type=AnyRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).replace("JSON is malformed", "malformed JSON")
        hint = 'one JSON object a line, for example {"request":"status","id":1}'
        raise ProcreaperError(f"this is not a request: {reason[:1].lower()}{reason[1:]}", hint=hint) from error
    if not _is_id(request.id):
        raise ProcreaperError("this is not a request: its `id` has more than 64 bits", hint="count from 1")
    return request.id, request


def find_id(line: bytes) -> int | None:
    """Return the id in a line that is not a valid request, or None."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    number = found.get("id") if isinstance(found, dict) else None
    return number if _is_id(number) else None


def encode_reply(number: int, result: Any) -> bytes:
    """Encode the reply with this result; None stands for an empty object."""
    return msgspec.json.encode(Reply(number, {} if result is None else result)) + b"\n"


def encode_error(number: int | None, error: ProcreaperError) -> bytes:
    """Encode the reply to a request that failed."""
    problems = tuple(replace_surrogates(str(problem)) for problem in getattr(error, "problems", ()))
    hint = None if error.hint is None else replace_surrogates(error.hint)
    return msgspec.json.encode(Reply(number, error=Failure(replace_surrogates(error.message), hint, problems))) + b"\n"


def encode_too_late(line: bytes) -> bytes:
    """Encode the reply to a line that arrives after the end of the app."""
    return encode_error(find_id(line), ProcreaperError("the app has ended", hint="`procreaper start` starts it again"))


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which stand for bytes that are not UTF-8; JSON cannot hold them."""
    return LONE_SURROGATE.sub("\ufffd", text)


def _is_id(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and -(2**63) <= number < 2**63
