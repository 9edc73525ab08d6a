"""Whatever comes in: an answer or an end, no bug told of, nothing that hangs."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.package import Package
from ondevice.stdio import wire
from ondevice.stdio.framing import frame
from tests.stdio.connection import Connect, Connection
from tests.stdio.scripted_host import Scripted
from tests.stdio.stdio_client import Client, question

MESSAGES: list[Any] = [
    wire.request(1, "initialize", {"protocol": 1, "client": {"name": "x"}, "capabilities": {}}),
    wire.request(2, "chat", question(options={"max_tokens": 2, "stop": ["a"], "top_p": 0.5})),
    wire.request(3, "chat", question(schema={"type": "object", "properties": {"a": {}}})),
    wire.request(4, "load", {"model": "tiny"}),
    wire.request(5, "models", {}),
    wire.request(6, "ping", {}),
    wire.notification("$/cancel", {"id": 2}),
    wire.result(1, {"allow": True}),
]
ODD: list[Any] = [
    None, True, -1, 0, 2**63, 10**4000, 1e308, -0.0, "", "\ud800", "\x00", "a" * 10_000, [], {},
    [[]], {"": ""}, {"$ref": "#"}, "ping", "chat", "exit2", "../../etc/passwd",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def with_odd_values(rng: random.Random) -> bytes:
    """A valid message in which one to three values are replaced, removed or renamed."""
    message = copy.deepcopy(rng.choice(MESSAGES))
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(list(places(message)) or [()])
        if not path:
            continue
        *way, last = path
        holder = message
        for key in way:
            holder = holder[key]
        kind = rng.random()
        if kind < 0.7:
            holder[last] = copy.deepcopy(rng.choice(ODD))
        elif kind < 0.85 or not isinstance(holder, dict):
            del holder[last]
        else:
            holder[rng.choice(["x", "id", "method", "params", "Model"])] = holder.pop(last)
    return json.dumps(message).encode()


def with_odd_bytes(rng: random.Random) -> bytes:
    """A valid message with a few bytes changed, put in or left out."""
    body = bytearray(json.dumps(rng.choice(MESSAGES)).encode())
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(body))
        kind = rng.random()
        if kind < 0.4:
            body[at] = rng.randrange(256)
        elif kind < 0.7:
            body[at:at] = rng.randbytes(rng.randint(1, 3))
        else:
            del body[at : at + rng.randint(1, 4)]
    return bytes(body)


@pytest.mark.parametrize("mutate", [with_odd_values, with_odd_bytes])
@pytest.mark.parametrize("initialized", [True, False])
def test_mutated_messages_are_answered_or_passed_over(
    mutate: Any,
    initialized: bool,
    tiny_package: Package,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = random.Random(5)
    client = connect(Scripted().host([tiny_package])).client
    client.accept_anything()
    client.initialize()
    if not initialized:
        client = connect(Scripted().host([tiny_package])).client
        client.accept_anything()
    for number in range(300):
        client.send_bytes(frame(mutate(rng)))
        if number % 20 == 19:
            client.send("ping", {}, f"ping {number}")
            client.answer(f"ping {number}")
    codes = {m["error"]["code"] for m in client.seen if "error" in m}
    assert {wire.INVALID_REQUEST} <= codes
    assert wire.INTERNAL not in codes
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r\n", b"Content-Length: 2\r\n"])))
def test_hostile_bytes_end_the_conversation_or_wait_for_more(
    tiny_package: Package, parts: list[bytes]
) -> None:
    connection = Connection(Scripted().host([tiny_package]))
    with contextlib.suppress(BrokenPipeError):
        connection.client.send_bytes(b"".join(parts))
    connection.client.close_input()
    assert connection.wait().code in (0, 2)
    connection.close()


def test_a_message_that_is_too_long_ends_it_before_it_is_taken_in(
    connection: Connection,
) -> None:
    connection.client.send_bytes(b"Content-Length: 999999999\r\n\r\n")
    assert "at most" in connection.client.error_of(None)["message"]
    assert connection.wait().code == 2


def test_a_question_of_a_megabyte_is_refused_and_the_next_one_answered(
    client: Client,
) -> None:
    error = client.error("chat", question("word " * 200_000), 1)
    assert error["code"] == wire.BAD_PARAMS
    assert client.call("chat", question(), 2)["text"] == "I am one."


def test_a_schema_that_is_hard_to_enforce_does_not_stop_the_reading(client: Client) -> None:
    schema: Any = {"type": "string"}
    for _ in range(60):
        schema = {"type": "object", "properties": {"a": schema, "b": schema}}
        if len(json.dumps(schema)) > 100_000:
            break
    client.send("chat", question(schema=schema), 1)
    assert client.call("ping") == {}
    client.send("$/cancel", {"id": 1})
    client.answer(1)
