"""Chat and text completions where clients differ in what they send and in what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from echoing import TOKEN, Served, serving

from ondevice.errors import EngineError, PackageError
from ondevice.package import Package
from ondevice.runtime.answer import Answer, Timings
from ondevice.runtime.fallback.reply import Draft, Final, Reply

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(base_url=server.url, headers=headers, timeout=20) as made:
        yield made


def ask(client: httpx2.Client, text: str = "«yes»", **more: Any) -> httpx2.Response:
    body = {"messages": [{"role": "user", "content": text}], **more}
    return client.post("chat/completions", json=body)


def content(answer: httpx2.Response) -> str:
    said: str = answer.json()["choices"][0]["message"]["content"]
    return said


def test_without_a_model_the_first_answers_and_is_named(client: httpx2.Client) -> None:
    assert ask(client).json()["model"] == "one"
    assert ask(client, model="").json()["model"] == "one"
    assert ask(client, model="two").json()["model"] == "two"


def test_fields_about_the_caller_and_unknown_ones_are_let_pass(client: httpx2.Client) -> None:
    more = {
        "user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto",
        "reasoning_effort": "low", "something_new": [1], "presence_penalty": 0, "logit_bias": {},
        "stop": None, "seed": None, "temperature": None, "max_tokens": None, "tools": None,
        "modalities": ["text"], "n": 1,
    }  # fmt: skip
    assert content(ask(client, **more)) == "yes"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"functions": [{}]}, "functions"),
        ({"echo": True}, "echo"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"top_p": 0}, "top_p"),
        ({"seed": "1"}, "seed"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"ondevice": {"wish": "maybe"}}, "ondevice"),
        ({"ondevice": {"tast": "x"}}, "ondevice"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_would_change_the_answer_and_is_not_done_is_refused(
    client: httpx2.Client, more: dict[str, Any], param: str
) -> None:
    answer = ask(client, **more)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_a_prompt_that_does_not_fit_has_the_code_that_clients_know(client: httpx2.Client) -> None:
    answer = ask(client, "x" * 20_000)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_both_names_of_the_longest_answer_are_understood(client: httpx2.Client) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(client, "«a longer one»", **{name: 3}).json()
        assert answer["usage"]["completion_tokens"] == 3
        assert answer["choices"][0]["finish_reason"] == "length"


def test_a_schema_is_enforced_whatever_the_model_would_say(client: httpx2.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    value = json.loads(content(ask(client, "«no JSON at all»", response_format=wanted)))
    assert set(value) == {"sure"}


def test_a_text_is_continued_without_a_template(client: httpx2.Client, server: Served) -> None:
    answer = client.post("completions", json={"prompt": "It begins «and goes on»"}).json()
    assert answer["choices"][0]["text"] == "and goes on"
    assert server.echo.prompts[-1] == "It begins «and goes on»"


@pytest.mark.parametrize("prompt", ["", [], ["a", "b"], [1, 2], None, {"a": 1}])
def test_prompts_that_are_no_single_text_are_refused(client: httpx2.Client, prompt: object) -> None:
    answer = client.post("completions", json={"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"


@pytest.mark.parametrize("error", [PackageError("a.onnx is damaged"), EngineError("no memory")])
@pytest.mark.parametrize("stream", [True, False])
def test_a_model_that_cannot_be_loaded_is_told_before_the_stream_begins(
    tiny_package: Package, error: Exception, stream: bool
) -> None:
    def fail(package: Package) -> Any:
        raise error

    with serving(tiny_package) as server:
        server.host._open_model = fail
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(base_url=server.url, headers=headers) as client:
            answer = ask(client, stream=stream)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == str(error)


class Replacing:
    """Drafts an answer that another takes the place of."""

    model: Any = None

    def __init__(self, events: list[Draft | Final]) -> None:
        self._events = events

    def stream(self, *_: object, **__: object) -> Iterator[Draft | Final]:
        return iter(self._events)

    def close(self) -> None:
        """Nothing is open."""


def reply(text: str) -> Reply:
    local = Answer(
        text=text, tokens=(5,), prompt_tokens=3, finish_reason="stop", model="one",
        timings=Timings(0.0, 0.01, 0.0, (0.01,)), load_s=0.0,
    )  # fmt: skip
    return Reply(text, "cloud", "it was not sure", 0.2, True, "answered", "", local, 0.003, 0.0)


@pytest.mark.parametrize("stream", [True, False])
def test_where_an_answer_came_from_and_what_it_cost_is_in_it(
    tiny_package: Package, stream: bool
) -> None:
    model: Any = Replacing([Draft("The ", False), Final(reply("The answer"), replaces=False)])

    def opened(package: Package) -> Any:
        model.model = type("M", (), {"package": package})
        return model

    with serving(tiny_package) as server:
        server.host._open_model = opened
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(base_url=server.url, headers=headers) as client:
            answer = ask(client, stream=stream)
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
        said = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
        assert said == "The answer"
        extra = events[-1]["ondevice"]
    else:
        assert content(answer) == "The answer"
        extra = answer.json()["ondevice"]
    assert extra["source"] == "cloud"
    assert extra["reason"] == "it was not sure"
    assert (extra["confidence"], extra["calibrated"]) == (0.2, True)
    assert extra["cost_usd"] == 0.003


def test_nothing_of_one_answer_is_in_the_next(client: httpx2.Client) -> None:
    first, second = ask(client, "«first»"), ask(client, "«second»")
    assert (content(first), content(second)) == ("first", "second")
    assert first.json()["id"] != second.json()["id"]
