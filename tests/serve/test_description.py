"""The published description is a valid one, and what the server really sends is as it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from echoing import TOKEN, Served
from jsonschema import Draft202012Validator
from starlette.routing import Route

from ondevice import __version__
from ondevice.host import Host
from ondevice.serve.app import create_app
from ondevice.serve.openapi import description

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = '{"tool":"weather","arguments":{}}'


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(base_url=server.url, headers=headers, timeout=20) as made:
        yield made


def check(value: object, schema: str) -> None:
    where = {"$ref": f"#/components/schemas/{schema}", **described()}
    Draft202012Validator(where).validate(value)


def described() -> dict[str, Any]:
    return {"components": description()["components"]}


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def chunks(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, end, rest = answer.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_it_has_exactly_the_routes_of_the_server() -> None:
    routes = create_app(Host([]), token="a-token", port=1).routes
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    paths = description()["paths"]
    assert served == {(path, method) for path, methods in paths.items() for method in methods}


def test_every_schema_in_it_is_one_and_every_reference_leads_somewhere() -> None:
    document = description()
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for target in references(document):
        place: Any = document
        for part in target.removeprefix("#/").split("/"):
            place = place[part]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_it_is_served_with_the_version(client: httpx2.Client) -> None:
    served = client.get("/../openapi.json").json()
    assert served == description()
    assert served["info"]["version"] == __version__


def test_a_request_and_its_answer_are_as_described(client: httpx2.Client) -> None:
    for body in (
        chat("say «yes»"),
        chat("say «yes»", logprobs=True),
        chat(f"«{CALL}»", tools=[TOOL], tool_choice="required"),
        chat('«{"a":1}»', response_format={"type": "json_object"}, max_completion_tokens=3),
    ):
        check(body, "ChatRequest")
        check(client.post("chat/completions", json=body).json(), "ChatCompletion")
    for body in ({"prompt": "go «on»"}, {"prompt": ["go «on»"], "logprobs": 0}):
        check(body, "CompletionRequest")
        check(client.post("completions", json=body).json(), "Completion")
    check({"input": "«yes»"}, "ResponseRequest")
    check(client.post("responses", json={"input": "«yes»"}).json(), "Response")


def test_every_part_of_a_stream_is_as_described(client: httpx2.Client) -> None:
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    for body in (
        chat("«yes»", **more),
        chat("«yes»", **more, logprobs=True),
        chat(f"«{CALL}»", **more, tools=[TOOL]),
    ):
        parts = chunks(client.post("chat/completions", json=body))
        for part in parts:
            check(part, "ChatCompletionChunk")
        assert [bool(part.get("usage")) for part in parts] == [False] * (len(parts) - 1) + [True]
        assert [part["ondevice"]["source"] for part in parts if "ondevice" in part] == ["device"]
    parts = chunks(client.post("completions", json={"prompt": "«yes»", "logprobs": 0, **more}))
    for part in parts:
        check(part, "Completion")
    assert "".join(part["choices"][0]["text"] for part in parts[:-1]) == "yes"
    assert parts[-1]["usage"]["completion_tokens"] == 4  # with the end


def test_lists_and_errors_are_as_described(client: httpx2.Client) -> None:
    check(client.get("models").json(), "Models")
    check(client.get("models/two").json(), "Model")
    check(client.get("models/").json(), "Error")
    check(client.post("completions", json={}).json(), "Error")
    check(client.post("embeddings", json={}).json(), "Error")
