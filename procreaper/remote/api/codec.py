"""From a line of a client to a request, and from its result, or an error, to the line of the reply.

Rules: pure. Whatever a line is, there is a reply to it, with the `id` of the line as far as that can be read.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from procreaper.errors import ProcreaperError
from procreaper.remote.api.protocol import AnyRequest, Failure, Reply

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_request(line: bytes) -> tuple[int, AnyRequest]:
    """The request and its id. Raises ProcreaperError where it is none."""
    try:
        request = msgspec.json.decode(line, type=AnyRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).replace("JSON is malformed", "malformed JSON")
        hint = 'one JSON object a line, for example {"request":"status","id":1}'
        raise ProcreaperError(f"this is no request: {reason[:1].lower()}{reason[1:]}", hint=hint) from error
    if not _is_id(request.id):
        raise ProcreaperError("this is no request: its `id` has more than 64 bits", hint="count from 1")
    return request.id, request


def find_id(line: bytes) -> int | None:
    """The id in a line that is no request of ours."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    number = found.get("id") if isinstance(found, dict) else None
    return number if _is_id(number) else None


def encode_reply(number: int, result: Any) -> bytes:
    """The reply with this result; None stands for an empty one."""
    return msgspec.json.encode(Reply(number, {} if result is None else result)) + b"\n"


def encode_error(number: int | None, error: ProcreaperError) -> bytes:
    """The reply that says why a request was not carried out."""
    problems = tuple(replace_surrogates(str(problem)) for problem in getattr(error, "problems", ()))
    hint = None if error.hint is None else replace_surrogates(error.hint)
    return msgspec.json.encode(Reply(number, error=Failure(replace_surrogates(error.message), hint, problems))) + b"\n"


def encode_too_late(line: bytes) -> bytes:
    """The reply to what comes when the app has ended."""
    return encode_error(find_id(line), ProcreaperError("the app has ended", hint="`procreaper start` starts it again"))


def replace_surrogates(text: str) -> str:
    """A text without lone surrogates, which stand for bytes that are no UTF-8, and which JSON cannot hold."""
    return LONE_SURROGATE.sub("\ufffd", text)


def _is_id(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and -(2**63) <= number < 2**63
