"""JSON-RPC 2.0 messages: bytes to data classes and back; knows no method.

Strict: what is not exactly a message is answered with an error, never guessed at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ondevice import json_file

Id = int | str
Json = dict[str, Any]

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
BAD_PARAMS = -32602
INTERNAL = -32603
BUSY = -32001
UNUSABLE_MODEL = -32002
CANCELLED = -32800

_LONGEST_ID = 256  # characters
LARGEST_INTEGER = 2**53 - 1  # what every language's JSON reads back exactly
_WRONG_ID = f"an id is a string of up to {_LONGEST_ID} characters or a whole number below 2^53"


class WireError(Exception):
    """What a request is answered with instead of a result; never leaves `ondevice.stdio`."""

    def __init__(self, code: int, message: str, data: Json | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code
        self.data = data


class Unreadable(WireError):  # noqa: N818 - it says what is so
    """A message that is none; `id` is its id where that much could be read."""

    def __init__(self, code: int, message: str, id: Id | None = None) -> None:
        super().__init__(code, message)
        self.id = id


@dataclass(frozen=True)
class Request:
    """A message that is answered exactly once, under its id."""

    id: Id
    method: str
    params: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Notification:
    """A message that is never answered."""

    method: str
    params: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """The answer to a request of ours; `result` is None where there was an error.

    `id` is None where it is no id; there is nothing to do then.
    """

    id: Id | None
    result: Any


Message = Request | Notification | Response


def decode(body: bytes) -> Message:
    """The message in a frame. Raises `Unreadable`."""
    try:
        value = json_file.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise Unreadable(PARSE_ERROR, f"not JSON: {reason}") from error
    if isinstance(value, list):
        raise Unreadable(INVALID_REQUEST, "batches are not taken; send one message a frame")
    if not isinstance(value, dict):
        raise Unreadable(INVALID_REQUEST, "a message is a JSON object")
    return _message(value)


def _message(value: Json) -> Message:
    id = value.get("id")
    known = id if is_id(id) else None
    valid = value.get("jsonrpc") == "2.0"
    if "method" not in value and ("result" in value or "error" in value):
        # Never an error, however wrong: two peers could answer each other's errors for ever.
        valid = valid and known is not None and "error" not in value
        return Response(known, value.get("result") if valid else None)
    if not valid:
        raise Unreadable(INVALID_REQUEST, 'a message has "jsonrpc": "2.0"', known)
    if "id" in value and known is None:
        raise Unreadable(INVALID_REQUEST, _WRONG_ID)
    method, params = value.get("method"), value.get("params")
    if not isinstance(method, str) or "result" in value or "error" in value:
        why = "a request has a method, a string, and no result or error"
        raise Unreadable(INVALID_REQUEST, why, known)
    if params is None:  # as some clients write "none"
        params = {}
    if not isinstance(params, dict):
        raise Unreadable(BAD_PARAMS, "params is an object: parameters go by name", known)
    return Notification(method, params) if known is None else Request(known, method, params)


def is_id(value: object) -> bool:
    """Whether a request may have this id."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER


def result(id: Id, value: Any) -> Json:
    """The answer to a request."""
    return {"jsonrpc": "2.0", "id": id, "result": value}


def failure(id: Id | None, error: WireError) -> Json:
    """The error a request is answered with; id None where the request could not be read."""
    told: Json = {"code": error.code, "message": str(error)}
    if error.data is not None:
        told["data"] = error.data
    return {"jsonrpc": "2.0", "id": id, "error": told}


def notification(method: str, params: Json) -> Json:
    """A message that the client does not answer."""
    return {"jsonrpc": "2.0", "method": method, "params": params}


def request(id: Id, method: str, params: Json) -> Json:
    """A message that the client answers."""
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def encode(message: Json) -> bytes:
    """The body of a frame: UTF-8, no NaN."""
    try:
        return json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, quoted from the client
        return json.dumps(message, allow_nan=False).encode()
