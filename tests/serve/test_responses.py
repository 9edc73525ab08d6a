"""`/v1/responses` as the `openai` package of Python sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from echoing import TOKEN, Served
from pydantic import BaseModel

TOOLS: Any = [
    {
        "type": "function",
        "name": "weather",
        "description": "The weather of a city now.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
]
CALL = '{"tool":"weather","arguments":{"city":"Köln"}}'


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key=TOKEN, max_retries=0, timeout=20) as made:
        yield made


def test_a_question_is_answered(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="one", input="«Grüße»", store=True)
    assert answer.output_text == "Grüße"
    assert (answer.status, answer.model, answer.error) == ("completed", "one", None)
    assert answer.usage is not None and answer.usage.output_tokens > 0
    assert answer.model_extra is not None
    assert answer.model_extra["store"] is False  # whatever was asked: nothing is kept
    assert answer.model_extra["ondevice"]["source"] == "device"


def test_instructions_and_items_become_one_conversation(
    client: openai.OpenAI, server: Served
) -> None:
    client.responses.create(
        model="one",
        instructions="Answer in German.",
        input=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Where?"}]},
            {"role": "assistant", "content": "In Rome."},
            {"role": "user", "content": "And now? «hier»"},
        ],
    )
    prompt = server.echo.prompts[-1]
    parts = ("Answer in German.\n\nBe brief.", "Where?", "In Rome.", "And now?")
    assert [prompt.index(part) for part in parts] == sorted(prompt.index(part) for part in parts)


def test_a_stream_is_built_up_as_the_package_expects(client: openai.OpenAI) -> None:
    with client.responses.stream(model="one", input="«naïve café 🙂»") as stream:
        events = list(stream)
        answer = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"} and len(kinds) > 10
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(said) == answer.output_text == "naïve café 🙂"
    numbers = [event.sequence_number for event in events]  # type: ignore[attr-defined]
    assert numbers == list(range(len(numbers)))


def test_an_empty_answer_is_one_too(client: openai.OpenAI) -> None:
    with client.responses.stream(model="one", input="«»") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == ""
    assert "response.content_part.added" in kinds
    assert "response.output_text.delta" not in kinds


def test_an_answer_that_is_cut_short_is_incomplete(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="one", input="«one two three»", max_output_tokens=1)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    parts = client.responses.create(
        model="one", input="«one two three»", max_output_tokens=1, stream=True
    )
    assert [part.type for part in parts][-1] == "response.incomplete"


def test_an_answer_in_a_schema_is_parsed_to_a_class(client: openai.OpenAI) -> None:
    class Person(BaseModel):
        name: str
        age: int

    answer = client.responses.parse(
        model="one", input='«{"name":"Ada","age":36}»', text_format=Person
    )
    assert answer.output_parsed == Person(name="Ada", age=36)


def test_a_tool_is_called_and_its_result_is_shown(client: openai.OpenAI, server: Served) -> None:
    first = client.responses.create(model="one", input=f"«{CALL}»", tools=TOOLS)
    (call,) = first.output
    assert call.type == "function_call" and json.loads(call.arguments) == {"city": "Köln"}
    result = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": 'Rain. «{"answer":"Rain"}»',
    }
    items: Any = [{"role": "user", "content": "How is it?"}, call.model_dump(), result]
    second = client.responses.create(model="one", input=items, tools=TOOLS)
    assert second.output_text == "Rain"
    assert "Result of the tool weather:\nRain." in server.echo.prompts[-1]


def test_a_call_in_a_stream_has_the_events_of_a_call(client: openai.OpenAI) -> None:
    with client.responses.stream(model="one", input=f"«{CALL}»", tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        (call,) = stream.get_final_response().output
    assert call.type == "function_call" and call.name == "weather"
    assert kinds[2:] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_an_answer_beside_tools_is_streamed_as_text(client: openai.OpenAI) -> None:
    asked: Any = {"model": "one", "input": '«{"answer":"It is warm."}»', "tools": TOOLS}
    with client.responses.stream(**asked) as stream:
        said = [one.delta for one in stream if one.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == "".join(said) == "It is warm."
    assert len(said) > 3


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id is not done here: nothing"),
        ({"conversation": "conv_1"}, "conversation is not done here"),
        ({"background": True}, "background is not done here"),
        ({"include": ["message.output_text.logprobs"]}, "given by /v1/chat/completions"),
        ({"tools": [{"type": "web_search"}]}, "functions only"),
        ({"input": []}, "input must be"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, r"input\[0\] may be a message"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "text parts only"),
        ({"text": {"format": {"type": "xml"}}}, "json_schema"),
    ],
)
def test_what_is_not_done_is_said(client: openai.OpenAI, more: dict[str, Any], why: str) -> None:
    asked: Any = {"model": "one", "input": "«x»", **more}
    with pytest.raises(openai.BadRequestError, match=why):
        client.responses.create(**asked)
