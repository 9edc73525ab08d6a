"""The loopback endpoint that stands for a larger model."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import tiny_tokenizers as tiny

from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine

sys.path.append(str(Path(__file__).parents[2]))  # after the installed package

from benchmarks.endpoint import Endpoint, serve

END = 2


def model(says: str = "Grüße aus Köln 🙂") -> Model:
    tokenizer, clock = tiny.byte_level(), ScriptedClock()
    script = [*tokenizer.encode(says), END]
    engine = ScriptedEngine(script, vocab_size=700, clock=clock)
    return Model(engine, tokenizer, name="tiny", eos_ids=(END,), clock=clock)


def post(endpoint: Endpoint, body: object, path: str = "/chat/completions") -> str:
    request = Request(endpoint.base_url + path, json.dumps(body).encode())
    with urlopen(request, timeout=10) as response:
        return str(response.read().decode())


def asked(**more: object) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], **more}


def test_a_whole_answer_comes_with_its_usage_and_is_counted() -> None:
    with serve(model()) as endpoint:
        answer = json.loads(post(endpoint, asked(max_tokens=100)))
        assert answer["choices"][0]["message"]["content"] == "Grüße aus Köln 🙂"
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert endpoint.counts.requests == 1
        assert answer["usage"]["prompt_tokens"] == endpoint.counts.prompt_tokens > 0
        assert answer["usage"]["completion_tokens"] == endpoint.counts.output_tokens > 0


def test_a_stream_gives_the_same_text_in_pieces_and_ends_with_usage() -> None:
    with serve(model()) as endpoint:
        wanted = asked(stream=True, stream_options={"include_usage": True})
        events = post(endpoint, wanted).split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        assert "".join(delta.get("content", "") for delta in deltas) == "Grüße aus Köln 🙂"
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["usage"]["completion_tokens"] == endpoint.counts.output_tokens


def test_a_limit_ends_the_answer_with_length() -> None:
    with serve(model()) as endpoint:
        answer = json.loads(post(endpoint, asked(max_tokens=2)))
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    "body", [[], {}, {"messages": [1]}, asked(temperature=-1), {"messages": [{"content": 3}]}]
)
def test_a_wrong_request_is_refused_with_400_and_json(body: object) -> None:
    with serve(model()) as endpoint, pytest.raises(HTTPError) as caught:
        post(endpoint, body)
    assert caught.value.code == 400
    assert json.loads(caught.value.read())["error"]["message"]


def test_requests_of_several_threads_are_all_counted() -> None:
    with serve(model()) as endpoint:
        threads = [threading.Thread(target=post, args=(endpoint, asked())) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert endpoint.counts.requests == 5
