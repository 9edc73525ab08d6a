"""A real model behind the real command, as the `openai` package sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from benchmarks.sidecar import serving
from benchmarks.soak import expected_answers
from ondevice.package import Package

QUESTION = "What is the weather in Rome?"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 20}},
                "required": ["city"],
            },
        },
    }
]


@pytest.fixture(scope="module")
def client(smollm2_package: Package) -> Iterator[openai.OpenAI]:
    with serving(smollm2_package.folder) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        with openai.OpenAI(base_url=url, api_key=server.token, max_retries=0, timeout=60) as made:
            yield made


@pytest.mark.real_model
def test_it_says_what_the_runtime_says(client: openai.OpenAI, smollm2_package: Package) -> None:
    name = smollm2_package.manifest.name
    known = expected_answers(smollm2_package.folder, [QUESTION, "Hello!"], 12)[QUESTION]
    client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "Hello!"}], max_tokens=1
    )
    asked: Any = {"model": name, "messages": MESSAGES, "max_tokens": 12}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content == known[0]
    parts = client.chat.completions.create(**asked, stream=True)  # now from the KV cache
    assert "".join(part.choices[0].delta.content or "" for part in parts) == known[1]
    response = client.responses.create(model=name, input=QUESTION, max_output_tokens=12)
    assert response.output_text == known[1]


@pytest.mark.real_model
def test_a_call_that_is_demanded_comes_and_fits(
    client: openai.OpenAI, smollm2_package: Package
) -> None:
    answer = client.chat.completions.create(
        model=smollm2_package.manifest.name,
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice="required",
        max_tokens=100,
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "weather"
    assert list(json.loads(call.function.arguments)) == ["city"]
