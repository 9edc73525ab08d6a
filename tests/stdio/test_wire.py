from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.stdio import wire
from ondevice.stdio.wire import Notification, Request, Response, Unreadable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def message(**more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **more}).encode()


def test_the_three_kinds_are_told_apart() -> None:
    assert wire.decode(message(id=1, method="m", params={"a": 1})) == Request(1, "m", {"a": 1})
    assert wire.decode(message(id="x", method="m")) == Request("x", "m", {})
    assert wire.decode(message(method="m")) == Notification("m", {})
    assert wire.decode(message(id=1, result={"a": 1})) == Response(1, {"a": 1})
    assert wire.decode(message(id=1, error={"code": 1, "message": "no"})) == Response(1, None)


@pytest.mark.parametrize(
    ("body", "id"),
    [
        (message(id=None, error={"code": 1, "message": "no"}), None),
        (message(error={}), None),
        (message(id=[], result=1), None),
        (message(id=7, result=1, error={}), 7),
        (b'{"id": 7, "result": 1}', 7),
    ],
)
def test_a_response_that_is_wrong_is_a_no_and_no_error_that_would_be_answered(
    body: bytes, id: int | None
) -> None:
    assert wire.decode(body) == Response(id, None)


def test_params_of_null_are_none() -> None:
    assert wire.decode(message(id=1, method="m", params=None)) == Request(1, "m", {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"nonsense",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b"[" * 100_000,
        b"\xef\xbb\xbf{}",
        b'{"id": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_not_json_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(Unreadable) as error:
        wire.decode(body)
    assert (error.value.code, error.value.id) == (wire.PARSE_ERROR, None)


@pytest.mark.parametrize(
    ("body", "code", "id"),
    [
        (b"[]", wire.INVALID_REQUEST, None),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', wire.INVALID_REQUEST, None),
        (b"1", wire.INVALID_REQUEST, None),
        (b"null", wire.INVALID_REQUEST, None),
        (b"{}", wire.INVALID_REQUEST, None),
        (b'{"jsonrpc": "1.0", "id": 7, "method": "m"}', wire.INVALID_REQUEST, 7),
        (b'{"id": 7, "method": "m"}', wire.INVALID_REQUEST, 7),
        (message(id=7), wire.INVALID_REQUEST, 7),
        (message(id=7, method=1), wire.INVALID_REQUEST, 7),
        (message(id=7, method="m", result=1), wire.INVALID_REQUEST, 7),
        (message(id=None, method="m"), wire.INVALID_REQUEST, None),
        (message(id=True, method="m"), wire.INVALID_REQUEST, None),
        (message(id=1.5, method="m"), wire.INVALID_REQUEST, None),
        (message(id=[], method="m"), wire.INVALID_REQUEST, None),
        (message(id="x" * 257, method="m"), wire.INVALID_REQUEST, None),
        (message(id=2**53, method="m"), wire.INVALID_REQUEST, None),
        (message(id=7, method="m", params=[1]), wire.BAD_PARAMS, 7),
        (message(id=7, method="m", params="x"), wire.BAD_PARAMS, 7),
    ],
)
def test_what_is_no_message_is_refused_under_its_id(body: bytes, code: int, id: int | None) -> None:
    with pytest.raises(Unreadable) as error:
        wire.decode(body)
    assert (error.value.code, error.value.id) == (code, id)


@given(JSON)
def test_any_json_is_a_message_or_unreadable(value: Any) -> None:
    try:
        made = wire.decode(json.dumps(value).encode())
    except Unreadable:
        return
    assert isinstance(made, Request | Notification | Response)


@given(st.fixed_dictionaries({}, optional={
    "jsonrpc": st.sampled_from(["2.0", "1.0", 2]), "id": JSON, "method": JSON, "params": JSON,
    "result": JSON, "error": JSON,
}))  # fmt: skip
def test_anything_much_like_a_message_is_one_or_unreadable(value: Any) -> None:
    try:
        made = wire.decode(json.dumps(value).encode())
    except Unreadable as error:
        assert json.loads(wire.encode(wire.failure(error.id, error)))["error"]["message"]
        return
    assert isinstance(made, Request | Notification | Response)


@given(st.text())
def test_what_is_encoded_is_read_back(text: str) -> None:
    sent = wire.notification("$/token", {"text": text})
    assert json.loads(wire.encode(sent).decode("utf-8")) == sent


def test_half_a_surrogate_pair_is_given_back_as_it_came() -> None:
    sent = wire.result("\ud800", {})
    assert json.loads(wire.encode(sent)) == sent
