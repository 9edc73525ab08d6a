"""The server as the `openai` package of Python sees it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from echoing import TOKEN, Served, serving
from pydantic import BaseModel

from ondevice.package import Package

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather of a city now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    },
}
TOOLS: Any = [{"type": "function", "function": WEATHER}]
CALL = '{"tool":"weather","arguments":{"city":"Köln"}}'


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key=TOKEN, max_retries=0, timeout=20) as made:
        yield made


def asking(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["one", "two"]
    assert client.models.retrieve("two").id == "two"


def test_a_question_is_answered_with_its_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="two", messages=asking("«Grüße aus Köln»"))
    choice = answer.choices[0]
    assert choice.message.content == "Grüße aus Köln"
    assert (choice.message.role, choice.finish_reason, answer.model) == ("assistant", "stop", "two")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_where_an_answer_comes_from_and_how_fast_is_told(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="one", messages=asking("«yes»"))
    assert answer.model_extra is not None
    extra = answer.model_extra["ondevice"]
    assert (extra["source"], extra["calibrated"], extra["cost_usd"]) == ("device", False, 0)
    assert extra["ttft_ms"] >= 0 and extra["decode_tps"] >= 0 and extra["reason"]


def test_a_stream_adds_up_to_the_answer(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="one",
            messages=asking("«你好世界 🙂🙃, naïve café»"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == "你好世界 🙂🙃, naïve café"
    assert len([one for one in said if one]) > 3
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 3


def test_a_stop_string_and_the_longest_length_end_an_answer(client: openai.OpenAI) -> None:
    messages = asking("«one two three four»")
    stopped = client.chat.completions.create(model="one", messages=messages, stop="three")
    assert stopped.choices[0].message.content == "one two "
    cut = client.chat.completions.create(model="one", messages=messages, max_completion_tokens=2)
    assert cut.choices[0].finish_reason == "length"


def test_log_probabilities_belong_to_the_text(client: openai.OpenAI) -> None:
    messages = asking("«plain text»")
    whole = client.chat.completions.create(model="one", messages=messages, logprobs=True)
    assert whole.choices[0].logprobs is not None
    tokens = whole.choices[0].logprobs.content or []
    assert "".join(token.token for token in tokens) == "plain text"
    assert all(token.logprob <= 0 and math.isfinite(token.logprob) for token in tokens)
    streamed = []
    for chunk in client.chat.completions.create(
        model="one", messages=messages, logprobs=True, stream=True
    ):
        if chunk.choices[0].logprobs is not None:
            streamed += chunk.choices[0].logprobs.content or []
    assert [token.token for token in streamed] == [token.token for token in tokens]


def test_an_answer_in_a_schema_is_parsed_to_a_class(client: openai.OpenAI) -> None:
    class Person(BaseModel):
        name: str
        age: int

    answer = client.chat.completions.parse(
        model="one", messages=asking('«{"name":"Ada","age":36}»'), response_format=Person
    )
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)


def test_a_tool_is_called(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="one", messages=asking(f"«{CALL}»"), tools=TOOLS)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Köln"}


def test_a_tool_is_called_in_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="one", messages=asking(f"«{CALL}»"), tools=TOOLS
    ) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Köln"}


def test_an_answer_beside_tools_is_streamed_as_text(client: openai.OpenAI) -> None:
    said = []
    for chunk in client.chat.completions.create(
        model="one", messages=asking('«{"answer":"It is \\"warm\\"."}»'), tools=TOOLS, stream=True
    ):
        assert not chunk.choices[0].delta.tool_calls
        said.append(chunk.choices[0].delta.content or "")
    assert "".join(said) == 'It is "warm".'
    assert len([one for one in said if one]) > 3


def test_several_calls_come_only_where_they_are_wanted(client: openai.OpenAI) -> None:
    both = f'{{"calls":[{CALL},{CALL}]}}'
    answer = client.chat.completions.create(
        model="one",
        messages=asking(f"«{both}»"),
        tools=TOOLS,
        parallel_tool_calls=True,
        tool_choice="required",
    )
    calls = answer.choices[0].message.tool_calls or []
    assert len(calls) == 2 and calls[0].id != calls[1].id


def test_the_result_of_a_call_is_shown_to_the_model(client: openai.OpenAI, server: Served) -> None:
    first = client.chat.completions.create(model="one", messages=asking(f"«{CALL}»"), tools=TOOLS)
    call = (first.choices[0].message.tool_calls or [])[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": 'Rain. «{"answer":"Rain"}»'}
    messages = [*asking("How is it?"), first.choices[0].message, result]
    second = client.chat.completions.create(model="one", messages=messages, tools=TOOLS)
    assert second.choices[0].message.content == "Rain"
    assert "Result of the tool weather:\nRain." in server.echo.prompts[-1]
    assert '{"tool": "weather", "arguments": {"city": "Köln"}}' in server.echo.prompts[-1]


def test_a_text_is_continued(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="one", prompt="Once «upon a time»", logprobs=0)
    assert answer.choices[0].text == "upon a time"
    assert answer.choices[0].logprobs is not None
    assert "".join(answer.choices[0].logprobs.tokens or []) == "upon a time"
    parts = client.completions.create(model="one", prompt="Once «upon a time»", stream=True)
    assert "".join(part.choices[0].text for part in parts) == "upon a time"


def test_a_client_that_goes_ends_its_answer(client: openai.OpenAI, server: Served) -> None:
    server.echo.step_s = 0.01
    try:
        messages = asking(f"«{'so on, ' * 700}»")
        stream = client.chat.completions.create(
            model="one", messages=messages, stream=True, max_tokens=5000
        )
        next(iter(stream))
        stream.close()
        assert server.idle(5)
    finally:
        server.echo.step_s = 0.0


def test_a_client_that_goes_ends_an_answer_that_is_no_stream(
    client: openai.OpenAI, server: Served
) -> None:
    server.echo.may_go_on.clear()
    try:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.5).chat.completions.create(
                model="one", messages=asking(f"«{'so on, ' * 700}»"), max_tokens=5000
            )
    finally:
        server.echo.step_s = 0.01  # 20 s in all, if it were not ended
        server.echo.may_go_on.set()
    assert server.idle(5)
    server.echo.step_s = 0.0


def test_wrong_requests_raise_the_errors_that_programs_know(
    client: openai.OpenAI, server: Served
) -> None:
    fine: Any = {"model": "one", "messages": asking("«yes»")}
    with pytest.raises(openai.NotFoundError, match="no model 'onne'; did you mean 'one'"):
        client.chat.completions.create(**fine | {"model": "onne"})
    with pytest.raises(openai.BadRequestError, match="temperature") as wrong:
        client.chat.completions.create(**fine, temperature=-1)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        client.chat.completions.create(**fine, n=2)
    with pytest.raises(openai.BadRequestError, match="top_logprobs"):
        client.chat.completions.create(**fine, logprobs=True, top_logprobs=3)
    with pytest.raises(openai.AuthenticationError, match="the token is wrong"):
        openai.OpenAI(base_url=server.url, api_key="wrong").models.list()
    with pytest.raises(openai.InternalServerError, match="give no embeddings") as none:
        client.embeddings.create(model="one", input="x")
    assert none.value.status_code == 501


def test_a_line_that_is_full_is_told_with_the_time_to_wait(tiny_package: Package) -> None:
    with serving(tiny_package, queue=0) as server:
        server.echo.may_go_on.clear()
        client = openai.OpenAI(base_url=server.url, api_key=TOKEN, max_retries=0, timeout=20)
        first = threading.Thread(
            target=lambda: client.chat.completions.create(model="one", messages=asking("«yes»"))
        )
        first.start()
        while not server.host.turns.busy:
            first.join(0.01)
        with pytest.raises(openai.RateLimitError) as busy:
            client.chat.completions.create(model="one", messages=asking("«no»"))
        assert int(busy.value.response.headers["retry-after"]) >= 1
        assert busy.value.code == "queue_full"
        server.echo.may_go_on.set()
        first.join(20)
        assert server.idle()
        patient = client.with_options(max_retries=2)
        assert patient.chat.completions.create(model="one", messages=asking("«no»")).choices
