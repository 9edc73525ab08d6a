"""Requests that no well-meaning client sends: a clear error, never a 500, never a hang.

The bodies are mutations of good ones by a seeded generator, so that a failure can be repeated.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from echoing import TOKEN, Served

MUTATED = 500
WITHIN_S = 10.0
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}

TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}
GOOD: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "/chat/completions",
        {
            "model": "one",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "say «yes»"}]},
                {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function",
                 "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            ],
            "tools": [{"type": "function", "function": TOOL}],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "max_completion_tokens": 8,
            "stream": False,
        },
    ),
    (
        "/chat/completions",
        {
            "model": "one",
            "messages": [{"role": "user", "content": 'say «{"a":1}»'}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
                "type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}}}},
            "max_tokens": 8, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1,
            "seed": 7, "stop": ["\n"], "logprobs": True, "n": 1,
            "stream": True, "stream_options": {"include_usage": True},
            "ondevice": {"task": "t", "data_class": "d", "wish": "device"},
        },
    ),
    (
        "/completions",
        {"model": "two", "prompt": "Once «upon»", "max_tokens": 4, "logprobs": 0, "echo": False},
    ),
    (
        "/responses",
        {
            "model": "one",
            "instructions": "Be brief.",
            "input": [
                {"type": "message", "role": "user",
                 "content": [{"type": "input_text", "text": "say «yes»"}]},
                {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "sunny"},
            ],
            "tools": [{"type": "function", **TOOL}],
            "text": {"format": {"type": "text"}},
            "metadata": {"a": "b"},
            "max_output_tokens": 8,
            "truncation": "auto",
        },
    ),
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**70), 0.5, -0.0, 1e308, "", " ", "none", "one", "\x00",
    "\ud800", "\ufdd0", "<|im_end|>", "a" * 10_000, "漢" * 50, [], [[]], [None], ["x"] * 100, {},
    {"type": "object"}, {"$ref": "#"}, {"type": "text", "text": 1}, {"": {}}, [{"role": "tool"}],
    {"type": "function", "function": {"name": "x", "parameters": {"$ref": "#/$defs/none"}}},
    {"type": "array", "minItems": 10**9}, {"pattern": "(a+)+$", "type": "string"},
)  # fmt: skip


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers=AUTHORIZED, timeout=WITHIN_S) as made:
        yield made


def test_every_good_body_is_answered(client: httpx2.Client) -> None:
    for path, body in GOOD:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("part", range(5))
def test_mutated_bodies_are_answered_or_refused_in_time(client: httpx2.Client, part: int) -> None:
    statuses = set()
    for number in range(part * MUTATED // 5, (part + 1) * MUTATED // 5):
        path, data = mutated(number)
        answer = client.post(path, content=data, headers={"Content-Type": "application/json"})
        assert answer.status_code in (200, 400, 404), (number, data[:2000], answer.text)
        if answer.status_code != 200:
            error = answer.json()["error"]
            assert error["message"] and set(error) == {"message", "type", "param", "code"}
        statuses.add(answer.status_code)
    assert {200, 400} <= statuses  # else the mutations are too wild, or too mild


def test_after_all_of_them_the_server_still_answers(server: Served, client: httpx2.Client) -> None:
    path, body = GOOD[0]
    assert client.post(path, json=body).status_code == 200
    assert server.idle()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"a": NaN}',
        b'{"model": "one", "messages": [{"role": "user", "content": "x"}], "metadata": 1e999}',
        b'{"input": "x", "metadata": {"a": 1e999}}',
        b'{"input": "x", "metadata": {"a": "\\ud800"}}',
        b'{"input": "x", "metadata": {"\\udfff": 1}}',
        b'{"input": "\xed\xa0\x80"}',
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"messages": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"seed": ' + b"9" * 5000 + b"}",
        b"\x00" * 1000,
        b"\x1f\x8b\x08\x00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses"])
def test_what_is_not_plain_json_is_refused(client: httpx2.Client, path: str, data: bytes) -> None:
    answer = client.post(path, content=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_schema_as_deep_as_bodies_may_be_is_answered_or_refused(client: httpx2.Client) -> None:
    for key in ("items", "not", "anyOf"):
        schema: dict[str, Any] = {"type": "object"}
        for _ in range(40):
            schema = {"type": "array", key: [schema] if key == "anyOf" else schema}
        body = GOOD[1][1] | {"response_format": {"type": "json_schema", "schema": schema}}
        assert client.post("/chat/completions", json=body).status_code in (200, 400)


def test_a_body_above_the_limit_is_refused(client: httpx2.Client) -> None:
    data = b'{"prompt": "' + b"a" * (17 << 20) + b'"}'
    headers = {"Content-Type": "application/json"}
    answer = client.post("/completions", content=data, headers=headers)
    assert answer.status_code == 413
    assert "16 MiB" in answer.json()["error"]["message"]


def test_a_body_above_the_limit_is_refused_without_a_length_too(client: httpx2.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(17):
            yield b" " * (1 << 20)

    headers = {"Content-Type": "application/json"}
    answer = client.post("/completions", content=parts(), headers=headers)
    assert answer.status_code == 413


def test_methods_and_paths_that_are_not_there_have_errors_of_the_same_shape(
    client: httpx2.Client,
) -> None:
    for method, path, status in (
        ("GET", "/chat/completions", 405),
        ("DELETE", "/models", 405),
        ("GET", "/nothing", 404),
        ("GET", "/models/none", 404),
        ("GET", "/models/../../etc/passwd", 404),
        ("POST", "/embeddings", 501),
    ):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


def mutated(number: int) -> tuple[str, bytes]:
    """A path and a body that is good but for one to four places, always the same for a number."""
    rng = random.Random(number)
    path, body = copy.deepcopy(rng.choice(GOOD))
    for _ in range(rng.randint(1, 4)):
        _mutate(rng, body)
    data = json.dumps(body).encode()
    if rng.random() < 0.1:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + rng.randint(0, 1) :]
    return path, data


def _mutate(rng: random.Random, body: dict[str, Any]) -> None:
    """Change, drop, double or add something somewhere in the body."""
    places = list(_places(body))
    holder, key = rng.choice(places)
    kind = rng.choice(("odd", "odd", "odd", "drop", "swap", "add"))
    if kind == "odd":
        holder[key] = copy.deepcopy(rng.choice(ODD))
    elif kind == "drop":
        del holder[key]
    elif kind == "swap":
        other, name = rng.choice(places)
        holder[key] = copy.deepcopy(other[name])
    elif isinstance(holder, dict):
        holder[rng.choice(("", "x", "type", "role", "content", "n", "$ref"))] = rng.choice(ODD)
    else:
        holder.append(copy.deepcopy(holder[key]))
    if not body:
        body["model"] = "one"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(inner):
        yield value, key
        if isinstance(one, dict | list):
            yield from _places(one)
